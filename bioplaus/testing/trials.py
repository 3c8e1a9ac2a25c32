"""Small arrays and maps to try parts on, and how what comes out is compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.numpy import NumPy
from bioplaus.backend.streams import Stream
from bioplaus.backend.window import Window
from bioplaus.layers.conv import ConvMap
from bioplaus.layers.dense import DenseMap

N = 6  # samples
STEPS = 3  # of time, where samples are sequences
OUTPUTS = 7  # of the network, where a channel wants to know; no size of the maps
CLOSE = 1e-6  # relative; central differences in float64 are good to 1e-9 or so


def small_maps(xp: Backend | None = None) -> list[Any]:
    """A dense map and a strided convolution padded on one side more than on the other."""
    xp = xp or NumPy("float64")
    return [DenseMap(xp, (5,), (4,)), ConvMap(xp, Window((3, 2), (2, 1), (1, 0, 1, 1), (5, 4)), (2, 3))]


def normal(xp: Backend, name: str, shape: tuple[int, ...]) -> Array:
    """Random numbers of a shape, the same for the same name."""
    return xp.array(Stream(0).at("contract", name).generator().normal(size=shape))


def zeroed(xp: Backend, name: str, shape: tuple[int, ...]) -> Array:
    """Likewise, with a 0 in the first place."""
    W = normal(xp, name, shape)
    W[0, 0] = 0.0
    return W


def _host(xp: Backend, x: Any) -> Any:
    return x if isinstance(x, np.ndarray | float | int | np.generic) else xp.host(x)


def are_same(xp: Backend, a: Any, b: Any) -> bool:
    """Equal to the bit; NaN equals NaN."""
    return bool(np.array_equal(_host(xp, a), _host(xp, b), equal_nan=True))


def are_close(xp: Backend, a: Any, b: Any, size: float | None = None) -> bool:
    """Equal to ``CLOSE`` of the size of b (float32 backends: 1e-3)."""
    a, b = np.asarray(_host(xp, a)), np.asarray(_host(xp, b))
    size = float(np.max(np.abs(b), initial=1e-12)) if size is None else size
    tolerance = (CLOSE if xp.dtype == "float64" else 1e-3) * size
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tolerance))


def is_finite(xp: Backend, x: Any) -> bool:
    """All of it."""
    return bool(np.isfinite(_host(xp, x)).all())


def are_slopes(xp: Backend, f: Callable[[], float], x: Array, gradient: Array) -> bool:
    """Whether ``gradient`` is df/dx: central differences along random directions, x changed in place and back."""
    kept, gradient, h = x + 0.0, gradient + 0.0, 1e-5  # a gradient may be x itself
    found, wanted = [], []
    for k in range(6):
        direction = normal(xp, f"direction {k}", tuple(x.shape))
        x[...] = kept + h * direction
        ahead = f()
        x[...] = kept - h * direction
        found.append((ahead - f()) / (2 * h))
        wanted.append(float((gradient * direction).sum()))
    x[...] = kept
    return are_close(xp, np.array(found), np.array(wanted), max(1e-3, float(np.max(np.abs(found)))))
