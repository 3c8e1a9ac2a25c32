"""Pooling: the largest, the mean of the in-image elements, the mean of the whole map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import NonNegativeInt as Whole
from pydantic import PositiveInt

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.backend.window import Window
from bioplaus.construct import Wanted
from bioplaus.errors import ShapeError
from bioplaus.parts import At, Learn, Site, Unit
from bioplaus.units import Watch

Side = Annotated[PositiveInt, Wanted("a whole number above 0")]
Margin = Annotated[Whole | tuple[Whole, Whole, Whole, Whole], Wanted("a whole number, or [top, bottom, left, right]")]


@dataclass
class MaxPoolUnit:
    """y = the largest in-image element of each window; the error goes to the winner, the first where equal.

    Its switches: who won. With a ``sign`` s, for the next forward alone, y is s times the largest of s x.
    """

    xp: Backend
    window: Window
    sign: Array = None
    gives_fresh = True
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, Any]:
        """y, and who won."""
        if self.sign is not None:
            sign, self.sign = self.sign, None
            x = x * self.unmasked(sign)
            size, which = self.xp.maxpool(x, self.window)
            return size * sign, (x, which, sign)
        y, which = self.xp.maxpool(x, self.window)
        return y, (x, which, None)

    def back(self, dy: Array, cache: Any, top: Array, learn: Learn) -> Array:
        """To the winners; a sign of 0 has none."""
        x, which, sign = cache
        return self.xp.maxpool_back(dy if sign is None else dy * sign * sign, x, which, self.window)

    @property
    def renders(self) -> bool:
        """Where windows do not meet."""
        return _tiles(self.window)

    def render(self, z: Array, cache: Any, watch: Watch | None) -> tuple[Array, Any]:
        """z at the winners."""
        x, which, _ = cache
        return self.xp.maxpool_back(z, x, which, self.window), cache

    def render_back(self, d: Array, trace: Any, learn: Learn, errors: Mapping[str, Array]) -> Array:
        """d of the winners."""
        return self.xp.maxpool_take(d, trace[1], self.window)

    def unmasked(self, z: Array) -> Array:
        """z all over its window."""
        return _repeated(self.xp, z, self.window)

    def unmasked_back(self, d: Array) -> Array:
        """The sum over the window."""
        return _gathered(self.xp, d, self.window)

    def switches(self, cache: Any) -> Array:
        """1 at the winners, (N, C, H, W)."""
        x, which, _ = cache
        return self.xp.maxpool_back(self.xp.zeros(which.shape) + 1.0, x, which, self.window)

    def drawn(self, chance: Array, samples: int, stream: Stream) -> Any:
        """Winners with this chance within each window, as ``forward`` would leave them."""
        u = self.xp.zeros((samples, *chance.shape))
        self.xp.uniform(stream, u)
        waiting = -self.xp.log(1.0 - u) / self.xp.maximum(chance, 1e-30)  # the shortest of exponential times wins
        return waiting, self.xp.maxpool(-waiting, self.window)[1], None


@dataclass(frozen=True)
class AvgPoolUnit:
    """y = mean of the in-image elements of each window."""

    xp: Backend
    window: Window
    gives_fresh = True
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, Any]:
        """y."""
        return self.xp.avgpool(x, self.window), x

    def back(self, dy: Array, cache: Array, top: Array, learn: Learn) -> Array:
        """Shared out evenly."""
        return self.xp.avgpool_back(dy, cache, self.window)

    @property
    def renders(self) -> bool:
        """Where windows do not meet."""
        return _tiles(self.window)

    def render(self, z: Array, cache: Array, watch: Watch | None) -> tuple[Array, None]:
        """z all over its window."""
        return self.unmasked(z), None

    def render_back(self, d: Array, trace: None, learn: Learn, errors: Mapping[str, Array]) -> Array:
        """The sum over the window."""
        return self.unmasked_back(d)

    def unmasked(self, z: Array) -> Array:
        """z all over its window."""
        return _repeated(self.xp, z, self.window)

    def unmasked_back(self, d: Array) -> Array:
        """The sum over the window."""
        return _gathered(self.xp, d, self.window)


@dataclass(frozen=True)
class GlobalMeanUnit:
    """(N, C, H, W) -> (N, C): mean over the map."""

    xp: Backend
    shape: tuple[int, ...]
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, None]:
        """The means."""
        return x.mean((2, 3)), None

    def back(self, dy: Array, cache: None, top: Array, learn: Learn) -> Array:
        """The same share everywhere."""
        c, h, w = self.shape
        dx = self.xp.zeros((dy.shape[0], c, h, w))
        dx += dy.reshape((-1, c, 1, 1)) / (h * w)
        return dx

    def render(self, z: Array, cache: None, watch: Watch | None) -> tuple[Array, None]:
        """z all over the map."""
        return self.unmasked(z), None

    def render_back(self, d: Array, trace: None, learn: Learn, errors: Mapping[str, Array]) -> Array:
        """The sum over the map."""
        return self.unmasked_back(d)

    def unmasked(self, z: Array) -> Array:
        """z all over the map."""
        c, h, w = self.shape
        maps = self.xp.zeros((z.shape[0], c, h, w))
        maps += z.reshape((-1, c, 1, 1))
        return maps

    def unmasked_back(self, d: Array) -> Array:
        """The sum over the map."""
        return d.sum((2, 3))


@dataclass(frozen=True)
class MaxPool:
    """Max pooling: windows of ``size``, ``stride`` apart (size where left out), ``pad`` a number or four sides.

    Source: Riesenhuber & Poggio (1999), Hierarchical models of object recognition in cortex.
    """

    size: Side
    stride: Side | None = None
    pad: Margin = 0

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes maps."""
        window = _window(site.name, "maxpool", self.size, self.stride, self.pad, shape)
        return MaxPoolUnit(site.xp, window), (shape[0], *window.output)


