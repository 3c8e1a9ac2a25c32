"""The contract of backends."""

from __future__ import annotations

from typing import Any

import numpy as np

from bioplaus.backend.base import Backend
from bioplaus.backend.numpy import NumPy
from bioplaus.backend.streams import Stream
from bioplaus.backend.window import Window
from bioplaus.testing.claims import Claims, contract
from bioplaus.testing.layers import check_map
from bioplaus.testing.trials import N, are_close, are_same, normal, small_maps


@contract("backend")
def check_backend(xp: Any, claims: Claims) -> None:
    """Arrays, in-place arithmetic, maps and their adjoints, pools, statistics and streams, against NumPy."""
    claims(isinstance(xp, Backend), "is a bioplaus.backend.base.Backend")
    with xp.scope():
        host = normal(NumPy("float64"), "a", (N, 3, 4, 5))
        a = xp.array(host)
        claims(are_close(xp, a, host), "host(array(x)) is x")
        claims(xp.host(a).flags.c_contiguous, "host gives C order")
        claims(are_same(xp, xp.sign(xp.array([-2.0, 0.0, 3.0])), np.array([-1.0, 0.0, 1.0])), "sign(0) = 0")
        b = a + 0.0
        claims(xp.add_scaled(b, a, -1.0, out=b) is b and not xp.host(b).any(), "add_scaled writes into out")
        kinked = xp.relu(xp.array([-1.0, 2.0, float("nan")]))
        claims(are_same(xp, kinked, np.array([0.0, 2.0, np.nan])), "relu is max(x, 0); NaN stays NaN")
        rows = xp.exp(xp.log_softmax(xp.array([[1e4, 0.0], [-1e4, 0.0]]))).sum(-1)
        claims(are_close(xp, rows, np.ones(2)), "log_softmax is stable at 1e4")
        _check_backend_maps(xp, claims)
        z, mean, sigma = xp.standardize(a, 1e-5)
        axes = (0, 2, 3)
        claims(are_close(xp, mean, host.mean(axes)), "standardize takes means per channel")
        claims(are_close(xp, sigma, np.sqrt(host.var(axes) + 1e-5)), "standardize takes sqrt(var + eps) per channel")
        g = xp.array(normal(NumPy("float64"), "g", (N, 3, 4, 5)))
        dx = xp.standardize_back(g + 0.0, a, mean, sigma)
        claims(are_close(xp, dx.sum(axes), np.zeros(3), 1.0), "standardize_back takes the mean of the error away")
        claims(are_close(xp, (dx * z).sum(axes), 1e-5 * xp.host((g * z).sum(axes)), 60.0), "and its share along z")
        draws = [xp.zeros((50, 40)) for _ in range(2)]
        for out in draws:
            xp.uniform(Stream(3).at("u"), out)
        u = xp.host(draws[0])
        claims(are_same(xp, draws[0], draws[1]), "uniform is a function of the stream")
        claims(u.min() >= 0.0 and u.max() < 1.0 and abs(u.mean() - 0.5) < 0.05, "uniform draws from [0, 1)")


def _check_backend_maps(xp: Backend, claims: Claims) -> None:
    for map in small_maps(xp):
        for line in check_map(map):
            claims(True, f"{type(map).__name__}: {line}")
    window = Window((3, 3), (2, 2), (0, 1, 0, 1), (4, 4))
    x = xp.array(normal(NumPy("float64"), "x", (2, 3, 4, 4)))
    y, which = xp.maxpool(x, window)
    dy = xp.array(normal(NumPy("float64"), "dy", (2, 3, *window.output)))
    claims(
        are_close(xp, (xp.maxpool_back(dy + 0.0, x, which, window) * x).sum(), xp.host((y * dy).sum())),
        "maxpool_back sends errors to the winners",
    )
    mean = xp.avgpool(x, window)
    claims(are_close(xp, mean[0, 0, 1, 1], xp.host(x)[0, 0, 2:, 2:].mean()), "avgpool divides by in-image elements")
    claims(
        are_close(xp, (xp.avgpool_back(dy + 0.0, x, window) * x).sum(), xp.host((mean * dy).sum())),
        "avgpool_back is its adjoint",
    )
