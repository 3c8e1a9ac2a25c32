"""Words as vectors: row x of W."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bioplaus.backend.base import Array, Backend
from bioplaus.construct import Size
from bioplaus.errors import ShapeError
from bioplaus.layers.initial import Initial
from bioplaus.parts import Site, Unit


@dataclass(frozen=True)
class EmbeddingMap:
    """x (..., N) whole numbers below ``words`` through W (words, out): the dense map of a one-hot input."""

    xp: Backend
    words: int
    units: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(words, out)."""
        return (self.words, self.units)

    @property
    def unit_shape(self) -> tuple[int, ...]:
        """(1, out)."""
        return (1, self.units)

    @property
    def fan_in(self) -> int:
        """One input is on at a time."""
        return 1

    @property
    def input(self) -> tuple[int, ...]:
        """One number."""
        return ()

    @property
    def output(self) -> tuple[int, ...]:
        """(out,)."""
        return (self.units,)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """(1, out)."""
        return (1, self.units)

    def up(self, x: Array, W: Array, b: Array | None = None) -> Array:
        """W[x] + b."""
        n = self.xp.take(W, x.reshape(-1)).reshape((*x.shape, self.units))
        return n if b is None else n + b

    def down(self, n: Array, V: Array) -> None:
        """Numbers of words have no error."""
        return None

    def outer(
        self, x: Array, n: Array, out: Array, scale: float = 1.0, keep: float = 1.0, bias: Array | None = None
    ) -> None:
        """out[x] += scale n, row by row, after out <- keep out."""
        rows = n.reshape((-1, self.units))
        if keep != 1.0:
            out[...] = out * keep if keep else 0.0
        self.xp.add_rows(out, x.reshape(-1), rows, scale)
        if bias is not None:
            total = rows.sum(0).reshape(bias.shape) * scale
            bias[...] = bias * keep + total if keep else total


@dataclass(frozen=True)
class Embedding:
    """A table of ``units`` numbers for each of ``words`` words.

    Source: Bengio et al. (2003), A neural probabilistic language model.
    """

    has_weights: ClassVar[bool] = True
    units: Size
    words: Size
    init: Initial = None

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes whole numbers: samples without axes."""
        if shape != ():
            raise ShapeError(f"layer {site.name!r}: embedding wants whole numbers, given samples of {shape}.")
        return site.node(EmbeddingMap(site.xp, self.words, self.units), self.init), (self.units,)
