"""What is left of a network, layer by layer: weights, neurons, activity, and the operations these leave.

As tables 16 to 18 of the NINAI report (2017) have it; activity is counted over the test set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from bioplaus.backend.base import Array
from bioplaus.network import Network
from bioplaus.ops import flops
from bioplaus.parts import TEST, Batch
from bioplaus.train.feed import Feed, TextFeed
from bioplaus.units import Node


@dataclass(frozen=True)
class Row:
    """One layer, or the whole network; the last four are in percent.

    weights : without biases · flops : of one sample on its way up, with all weights and activities · kept : weights
    that exist · neurons : that exist · active : of what the next weight layer is given, after pooling, how much is not
    zero; of the output, in the last layer · flops_left : kept x neurons x active of the layer before; of the input
    everything counts as active
    """

    layer: str
    weights: int
    flops: int
    kept: float
    neurons: float
    active: float
    flops_left: float


@dataclass
class Count:
    """Numbers given to a layer, and how many of them are not zero."""

    given: int = 0
    active: int = 0

    def add(self, x: Array) -> None:
        """Take these in; reads from the device."""
        self.given += prod(x.shape)
        self.active += int((x != 0.0).sum())

    @property
    def share(self) -> float:
        """Of all that was given."""
        return self.active / self.given


@contextmanager
def hearing(nodes: Sequence[Node], hear: Callable[[Node, Array], None]) -> Iterator[None]:
    """Inside it, ``hear`` is told whatever each weight layer is given on the way up."""
    maps = [node.map for node in nodes]
    for node in nodes:
        node.map = _Heard(node, hear)
    try:
        yield
    finally:
        for node, map in zip(nodes, maps, strict=True):
            node.map = map


class _Heard:
    """A node's map, which tells somebody what it is given."""

    def __init__(self, node: Node, hear: Callable[[Node, Array], None]) -> None:
        self.node, self.map, self.hear = node, node.map, hear

    def up(self, x: Array, W: Array, b: Array | None = None) -> Array:
        self.hear(self.node, x)
        return self.map.up(x, W, b)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.map, name)


def rows(network: Network, feed: Feed | TextFeed, size: int) -> list[Row]:
    """Every weight layer in the order they run, then the total.

    In the total weights count by their number, neurons and activities by theirs, operations by what all would take.
    """
    nodes, output = network.nodes, Count()
    counts = {node.name: Count() for node in nodes}
    with hearing(nodes, lambda node, x: counts[node.name].add(x)), network.xp.scope():
        for batch in every_sample(feed, size):
            output.add(network.pass_.forward(batch, TEST)[0]["output"])
    samples = output.given // prod(network.output)
    found, below = [], 1.0
    for node, above in zip(nodes, [*list(counts.values())[1:], output], strict=True):
        visits = counts[node.name].given // prod(node.map.input) // samples
        found.append(_row(node, visits, below, above.share))
        below = above.share
    return [*found, _total(nodes, found)]


def every_sample(feed: Feed | TextFeed, size: int) -> Iterator[Batch]:
    """Every test sample once; the last batch of images may be smaller."""
    for batch in feed.testing(min(size, len(feed))):
        real = len(batch.x) if isinstance(feed, TextFeed) else int(batch.weight.sum())
        yield batch if real == len(batch.x) else Batch(batch.x[:real], batch.y[:real])


def _row(node: Node, visits: int, below: float, active: float) -> Row:
    mask = None if node.survivors is None else node.survivors.mask
    share = 1.0 if mask is None else float(mask.sum()) / prod(mask.shape)
    kept, neurons = (share, 1.0) if node.neurons is None else (1.0, share)
    percent = (100.0 * each for each in (kept, neurons, active, flops.left(kept * neurons, below)))
    return Row(node.name, prod(node.map.shape), flops.whole(node.map) * visits, *percent)


def _total(nodes: Sequence[Node], found: Sequence[Row]) -> Row:
    neurons = [prod(node.map.output) for node in nodes]
    sizes = {
        "kept": [row.weights for row in found],
        "neurons": neurons,
        "active": [*(prod(node.map.input) for node in nodes[1:]), neurons[-1]],
        "flops_left": [row.flops for row in found],
    }
    shares = {name: flops.total([getattr(row, name) for row in found], each) for name, each in sizes.items()}
    return Row("total", sum(sizes["kept"]), sum(sizes["flops_left"]), **shares)
