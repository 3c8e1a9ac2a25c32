"""What backends offer to norms, against NumPy written out: also where the work is cut into parts of uneven size."""

from __future__ import annotations

import sys

import numpy as np
import pytest

SHAPES = [(7, 3, 4, 5), (7, 3, 1, 1), (1, 4, 3, 3), (9, 6)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture(params=["whole", "in parts of two samples"])
def cut(request, backends, monkeypatch):
    def cut(shape):
        xp = backends(dtype="float64")
        module = sys.modules[type(xp).__module__]
        if request.param != "whole" and hasattr(module, "CACHED"):
            monkeypatch.setattr(module, "CACHED", 2 * 8 * int(np.prod(shape[1:])))
        return xp

    return cut


def columns(rng, shape):
    """A number per channel, ready to broadcast."""
    return rng.standard_normal((1, shape[1], *(1 for _ in shape[2:])))


@every_shape
def test_channel_deviation(cut, rng, shape):
    xp = cut(shape)
    x, axes = np.round(rng.standard_normal(shape), 1), (0, *range(2, len(shape)))
    for centre in (x[:1].mean(axes[1:], keepdims=True), 0.0):
        with xp.scope():
            q = xp.channel_deviation(xp.array(x), centre if isinstance(centre, float) else xp.array(centre))
        np.testing.assert_allclose(xp.host(q), abs(x - centre).mean(axes, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0])
@every_shape
def test_channel_moments(cut, rng, shape, p):
    xp, axes = cut(shape), (0, *range(2, len(shape)))
    x = rng.standard_normal(shape) + 3.0
    x[:, 0] = 1.0  # all at their mean: sign(0) = 0
    x[:, 1], x[:, 1].flat[:4] = 0.0, (-3.0, 1.0, 1.0, 1.0)  # some of them, and the sum is exact in any order
    with xp.scope():
        mean, q, tilt = xp.channel_moments(xp.array(x), p)
    d = x - x.mean(axes, keepdims=True)
    np.testing.assert_allclose(xp.host(mean), x.mean(axes, keepdims=True), rtol=1e-13)
    np.testing.assert_allclose(xp.host(q), (abs(d) ** p).mean(axes, keepdims=True), rtol=1e-12, atol=1e-13)
    wanted = np.sign(d).mean(axes, keepdims=True) if p == 1.0 else 0.0 * d[:1].mean(axes, keepdims=True)
    np.testing.assert_allclose(xp.host(tilt + 0.0 * mean), wanted, atol=1e-14)


@every_shape
def test_channel_scaled(cut, rng, shape):
    xp = cut(shape)
    x, mean, scale, shift = rng.standard_normal(shape), *(columns(rng, shape) for _ in range(3))
    args = [xp.array(a) for a in (x, mean, scale, shift)]
    with xp.scope():
        plain, shifted = xp.channel_scaled(*args[:3]), xp.channel_scaled(*args)
    np.testing.assert_allclose(xp.host(plain), (x - mean) * scale, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(xp.host(shifted), (x - mean) * scale + shift, rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(xp.host(args[0]), x)


@every_shape
def test_channel_sums(cut, rng, shape):
    xp = cut(shape)
    dy, x, mean, axes = *rng.standard_normal((2, *shape)), columns(rng, shape), (0, *range(2, len(shape)))
    with xp.scope():
        sums = xp.channel_sums(xp.array(dy), xp.array(x), xp.array(mean))
    for found, wanted in zip(sums, (dy, dy * (x - mean)), strict=True):
        np.testing.assert_allclose(xp.host(found), wanted.sum(axes, keepdims=True), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0])
@every_shape
def test_channel_mix(cut, rng, shape, p):
    xp = cut(shape)
    dy, x = rng.standard_normal(shape), np.round(rng.standard_normal(shape), 1)
    scale, slope, shift = (columns(rng, shape) for _ in range(3))
    for centre in (np.round(columns(rng, shape), 1), 0.0):
        args = [xp.array(a) for a in (dy, scale, x)]
        with xp.scope():
            given = centre if isinstance(centre, float) else xp.array(centre)
            found = xp.channel_mix(*args, given, xp.array(slope), xp.array(shift), p)
        h = np.sign(x - centre) if p == 1.0 else x - centre
        np.testing.assert_allclose(xp.host(found), dy * scale + h * slope + shift, rtol=1e-11, atol=1e-12)
        np.testing.assert_array_equal(xp.host(args[2]), x)


@pytest.mark.parametrize("share", [0.25, 1.0, "array"])
def test_approach(backends, rng, share):
    xp = backends(dtype="float64")
    a, b = rng.standard_normal((2, 2, 3, 1, 1))
    given = np.array([0.0, 1.0]).reshape(2, 1, 1, 1) if share == "array" else share
    ours = xp.array(a)
    with xp.scope():
        xp.approach(ours, xp.array(b), xp.array(given) if share == "array" else share)
    np.testing.assert_allclose(xp.host(ours), a + given * (b - a), rtol=1e-13, atol=1e-15)
