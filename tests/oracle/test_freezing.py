"""A layer without plasticity is clamped, and lets errors through its V all the same."""

from __future__ import annotations

import numpy as np
import pytest

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
LAYERS = [
    {"c": {"conv": 3, "kernel": 3}},
    "norm",
    "relu",
    "flatten",
    {"f": {"dense": 5}},
    "norm",
    "tanh",
    {"g": {"dense": 4}},
    "affine",
    "tanh",
    {"out": {"dense": 3}},
]
SHAPE = (2, 5, 5)
AFFINE = {"recipe": "batch", "affine": True}


@pytest.mark.parametrize("channel", ["bp", "usf", "rndf"])
@pytest.mark.parametrize("frozen", ["c", "f", "g", "out"])
@on_each
def test_a_clamped_layer_stays_and_the_others_learn_as_if_it_did_not(engine, plain, channel, frozen, on, rng):
    """Against autograd through V; weights, biases, gains and decay of the clamped one do not move."""
    update = {"recipe": "sgd", "rate": 0.1, "decay": 0.1}
    defaults = {"channel": channel, "norm": AFFINE, "update": update}
    net = engine.net(LAYERS, SHAPE, on=on, defaults=defaults, layers={frozen: {"plasticity": "none"}})
    engine.shake(net)
    x, y = rng.standard_normal((6, *SHAPE)), rng.integers(0, 3, 6)
    V = {node.name: net.xp.host(node.V) for node in net.nodes} if channel != "bp" else {}
    forward, arrays = plain.restated(net, engine, LAYERS, normed=True, V=V)
    plain.score("softmax_cross_entropy", forward(plain.torch.tensor(x)), y).backward()

    W = engine.W(net)
    net.accumulate(engine.batch(net, x, y))
    dW = engine.dW(net)
    assert set(dW) == {name for name in W if name.split(".")[0] != frozen}
    for name, found in dW.items():
        np.testing.assert_allclose(found, arrays[name].grad, rtol=1e-9, atol=1e-11, err_msg=name)
    net.update()
    for name, moved in engine.W(net).items():
        if name in dW:
            assert not np.array_equal(moved, W[name]), name
        else:
            np.testing.assert_array_equal(moved, W[name], err_msg=name)
    assert engine.state(net)["c.norm.batch_mean"].any()  # a clamped layer normalizes like any other


@pytest.mark.parametrize(("rule", "learns"), [("sgd_bottom", "all but the last"), ("sgd_top", "the last")])
def test_the_controls_of_the_experiment(rule, learns, engine, rng):
    from bioplaus import assemble, config

    network = {
        "network": "tested",
        "input": [5],
        "layers": [{"a": {"dense": 4}}, "relu", {"b": {"dense": 4}}, "relu", {"z": {"dense": 3}}],
    }
    net = assemble.assembled(
        config.load(rule, network=network), classes=3, xp=assemble.array_library("numpy", dtype="float64")
    )
    W = engine.W(net)
    net.accumulate(engine.batch(net, rng.standard_normal((6, 5)), rng.integers(0, 3, 6)))
    net.update()
    moved = {name for name, value in engine.W(net).items() if not np.array_equal(value, W[name])}
    last = {"z.W", "z.b"}
    assert moved == (last if learns == "the last" else set(W) - last)
