"""What a generative network can show: reconstructions, samples, templates, active paths, the image a class likes best.

Every function takes a network whose pass is generative, looks with the statistics stored for testing, changes nothing,
and gives arrays on the host.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from math import ceil, prod
from typing import Any, NamedTuple

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.backend.streams import Stream
from bioplaus.errors import ConfigError, DataError
from bioplaus.network import Network
from bioplaus.parts import TEST, Batch
from bioplaus.units import Node

DOWN = TEST._replace(render=True)


class Rendered(NamedTuple):
    """Images and what is rendered of them: output (N, classes), the class inferred (N,), both images (N, ...)."""

    output: Array
    label: Array
    image: Array
    reconstruction: Array


@dataclass(frozen=True)
class Usage:
    """How often classes and switches are used: pi_c (classes,); pi_a and pi_t of one sample, the top layer's first."""

    classes: Array
    switches: tuple[Array, ...]


@dataclass(frozen=True)
class Survey:
    """What a network renders of many images.

    Attributes
    ----------
    samples : how many images
    error : mean over images and their elements of (image - reconstruction)^2
    power : the same of image^2, what an empty reconstruction would miss
    same : share of images whose reconstruction is inferred as the same class
    found (classes,) : how many were inferred as each class
    templates (classes, ...) : mean of what was rendered of these, 0 where there are none
    usage : how often classes and switches were used: the chances of the model, whose switches are independent
    given (classes,) : the same among the images inferred as each class: its chance is 1, its switches have their
        chances given the class; all 0 where there are none
    """

    samples: int
    error: float
    power: float
    same: float
    found: Array
    templates: Array
    usage: Usage
    given: tuple[Usage, ...]

    @property
    def missed(self) -> float:
        """The error as a share of the power; not a number where every image is 0 everywhere."""
        return self.error / self.power if self.power else float("nan")


@dataclass(frozen=True, repr=False)
class LayerPath:
    """One layer on the way of one image up and down; arrays in the shape of the layer, before any pool behind it.

    Attributes
    ----------
    activity : going up, after norm and activation
    template : what comes from above, before any switch of this layer
    rendered : the same through the switches: in a network without norms the slope of the class's output (where a mean
               was taken, times its elements), so the saliency of every unit along the active paths
    """

    layer: str
    activity: Array
    template: Array
    rendered: Array

    def __repr__(self) -> str:
        return f"<{self.layer}: {self.activity.size:,} units, {int(self.active.sum()):,} active>"

    @property
    def contribution(self) -> Array:
        """Activity times what leads on: what each unit adds to the output of the class."""
        return self.activity * self.rendered

    @property
    def active(self) -> Array:
        """Units on an active path."""
        return self.contribution != 0.0

    def carrying(self, share: float) -> Array:
        """The fewest units that together have this share of all contribution, by size; none where there is none."""
        sizes = np.abs(self.contribution, dtype=np.float64).ravel()
        order = np.argsort(-sizes, kind="stable")
        before = np.cumsum(sizes[order]) - sizes[order]
        units = np.zeros(sizes.size, bool)
        units[order] = before < share * sizes.sum()
        return units.reshape(self.contribution.shape)

    def carried(self, share: float = 0.01) -> float:
        """How much of all contribution, by size, comes from this share of the units, those with most; one at least."""
        sizes = np.sort(np.abs(self.contribution), axis=None)[::-1]
        total = sizes.sum()
        return float(sizes[: ceil(share * sizes.size)].sum() / total) if total else 0.0


def renders(network: Network) -> bool:
    """Whether the network renders anything."""
    return hasattr(network.pass_, "infer")


def reconstruct(network: Network, batch: Batch) -> Rendered:
    """Every image of a batch, rendered from the class inferred through the switches inferred."""
    xp, pass_ = network.xp, _generative(network)
    with xp.scope():
        output, tape = pass_.infer(batch.x, DOWN)
        label = output.argmax(-1)
        image = pass_.render(xp.one_hot(label, pass_.output[0]), tape)
        return Rendered(*(xp.host(array) for array in (output, label, batch.x, image)))


