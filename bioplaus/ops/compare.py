"""How two arrays of one shape agree: signs, angle, lengths. One-element arrays, so nothing is read from a device."""

from __future__ import annotations

from math import prod

from bioplaus.backend.base import Array, Backend


def length(xp: Backend, a: Array) -> Array:
    """||a||, the root of the sum of squares."""
    return xp.sqrt(xp.inner(a, a))


def cosine(xp: Backend, a: Array, b: Array) -> Array:
    """<a, b> / (||a|| ||b||); NaN where one of them is zero."""
    return xp.inner(a, b) / (length(xp, a) * length(xp, b))


def sign_disagreement(xp: Backend, a: Array, b: Array) -> Array:
    """Share of elements whose signs differ; that of 0 is 0."""
    return xp.unlike_signs(a, b) / prod(a.shape)
