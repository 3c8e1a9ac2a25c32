"""Convolution (cross-correlation, no kernel flip) and its adjoint as a layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.window import Window
from bioplaus.errors import ShapeError
from bioplaus.parts import Site, Unit

Padding = Literal["valid", "half", "full"] | int | list[int]


@dataclass(frozen=True)
class ConvMap:
    """x (N, I, H, W) through W (O, I, kh, kw)."""

    xp: Backend
    window: Window
    channels: tuple[int, int]  # in, out

    @property
    def shape(self) -> tuple[int, ...]:
        """(O, I, kh, kw)."""
        return (self.channels[1], self.channels[0], *self.window.kernel)

    @property
    def unit_shape(self) -> tuple[int, ...]:
        """(O, 1, 1, 1)."""
        return (self.channels[1], 1, 1, 1)

    @property
    def fan_in(self) -> int:
        """I kh kw."""
        return self.channels[0] * prod(self.window.kernel)

    @property
    def input(self) -> tuple[int, ...]:
        """(I, H, W)."""
        return (self.channels[0], *self.window.size)

    @property
    def output(self) -> tuple[int, ...]:
        """(O, H', W')."""
        return (self.channels[1], *self.window.output)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """(1, O, 1, 1)."""
        return (1, self.channels[1], 1, 1)

    def up(self, x: Array, W: Array, b: Array | None = None) -> Array:
        """conv(x, W) + b."""
        return self.xp.conv(x, W, b, self.window)

    def down(self, n: Array, V: Array) -> Array:
        """conv_T(n, V)."""
        return self.xp.conv_down(n, V, self.window)

    def outer(
        self, x: Array, n: Array, out: Array, scale: float = 1.0, keep: float = 1.0, bias: Array | None = None
    ) -> None:
        """out <- keep out + scale correlate(x, n)."""
        self.xp.conv_outer(x, n, out, self.window, scale, keep, bias)


@dataclass(frozen=True)
class ConvTransposedMap:
    """x (N, I, H, W) through the adjoint of a convolution with W (I, O, kh, kw).

    ``window`` is that convolution's: its output is our input, its map our output.
    """

    xp: Backend
    window: Window
    channels: tuple[int, int]  # in, out

    @property
    def shape(self) -> tuple[int, ...]:
        """(I, O, kh, kw)."""
        return (*self.channels, *self.window.kernel)

    @property
    def unit_shape(self) -> tuple[int, ...]:
        """(1, O, 1, 1)."""
        return (1, self.channels[1], 1, 1)

    @property
    def fan_in(self) -> int:
        """Inputs of one unit, on average: I kh kw / (strides)."""
        return max(1, self.channels[0] * prod(self.window.kernel) // prod(self.window.stride))

    @property
    def input(self) -> tuple[int, ...]:
        """(I, H, W)."""
        return (self.channels[0], *self.window.output)

    @property
    def output(self) -> tuple[int, ...]:
        """(O, H', W')."""
        return (self.channels[1], *self.window.size)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """(1, O, 1, 1)."""
        return (1, self.channels[1], 1, 1)

    def up(self, x: Array, W: Array, b: Array | None = None) -> Array:
        """conv_T(x, W) + b."""
        return self.xp.conv_down(x, W, self.window, b)

    def down(self, n: Array, V: Array) -> Array:
        """conv(n, V)."""
        return self.xp.conv(n, V, None, self.window)

    def outer(
        self, x: Array, n: Array, out: Array, scale: float = 1.0, keep: float = 1.0, bias: Array | None = None
    ) -> None:
        """out <- keep out + scale correlate(n, x)."""
        self.xp.conv_outer(n, x, out, self.window, scale, keep)
        if bias is not None:
            total = n.sum((0, 2, 3)).reshape(bias.shape) * scale
            bias[...] = bias * keep + total if keep else total


@dataclass(frozen=True)
class Conv:
    """A convolution of ``filters`` kernels.

    ``kernel`` k or [kh, kw]; ``pad`` valid (0), half (same size at stride 1), full (k - 1), a number, or
    [top, bottom, left, right].
    """

    has_weights: ClassVar[bool] = True
    filters: int
    kernel: int | list[int]
    stride: int | list[int] = 1
    pad: Padding = "valid"

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes maps (channels, height, width)."""
        channels, h, w = _map_shape(site.name, "conv", shape)
        kernel = _pair(self.kernel)
        window = Window(kernel, _pair(self.stride), _sides(self.pad, kernel), (h, w))
        if min(window.output) < 1:
            raise ShapeError(
                f"layer {site.name!r}: a {kernel[0]}×{kernel[1]} kernel does not fit a {h}×{w} map. "
                "Take a smaller kernel, or pad."
            )
        map = ConvMap(site.xp, window, (channels, self.filters))
        return site.node(map), map.output


@dataclass(frozen=True)
class ConvTransposed:
    """The adjoint of a convolution as a layer: maps grow by ``stride``.

    ``pad`` is the padding of the convolution it is the adjoint of, ``extra`` how many rows and columns of
    the output no window of that convolution would start on (0 up to stride - 1).
    """

    has_weights: ClassVar[bool] = True
    filters: int
    kernel: int | list[int]
    stride: int | list[int] = 1
    pad: Padding = "valid"
    extra: int = 0

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes maps (channels, height, width)."""
        channels, h, w = _map_shape(site.name, "conv_transposed", shape)
        kernel, stride = _pair(self.kernel), _pair(self.stride)
        if not 0 <= self.extra < min(stride):
            raise ShapeError(f"layer {site.name!r}: extra is {self.extra}; wanted 0 up to stride - 1.")
        pad = _sides(self.pad, kernel)
        size = (
            (h - 1) * stride[0] + kernel[0] - pad[0] - pad[1] + self.extra,
            (w - 1) * stride[1] + kernel[1] - pad[2] - pad[3] + self.extra,
        )
        if min(size) < 1:
            raise ShapeError(f"layer {site.name!r}: nothing is left of the map after cropping {list(pad)}.")
        map = ConvTransposedMap(site.xp, Window(kernel, stride, pad, size), (channels, self.filters))
        return site.node(map), map.output


def _pair(value: int | list[int]) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"{value}: wanted a number above 0, or two of them")
    return pair


def _sides(pad: Padding, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right)."""
    kh, kw = kernel
    if pad == "valid":
        return (0, 0, 0, 0)
    if pad == "half":
        if kh % 2 == 0 or kw % 2 == 0:
            raise ValueError(f"pad half wants an odd kernel; given {kh}×{kw}")
        return (kh // 2, kh // 2, kw // 2, kw // 2)
    if pad == "full":
        return (kh - 1, kh - 1, kw - 1, kw - 1)
    sides = [pad] * 4 if isinstance(pad, int) else list(pad)
    if len(sides) != 4 or not all(isinstance(side, int) and side >= 0 for side in sides):
        raise ValueError(f"pad {pad!r}: wanted valid, half, full, a number, or [top, bottom, left, right]")
    top, bottom, left, right = sides
    return (top, bottom, left, right)


def _map_shape(name: str, kind: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ShapeError(f"layer {name!r}: {kind} wants maps (channels, height, width), given samples of {shape}.")
    return shape
