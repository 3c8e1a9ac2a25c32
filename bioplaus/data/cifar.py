"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32, in the original binary files.

Each record is one label byte (CIFAR-100: a coarse and a fine one) and 3,072 bytes: planes red, green, blue, row by
row. Of CIFAR-100's members no SHA-256 is published; size and labels are verified.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bioplaus.data import files
from bioplaus.data.dataset import Arrays
from bioplaus.data.files import Archive, Member
from bioplaus.errors import DataError

HOST = "https://www.cs.toronto.edu/~kriz/"
PIXELS = 3 * 32 * 32


def _batch(name: str, sha256: str) -> Member:
    return Member(f"cifar-10-batches-bin/{name}.bin", 10000 * (1 + PIXELS), f"sha256:{sha256}")


class Cifar10:
    """CIFAR-10: 50,000 training and 10,000 test images of ten kinds of things, (3, 32, 32).

    Source: Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """

    name = "cifar10"
    network = "liao_cifar"
    shape = (3, 32, 32)
    classes = 10
    names = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    preset: ClassVar[Mapping[str, Any]] = {}
    files = (
        Archive(
            "cifar-10-binary.tar.gz",
            170052171,
            f"{HOST}cifar-10-binary.tar.gz",
            (
                _batch("data_batch_1", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
                _batch("data_batch_2", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
                _batch("data_batch_3", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
                _batch("data_batch_4", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
                _batch("data_batch_5", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
                _batch("test_batch", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
            ),
        ),
    )

    def load(self, data_dir: Path | None) -> Arrays:
        """Images (N, 3, 32, 32) and labels, in the order of the batches."""
        return records(files.read(self.name, self.files, data_dir), self.files[0].members, 1, self.classes)


class Cifar100:
    """CIFAR-100: 50,000 training and 10,000 test images with one hundred fine labels, (3, 32, 32).

    Source: Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """

    name = "cifar100"
    network = "liao_cifar"
    shape = (3, 32, 32)
    classes = 100
    preset: ClassVar[Mapping[str, Any]] = {}
    files = (
        Archive(
            "cifar-100-binary.tar.gz",
            168513733,
            f"{HOST}cifar-100-binary.tar.gz",
            (
                Member("cifar-100-binary/train.bin", 50000 * (2 + PIXELS)),
                Member("cifar-100-binary/test.bin", 10000 * (2 + PIXELS)),
            ),
        ),
    )

    def load(self, data_dir: Path | None) -> Arrays:
        """Images (N, 3, 32, 32) and fine labels."""
        return records(files.read(self.name, self.files, data_dir), self.files[0].members, 2, self.classes)


def records(read: Iterator[tuple[str, bytes]], members: tuple[Member, ...], label_bytes: int, classes: int) -> Arrays:
    """Members of fixed-size records as arrays: the last one is the test set, those before it, in order, train.

    The last label byte of a record counts. Whatever order the archive has, the samples end where the list of
    members puts them.

    Raises
    ------
    DataError       a label that is not among the classes
    """
    width = label_bytes + PIXELS
    counts = [member.size // width for member in members]
    starts = dict(zip((member.name for member in members), np.cumsum([0, *counts]).tolist(), strict=False))
    x = np.empty((sum(counts), 3, 32, 32), np.uint8)
    y = np.empty(sum(counts), np.uint8)
    for name, data in read:
        record = np.frombuffer(data, np.uint8).reshape(-1, width)
        found, start = record[:, label_bytes - 1], starts[name]
        if found.max() >= classes:
            raise DataError(f"{name}: label {found.max()} found, 0 to {classes - 1} expected. Fetch the original.")
        x[start : start + len(record)] = record[:, label_bytes:].reshape(-1, 3, 32, 32)
        y[start : start + len(record)] = found
    train = sum(counts[:-1])
    return x[:train], y[:train], x[train:], y[train:]
