"""NormOp: what is done to the activity with its statistics, and the explicit way back."""

from __future__ import annotations

from bioplaus.backend.base import Array, Backend


class SubtractDivide:
    """z = (x - mean) / sigma."""

    removes_bias = True

    def stored(self, x: Array, mean: Array, sigma: Array) -> Array:
        """With statistics from elsewhere; mean and sigma ready to broadcast."""
        return (x - mean) / sigma

    def fresh(self, xp: Backend, x: Array, eps: float) -> tuple[Array, Array, Array]:
        """With this batch's own: z, mean and sigma, the last two (channels,)."""
        return xp.standardize(x, eps)

    def back(self, xp: Backend, dz: Array, x: Array, mean: Array, sigma: Array) -> Array:
        """dx = (dz - mean(dz) - z mean(dz z)) / sigma."""
        return xp.standardize_back(dz, x, mean, sigma)
