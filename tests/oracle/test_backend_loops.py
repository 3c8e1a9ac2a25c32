"""Convolutions and pools against plain loops over indices; statistics against finite differences."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from bioplaus.backend.numpy import NumPy
from bioplaus.backend.window import Window

WINDOWS = [
    Window((1, 1), (1, 1), (0, 0, 0, 0), (3, 4)),
    Window((1, 1), (2, 3), (0, 0, 0, 0), (5, 4)),
    Window((3, 3), (1, 1), (1, 1, 1, 1), (5, 4)),
    Window((3, 2), (2, 1), (0, 1, 0, 1), (6, 5)),  # one-sided
    Window((2, 3), (1, 2), (1, 0, 2, 0), (4, 6)),
    Window((3, 3), (2, 2), (0, 1, 0, 1), (8, 8)),  # the last window hangs over
    Window((2, 2), (3, 3), (0, 0, 0, 0), (7, 6)),  # elements nobody sees
    Window((5, 4), (1, 1), (0, 0, 0, 0), (5, 4)),  # one window
    Window((4, 4), (3, 1), (3, 3, 3, 3), (2, 3)),  # larger than the map
]
by_window = pytest.mark.parametrize("window", WINDOWS, ids=str)


@pytest.fixture
def xp(backends):
    """Each backend in float64; NumPy takes one sample at a time, so that the seams between blocks are seen."""
    backend = backends(dtype="float64")
    if isinstance(backend, NumPy):
        backend.block_bytes = 1
    return backend


def seen(window, row, column):
    """The in-image elements of one window as (i, j, map row, map column), in row order."""
    (kh, kw), (sh, sw), (top, _, left, _), (h, w) = window.kernel, window.stride, window.pad, window.size
    for i, j in product(range(kh), range(kw)):
        r, c = row * sh + i - top, column * sw + j - left
        if 0 <= r < h and 0 <= c < w:
            yield i, j, r, c


def windows(window):
    return product(range(window.output[0]), range(window.output[1]))


@by_window
def test_conv_its_adjoint_and_its_weight_gradient_are_the_sums_they_say(xp, window, rng):
    x = rng.standard_normal((3, 2, *window.size))
    W, b, c = rng.standard_normal((4, 2, *window.kernel)), rng.standard_normal((1, 4, 1, 1)), np.ones((1, 2, 1, 1))
    n = rng.standard_normal((3, 4, *window.output))
    up, down, outer = np.zeros_like(n), np.zeros_like(x), np.zeros_like(W)
    for row, column in windows(window):
        for i, j, r, s in seen(window, row, column):
            up[:, :, row, column] += x[:, :, r, s] @ W[:, :, i, j].T
            down[:, :, r, s] += n[:, :, row, column] @ W[:, :, i, j]
            outer[:, :, i, j] += n[:, :, row, column].T @ x[:, :, r, s]

    close = {"rtol": 1e-12, "atol": 1e-12}
    out, bias = xp.zeros(W.shape), xp.zeros(b.shape)
    xp.conv_outer(xp.array(x), xp.array(n), out, window, 1.0, 0.0, bias)
    np.testing.assert_allclose(xp.host(xp.conv(xp.array(x), xp.array(W), xp.array(b), window)), up + b, **close)
    np.testing.assert_allclose(xp.host(xp.conv(xp.array(x), xp.array(W), None, window)), up, **close)
    np.testing.assert_allclose(xp.host(xp.conv_down(xp.array(n), xp.array(W), window)), down, **close)
    np.testing.assert_allclose(xp.host(xp.conv_down(xp.array(n), xp.array(W), window, xp.array(c))), down + c, **close)
    np.testing.assert_allclose(xp.host(out), outer, **close)
    np.testing.assert_allclose(xp.host(bias), n.sum((0, 2, 3), keepdims=True), **close)


def test_the_adjoint_is_right_for_few_and_for_many_outputs(xp, rng):
    """NumPy convolves with the flipped kernel for few outputs and adds up the parts for many."""
    window = Window((3, 3), (1, 1), (1, 0, 0, 1), (4, 5))
    for outputs, inputs in [(1, 6), (6, 1)]:
        n, V = rng.standard_normal((2, outputs, *window.output)), rng.standard_normal((outputs, inputs, 3, 3))
        down = np.zeros((2, inputs, *window.size))
        for row, column in windows(window):
            for i, j, r, c in seen(window, row, column):
                down[:, :, r, c] += n[:, :, row, column] @ V[:, :, i, j]
        np.testing.assert_allclose(
            xp.host(xp.conv_down(xp.array(n), xp.array(V), window)), down, rtol=1e-12, atol=1e-12
        )


@by_window
@pytest.mark.parametrize("kind", ["negative", "ties", "any"])
def test_maxpool_takes_the_first_largest_in_image_element_and_sends_the_error_there(xp, window, kind, rng):
    shape = (3, 2, *window.size)
    x = {
        "negative": -1 - rng.random(shape),  # zeros in the padding would win
        "ties": rng.integers(0, 2, shape).astype(float),
        "any": rng.standard_normal(shape),
    }[kind]
    dy = rng.standard_normal((3, 2, *window.output))
    y, dx = np.zeros_like(dy), np.zeros_like(x)
    for sample, channel, (row, column) in product(range(3), range(2), windows(window)):
        inside = [(r, c) for _, _, r, c in seen(window, row, column)]
        r, c = max(inside, key=lambda place: x[sample, channel, *place])  # the first of equals
        y[sample, channel, row, column] = x[sample, channel, r, c]
        dx[sample, channel, r, c] += dy[sample, channel, row, column]
    found, which = xp.maxpool(xp.array(x), window)
    np.testing.assert_array_equal(xp.host(found), y)
    back = xp.maxpool_back(xp.array(dy), xp.array(x), which, window)
    np.testing.assert_allclose(xp.host(back), dx, rtol=1e-12, atol=1e-13)


def test_maxpool_counts_beyond_256_elements(xp, rng):
    window = Window((17, 16), (1, 1), (0, 0, 0, 0), (18, 17))
    x = rng.standard_normal((1, 1, 18, 17))
    x[0, 0, 16, 15] = 9  # element 271 of the first window
    y, which = xp.maxpool(xp.array(x), window)
    assert (xp.host(y) == 9).all()
    back = xp.host(xp.maxpool_back(xp.array(np.ones((1, 1, 2, 2))), xp.array(x), which, window))
    assert back[0, 0, 16, 15] == 4 and back.sum() == 4


@by_window
def test_avgpool_divides_by_the_in_image_elements(xp, window, rng):
    x, dy = rng.standard_normal((3, 2, *window.size)), rng.standard_normal((3, 2, *window.output))
    y, dx = np.zeros_like(dy), np.zeros_like(x)
    for row, column in windows(window):
        inside = [(r, c) for _, _, r, c in seen(window, row, column)]
        for r, c in inside:
            y[:, :, row, column] += x[:, :, r, c] / len(inside)
            dx[:, :, r, c] += dy[:, :, row, column] / len(inside)
    np.testing.assert_allclose(xp.host(xp.avgpool(xp.array(x), window)), y, rtol=1e-12, atol=1e-13)
    back = xp.avgpool_back(xp.array(dy), xp.array(x), window)
    np.testing.assert_allclose(xp.host(back), dx, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (6, 3)])
def test_standardize_is_its_definition_and_its_error_is_the_derivative(xp, shape, rng):
    eps, axes = 0.1, (0, 2, 3)[: len(shape) - 1]
    x, dz = 2 + 3 * rng.standard_normal(shape), rng.standard_normal(shape)

    def standardized(x):
        mean = x.mean(axes, keepdims=True)
        sigma = np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + eps)
        return (x - mean) / sigma, mean.ravel(), sigma.ravel()

    z, mean, sigma = xp.standardize(xp.array(x), eps)
    for found, expected in zip((z, mean, sigma), standardized(x), strict=True):
        np.testing.assert_allclose(xp.host(found), expected, rtol=1e-12, atol=1e-13)
    dx, h = np.zeros(shape), 1e-5
    for index in np.ndindex(shape):
        nudge = np.zeros(shape)
        nudge[index] = h
        dx[index] = ((standardized(x + nudge)[0] - standardized(x - nudge)[0]) * dz).sum() / (2 * h)
    back = xp.standardize_back(xp.array(dz), xp.array(x), mean, sigma)
    np.testing.assert_allclose(xp.host(back), dx, rtol=1e-6, atol=1e-9)


def test_linear_its_adjoint_and_leading_axes(xp, rng):
    x, W, b, n = (rng.standard_normal(shape) for shape in [(2, 4, 3), (3, 5), (1, 5), (2, 4, 5)])
    for lead in [(), (0,)]:  # (N, .) and (replica, N, .)
        a, d = (x[0], n[0]) if lead else (x, n)
        found = xp.linear(xp.array(a), xp.array(W), xp.array(b))
        np.testing.assert_allclose(xp.host(found), np.einsum("...i,io->...o", a, W) + b, rtol=1e-12, atol=1e-13)
        found = xp.linear_down(xp.array(d), xp.array(W))
        np.testing.assert_allclose(xp.host(found), np.einsum("...o,io->...i", d, W), rtol=1e-12, atol=1e-13)


def test_saturating_nonlinearities_and_their_slopes(xp):
    """By their definitions; far out they stay finite; the way back may be written over the error it is given."""
    x = np.array([[-800.0, -2.0, -1e-9], [0.0, 0.5, 800.0]])
    dy = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, 1.0]])
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(xp.host(xp.sigmoid(xp.array(x))), sigmoid, rtol=1e-14, atol=1e-16)
    for back, y, slope in (
        (xp.sigmoid_back, sigmoid, sigmoid * (1 - sigmoid)),
        (xp.tanh_back, np.tanh(x), 1 - np.tanh(x) ** 2),
    ):
        np.testing.assert_allclose(xp.host(back(xp.array(dy), xp.array(y))), dy * slope, rtol=1e-14)
        wide = xp.zeros((2, 5))
        wide[:, 1:4] = xp.array(dy)
        back(wide[:, 1:4], xp.array(y), out=wide[:, 1:4])
        np.testing.assert_allclose(xp.host(wide)[:, 1:4], dy * slope, rtol=1e-14)
        assert not xp.host(wide)[:, [0, 4]].any()


def test_stacking_makes_a_new_first_axis(xp, rng):
    arrays = [rng.standard_normal((3, 2)) for _ in range(4)]
    given = [xp.array(a) for a in arrays]
    np.testing.assert_array_equal(xp.host(xp.stack(given)), np.stack(arrays))
    own, other = xp.zeros((4, 3, 2)), xp.zeros((3, 3, 2))
    assert xp.stack(given, out=own) is own
    np.testing.assert_array_equal(xp.host(own), np.stack(arrays))
    np.testing.assert_array_equal(xp.host(xp.stack(given, out=other)), np.stack(arrays))
    assert not xp.host(other).any()


def test_rows_are_standardized_one_by_one(xp, rng):
    x, dz, eps = rng.standard_normal((3, 5)), rng.standard_normal((3, 5)), 0.01
    z, dx = np.zeros((3, 5)), np.zeros((3, 5))
    for i, (row, error) in enumerate(zip(x, dz, strict=True)):
        sigma = np.sqrt(row.var() + eps)
        z[i] = (row - row.mean()) / sigma
        slope = (np.eye(5) - 1 / 5) / sigma - np.outer(z[i], z[i]) / (5 * sigma)
        dx[i] = slope @ error
    found, *kept = xp.standardize_rows(xp.array(x), eps)
    np.testing.assert_allclose(xp.host(found), z, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(xp.host(xp.standardize_rows_back(xp.array(dz), xp.array(x), *kept)), dx, rtol=1e-11)


def test_rows_that_come_more_than_once_are_added_each_time(xp, rng):
    out, values, rows = rng.standard_normal((4, 3)), rng.standard_normal((5, 3)), np.array([2, 0, 2, 2, 3])
    found = xp.array(out)
    xp.add_rows(found, xp.raw(rows), xp.array(values), -0.5)
    for i, row in enumerate(rows):
        out[row] -= 0.5 * values[i]
    np.testing.assert_allclose(xp.host(found), out, rtol=1e-13)
