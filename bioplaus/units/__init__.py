"""What every pass walks: nodes with weights, norm sites, gains, taps, and sequences of them."""

from bioplaus.units.chain import Chain, Outlet, Tap, can_render, total, walk
from bioplaus.units.node import Node, Survivors, Watch, unit_norm
from bioplaus.units.norm import GainBias, Learner, NormSite, Numbers, ScaledNorm
from bioplaus.units.over_time import OverTime, Stepwise, Together
from bioplaus.units.parameter import Parameter

__all__ = [
    "Chain",
    "GainBias",
    "Learner",
    "Node",
    "NormSite",
    "Numbers",
    "Outlet",
    "OverTime",
    "Parameter",
    "ScaledNorm",
    "Stepwise",
    "Survivors",
    "Tap",
    "Together",
    "Watch",
    "can_render",
    "total",
    "unit_norm",
    "walk",
]
