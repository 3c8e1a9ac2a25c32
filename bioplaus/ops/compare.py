"""How two arrays of one shape agree: signs, angle, lengths. One-element arrays, so nothing is read from a device."""

from __future__ import annotations

from bioplaus.backend.base import Array, Backend


def length(xp: Backend, a: Array) -> Array:
    """||a||, the root of the sum of squares."""
    return xp.sqrt((a * a).sum())


def cosine(xp: Backend, a: Array, b: Array) -> Array:
    """<a, b> / (||a|| ||b||); NaN where one of them is zero."""
    return (a * b).sum() / (length(xp, a) * length(xp, b))


def sign_agreement(xp: Backend, a: Array, b: Array) -> Array:
    """Share of elements whose signs are equal."""
    return xp.floats(xp.sign(a) == xp.sign(b)).mean()
