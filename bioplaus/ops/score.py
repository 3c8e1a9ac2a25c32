"""Scores and the errors they start, summed over samples; each error is d(score)/d(output), per sample."""

from __future__ import annotations

from bioplaus.backend.base import Array, Backend


def cross_entropy(xp: Backend, logits: Array, targets: Array, weight: Array | None) -> tuple[Array, Array]:
    """E = -sum_n w_n sum_k t_nk log softmax(o_n)_k, and dE/do = w (softmax(o) - t).

    logits, targets (..., N, K), targets summing to one per sample; weight (..., N) or None for all ones.
    """
    log_p = xp.log_softmax(logits)
    if weight is not None:
        targets = targets * weight[..., None]
        return -(targets * log_p).sum(), xp.exp(log_p) * weight[..., None] - targets
    return -(targets * log_p).sum(), xp.exp(log_p) - targets


def squared(output: Array, target: Array, weight: Array | None) -> tuple[Array, Array]:
    """E = 1/2 sum_n w_n ||o_n - t_n||^2, and dE/do = w (o - t)."""
    difference = output - target
    if weight is not None:
        difference_w = difference * weight.reshape((-1, *([1] * (difference.ndim - 1))))
        return (difference_w * difference).sum() * 0.5, difference_w
    return (difference * difference).sum() * 0.5, difference
