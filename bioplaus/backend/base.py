"""What a backend must offer. Everything above this folder computes through these methods only.

Arrays are float in the backend's ``dtype`` unless said otherwise. Axes are ``(N, C, H, W)`` for maps
and ``(..., N, features)`` for vectors. Weights are ``(out, in, kh, kw)`` and ``(in, out)``. Four-axis
arrays are stored in whatever memory order the backend's convolutions like; the logical axes never
change. Beyond these methods parts may use what NumPy arrays and tensors share: arithmetic, in-place
arithmetic, comparisons, indexing, ``reshape``, ``sum/mean/any(axis, keepdims=...)``, ``.T`` on matrices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from bioplaus.backend.streams import Stream
from bioplaus.backend.window import Window

Array = Any
Shape = Sequence[int]


class Backend(ABC):
    """An array library on one device in one precision."""

    name: str
    device: str
    dtype: str
    threads: int | None  # one operation may use on the CPU, where that is known

    @staticmethod
    @abstractmethod
    def available_device() -> str:
        """The device ``auto`` takes: a GPU where there is one."""

    # -- arrays ------------------------------------------------------------------------------
    @abstractmethod
    def scope(self) -> AbstractContextManager[Any]:
        """Inside it, nothing is recorded for automatic differentiation; every step runs in one."""

    @abstractmethod
    def array(self, host: Any) -> Array:
        """A fresh floating array on the device; four-axis ones in convolution order."""

    @abstractmethod
    def raw(self, host: Any) -> Array:
        """The array on the device with its own dtype (uint8 images, int64 labels)."""

    @abstractmethod
    def host(self, x: Array) -> Any:
        """A C-ordered numpy copy with the logical axes; reads from the device, so never in a step."""

    @abstractmethod
    def zeros(self, shape: Shape) -> Array:
        """Zeros; four-axis ones in convolution order."""

    @abstractmethod
    def image(self, x: Array) -> Array:
        """The same values in the memory order convolutions like; no copy where it already is."""

    @abstractmethod
    def floats(self, x: Array) -> Array:
        """Integers as floats of the backend's dtype."""

    @abstractmethod
    def whole(self, x: Array) -> Array:
        """Whole numbers as int64."""

    @abstractmethod
    def take(self, x: Array, rows: Array) -> Array:
        """x[rows] along the first axis; rows int64 on the device."""

    @abstractmethod
    def add_rows(self, out: Array, rows: Array, values: Array, scale: float) -> None:
        """out[rows[i]] <- out[rows[i]] + scale * values[i], one i after another; rows int64, some perhaps equal."""

    @abstractmethod
    def one_hot(self, labels: Array, classes: int) -> Array:
        """(...) int -> (..., classes) floats."""

    @abstractmethod
    def stack(self, arrays: Sequence[Array], out: Array | None = None) -> Array:
        """Arrays of one shape along a new first axis; written into ``out`` where it has the shape that comes out."""

    # -- element by element ------------------------------------------------------------------
    @abstractmethod
    def sign(self, x: Array, out: Array | None = None) -> Array:
        """-1, 0 or 1; sign(0) = 0."""

    @abstractmethod
    def add_scaled(self, a: Array, b: Array, scale: float, out: Array) -> Array:
        """out <- a + scale * b; out may be a or b. Returns out."""

    @abstractmethod
    def multiply(self, a: Array, b: Any, out: Array) -> Array:
        """out <- a * b; out may be a or b. Returns out."""

    @abstractmethod
    def approach(self, a: Array, b: Array, share: Any) -> None:
        """a <- a + share * (b - a), in place; share is a number or an array ready to broadcast."""

    @abstractmethod
    def exp(self, x: Array) -> Array:
        """e^x."""

    @abstractmethod
    def log(self, x: Array) -> Array:
        """Natural logarithm."""

    @abstractmethod
    def sqrt(self, x: Array) -> Array:
        """Square root."""

    @abstractmethod
    def abs(self, x: Array) -> Array:
        """Absolute value."""

    @abstractmethod
    def inner(self, a: Array, b: Array) -> Array:
        """<a, b>: the sum of products of two arrays of one shape, in one pass."""

    @abstractmethod
    def unlike_signs(self, a: Array, b: Array) -> Array:
        """In how many elements the signs (-1, 0, 1) of two arrays of one shape differ."""

    @abstractmethod
    def where(self, condition: Array, a: Any, b: Any) -> Array:
        """a where the condition holds, else b."""

    @abstractmethod
    def maximum(self, a: Array, b: Any) -> Array:
        """The larger one, element by element; NaN stays NaN."""

    @abstractmethod
    def relu(self, x: Array, inplace: bool = False) -> Array:
        """max(x, 0); NaN stays NaN."""

    @abstractmethod
    def relu_back(self, dy: Array, y: Array, inplace: bool = True) -> Array:
        """dy where y > 0, else 0; may write into dy where ``inplace``."""

    @abstractmethod
    def tanh(self, x: Array) -> Array:
        """Hyperbolic tangent."""

    @abstractmethod
    def tanh_back(self, dy: Array, y: Array, out: Array | None = None) -> Array:
        """dy (1 - y^2); out may be dy."""

    @abstractmethod
    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + e^-x)."""

    @abstractmethod
    def sigmoid_back(self, dy: Array, y: Array, out: Array | None = None) -> Array:
        """dy y (1 - y); out may be dy."""

    @abstractmethod
    def log_softmax(self, x: Array) -> Array:
        """Along the last axis."""

    @abstractmethod
    def cross_entropy(self, x: Array, labels: Array) -> tuple[Array, Array]:
        """x (..., K), labels (...) int64 -> -log softmax(x)[label] (...), and softmax(x) - one-hot (..., K)."""

    # -- dense -------------------------------------------------------------------------------
    @abstractmethod
    def linear(self, x: Array, W: Array, b: Array | None) -> Array:
        """x (..., N, in) @ W (in, out) + b (1, out) -> (..., N, out)."""

    @abstractmethod
    def linear_down(self, n: Array, V: Array) -> Array:
        """n (..., N, out) @ V.T -> (..., N, in)."""

    @abstractmethod
    def linear_outer(
        self, x: Array, n: Array, out: Array, scale: float, keep: float, bias: Array | None = None
    ) -> None:
        """out (in, out) <- keep * out + scale * x.T @ n; keep = 0 ignores what out held, NaN included.

        x and n are (N, .) or (..., N, .); leading axes are summed over. With ``bias`` (1, out): also
        bias <- keep * bias + scale * sum(n).
        """

    @abstractmethod
    def pseudo_inverse(self, A: Array, cutoff: float) -> Array:
        """Of a symmetric A (n, n) without negative eigenvalues, computed in double precision.

        Eigenvalues up to ``cutoff`` times the largest count as 0. May read from the device.
        """

    # -- convolution (cross-correlation, no kernel flip) -------------------------------------
    @abstractmethod
    def conv(self, x: Array, W: Array, b: Array | None, window: Window) -> Array:
        """x (N, I, H, W), W (O, I, kh, kw), b (1, O, 1, 1) -> (N, O, *window.output)."""

    @abstractmethod
    def conv_down(self, n: Array, V: Array, window: Window, b: Array | None = None) -> Array:
        """The adjoint of ``conv`` in x: (N, O, *window.output) -> (N, I, *window.size), plus b (1, I, 1, 1)."""

    @abstractmethod
    def conv_outer(
        self, x: Array, n: Array, out: Array, window: Window, scale: float, keep: float, bias: Array | None = None
    ) -> None:
        """out (O, I, kh, kw) <- keep * out + scale * sum over samples and windows of n x.

        With ``bias`` (1, O, 1, 1): also bias <- keep * bias + scale * sum(n). keep = 0 ignores old values.
        """

    # -- pooling -----------------------------------------------------------------------------
    @abstractmethod
    def maxpool(self, x: Array, window: Window) -> tuple[Array, Array]:
        """Largest in-image element of each window -> (N, C, *window.output), and which one it was.

        The first one in row order where several are equal. The second array is opaque, for ``maxpool_back``.
        """

    @abstractmethod
    def maxpool_back(self, dy: Array, x: Array, which: Array, window: Window) -> Array:
        """Sends dy to the elements that won -> (N, C, *window.size)."""

    @abstractmethod
    def maxpool_take(self, x: Array, which: Array, window: Window) -> Array:
        """What x (N, C, *window.size) holds at the elements that won: the adjoint of ``maxpool_back``."""

    @abstractmethod
    def avgpool(self, x: Array, window: Window) -> Array:
        """Mean of the in-image elements of each window -> (N, C, *window.output)."""

    @abstractmethod
    def avgpool_back(self, dy: Array, x: Array, window: Window) -> Array:
        """The adjoint of ``avgpool``."""

    # -- normalization -----------------------------------------------------------------------
    @abstractmethod
    def standardize(self, x: Array, eps: float) -> tuple[Array, Array, Array]:
        """Per channel (axis 1 of (N, C, H, W)) or per unit (axis 1 of (N, C)) over all other axes.

        Returns z = (x - mean) / sigma, mean, and sigma = sqrt(var + eps), the last two (C,).
        """

    @abstractmethod
    def standardize_back(self, dz: Array, x: Array, mean: Array, sigma: Array) -> Array:
        """dx = (dz - mean(dz) - z mean(dz z)) / sigma, through both statistics."""

    def standardize_rows(self, x: Array, eps: float) -> tuple[Array, Array, Array]:
        """Each row of x (rows, features): z = (x - mean) / sigma, mean and 1 / sigma; sigma = sqrt(var + eps)."""
        mean = x.mean(-1, keepdims=True)
        z = x - mean
        inverse = 1.0 / self.sqrt((z * z).mean(-1, keepdims=True) + eps)
        return z * inverse, mean, inverse

    def standardize_rows_back(self, dz: Array, x: Array, mean: Array, inverse: Array) -> Array:
        """dx = (dz - mean(dz) - z mean(dz z)) / sigma, row by row; the last two as ``standardize_rows`` gave them."""
        z = (x - mean) * inverse
        return (dz - dz.mean(-1, keepdims=True) - z * (dz * z).mean(-1, keepdims=True)) * inverse

    def standardize_scaled(self, x: Array, eps: float, gain: Array, bias: Array) -> tuple[Array, Array, Array]:
        """(gain z + bias, mean, sigma): ``standardize`` with a gain and a bias ready to broadcast."""
        z, mean, sigma = self.standardize(x, eps)
        return z * gain + bias, mean, sigma

    def standardize_scaled_back(
        self, dy: Array, x: Array, mean: Array, sigma: Array, gain: Array
    ) -> tuple[Array, Array, Array]:
        """(dx, dgain, dbias) of ``standardize_scaled``; the last two (channels,)."""
        axes, ready = (0, *range(2, x.ndim)), (1, -1, *([1] * (x.ndim - 2)))
        z = (x - mean.reshape(ready)) / sigma.reshape(ready)
        return self.standardize_back(dy * gain, x, mean, sigma), (dy * z).sum(axes), dy.sum(axes)

    # Per channel (axis 1), p = 1 or 2; what has one number per channel is (1, C, 1, 1) or (1, C).

    def channel_deviation(self, x: Array, centre: Array | float) -> Array:
        """The mean over all other axes of |x - centre|."""
        return self.abs(x - centre).mean((0, *range(2, x.ndim)), keepdims=True)

    def channel_moments(self, x: Array, p: float) -> tuple[Array, Array, Array | float]:
        """The mean over all other axes; the means of |x - mean|^p and, for p = 1, of sign(x - mean), else 0."""
        axes = (0, *range(2, x.ndim))
        mean = x.mean(axes, keepdims=True)
        d = x - mean
        if p == 2.0:
            return mean, (d * d).mean(axes, keepdims=True), 0.0
        return mean, self.abs(d).mean(axes, keepdims=True), self.sign(d).mean(axes, keepdims=True)

    def channel_scaled(self, x: Array, mean: Array, scale: Array, shift: Array | None = None) -> Array:
        """(x - mean) * scale + shift, an array of its own."""
        y = (x - mean) * scale
        return y if shift is None else y + shift

    def channel_sums(self, dy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
        """Sums over all other axes of dy and of dy (x - mean)."""
        axes = (0, *range(2, x.ndim))
        return dy.sum(axes, keepdims=True), (dy * (x - mean)).sum(axes, keepdims=True)

    def channel_mix(
        self, dy: Array, scale: Array, x: Array, centre: Array | float, slope: Array, shift: Array, p: float
    ) -> Array:
        """dy * scale + h * slope + shift, with h = x - centre for p = 2 and its sign for p = 1; may write into dy."""
        d = x - centre
        return dy * scale + (d if p == 2.0 else self.sign(d)) * slope + shift

    # -- random numbers ----------------------------------------------------------------------
    @abstractmethod
    def uniform(self, stream: Stream, out: Array) -> None:
        """out <- U[0, 1), a function of the stream alone; may differ between devices."""
