"""Symbols as vectors with a single 1."""

from __future__ import annotations

from dataclasses import dataclass

from bioplaus.backend.base import Array, Backend
from bioplaus.construct import Size
from bioplaus.errors import ShapeError
from bioplaus.parts import At, Learn, Site, Unit


@dataclass(frozen=True)
class OneHotUnit:
    """x (...) whole numbers -> (..., symbols)."""

    xp: Backend
    symbols: int
    gives_fresh = True
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """Numbers of symbols have no error."""
        return False

    def forward(self, x: Array, at: At) -> tuple[Array, None]:
        """1 at the symbol's place, 0 elsewhere."""
        return self.xp.one_hot(x, self.symbols), None

    def back(self, dy: Array, cache: None, top: Array, learn: Learn) -> None:
        """Nothing."""
        return None


@dataclass(frozen=True)
class OneHot:
    """Each of so many ``symbols`` as a vector with a single 1.

    Source: none; only the code changes.
    """

    symbols: Size

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes whole numbers: samples without axes."""
        if shape != ():
            given = "×".join(map(str, shape))
            raise ShapeError(f"layer {site.name!r}: onehot wants whole numbers, given {given}. Put it first.")
        return OneHotUnit(site.xp, self.symbols), (self.symbols,)
