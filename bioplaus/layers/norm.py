"""Where a network lets the rule normalize."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bioplaus.parts import Site, Unit


@dataclass(frozen=True)
class NormHere:
    """A place for the norm of the weight layer just before it; nothing where the rule has none there."""

    in_layer: ClassVar[bool] = True

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit | None, tuple[int, ...]]:
        """Takes any shape."""
        return site.norm(shape), shape
