"""What a unit does with its summed input: y = f(n), and back dn = dy f'(n)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.parts import At, Learn, Site, Unit
from bioplaus.units import Watch


@dataclass
class ReluUnit:
    """y = max(n, 0).

    Its switches: which units are on. With a ``sign`` s, for the next forward alone, y = s max(s n, 0).
    """

    xp: Backend
    inplace: bool = False
    sign: Array = None
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, Array]:
        """y, and the size of y."""
        if self.sign is not None:
            sign, self.sign = self.sign, None
            size = self.xp.relu(x * sign)
            return size * sign, size
        y = self.xp.relu(x, inplace=self.inplace)
        return y, y

    def back(self, dy: Array, cache: Array, top: Array, learn: Learn) -> Array:
        """dy where the unit is on."""
        return self.xp.relu_back(dy, cache)

    def render(self, z: Array, cache: Array, watch: Watch | None) -> tuple[Array, Array]:
        """z where the unit is on."""
        return self.xp.relu_back(z, cache, inplace=False), cache

    def render_back(self, d: Array, trace: Array, learn: Learn, errors: Mapping[str, Array]) -> Array:
        """d where the unit is on."""
        return self.xp.relu_back(d, trace, inplace=False)

    def unmasked(self, z: Array) -> Array:
        """As it is."""
        return z

    unmasked_back = unmasked

    def switches(self, cache: Array) -> Array:
        """1 where a unit is on, (N, ...)."""
        return self.xp.floats(cache > 0.0)

    def drawn(self, chance: Array, samples: int, stream: Stream) -> Array:
        """Units that are on with this chance, as ``forward`` would leave them."""
        u = self.xp.zeros((samples, *chance.shape))
        self.xp.uniform(stream, u)
        return self.xp.floats(u < chance)


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
        return self.xp.tanh_back(dy, cache)


@dataclass(frozen=True)
class Relu:
    """Rectification: y = max(n, 0).

    Source: Nair & Hinton (2010), Rectified linear units improve restricted Boltzmann machines.
    """

    in_layer: ClassVar[bool] = True

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes any shape."""
        return ReluUnit(site.xp), shape


@dataclass(frozen=True)
class Tanh:
    """y = tanh(n).

    Source: LeCun, Bottou, Orr & Müller (1998), Efficient backprop, without its scale of 1.7159.
    """

    in_layer: ClassVar[bool] = True

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes any shape."""
        return TanhUnit(site.xp), shape


@dataclass(frozen=True)
class Identity:
    """y = n: a linear layer, or an empty path of a block.

    Source: He et al. (2016), Deep residual learning: the shortcut of a block.
    """

    in_layer: ClassVar[bool] = True

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[None, tuple[int, ...]]:
        """No unit at all."""
        return None, shape
