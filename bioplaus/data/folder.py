"""Images in folders, one folder per class: ``train/<class>/`` and ``test/<class>/``, or ``<class>/`` to be split.

That is how Caltech101, Caltech256, iCubWorld, Flowers, PubFig83, SUFR-W, LFW and Indoor67 come in. Images are
decoded to colour and brought to one size. Names are sorted and every choice is drawn from ``split_seed``, so the
same folder gives the same split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.backend.streams import Stream
from bioplaus.data.dataset import Arrays
from bioplaus.data.files import Archive
from bioplaus.data.resize import resize
from bioplaus.errors import ConfigError, DataError, nearest

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm")


@dataclass(frozen=True)
class Options:
    """How a folder is split.

    Attributes
    ----------
    train_per_class, test_per_class : int, optional     so many images of each class to train; up to so many to test
    classes : int or list of names, optional            so many classes drawn at random, or these
    split_seed : int                                    of both choices
    """

    train_per_class: int | None = None
    test_per_class: int | None = None
    classes: int | list[str] | None = None
    split_seed: int = 0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Options as the user wrote them, checked."""
        known = [field.name for field in fields(cls)]
        for key, value in given.items():
            if key not in known:
                raise ConfigError(f"data: unknown key {key!r}{nearest(str(key), known)}")
            listed = key == "classes" and isinstance(value, list) and all(isinstance(name, str) for name in value)
            least = 0 if key == "split_seed" else 1
            number = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not (number or listed or (value is None and key != "split_seed")):
                wanted = f"a whole number from {least}" + (" or a list of names" if key == "classes" else "")
                raise ConfigError(f"data.{key}: {value!r} given, {wanted} wanted. Change it.")
        return cls(**given)


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images, not yet decoded.

    Attributes
    ----------
    train, test : tuple of (path, class number)
    names : tuple of str        of the classes, which are numbered in this order
    shape : (3, height, width)  what every image is brought to
    """

    name: str
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]
    names: tuple[str, ...]
    shape: tuple[int, ...] = (3, 119, 119)

    network: ClassVar[str | None] = "liao_119"
    preset: ClassVar[Mapping[str, Any]] = {}
    files: ClassVar[tuple[Archive, ...]] = ()

    @classmethod
    def of(cls, path: Path, options: Mapping[str, Any]) -> ImageFolder:
        """The folder, listed and split; nothing is decoded yet.

        Raises
        ------
        ConfigError     options it does not take, or a folder to be split without ``train_per_class``
        DataError       no classes or images in it, or fewer than wanted
        """
        chosen = Options.of(options)
        if (path / "train").is_dir() and (path / "test").is_dir():
            pools = {part: listed(path / part) for part in ("train", "test")}
            names = choose(sorted({*pools["train"], *pools["test"]}), chosen, path)
            split = {name: given(pools, name, chosen, path) for name in names}
        else:
            pool = listed(path)
            names = choose(sorted(pool), chosen, path)
            split = {name: divide(pool[name], name, chosen, path) for name in names}
        train = tuple((file, k) for k, name in enumerate(names) for file in split[name][0])
        test = tuple((file, k) for k, name in enumerate(names) for file in split[name][1])
        return cls(path.resolve().name, train, test, tuple(names))

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.names)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done to the images."""
        return (f"images resized to {self.shape[1]}×{self.shape[2]} (bilinear)",)

    def load(self, data_dir: Path | None) -> Arrays:
        """All images, uint8 (N, 3, height, width), and their classes."""
        return *decode(self.train, self.shape), *decode(self.test, self.shape)


def listed(path: Path) -> dict[str, list[Path]]:
    """Class name -> its image files, both sorted; folders without images are left out."""
    pool = {
        folder.name: sorted(file for file in folder.iterdir() if is_image(file))
        for folder in path.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
    }
    found = {name: pool[name] for name in sorted(pool) if pool[name]}
    if not found:
        raise DataError(
            f"{path}: no images in class folders found. Put images ({', '.join(ENDINGS)}) into one folder per class."
        )
    return found


def is_image(file: Path) -> bool:
    """Whether a file's name is an image's."""
    return file.suffix.lower() in ENDINGS and not file.name.startswith(".") and file.is_file()


def choose(names: list[str], options: Options, path: Path) -> list[str]:
    """The classes wanted, sorted."""
    if options.classes is None:
        return names
    if isinstance(options.classes, list):
        for name in options.classes:
            if name not in names:
                raise ConfigError(f"data.classes: no class {name!r} in {path}{nearest(name, names)}")
        return sorted(set(options.classes))
    if options.classes > len(names):
        raise ConfigError(f"data.classes: {options.classes} given, {path} has {len(names)}. Give fewer.")
    drawn = Stream(options.split_seed).at("classes").generator().permutation(len(names))[: options.classes]
    return [names[k] for k in sorted(drawn.tolist())]


def shuffled(files: list[Path], options: Options, *where: str) -> list[Path]:
    """The files of one class in the order drawn for it."""
    order = Stream(options.split_seed).at("split", *where).generator().permutation(len(files))
    return [files[k] for k in order.tolist()]


def given(
    pools: dict[str, dict[str, list[Path]]], name: str, options: Options, path: Path
) -> tuple[list[Path], list[Path]]:
    """One class of a folder that is split already, cut to the numbers wanted."""
    train, test = (pools[part].get(name, []) for part in ("train", "test"))
    if not train or len(train) < (options.train_per_class or 0):
        raise DataError(
            f"{path}/train: class {name!r} has {len(train)} images, {options.train_per_class or 'at least 1'} wanted. "
            "Add images, lower train_per_class, or choose other classes."
        )
    if options.train_per_class is not None:
        train = sorted(shuffled(train, options, "train", name)[: options.train_per_class])
    if options.test_per_class is not None:
        test = sorted(shuffled(test, options, "test", name)[: options.test_per_class])
    return train, test


def divide(files: list[Path], name: str, options: Options, path: Path) -> tuple[list[Path], list[Path]]:
    """One class split at random: ``train_per_class`` to train, up to ``test_per_class`` of the rest to test."""
    count = options.train_per_class
    if count is None:
        raise ConfigError(f"data.train_per_class: missing, and {path} has no train/ and test/. Set it.")
    if len(files) <= count:
        raise DataError(
            f"{path}: class {name!r} has {len(files)} images, {count} to train and at least 1 to test wanted. "
            "Lower train_per_class, or choose other classes."
        )
    order = shuffled(files, options, name)
    end = None if options.test_per_class is None else count + options.test_per_class
    return sorted(order[:count]), sorted(order[count:end])


def decode(files: tuple[tuple[Path, int], ...], shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Images uint8 (N, 3, height, width) and labels int64 (N,) of files.

    Raises
    ------
    DataError       Pillow is not installed, or a file that is no image
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("image folders need Pillow, which is not installed. Install bioplaus[data].") from error
    x = np.empty((len(files), *shape), np.uint8)
    for k, (path, _) in enumerate(files):
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))  # (H, W, 3)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{path}: not a readable image ({reason}). Replace or remove it.") from error
        x[k] = resize(pixels.transpose(2, 0, 1)[None], (shape[1], shape[2]))[0]
    return x, np.array([label for _, label in files], np.int64)
