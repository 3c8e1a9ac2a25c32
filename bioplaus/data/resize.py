"""Brings images to another size by bilinear interpolation; the aspect is not kept."""

from __future__ import annotations

import numpy as np

from bioplaus.backend.base import Array

PIXELS_AT_ONCE = 1 << 23  # 32 MB of float32


def resize(x: Array, size: tuple[int, int]) -> Array:
    """Images at another size.

    Every new pixel is a weighted mean of the old pixels around its centre, weights falling linearly to zero at one
    pixel's distance (upward) or at as many as one new pixel covers (downward, so that nothing is skipped).

    Parameters
    ----------
    x : uint8 or float32 (N, C, H, W)
    size : (height, width)

    Returns
    -------
    array (N, C, height, width)     of x's type; uint8 is rounded to the nearest
    """
    n, channels, height, width = x.shape
    rows, columns = weights(height, size[0]), weights(width, size[1])
    out = np.empty((n, channels, *size), x.dtype)
    step = max(1, PIXELS_AT_ONCE // (channels * max(height * width, size[0] * size[1])))
    for start in range(0, n, step):
        part = rows @ (x[start : start + step].astype(np.float32) @ columns.T)
        out[start : start + step] = np.rint(part).clip(0, 255) if x.dtype == np.uint8 else part
    return out


def weights(old: int, new: int) -> Array:
    """How much each old pixel along one axis gives to each new one: float32 (new, old), rows summing to 1."""
    reach = max(old / new, 1.0)
    centres = (np.arange(new) + 0.5) * old / new
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None]) / reach
    triangle = np.maximum(0.0, 1.0 - distance)
    return (triangle / triangle.sum(1, keepdims=True)).astype(np.float32)
