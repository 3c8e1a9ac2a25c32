"""Clustering regularisers: activities are drawn to the nearest of a few centres, which follow them.

    R = 1/(2 N C H W) sum_i ||T(Y)_i - mu_z(i)||^2          z(i) the centre nearest to row i of T(Y)

Y is the linear output of a layer, before norm and activation. The three members differ in what is a row of T(Y):
a sample (N, C H W), a place (N H W, C), or a map (N C, H W). Every training batch assigns its rows to the nearest
centres, moves each centre that got some, mu <- memory mu + (1 - memory) mean, and then draws Y towards the centres as
they are now; they count as constants. At the beginning of an epoch, centres that got fewer than ``least`` rows in the
last one are put on rows of its first batch, drawn by their squared distance to the centres that stay.

The loss summed over the samples is N R, and the error at a sample (Y - mu_z)/(C H W). So ``weight`` is the lambda of
L + lambda R, L the mean loss per sample, under ``reduction: mean``; under ``sum`` all of L + lambda R is N times as
large, and lambda means the same.

Source: Liao, Schwing, Zemel & Urtasun (2016), Learning deep parsimonious representations, and their code.
Ours: the centres of the first epoch are rows of its first batch, drawn evenly (theirs: noise); one that got no rows
stays where it is (theirs: shrinks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.errors import ShapeError
from bioplaus.parts import At, Batch, State

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Clustering:
    """What the members share.

    Parameters
    ----------
    layer : whose linear output is clustered
    centres : how many
    memory : what a centre keeps of its place at every batch
    least : rows that a centre must get in an epoch, or it is put elsewhere
    """

    of_maps: ClassVar[bool] = False  # a row is one map; else channels lie last
    layer: str
    centres: int = 100
    memory: float = 0.1
    least: int = 10

    def __post_init__(self) -> None:
        if self.centres < 1:
            raise ValueError(f"centres is {self.centres}; wanted 1 or more")
        if not 0.0 <= self.memory < 1.0:
            raise ValueError(f"memory is {self.memory}; wanted a number from 0 up to, not including, 1")
        if self.least < 0:
            raise ValueError(f"least is {self.least}; wanted 0 or more")

    @property
    def signal(self) -> str:
        """The layer's linear output."""
        return f"{self.layer}.n"

    @property
    def needs(self) -> set[str]:
        """See Loss."""
        return {self.signal}

    def width(self, shape: Shape) -> int:
        """Numbers in a row, for samples of ``shape``."""
        raise NotImplementedError

    def rows(self, y: Array, width: int) -> Array:
        """T(Y), (rows, width)."""
        return (y if self.of_maps else _last(y)).reshape((-1, width))

    def folded(self, rows: Array, y: Array) -> Array:
        """Back from rows to the shape of y."""
        return rows.reshape(y.shape) if self.of_maps else _first(rows.reshape(_last(y).shape))

    def init(self, xp: Backend, shapes: Mapping[str, Shape], stream: Stream) -> State:
        """Centres (centres, width), and how many rows each got since the epoch began (centres, 1)."""
        width = self.width(shapes[self.signal])
        return {"centres": xp.zeros((self.centres, width)), "got": xp.zeros((self.centres, 1))}

    def error(
        self, xp: Backend, signals: Mapping[str, Array], batch: Batch, state: State, at: At
    ) -> tuple[Array, dict[str, Array]]:
        """(N R, {signal: (Y - mu_z)/(C H W)}); in training the centres move before."""
        y, centres = signals[self.signal], state["centres"]
        rows = self.rows(y, centres.shape[-1])
        nearest = _distances(xp, rows, centres).argmin(-1)
        if at.track:
            self._move(xp, rows, nearest, state)
        away = self.folded(rows - xp.take(centres, nearest), y)
        shape = _sample(y)
        error = away / prod(shape)
        if batch.weight is not None:
            error = error * batch.weight.reshape((*batch.weight.shape, *(1 for _ in shape)))
        return (error * away).sum() * 0.5, {self.signal: error}

    def _move(self, xp: Backend, rows: Array, nearest: Array, state: State) -> None:
        """Every centre towards the mean of its rows; one without rows stays."""
        centres, mine = state["centres"], xp.one_hot(nearest, self.centres)
        got, mean = mine.sum(0).reshape((-1, 1)), xp.zeros(centres.shape)
        xp.linear_outer(mine, rows, mean, 1.0, 0.0)
        mean = mean / xp.maximum(got, 1.0)
        centres += (mean - centres) * (1.0 - self.memory) * xp.floats(got > 0.0)
        state["got"] += got

    def begin_epoch(
        self, xp: Backend, signals: Mapping[str, Array], batch: Batch, state: State, stream: Stream
    ) -> None:
        """Centres that got too few rows are put on rows of this batch, drawn without replacement."""
        centres, few = state["centres"], xp.host(state["got"])[:, 0] < self.least
        state["got"][...] = 0.0
        if not few.any():
            return
        rows = self.rows(signals[self.signal], centres.shape[-1])
        chance = xp.zeros((len(rows),)) + 1.0
        if not few.all():
            staying = xp.take(centres, xp.raw((~few).nonzero()[0]))
            away = rows - xp.take(staying, _distances(xp, rows, staying).argmin(-1))
            chance = (away * away).sum(-1)
        waiting = stream.generator().exponential(size=len(rows)) / (xp.host(chance).astype("float64") + 1e-300)
        places = few.nonzero()[0][: len(rows)]
        centres[xp.raw(places)] = xp.take(rows, xp.raw(waiting.argsort(kind="stable")[: len(places)]))


