"""MNIST: 70,000 handwritten digits, 28 x 28 grey, in the four original IDX files.

Source: LeCun, Cortes & Burges; LeCun, Bottou, Bengio & Haffner (1998). CC BY-SA 3.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.data import files
from bioplaus.data.dataset import Arrays
from bioplaus.data.files import Archive, Member
from bioplaus.errors import DataError

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"


def _packed(name: str, packed: int, size: int, sha256: str) -> Archive:
    return Archive(f"{name}.gz", packed, f"{MIRROR}{name}.gz", (Member(name, size, f"sha256:{sha256}"),))


class Mnist:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, (1, 28, 28).

    Source: LeCun et al. (1998), Gradient-based learning applied to document recognition.
    """

    name = "mnist"
    network = "lenet"
    shape = (1, 28, 28)
    classes = 10
    preset: ClassVar[Mapping[str, Any]] = {}
    files = (
        _packed(
            "train-images-idx3-ubyte",
            9912422,
            47040016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        _packed(
            "train-labels-idx1-ubyte", 28881, 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        _packed(
            "t10k-images-idx3-ubyte",
            1648877,
            7840016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        _packed(
            "t10k-labels-idx1-ubyte", 4542, 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    )

    def load(self, data_dir: Path | None) -> Arrays:
        """The images (N, 1, 28, 28) and labels of the IDX files."""
        x, y, x_test, y_test = (idx(data, name) for name, data in files.read(self.name, self.files, data_dir))
        return x, y, x_test, y_test


def idx(data: bytes, name: str) -> Array:
    """The array in an IDX file: uint8, with as many axes and of the lengths its header says.

    Raises
    ------
    DataError       another kind of file, or not as many values as the header announces
    """
    axes = data[3] if len(data) > 3 else 0
    lengths = np.frombuffer(data[4 : 4 + 4 * axes], ">u4").tolist() if len(data) >= 4 + 4 * axes else []
    if data[:3] != b"\x00\x00\x08" or len(lengths) != axes or not axes:
        raise DataError(f"{name}: not an IDX file of bytes (it begins with {data[:4].hex()}). Fetch the original.")
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if values.size != np.prod(lengths, dtype=object):
        raise DataError(f"{name}: {values.size} values found, {lengths} announced. Fetch the original.")
    return values.reshape(lengths)
