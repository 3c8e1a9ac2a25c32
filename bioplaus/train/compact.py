"""The same network without its dead units: smaller arrays, equal outputs.

A unit, or a filter, can go where nobody reads it: every synapse from it to a unit that stays is gone. Or where it is
constant: silenced at every place, or with no synapse left from anything that varies; its constant then goes into the
biases above. Synapses that are gone between units that stay are zeros in arrays as large as before. What a unit without
synapses renders is nothing, so a generative network also renders the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np

from bioplaus import assemble, config
from bioplaus.backend.base import Array
from bioplaus.errors import RunError
from bioplaus.network import Network
from bioplaus.parts import TEST, Batch
from bioplaus.record import RunFolder
from bioplaus.rendering import reconstruct, renders
from bioplaus.train.plan import phase_of
from bioplaus.train.session import Session
from bioplaus.train.usage import every_sample, hearing
from bioplaus.units import Node

SIZES = {"conv": "filters", "dense": "units"}  # weight layers that can be made smaller, and what says how large
PASSES = ("feedforward", "generative")
BETWEEN = ("norm", "affine", "relu", "tanh", "identity", "maxpool", "avgpool", "globalmeanpool", "flatten", "dropout")
FRESH = (".dW", ".update.", ".feedback.")  # what begins anew
SAME = 1e-6  # how far values of one constant lie apart
CLOSE = 1e-5  # how far outputs may, of the largest


@dataclass(frozen=True)
class Compact:
    """What came of it: units of each layer before and after, weights likewise, and how far outputs differ at most.

    difference : over the test set, as a share of the largest output; likewise of what is rendered
    """

    path: Path
    units: Mapping[str, tuple[int, int]]
    weights: tuple[int, int]
    difference: float


@dataclass
class Layer:
    """A weight layer on the host, and what is found out about its units.

    W (units, channels below, places of each) · unpadded : every unit sees whole windows · constant, value (units,) :
    the same for every image and place, and what · stays (units,) : needed
    """

    node: Node
    W: Array
    unpadded: bool
    constant: Array
    value: Array
    stays: Array

    @classmethod
    def of(cls, node: Node, channels: int) -> Layer:
        """Above a layer of so many channels."""
        W, units = node.xp.host(node.W), node.map.output[0]
        dense = W.ndim == 2
        unpadded = dense or not any(node.map.window.pad)  # type: ignore[attr-defined]
        rows = (W.T if dense else W).reshape((units, channels, -1))
        return cls(node, rows, unpadded, np.zeros(units, bool), np.zeros(units), np.ones(units, bool))

    @property
    def silenced(self) -> Array:
        """Units whose neurons are gone at all places."""
        neurons, units = self.node.neurons, len(self.W)
        alive = np.ones((units, 1)) if neurons is None else self.node.xp.host(neurons).reshape((units, -1))
        return ~alive.any(1)

    def part(self, array: Array, shape: tuple[int, ...], below: Array) -> Array:
        """An array of this layer without what does not stay, given who stays below; ``shape`` is what it should get."""
        if array.shape == self.node.map.shape:
            inputs = np.flatnonzero(np.repeat(below, self.W.shape[2] if array.ndim == 2 else 1))
            units = np.flatnonzero(self.stays)
            return array[np.ix_(inputs, units)] if array.ndim == 2 else array[np.ix_(units, inputs)]
        for axis, (before, after) in enumerate(zip(array.shape, shape, strict=True)):
            if before != after:
                array = array.take(np.flatnonzero(self.stays), axis)
        return array


def compact(session: Session, out: str | Path) -> Compact:
    """Write a run folder with the network of a session, less its dead units; it can be scored and trained on.

    Weights, statistics and masks are those of the run; momentum and feedback begin anew, and so does the log.

    Raises
    ------
    RunError        nothing is dead, the network is none that can be made smaller, or the folder cannot be made
    """
    large, called = session.network, f"network {session.config.network.name!r}"
    _check(session, called)
    layers = _layers(session)
    _find_needed(layers)
    units = {layer.node.name: (len(layer.stays), int(layer.stays.sum())) for layer in layers}
    dead = sum(before - after for before, after in units.values())
    if not dead:
        masks = [node.survivors.mask for node in large.nodes if node.survivors]
        if all(bool(mask.all()) for mask in masks):
            raise RunError(f"{called}: nothing of it is pruned. Train it by a rule that prunes, as uili_np does.")
        raise RunError(
            f"{called}: no unit and no filter is dead. What is pruned are synapses or places of those alive, which "
            "smaller arrays cannot leave out. Nothing was written."
        )
    small = _smaller(session, {name: after for name, (before, after) in units.items() if after < before})
    _fill(small.network, large, layers)
    difference = _difference(small, large)
    if not difference <= CLOSE:
        raise RunError(
            f"{called}: without its {dead} dead units outputs differ by {difference:.1g} of the largest, so something "
            "counts them, as a norm over channels does. Nothing was written."
        )
    made = config.dump(small.config), small.attributes(), small.host_state(), small.meta()
    with RunFolder.create(out, *made) as folder:
        folder.finish(small.summary())
        return Compact(folder.path, units, (_weights(large), _weights(small.network)), difference)


def _check(session: Session, called: str) -> None:
    """Whether it stands at the end of an epoch, and is a chain of layers whose channels do not mix in between."""
    network, begun = session.config.network, False
    if session.progress.place:
        raise RunError(f"{called}: the run was stopped within an epoch. Let it end one: bioplaus resume.")
    recipe = network.pass_["recipe"]
    if recipe not in PASSES:
        raise RunError(f"{called} runs as {recipe}; only one that is {' or '.join(PASSES)} can be made smaller.")
    if long := [node.name for node in session.network.nodes if node.unit_norm]:
        raise RunError(
            f"{called}: the weights of {long[0]!r} are taken at length one, which changes with the inputs a unit has; "
            "it cannot be made smaller."
        )
    for item in network.layers:
        begun = begun or item.kind in SIZES
        if item.kind not in (*SIZES, *BETWEEN):
            raise RunError(f"{called} has a layer {item.kind}; only chains of conv and dense can be made smaller.")
        if item.kind == "norm" and (not begun or item.params.get("of") == "next"):
            raise RunError(f"{called} has a norm before its layer; only one behind it can be made smaller.")


def _layers(session: Session) -> list[Layer]:
    """All of them, from the first on; constants are told from the synapses, their values from some test images."""
    network, heard = session.network, {}
    nodes = network.nodes
    batch = next(every_sample(session.feeds["test"], session.phases[-1].samples_per_batch))
    with hearing(nodes, lambda node, x: heard.update({node.name: network.xp.host(x)})), network.xp.scope():
        network.pass_.forward(batch, TEST)
    layers: list[Layer] = []
    varies = np.ones(nodes[0].map.input[0], bool)
    for node, above in zip(nodes, [*nodes[1:], None], strict=True):
        layer = Layer.of(node, len(varies))
        if above is not None:
            given = heard[above.name].reshape((len(batch.x), len(layer.W), -1))
            layer.value = given[0, :, 0].astype(float)
            spread = abs(given - layer.value[:, None]).max((0, 2))
            unlinked = ~layer.W[:, varies].any((1, 2))
            layer.constant = (unlinked | layer.silenced) & (spread <= SAME * (1.0 + abs(layer.value)))
        layers.append(layer)
        varies = ~layer.constant
    return layers


def _find_needed(layers: Sequence[Layer]) -> None:
    """Who stays, from the output down: all that something reads, but constants that its bias can hold."""
    for below, above in reversed(list(pairwise(layers))):
        can_hold = above.unpadded and above.node.bias is not None
        held = below.constant & ((below.value == 0.0) | can_hold)
        below.stays = above.W[above.stays].any((0, 2)) & ~held
        below.stays[0] |= not below.stays.any()  # a layer has one unit at least


def _smaller(session: Session, units: Mapping[str, int]) -> Session:
    """A session with layers of so many units, as fresh as it was built."""
    network = session.config.network
    items = tuple(
        replace(item, params={**item.params, SIZES[item.kind]: units[item.name]})
        if item.name and item.name in units
        else item
        for item in network.layers
    )
    renamed = replace(network, name=f"{network.name[:90]}_compact", layers=items)
    settings = session.config.model_copy(update={"network": renamed, "initial": None})
    made = assemble.assembled(settings, classes=session.dataset.classes, xp=session.network.xp)
    smaller = replace(session, config=settings, network=made, folder=None)
    smaller.relink(phase_of(smaller.phases, max(smaller.progress.epoch - 1, 0)))
    return smaller


def _fill(small: Network, large: Network, layers: Sequence[Layer]) -> None:
    """Everything that does not begin anew."""
    state = {name: large.xp.host(value) for name, value in large.state.items() if not any(f in name for f in FRESH)}
    own = {name: small.xp.host(value) for name, value in small.state.items()}
    for below, layer in zip([None, *layers], layers, strict=False):
        stays: Array = np.ones(layer.W.shape[1], bool) if below is None else below.stays
        if below is not None and layer.node.bias is not None:
            gone = below.constant & ~stays
            bias = state[layer.node.bias.name]
            bias += (layer.W[:, gone].sum(2) @ below.value[gone]).reshape(bias.shape)
        for name in state:
            if name.startswith(f"{layer.node.name}."):
                state[name] = layer.part(state[name], own[name].shape, stays)
    counters = {**small.counters, "batches": large.batches, "updates": large.updates}
    small.load({**own, **state}, counters)
    with small.xp.scope():
        for node in small.nodes:
            node.refresh(small.stream.at("feedback", node.name, 0))


def _difference(small: Session, large: Network) -> float:
    """How far what they give for the test set lies apart at most, as a share of the largest: outputs, and images."""
    apart, largest = np.zeros(2), np.full(2, np.finfo(float).tiny)
    for batch in every_sample(small.feeds["test"], small.phases[-1].samples_per_batch):
        for place, (one, other) in enumerate(zip(_given(large, batch), _given(small.network, batch), strict=True)):
            apart[place] = np.maximum(apart[place], abs(one - other).max())  # not a number where one is none
            largest[place] = np.maximum(largest[place], abs(one).max())
    return float((apart / largest).max())


def _given(network: Network, batch: Batch) -> tuple[Array, ...]:
    """The output; and the reconstruction of what renders."""
    if renders(network):
        rendered = reconstruct(network, batch)
        return rendered.output, rendered.reconstruction
    return (network.xp.host(network.predict(batch.x)),)


def _weights(network: Network) -> int:
    return sum(prod(node.map.shape) for node in network.nodes)
