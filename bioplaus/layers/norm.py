"""Where a network lets the rule normalize."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bioplaus.parts import Site, Unit


@dataclass(frozen=True)
class NormHere:
    """A place for the norm of a weight layer; nothing where the rule has none there.

    It is the norm of the layer just before it (``of: last``). Where its chain has none, or ``of: next`` is said,
    it is that of the layer after it: norm, relu, conv.

    Source: Ioffe & Szegedy (2015), Batch normalization: between the weights and what follows them.
    """

    of: Literal["last", "next"] = "last"

    @property
    def in_layer(self) -> bool:
        """Whether it belongs to the layer before it."""
        return self.of == "last"

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit | None, tuple[int, ...]]:
        """Takes any shape."""
        return site.norm(shape), shape
