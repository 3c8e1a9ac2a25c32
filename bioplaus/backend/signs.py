"""Comparing signs the way NumPy does it fast: for arrays of NumPy's kind, and for tensors that share their memory."""

from __future__ import annotations

from typing import Any

from bioplaus.backend.base import Array

AT_ONCE = 1 << 15  # elements whose comparison stays in the cache


def unlike(np: Any, a: Array, b: Array) -> Any:
    """In how many elements the signs of two arrays of one shape differ: one is above 0 and one is not, or below."""
    order = "K" if a.strides == b.strides else "C"
    a, b = a.ravel(order), b.ravel(order)
    found = 0
    for start in range(0, a.size, AT_ONCE):
        x, y = a[start : start + AT_ONCE], b[start : start + AT_ONCE]
        differs = (x > 0) ^ (y > 0)
        differs |= (x < 0) ^ (y < 0)
        found += np.count_nonzero(differs)
    return found
