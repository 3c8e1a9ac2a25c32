"""How two arrays of one shape agree: signs, angle, lengths. One-element arrays, so nothing is read from a device."""

from __future__ import annotations

from math import prod

from bioplaus.backend.base import Array, Backend


def length(xp: Backend, a: Array) -> Array:
    """||a||, the root of the sum of squares."""
    return xp.sqrt(xp.inner(a, a))


def chord(xp: Backend, a: Array, b: Array) -> Array:
    """Twice the sine of half the angle between a and b: the length of a/||a|| - b/||b||; NaN where one of them is zero.

    A cosine would tell no angle below 0.02 degrees from 0 in float32.
    """
    return length(xp, a / length(xp, a) - b / length(xp, b))


def sign_disagreement(xp: Backend, a: Array, b: Array) -> Array:
    """Share of elements whose signs differ; that of 0 is 0."""
    return xp.unlike_signs(a, b) / prod(a.shape)
