"""What a data set is once loaded: training and test samples with labels, and where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.data.files import Archive
from bioplaus.errors import DataError

Arrays = tuple[Array, ...]  # X, y, X_test, y_test
FEW = 1000  # classes there may be although some of them have no sample
INSTEAD = "for targets choose a network whose loss is squared_error."
EXACT = 2**53  # below it, floats hold every whole number


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their labels.

    Attributes
    ----------
    x : uint8 or float32 (N, C, H, W), or float32 (N, features)     images in raw grey levels, or features;
        of a text, int64 (N,)                                       its symbols
    y : int64 (N,)                                                  class of each sample, from 0; of a text, the symbol
                                                                    that follows; or
        float32 (N, k)                                              numbers to come near to
    """

    x: Array
    y: Array

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.y)

    def take(self, index: Array) -> Split:
        """The samples at these places, copied."""
        return Split(self.x[index], self.y[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set ready to train on: raw values, one size, labels 0 .. classes - 1 or ``classes`` targets each.

    ``sha256`` belongs to samples and labels as loaded, before any resizing or splitting, whatever archive held
    them. ``notes`` says in words what was done to them since.
    """

    name: str
    classes: int
    train: Split
    test: Split
    validation: Split | None = None
    sha256: str = ""
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of the classes, where known
    white: int = 255  # the grey level of white, of images in uint8
    is_text: bool = False  # samples are the symbols of a text, one after another

    @property
    def has_targets(self) -> bool:
        """Whether each sample has numbers to come near to, in the place of a class."""
        return bool(self.train.y.dtype.kind == "f")

    @property
    def untaught(self) -> list[int]:
        """Classes without a training sample."""
        if self.has_targets or self.is_text:
            return []
        return [int(k) for k in np.flatnonzero(np.bincount(self.train.y, minlength=self.classes) == 0)]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.train.x.shape[1:])

    def change(self, change: Callable[[Array], Array], note: str) -> Dataset:
        """The data set with the samples of every split changed, and a note that says how."""
        train, test = (Split(change(split.x), split.y) for split in (self.train, self.test))
        validation = self.validation and Split(change(self.validation.x), self.validation.y)
        return replace(self, train=train, test=test, validation=validation, notes=(*self.notes, note))


class Source(Protocol):
    """Where samples come from: the interface of a data-set class, built in or plugged in.

    All but ``load`` are class attributes of a registered data set. It may also have ``names`` (of the classes),
    ``notes`` (what it did to the samples, in words) and ``white`` (the grey level of white, where it is not 255).
    """

    @property
    def name(self) -> str:
        """As registered; also its folder in the data directory."""

    @property
    def network(self) -> str | None:
        """The network it trains unless the user names one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""

    @property
    def classes(self) -> int | None:
        """How many there are; None: as many as the labels say."""

    @property
    def preset(self) -> Mapping[str, Any]:
        """Settings this data set changes, below those of network and rule."""

    @property
    def files(self) -> tuple[Archive, ...]:
        """What is looked for in the data directory."""

    def load(self, data_dir: Path | None) -> Arrays | Dataset:
        """(X, y, X_test, y_test), as a user may hand them over too; or all that a data set is, ready made."""


def dataset(
    name: str,
    arrays: Arrays,
    classes: int | None = None,
    names: tuple[str, ...] = (),
    *,
    targets: bool = False,
) -> Dataset:
    """Four arrays, checked, as a data set.

    Parameters
    ----------
    arrays : (X, y, X_test, y_test)     X (N, features), (N, H, W) grey or (N, C, H, W); y (N,) whole numbers
    classes : int, optional             otherwise the largest label + 1
    targets : bool                      whether y of floats, (N,) or (N, k), are targets and not labels

    Raises
    ------
    DataError       lengths or shapes that differ, no samples, values that are not finite numbers, other labels
    """
    if len(arrays) != 4:
        raise DataError(f"data set {name!r}: {len(arrays)} arrays given, 4 wanted. Give (X, y, X_test, y_test).")
    x, y, x_test, y_test = arrays
    read = _targets if targets and np.asarray(y).dtype.kind == "f" else labels
    train = Split(samples(x, f"data set {name!r}: X"), read(y, f"data set {name!r}: y"))
    test = Split(samples(x_test, f"data set {name!r}: X_test"), read(y_test, f"data set {name!r}: y_test"))
    for split, end in ((train, ""), (test, "_test")):
        if len(split.x) != len(split.y):
            raise DataError(
                f"data set {name!r}: X{end} has {len(split.x)} samples and y{end} {len(split.y)} labels. Give one each."
            )
    if train.x.shape[1:] != test.x.shape[1:]:
        raise DataError(
            f"data set {name!r}: X has samples of shape {train.x.shape[1:]} and X_test of {test.x.shape[1:]}. "
            "Give both the same."
        )
    if train.x.dtype != test.x.dtype:
        raise DataError(
            f"data set {name!r}: X holds {train.x.dtype} and X_test {test.x.dtype}, so their scales may differ. "
            "Give both the same type."
        )
    made = Dataset(name, 0, train, test, sha256=fingerprint(train, test), names=names)
    if made.has_targets:
        if train.y.shape[1:] != test.y.shape[1:]:
            raise DataError(
                f"data set {name!r}: y has {train.y.shape[1]} targets a sample and y_test {test.y.shape[1]}. "
                "Give both as many."
            )
        return replace(made, classes=train.y.shape[1])
    top, count = int(max(train.y.max(), test.y.max())), len(train) + len(test)
    if top >= max(count, FEW):
        raise DataError(
            f"data set {name!r}: label {top} found among {count} samples. Number the classes from 0, leaving none out."
        )
    if classes is not None and top >= classes:
        raise DataError(f"data set {name!r}: label {top} found, {classes} classes wanted. Number them from 0.")
    return replace(made, classes=classes or top + 1)


def samples(x: Array, where: str) -> Array:
    """X as uint8 (grey levels) or float32, with a channel axis where they are images, or what is wrong with it."""
    x = np.asarray(x)
    if x.dtype.kind not in "buif":
        raise DataError(f"{where}: holds {x.dtype}, numbers wanted. Save it as a plain numeric array.")
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim not in (2, 4) or x.size == 0:
        raise DataError(
            f"{where}: shape {x.shape} given. Give at least one sample, as (N, features), (N, H, W) or (N, C, H, W)."
        )
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which is caught here
            x = x.astype(np.float32, copy=False)
        if not (np.isfinite(x.min()) and np.isfinite(x.max())):  # no mask as large as the data
            raise DataError(f"{where}: holds values that are NaN or infinite in float32. Remove or replace them.")
    return np.ascontiguousarray(x)


def labels(y: Array, where: str) -> Array:
    """Labels as int64 (N,), or what is wrong with them."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.size == 0 or y.dtype.kind not in "buif":
        raise DataError(f"{where}: shape {y.shape}, type {y.dtype} given. Give one whole number per sample; {INSTEAD}")
    if not np.isfinite(y).all() or (y != np.floor(y)).any() or y.min() < 0 or y.max() > EXACT:
        raise DataError(f"{where}: holds labels that are not 0, 1, 2, ... Number the classes from 0; {INSTEAD}")
    return y.astype(np.int64)


def _targets(y: Array, where: str) -> Array:
    """Targets as float32 (N, k), or what is wrong with them."""
    y = np.asarray(y)
    if y.ndim == 1:
        y = y[:, None]
    if y.ndim != 2 or y.size == 0 or y.dtype.kind != "f":
        raise DataError(
            f"{where}: shape {y.shape}, type {y.dtype} given. Give floats (N, k), k targets for each sample."
        )
    with np.errstate(over="ignore"):
        y = y.astype(np.float32, copy=False)
    if not np.isfinite(y).all():
        raise DataError(f"{where}: holds values that are NaN or infinite in float32. Remove or replace them.")
    return np.ascontiguousarray(y)


def fingerprint(*splits: Split, names: Sequence[str] = ()) -> str:
    """SHA-256 over type, shape and values of samples and labels; and over what symbols stand for."""
    digest = hashlib.sha256("\n".join(names).encode())
    for split in splits:
        for array in (split.x, split.y):
            digest.update(f"{array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
