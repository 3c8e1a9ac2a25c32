"""Digits: 1,797 handwritten digits of 8 x 8 in 17 grey levels, shipped with bioplaus.

Source: E. Alpaydin & C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository
(https://doi.org/10.24432/C50P49), licence CC BY 4.0; its test part, as scikit-learn ships it too.
Changed here: the order and the split. The file's tail comes from other writers than its head, so samples were
shuffled once, class by class, and a fifth of every class put aside for testing (1,438 to train, 359 to test).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from bioplaus.data.arrays import read_npz
from bioplaus.data.dataset import Arrays
from bioplaus.data.files import Archive


class Digits:
    """Digits: 1,797 handwritten digits, (1, 8, 8), values 0 to 16; needs no download.

    Source: Alpaydin & Kaynak (1998), Optical recognition of handwritten digits.
    """

    name = "digits"
    network = "digits_net"
    shape = (1, 8, 8)
    classes = 10
    white = 16
    preset: ClassVar[Mapping[str, Any]] = {}
    files: tuple[Archive, ...] = ()

    def load(self, data_dir: Path | None) -> Arrays:
        """The embedded images (N, 1, 8, 8) and labels."""
        with resources.as_file(resources.files("bioplaus.data") / "digits.npz") as path:
            return read_npz(path)
