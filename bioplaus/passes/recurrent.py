"""Once up, once down, over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PositiveInt

from bioplaus.construct import Wanted
from bioplaus.errors import ShapeError
from bioplaus.parts import Site
from bioplaus.passes.feedforward import UpAndBack


@dataclass(frozen=True)
class Recurrent:
    """Every layer in order, over ``steps`` time steps at once; errors back through layers and time.

    Samples are sequences: x (T, N, ...) or (T, N) whole numbers. Cells (rnn, gru, lstm) run over time and go on from
    batch to batch; errors stop where a batch begins. All other layers do to every step what they do to a sample; a norm
    keeps one store of statistics per step, if it keeps them by visit.

    Source: Williams & Peng (1990), truncated backpropagation through time; Liao (2017), ch. 4.
    """

    steps: Annotated[PositiveInt, Wanted("a whole number above 0: time steps that a batch holds")]

    def place(self, site: Site, network: Any) -> UpAndBack:
        """All layers as one chain, which nobody below listens to."""
        shape = tuple(network.input)
        if len(shape) > 1:
            raise ShapeError(
                f"pass recurrent: input {list(shape)} given, wanted symbols or one vector a step. "
                "Write input: symbols, or take another pass."
            )
        root, output = site.chain(network.layers, shape, steps=self.steps)
        root.wire(False)
        return UpAndBack(root, output, self.steps)
