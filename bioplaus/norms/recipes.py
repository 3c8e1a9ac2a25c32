"""Named triples of reference, statistics and operation."""

from __future__ import annotations

from bioplaus.norms.composed import BatchNorm
from bioplaus.norms.operation import SubtractDivide
from bioplaus.norms.reference import PerChannelOverBatch
from bioplaus.norms.stats import BatchMoments


def batch(affine: bool = False, collect: int = 20, ema: float = 0.05, eps: float = 1e-5) -> BatchNorm:
    """Batch normalization: BA1 x batch moments x subtract and divide; ``affine`` learns a gain and a bias after it.

    Source: Ioffe & Szegedy (2015); test statistics as Liao, Leibo & Poggio (2016).
    """
    return BatchNorm(PerChannelOverBatch(), BatchMoments(collect, ema), SubtractDivide(), affine, eps)