def survey(network: Network, batches: Iterable[Batch]) -> Survey:
    """One look at many images.

    Raises
    ------
    DataError       no images
    """
    xp, pass_ = network.xp, _generative(network)
    totals, found = np.zeros((*pass_.output, *pass_.input)), np.zeros(pass_.output)
    switches: list[Array] = []  # (classes, ...) of each
    samples, same, squares, power = 0, 0, 0.0, 0.0
    for batch in batches:
        (_, label, image, reconstruction), used = _used(network, batch)
        mine = np.eye(len(found))[label]
        totals += np.tensordot(mine.T, reconstruction, 1)
        found += mine.sum(0)
        switches = [a + b for a, b in zip(switches, used, strict=True)] if samples else used
        samples += len(label)
        squares += float(np.square(image - reconstruction, dtype=np.float64).sum())
        power += float(np.square(image, dtype=np.float64).sum())
        with xp.scope():
            same += int((xp.host(network.predict(xp.array(reconstruction)).argmax(-1)) == label).sum())
    if not samples:
        raise DataError("what a network renders: no images given, wanted one batch or more.")
    some = np.maximum(found, 1.0)
    return Survey(
        samples,
        squares / (samples * prod(pass_.input)),
        power / (samples * prod(pass_.input)),
        same / samples,
        found,
        totals / some.reshape((-1, *(1 for _ in pass_.input))),
        Usage(found / samples, tuple(of_class.sum(0) / samples for of_class in switches)),
        tuple(
            Usage(chosen, tuple(of_class[c] / some[c] for of_class in switches))
            for c, chosen in enumerate(np.eye(len(found)))
        ),
    )


def _used(network: Network, batch: Batch) -> tuple[Rendered, list[Array]]:
    """What is rendered of a batch; how many of the images inferred as each class use a switch, for every switch."""
    xp, pass_ = network.xp, _generative(network)
    used: list[Array] = []  # (classes, ...) of each, the top layer's first
    with xp.scope():
        output, tape = pass_.infer(batch.x, DOWN)
        label = output.argmax(-1)
        classes = xp.one_hot(label, pass_.output[0])

        def note(unit: Any, seen: Any, z: Array, template: Array) -> Any:
            if hasattr(unit, "switches"):
                on = unit.switches(seen)
                total = xp.host(xp.linear(classes.T, on.reshape((len(on), -1)), None))
                used.append(total.astype(np.float64).reshape((-1, *on.shape[1:])))
            return seen

        image = pass_.render(classes, tape, note)
        return Rendered(*(xp.host(array) for array in (output, label, batch.x, image))), used


def templates(network: Network, batches: Iterable[Batch]) -> Array:
    """Of every class, the mean of what it renders of the images inferred as such: (classes, ...), 0 where none is."""
    return survey(network, batches).templates


def usage(network: Network, batches: Iterable[Batch]) -> Usage:
    """The M-step for the model's chances: pi_c, pi_a and pi_t are the means of the classes and switches inferred."""
    return survey(network, batches).usage


def sample(network: Network, n: int, stream: Stream, used: Usage, noise: float = 0.0) -> tuple[Array, Array]:
    """Images drawn from the model: a class, every a and every t by their chances, rendered; plus noise.

    With ``survey.usage`` this is the model as stated: switches have the chances they have over all classes. With
    ``survey.given[c]`` it says more: class c, through switches with their chances given that class. In both, switches
    of one image are independent of each other.

    Parameters
    ----------
    n : how many
    noise : deviation at every pixel

    Returns
    -------
    (classes (n,), images (n, ...))
    """
    xp, pass_, number = network.xp, _generative(network), count()
    labels = stream.at("class").generator().choice(len(used.classes), n, p=used.classes / used.classes.sum())

    def draw(unit: Any, seen: Any, z: Array, template: Array) -> Any:
        if not hasattr(unit, "switches"):
            return seen
        place = next(number)
        return unit.drawn(xp.array(used.switches[place][None])[0], n, stream.at("switches", place))

    with xp.scope():
        _, tape = pass_.infer(xp.zeros((n, *pass_.input)), DOWN)
        images = xp.host(pass_.render(xp.one_hot(xp.raw(labels), pass_.output[0]), tape, draw))
    return labels, images + noise * stream.at("noise").generator().standard_normal(images.shape)


