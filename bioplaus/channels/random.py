"""Feedback alignment: errors come back through fixed random weights."""

from __future__ import annotations

from dataclasses import dataclass

from bioplaus.backend.base import Array
from bioplaus.backend.streams import Stream
from bioplaus.parts import Map, State


@dataclass(frozen=True)
class RandomFeedback:
    """V ~ N(0, std^2), drawn once: random feedback (RndF).

    Source: Lillicrap et al. (2016); std 0.05 as in Liao, Leibo & Poggio (2016).
    """

    std: float = 0.05
    fixed = True

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"std is {self.std}; wanted a number above 0")

    def init(self, map: Map, W: Array, top: int, stream: Stream) -> State:
        """V, the same on every backend."""
        return {"V": map.xp.array(stream.generator().normal(0.0, self.std, tuple(W.shape)))}

    def refresh(self, map: Map, W: Array, state: State, stream: Stream) -> None:
        """Nothing to do: V stays."""

    def carry(self, map: Map, dn: Array, top: Array, state: State) -> Array:
        """dn through V."""
        return map.down(dn, state["V"])
