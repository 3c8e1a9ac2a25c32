"""STL-10: 13,000 labelled colour images of 96 x 96, in the original binary files.

Pixels lie column by column, labels count from 1; the 100,000 unlabelled images are not read.
Of its members MD5 sums are published, and checked.
Source: Coates, Lee & Ng (2011), An Analysis of Single-Layer Networks in Unsupervised Feature Learning.
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

URL = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
PIXELS = 3 * 96 * 96


def _part(name: str, size: int, md5: str) -> Member:
    return Member(f"stl10_binary/{name}.bin", size, f"md5:{md5}")


class Stl10:
    """STL-10: 5,000 training and 8,000 test images of ten kinds of things, (3, 96, 96).

    Source: Coates, Ng & Lee (2011), An analysis of single-layer networks in unsupervised feature learning.
    """

    name = "stl10"
    network = "liao_119"
    shape = (3, 96, 96)
    classes = 10
    names = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    preset: ClassVar[Mapping[str, Any]] = {}
    files = (
        Archive(
            "stl10_binary.tar.gz",
            2640397119,
            URL,
            (
                _part("train_X", 5000 * PIXELS, "918c2871b30a85fa023e0c44e0bee87f"),
                _part("train_y", 5000, "5a34089d4802c674881badbb80307741"),
                _part("test_X", 8000 * PIXELS, "7f263ba9f9e0b06b93213547f721ac82"),
                _part("test_y", 8000, "36f9794fa4beb8a2c72628de14fa638e"),
            ),
        ),
    )

    def load(self, data_dir: Path | None) -> Arrays:
        """Images (N, 3, 96, 96) and labels 0 to 9."""
        read = {name: np.frombuffer(data, np.uint8) for name, data in files.read(self.name, self.files, data_dir)}
        x, y, x_test, y_test = (read[member.name] for member in self.files[0].members)
        return images(x), classes(y), images(x_test), classes(y_test)


def images(values: Array) -> Array:
    """Images (N, 3, 96, 96) from planes written column by column."""
    return values.reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)


def classes(values: Array) -> Array:
    """Labels from 0, of labels from 1."""
    if values.min() < 1 or values.max() > 10:
        raise DataError(f"stl10: labels {values.min()} to {values.max()} found, 1 to 10 expected. Fetch the original.")
    return values - 1
