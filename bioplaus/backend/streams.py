"""Random numbers without hidden state: a stream is a seed and a path of names.

Whatever is drawn is a function of (seed, path), so a resumed run draws what an uninterrupted one
would have drawn and a checkpoint holds no generator. ``Stream(0).at("order", 3)`` is the order of
epoch 3, whatever was drawn before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stream:
    """A named stream of random numbers."""

    seed: int
    path: tuple[str | int, ...] = ()

    def at(self, *path: str | int) -> Stream:
        """The stream one or more names further down."""
        return Stream(self.seed, self.path + path)

    def key(self) -> int:
        """128 bits that belong to this seed and path alone."""
        text = repr((self.seed, self.path)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")

    def generator(self) -> np.random.Generator:
        """A fresh host generator at the start of this stream."""
        return np.random.Generator(np.random.Philox(key=self.key()))
