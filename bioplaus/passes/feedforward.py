"""Once up, once down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bioplaus.backend.base import Array
from bioplaus.parts import At, Batch, Learn, Site, Unit


@dataclass(frozen=True)
class Feedforward:
    """Every layer in order; errors back through every layer in reverse.

    Source: Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating errors.
    """

    def place(self, site: Site, network: Any) -> UpAndBack:
        """All layers as one chain, which nobody below listens to."""
        root, output = site.chain(network.layers, tuple(network.input))
        root.wire(False)
        return UpAndBack(root, output)


@dataclass(frozen=True)
class UpAndBack:
    """x through the root; the error at the output back through it."""

    root: Unit
    output: tuple[int, ...]
    steps: int = 0
    provides = {"output"}

    @property
    def units(self) -> tuple[Unit]:
        """For whoever walks."""
        return (self.root,)

    def forward(self, batch: Batch, at: At) -> tuple[dict[str, Array], Any]:
        """({"output": (N, outputs), or (T, N, outputs) of sequences}, tape)."""
        output, tape = self.root.forward(batch.x, at._replace(starts=batch.starts))
        return {"output": output}, tape

    def back(self, errors: Mapping[str, Array], tape: Any, learn: Learn) -> None:
        """From the error at the output down to whoever still listens."""
        back_from_output(self.root, errors["output"], tape, learn)


def back_from_output(unit: Unit, top: Array, tape: Any, learn: Learn) -> Array | None:
    """The error at the output, through the unit it came from; it stays as it is, for channels that ask for it."""
    spared = getattr(unit, "spares_error", False)
    return unit.back(top if spared else top + 0.0, tape, top, learn)
