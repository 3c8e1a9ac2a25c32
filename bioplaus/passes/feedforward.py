"""Once up, once down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bioplaus.backend.base import Array
from bioplaus.parts import At, Batch, Learn, Unit


@dataclass(frozen=True)
class Feedforward:
    """x through every unit in order; the error at the output back through every unit in reverse."""

    root: Unit
    provides = {"output"}

    def forward(self, batch: Batch, at: At) -> tuple[dict[str, Array], Any]:
        """({"output": (N, outputs)}, tape)."""
        output, tape = self.root.forward(batch.x, at)
        return {"output": output}, tape

    def back(self, errors: Mapping[str, Array], tape: Any, learn: Learn) -> None:
        """From the error at the output down to whoever still listens."""
        top = errors["output"]
        self.root.back(top + 0.0, tape, top, learn)  # units may write into the error they are given
