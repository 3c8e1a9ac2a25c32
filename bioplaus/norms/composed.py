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

    def __post_init__(self) -> None:
        if not self.eps > 0.0:
            raise ValueError(f"eps is {self.eps}; wanted a number above 0")

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
            return self._stored(n, state), None
        z, mean, sigma = self.op.fresh(xp, n, self.eps)
        self._remember(state, mean, sigma, at)
        return z, (n, mean, sigma)

    def back(self, xp: Backend, dz: Array, state: State, cache: Any) -> Array:
        """Through both statistics."""
        n, mean, sigma = cache
        return self.op.back(xp, dz, n, mean, sigma)

    def forward_scaled(
        self, xp: Backend, n: Array, state: State, at: At, gain: Array, bias: Array
    ) -> tuple[Array, Any]:
        """gain z + bias, in one go where the backend can."""
        if not at.train and not at.collect:
            return self._stored(n, state) * gain + bias, None
        y, mean, sigma = self.op.fresh_scaled(xp, n, self.eps, gain, bias)
        self._remember(state, mean, sigma, at)
        return y, (n, mean, sigma)

    def back_scaled(self, xp: Backend, dy: Array, state: State, cache: Any, gain: Array) -> tuple[Array, Array, Array]:
        """dn through gain and both statistics, dgain, dbias."""
        n, mean, sigma = cache
        return self.op.back_scaled(xp, dy, n, mean, sigma, gain)

    def _stored(self, n: Array, state: State) -> Array:
        ready = (1, -1, *([1] * (n.ndim - 2)))
        return self.op.stored(n, state["mean"].reshape(ready), state["sigma"].reshape(ready))

    def _remember(self, state: State, mean: Array, sigma: Array, at: At) -> None:
        if at.collect:
            self.stats.gather(state, mean, sigma)
        elif at.track:
            self.stats.observe(state, mean, sigma)

    def begin_collecting(self, state: State) -> None:
        """The next batch starts the running mean anew."""
        state["collected"][...] = 0.0

    def updated(self, xp: Backend, state: State) -> None:
        """Nothing moves with the weights."""
