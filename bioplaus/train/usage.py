"""What is left of a network, layer by layer: weights, neurons, activity, and the operations these leave.

As tables 16 to 21 of the NINAI report (2017) have it; activity is counted over the test set. A generative network also
works on its way down, when it renders the class it has inferred.
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
from bioplaus.rendering import reconstruct, renders
from bioplaus.train.feed import Feed, TextFeed
from bioplaus.units import Node


@dataclass(frozen=True)
class Row:
    """One layer, or the whole network; shares are in percent.

    weights : without biases · flops : of one sample on its way up, with all weights and activities · flops_down : on
    its way down, 0 in a network that renders nothing; of a dense last layer only the weights of the class are read
    kept : weights that exist · neurons : that exist · active : of what the next weight layer is given, after pooling,
    how much is not zero; of the output, in the last layer · active_down : of what this layer renders, behind its
    switches; None where it renders nothing
    flops_left : of both ways together; up kept x neurons x active of the layer before, where of the input everything
    counts as active; down kept x active_down
    """

    layer: str
    weights: int
    flops: int
    flops_down: int
    kept: float
    neurons: float
    active: float
    active_down: float | None
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


Hear = Callable[[Node, Array], None]


@contextmanager
def hearing(nodes: Sequence[Node], up: Hear, down: Hear | None = None) -> Iterator[None]:
    """Inside it, ``up`` is told whatever each weight layer is given on the way up, ``down`` on the way down."""
    maps = [node.map for node in nodes]
    for node in nodes:
        node.map = _Heard(node, up, down)
    try:
        yield
    finally:
        for node, map in zip(nodes, maps, strict=True):
            node.map = map


class _Heard:
    """A node's map, which tells somebody what it is given."""

    def __init__(self, node: Node, up: Hear, down: Hear | None) -> None:
        self.node, self.map, self.hear_up, self.hear_down = node, node.map, up, down

    def up(self, x: Array, W: Array, b: Array | None = None) -> Array:
        self.hear_up(self.node, x)
        return self.map.up(x, W, b)

    def down(self, n: Array, V: Array) -> Array:
        if self.hear_down is not None:
            self.hear_down(self.node, n)
        return self.map.down(n, V)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.map, name)


def rows(network: Network, feed: Feed | TextFeed, size: int) -> list[Row]:
    """Every weight layer in the order they run, then the total.

    In the total weights count by their number, neurons and activities by theirs, operations by what all would take.
    """
    nodes, output = network.nodes, Count()
    ups, downs = ({node.name: Count() for node in nodes} for _ in range(2))
    heard = hearing(nodes, lambda node, x: ups[node.name].add(x), lambda node, z: downs[node.name].add(z))
    with heard, network.xp.scope():
        for batch in every_sample(feed, size):
            output.add(_output(network, batch))
    samples = output.given // prod(network.output)
    rows, below = [], 1.0
    for node, above in zip(nodes, [*list(ups.values())[1:], output], strict=True):
        visits = ups[node.name].given // prod(node.map.input) // samples
        rows.append(_row(node, visits, below, above.share, _rendered(node, downs[node.name], samples, network)))
        below = above.share
    return [*rows, _total(nodes, rows)]


def _output(network: Network, batch: Batch) -> Array:
    """Of one batch; what can render does."""
    return reconstruct(network, batch).output if renders(network) else network.pass_.forward(batch, TEST)[0]["output"]


def _rendered(node: Node, heard: Count, samples: int, network: Network) -> tuple[int, float] | None:
    """Operations on the way down, and what share of what is rendered is not zero; a single class is no map of zeros."""
    if not heard.given:
        return None
    whole = flops.whole_down(node.map) * (heard.given // prod(node.map.output) // samples)
    if node is network.nodes[-1] and node.map.output == network.output:
        return whole // prod(network.output), 1.0
    return whole, heard.share


def every_sample(feed: Feed | TextFeed, size: int) -> Iterator[Batch]:
    """Every test sample once; the last batch of images may be smaller."""
    for batch in feed.testing(min(size, len(feed))):
        real = len(batch.x) if isinstance(feed, TextFeed) else int(batch.weight.sum())
        yield batch if real == len(batch.x) else Batch(batch.x[:real], batch.y[:real])


def _row(node: Node, visits: int, below: float, active: float, down: tuple[int, float] | None) -> Row:
    mask = None if node.survivors is None else node.survivors.mask
    share = 1.0 if mask is None else float(mask.sum()) / prod(mask.shape)
    kept, neurons = (share, 1.0) if node.neurons is None else (1.0, share)
    up, (whole_down, active_down) = flops.whole(node.map) * visits, down or (0, 0.0)
    left = flops.total((flops.left(kept * neurons, below), flops.left(kept, active_down)), (up, whole_down))
    return Row(
        layer=node.name,
        weights=prod(node.map.shape),
        flops=up,
        flops_down=whole_down,
        kept=100.0 * kept,
        neurons=100.0 * neurons,
        active=100.0 * active,
        active_down=None if down is None else 100.0 * active_down,
        flops_left=100.0 * left,
    )


def _total(nodes: Sequence[Node], found: Sequence[Row]) -> Row:
    neurons = [prod(node.map.output) for node in nodes]
    activities = [*(prod(node.map.input) for node in nodes[1:]), neurons[-1]]
    ups, downs, weights = ([getattr(row, name) for row in found] for name in ("flops", "flops_down", "weights"))
    rendered = [(row.active_down, n) for row, n in zip(found, neurons, strict=True) if row.active_down is not None]

    def total(name: str, sizes: Sequence[float]) -> float:
        return flops.total([getattr(row, name) for row in found], sizes)

    return Row(
        layer="total",
        weights=sum(weights),
        flops=sum(ups),
        flops_down=sum(downs),
        kept=total("kept", weights),
        neurons=total("neurons", neurons),
        active=total("active", activities),
        active_down=flops.total(*zip(*rendered, strict=True)) if rendered else None,
        flops_left=total("flops_left", [up + down for up, down in zip(ups, downs, strict=True)]),
    )
