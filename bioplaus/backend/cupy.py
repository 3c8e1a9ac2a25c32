"""NumPy's code on a CUDA device, through CuPy 14 or later."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from bioplaus.backend.base import Array
from bioplaus.backend.numpy import NumPy
from bioplaus.backend.streams import Stream
from bioplaus.errors import PartError


class CuPy(NumPy):
    """CuPy on one CUDA device.

    Parameters
    ----------
    dtype : "float32" or "float64"
    device : "cuda" or "cuda:<number>"
    threads : int, optional     recorded; the device does not use it

    Raises
    ------
    PartError                   CuPy is not installed, it sees no GPU, or another dtype or device

    Source: Okuta et al. (2017), CuPy: a NumPy-compatible library for NVIDIA GPU calculations.
    """

    name = "cupy"
    block_bytes = 1 << 28

    def __init__(self, dtype: str = "float32", device: str = "cuda:0", threads: int | None = None) -> None:
        """Takes the device for this thread, so that arrays made outside ``scope`` lie there too."""
        self.np = _library()
        if not self.np.is_available():
            raise PartError(
                f"backend 'cupy': CuPy {self.np.__version__} sees no CUDA GPU. "
                "Run with --backend numpy, or see what nvidia-smi says."
            )
        super().__init__(dtype, device, threads)
        self._card = self.np.cuda.Device(_number(device))
        self._card.use()

    def _check_device(self, device: str) -> None:
        count = self.np.cuda.runtime.getDeviceCount()
        if _number(device) not in range(count):
            raise PartError(
                f"backend 'cupy': device {device!r} given, here are cuda:0 to cuda:{count - 1}. Use one of them."
            )

    @staticmethod
    def available_device() -> str:
        """``cuda:0``."""
        return "cuda:0"

    def scope(self) -> AbstractContextManager[Any]:
        """On this device."""
        card: AbstractContextManager[Any] = self._card
        return card

    def host(self, x: Array) -> Any:
        """A C-ordered numpy copy."""
        return self.np.asnumpy(x, order="C")

    def uniform(self, stream: Stream, out: Array) -> None:
        """out <- U[0, 1), drawn on the device: other numbers than a CPU draws."""
        generator = self.np.random.Generator(self.np.random.Philox4x3210(stream.key()))
        out[...] = generator.random(out.shape, dtype=out.dtype)


def _library() -> Any:
    """CuPy, or one line on how to get it."""
    try:
        import cupy
    except ImportError as error:
        raise PartError(
            "backend 'cupy' is not installed. "
            "Install bioplaus[cuda12] or bioplaus[cuda13], as your driver wants, or run with --backend numpy."
        ) from error
    return cupy


def _number(device: str) -> int:
    """3 for ``cuda:3``, 0 for ``cuda``, -1 for what is no CUDA device."""
    kind, _, number = device.partition(":")
    return int(number or 0) if kind == "cuda" and (number or "0").isdecimal() else -1
