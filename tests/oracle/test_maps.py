"""Maps are matrices: up, its adjoint and the weight gradient against one written out column by column."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest

from bioplaus.errors import ShapeError

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
MAPS = {
    "dense": ({"dense": 4}, (3,)),
    "conv": ({"conv": 3, "kernel": [3, 2], "stride": [2, 1], "pad": [1, 0, 0, 1]}, (2, 5, 4)),
    "transposed": ({"conv_transposed": 3, "kernel": 3, "stride": 2, "pad": [1, 0, 0, 1], "extra": 1}, (2, 3, 2)),
}
by_map = pytest.mark.parametrize("named", MAPS)


def weighted(engine, named, on):
    layer, shape = MAPS[named]
    tail = [] if named == "dense" else ["flatten", {"out": {"dense": 3}}]
    return engine.net([{"h": layer}, *tail], shape, on=on).nodes[0]


def connections(node, named):
    """[(input, output, weight)]: who is connected with whom, through which weight, by the definition of the layer."""
    if named == "dense":
        return [((i,), (o,), (i, o)) for i in range(3) for o in range(4)]
    window = node.map.window
    (kh, kw), (sh, sw), (top, _, left, _) = window.kernel, window.stride, window.pad
    found = []
    for row, col, i, j in product(range(window.output[0]), range(window.output[1]), range(kh), range(kw)):
        r, c = row * sh + i - top, col * sw + j - left
        if 0 <= r < window.size[0] and 0 <= c < window.size[1]:
            for a, b in product(range(node.W.shape[0]), range(node.W.shape[1])):
                large, small = (b, r, c), (a, row, col)
                found.append((small, large, (a, b, i, j)) if named == "transposed" else (large, small, (a, b, i, j)))
    return found


@by_map
@on_each
def test_up_down_and_outer_sum_over_connections(engine, named, on, rng):
    node = weighted(engine, named, on)
    map, xp = node.map, node.xp
    x, n = rng.standard_normal((2, *map.input)), rng.standard_normal((2, *map.output))
    W, b = rng.standard_normal(map.shape), rng.standard_normal(map.bias_shape)
    up, down, outer = np.zeros_like(n) + b, np.zeros_like(x), np.zeros_like(W)
    for i, o, w in connections(node, named):
        up[:, *o] += x[:, *i] * W[w]
        down[:, *i] += n[:, *o] * W[w]
        outer[w] += (x[:, *i] * n[:, *o]).sum()
    db = n.sum((0, *range(2, n.ndim)), keepdims=True).reshape(map.bias_shape)
    given = {key: xp.array(value) for key, value in {"x": x, "n": n, "W": W, "b": b}.items()}
    with xp.scope():
        np.testing.assert_allclose(xp.host(map.up(given["x"], given["W"], given["b"])), up, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(xp.host(map.up(given["x"], given["W"])), up - b, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(xp.host(map.down(given["n"], given["W"])), down, rtol=1e-11, atol=1e-12)
        for scale, keep, start in ((0.5, 0.0, np.nan), (2.0, 1.0, 3.0), (-1.0, 0.25, 8.0)):
            out, bias = xp.array(np.full(W.shape, start)), xp.array(np.full(map.bias_shape, start))
            map.outer(given["x"], given["n"], out, scale, keep, bias=bias)
            left = keep * start if keep else 0.0
            np.testing.assert_allclose(xp.host(out), left + scale * outer, rtol=1e-11, atol=1e-12)
            np.testing.assert_allclose(xp.host(bias), left + scale * db, rtol=1e-11, atol=1e-12)


@by_map
def test_sizes_and_fan_in(engine, named):
    """Fan-in is the most inputs that one output of the interior has; for a transposed one, the mean over strides."""
    node = weighted(engine, named, "numpy")
    counts = {}
    for _, o, _ in connections(node, named):
        counts[o] = counts.get(o, 0) + 1
    assert node.map.shape == tuple(node.W.shape)
    if named == "transposed":
        assert node.map.fan_in == 2 * 9 // 4
    else:
        assert node.map.fan_in == max(counts.values())
    assert node.map.input == MAPS[named][1]
    assert prod(node.map.output) == node.map.output[0] * prod(node.map.output[1:])


@on_each
def test_an_embedding_is_the_dense_map_of_one_hot_inputs(engine, on, rng):
    node = engine.net([{"e": {"embedding": 4, "words": 6}}, {"out": {"dense": 3}}], (), on=on).nodes[0]
    map, xp = node.map, node.xp
    x, n, W, b = (
        rng.integers(0, 6, 9),
        rng.standard_normal((9, 4)),
        rng.standard_normal((6, 4)),
        rng.standard_normal((1, 4)),
    )
    x[:3] = x[0]  # a word that comes more than once
    hot = np.eye(6)[x]
    with xp.scope():
        np.testing.assert_allclose(xp.host(map.up(xp.raw(x), xp.array(W), xp.array(b))), hot @ W + b, rtol=1e-14)
        assert map.down(xp.array(n), xp.array(W)) is None
        out, bias = xp.array(np.full((6, 4), np.nan)), xp.array(np.full((1, 4), np.nan))
        map.outer(xp.raw(x), xp.array(n), out, 0.5, 0.0, bias=bias)
        np.testing.assert_allclose(xp.host(out), 0.5 * hot.T @ n, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(xp.host(bias), 0.5 * n.sum(0, keepdims=True), rtol=1e-12)
        map.outer(xp.raw(x), xp.array(n), out, 1.0, 1.0, bias=bias)
        np.testing.assert_allclose(xp.host(out), 1.5 * hot.T @ n, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(xp.host(bias), 1.5 * n.sum(0, keepdims=True), rtol=1e-12)


@on_each
def test_weights_start_he_normal_and_biases_at_zero(engine, on):
    layers = [{"c": {"conv": 64, "kernel": 5}}, "relu", "flatten", {"f": {"dense": 50}}, "relu", {"out": {"dense": 3}}]
    net = engine.net(layers, (8, 6, 6), on=on)
    for name, fan_in in (("c", 8 * 25), ("f", 64 * 4)):
        W = engine.W(net)[f"{name}.W"]
        assert abs(W.std() / np.sqrt(2 / fan_in) - 1) < 3 * np.sqrt(0.5 / W.size)
        assert abs(W.mean()) < 3 * W.std() / np.sqrt(W.size)
        assert not engine.W(net)[f"{name}.b"].any()
    other = engine.net(layers, (8, 6, 6), on=on, seed=1)
    assert not np.array_equal(engine.W(other)["c.W"], engine.W(net)["c.W"])


@pytest.mark.parametrize("stride", [1, [2, 1], [1, 3]], ids=str)
def test_a_transposed_convolution_has_no_more_extra_rows_than_its_smaller_stride_leaves(engine, stride):
    layer = {"conv_transposed": 2, "kernel": 3, "stride": stride, "extra": 1}
    with pytest.raises(ShapeError, match=r"layer 'h': extra is 1; wanted 0 up to stride - 1"):
        engine.net([{"h": layer}, "flatten", {"out": {"dense": 3}}], (2, 3, 3))
