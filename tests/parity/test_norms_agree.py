"""Every registered norm in whole training steps: NumPy says what comes out, the others agree."""

from __future__ import annotations

import numpy as np
import pytest

from bioplaus import registry
from bioplaus.errors import ShapeError

LAYERS = [
    {"c": {"conv": 4, "kernel": 3}},
    "norm",
    "relu",
    "flatten",
    {"fc": {"dense": 6}},
    "norm",
    "tanh",
    {"out": {"dense": 3}},
]
SHAPE = (2, 6, 5)
OTHERS = [
    ("torch", "cpu"),
    pytest.param(("torch", "cuda:0"), marks=pytest.mark.gpu),
    pytest.param(("cupy", "auto"), marks=pytest.mark.gpu),
]


def built(engine, name, **where):
    try:
        return engine.net(LAYERS, SHAPE, defaults={"norm": name}, **where)
    except ShapeError:  # a norm of maps alone
        return engine.net(LAYERS, SHAPE, layers={"c": {"norm": name}}, **where)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
@pytest.mark.parametrize("name", registry.names("norm"))
@pytest.mark.parametrize("other", OTHERS, ids=lambda other: "-".join(other))
def test_three_updates_and_a_test(engine, name, other, dtype, tolerance):
    on, device = other
    nets = built(engine, name, dtype=dtype), built(engine, name, on=on, device=device, dtype=dtype)
    assert nets[0].norms
    for net in nets:
        rng = np.random.default_rng(3)
        for _ in range(3):
            net.accumulate(engine.batch(net, rng.standard_normal((7, *SHAPE)), rng.integers(0, 3, 7)))
            net.update(rate=0.05)
        x = rng.standard_normal((4, *SHAPE))
    ours, theirs = (engine.state(net) | {"output": net.xp.host(net.predict(net.xp.array(x)))} for net in nets)
    assert set(ours) == set(theirs)
    for key, value in ours.items():
        scale = max(np.abs(value).max(), 1e-3)
        np.testing.assert_allclose(theirs[key], value, rtol=0, atol=tolerance * scale, err_msg=key)
