"""The contract of maps and of layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.numpy import NumPy
from bioplaus.errors import ShapeError
from bioplaus.parts import LEARN, TEST, Map
from bioplaus.testing.bench import Bench, learners_in
from bioplaus.testing.claims import Claims, contract
from bioplaus.testing.trials import STEPS, N, are_close, are_same, are_slopes, is_finite, normal
from bioplaus.units import can_render


@contract("map")
def check_map(map: Map, claims: Claims) -> None:
    """The adjoint law, and ``out``, ``keep``, ``scale`` and ``bias`` as Map states them."""
    xp = map.xp
    claims.methods(map, "up", "down", "outer")
    claims(map.fan_in >= 1, "fan_in is 1 or more")
    W, b = normal(xp, "W", map.shape), normal(xp, "b", map.bias_shape)
    counts = map.input == ()  # an embedding: samples are numbers of words
    x = xp.raw(np.arange(N) % map.shape[0]) if counts else normal(xp, "x", (N, *map.input))
    n = normal(xp, "n", (N, *map.output))
    up = map.up(x, W)
    claims(tuple(up.shape) == (N, *map.output), "up gives the output's shape")
    claims(are_close(xp, map.up(x, W, b), up + b), "up adds b")
    dW, db = xp.zeros(map.shape), xp.zeros(map.bias_shape)
    map.outer(x, n, dW, bias=db)
    claims(are_close(xp, (up * n).sum(), (W * dW).sum()), "<up(x, W), n> = <W, outer(x, n)>")
    claims(are_close(xp, (n * b).sum(), (db * b).sum()), "outer gives the bias its sum of n")
    back = map.down(n, W)
    if counts:
        claims(back is None, "down is None where x has no error")
    else:
        claims(tuple(back.shape) == (N, *map.input), "down gives the input's shape")
        claims(are_close(xp, (up * n).sum(), (x * back).sum()), "<up(x, W), n> = <x, down(n, W)>")
    out, bias = xp.zeros(map.shape) + float("nan"), xp.zeros(map.bias_shape) + float("nan")
    map.outer(x, n, out, 2.0, 0.0, bias=bias)
    claims(are_close(xp, out, 2.0 * dW) and are_close(xp, bias, 2.0 * db), "outer with keep 0 ignores what out held")
    map.outer(x, n, out, 1.0, 0.5, bias=bias)
    claims(are_close(xp, out, 2.0 * dW) and are_close(xp, bias, 2.0 * db), "outer gives keep * out + scale * dW")


@contract("layer")
def check_layer(layer: Any, claims: Claims) -> None:
    """It takes flat samples, maps or word numbers; what it hands down and what its weights learn are gradients."""
    claims.methods(layer, "place")
    taken = 0
    for shape in ((6,), (2, 6, 6), ()):
        if shape == () and taken:
            break  # numbers of words are for those who take nothing else
        bench = Bench(NumPy("float64"), steps=STEPS if getattr(layer, "over_time", False) else 0)
        try:
            unit, out = layer.place(bench, shape)
        except ShapeError:
            continue
        taken += 1
        weighted = getattr(layer, "has_weights", False)
        claims(
            weighted == bool(bench.maps),
            "has_weights: asks its site for a node" if weighted else "without has_weights it asks for no node",
        )
        if unit is None:
            claims(tuple(out) == shape, "without a unit the shape stays")
            continue
        for map in bench.maps + bench.within:
            for line in check_map(map):
                claims(True, f"its map: {line}")
        _check_unit(unit, bench, shape, out, claims)
    claims(taken, "takes samples of some shape: (6,), (2, 6, 6) or ()")


def _check_unit(unit: Any, bench: Bench, shape: tuple[int, ...], out: tuple[int, ...], claims: Claims) -> None:
    claims.methods(unit, "wire", "forward", "back")
    xp = bench.xp
    unit.wire(True)
    lead = (bench.steps, N) if bench.steps else (N,)
    x = xp.raw(np.arange(N) % 3) if shape == () else normal(xp, "x", (*lead, *shape))
    g = normal(xp, "g", (*lead, *out))
    before = xp.host(x)
    y, cache = unit.forward(x, LEARN)
    claims(tuple(y.shape) == (*lead, *out), "forward gives the shape that place announced")
    claims(is_finite(xp, y), "forward gives finite numbers")
    claims(np.array_equal(xp.host(x), before), "forward leaves x as it was")

    def scored() -> float:
        return float((unit.forward(x, LEARN)[0] * g).sum())

    given = g + 0.0
    dx = unit.back(given, cache, g, lambda learner, local: learner.learn(local, 1.0))
    if getattr(unit, "spares_error", False):
        claims(are_same(xp, given, g), "spares_error: back leaves the error as it was")
    if shape != ():
        claims(dx is not None and tuple(dx.shape) == (*lead, *shape), "back gives the error in the shape of x")
        claims(are_slopes(xp, scored, x, dx), "back is the derivative of forward in x")
    for learner in learners_in(unit):
        for parameter in learner.parameters():
            claims(
                are_slopes(xp, scored, parameter.W, parameter.dW),
                f"dW is the derivative of forward in its {parameter.role}",
            )
    tested = unit.forward(x, TEST)[0]
    claims(tuple(tested.shape) == (*lead, *out) and is_finite(xp, tested), "testing gives finite numbers of that shape")
    if can_render(unit) and not getattr(unit, "clear", False):
        _check_rendering(xp, unit, x, g, claims)


def _check_rendering(xp: Backend, unit: Any, x: Array, z: Array, claims: Claims) -> None:
    """Down through the switches of a forward: linear, its way back the adjoint; with all switches open likewise."""
    claims.methods(unit, "render", "render_back")
    cache = unit.forward(x, LEARN._replace(render=True))[1]
    if hasattr(unit, "wire_down"):
        unit.wire_down(True)
    kept, d = xp.host(z), normal(xp, "d", tuple(x.shape))
    x_hat, trace = unit.render(z, cache, None)
    claims(tuple(x_hat.shape) == tuple(x.shape), "render gives the shape of x")
    claims(are_same(xp, z, kept), "render leaves z as it was")
    back = unit.render_back(d + 0.0, trace, lambda learner, local: None, {})
    claims(are_close(xp, (x_hat * d).sum(), (z * back).sum()), "render_back is the adjoint of render")
    if hasattr(unit, "unmasked"):
        wide = unit.unmasked(z)
        claims(tuple(wide.shape) == tuple(x.shape), "unmasked gives the shape of x")
        claims(are_close(xp, (wide * d).sum(), (z * unit.unmasked_back(d)).sum()), "unmasked_back is its adjoint")
