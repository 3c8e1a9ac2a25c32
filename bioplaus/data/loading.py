"""From what the user named to a data set that fits the network: find, load, split, resize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bioplaus import registry
from bioplaus.backend.streams import Stream
from bioplaus.data import files
from bioplaus.data.arrays import OwnArrays, read_arrays
from bioplaus.data.dataset import Arrays, Dataset, Source, dataset
from bioplaus.data.folder import ImageFolder
from bioplaus.data.resize import resize
from bioplaus.data.text import OwnText
from bioplaus.errors import ConfigError, DataError, ShapeError


def find(
    source: str | Path | Arrays | Source,
    *,
    data_dir: Path | None = None,
    options: Mapping[str, Any] | None = None,
    allow_code: bool = False,
) -> Source:
    """What the user named, not yet read: it says its shape, classes, default network and preset.

    Parameters
    ----------
    source : name, path or arrays       a registered data set; a .npz, .h5 or .txt file; a folder of images, by its
                                        path or by its name in the data directory; or (X, y, X_test, y_test)
    options : mapping                   of an image folder: train_per_class, test_per_class, classes, split_seed
    allow_code : bool                   may a reference ``./my_data.py:MyData`` run its code?

    Raises
    ------
    PartError       no data set of that name
    DataError       no such file or folder, or one that cannot be read
    ConfigError     options that this source does not take
    """
    if isinstance(source, (str, Path)):
        found = _named(source, files.directory(data_dir), options or {}, allow_code)
    elif isinstance(source, (tuple, list)):
        found = OwnArrays("arrays", tuple(source))
    else:
        found = source
    if options and not isinstance(found, ImageFolder):
        raise ConfigError(
            f"data.{next(iter(options))}: given, only folders of images take it, not data set {found.name!r}. "
            "Leave it out; data.labels says how many labels may be seen."
        )
    return found


def load(
    source: str | Path | Arrays | Source,
    *,
    data_dir: Path | None = None,
    size: tuple[int, ...] | None = None,
    validation: int | float | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    symbols: Sequence[str] | None = None,
    targets: bool = False,
) -> Dataset:
    """A data set, read, verified, and brought to the network's input shape.

    Parameters
    ----------
    source, data_dir, options           as for ``find``, or what ``find`` returned
    size : (C, H, W) or (features,)     the network's input; None leaves samples as they are
    validation : int or float           put this many training samples, or this share of them, aside
    seed : int                          of that choice; the test set is never touched
    symbols : sequence of str           the vocabulary a text is taken in; its own where left out
    targets : bool                      whether y of floats are numbers to come near to, and not labels

    Raises
    ------
    PartError, DataError, ConfigError   as for ``find``; DataError also for files missing, cut short or altered
    ShapeError                          samples that cannot be brought to ``size``
    """
    found = find(source, data_dir=data_dir, options=options)
    if size is not None:
        _check_size(found.name, tuple(found.shape), size)
        if isinstance(found, ImageFolder):
            found = replace(found, shape=size)
    known = {} if symbols is None else {"symbols": symbols}
    given = found.load(files.directory(data_dir), **known)
    if isinstance(given, Dataset):
        loaded = given
    else:
        loaded = dataset(found.name, given, found.classes, getattr(found, "names", ()), targets=targets)
        loaded = replace(loaded, notes=tuple(getattr(found, "notes", ())), white=getattr(found, "white", loaded.white))
    if validation is not None:
        loaded = put_aside(loaded, validation, seed)
    return loaded if size is None else fit_size(loaded, size)


def put_aside(data: Dataset, validation: int | float, seed: int) -> Dataset:
    """The data set with some training samples as its validation set: drawn without looking at labels; a text's end."""
    if data.validation is not None:
        raise ConfigError(
            f"data.validation: {validation!r} given, data set {data.name!r} brings its own. Leave it out."
        )
    n = len(data.train)
    whole = isinstance(validation, int)
    possible = whole or 0 < validation < 1
    count = round(validation if whole else validation * n) if possible else 0
    if isinstance(validation, bool) or not 0 < count < n:
        raise ConfigError(
            f"data.validation: {validation!r} given. Give a number of samples from 1 to {n - 1}, or a share "
            "between 0 and 1."
        )
    order = np.arange(n)[::-1] if data.is_text else Stream(seed).at("validation").generator().permutation(n)
    aside, kept = np.sort(order[:count]), np.sort(order[count:])
    note = f"{count} of {n} training samples put aside for validation"
    return replace(data, train=data.train.take(kept), validation=data.train.take(aside), notes=(*data.notes, note))


def fit_size(data: Dataset, size: tuple[int, ...]) -> Dataset:
    """The data set with samples of the network's input shape: resized, or laid out flat for a net of vectors."""
    old = data.shape
    _check_size(data.name, old, size)
    if old == size:
        return data
    if len(size) == 1:
        note = f"images of {'×'.join(map(str, old))} laid out as {size[0]} values"
        return data.change(lambda x: x.reshape(len(x), -1), note)
    note = f"images resized {old[1]}×{old[2]} → {size[1]}×{size[2]} (bilinear)"
    return data.change(lambda x: resize(x, (size[1], size[2])), note)


def _check_size(name: str, shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    """Raises ShapeError where samples of ``shape`` can never become ``size``."""
    if shape == size:
        return
    if () in (shape, size):
        are, wanted = shape or "symbols of a text", size or "symbols of a text"
        raise ShapeError(
            f"data set {name!r}: samples are {are}, the network takes {wanted}. "
            f"Choose a network with input: {list(shape) or 'symbols'}, or other data."
        )
    if len(size) == 1:
        if int(np.prod(shape)) != size[0]:
            raise ShapeError(
                f"data set {name!r}: samples of shape {shape}, the network takes {size[0]} values. "
                f"Choose another network, or change its input: --set 'network.input={list(shape)}'."
            )
    elif len(shape) != len(size):
        raise ShapeError(
            f"data set {name!r}: samples are {shape[0]} values each, the network takes images {size}. "
            "Give images (N, C, H, W), or let a network of dense layers take "
            f"values: --network mlp --set 'network.input=[{shape[0]}]'."
        )
    elif shape[0] != size[0]:
        raise ShapeError(
            f"data set {name!r}: images (C, H, W) = {shape}, the network takes {size}: {shape[0]} channels given, "
            f"{size[0]} wanted. Change the network's input, or the images."
        )


def _named(source: str | Path, data_dir: Path | None, options: Mapping[str, Any], allow_code: bool) -> Source:
    name = str(source)
    if name not in registry.names("dataset") and not (name.rpartition(":")[0] and not Path(name).exists()):
        for path in (Path(name).expanduser(), *([data_dir / name] if data_dir else [])):
            if path.is_dir():
                return ImageFolder.of(path, options)
            if path.suffix == ".txt" and path.is_file():
                return OwnText(path)
            if path.is_file():
                return OwnArrays(path.stem, read_arrays(path))
        if Path(name).suffix or name != Path(name).name:
            raise DataError(
                f"{name}: no such file or folder. Give a .npz, .h5 or .txt file, a folder of images, or a name."
            )
    part: Source = registry.get("dataset", name, allow_code=allow_code)()
    return part
