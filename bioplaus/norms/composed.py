"""A norm: whose activity counts (ref) x what is remembered (stats) x what is done with it (op)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bioplaus.backend.base import Array, Backend
from bioplaus.norms.operation import SubtractDivide
from bioplaus.norms.reference import PerChannelOverBatch
from bioplaus.norms.stats import BatchMoments
from bioplaus.parts import At, State


@dataclass(frozen=True)
class BatchNorm:
    """Normalization by the statistics of the batch, with its explicit way back."""

    ref: PerChannelOverBatch
    stats: BatchMoments
    op: SubtractDivide
    affine: bool = False
    eps: float = 1e-5

    @property
    def removes_bias(self) -> bool:
        """The mean is taken away, so a bias before the norm would do nothing."""
        return self.op.removes_bias

    @property
    def collects(self) -> int:
        """Training batches wanted after each epoch."""
        return self.stats.collect

    def init(self, xp: Backend, shape: tuple[int, ...], visits: int) -> State:
        """Statistics for samples of ``shape`` (C, H, W) or (units,), one per channel or unit."""
        return self.stats.init(xp, (shape[0],))

    def forward(self, xp: Backend, n: Array, state: State, at: At) -> tuple[Array, Any]:
        """z; in testing with the stored statistics."""
        if not at.train and not at.collect:
            ready = (1, -1, *([1] * (n.ndim - 2)))
            return self.op.stored(n, state["mean"].reshape(ready), state["sigma"].reshape(ready)), None
        z, mean, sigma = self.op.fresh(xp, n, self.eps)
        if at.collect:
            self.stats.gather(state, mean, sigma)
        elif at.track:
            self.stats.observe(state, mean, sigma)
        return z, (n, mean, sigma)

    def back(self, xp: Backend, dz: Array, state: State, cache: Any) -> Array:
        """Through both statistics."""
        n, mean, sigma = cache
        return self.op.back(xp, dz, n, mean, sigma)

    def begin_collecting(self, state: State) -> None:
        """The next batch starts the running mean anew."""
        state["collected"][...] = 0.0

    def updated(self, xp: Backend, state: State) -> None:
        """Nothing moves with the weights."""
