"""Samples on their way to the network: raw in memory, floats only as a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.data.augment import Transform
from bioplaus.data.dataset import Split
from bioplaus.data.labels import Labels
from bioplaus.data.order import batches, streams, test_batches, test_streams
from bioplaus.data.preprocess import Preprocess
from bioplaus.parts import Batch


@dataclass(frozen=True)
class Feed:
    """One split on the device, as it is stored; batches are gathered, centred and scaled there.

    ``augment`` is done to the images of a training batch. With ``labels``, y is 0 where no label may be seen, and the
    first samples of a training batch are labelled.
    """

    xp: Backend
    x: Array
    y: Array
    mean: Array
    scale: float
    augment: Sequence[Transform] = ()
    labels: Labels | None = None
    steps = 1

    @classmethod
    def of(
        cls,
        xp: Backend,
        split: Split,
        preprocess: Preprocess,
        augment: Sequence[Transform] = (),
        labels: Labels | None = None,
    ) -> Feed:
        """The split on the backend's device."""
        y = split.y if labels is None else labels.hidden(split.y)
        y = xp.array(y) if y.dtype.kind == "f" else xp.raw(y)
        return cls(xp, xp.raw(split.x), y, xp.array(preprocess.mean[None]), preprocess.scale, augment, labels)

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def batch(self, index: Any, weight: Any = None, stream: Stream | None = None) -> Batch:
        """The samples at ``index`` (host int64), as (x - mean) * scale; augmented where a stream is given."""
        rows = self.xp.raw(index)
        x = self.xp.floats(self.xp.take(self.x, rows))
        x = self.xp.add_scaled(x, self.mean, -1.0, out=x)
        x = self.xp.multiply(x, self.scale, out=x)
        for place, transform in enumerate(self.augment if stream else ()):
            assert stream is not None
            x = transform(self.xp, x, stream.at(place))
        labelled = None
        if self.labels is not None and stream is not None:
            labelled = self.labels.count(len(index))
        weight = None if weight is None else self.xp.array(weight)
        return Batch(x, self.xp.take(self.y, rows), weight, index, labelled=labelled)

    def training(self, size: int, stream: Stream, epoch: int) -> Iterator[Any]:
        """Indices of the training batches of one epoch."""
        if self.labels is not None:
            return self.labels.batches(len(self), size, stream, epoch)
        return batches(len(self), size, stream, epoch)

    def settling(self, size: int, stream: Stream, epoch: int) -> Iterator[Any]:
        """Indices of samples that settle statistics for testing; labelled and unlabelled ones apart."""
        found = self.training(size, stream, epoch)
        return found if self.labels is None else chain.from_iterable(map(self.labels.settling, found))

    def testing(self, size: int) -> Iterator[Batch]:
        """Every sample once, in batches of one size."""
        for index, weight in test_batches(len(self), size):
            yield self.batch(index, weight)

    def probe(self, size: int, stream: Stream) -> Batch:
        """Some samples to look at, drawn at random."""
        return self.batch(stream.generator().permutation(len(self))[:size])


@dataclass(frozen=True)
class TextFeed:
    """A text on the device: batches are ``steps`` symbols of parallel streams, (T, N), and those that follow each."""

    xp: Backend
    x: Array
    y: Array
    steps: int

    @classmethod
    def of(cls, xp: Backend, split: Split, steps: int) -> TextFeed:
        """The text on the backend's device."""
        return cls(xp, xp.raw(split.x), xp.raw(split.y), steps)

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def batch(self, index: Any, weight: Any = None, stream: Stream | None = None) -> Batch:
        """The symbols from the places ``index`` (host int64 (N,)) on; they go on from the batch before, but at 0."""
        places = index + np.arange(self.steps)[:, None]
        return self._at(places, index, starts=bool(index[0] == 0))

    def training(self, size: int, stream: Stream, epoch: int) -> Iterator[Any]:
        """Where the streams of each training batch begin: in the text's order, the same in every epoch."""
        return streams(len(self), size, self.steps)

    settling = training

    def testing(self, size: int) -> Iterator[Batch]:
        """Every symbol once; fewer streams than asked for where they would be shorter than ten batches."""
        size = max(1, min(size, len(self) // (10 * self.steps)))
        for index, weight in test_streams(len(self), size, self.steps):
            yield self._at(index, index[0], bool(index[0, 0] == 0), weight)

    def probe(self, size: int, stream: Stream) -> Batch:
        """Some passages to look at, from places drawn at random."""
        last = max(1, len(self) - self.steps + 1)
        index = stream.generator().integers(last, size=size)
        return self._at((index + np.arange(self.steps)[:, None]) % len(self), index, starts=True)

    def _at(self, places: Any, index: Any, starts: bool, weight: Any = None) -> Batch:
        rows = self.xp.raw(places.reshape(-1))
        x, y = (self.xp.take(stream, rows).reshape(places.shape) for stream in (self.x, self.y))
        return Batch(x, y, None if weight is None else self.xp.array(weight), index, starts)