def trace(network: Network, batch: Batch, index: int) -> list[LayerPath]:
    """The way of one image up, and of the class inferred down again, layer by layer from the first to the last.

    Raises
    ------
    DataError       the batch has no image of that number
    """
    xp, pass_ = network.xp, _generative(network)
    if not 0 <= index < len(batch.x):
        raise DataError(f"image {index} asked, there are {len(batch.x)}. Give a number from 0 to {len(batch.x) - 1}.")
    down: dict[str, tuple[Array, Array]] = {}

    def note(unit: Any, seen: Any, z: Array, template: Array) -> Any:
        if isinstance(unit, Node):
            down[unit.name] = template, z
        return seen

    with network.watching() as up, xp.scope():
        output, tape = pass_.infer(batch.x[index : index + 1], DOWN)
        pass_.render(xp.one_hot(output.argmax(-1), pass_.output[0]), tape, note)
    ways = ((name, up[name], *down[name]) for name in up)
    return [LayerPath(name, *(xp.host(array)[0] for array in arrays)) for name, *arrays in ways]


def liked(
    network: Network,
    label: int,
    stream: Stream,
    starts: int = 100,
    rounds: int = 30,
    length: float = 1.0,
    images: Array | None = None,
) -> tuple[Array, Array]:
    """The image of a given length that makes the output of a class largest, I* = length mu(c, g*) / ||mu(c, g*)||.

    For given switches g the best image is what they render, and for a given image the best switches are those inferred:
    the two take turns, from many images at once, noise unless given, and the best one seen is kept. In the nonnegative
    model without biases and norms no turn lowers an output, and the length does not matter.

    Returns
    -------
    (image, outputs (rounds, starts) of the class)

    Raises
    ------
    DataError       no such class

    Source: Patel, Nguyen & Baraniuk (2015), A probabilistic theory of deep learning, activity maximization.
    """
    xp, pass_ = network.xp, _generative(network)
    if not 0 <= label < pass_.output[0]:
        raise DataError(f"class {label} asked, there are {pass_.output[0]}. Give one from 0 to {pass_.output[0] - 1}.")
    best, highest, outputs = np.zeros(pass_.input), -np.inf, []
    with xp.scope():
        if images is None:
            images = stream.generator().standard_normal((starts, *pass_.input))
        images, wanted = xp.array(images), xp.one_hot(xp.raw([label] * len(images)), pass_.output[0])
        for _ in range(rounds):
            lengths = xp.sqrt((images * images).sum(tuple(range(1, images.ndim)), keepdims=True))
            images = images * length / xp.maximum(lengths, 1e-30)
            output, tape = pass_.infer(images, DOWN)
            outputs.append(xp.host(output[:, label]))
            place = int(outputs[-1].argmax())
            if outputs[-1][place] > highest:
                best, highest = xp.host(images[place]), outputs[-1][place]
            images = pass_.render(wanted, tape)
    return best, np.stack(outputs)


def filters(network: Network) -> Array | None:
    """What every unit of the first layer draws: its weights as images (units, channels, y, x), or samples (units, ...).

    Going down a unit adds z times this to the image, at its place, for a template z that reaches it. None where that is
    not so: behind a pool, or in a transposed convolution.
    """
    pass_, node = _generative(network), network.nodes[0]
    W = network.xp.host(node.W)
    axis = getattr(node.map, "input_axis", None)
    if axis == 1 and node.map.input == pass_.input:
        return W
    if axis == 0 and len(W) == prod(pass_.input):
        return W.T.reshape((-1, *pass_.input))
    return None


def _generative(network: Network) -> Any:
    if not renders(network):
        raise ConfigError("this network renders nothing. Write pass: generative in its file.")
    return network.pass_
