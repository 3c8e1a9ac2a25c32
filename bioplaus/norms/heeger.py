"""Divisive normalization with weights of its own: what each unit sums, and what suppresses it.

    y = gamma (u' n) / (sigma^2 + w' |n|^p)^(1/p)

Source: NINAI report (2017), eq. 5, after Heeger (1992), Normalization of cell responses in cat striate cortex.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from bioplaus.backend.base import Array, Backend
from bioplaus.construct import Wanted
from bioplaus.errors import ShapeError
from bioplaus.ops import moments
from bioplaus.parts import At, State

Matrix = Annotated[tuple[tuple[float, ...], ...], Wanted("a square of numbers: a row for each channel")]


class Fitted(dict[str, Array]):
    """The weights as arrays, and how many groups of channels each see only their own; no array a checkpoint holds."""

    def __init__(self, u: Array | None, w: Array | None, groups: int) -> None:
        super().__init__()
        self.u, self.w, self.groups = u, w, groups

    def split(self, n: Array) -> Array:
        """(N, groups, channels of one, places)."""
        return n.reshape((n.shape[0], self.groups, n.shape[1] // self.groups, -1))


@dataclass(frozen=True)
class Heeger:
    """y = gamma (u' n) / (sigma^2 + w' |n|^p)^(1/p), over the channels at each place, or the units of a dense layer.

    ``summation`` is u, ``suppression`` w: row i holds what channel i gives to each channel. Without them a channel sums
    itself alone, and all channels suppress it alike, 1 / channels each. Nothing is taken away from n.

    Source: NINAI report (2017), eq. 5; Heeger (1992).
    """

    sigma: float = 1.0
    p: float = 2.0
    gamma: float = 1.0
    summation: Matrix | None = None
    suppression: Matrix | None = None
    affine: bool = False

    removes_bias: ClassVar[bool] = False
    collects: ClassVar[int] = 0
    by_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.sigma > 0.0:
            raise ValueError(f"sigma is {self.sigma}; wanted a number above 0")
        if not self.p >= 1.0:
            raise ValueError(f"p is {self.p}; wanted a number of at least 1")
        for name in ("summation", "suppression"):
            rows = getattr(self, name) or ()
            if any(len(row) != len(rows) for row in rows):
                raise ValueError(f"{name} has {len(rows)} rows; wanted as many numbers in each of them")
        if any(weight < 0.0 for row in self.suppression or () for weight in row):
            raise ValueError("suppression has a weight below 0; wanted 0 or more")

    def init(self, xp: Backend, shape: tuple[int, ...], visits: int = 1, groups: int = 1) -> Fitted:
        """For samples of ``shape`` (C, H, W) or (units,), whose channels are ``groups`` that never mix.

        Raises
        ------
        ShapeError      the weights are of another number of channels
        """
        channels = shape[0] // groups
        for name in ("summation", "suppression"):
            rows = getattr(self, name)
            if rows is not None and len(rows) != channels:
                raise ShapeError(
                    f"norm 'heeger': {name} is {len(rows)}×{len(rows)}, the layer has {channels} channels. "
                    f"Give {channels} rows of {channels} numbers, or leave it out."
                )
        u, w = (None if rows is None else xp.array(rows) for rows in (self.summation, self.suppression))
        return Fitted(u, w, groups)

    def forward(self, xp: Backend, n: Array, state: Fitted, at: At) -> tuple[Array, Array]:
        """y, and n for the way back."""
        y = moments.heeger(xp, state.split(n), state.u, state.w, self.sigma, self.p, self.gamma)
        return y.reshape(n.shape), n

    def back(self, xp: Backend, dz: Array, state: Fitted, cache: Array) -> Array:
        """The error at n, through what sums and what suppresses."""
        dn = moments.heeger_back(
            xp, state.split(dz), state.split(cache), state.u, state.w, self.sigma, self.p, self.gamma
        )
        return dn.reshape(dz.shape)

    def begin_collecting(self, state: State) -> None:
        """Nothing to collect."""

    def updated(self, xp: Backend, state: State) -> None:
        """Nothing moves with the weights."""
