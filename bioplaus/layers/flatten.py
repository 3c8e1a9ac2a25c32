"""Maps as vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from bioplaus.backend.base import Array, Backend
from bioplaus.parts import At, Learn, Site, Unit
from bioplaus.units import Watch


@dataclass(frozen=True)
class FlattenUnit:
    """(N, ...) -> (N, features), channels first."""

    xp: Backend
    shape: tuple[int, ...]
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, None]:
        """Rows."""
        return x.reshape((x.shape[0], prod(self.shape))), None

    def back(self, dy: Array, cache: None, top: Array, learn: Learn) -> Array:
        """Maps again."""
        return self.xp.image(dy.reshape((dy.shape[0], *self.shape)))

    def render(self, z: Array, cache: None, watch: Watch | None) -> tuple[Array, None]:
        """Maps again."""
        return self.unmasked(z), None

    def render_back(self, d: Array, trace: None, learn: Learn, errors: Mapping[str, Array]) -> Array:
        """Rows."""
        return self.unmasked_back(d)

    def unmasked(self, z: Array) -> Array:
        """Maps again."""
        return self.xp.image(z.reshape((z.shape[0], *self.shape)))

    def unmasked_back(self, d: Array) -> Array:
        """Rows."""
        return d.reshape((d.shape[0], prod(self.shape)))


@dataclass(frozen=True)
class Flatten:
    """(C, H, W) becomes (C H W,).

    Source: none; only the shape changes.
    """

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit | None, tuple[int, ...]]:
        """Takes any shape."""
        return (None if len(shape) == 1 else FlattenUnit(site.xp, shape)), (prod(shape),)
