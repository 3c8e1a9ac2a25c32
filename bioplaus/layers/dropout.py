"""Dropout: inputs missing at random in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.construct import Wanted
from bioplaus.parts import At, Learn, Site, Unit


@dataclass(frozen=True)
class DropoutUnit:
    """y = x m / (1 - p) in training, with m = 0 for a share p of the elements; y = x in testing.

    In a generative model the others are missing: inference goes without them, and they are rendered like all the rest.
    """

    xp: Backend
    p: float
    stream: Stream
    holds_weights = False
    clear = True

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, Array]:
        """y and the mask, drawn anew for every batch and visit."""
        if not (at.train or at.collect):
            return x, None
        mask = self.xp.zeros(x.shape)
        self.xp.uniform(self.stream.at(at.batch, at.visit), mask)
        mask = self.xp.floats(mask >= self.p) / (1.0 - self.p)
        return x * mask, mask

    def back(self, dy: Array, cache: Array, top: Array, learn: Learn) -> Array:
        """Through the same mask."""
        return self.xp.multiply(dy, cache, out=dy)


@dataclass(frozen=True)
class Dropout:
    """A share ``p`` of the inputs is missing in training, at random for every sample.

    Source: Srivastava et al. (2014), with the scale on the training side.
    """

    p: Annotated[float, Field(ge=0.0, lt=1.0), Wanted("the share to drop, from 0 to below 1")] = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.p < 1.0:
            raise ValueError(f"p is {self.p}; wanted a share from 0 up to, not including, 1")

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes any shape."""
        return DropoutUnit(site.xp, self.p, site.stream("dropout")), shape
