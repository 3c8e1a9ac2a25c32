"""What a run's generative network would draw, as arrays on the host; ``report`` makes pictures of them.

Images are in the units of the data set: what is rendered is scaled back, and the mean added that was taken away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bioplaus import rendering
from bioplaus.backend.base import Array
from bioplaus.backend.streams import Stream
from bioplaus.errors import DataError, RunError
from bioplaus.rendering import LayerPath, Survey
from bioplaus.train.session import Session
from bioplaus.train.usage import every_sample

CLASSES = 10  # drawn at most
PER_CLASS = 4  # test images and samples of each
ROUNDS = 10  # of the climb to the image a class likes best


@dataclass(frozen=True, eq=False, repr=False)
class Shown:
    """Of a run in the folder ``path``, on a data set with classes of these names."""

    path: Path
    names: tuple[str, ...]

    def __repr__(self) -> str:
        arrays = {key: value for key, value in vars(self).items() if isinstance(value, np.ndarray)}
        return f"<{self.path}: {', '.join(f'{key} {value.shape}' for key, value in arrays.items())}>"


@dataclass(frozen=True, eq=False, repr=False)
class Generated(Shown):
    """What ``generate`` gives. ``drawn`` are the classes of the pictures, the first few; axes of images (..., C, H, W).

    Samples, templates and what is liked mean nothing for a class that was never inferred, ``survey.found`` 0.

    Attributes
    ----------
    survey : of the whole test set, with everything in the network's units; its ``templates`` are of all classes
    images, reconstructions (n, ...), labels, inferred (n,) : some test images of each class drawn, the first ones
    samples (classes drawn, k, ...) : from the model, their switches by the chances of ``survey.given``
    templates (classes drawn, ...) : those of the survey
    starts, liked (classes drawn, ...) : where climbing to the largest output of each class began, one of ``images``
        brought to their mean length, and where it ended; in the network's units
    layer, filters (units, C, H, W) : the first layer, and what each of its units draws, in the network's units; None
        where they draw no images
    span : least and greatest value of the test images given
    """

    drawn: tuple[int, ...]
    survey: Survey
    images: Array
    reconstructions: Array
    labels: Array
    inferred: Array
    samples: Array
    templates: Array
    starts: Array
    liked: Array
    layer: str
    filters: Array | None
    span: tuple[float, float]


@dataclass(frozen=True, eq=False, repr=False)
class Traced(Shown):
    """What ``trace`` gives of one test image.

    Attributes
    ----------
    index, label, inferred : its number, its class, the class inferred
    posterior (classes,) : q(c | image), the softmax of the output
    error : mean over the image's elements of (image - reconstruction)^2, in the network's units
    image, reconstruction : (C, H, W), or (features,)
    saliency : like the image, in the network's units; what each pixel adds to what is rendered: pixel x rendering
    layers : the way up and down, from the first layer to the last
    """

    index: int
    label: int
    inferred: int
    posterior: Array
    error: float
    image: Array
    reconstruction: Array
    saliency: Array
    layers: list[LayerPath]


def generated(session: Session, path: Path, seed: int) -> Generated:
    """Reconstructions, samples, templates, what classes like best, and filters of a session's network.

    Raises
    ------
    RunError        the network renders nothing
    """
    _check(session, path)
    network, feed, stream = session.network, session.feeds["test"], Stream(seed)
    labels = session.dataset.test.y
    drawn = tuple(range(min(session.dataset.classes, CLASSES)))
    some = np.concatenate([np.flatnonzero(labels == c)[:PER_CLASS] for c in drawn])
    if not len(some):
        raise DataError(f"{path}: the test set has no image of the first {len(drawn)} classes.")
    filters = rendering.filters(network)
    survey = rendering.survey(network, every_sample(feed, session.phases[-1].samples_per_batch))
    found = rendering.reconstruct(network, feed.batch(some))
    samples = [rendering.sample(network, PER_CLASS, stream.at("sample", c), survey.given[c])[1] for c in drawn]
    lengths = np.sqrt(np.square(found.image).reshape((len(some), -1)).sum(1))
    length = float(lengths.mean())
    starts, liked = [], []
    for c in drawn:
        image, outputs = rendering.liked(network, c, stream, rounds=ROUNDS, length=length, images=found.image)
        start = np.unravel_index(outputs.argmax(), outputs.shape)[1]
        starts.append(found.image[start] * length / np.maximum(lengths[start], 1e-30))
        liked.append(image)
    images = session.dataset.test.x[some].astype(np.float32)
    return Generated(
        path,
        _names(session),
        drawn,
        survey,
        images,
        _seen(session, found.reconstruction),
        labels[some],
        found.label,
        _seen(session, np.stack(samples)),
        _seen(session, survey.templates[: len(drawn)]),
        np.stack(starts),
        np.stack(liked),
        network.nodes[0].name,
        filters,
        (float(images.min()), float(images.max())),
    )


def traced(session: Session, path: Path, index: int) -> Traced:
    """The way of one test image through a session's network, up and down.

    Raises
    ------
    RunError        the network renders nothing
    DataError       there is no test image of that number
    """
    _check(session, path)
    network, feed = session.network, session.feeds["test"]
    if not 0 <= index < len(feed):
        raise DataError(f"test image {index} asked, there are {len(feed)}. Give a number from 0 to {len(feed) - 1}.")
    batch = feed.batch(np.array([index]))
    found, layers = rendering.reconstruct(network, batch), rendering.trace(network, batch, 0)
    with network.xp.scope():
        posterior = np.exp(network.xp.host(network.xp.log_softmax(network.xp.array(found.output)))[0])
    return Traced(
        path,
        _names(session),
        index,
        int(session.dataset.test.y[index]),
        int(found.label[0]),
        posterior,
        float(np.square(found.image - found.reconstruction, dtype=np.float64).mean()),
        session.dataset.test.x[index].astype(np.float32),
        _seen(session, found.reconstruction)[0],
        (found.image * found.reconstruction)[0],
        layers,
    )


def _check(session: Session, path: Path) -> None:
    name = session.config.network.name
    if not rendering.renders(session.network):
        raise RunError(f"{path}: network {name!r} renders nothing. Train one with pass: generative, such as drmm5.")
    if session.dataset.has_targets:
        raise RunError(f"{path}: its data set has targets, no classes. Give a run that classifies.")


def _seen(session: Session, x: Array) -> Array:
    """As the data set has it, before the network's own centring and scaling."""
    return x / session.preprocess.scale + session.preprocess.mean


def _names(session: Session) -> tuple[str, ...]:
    return session.dataset.names or tuple(map(str, range(session.dataset.classes)))
