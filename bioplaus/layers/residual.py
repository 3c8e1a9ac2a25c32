"""A sum of two paths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bioplaus.backend.base import Array
from bioplaus.errors import ShapeError
from bioplaus.parts import At, Learn, Site, Unit


@dataclass
class ResidualUnit:
    """y = branch(x) + shortcut(x); the error goes down both."""

    units: tuple[Any, Any]
    gives_fresh = True
    holds_weights = True

    def wire(self, below: bool) -> bool:
        """See Unit."""
        branch, shortcut = self.units
        here = branch.wire(below), shortcut.wire(below)
        self.listened = below
        self.spares = branch.spares_error
        return any(here)

    def forward(self, x: Array, at: At) -> tuple[Array, Any]:
        """The sum."""
        branch, shortcut = self.units
        long, long_cache = branch.forward(x, at)
        short, short_cache = shortcut.forward(x, at)
        return long + short, (long_cache, short_cache)

    def back(self, dy: Array | None, cache: Any, top: Array, learn: Learn) -> Array | None:
        """The sum of what both paths hand down."""
        (branch, shortcut), (long_cache, short_cache) = self.units, cache
        above = dy if dy is None or self.spares else dy + 0.0  # units may write into the error they are given
        long = branch.back(above, long_cache, top, learn)
        short = shortcut.back(dy, short_cache, top, learn)
        return long + short if self.listened and dy is not None else None


@dataclass(frozen=True)
class Residual:
    """y = path(x) + shortcut(x); the shortcut is the identity where it is left out."""

    path: list[Any]
    shortcut: list[Any] = field(default_factory=list)

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes any shape; both paths must give the same one."""
        branch, out = site.chain(self.path, shape)
        shortcut, short_out = site.chain(self.shortcut, shape)
        if out != short_out:
            raise ShapeError(
                f"layer {site.name!r}: the path gives {out}, the shortcut {short_out}. "
                "Give the shortcut a conv that matches."
            )
        return ResidualUnit((branch, shortcut)), out
