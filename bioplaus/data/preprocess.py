"""What is done to raw samples before a network sees them: standardizing, or whitening.

Data stay as they are in memory; a recipe is fitted on the training samples, and its subtraction and scaling are
applied to every batch on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.data.dataset import Dataset
from bioplaus.errors import ConfigError, DataError, ShapeError, nearest

CHUNK = 512  # samples converted at once
CONTRAST_FLOOR = 40.0  # grey levels; as in MatConvNet's CIFAR example
WHITENING_FLOOR = 10.0


@dataclass(frozen=True, eq=False)
class Preprocess:
    """What the network gets: (x - mean) * scale.

    Attributes
    ----------
    mean : float32, one sample's shape      in the units of the raw data
    scale : float                           per unit of the raw data
    """

    mean: Array
    scale: float

    def apply(self, x: Array) -> Array:
        """The samples x (N, ...) as float32 host arrays."""
        return (x.astype(np.float32) - self.mean) * np.float32(self.scale)


def fit(recipe: str, dataset: Dataset) -> tuple[Dataset, Preprocess]:
    """A recipe, fitted on the training samples alone.

    Parameters
    ----------
    recipe : ``standard``, ``centre``, ``centre_255``, ``whiten``, ``unit`` or ``none``

    Returns
    -------
    (data set, Preprocess)      the data set is another one only where the recipe changes samples ahead (``whiten``)

    Raises
    ------
    ConfigError     an unknown recipe
    DataError       training samples without any variation
    ShapeError      whitening of what is not images
    """
    if recipe not in RECIPES:
        raise ConfigError(f"data.preprocess: unknown recipe {recipe!r}{nearest(recipe, RECIPES)}")
    if dataset.is_text and recipe != "none":
        raise ConfigError(f"data.preprocess: {recipe!r} given, a text is taken as it is. Write none, or leave it out.")
    return RECIPES[recipe](dataset)


def none(dataset: Dataset) -> tuple[Dataset, Preprocess]:
    """The raw values."""
    return dataset, Preprocess(np.zeros(dataset.shape, np.float32), 1.0)


def standard(dataset: Dataset) -> tuple[Dataset, Preprocess]:
    """Subtracts the mean training sample, divides by the standard deviation of all training values.

    That deviation is about the one mean of all values, as ``X.std()`` gives it.
    """
    x, mean = dataset.train.x, mean_sample(dataset)
    squares = sum(float(np.vdot(part, part)) for part in chunks(x))
    variance = squares / x.size - float(mean.mean()) ** 2
    if not variance > 0:
        raise DataError(f"data set {dataset.name!r}: all training values are the same. Check the file.")
    return dataset, Preprocess(mean.astype(np.float32), float(variance**-0.5))


def centre(dataset: Dataset) -> tuple[Dataset, Preprocess]:
    """Subtracts the mean training sample; values keep their units, as grey levels of 0 to 255."""
    return dataset, Preprocess(mean_sample(dataset).astype(np.float32), 1.0)


def centre_255(dataset: Dataset) -> tuple[Dataset, Preprocess]:
    """Subtracts the mean training sample, divides by 255: grey levels span 1."""
    return dataset, Preprocess(mean_sample(dataset).astype(np.float32), 1.0 / 255.0)


def mean_sample(dataset: Dataset) -> Array:
    """The mean training sample, in float64."""
    return sum((part.sum(0) for part in chunks(dataset.train.x)), np.zeros(dataset.shape)) / len(dataset.train)


def whiten(dataset: Dataset) -> tuple[Dataset, Preprocess]:
    """Contrast normalization, then ZCA whitening of images in grey levels 0 to 255, then ``standard``.

    The mean training image is subtracted; each image is centred and multiplied by (mean deviation of the training
    images) / max(its deviation, 40); with V, d the eigenvectors and eigenvalues of the training covariance, each
    becomes V diag(sqrt(mean d) / max(sqrt(d), 10)) V' x. The floor of 10 stands against sqrt(d), a standard
    deviation in grey levels, as in the source. Samples become float32 in memory.

    Source: the CIFAR example of MatConvNet; deviations and covariance are of the training images only here.
    """
    if len(dataset.shape) != 3:
        raise ShapeError(
            f"data set {dataset.name!r}: samples of shape {dataset.shape}, whitening wants images (C, H, W)."
        )
    if dataset.train.x.dtype != np.uint8:
        raise DataError(
            f"data set {dataset.name!r}: {dataset.train.x.dtype} images, whitening wants grey levels in uint8. "
            "Take data.preprocess: standard."
        )
    mean = mean_sample(dataset)
    typical = float(np.mean(np.concatenate([deviation(part - mean) for part in chunks(dataset.train.x)])))
    turn = zca(equalize(dataset.train.x, mean, typical))

    def whitened(x: Array) -> Array:
        out = equalize(x, mean, typical)
        for start in range(0, len(out), CHUNK):
            out[start : start + CHUNK] = out[start : start + CHUNK] @ turn
        return out.reshape(x.shape)

    return standard(dataset.change(whitened, "images contrast-normalized and whitened (ZCA)"))


def deviation(images: Array) -> Array:
    """Standard deviation of each image (N, ...) over its values: (N,)."""
    return images.reshape(len(images), -1).std(1)


def equalize(x: Array, mean: Array, typical: float) -> Array:
    """Images less their mean image, each centred and brought to a typical deviation: float32 (N, values)."""
    out = np.empty((len(x), mean.size), np.float32)
    for k, part in enumerate(chunks(x)):
        part = (part - mean).reshape(len(part), -1)
        part -= part.mean(1, keepdims=True)
        out[k * CHUNK : (k + 1) * CHUNK] = part * (typical / np.maximum(deviation(part), CONTRAST_FLOOR))[:, None]
    return out


def zca(x: Array) -> Array:
    """The symmetric matrix (values, values) that whitens the rows of x, and keeps their mean power."""
    covariance = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK]
        covariance += part.T @ part
    power, axes = np.linalg.eigh(covariance / len(x))
    spread = np.sqrt(np.maximum(power, 0.0))  # rounding leaves tiny negative eigenvalues
    gain = np.sqrt(power.mean()) / np.maximum(spread, WHITENING_FLOOR)
    return ((axes * gain) @ axes.T).astype(np.float32)


def chunks(x: Array) -> Iterator[Array]:
    """x as float64, some samples at a time."""
    for start in range(0, len(x), CHUNK):
        yield x[start : start + CHUNK].astype(np.float64)


def unit(dataset: Dataset) -> tuple[Dataset, Preprocess]:
    """Grey levels, 0 to the data set's white, as 0 to 1; DataError where there are none."""
    if dataset.train.x.dtype != np.uint8:
        raise DataError(
            f"data set {dataset.name!r}: {dataset.train.x.dtype} samples, unit wants grey levels in uint8. "
            "Take data.preprocess: standard."
        )
    return dataset, Preprocess(np.zeros(dataset.shape, np.float32), 1.0 / dataset.white)


RECIPES: dict[str, Callable[[Dataset], tuple[Dataset, Preprocess]]] = {
    "standard": standard,
    "centre": centre,
    "centre_255": centre_255,
    "whiten": whiten,
    "none": none,
    "unit": unit,
}
