"""Which samples make up which batch: the order of an epoch, and the padded batches of a test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.backend.streams import Stream
from bioplaus.errors import ConfigError


def batches(n: int, size: int, stream: Stream, epoch: int) -> Iterator[Array]:
    """Places of the samples of each training batch of one epoch.

    The order depends on the stream and the epoch alone. The last partial batch is dropped.

    Parameters
    ----------
    n, size : int       samples there are; samples per batch

    Returns
    -------
    iterator of int64 (size,)       n // size of them; no place twice

    Raises
    ------
    ConfigError         not one whole batch
    """
    if not 1 <= size <= n:
        raise ConfigError(f"samples_per_batch: {size} given, 1 to {n} wanted (training samples). Set it in that range.")
    order = stream.at("order", epoch).generator().permutation(n).astype(np.int64, copy=False)
    return iter(order[: n // size * size].reshape(-1, size))


def test_batches(n: int, size: int) -> Iterator[tuple[Array, Array]]:
    """Places and weights of the samples of each test batch, in order, every batch of full size.

    Returns
    -------
    iterator of (int64 (size,), float32 (size,))        weight 1; in the last batch, place 0 with weight 0 as padding
    """
    for start in range(0, n, size):
        index = np.arange(start, start + size, dtype=np.int64)
        real = index < n
        yield np.where(real, index, 0), real.astype(np.float32)


def streams(n: int, size: int, steps: int) -> Iterator[Array]:
    """Places at which the streams of each training batch of a text go on, batch after batch.

    The text is cut into ``size`` streams of one length; a batch covers ``steps`` symbols of each. What is left over at
    the end of streams and text is dropped.

    Returns
    -------
    iterator of int64 (size,)       place b covers b, ..., b + steps - 1

    Raises
    ------
    ConfigError         not one whole batch
    """
    length = n // size
    if length < steps:
        raise ConfigError(
            f"samples_per_batch: {size} streams of {steps} steps given, the text has {n} symbols. "
            "Take fewer, or a longer text."
        )
    return iter(np.arange(size) * length + np.arange(0, length - steps + 1, steps, dtype=np.int64)[:, None])


def test_streams(n: int, size: int, steps: int) -> Iterator[tuple[Array, Array]]:
    """Places and weights of every symbol of a test text, in batches of ``size`` streams and ``steps`` steps.

    Returns
    -------
    iterator of (int64 (steps, size), float32 (steps, size))        weight 1; place 0 with weight 0 is padding
    """
    length = -(-n // size)
    ends = np.minimum(np.arange(1, size + 1) * length, n)
    for start in range(0, length, steps):
        index = np.arange(size) * length + np.arange(start, start + steps, dtype=np.int64)[:, None]
        real = index < ends
        yield np.where(real, index, 0), real.astype(np.float32)
