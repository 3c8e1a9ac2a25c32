"""Changed copies of training images, drawn anew for every batch: mirrored, shifted.

Images are changed on the device, after centring and scaling, so what comes in from beyond an edge is 0, the mean of
the training samples there (with the recipe ``none``, raw black). What is drawn are a few whole numbers on the host, a
function of the seed, the epoch and the place of the batch in it: the same on every backend and in a resumed run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.construct import listed
from bioplaus.errors import ShapeError


class Transform(Protocol):
    """What is done to the samples of a training batch before the network sees them."""

    def fits(self, shape: tuple[int, ...]) -> None:
        """Raises ShapeError where it cannot be done to samples of this shape."""

    def __call__(self, xp: Backend, x: Array, stream: Stream) -> Array:
        """The samples x (N, ...) changed, as a new array; all that is drawn comes from the stream."""


@dataclass(frozen=True)
class Mirror:
    """A ``share`` of the images is turned left to right.

    Source: Krizhevsky, Sutskever & Hinton (2012), ImageNet classification, section 4.1.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share is {self.share}; wanted a number from 0 to 1")

    def fits(self, shape: tuple[int, ...]) -> None:
        """Images only."""
        _image(shape, "mirror")

    def __call__(self, xp: Backend, x: Array, stream: Stream) -> Array:
        """Every image as it is or mirrored."""
        N, _, H, W = x.shape
        turned = stream.generator().random(N) < self.share
        columns = np.where(turned[:, None], np.arange(W)[::-1], np.arange(W))
        return _read(xp, x, np.tile(np.arange(H), (N, 1)), columns)


@dataclass(frozen=True)
class Shift:
    """Every image is moved by up to ``pixels`` in both directions: padding by as many, then a random crop.

    Source: He, Zhang, Ren & Sun (2016), Deep residual learning, section 4.2.
    """

    pixels: int

    def __post_init__(self) -> None:
        if self.pixels < 1:
            raise ValueError(f"pixels is {self.pixels}; wanted 1 or more")

    def fits(self, shape: tuple[int, ...]) -> None:
        """Images larger than the shift."""
        h, w = _image(shape, "shift")
        if self.pixels >= min(h, w):
            raise ShapeError(f"shift {self.pixels} moves images of {h}×{w} out of sight. Take less.")

    def __call__(self, xp: Backend, x: Array, stream: Stream) -> Array:
        """Every image at its own offset; 0 where it has left."""
        N, _, H, W = x.shape
        down, right = stream.generator().integers(-self.pixels, self.pixels + 1, (2, N, 1))
        return _read(xp, x, np.arange(H) - down, np.arange(W) - right)


def transforms(items: Sequence[Any], shape: tuple[int, ...], where: Callable[[int], str]) -> tuple[Transform, ...]:
    """The transforms of a list: names, ``{name: first parameter, ...}`` or ``{recipe: name, ...}``.

    Parameters
    ----------
    shape : of one sample
    where : place in the list -> what messages begin with

    Raises
    ------
    ConfigError, PartError      as ``construct.make``
    ShapeError                  samples of this shape cannot be changed so
    """
    made = []
    for place, item in enumerate(items):
        transform: Transform = listed("transform", item, where(place), allow_code=True)
        try:
            transform.fits(shape)
        except ShapeError as error:
            raise ShapeError(f"{where(place)}: {error}") from error
        made.append(transform)
    return tuple(made)


def _read(xp: Backend, x: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """y[n, :, i, j] = x[n, :, rows[n, i], columns[n, j]], 0 where that lies outside; rows (N, H'), columns (N, W')."""
    N, _, H, W = x.shape
    inside = ((rows >= 0) & (rows < H))[:, :, None] & ((columns >= 0) & (columns < W))[:, None, :]
    places = np.arange(N)[:, None, None], rows.clip(0, H - 1)[:, :, None], columns.clip(0, W - 1)[:, None, :]
    n, i, j = (xp.raw(place) for place in places)
    y = x[n, :, i, j]  # (N, H', W', C)
    if not inside.all():
        y = y * xp.floats(xp.raw(inside[:, :, :, None].copy()))
    return xp.image(y.swapaxes(-1, -2).swapaxes(-2, -3))


def _image(shape: tuple[int, ...], name: str) -> tuple[int, int]:
    if len(shape) != 3:
        given = f"samples of {shape}" if shape else "single symbols or numbers"
        raise ShapeError(f"{name} wants images (channels, height, width), given {given}. Leave it out.")
    return shape[1], shape[2]
