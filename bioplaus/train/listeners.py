"""The named moments of a training, and who may listen: the recorder, the progress bar, a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bioplaus.network import Network
from bioplaus.parts import Batch


@dataclass(frozen=True)
class Moment:
    """Where training stands: epochs completed, place and number of batches in this epoch, updates made."""

    epoch: int
    place: int
    batches: int
    step: int
    epochs: int


class Listener:
    """Listens to nothing; take over the moments you want."""

    def updating(self, network: Network, batch: Batch, moment: Moment) -> None:
        """dW is accumulated, W has not moved yet; ``batch`` is the last one that was learned from."""

    def updated(self, network: Network, batch: Batch, moment: Moment) -> None:
        """W has moved, V has followed."""

    def advanced(self, moment: Moment, loss: float, error: float, rate: float) -> None:
        """Every so often: running loss and error (%) of this epoch."""

    def epoch_ended(self, network: Network, moment: Moment, row: dict[str, Any]) -> None:
        """Scores of the epoch: train, test, validation."""
