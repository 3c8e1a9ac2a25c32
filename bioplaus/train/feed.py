"""Samples on their way to the network: raw in memory, floats only as a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.data.dataset import Split
from bioplaus.data.order import batches, test_batches
from bioplaus.data.preprocess import Preprocess
from bioplaus.parts import Batch


@dataclass(frozen=True)
class Feed:
    """One split on the device, as it is stored; batches are gathered, centred and scaled there."""

    xp: Backend
    x: Array
    y: Array
    mean: Array
    scale: float

    @classmethod
    def of(cls, xp: Backend, split: Split, preprocess: Preprocess) -> Feed:
        """The split on the backend's device."""
        return cls(xp, xp.raw(split.x), xp.raw(split.y), xp.array(preprocess.mean[None]), preprocess.scale)

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def batch(self, index: Any, weight: Any = None) -> Batch:
        """The samples at ``index`` (host int64), as (x - mean) * scale."""
        rows = self.xp.raw(index)
        x = self.xp.floats(self.xp.take(self.x, rows))
        x = self.xp.add_scaled(x, self.mean, -1.0, out=x)
        x = self.xp.multiply(x, self.scale, out=x)
        return Batch(x, self.xp.take(self.y, rows), None if weight is None else self.xp.array(weight), index)

    def training(self, size: int, stream: Stream, epoch: int) -> Iterator[Any]:
        """Indices of the training batches of one epoch."""
        return batches(len(self), size, stream, epoch)

    def testing(self, size: int) -> Iterator[Batch]:
        """Every sample once, in batches of one size."""
        for index, weight in test_batches(len(self), size):
            yield self.batch(index, weight)
