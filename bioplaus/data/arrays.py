"""Own samples: four arrays from Python, or a file that holds them (.npz, .h5).

The names in a file are X, y, X_test, y_test, or x_train, y_train, x_test, y_test. Feature vectors (speech
features, recordings) are arrays of (N, features).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bioplaus.backend.base import Array
from bioplaus.data.dataset import Arrays
from bioplaus.data.files import Archive
from bioplaus.errors import DataError

KEYS = (("X", "y", "X_test", "y_test"), ("x_train", "y_train", "x_test", "y_test"))
NETWORKS: dict[tuple[int, ...], str] = {
    (1, 8, 8): "digits_net",
    (1, 28, 28): "lenet",
    (3, 32, 32): "liao_cifar",
    (3, 96, 96): "liao_119",
}


class OwnArrays:
    """Arrays of the user's: (X, y, X_test, y_test).

    Their default network is that of the shipped data set of the same shape, ``liao_timit`` for feature vectors,
    and otherwise none.
    """

    def __init__(self, name: str, arrays: Arrays) -> None:
        """The name goes into logs.

        Raises
        ------
        DataError       rows of different lengths
        """
        try:
            self.arrays = tuple(np.asarray(array) for array in arrays)
        except ValueError as error:
            raise DataError(f"data set {name!r}: {error}. Give arrays whose rows are equally long.") from error
        self.name = name
        x = self.arrays[0] if arrays else np.empty(0)
        self.shape: tuple[int, ...] = (1, *x.shape[1:]) if x.ndim == 3 else tuple(x.shape[1:])
        self.network: str | None = "liao_timit" if len(self.shape) == 1 else NETWORKS.get(self.shape)
        self.classes: int | None = None  # as many as the labels say
        self.preset: Mapping[str, Any] = {}
        self.files: tuple[Archive, ...] = ()

    def load(self, data_dir: Path | None) -> Arrays:
        """The arrays themselves."""
        return self.arrays


def read_arrays(path: Path) -> Arrays:
    """The four arrays of a file, by its ending.

    Raises
    ------
    DataError       another ending, an unreadable or damaged file, missing names, pickled objects
    """
    if path.suffix == ".npz":
        return read_npz(path)
    if path.suffix in (".h5", ".hdf5"):
        return read_hdf5(path)
    raise DataError(f"{path}: {path.suffix or 'no'} ending. Give a .npz, .h5 or .txt file, or a folder of images.")


def read_npz(path: Path) -> Arrays:
    """The four arrays of a .npz file; pickled objects are refused."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:  # np.load leaks its own
            return four(file, list(file.keys()), path)
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise unreadable(path, error, "np.savez") from error


def read_hdf5(path: Path) -> Arrays:
    """The four arrays of an HDF5 file."""
    try:
        with h5py.File(path, "r") as file:
            found = [name for name in file if isinstance(file.get(name), h5py.Dataset)]
            return four({name: file[name] for name in found}, found, path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise unreadable(path, error, "h5py") from error


def four(file: Mapping[str, Array], found: list[str], path: Path) -> Arrays:
    """The arrays under either set of names."""
    for keys in KEYS:
        if all(key in found for key in keys):
            x, y, x_test, y_test = (np.asarray(file[key]) for key in keys)
            return x, y, x_test, y_test
    closest = max(KEYS, key=lambda keys: len(set(keys) & set(found)))
    missing = ", ".join(key for key in closest if key not in found)
    raise DataError(
        f"{path}: {missing} missing; found {', '.join(sorted(found)) or 'nothing'}. Save X, y, X_test, y_test."
    )


def unreadable(path: Path, error: Exception, how: str) -> DataError:
    """What to say about a file that cannot be read."""
    reason = " ".join(str(error).split())
    return DataError(f"{path}: not readable ({reason}). Save plain numeric arrays with {how}.")
