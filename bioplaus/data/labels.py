"""Few labels: which training samples have one that may be seen, and batches of which a part is labelled.

A labelled part cycles through the labelled samples, an unlabelled part through all training samples, each in orders
drawn anew for every cycle, without end. An epoch has as many samples in all as the training set.

Source: NINAI report (2017), semi-supervised experiments: labelled samples replicated, every batch half and half.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.backend.streams import Stream
from bioplaus.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels that may be seen.

    Attributes
    ----------
    index : int64 (labels,)     places of the labelled samples in the training set
    share : float               of every batch: its first samples, which are labelled ones
    statistics : str            ``labelled``, ``unlabelled`` or ``both``: what of a batch settles statistics for testing
    """

    index: Array
    share: float = 0.5
    statistics: str = "both"

    def hidden(self, y: Array) -> Array:
        """Labels y (N,) with 0 in place of all that may not be seen."""
        seen = np.zeros_like(y)
        seen[self.index] = y[self.index]
        return seen

    def count(self, size: int) -> int:
        """How many samples of a batch are labelled."""
        return round(self.share * size)

    def settling(self, index: Array) -> list[Array]:
        """Those samples of a batch that settle statistics for testing, the two parts apart."""
        parts = {"labelled": index[: self.count(len(index))], "unlabelled": index[self.count(len(index)) :]}
        return [part for name, part in parts.items() if self.statistics in (name, "both")]

    def check(self, size: int) -> None:
        """Whether batches of so many samples have both parts.

        Raises
        ------
        ConfigError     none of a batch would be labelled, or all
        """
        if not 0 < (count := self.count(size)) < size:
            which = "all" if count else "none"
            raise ConfigError(
                f"{self.share:g} given, which leaves {which} of {size} samples a batch labelled. "
                "Change it, or training.samples_per_batch."
            )

    def batches(self, n: int, size: int, stream: Stream, epoch: int) -> Iterator[Array]:
        """Places of the samples of each training batch of one epoch, labelled ones first: int64 (size,), n // size."""
        count, batches = self.count(size), n // size
        order = stream.at("order")
        labelled = self.index[_cycled(len(self.index), count * batches, order.at("labelled"), epoch)]
        unlabelled = _cycled(n, (size - count) * batches, order.at("unlabelled"), epoch)
        return iter(np.concatenate([labelled.reshape(batches, -1), unlabelled.reshape(batches, -1)], 1))


def drawn(y: Array, classes: int, labels: int, balanced: bool, stream: Stream) -> Array:
    """Places of the training samples with labels y (N,) that keep theirs, rising: int64 (labels,).

    Parameters
    ----------
    balanced : as many of every class; where that does not come out even, one more of some, drawn at random

    Raises
    ------
    ConfigError     more than there are, in all or of a class; or a class without any
    """
    random = stream.generator()
    if labels > len(y):
        raise ConfigError(f"{labels} asked, the training set has {len(y)} samples. Ask for fewer.")
    if labels < classes:
        raise ConfigError(f"{labels} asked, for {classes} classes. Ask for one of each at least.")
    order, there = random.permutation(len(y)).astype(np.int64, copy=False), np.bincount(y, minlength=classes)
    if not there.all():
        raise ConfigError(
            f"class {there.argmin()} has no training sample, so none of its labels can be drawn. "
            "Leave data.labels out, or number the classes without a gap."
        )
    if not balanced:
        index = order[:labels]
        missing = sorted(set(range(classes)) - set(y[index].tolist()))
        if missing:
            raise ConfigError(
                f"class {missing[0]} has none of the {labels} drawn. Set data.balanced: true, or ask for more."
            )
        return np.sort(index)
    wanted = np.full(classes, labels // classes)
    wanted[random.permutation(classes)[: labels % classes]] += 1
    if (short := np.flatnonzero(there < wanted)).size:
        one = int(short[0])
        raise ConfigError(
            f"{labels} asked, {wanted[one]} of class {one}, which has {there[one]} training samples. "
            "Ask for fewer, or set data.balanced: false."
        )
    kept = [order[y[order] == one][: wanted[one]] for one in range(classes)]
    return np.sort(np.concatenate(kept))


def _cycled(n: int, count: int, stream: Stream, epoch: int) -> Array:
    """Positions epoch * count, ... of an endless row of permutations of n, (count,)."""
    start, found = epoch * count, []
    for cycle in range(start // n, (start + count - 1) // n + 1):
        order = stream.at(cycle).generator().permutation(n).astype(np.int64, copy=False)
        found.append(order[max(0, start - cycle * n) : start + count - cycle * n])
    return np.concatenate(found)
