"""Images side by side in one array."""

from __future__ import annotations

import numpy as np

from bioplaus.backend.base import Array

THICK = 8  # a vector is drawn as a strip, so many times as long as it is thick


def images(x: Array) -> Array:
    """(..., 1 or 3, H, W): samples as they can be drawn.

    Parameters
    ----------
    x : array (n, C, H, W) or (n, features)     other numbers of channels are stacked; a vector becomes a strip
    """
    if x.ndim == 2:
        return np.repeat(x[:, None, None], max(1, x.shape[1] // THICK), axis=2)
    n, channels, height, width = x.shape
    return x if channels in (1, 3) else x.reshape((n, 1, channels * height, width))


def mosaic(tiles: Array, gaps: tuple[int, int] = (1, 1)) -> Array:
    """Rows and columns of tiles as one image, not a number in the gaps between them.

    Parameters
    ----------
    tiles : array (rows, columns, C, H, W)
    gaps : pixels between rows, between columns

    Returns
    -------
    array (C, rows * (H + gap) - gap, columns * (W + gap) - gap)
    """
    rows, columns, channels, height, width = tiles.shape
    below, beside = gaps
    wide = np.full((rows, columns, channels, height + below, width + beside), np.nan)
    wide[..., :height, :width] = tiles
    whole = wide.transpose(2, 0, 3, 1, 4).reshape((channels, rows * (height + below), columns * (width + beside)))
    return whole[:, : rows * (height + below) - below, : columns * (width + beside) - beside]


def rows(tiles: Array, columns: int) -> Array:
    """(n, ...) -> (rows, columns, ...), row by row; not a number where the last row ends early."""
    count = -(-len(tiles) // columns)
    full = np.full((count * columns, *tiles.shape[1:]), np.nan)
    full[: len(tiles)] = tiles
    return full.reshape((count, columns, *tiles.shape[1:]))