class SampleClustering(_Clustering):
    """Samples alike: rows are the whole activity of a sample, (N, C H W).

    R = 1/(2 N C H W) sum_n ||Y_n - mu_z(n)||^2; ``weight`` is its lambda, whatever the reduction.
    Centres follow the rows nearest to them, keeping a share ``memory`` of their place at every batch; one that gets
    fewer than ``least`` rows in an epoch is put on another row.

    Source: Liao, Schwing, Zemel & Urtasun (2016), Learning deep parsimonious representations.
    """

    def width(self, shape: Shape) -> int:
        """C H W."""
        return prod(shape)


class SpatialClustering(_Clustering):
    """Places alike: rows are what all channels say at one place of one sample, (N H W, C).

    R = 1/(2 N C H W) sum_nhw ||Y_nhw - mu_z(nhw)||^2; ``weight`` is its lambda, whatever the reduction.
    Centres follow the rows nearest to them, keeping a share ``memory`` of their place at every batch; one that gets
    fewer than ``least`` rows in an epoch is put on another row.

    Source: Liao, Schwing, Zemel & Urtasun (2016), Learning deep parsimonious representations.
    """

    def width(self, shape: Shape) -> int:
        """C."""
        return shape[0]


class ChannelClustering(_Clustering):
    """Maps alike, samples and channels together: rows are the maps of all units, (N C, H W).

    R = 1/(2 N C H W) sum_nc ||Y_nc - mu_z(nc)||^2; ``weight`` is its lambda, whatever the reduction.
    Centres follow the rows nearest to them, keeping a share ``memory`` of their place at every batch; one that gets
    fewer than ``least`` rows in an epoch is put on another row.

    Source: Liao, Schwing, Zemel & Urtasun (2016), Learning deep parsimonious representations.
    """

    of_maps: ClassVar[bool] = True

    def width(self, shape: Shape) -> int:
        """H W; ShapeError where there are no maps."""
        if len(shape) != 3:
            raise ShapeError(
                f"layer {self.layer!r} gives {shape[0]} numbers, no maps (C, H, W). Use sample_clustering."
            )
        return prod(shape[1:])


def _distances(xp: Backend, rows: Array, centres: Array) -> Array:
    """Squared distances less ||row||^2: (rows, centres)."""
    return (centres * centres).sum(-1) - 2.0 * xp.linear_down(rows, centres)


def _sample(y: Array) -> Shape:
    """(C, H, W) of (..., N, C, H, W), (units,) of (..., N, units)."""
    return tuple(y.shape[-3:] if y.ndim > 3 else y.shape[-1:])


def _last(y: Array) -> Array:
    """Channels last, as maps lie in memory: (..., H, W, C); vectors as they are."""
    return y.swapaxes(-3, -2).swapaxes(-2, -1) if y.ndim > 3 else y


def _first(y: Array) -> Array:
    """Back from ``_last``."""
    return y.swapaxes(-2, -1).swapaxes(-3, -2) if y.ndim > 3 else y
