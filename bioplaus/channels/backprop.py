"""Errors come back through the forward weights: backpropagation."""

from __future__ import annotations

from bioplaus.backend.base import Array
from bioplaus.backend.streams import Stream
from bioplaus.parts import Map, State


class Backprop:
    """V = W: the true gradient.

    Source: Rumelhart, Hinton & Williams (1986).
    """

    exact_gradient = True
    signs_agree = True

    def init(self, map: Map, W: Array, top: int, stream: Stream) -> State:
        """V is W itself."""
        return {"V": W}

    def refresh(self, map: Map, W: Array, state: State, stream: Stream) -> None:
        """Nothing to do: V is W."""

    def carry(self, map: Map, dn: Array, top: Array, state: State) -> Array:
        """dn through W."""
        return map.down(dn, state["V"])
