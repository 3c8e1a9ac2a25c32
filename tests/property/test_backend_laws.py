"""The law every map rests on, <up(x), n> = <x, down(n)> = <W, outer(x, n)>, over random windows."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioplaus.backend.window import Window

CLASSES = [
    ("numpy", "NumPy"),
    ("torch", "Torch"),
    pytest.param(("cupy", "CuPy"), marks=pytest.mark.gpu),
]
each_backend = pytest.mark.parametrize("named", CLASSES, ids=lambda named: named[0])


def backend(named):
    module, name = named
    pytest.importorskip(module)
    return getattr(importlib.import_module(f"bioplaus.backend.{module}"), name)(dtype="float64")


@st.composite
def windows(draw, most_pad=0):
    """Kernels 1 to 4, strides 1 to 3, any padding up to the kernel plus ``most_pad`` less one."""
    axes = []
    for _ in range(2):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        pad = [draw(st.integers(0, kernel - 1 + most_pad)) for _ in range(2)]
        size = draw(st.integers(max(1, kernel - sum(pad)), 8))
        axes.append((kernel, stride, pad, size))
    (kh, sh, rows, h), (kw, sw, columns, w) = axes
    return Window((kh, kw), (sh, sw), (*rows, *columns), (h, w))


def dot(xp, a, b):
    return float((xp.host(a) * xp.host(b)).sum())


few = st.integers(1, 4)


@each_backend
@given(window=windows(most_pad=1), N=few, inputs=few, outputs=few, seed=st.integers(0, 99))
def test_a_convolution_its_adjoint_and_its_weight_gradient_agree(named, window, N, inputs, outputs, seed):
    xp, rng = backend(named), np.random.default_rng(seed)
    x = xp.array(rng.standard_normal((N, inputs, *window.size)))
    W = xp.array(rng.standard_normal((outputs, inputs, *window.kernel)))
    n = xp.array(rng.standard_normal((N, outputs, *window.output)))
    dW = xp.zeros((outputs, inputs, *window.kernel))
    xp.conv_outer(x, n, dW, window, 1.0, 0.0)
    up = dot(xp, xp.conv(x, W, None, window), n)
    assert dot(xp, x, xp.conv_down(n, W, window)) == pytest.approx(up, rel=1e-11, abs=1e-11)
    assert dot(xp, W, dW) == pytest.approx(up, rel=1e-11, abs=1e-11)


@each_backend
@given(N=few, inputs=few, outputs=few, lead=st.sampled_from([(), (3,)]), seed=st.integers(0, 99))
def test_a_dense_map_its_adjoint_and_its_weight_gradient_agree(named, N, inputs, outputs, lead, seed):
    xp, rng = backend(named), np.random.default_rng(seed)
    x, n = (xp.array(rng.standard_normal((*lead, N, size))) for size in (inputs, outputs))
    W, dW = xp.array(rng.standard_normal((inputs, outputs))), xp.zeros((inputs, outputs))
    xp.linear_outer(x, n, dW, 1.0, 0.0)
    up = dot(xp, xp.linear(x, W, None), n)
    assert dot(xp, x, xp.linear_down(n, W)) == pytest.approx(up, rel=1e-11, abs=1e-11)
    assert dot(xp, W, dW) == pytest.approx(up, rel=1e-11, abs=1e-11)


@each_backend
@given(window=windows(), N=few, channels=few, seed=st.integers(0, 99))
def test_pools_and_their_errors_are_adjoint(named, window, N, channels, seed):
    """The average is linear; so is the maximum once the winners stand, and it is x at the winners."""
    xp, rng = backend(named), np.random.default_rng(seed)
    x = xp.array(rng.standard_normal((N, channels, *window.size)))
    dy = xp.array(rng.standard_normal((N, channels, *window.output)))
    mean = dot(xp, xp.avgpool(x, window), dy)
    assert dot(xp, x, xp.avgpool_back(dy, x, window)) == pytest.approx(mean, rel=1e-11, abs=1e-11)
    y, which = xp.maxpool(x, window)
    assert dot(xp, x, xp.maxpool_back(dy, x, which, window)) == pytest.approx(dot(xp, y, dy), rel=1e-11, abs=1e-11)


@each_backend
@given(N=st.integers(2, 6), channels=few, maps=st.sampled_from([(), (3, 2)]), seed=st.integers(0, 99))
def test_an_error_through_a_standardization_has_no_mean_and_no_gain(named, N, channels, maps, seed):
    """dx is orthogonal, per channel, to a shift of x and (eps = 0) to a stretch of x."""
    xp, rng = backend(named), np.random.default_rng(seed)
    x = xp.array(rng.standard_normal((N, channels, *maps)))
    _, mean, sigma = xp.standardize(x, 0.0)
    dx = xp.host(xp.standardize_back(xp.array(rng.standard_normal((N, channels, *maps))), x, mean, sigma))
    axes, scale = (0, 2, 3)[: dx.ndim - 1], 1 / xp.host(sigma)
    assert (np.abs(dx.sum(axes)) < 1e-9 * scale).all()
    centred = xp.host(x) - xp.host(mean).reshape(-1, *[1] * len(maps))
    assert (np.abs((dx * centred).sum(axes)) < 1e-9 * np.maximum(scale, 1)).all()
