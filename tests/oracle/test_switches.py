"""What backends offer for going down: values at the winners, gates that spare their input, inverses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioplaus.backend.numpy import NumPy
from bioplaus.backend.window import Window

WINDOWS = [
    Window((2, 2), (2, 2), (0, 0, 0, 0), (6, 4)),
    Window((2, 2), (2, 2), (0, 0, 0, 0), (7, 5)),  # a row and a column over
    Window((3, 2), (2, 1), (0, 0, 0, 0), (7, 5)),
    Window((3, 3), (2, 2), (1, 1, 1, 1), (6, 6)),
    Window((3, 3), (2, 2), (0, 1, 0, 1), (6, 6)),
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_at_the_winners_by_loops(backends, window, dtype, rng):
    xp = backends(dtype=dtype)
    x, d = (rng.standard_normal((2, 3, *window.size)).astype(dtype) for _ in range(2))
    x[0, 0] = 1.0  # equal everywhere: the first one wins
    y, which = xp.maxpool(xp.array(x), window)
    found = xp.host(xp.maxpool_take(xp.array(d), which, window))
    expected = np.zeros(xp.host(y).shape, dtype)
    (kh, kw), (sh, sw), (top, _, left, _), (H, W) = window.kernel, window.stride, window.pad, window.size
    for n, c, i, j in np.ndindex(expected.shape):
        best, at = -np.inf, None
        for row in range(max(0, i * sh - top), min(H, i * sh - top + kh)):
            for column in range(max(0, j * sw - left), min(W, j * sw - left + kw)):
                if x[n, c, row, column] > best:
                    best, at = x[n, c, row, column], (row, column)
        expected[n, c, i, j] = d[n, c, *at]
    np.testing.assert_array_equal(found, expected, strict=True)
    g = xp.array(rng.standard_normal(expected.shape))
    back = xp.maxpool_back(g + 0.0, xp.array(x), which, window)
    assert float((back * xp.array(d)).sum()) == pytest.approx(float((g * xp.array(expected)).sum()), rel=1e-4, abs=1e-4)


def test_a_gate_can_spare_its_input(backends, rng):
    xp = backends(dtype="float64")
    d, y = (xp.array(rng.standard_normal((2, 3, 4, 4))) for _ in range(2))
    before = xp.host(d)
    gated = xp.host(xp.relu_back(d, y, inplace=False))
    np.testing.assert_array_equal(gated, np.where(xp.host(y) > 0, before, 0.0))
    np.testing.assert_array_equal(xp.host(d), before)
    np.testing.assert_array_equal(xp.host(xp.relu_back(d, y)), gated)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_inverse_is_moore_and_penroses(backends, dtype, rng):
    xp = backends(dtype=dtype)
    D = rng.standard_normal((20, 6))
    D[:, 3], D[:, 5] = 0.0, D[:, 4]  # never on; always on together
    A = D.T @ D
    found = xp.host(xp.pseudo_inverse(xp.array(A), 1e-6))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.linalg.pinv(A), rtol=1e-4, atol=1e-5 if dtype == "float32" else 1e-12)
    assert not xp.host(xp.pseudo_inverse(xp.zeros((4, 4)), 1e-6)).any()


@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 10**6))
def test_an_inverse_solves_where_there_is_something_to_solve(size, rows, seed):
    xp = NumPy("float64")
    D = np.random.default_rng(seed).standard_normal((rows, size))
    A = D.T @ D
    inverse = xp.pseudo_inverse(A, 1e-12)
    np.testing.assert_allclose(A @ inverse @ A, A, rtol=1e-6, atol=1e-8)
