"""A sum of two paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bioplaus.backend.base import Array
from bioplaus.construct import Layers
from bioplaus.errors import ShapeError
from bioplaus.parts import At, Learn, Site, Unit
from bioplaus.units import Watch, can_render, total


@dataclass
class ResidualUnit:
    """y = branch(x) + shortcut(x); the error goes down both."""

    units: tuple[Any, Any]
    gives_fresh = True
    holds_weights = True

    @property
    def spares_error(self) -> bool:
        """The branch gets an error of its own where it would write into it; an identity writes nothing."""
        shortcut = self.units[1]
        return not shortcut.units or shortcut.spares_error

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

    @property
    def renders(self) -> bool:
        """Whether both paths do."""
        return all(can_render(path) for path in self.units)

    def wire_down(self, above: bool) -> bool:
        """As a Node."""
        return any([path.wire_down(above) for path in self.units])

    def render(self, z: Array, cache: Any, watch: Watch | None) -> tuple[Array, Any]:
        """The sum of what both paths render: a layer of the model is shortcut + branch, 1 + a Delta_t."""
        (branch, shortcut), (long_cache, short_cache) = self.units, cache
        long, long_trace = branch.render(z, long_cache, watch)
        short, short_trace = shortcut.render(z, short_cache, watch)
        return long + short, (long_trace, short_trace)

    def render_back(self, d: Array | None, trace: Any, learn: Learn, errors: Mapping[str, Array]) -> Array | None:
        """The sum of what both paths hand up."""
        (branch, shortcut), (long_trace, short_trace) = self.units, trace
        long = branch.render_back(d, long_trace, learn, errors)
        short = shortcut.render_back(d, short_trace, learn, errors)
        return total(long, short)


@dataclass(frozen=True)
class Residual:
    """y = path(x) + shortcut(x); the shortcut is the identity where it is left out.

    Source: He et al. (2016), Deep residual learning for image recognition.
    """

    path: Layers
    shortcut: Layers = ()

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
