"""PyTorch, on a CPU or a CUDA device: the primitives its own backward uses, and no autograd tape.

Maps are kept channels-last, which the convolution, pooling and batch-statistics kernels prefer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from bioplaus.backend.base import Array, Backend, Shape
from bioplaus.backend.signs import unlike
from bioplaus.backend.streams import Stream
from bioplaus.backend.window import Window
from bioplaus.errors import PartError

aten = torch.ops.aten
LAST = torch.channels_last
SMALLEST = 5e-324  # above 0, while denormal numbers count
GRAIN = 1 << 15  # numbers that PyTorch gives to one thread at least
CACHED = 1 << 20  # bytes of one array that a CPU core works on at a time, where several passes follow one another


class _Flushed(torch.inference_mode):
    """Inference mode in which denormal numbers (below 1e-38 in float32, 2e-308 in float64) count as 0.

    The momentum of a unit that has died shrinks into them and never leaves them, and some processors take ten times as
    long over each. It is a switch of the processor, for this thread (NumPy in it too) and those that work for it; it is
    put back on the way out. An object of it is entered once at a time.
    """

    def __enter__(self) -> None:
        super().__enter__()
        self.already = SMALLEST * 1.0 == 0.0
        if not self.already:
            torch.set_flush_denormal(True)

    def __exit__(self, *raised: Any) -> None:
        if not self.already:
            torch.set_flush_denormal(False)
        super().__exit__(*raised)


class Torch(Backend):
    """PyTorch tensors on ``device`` in ``dtype``.

    A CUDA device computes in full precision and in an order that does not change: PyTorch's settings for convolutions
    are set so, for the whole process.

    Source: Paszke et al. (2019), PyTorch: an imperative style, high-performance deep learning library.
    """

    name = "torch"

    def __init__(self, dtype: str = "float32", device: str = "cpu", threads: int | None = None) -> None:
        kind, _, index = device.partition(":")
        if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
            raise PartError(f"device {device!r} given; wanted cpu, cuda, or one GPU by its number, as cuda:0.")
        if kind == "cuda" and not torch.cuda.is_available():
            raise PartError(
                f"device {device!r}: this PyTorch ({torch.__version__}) sees no CUDA GPU. "
                "Run with --device cpu, or install a CUDA build of PyTorch."
            )
        if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
            raise PartError(f"device {device!r}: there are {torch.cuda.device_count()} GPUs, the first is cuda:0.")
        if kind == "cuda":
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.deterministic = True
        if threads is not None:
            torch.set_num_threads(threads)
        self.threads = torch.get_num_threads()
        self.device = device
        self.dtype = dtype
        self._device = torch.device(device)
        self._dtype = getattr(torch, dtype)
        self._kept_ones: dict[int, torch.Tensor] = {}
        if kind == "cpu":  # threads begin here: those that begin inside ``scope`` would stay as it is there
            torch.zeros(GRAIN * self.threads).neg_()

    @staticmethod
    def available_device() -> str:
        """``cuda:0`` where there is a GPU, else ``cpu``."""
        return "cuda:0" if torch.cuda.is_available() else "cpu"

    # -- arrays ------------------------------------------------------------------------------
    def scope(self) -> AbstractContextManager[Any]:
        """Inference mode; on a CPU also without denormal numbers."""
        return _Flushed() if self._device.type == "cpu" else torch.inference_mode()

    def array(self, host: Any) -> Array:
        """A fresh floating tensor."""
        x = torch.tensor(np.asarray(host), dtype=self._dtype, device=self._device)
        return self.image(x)

    def raw(self, host: Any) -> Array:
        """A tensor with the array's own dtype."""
        return self.image(torch.tensor(np.asarray(host), device=self._device))

    def host(self, x: Array) -> Any:
        """A C-ordered numpy copy."""
        return np.array(x.detach().cpu().numpy(), order="C", copy=True)

    def zeros(self, shape: Shape) -> Array:
        """Zeros."""
        layout = LAST if len(shape) == 4 else torch.contiguous_format
        x = torch.empty(tuple(shape), dtype=self._dtype, device=self._device, memory_format=layout)
        return self.image(x.zero_())

    def image(self, x: Array) -> Array:
        """Channels-last where there are four axes."""
        if x.dim() != 4:
            return x
        x = x.contiguous(memory_format=LAST)
        _, c, h, w = x.shape
        # Where axes of size one leave the order open, say it: kernels read it off the strides.
        return x.as_strided(x.shape, (c * h * w, 1, c * w, c)) if c == 1 or h * w == 1 else x

    def floats(self, x: Array) -> Array:
        """To the backend's dtype."""
        return x.to(self._dtype)

    def whole(self, x: Array) -> Array:
        """To int64."""
        return x.to(torch.int64)

    def take(self, x: Array, rows: Array) -> Array:
        """x[rows]; maps as the channels-last rows they are stored as."""
        if x.dim() == 4:
            return x.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
        return x.index_select(0, rows)

    def add_rows(self, out: Array, rows: Array, values: Array, scale: float) -> None:
        """Row by row; on a GPU, which would add in any order, as a product."""
        if self._device.type == "cpu":
            out.index_add_(0, rows, values, alpha=scale)
        else:
            out.addmm_(self.one_hot(rows, out.shape[0]).t(), values, alpha=scale)

    def one_hot(self, labels: Array, classes: int) -> Array:
        """(..., classes)."""
        found = torch.zeros((*labels.shape, classes), dtype=self._dtype, device=self._device)
        return found.scatter_(-1, labels.unsqueeze(-1), 1.0)

    def stack(self, arrays: Sequence[Array], out: Array | None = None) -> Array:
        """Along a new first axis."""
        fits = out is not None and out.shape == (len(arrays), *arrays[0].shape)
        return torch.stack(list(arrays), out=out if fits else None)

    # -- element by element ------------------------------------------------------------------
    def sign(self, x: Array, out: Array | None = None) -> Array:
        """-1, 0, 1."""
        return torch.sign(x) if out is None else torch.sign(x, out=out)

    def add_scaled(self, a: Array, b: Array, scale: float, out: Array) -> Array:
        """out <- a + scale * b."""
        return torch.add(a, b, alpha=scale, out=out)

    def multiply(self, a: Array, b: Any, out: Array) -> Array:
        """out <- a * b."""
        return torch.mul(a, b, out=out)

    def approach(self, a: Array, b: Array, share: Any) -> None:
        """a <- a + share * (b - a)."""
        a.lerp_(b, share)

    def exp(self, x: Array) -> Array:
        """e^x."""
        return torch.exp(x)

    def log(self, x: Array) -> Array:
        """Natural logarithm."""
        return torch.log(x)

    def sqrt(self, x: Array) -> Array:
        """Square root."""
        return torch.sqrt(x)

    def abs(self, x: Array) -> Array:
        """Absolute value."""
        return torch.abs(x)

    def tanh(self, x: Array) -> Array:
        """Hyperbolic tangent."""
        return torch.tanh(x)

    def tanh_back(self, dy: Array, y: Array, out: Array | None = None) -> Array:
        """dy (1 - y^2)."""
        return aten.tanh_backward(dy, y) if out is None else aten.tanh_backward.grad_input(dy, y, grad_input=out)

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + e^-x)."""
        return torch.sigmoid(x)

    def sigmoid_back(self, dy: Array, y: Array, out: Array | None = None) -> Array:
        """dy y (1 - y)."""
        return aten.sigmoid_backward(dy, y) if out is None else aten.sigmoid_backward.grad_input(dy, y, grad_input=out)

    def inner(self, a: Array, b: Array) -> Array:
        """Maps as the channels-last rows they are stored as."""
        if a.dim() == 4:
            a, b = (each.permute(0, 2, 3, 1) for each in (a, b))
        return torch.dot(a.reshape(-1), b.reshape(-1))

    def unlike_signs(self, a: Array, b: Array) -> Array:
        """On a CPU NumPy compares, which takes a third of PyTorch's time."""
        if a.device.type != "cpu":
            return (torch.sign(a) != torch.sign(b)).sum()
        return torch.tensor(float(unlike(np, a.numpy(), b.numpy())), dtype=torch.float64)

    def where(self, condition: Array, a: Any, b: Any) -> Array:
        """a where the condition holds, else b."""
        return torch.where(condition, a, b)

    def maximum(self, a: Array, b: Any) -> Array:
        """Element-wise maximum."""
        return torch.maximum(a, b) if isinstance(b, torch.Tensor) else torch.clamp(a, min=b)

    def relu(self, x: Array, inplace: bool = False) -> Array:
        """max(x, 0)."""
        return torch.relu_(x) if inplace else torch.relu(x)

    def relu_back(self, dy: Array, y: Array, inplace: bool = True) -> Array:
        """dy where y > 0."""
        if inplace:
            return aten.threshold_backward.grad_input(dy, y, 0, grad_input=dy)
        return aten.threshold_backward(dy, y, 0)

    def log_softmax(self, x: Array) -> Array:
        """Along the last axis."""
        return torch.log_softmax(x, -1)

    def cross_entropy(self, x: Array, labels: Array) -> tuple[Array, Array]:
        """Without the one-hot array: its passes are dear where there are many classes."""
        log_p, places = torch.log_softmax(x, -1), labels.unsqueeze(-1)
        loss = log_p.gather(-1, places).squeeze(-1).neg_()
        return loss, log_p.exp_().scatter_(-1, places, -1.0, reduce="add")

    # -- dense -------------------------------------------------------------------------------
    def linear(self, x: Array, W: Array, b: Array | None) -> Array:
        """x @ W + b."""
        if x.dim() > 2:  # all leading axes as rows: one product
            return self.linear(x.reshape(-1, x.shape[-1]), W, b).view(*x.shape[:-1], -1)
        if b is None:
            return torch.matmul(x, W)
        return torch.addmm(b, x, W)

    def linear_down(self, n: Array, V: Array) -> Array:
        """n @ V.T."""
        if n.dim() > 2:
            return self.linear_down(n.reshape(-1, n.shape[-1]), V).view(*n.shape[:-1], -1)
        return torch.matmul(n, V.t())

    def linear_outer(
        self, x: Array, n: Array, out: Array, scale: float, keep: float, bias: Array | None = None
    ) -> None:
        """out <- keep * out + scale * x.T @ n, bias likewise."""
        if x.dim() > 2:
            x, n = x.reshape(-1, x.shape[-1]), n.reshape(-1, n.shape[-1])
        if n.shape[0] == 1 and keep == 1.0:  # what a product would do is sooner done by one pass over the weights
            out.addcmul_(x.t(), n, value=scale)
            if bias is not None:
                bias.add_(n, alpha=scale)
            return
        out.addmm_(x.t(), n, beta=keep, alpha=scale)
        if bias is not None:
            bias.addmm_(self._ones(len(n)).view(1, -1), n, beta=keep, alpha=scale)

    def pseudo_inverse(self, A: Array, cutoff: float) -> Array:
        """By eigenvalues."""
        values, axes = torch.linalg.eigh(A.to(torch.float64))
        inverse = torch.where(values > cutoff * values[-1], 1.0 / values, 0.0)
        return ((axes * inverse) @ axes.t()).to(self._dtype)

    # -- convolution -------------------------------------------------------------------------
    def conv(self, x: Array, W: Array, b: Array | None, window: Window) -> Array:
        """Cross-correlation."""
        x, pad = self._padded(x, window)
        return aten.convolution(
            x, W, None if b is None else b.reshape(-1), window.stride, pad, (1, 1), False, (0, 0), 1
        )

    def conv_down(self, n: Array, V: Array, window: Window, b: Array | None = None) -> Array:
        """The adjoint of ``conv``, as its own backward computes it."""
        top, bottom, left, right = window.pad
        (kh, kw), (sh, sw), (h, w) = window.kernel, window.stride, window.size
        symmetric = window.is_symmetric
        pad = (top, left) if symmetric else (0, 0)
        rest = ((h + top + bottom - kh) % sh, (w + left + right - kw) % sw)  # rows and columns no window starts on
        dx = aten.convolution(n, V, None if b is None else b.reshape(-1), window.stride, pad, (1, 1), True, rest, 1)
        return dx if symmetric else self.image(dx[:, :, top : top + h, left : left + w])

    def conv_outer(
        self, x: Array, n: Array, out: Array, window: Window, scale: float, keep: float, bias: Array | None = None
    ) -> None:
        """out <- keep * out + scale * dW, bias likewise."""
        x, pad = self._padded(x, window)
        _, dW, db = aten.convolution_backward(
            n, x, out, [out.shape[0]], window.stride, pad, (1, 1), False, (0, 0), 1, (False, True, bias is not None)
        )
        _mix(out, dW, scale, keep)
        if bias is not None:
            _mix(bias, db.view_as(bias), scale, keep)

    def _padded(self, x: Array, window: Window) -> tuple[Array, tuple[int, int]]:
        """x and the symmetric padding the kernel is to add; one-sided padding is added here."""
        top, bottom, left, right = window.pad
        if window.is_symmetric:
            return x, (top, left)
        return torch.nn.functional.pad(x, (left, right, top, bottom)), (0, 0)

    # -- pooling -----------------------------------------------------------------------------
    def maxpool(self, x: Array, window: Window) -> tuple[Array, Array]:
        """Largest in-image element and its place."""
        pad = _pool_padding(window)
        if pad is None:
            top, bottom, left, right = window.pad
            padded = torch.nn.functional.pad(x, (left, right, top, bottom), value=-torch.inf)
            y, which = aten.max_pool2d_with_indices(padded, window.kernel, window.stride, (0, 0), (1, 1), False)
        else:
            y, which = aten.max_pool2d_with_indices(x, window.kernel, window.stride, pad, (1, 1), True)
        return y, which

    def maxpool_back(self, dy: Array, x: Array, which: Array, window: Window) -> Array:
        """To the winners."""
        pad = _pool_padding(window)
        if pad is not None:
            return aten.max_pool2d_with_indices_backward(dy, x, window.kernel, window.stride, pad, (1, 1), True, which)
        top, bottom, left, right = window.pad
        h, w = window.size
        padded = torch.nn.functional.pad(x, (left, right, top, bottom))
        dx = aten.max_pool2d_with_indices_backward(
            dy, padded, window.kernel, window.stride, (0, 0), (1, 1), False, which
        )
        return self.image(dx[:, :, top : top + h, left : left + w])

    def maxpool_take(self, x: Array, which: Array, window: Window) -> Array:
        """What x holds at the elements that won."""
        if _pool_padding(window) is None:
            top, bottom, left, right = window.pad
            x = torch.nn.functional.pad(x, (left, right, top, bottom))
        N, C = x.shape[:2]  # as rows of channels, which is how maps lie in memory
        rows, places = (a.permute(0, 2, 3, 1).reshape(N, -1, C) for a in (x, which))
        return rows.gather(1, places).view(N, *window.output, C).permute(0, 3, 1, 2)

    def avgpool(self, x: Array, window: Window) -> Array:
        """Mean of the in-image elements."""
        pad = _pool_padding(window)
        if pad is not None:
            return aten.avg_pool2d(x, window.kernel, window.stride, pad, True, False, None)
        top, bottom, left, right = window.pad
        padded = torch.nn.functional.pad(x, (left, right, top, bottom))
        total = aten.avg_pool2d(padded, window.kernel, window.stride, (0, 0), False, True, 1)
        return total.mul_(self._shares(window))

    def avgpool_back(self, dy: Array, x: Array, window: Window) -> Array:
        """The adjoint of ``avgpool``."""
        pad = _pool_padding(window)
        if pad is not None:
            return aten.avg_pool2d_backward(dy, x, window.kernel, window.stride, pad, True, False, None)
        top, bottom, left, right = window.pad
        h, w = window.size
        padded = x.new_empty(1).expand(*x.shape[:2], h + top + bottom, w + left + right)
        dx = aten.avg_pool2d_backward(
            self.image(dy * self._shares(window)), padded, window.kernel, window.stride, (0, 0), False, True, 1
        )
        return self.image(dx[:, :, top : top + h, left : left + w])

    def _shares(self, window: Window) -> Array:
        """1 / in-image elements of every window."""
        top, bottom, left, right = window.pad
        inside = torch.nn.functional.pad(
            torch.ones((1, 1, *window.size), dtype=self._dtype, device=self._device), (left, right, top, bottom)
        )
        return 1 / aten.avg_pool2d(inside, window.kernel, window.stride, (0, 0), False, True, 1)

    # -- normalization -----------------------------------------------------------------------
    def standardize(self, x: Array, eps: float) -> tuple[Array, Array, Array]:
        """z, mean, sigma."""
        return self._standardize(x, eps, None, None)

    def standardize_back(self, dz: Array, x: Array, mean: Array, sigma: Array) -> Array:
        """Through both statistics."""
        return self._standardize_back(dz, x, mean, sigma, None)[0]

    def standardize_scaled(self, x: Array, eps: float, gain: Array, bias: Array) -> tuple[Array, Array, Array]:
        """gain z + bias in one kernel, mean, sigma."""
        return self._standardize(x, eps, gain.reshape(-1), bias.reshape(-1))

    def standardize_scaled_back(
        self, dy: Array, x: Array, mean: Array, sigma: Array, gain: Array
    ) -> tuple[Array, Array, Array]:
        """dx, dgain, dbias in one kernel."""
        dx, dgain, dbias = self._standardize_back(dy, x, mean, sigma, gain.reshape(-1))
        return dx, dgain, dbias

    def standardize_rows(self, x: Array, eps: float) -> tuple[Array, Array, Array]:
        """By its own kernel."""
        return torch.native_layer_norm(x, [x.shape[1]], None, None, eps)

    def standardize_rows_back(self, dz: Array, x: Array, mean: Array, inverse: Array) -> Array:
        """By its own kernel."""
        return aten.native_layer_norm_backward(dz, x, [x.shape[1]], mean, inverse, None, None, (True, False, False))[0]

    def _standardize(self, x: Array, eps: float, gain: Array | None, bias: Array | None) -> tuple[Array, Array, Array]:
        y, mean, inverse = torch.native_batch_norm(x, gain, bias, None, None, True, 0.0, eps)
        return y, mean, inverse.reciprocal()

    def _standardize_back(self, dy: Array, x: Array, mean: Array, sigma: Array, gain: Array | None) -> Any:
        learns = gain is not None
        return aten.native_batch_norm_backward(
            dy, x, gain, None, None, mean, sigma.reciprocal(), True, 0.0, (True, learns, learns)
        )

    def channel_deviation(self, x: Array, centre: Array | float) -> Array:
        """In parts that stay in the cache."""
        axes, room = (0, *range(2, x.dim())), self._room(x)
        total: Any = 0.0
        for (part,) in self._parts(x):
            total = total + torch.sub(part, centre, out=room[: len(part)]).abs_().sum(axes, keepdim=True)
        return total * (x.shape[1] / x.numel())

    def channel_moments(self, x: Array, p: float) -> tuple[Array, Array, Array | float]:
        """Of p = 2 by the kernel of batch normalization; of p = 1 with both sums around the mean in one pass."""
        per_channel = (1, -1, *(1 for _ in x.shape[2:]))
        if p == 2.0:
            mean, variance = aten.batch_norm_update_stats(x, None, None, 0.0)
            return mean.view(per_channel), variance.view(per_channel), 0.0
        mean, room = x.mean((0, *range(2, x.dim())), keepdim=True), self._room(x)
        signs = along = torch.zeros_like(mean)
        for (part,) in self._parts(x):
            d = torch.sub(part, mean, out=room[: len(part)])
            sums = self.channel_sums(d.sign_(), part, mean)
            signs, along = signs + sums[0], along + sums[1]
        share = x.shape[1] / x.numel()
        return mean, along * share, signs * share

    def channel_scaled(self, x: Array, mean: Array, scale: Array, shift: Array | None = None) -> Array:
        """By the kernel that normalizes with given statistics."""
        ones = self._ones(x.shape[1])
        shift = None if shift is None else shift.reshape(-1)
        return torch.native_batch_norm(x, scale.reshape(-1), shift, mean.reshape(-1), ones, False, 0.0, 0.0)[0]

    def channel_sums(self, dy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
        """Both in one pass."""
        ones = self._ones(x.shape[1])
        _, second, first = aten.native_batch_norm_backward(
            dy, x, ones, None, None, mean.reshape(-1), ones, True, 0.0, (False, True, True)
        )
        return first.reshape(mean.shape), second.reshape(mean.shape)

    def channel_mix(
        self, dy: Array, scale: Array, x: Array, centre: Array | float, slope: Array, shift: Array, p: float
    ) -> Array:
        """In parts that stay in the cache, written into dy."""
        room = self._room(x)
        if p == 2.0:
            shift = shift - slope * centre
        for dys, xs in self._parts(dy, x):
            h = xs if p == 2.0 else torch.sub(xs, centre, out=room[: len(xs)]).sign_()
            shifted = torch.addcmul(shift, h, slope, out=room[: len(xs)])
            torch.addcmul(shifted, dys, scale, out=dys)
        return dy

    def _ones(self, count: int) -> Array:
        if count not in self._kept_ones:
            self._kept_ones[count] = torch.ones(count, dtype=self._dtype, device=self._device)
        return self._kept_ones[count]

    def _parts(self, *arrays: Array) -> Any:
        """Some samples of every array at a time: few enough for a CPU's cache, all of them on a GPU."""
        return zip(*(array.split(self._at_once(array)) for array in arrays), strict=True)

    def _room(self, x: Array) -> Array:
        """For one part of x, to work in."""
        return torch.empty_like(x[: self._at_once(x)])

    def _at_once(self, x: Array) -> int:
        """How many samples make a part."""
        samples, size = len(x), x.numel() * x.element_size()
        return samples if self._device.type != "cpu" or size <= CACHED else max(1, CACHED * samples // size)

    # -- random numbers ----------------------------------------------------------------------
    def uniform(self, stream: Stream, out: Array) -> None:
        """U[0, 1): on the CPU what the numpy backend draws, on a GPU the device's own numbers."""
        if self._device.type == "cpu":
            drawn = stream.generator().random(tuple(out.shape), dtype=np.dtype(self.dtype).type)
            out.copy_(torch.from_numpy(drawn))
        else:
            generator = torch.Generator(self._device).manual_seed(stream.key() & (2**63 - 1))
            out.uniform_(generator=generator)


def _mix(out: Array, new: Array, scale: float, keep: float) -> None:
    """out <- keep * out + scale * new; keep = 0 ignores what out held."""
    if keep:
        out.mul_(keep).add_(new, alpha=scale)
    else:
        torch.mul(new, scale, out=out)


def _pool_padding(window: Window) -> tuple[int, int] | None:
    """The padding with which PyTorch's pools, in ceil mode, lay the same windows; None where they cannot."""
    top, _, left, _ = window.pad
    (kh, kw), (h, w), output = window.kernel, window.size, window.output
    if top * 2 > kh or left * 2 > kw:
        return None
    if (
        _ceil(h + 2 * top, kh, window.stride[0], h + top),
        _ceil(w + 2 * left, kw, window.stride[1], w + left),
    ) != output:
        return None
    return top, left


def _ceil(padded: int, kernel: int, stride: int, last_start: int) -> int:
    """How many windows PyTorch lays in ceil mode: the last one must start inside the map or its left padding."""
    count = -(-(padded - kernel) // stride) + 1
    return count - 1 if (count - 1) * stride >= last_start else count
