"""The named moments of a training, and who may listen: the recorder, the progress bar, a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bioplaus.network import Network
from bioplaus.parts import Batch
from bioplaus.units import Node


@dataclass(frozen=True)
class Moment:
    """Where training stands.

    epoch : epochs completed · place, batches : batches learned from in this epoch, and all there are in it ·
    step : updates made · epochs : all that are planned · learned : places in the data set of the samples that dW
    was accumulated from, one array a batch · last : no other update comes in this epoch
    """

    epoch: int
    place: int
    batches: int
    step: int
    epochs: int
    learned: Sequence[Any] = ()
    last: bool = False


class Listener:
    """Listens to nothing; take over the moments you want."""

    def accumulating(self, network: Network, moment: Moment) -> None:
        """The next batch is the first of an update, whose moment this is."""

    def updating(self, network: Network, batch: Batch, moment: Moment) -> None:
        """dW is accumulated, W has not moved yet; ``batch`` is the last one that was learned from."""

    def updated(self, network: Network, batch: Batch, moment: Moment) -> None:
        """W has moved, V has followed."""

    def advanced(self, moment: Moment, loss: float, error: float, rate: float) -> None:
        """Every so often: running loss and error (%; NaN where nothing is classified) of this epoch."""

    def tested(self, network: Network, moment: Moment, row: dict[str, Any]) -> None:
        """Within an epoch, after an update: scores of what is held out, test and validation."""

    def pruned(self, network: Network, moment: Moment, layers: Sequence[Node]) -> None:
        """At the end of an epoch, before its scores: these layers have lost synapses or neurons."""

    def epoch_ended(self, network: Network, moment: Moment, row: dict[str, Any]) -> None:
        """Scores of the epoch: train, test, validation."""