@dataclass(frozen=True)
class AvgPool:
    """Mean pooling, dividing by in-image elements: windows of ``size``, ``stride`` apart, ``pad`` as in maxpool.

    Source: LeCun et al. (1998), Gradient-based learning applied to document recognition.
    """

    size: Side
    stride: Side | None = None
    pad: Margin = 0

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes maps."""
        window = _window(site.name, "avgpool", self.size, self.stride, self.pad, shape)
        return AvgPoolUnit(site.xp, window), (shape[0], *window.output)


@dataclass(frozen=True)
class GlobalMeanPool:
    """The mean of every map: (C, H, W) becomes (C,).

    Source: Lin, Chen & Yan (2014), Network in network.
    """

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes maps."""
        if len(shape) != 3:
            raise ShapeError(f"layer {site.name!r}: globalmeanpool wants maps, given samples of {shape}.")
        return GlobalMeanUnit(site.xp, shape), shape[:1]


def _tiles(window: Window) -> bool:
    """Whether windows lie side by side: a unit above stands for its own places alone."""
    return window.stride == window.kernel and not any(window.pad)


def _repeated(xp: Backend, z: Array, window: Window) -> Array:
    """Every element of z all over its window; rows and columns beyond the last window are like the last ones in it."""
    kh, kw = window.kernel
    h, w = window.output[0] * kh, window.output[1] * kw
    x = xp.zeros((*z.shape[:2], *window.size))
    for i in range(kh):
        for j in range(kw):
            x[:, :, i:h:kh, j:w:kw] = z
    x[:, :, h:] = x[:, :, h - 1 : h]
    x[:, :, :, w:] = x[:, :, :, w - 1 : w]
    return x


def _gathered(xp: Backend, d: Array, window: Window) -> Array:
    """The adjoint of ``_repeated``."""
    kh, kw = window.kernel
    h, w = window.output[0] * kh, window.output[1] * kw
    if (h, w) != window.size:
        d = d + 0.0
        d[:, :, :, w - 1] += d[:, :, :, w:].sum(3)
        d[:, :, h - 1] += d[:, :, h:].sum(2)
    return xp.avgpool(d, window) * (kh * kw)


def _window(name: str, kind: str, size: int, stride: int | None, pad: Margin, shape: tuple[int, ...]) -> Window:
    if len(shape) != 3:
        raise ShapeError(f"layer {name!r}: {kind} wants maps (channels, height, width), given samples of {shape}.")
    sides = [pad] * 4 if isinstance(pad, int) else list(pad)
    if len(sides) != 4 or min(sides) < 0 or max(sides) >= size:
        raise ShapeError(
            f"layer {name!r}: {kind} pad {pad!r}; wanted a number below the window's size, "
            "or [top, bottom, left, right]."
        )
    top, bottom, left, right = sides
    window = Window((size, size), (stride or size,) * 2, (top, bottom, left, right), shape[1:])
    if min(window.output) < 1:
        raise ShapeError(f"layer {name!r}: a {size}×{size} window does not fit a {shape[1]}×{shape[2]} map.")
    return window
