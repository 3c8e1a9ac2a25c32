"""What a layer asks for when it takes its place in a network, offered without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bioplaus.backend.base import Backend
from bioplaus.backend.streams import Stream
from bioplaus.parts import Map
from bioplaus.registry import get
from bioplaus.testing.trials import OUTPUTS, normal
from bioplaus.units import Chain, GainBias, Node, NormSite, Parameter


@dataclass
class Bench:
    """A Site to try one layer on: backpropagation everywhere, batch normalization where a norm may stand."""

    xp: Backend
    name: str = "layer"
    maps: list[Map] = field(default_factory=list)
    within: list[Map] = field(default_factory=list)  # maps of layers within this one
    steps: int = 0
    removes_bias: bool = False
    signals: frozenset[str] = frozenset({"*.template", "reconstruction"})  # looked at where a pass renders

    def inside(self, part: str) -> Bench:
        """The same bench, for one product of a cell."""
        return replace(self, name=f"{self.name}.{part}")

    def node(self, map: Map, init: Any = None, bias: bool = True) -> Node:
        """A weight array behind the map, and a bias where the layer wants one."""
        self.maps.append(map)
        channel, plasticity = get("channel", "bp")(), get("plasticity", "error")()
        weights = self._parameter("W", map.shape, "weights")
        feedback = channel.init(map, weights.W, OUTPUTS, Stream(0).at("V"))
        b = self._parameter("b", map.bias_shape, "bias") if bias else None
        return Node(self.name, self.xp, map, weights, b, channel, feedback, plasticity)

    def gain_bias(self, shape: tuple[int, ...]) -> GainBias:
        """A gain and a bias per channel or unit."""
        ready = (1, shape[0], *(1 for _ in shape[1:]))
        gain, bias = self._parameter("gain", ready, "gain"), self._parameter("bias", ready, "bias")
        return GainBias(self.name, self.xp, gain, bias, frozen=False)

    def norm(self, shape: tuple[int, ...], groups: int = 1) -> NormSite:
        """Batch normalization."""
        norm = get("norm", "batch")()
        return NormSite(self.name, self.xp, norm, norm.init(self.xp, shape, max(1, self.steps), groups))

    def chain(
        self, items: Sequence[Any], shape: tuple[int, ...], visits: int = 1, copy: str = "", steps: int = 0
    ) -> tuple[Chain, tuple[int, ...]]:
        """Layers one after another."""
        inner, units = Bench(self.xp, self.name, steps=steps or self.steps), []
        for place, item in enumerate(items):
            unit, shape = item.place(replace(inner, name=f"{self.name}.{place}"), shape)
            units += [unit] if unit is not None else []
        self.within += inner.maps + inner.within
        return Chain(units), shape

    def stream(self, name: str) -> Stream:
        """Random numbers of this layer's own."""
        return Stream(0).at(self.name, name)

    def _parameter(self, name: str, shape: tuple[int, ...], role: str) -> Parameter:
        W = normal(self.xp, name, shape)
        return Parameter(f"{self.name}.{name}", W, role, self.xp.zeros(shape))


def learners_in(unit: Any) -> list[Any]:
    """Everything with parameters in a unit or pass, itself included."""
    inner = [each for part in getattr(unit, "units", ()) for each in learners_in(part)]
    return [unit, *inner] if hasattr(unit, "parameters") else inner
