"""What a unit does with its summed input: y = f(n), and back dn = dy f'(n)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bioplaus.backend.base import Array, Backend
from bioplaus.parts import At, Learn, Site, Unit


@dataclass
class ReluUnit:
    """y = max(n, 0)."""

    xp: Backend
    inplace: bool = False
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, Array]:
        """y, and y."""
        y = self.xp.relu(x, inplace=self.inplace)
        return y, y

    def back(self, dy: Array, cache: Array, top: Array, learn: Learn) -> Array:
        """dy where y > 0."""
        return self.xp.relu_back(dy, cache)


@dataclass
class TanhUnit:
    """y = tanh(n)."""

    xp: Backend
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, Array]:
        """y, and y."""
        y = self.xp.tanh(x)
        return y, y

    def back(self, dy: Array, cache: Array, top: Array, learn: Learn) -> Array:
        """dy (1 - y^2)."""
        return dy * (1.0 - cache * cache)


@dataclass(frozen=True)
class Relu:
    """Rectification: y = max(n, 0)."""

    in_layer: ClassVar[bool] = True

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes any shape."""
        return ReluUnit(site.xp), shape


@dataclass(frozen=True)
class Tanh:
    """y = tanh(n)."""

    in_layer: ClassVar[bool] = True

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes any shape."""
        return TanhUnit(site.xp), shape


@dataclass(frozen=True)
class Identity:
    """y = n: a linear layer, or an empty path of a block."""

    in_layer: ClassVar[bool] = True

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[None, tuple[int, ...]]:
        """No unit at all."""
        return None, shape
