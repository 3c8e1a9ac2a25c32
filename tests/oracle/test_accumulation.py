"""Several batches for one update: dW is the mean over them, and one batch is no special case."""

from __future__ import annotations

import numpy as np
import pytest

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
LAYERS = [
    {"c": {"conv": 3, "kernel": 3, "pad": 1}},
    "norm",
    "relu",
    {"d": {"conv": 2, "kernel": 3}},
    "affine",
    "tanh",
    "flatten",
    {"f": {"dense": 5}},
    "relu",
    {"out": {"dense": 3}},
]
SHAPE = (2, 4, 4)


def batches(count, size):
    rng = np.random.default_rng(7)
    return [(rng.standard_normal((size, *SHAPE)), rng.integers(0, 3, size)) for _ in range(count)]


@pytest.mark.parametrize(
    "rule", [{"norm": "batch", "channel": "brsf"}, {"channel": "usf"}, {"plasticity": "oja"}], ids=str
)
@on_each
def test_n_of_one_changes_nothing(engine, rule, on):
    """Bit for bit, over three updates."""
    told, untold = (
        engine.net(LAYERS, SHAPE, on=on, defaults=rule, training=training)
        for training in ({"batches_per_update": 1}, {})
    )
    for net in (told, untold):
        for x, y in batches(3, 4):
            net.accumulate(engine.batch(net, x, y))
            net.update(rate=1e-3)
    for name, value in engine.state(untold).items():
        np.testing.assert_array_equal(engine.state(told)[name], value, err_msg=name)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@on_each
def test_three_batches_give_the_mean_of_their_gradients(engine, reduction, on):
    training = {"reduction": reduction, "batches_per_update": 3}
    together = engine.net(LAYERS, SHAPE, on=on, training=training)
    alone = []
    for x, y in batches(3, 4):
        net = engine.net(LAYERS, SHAPE, on=on, training={"reduction": reduction})
        net.accumulate(engine.batch(net, x, y))
        alone.append(engine.dW(net))
        together.accumulate(engine.batch(together, x, y))
    assert together.pending == 3
    for name, found in engine.dW(together).items():
        np.testing.assert_allclose(found, np.mean([dW[name] for dW in alone], 0), rtol=1e-12, atol=1e-14, err_msg=name)


@on_each
def test_without_a_norm_three_batches_are_one_large_one(engine, on):
    large = engine.net(LAYERS, SHAPE, on=on, training={"reduction": "mean"})
    small = engine.net(LAYERS, SHAPE, on=on, training={"reduction": "mean", "batches_per_update": 3})
    parts = batches(3, 4)
    large.accumulate(engine.batch(large, *(np.concatenate(side) for side in zip(*parts, strict=True))))
    for x, y in parts:
        small.accumulate(engine.batch(small, x, y))
    for net in (large, small):
        net.update()
    for name, W in engine.W(large).items():
        np.testing.assert_allclose(engine.W(small)[name], W, rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("plasticity", ["error", "oja"])
@on_each
def test_the_first_batch_after_an_update_forgets_what_dW_held(engine, plasticity, on):
    """Whatever it was: an update may leave anything in dW, NaN too."""
    (x, y), (x2, y2) = batches(2, 4)
    kept = engine.net(LAYERS, SHAPE, on=on, defaults={"plasticity": plasticity})
    for unit in kept.learners:
        for parameter in unit.arrays():
            parameter.dW[...] = np.nan
    fresh = engine.net(LAYERS, SHAPE, on=on, defaults={"plasticity": plasticity})
    for net in (kept, fresh):
        net.accumulate(engine.batch(net, x, y))
        net.accumulate(engine.batch(net, x2, y2))
    assert engine.dW(kept)
    for name, found in engine.dW(kept).items():
        np.testing.assert_array_equal(found, engine.dW(fresh)[name], err_msg=name)


@on_each
def test_an_update_starts_the_next_sum_at_zero(engine, on):
    (x, y), (x2, y2) = batches(2, 4)
    net = engine.net(LAYERS, SHAPE, on=on)
    net.accumulate(engine.batch(net, x, y))
    net.update(rate=0.0)
    net.accumulate(engine.batch(net, x2, y2))
    fresh = engine.net(LAYERS, SHAPE, on=on)
    fresh.accumulate(engine.batch(fresh, x2, y2))
    for name, found in engine.dW(net).items():
        np.testing.assert_array_equal(found, engine.dW(fresh)[name], err_msg=name)


def test_an_update_without_anything_accumulated_changes_nothing(engine):
    net = engine.net(LAYERS, SHAPE, defaults={"update": {"recipe": "sgd", "rate": 0.1, "decay": 0.1}})
    before = engine.state(net)
    net.update()
    for name, value in engine.state(net).items():
        np.testing.assert_array_equal(value, before[name])
