"""The contract of each kind of part, as checks anyone can run.

``check_channel(Mirror())`` puts the part to work on small real maps, dense and convolutional, in float64 and
compares what it does with what its interface asks and what the part itself claims. A check returns the claims
that held, as lines to print, and raises ``PartError`` naming the first that did not. Claims are optional class
attributes: a claim that is absent is not checked, one that is made must hold.
"""

from bioplaus.testing.backends import check_backend
from bioplaus.testing.bench import Bench
from bioplaus.testing.channels import check_channel
from bioplaus.testing.claims import CHECKS, Check, Claims, check, sample
from bioplaus.testing.data import check_dataset, check_transform
from bioplaus.testing.layers import check_layer, check_map
from bioplaus.testing.losses import check_loss
from bioplaus.testing.norms import check_norm, check_norm_op, check_norm_ref, check_norm_stats
from bioplaus.testing.passes import check_pass, small_network
from bioplaus.testing.plasticity import check_plasticity
from bioplaus.testing.pruning import check_cut, check_pruning
from bioplaus.testing.trials import CLOSE, OUTPUTS, STEPS, N
from bioplaus.testing.updates import check_link, check_schedule, check_update

__all__ = [
    "CHECKS",
    "CLOSE",
    "OUTPUTS",
    "STEPS",
    "Bench",
    "Check",
    "Claims",
    "N",
    "check",
    "check_backend",
    "check_channel",
    "check_cut",
    "check_dataset",
    "check_layer",
    "check_link",
    "check_loss",
    "check_map",
    "check_norm",
    "check_norm_op",
    "check_norm_ref",
    "check_norm_stats",
    "check_pass",
    "check_plasticity",
    "check_pruning",
    "check_schedule",
    "check_transform",
    "check_update",
    "sample",
    "small_network",
]
