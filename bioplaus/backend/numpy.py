"""The reference backend: NumPy on the CPU, readable, and the default where torch is missing.

Maps are stored channels-last: a convolution copies its windows into a matrix, one window per row, and
is then one matrix product per block of samples. Blocks are small enough for that matrix to stay in the
cache. The module of array functions is held as ``self.np``, so CuPy runs the same code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy

from bioplaus.backend.base import Array, Backend, Shape
from bioplaus.backend.signs import unlike
from bioplaus.backend.streams import Stream
from bioplaus.backend.window import Window
from bioplaus.errors import PartError


class NumPy(Backend):
    """NumPy on the CPU.

    Parameters
    ----------
    dtype : "float32" or "float64"
    device : "cpu"
    threads : int, optional     recorded; NumPy's BLAS reads its number from the environment when it is loaded

    Raises
    ------
    PartError                   another dtype or device

    Source: Harris et al. (2020), Array programming with NumPy.
    """

    name = "numpy"
    np: Any = numpy
    block_bytes = 1 << 20  # of window copies at a time

    def __init__(self, dtype: str = "float32", device: str = "cpu", threads: int | None = None) -> None:
        """Refuses what it cannot run."""
        if dtype not in ("float32", "float64"):
            raise PartError(f"backend '{self.name}': no dtype {dtype!r} here. Use float32 or float64.")
        self._check_device(device)
        self.dtype = dtype
        self.device = device
        self.threads = threads

    def _check_device(self, device: str) -> None:
        if device != "cpu":
            raise PartError(f"backend 'numpy': device {device!r} given, it runs on 'cpu' only. Use device cpu.")

    @staticmethod
    def available_device() -> str:
        """``cpu``."""
        return "cpu"

    # -- arrays ------------------------------------------------------------------------------
    def scope(self) -> AbstractContextManager[Any]:
        """No warnings about overflow or NaN: the training loop watches for those."""
        return numpy.errstate(over="ignore", invalid="ignore", divide="ignore")

    def array(self, host: Any) -> Array:
        """A fresh floating array; four-axis ones channels-last."""
        return self.image(self.np.array(host, dtype=self.dtype, order="C"))

    def raw(self, host: Any) -> Array:
        """The array with its own dtype."""
        return self.image(self.np.array(host))

    def host(self, x: Array) -> Any:
        """A C-ordered copy."""
        return numpy.array(x, order="C")

    def zeros(self, shape: Shape) -> Array:
        """Zeros; four-axis ones channels-last."""
        if len(shape) != 4:
            return self.np.zeros(tuple(shape), self.dtype)
        N, C, H, W = shape
        return _channels_first(self.np.zeros((N, H, W, C), self.dtype))

    def image(self, x: Array) -> Array:
        """The same values channels-last; no copy where they already are."""
        return _channels_first(self._last(x)) if x.ndim == 4 else x

    def floats(self, x: Array) -> Array:
        """Integers as floats."""
        return x.astype(self.dtype)

    def whole(self, x: Array) -> Array:
        """To int64."""
        return x.astype(self.np.int64)

    def take(self, x: Array, rows: Array) -> Array:
        """x[rows], in the same memory order."""
        return _channels_first(x.transpose(0, 2, 3, 1)[rows]) if x.ndim == 4 else x[rows]

    def add_rows(self, out: Array, rows: Array, values: Array, scale: float) -> None:
        """out[rows] <- out[rows] + scale * values."""
        self.np.add.at(out, rows, self.np.multiply(values, scale, dtype=self.dtype))

    def one_hot(self, labels: Array, classes: int) -> Array:
        """(...) int -> (..., classes) floats."""
        return (labels[..., None] == self.np.arange(classes)).astype(self.dtype)

    def stack(self, arrays: Sequence[Array], out: Array | None = None) -> Array:
        """Along a new first axis."""
        fits = out is not None and out.shape == (len(arrays), *arrays[0].shape)
        return self.np.stack(arrays, out=out if fits else None)

    # -- element by element ------------------------------------------------------------------
    def sign(self, x: Array, out: Array | None = None) -> Array:
        """-1, 0 or 1."""
        return self.np.sign(x, out=out)

    def add_scaled(self, a: Array, b: Array, scale: float, out: Array) -> Array:
        """out <- a + scale * b."""
        return self.np.add(a, self.np.multiply(b, scale, dtype=self.dtype), out=out)

    def multiply(self, a: Array, b: Any, out: Array) -> Array:
        """out <- a * b."""
        return self.np.multiply(a, b, out=out, dtype=self.dtype)

    def approach(self, a: Array, b: Array, share: Any) -> None:
        """a <- a + share * (b - a)."""
        a += share * (b - a)

    def exp(self, x: Array) -> Array:
        """e to the x."""
        return self.np.exp(x)

    def log(self, x: Array) -> Array:
        """Natural logarithm."""
        return self.np.log(x)

    def sqrt(self, x: Array) -> Array:
        """Square root."""
        return self.np.sqrt(x)

    def abs(self, x: Array) -> Array:
        """Absolute value."""
        return self.np.abs(x)

    def inner(self, a: Array, b: Array) -> Array:
        """Both as they lie in memory, where they lie alike."""
        return self.np.vdot(a.ravel("K"), b.ravel("K")) if a.strides == b.strides else (a * b).sum()

    def unlike_signs(self, a: Array, b: Array) -> Array:
        """A count."""
        return unlike(self.np, a, b)

    def where(self, condition: Array, a: Any, b: Any) -> Array:
        """a where the condition holds, b elsewhere."""
        a, b = (v if hasattr(v, "dtype") else self.np.asarray(v, self.dtype) for v in (a, b))
        return self.np.where(condition, a, b)

    def maximum(self, a: Array, b: Any) -> Array:
        """The larger of the two; NaN stays NaN."""
        return self.np.maximum(a, b)

    def relu(self, x: Array, inplace: bool = False) -> Array:
        """max(x, 0); NaN stays NaN."""
        return self.np.maximum(x, 0, out=x if inplace else None)

    def relu_back(self, dy: Array, y: Array, inplace: bool = True) -> Array:
        """dy where y > 0, else 0."""
        return self._gate(dy, y > 0, dy if inplace else self.np.empty_like(dy))

    def tanh(self, x: Array) -> Array:
        """Hyperbolic tangent."""
        return self.np.tanh(x)

    def tanh_back(self, dy: Array, y: Array, out: Array | None = None) -> Array:
        """dy (1 - y^2)."""
        return self.np.multiply(dy, 1.0 - y * y, out=out)

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + e^-x), by tanh, which no x overflows."""
        return 0.5 * self.np.tanh(0.5 * x) + 0.5

    def sigmoid_back(self, dy: Array, y: Array, out: Array | None = None) -> Array:
        """dy y (1 - y)."""
        return self.np.multiply(dy, y * (1.0 - y), out=out)

    def log_softmax(self, x: Array) -> Array:
        """Along the last axis."""
        shifted = x - x.max(axis=-1, keepdims=True)
        return shifted - self.np.log(self.np.exp(shifted).sum(axis=-1, keepdims=True))

    def cross_entropy(self, x: Array, labels: Array) -> tuple[Array, Array]:
        """-log softmax(x)[label], and softmax(x) - one-hot."""
        log_p, places = self.log_softmax(x), labels[..., None]
        loss = -self.np.take_along_axis(log_p, places, axis=-1)[..., 0]
        return loss, self.np.exp(log_p, out=log_p) - (places == self.np.arange(x.shape[-1]))

    # -- dense -------------------------------------------------------------------------------
    def linear(self, x: Array, W: Array, b: Array | None) -> Array:
        """x @ W + b."""
        n = x @ W
        if b is not None:
            n += b
        return n

    def linear_down(self, n: Array, V: Array) -> Array:
        """n @ V.T."""
        return n @ V.swapaxes(-1, -2)

    def linear_outer(
        self, x: Array, n: Array, out: Array, scale: float, keep: float, bias: Array | None = None
    ) -> None:
        """out <- keep * out + scale * x.T @ n, summed over samples and leading axes; bias likewise."""
        rows, columns = x.reshape(-1, x.shape[-1]), n.reshape(-1, n.shape[-1])
        self._accumulate(out, rows.T @ columns, scale, keep)
        if bias is not None:
            self._accumulate(bias, columns.sum(0, keepdims=True), scale, keep)

    def pseudo_inverse(self, A: Array, cutoff: float) -> Array:
        """By eigenvalues."""
        values, axes = self.np.linalg.eigh(A.astype("float64"))
        kept = values > cutoff * values[-1]
        inverse = kept / self.np.where(kept, values, 1.0)
        return ((axes * inverse) @ axes.T).astype(self.dtype)

    # -- convolution -------------------------------------------------------------------------
    def conv(self, x: Array, W: Array, b: Array | None, window: Window) -> Array:
        """x (N, I, H, W), W (O, I, kh, kw) -> (N, O, *window.output)."""
        outputs = len(W)
        kernel = self._last(W).reshape(outputs, -1).T  # (kh kw I, O)
        n = self.np.empty((len(x), *window.output, outputs), x.dtype)
        for samples, columns in self._columns(x, window):
            block = n[samples].reshape(-1, outputs)
            self.np.matmul(columns, kernel, out=block)
            if b is not None:
                block += b.reshape(1, outputs)
        return _channels_first(n)

    def conv_down(self, n: Array, V: Array, window: Window, b: Array | None = None) -> Array:
        """n (N, O, *window.output) -> (N, I, *window.size)."""
        outputs, inputs, kh, kw = V.shape
        mirror = _mirror(window, outputs, inputs)
        if mirror is not None:
            return self.conv(n, V[:, :, ::-1, ::-1].swapaxes(0, 1), b, mirror)
        kernel = self._last(V).reshape(outputs, -1)  # (O, kh kw I)
        n = self._last(n)
        dx = self.np.zeros((len(n), *window.size, inputs), n.dtype)
        if b is not None:
            dx += b.reshape(inputs)
        for samples in self._blocks(len(n), n[0].size // outputs * kernel.shape[1]):
            parts = n[samples].reshape(-1, outputs) @ kernel
            parts = parts.reshape(-1, *window.output, kh, kw, inputs)
            for i, j, at, inside in _places(window):
                dx[samples, *inside] += parts[:, *at, i, j]
        return _channels_first(dx)

    def conv_outer(
        self, x: Array, n: Array, out: Array, window: Window, scale: float, keep: float, bias: Array | None = None
    ) -> None:
        """Out (O, I, kh, kw) <- keep * out + scale * sum of n x; with ``bias`` likewise the sum of n."""
        outputs, inputs, kh, kw = out.shape
        n = self._last(n)
        total = self.np.zeros((outputs, kh, kw, inputs), n.dtype)
        for samples, columns in self._columns(x, window):
            total += (n[samples].reshape(-1, outputs).T @ columns).reshape(total.shape)
        self._accumulate(out, _channels_first(total), scale, keep)
        if bias is not None:
            self._accumulate(bias, self._sum(n).reshape(bias.shape), scale, keep)

    # -- pooling -----------------------------------------------------------------------------
    def maxpool(self, x: Array, window: Window) -> tuple[Array, Array]:
        """Largest in-image element of each window, and its number in row order."""
        x, count = self._last(x), window.kernel[0] * window.kernel[1]
        y = self.np.empty((len(x), *window.output, x.shape[-1]), x.dtype)
        which = self.np.zeros(y.shape, "uint8" if count <= 256 else "int32")
        for samples in self._blocks(len(x), count * y[0].size):
            seen = self._seen(x[samples], window, -numpy.inf)
            number = self.np.ascontiguousarray(seen.transpose(3, 4, 0, 1, 2, 5)).reshape(count, *y[samples].shape)
            best, place = y[samples], which[samples]
            best[...] = number[0]
            for k in range(1, count):  # numbers grow: the last one that beat all before is the largest
                self.np.maximum(place, self.np.multiply(number[k] > best, k, dtype=which.dtype), out=place)
                self.np.maximum(best, number[k], out=best)
        return _channels_first(y), _channels_first(which)

    def maxpool_back(self, dy: Array, x: Array, which: Array, window: Window) -> Array:
        """Sends dy to the elements that won."""
        dy, which = self._last(dy), self._last(which)
        dx = self.np.zeros((len(dy), *window.size, dy.shape[-1]), dy.dtype)
        for samples in self._blocks(len(dy), dx[0].size + 2 * dy[0].size):
            part = self.np.empty_like(dy[samples])
            for i, j, at, inside in _places(window):
                self._gate(dy[samples], which[samples] == i * window.kernel[1] + j, part)
                dx[samples, *inside] += part[:, *at]
        return _channels_first(dx)

    def maxpool_take(self, x: Array, which: Array, window: Window) -> Array:
        """What x holds at the elements that won."""
        x, which = self._last(x), self._last(which)
        y = self.np.zeros(which.shape, x.dtype)
        for samples in self._blocks(len(x), x[0].size + 2 * y[0].size):
            for i, j, at, inside in _places(window):
                won = which[samples, *at] == i * window.kernel[1] + j
                y[samples, *at] += self.np.where(won, x[samples, *inside], 0)
        return _channels_first(y)

    def avgpool(self, x: Array, window: Window) -> Array:
        """Mean of the in-image elements of each window."""
        x = self._last(x)
        y = self.np.zeros((len(x), *window.output, x.shape[-1]), x.dtype)
        for samples in self._blocks(len(x), x[0].size + y[0].size):
            for _, _, at, inside in _places(window):
                y[samples, *at] += x[samples, *inside]
        y /= self._in_image(window)
        return _channels_first(y)

    def avgpool_back(self, dy: Array, x: Array, window: Window) -> Array:
        """The adjoint of ``avgpool``."""
        share = self._last(dy) / self._in_image(window)
        dx = self.np.zeros((len(share), *window.size, share.shape[-1]), share.dtype)
        for samples in self._blocks(len(dx), dx[0].size + share[0].size):
            for _, _, at, inside in _places(window):
                dx[samples, *inside] += share[samples, *at]
        return _channels_first(dx)

    # -- normalization -----------------------------------------------------------------------
    def standardize(self, x: Array, eps: float) -> tuple[Array, Array, Array]:
        """z = (x - mean) / sigma, mean, sigma = sqrt(var + eps)."""
        rows = self._rows(x)
        count = rows[..., 0].size
        mean = self._sum(rows) / count
        z = self._along(self.np.subtract, rows, mean)
        sigma = self.np.sqrt(self._sum(z * z) / count + float(eps))
        self._along(self.np.divide, z, sigma, z)
        return self._unrows(z, x), mean, sigma

    def standardize_back(self, dz: Array, x: Array, mean: Array, sigma: Array) -> Array:
        """dx = (dz - mean(dz) - z mean(dz z)) / sigma."""
        rows, dx = self._rows(dz), self._along(self.np.subtract, self._rows(x), mean)  # z sigma
        count = rows[..., 0].size
        self._along(self.np.multiply, dx, self._sum(rows * dx) / (-count * sigma * sigma), dx)
        dx += rows
        self._along(self.np.subtract, dx, self._sum(rows) / count, dx)
        self._along(self.np.divide, dx, sigma, dx)
        return self._unrows(dx, x)

    # -- random numbers ----------------------------------------------------------------------
    def uniform(self, stream: Stream, out: Array) -> None:
        """out <- U[0, 1), drawn in C order of the logical axes."""
        out[...] = stream.generator().random(out.shape, dtype=out.dtype)

    # -- inside ------------------------------------------------------------------------------
    def _last(self, x: Array) -> Array:
        """(N, C, H, W) -> contiguous (N, H, W, C)."""
        return self.np.ascontiguousarray(x.transpose(0, 2, 3, 1))

    def _gate(self, x: Array, mask: Array, out: Array) -> Array:
        """out <- x where the mask holds, else 0, bit by bit: a branch per element is ten times slower."""
        bits = f"int{8 * out.dtype.itemsize}"
        self.np.bitwise_and(x.view(bits), self.np.negative(mask.view("int8")), out=out.view(bits))
        return out

    def _rows(self, x: Array) -> Array:
        """(N, C, H, W) -> (N, H W, C), (N, C) -> (1, N, C)."""
        return self._last(x).reshape(len(x), -1, x.shape[1]) if x.ndim == 4 else self.np.ascontiguousarray(x)[None]

    def _unrows(self, rows: Array, x: Array) -> Array:
        return _channels_first(rows.reshape(len(x), *x.shape[2:], x.shape[1])) if x.ndim == 4 else rows[0]

    def _sum(self, rows: Array) -> Array:
        """(N, ..., C) -> (C,), sample by sample: one long float32 sum loses digits."""
        rows = rows.reshape(len(rows), -1, rows.shape[-1])
        return (self.np.ones(rows.shape[1], rows.dtype) @ rows).sum(0)

    def _along(self, operation: Any, rows: Array, v: Array, out: Array | None = None) -> Array:
        """Operation between rows (N, S, C) and v (C,), in runs of S C: runs of C are short and slow."""
        flat = rows.reshape(len(rows), -1)
        done = operation(flat, self.np.tile(v, rows.shape[1]), out=None if out is None else out.reshape(flat.shape))
        return done.reshape(rows.shape)

    def _accumulate(self, out: Array, total: Array, scale: float, keep: float) -> None:
        """out <- keep * out + scale * total; keep = 0 ignores what out held."""
        if keep == 0:
            self.multiply(total, scale, out)
            return
        if keep != 1:
            self.multiply(out, keep, out)
        self.add_scaled(out, total, scale, out)

    def _blocks(self, N: int, numbers: int) -> Iterator[slice]:
        """Slices of samples, ``numbers`` values each, that fit into ``block_bytes``."""
        step = max(1, self.block_bytes // (numbers * numpy.dtype(self.dtype).itemsize))
        return (slice(start, min(start + step, N)) for start in range(0, N, step))

    def _columns(self, x: Array, window: Window) -> Iterator[tuple[slice, Array]]:
        """Blocks of samples and what their windows see: (samples x windows, kh kw C)."""
        x = self._last(x)
        (oh, ow), width = window.output, window.kernel[0] * window.kernel[1] * x.shape[-1]
        for samples in self._blocks(len(x), oh * ow * width):
            yield samples, self._seen(x[samples], window, 0.0).reshape(-1, width)

    def _seen(self, x: Array, window: Window, beyond: float) -> Array:
        """What each window sees, as a view of x (N, H, W, C) or its padded copy: (N, oh, ow, kh, kw, C)."""
        (kh, kw), (sh, sw), (top, bottom, left, right) = window.kernel, window.stride, window.pad
        N, H, W, C = x.shape
        if any(window.pad):
            padded = self.np.full((N, H + top + bottom, W + left + right, C), beyond, x.dtype)
            padded[:, top : top + H, left : left + W] = x
            x = padded
        sample, row, column, channel = x.strides
        strides = (sample, row * sh, column * sw, row, column, channel)
        return self.np.lib.stride_tricks.as_strided(x, (N, *window.output, kh, kw, C), strides)

    def _in_image(self, window: Window) -> Array:
        """How many in-image elements each window has, (rows, columns, 1)."""
        count = self.np.zeros((*window.output, 1), self.dtype)
        for _, _, at, _ in _places(window):
            count[at] += 1
        return count


def _channels_first(x: Array) -> Array:
    """(N, H, W, C) -> a view (N, C, H, W)."""
    return x.transpose(0, 3, 1, 2)


def _mirror(window: Window, outputs: int, inputs: int) -> Window | None:
    """Where a flipped kernel lies if the adjoint is to be a convolution itself; None where it cannot or should not.

    That takes stride 1, and copies H W O numbers per kernel element where the other way adds oh ow I; adding
    costs 1.75 times as much (measured over sixteen layers).
    """
    (kh, kw), (top, bottom, left, right), (H, W), (oh, ow) = window.kernel, window.pad, window.size, window.output
    pad = (kh - 1 - top, kh - 1 - bottom, kw - 1 - left, kw - 1 - right)
    copied, added = H * W * outputs, oh * ow * inputs
    if window.stride != (1, 1) or min(pad) < 0 or copied > 1.75 * added:
        return None
    return Window(window.kernel, (1, 1), pad, (oh, ow))


def _places(window: Window) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
    """For element (i, j) of the window: the windows whose (i, j) lies in the image, and where it lies."""
    (kh, kw), (sh, sw), (top, _, left, _), (H, W) = window.kernel, window.stride, window.pad, window.size
    oh, ow = window.output
    for i in range(kh):
        rows = _along(i - top, sh, oh, H)
        for j in range(kw):
            cols = _along(j - left, sw, ow, W)
            if rows and cols:
                yield i, j, (rows[0], cols[0]), (rows[1], cols[1])


def _along(offset: int, stride: int, windows: int, size: int) -> tuple[slice, slice] | None:
    """One axis of ``_places``: windows w with 0 <= w * stride + offset < size, and those elements."""
    first = max(0, -(offset // stride))
    end = min(windows, (size - 1 - offset) // stride + 1)
    if end <= first:
        return None
    return slice(first, end), slice(first * stride + offset, (end - 1) * stride + offset + 1, stride)
