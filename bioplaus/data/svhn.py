"""SVHN: house numbers photographed in streets, 32 x 32 in colour, in the original cropped MATLAB files.

The 73,257 training and 26,032 test images; the additional ("extra") ones are not used.
Source: Netzer, Wang, Coates, Bissacco, Wu & Ng (2011), for non-commercial use.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from bioplaus.backend.base import Array
from bioplaus.data import files
from bioplaus.data.dataset import Arrays
from bioplaus.data.files import Archive, Member
from bioplaus.errors import DataError

HOST = "http://ufldl.stanford.edu/housenumbers/"


def _plain(name: str, size: int, sha256: str) -> Archive:
    return Archive(name, size, f"{HOST}{name}", (Member(name, size, f"sha256:{sha256}"),))


class Svhn:
    """SVHN: 73,257 training and 26,032 test images of house-number digits, (3, 32, 32).

    Source: Netzer et al. (2011), Reading digits in natural images with unsupervised feature learning.
    """

    name = "svhn"
    network = "liao_svhn"
    shape = (3, 32, 32)
    classes = 10
    preset: ClassVar[Mapping[str, Any]] = {}
    files = (
        _plain("train_32x32.mat", 182040794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
        _plain("test_32x32.mat", 64275384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
    )

    def load(self, data_dir: Path | None) -> Arrays:
        """Images (N, 3, 32, 32) and labels 0 to 9."""
        train, test = (mat(data, name) for name, data in files.read(self.name, self.files, data_dir))
        return *train, *test


def mat(data: bytes, name: str) -> tuple[Array, Array]:
    """Images (N, 3, 32, 32) and labels of a MATLAB file's X (32, 32, 3, N) and y (N, 1), where 10 stands for 0.

    Raises
    ------
    DataError       another kind of file, or arrays of other shapes
    """
    try:
        found = loadmat(io.BytesIO(data), variable_names=["X", "y"])
        x, y = found["X"], found["y"].ravel()
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MatReadError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: not a MATLAB 5 file with X and y ({reason}). Fetch the original.") from error
    if x.dtype != np.uint8 or x.shape != (32, 32, 3, len(y)) or y.min() < 1 or y.max() > 10:
        raise DataError(
            f"{name}: X {x.dtype} {x.shape} and {len(y)} labels found, uint8 (32, 32, 3, N) and N labels from 1 to 10 "
            "expected. Fetch the original."
        )
    return x.transpose(3, 2, 0, 1), y % 10
