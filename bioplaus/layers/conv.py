"""Convolution (cross-correlation, no kernel flip) and its adjoint as a layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar, Literal

from pydantic import NonNegativeInt as Whole
from pydantic import PositiveInt

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.window import Window
from bioplaus.construct import Size, Wanted
from bioplaus.errors import ShapeError
from bioplaus.layers.initial import Initial
from bioplaus.parts import Site, Unit

Pair = Annotated[PositiveInt | tuple[PositiveInt, PositiveInt], Wanted("a whole number above 0, or [height, width]")]
Padding = Annotated[
    Literal["valid", "half", "full"] | Whole | tuple[Whole, Whole, Whole, Whole],
    Wanted("valid, half, full, a whole number, or [top, bottom, left, right]"),
]

AT_ONCE = 10  # samples


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

    input_axis: ClassVar[int] = 1  # of W

    def gram(self, u: Array, out: Array) -> None:
        """out (o kh kw, o kh kw) += sum over samples and places of u u, at all pairs of filter elements.

        Of ||x - down(u, W)||^2 it is the normal matrix, the same for every input channel.
        """
        for start in range(0, len(u), AT_ONCE):
            rows = self.shifted(u[start : start + AT_ONCE]).reshape((len(out), -1))
            out += self.xp.linear_down(rows, rows)

    def shifted(self, u: Array) -> Array:
        """(O, kh, kw, N, H, W): what every filter element, were it 1, would render of u (N, O, H', W')."""
        window, u = self.window, u.swapaxes(0, 1)
        (kh, kw), (sh, sw), (top, _, left, _), (h, w) = window.kernel, window.stride, window.pad, window.size
        found = self.xp.zeros((len(u), kh, kw, u.shape[1], h, w))
        for i in range(kh):
            rows, r = _inside(window.output[0], sh, i - top, h)
            for j in range(kw):
                columns, c = _inside(window.output[1], sw, j - left, w)
                found[:, i, j, :, r, c] = u[:, :, rows, columns]
        return found


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

    Source: LeCun et al. (1989), Backpropagation applied to handwritten zip code recognition.
    """

    has_weights: ClassVar[bool] = True
    filters: Size
    kernel: Pair
    stride: Pair = 1
    pad: Padding = "valid"
    init: Initial = None
    bias: bool = True

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
        return site.node(map, self.init, self.bias), map.output


@dataclass(frozen=True)
class ConvTransposed:
    """The adjoint of a convolution as a layer: maps grow by ``stride``.

    ``pad`` is the padding of the convolution it is the adjoint of, ``extra`` how many rows and columns of
    the output no window of that convolution would start on (0 up to stride - 1).

    Source: Zeiler et al. (2010), Deconvolutional networks.
    """

    has_weights: ClassVar[bool] = True
    filters: Size
    kernel: Pair
    stride: Pair = 1
    pad: Padding = "valid"
    extra: int = 0
    init: Initial = None
    bias: bool = True

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
        return site.node(map, self.init, self.bias), map.output


def _inside(count: int, stride: int, shift: int, size: int) -> tuple[slice, slice]:
    """Which k < ``count`` have a place k stride + shift on a map of this size, and these places."""
    first, end = max(0, -(shift // stride)), min(count, (size - 1 - shift) // stride + 1)
    if end <= first:
        return slice(0), slice(0)
    return slice(first, end), slice(first * stride + shift, (end - 1) * stride + shift + 1, stride)


def _pair(value: Pair) -> tuple[int, int]:
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
