"""Pooling: the largest, the mean of the in-image elements, the mean of the whole map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.window import Window
from bioplaus.errors import ShapeError
from bioplaus.parts import At, Learn, Site, Unit


@dataclass(frozen=True)
class MaxPoolUnit:
    """y = the largest in-image element of each window; the error goes to the winner, the first where equal."""

    xp: Backend
    window: Window
    gives_fresh = True
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, Any]:
        """y, and who won."""
        y, which = self.xp.maxpool(x, self.window)
        return y, (x, which)

    def back(self, dy: Array, cache: Any, top: Array, learn: Learn) -> Array:
        """To the winners."""
        x, which = cache
        return self.xp.maxpool_back(dy, x, which, self.window)


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


@dataclass(frozen=True)
class MaxPool:
    """Max pooling: windows of ``size``, ``stride`` apart (size where left out), ``pad`` a number or four sides."""

    size: int
    stride: int | None = None
    pad: int | list[int] = 0

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes maps."""
        window = _window(site.name, "maxpool", self.size, self.stride, self.pad, shape)
        return MaxPoolUnit(site.xp, window), (shape[0], *window.output)


@dataclass(frozen=True)
class AvgPool:
    """Mean pooling, dividing by in-image elements: windows of ``size``, ``stride`` apart, ``pad`` as in maxpool."""

    size: int
    stride: int | None = None
    pad: int | list[int] = 0

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes maps."""
        window = _window(site.name, "avgpool", self.size, self.stride, self.pad, shape)
        return AvgPoolUnit(site.xp, window), (shape[0], *window.output)


@dataclass(frozen=True)
class GlobalMeanPool:
    """The mean of every map: (C, H, W) becomes (C,)."""

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes maps."""
        if len(shape) != 3:
            raise ShapeError(f"layer {site.name!r}: globalmeanpool wants maps, given samples of {shape}.")
        return GlobalMeanUnit(site.xp, shape), shape[:1]


def _window(
    name: str, kind: str, size: int, stride: int | None, pad: int | list[int], shape: tuple[int, ...]
) -> Window:
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
