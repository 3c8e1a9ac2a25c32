"""PyTorch against NumPy, method by method: two independent implementations of one contract."""

from __future__ import annotations

import numpy as np
import pytest

from bioplaus.backend.numpy import NumPy
from bioplaus.backend.streams import Stream
from bioplaus.backend.window import Window

pytest.importorskip("torch")
from bioplaus.backend.torch import Torch

# Of the largest entry. float32: sums of up to 1,600 products in another order, each rounding 6e-8.
TOLERANCE = {"float64": 1e-12, "float32": 5e-6}
LAYERS = {
    "lenet 1": (1, 20, Window((5, 5), (1, 1), (0, 0, 0, 0), (28, 28))),
    "lenet 2": (20, 50, Window((5, 5), (1, 1), (0, 0, 0, 0), (12, 12))),
    "half": (32, 64, Window((5, 5), (1, 1), (2, 2, 2, 2), (8, 8))),
    "downsampling": (16, 32, Window((3, 3), (2, 2), (1, 1, 1, 1), (16, 16))),
    "shortcut": (16, 32, Window((1, 1), (2, 2), (0, 0, 0, 0), (16, 16))),
    "one-sided": (3, 8, Window((9, 7), (2, 3), (0, 4, 1, 0), (21, 30))),
}
POOLS = {
    "2/2": Window((2, 2), (2, 2), (0, 0, 0, 0), (8, 8)),
    "3/2 overhanging": Window((3, 3), (2, 2), (0, 1, 0, 1), (16, 16)),
    "3/2 half": Window((3, 3), (2, 2), (1, 1, 1, 1), (9, 10)),
    "global": Window((6, 6), (6, 6), (0, 0, 0, 0), (6, 6)),
    "torch cannot": Window((3, 3), (2, 2), (2, 0, 0, 2), (7, 9)),
}


@pytest.fixture(params=["float64", "float32"])
def agree(request):
    """Runs the same lines on both backends; what they return must agree."""
    dtype = request.param

    def check(lines):
        results = []
        for xp in (NumPy(dtype), Torch(dtype)):
            with xp.scope():
                results.append([xp.host(result) for result in lines(xp)])
        for found, expected in zip(*results, strict=True):
            assert found.dtype == expected.dtype == np.dtype(dtype)
            size = np.abs(expected[np.isfinite(expected)]).max(initial=1e-300)
            np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * size)

    return check


@pytest.mark.parametrize("layer", LAYERS)
def test_convolutions_agree(agree, layer, rng):
    inputs, outputs, window = LAYERS[layer]
    x, W = rng.standard_normal((6, inputs, *window.size)), rng.standard_normal((outputs, inputs, *window.kernel))
    n, b, c = (
        rng.standard_normal((6, outputs, *window.output)),
        rng.random((1, outputs, 1, 1)),
        rng.random((1, inputs, 1, 1)),
    )

    def lines(xp):
        X, K, D, B = xp.array(x), xp.array(W), xp.array(n), xp.array(b)
        dW, db = xp.array(W), xp.array(b)
        xp.conv_outer(X, D, dW, window, 0.3, 0.7, db)
        return xp.conv(X, K, B, window), xp.conv_down(D, K, window), xp.conv_down(D, K, window, xp.array(c)), dW, db

    agree(lines)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("pool", POOLS)
def test_pools_agree(agree, pool, ties, rng):
    window = POOLS[pool]
    x, dy = rng.standard_normal((4, 5, *window.size)), rng.standard_normal((4, 5, *window.output))
    x = np.round(x) if ties else x

    def lines(xp):
        X, D = xp.array(x), xp.array(dy)
        y, which = xp.maxpool(X, window)
        back = xp.maxpool_back(D, X, which, window)
        return y, back, xp.avgpool(X, window), xp.avgpool_back(xp.array(dy), X, window)

    agree(lines)


@pytest.mark.parametrize("shape", [(10, 6, 7, 8), (50, 30)])
def test_standardizations_agree(agree, shape, rng):
    x, dz = 1 + 2 * rng.standard_normal(shape), rng.standard_normal(shape)

    def lines(xp):
        X = xp.array(x)
        z, mean, sigma = xp.standardize(X, 1e-3)
        return z, mean, sigma, xp.standardize_back(xp.array(dz), X, mean, sigma)

    agree(lines)


def test_dense_maps_agree(agree, rng):
    x, W, b, n = (rng.standard_normal(shape) for shape in [(40, 30), (30, 20), (1, 20), (40, 20)])

    def lines(xp):
        dW = xp.array(W)
        xp.linear_outer(xp.array(x), xp.array(n), dW, 0.3, 0.7)
        linear = xp.linear(xp.array(x), xp.array(W), xp.array(b))
        return linear, xp.linear(xp.array(x), xp.array(W), None), xp.linear_down(xp.array(n), xp.array(W)), dW

    agree(lines)


def test_element_by_element_they_agree(agree, rng):
    x, y = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))

    def lines(xp):
        a, b = xp.array(x), xp.array(y)
        out = [xp.zeros((5, 4)) for _ in range(3)]
        return (
            *(xp.sign(a), xp.exp(a), xp.log(xp.abs(a)), xp.sqrt(xp.abs(a)), xp.tanh(a), xp.log_softmax(30 * a)),
            *(xp.relu(a), xp.relu_back(xp.array(y), a), xp.maximum(a, b), xp.maximum(a, 0.2)),
            *(xp.sigmoid(a), xp.sigmoid_back(a, b), xp.tanh_back(a, b), xp.stack([a, b])),
            *(xp.where(a > b, a, b), xp.where(a > 0, a, 0.0), xp.where(a > 0, 1.0, b)),
            *(xp.add_scaled(a, b, -0.3, out[0]), xp.multiply(a, b, out[1]), xp.multiply(a, -0.3, out[2])),
            *xp.cross_entropy(a, xp.raw(np.array([3, 0, 1, 2, 0]))),
            *(xp.one_hot(xp.raw(np.array([1, 0])), 3), xp.floats(xp.raw(np.arange(256, dtype=np.uint8)))),
        )

    agree(lines)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_they_draw_the_same_numbers(dtype):
    drawn = []
    for xp in (NumPy(dtype), Torch(dtype)):
        out = xp.zeros((3, 2, 4, 5))
        xp.uniform(Stream(4).at("M", "conv1"), out)
        drawn.append(xp.host(out))
    np.testing.assert_array_equal(*drawn, strict=True)
