"""Scores and the errors they start, summed over samples; each error is d(score)/d(output), per sample."""

from __future__ import annotations

from bioplaus.backend.base import Array, Backend


def cross_entropy(xp: Backend, logits: Array, labels: Array, weight: Array | None) -> tuple[Array, Array]:
    """E = -sum_n w_n log softmax(o_n)[y_n], and dE/do = w (softmax(o) - one-hot of y).

    logits (..., N, K), labels (..., N) int64; weight (..., N) or None for all ones.
    """
    lost, error = xp.cross_entropy(logits, labels)
    if weight is None:
        return lost.sum(), error
    return (weight * lost).sum(), xp.multiply(error, weight[..., None], out=error)


def squared(output: Array, target: Array, weight: Array | None) -> tuple[Array, Array]:
    """E = 1/2 sum_n w_n ||o_n - t_n||^2, and dE/do = w (o - t)."""
    difference = output - target
    if weight is not None:
        difference_w = difference * weight.reshape((-1, *([1] * (difference.ndim - 1))))
        return (difference_w * difference).sum() * 0.5, difference_w
    return (difference * difference).sum() * 0.5, difference
