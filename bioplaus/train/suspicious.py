"""A listener that looks at every weight after every update: slow, and only for finding where a value blew up."""

from __future__ import annotations

import math

from bioplaus.backend.base import Array
from bioplaus.network import Network
from bioplaus.parts import Batch
from bioplaus.train.listeners import Listener, Moment
from bioplaus.train.loop import Diverged
from bioplaus.units import GainBias, Node, Numbers


class Suspicious(Listener):
    """Stops training at the first update that leaves a weight which is not finite.

    Raises
    ------
    Diverged        names the topmost layer whose dW was not finite, since errors travel down from there; where every
                    dW was, the first layer whose weights are not
    """

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.blown: list[str] = []

    def updating(self, network: Network, batch: Batch, moment: Moment) -> None:
        """Which dW are not finite, before an update takes their signs."""
        self.blown = [node.name for node in network.nodes if node.keep and not _finite(network, node.weights.dW)]

    def updated(self, network: Network, batch: Batch, moment: Moment) -> None:
        """Whether all weights are."""
        if self.blown:
            raise Diverged(layer=self.blown[-1], what="dW")
        units: list[Node | GainBias | Numbers] = [*network.nodes, *network.gains]
        for unit in units:
            if not all(_finite(network, parameter.W) for parameter in unit.arrays()):
                raise Diverged(layer=unit.name, what="W")


def _finite(network: Network, a: Array) -> bool:
    with network.xp.scope():
        return math.isfinite(float((a * 0.0).sum()))
