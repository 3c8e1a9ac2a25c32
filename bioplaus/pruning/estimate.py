"""How much a synapse or a neuron is used, as one visit of a batch tells it."""

from __future__ import annotations

from math import prod
from typing import Literal, Protocol

from bioplaus.backend.base import Array
from bioplaus.ops.flops import places
from bioplaus.parts import Local, Map

Of = Literal["synapses", "neurons"]
Judged = Literal["averages", "sizes", "weights"]


class Estimate(Protocol):
    """Claims: ``of`` and ``needs`` as Pruning has them; ``judged`` says what a cut will see.

    ``averages`` are of something that is 0 or 1 in every sample; ``weights`` are |W| itself, which needs no watching.
    """

    of: Of
    needs: set[str]
    judged: Judged

    def now(self, map: Map, local: Local, W: Array) -> Array:
        """The use at this visit, of W's shape or of a batch of one y."""


class Coincidence:
    """Mean over samples and places of [x > 0] [y > 0]: both ends of the synapse are active. Padding is not.

    One product of two binary arrays, as dear as the layer's dW.
    """

    of: Of = "synapses"
    needs = {"x", "y"}
    judged: Judged = "averages"

    def now(self, map: Map, local: Local, W: Array) -> Array:
        """See Estimate."""
        x = local.x if map.input == () else map.xp.floats(local.x > 0.0)  # of words, one is active
        return _together(map, x, local.y)


class Contribution:
    """Mean over samples and places of |w x| [y > 0]: what the synapse adds, either way, to an active unit.

    Tells synapses apart also where every input is above zero.
    """

    of: Of = "synapses"
    needs = {"x", "y"}
    judged: Judged = "sizes"

    def now(self, map: Map, local: Local, W: Array) -> Array:
        """See Estimate."""
        return _together(map, map.xp.abs(local.x), local.y) * map.xp.abs(W)


class Activity:
    """Mean over samples of [y > 0], for every unit at every place of a map."""

    of: Of = "neurons"
    needs = {"y"}
    judged: Judged = "averages"

    def now(self, map: Map, local: Local, W: Array) -> Array:
        """See Estimate."""
        samples = tuple(range(local.y.ndim - len(map.output)))
        return map.xp.floats(local.y > 0.0).mean(samples).reshape((1, *map.output))


class Size:
    """|w|: nothing is watched."""

    of: Of = "synapses"
    needs: set[str] = set()
    judged: Judged = "weights"

    def now(self, map: Map, local: Local, W: Array) -> Array:
        """See Estimate."""
        return map.xp.abs(W)


def samples(map: Map, y: Array) -> int:
    """How many there are in a batch; every time step of a sequence is one."""
    return prod(y.shape[: y.ndim - len(map.output)])


def _together(map: Map, x: Array, y: Array) -> Array:
    """Mean over samples and places of x [y > 0], for every synapse."""
    found = map.xp.zeros(map.shape)
    map.outer(x, map.xp.floats(y > 0.0), found, 1.0 / (samples(map, y) * places(map)), 0.0)
    return found
