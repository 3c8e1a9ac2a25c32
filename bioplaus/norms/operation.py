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

    def fresh_scaled(self, xp: Backend, x: Array, eps: float, gain: Array, bias: Array) -> tuple[Array, Array, Array]:
        """gain z + bias, mean and sigma."""
        return xp.standardize_scaled(x, eps, gain, bias)

    def back_scaled(
        self, xp: Backend, dy: Array, x: Array, mean: Array, sigma: Array, gain: Array
    ) -> tuple[Array, Array, Array]:
        """dx, dgain = sum(dy z), dbias = sum(dy)."""
        return xp.standardize_scaled_back(dy, x, mean, sigma, gain)
