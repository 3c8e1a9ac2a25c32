"""Direct feedback alignment: the output's error goes straight to every layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from bioplaus.backend.base import Array
from bioplaus.backend.streams import Stream
from bioplaus.parts import Map, State


@dataclass(frozen=True)
class DirectFeedback:
    """dx = top @ V with V ~ N(0, std^2) of shape (outputs, inputs of this layer), drawn once.

    What this layer hands to the one below does not depend on its own error. On the last layer the
    error has one layer to travel, as in feedback alignment.

    Source: Nøkland (2016), Direct feedback alignment provides learning in deep neural networks.
    """

    std: float = 0.05
    fixed = True

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"std is {self.std}; wanted a number above 0")

    def init(self, map: Map, W: Array, top: int, stream: Stream) -> State:
        """V (outputs, inputs), the same on every backend."""
        return {"V": map.xp.array(stream.generator().normal(0.0, self.std, (top, prod(map.input))))}

    def refresh(self, map: Map, W: Array, state: State, stream: Stream) -> None:
        """Nothing to do: V stays."""

    def carry(self, map: Map, dn: Array, top: Array, state: State) -> Array:
        """The output's error through V, in the shape of this layer's input."""
        dx = map.xp.linear(top, state["V"], None)
        return map.xp.image(dx.reshape((*dx.shape[:-1], *map.input)))
