"""Powers and their roots, as Lp and divisive normalization take them; each with its way back."""

from __future__ import annotations

from typing import Any

from bioplaus.backend.base import Array, Backend


def power(xp: Backend, d: Array, p: float) -> Array:
    """|d|^p, element by element; p = 1 takes no powers."""
    if p == 1.0:
        return xp.abs(d)
    return d * d if p == 2.0 else xp.abs(d) ** p


def power_back(xp: Backend, g: Array, d: Array, p: float) -> Array:
    """g h, where h = |d|^(p-1) sign(d) is what d|d|^p/dd has beside the factor p; sign(0) = 0.

    The factor p is the caller's: it cancels against the 1/p of the root.
    """
    if p == 1.0:
        return xp.sign(d) * g
    return d * g if p == 2.0 else xp.abs(d) ** (p - 1.0) * xp.sign(d) * g


def root(xp: Backend, q: Array, p: float) -> Array:
    """q^(1/p), q > 0."""
    if p == 1.0:
        return q
    return xp.sqrt(q) if p == 2.0 else q ** (1.0 / p)


def root_back(g: Array, r: Array, p: float) -> Array:
    """g r^(1-p): p times the error at q, where r = q^(1/p); see ``power_back`` for the factor."""
    if p == 1.0:
        return g
    return g / r if p == 2.0 else g * r ** (1.0 - p)


def heeger(
    xp: Backend, z: Array, u: Array | None, w: Array | None, sigma: float, p: float = 2.0, gamma: float = 1.0
) -> Array:
    """gamma (u' z) / (sigma^2 + w' |z|^p)^(1/p): divisive normalization with weights of its own.

    Parameters
    ----------
    z : array (..., units, places)  activity; places do not look at each other
    u : array (units, units)        column k holds what unit k sums; None for the identity
    w : array (units, units)        column k holds what suppresses unit k, all 0 or more; None for 1 / units everywhere
    sigma, p, gamma : float         sigma > 0, p >= 1

    Returns
    -------
    array of z's shape

    Source: NINAI report (2017), eq. 5, after Heeger (1992), Normalization of cell responses in cat striate cortex.
    """
    return _summed(z, u) * gamma / root(xp, _suppression(xp, z, w, sigma, p), p)


def heeger_back(
    xp: Backend, dy: Array, z: Array, u: Array | None, w: Array | None, sigma: float, p: float = 2.0, gamma: float = 1.0
) -> Array:
    """The error at z of ``heeger``."""
    divisor = root(xp, _suppression(xp, z, w, sigma, p), p)
    above = dy * gamma / divisor
    dq = root_back(-above * _summed(z, u) / divisor, divisor, p)
    spread: Any = dq.mean(-2, keepdims=True) if w is None else w @ dq
    return (above if u is None else u @ above) + power_back(xp, spread, z, p)


def _summed(z: Array, u: Array | None) -> Array:
    return z if u is None else u.T @ z


def _suppression(xp: Backend, z: Array, w: Array | None, sigma: float, p: float) -> Array:
    powers = power(xp, z, p)
    return sigma * sigma + (powers.mean(-2, keepdims=True) if w is None else w.T @ powers)
