"""The contract of data sets and of what is done to their images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bioplaus.backend.numpy import NumPy
from bioplaus.backend.streams import Stream
from bioplaus.errors import DataError, ShapeError
from bioplaus.testing.claims import Claims, contract
from bioplaus.testing.trials import N, are_same, is_finite, normal


@contract("transform")
def check_transform(transform: Any, claims: Claims) -> None:
    """Samples keep their shape, x stays as it was, and all that is drawn comes from the stream."""
    claims.methods(transform, "fits", "__call__")
    xp = NumPy("float64")
    taken = 0
    for shape in ((6,), (3, 8, 8)):
        try:
            transform.fits(shape)
        except ShapeError:
            continue
        taken += 1
        x = normal(xp, "x", (N, *shape))
        before, stream = xp.host(x), Stream(0).at("augment")
        y = transform(xp, x, stream)
        claims(tuple(y.shape) == (N, *shape), "samples keep their shape")
        claims(is_finite(xp, y), "gives finite numbers")
        claims(are_same(xp, x, before), "leaves x as it was")
        claims(are_same(xp, y, transform(xp, x, stream)), "the same stream gives the same samples")
    claims(taken, "fits samples of some shape: (6,) or (3, 8, 8)")


@contract("dataset")
def check_dataset(dataset: Any, claims: Claims) -> None:
    """It says what its samples are; where it needs no files it is loaded and compared with that."""
    claims.methods(dataset, "load")
    network, shape, classes = (getattr(dataset, key, None) for key in ("network", "shape", "classes"))
    claims(network is None or isinstance(network, str), "network is a name, or None")
    claims(isinstance(shape, tuple) and all(isinstance(k, int) and k > 0 for k in shape), "shape is of one sample")
    claims(isinstance(classes, int) and int(classes) > 1, "classes is 2 or more")
    claims(isinstance(getattr(dataset, "preset", None), Mapping), "preset is a mapping")
    if getattr(dataset, "files", ()):
        return
    try:
        x, y, x_test, y_test = dataset.load(None)
    except DataError:  # it looks for something after all, and says so
        return
    for samples, labels in ((x, y), (x_test, y_test)):
        claims(len(samples) == len(labels) > 0, "every sample has a label")
        grey = (1,) if samples.ndim == 3 else ()  # (N, H, W) stands for one channel
        own = (*grey, *samples.shape[1:])
        claims(own == shape, "samples have the shape it says")
        claims(int(np.min(labels)) >= 0 and int(np.max(labels)) < int(classes or 0), "labels are 0 up to classes - 1")
