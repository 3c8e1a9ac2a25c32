"""A learned gain and bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bioplaus.parts import Site, Unit


@dataclass(frozen=True)
class GainBias:
    """y = gain * x + bias, per channel or unit.

    Source: Ioffe & Szegedy (2015), Batch normalization: the scale and shift behind it.
    """

    in_layer: ClassVar[bool] = True

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes any shape."""
        return site.gain_bias(shape), shape
