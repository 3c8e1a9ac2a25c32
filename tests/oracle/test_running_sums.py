"""What is learned may be accumulated right in a momentum, or go straight into W: the same, in fewer passes."""

from __future__ import annotations

import numpy as np
import pytest

import bioplaus
from bioplaus.backend.numpy import NumPy
from bioplaus.units import Parameter
from bioplaus.updates.links import Momentum, Rate

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
LAYERS = [
    {"c": {"conv": 3, "kernel": 3, "pad": 1}},
    "norm",
    "relu",
    {"d": {"conv": 2, "kernel": 3}},
    "affine",
    "flatten",
    {"out": {"dense": 3}},
]
SHAPE = (2, 4, 4)
NEVER_CLIPS = 1e9  # looks at dW between, so that it must stand alone


def trained(engine, on, update, batches=5, act=None, **rule):
    rng = np.random.default_rng(3)
    defaults = {"update": update, **rule.pop("defaults", {})}
    net = engine.net(LAYERS, SHAPE, on=on, defaults=defaults, **rule)
    for _ in range(batches):
        batch = engine.batch(net, rng.standard_normal((4, *SHAPE)), rng.integers(0, 3, 4))
        if act == "step":
            net.step(batch, factor=0.5)
        else:
            net.accumulate(batch)
            net.update(factor=0.5)
    return net


@pytest.mark.parametrize(
    "defaults", [{}, {"channel": "usf", "norm": "batch"}, {"plasticity": "oja"}], ids=["bp", "usf", "oja"]
)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@on_each
def test_a_momentum_takes_in_what_is_learned(engine, on, decay, defaults):
    update = {"recipe": "sgd", "rate": 1e-2, "momentum": 0.7, "decay": decay}
    within = trained(engine, on, update, defaults=defaults)
    apart = trained(engine, on, update, defaults=defaults, training={"clip": NEVER_CLIPS})
    assert ("c.W.dW" in apart.state) and ("c.W.dW" in within.state) == (decay > 0)
    for name, W in engine.W(apart).items():
        np.testing.assert_allclose(engine.W(within)[name], W, rtol=1e-11, atol=1e-13, err_msg=name)


@pytest.mark.parametrize(
    "update", [[{"rate": 1e-2}], {"recipe": "sgd", "rate": 1e-2}, {"recipe": "bm1", "rate": 1e-3}], ids=str
)
@pytest.mark.parametrize("channel", ["bp", "usf"])
@on_each
def test_a_step_is_accumulate_and_update(engine, on, channel, update):
    """Errors travel through the W from before the step; then V follows."""
    defaults = {"channel": channel, "norm": "batch"}
    two, one = (trained(engine, on, update, defaults=defaults, act=act) for act in (None, "step"))
    assert (two.updates, two.batches, two.pending) == (one.updates, one.batches, one.pending) == (5, 5, 0)
    for name, value in engine.state(two).items():
        if not name.endswith(".dW"):
            np.testing.assert_allclose(engine.state(one)[name], value, rtol=1e-11, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("update", [[{"rate": 1e-2}], {"recipe": "sgd", "rate": 1e-2, "momentum": 0.0}], ids=str)
@on_each
def test_a_mere_rate_needs_no_dW(engine, on, update):
    net = trained(engine, on, update, act="step")
    assert not engine.state(net)["c.W.dW"].any()
    assert all(parameter.straight is None for node in net.nodes for parameter in node.arrays())


def test_a_momentum_of_nothing_remembers_nothing():
    """Phases of momentum 0.5, 0 and 0.5 again: tau begins anew at 0, and steps by the formula."""
    xp = NumPy("float64")
    parameter = Parameter("w", xp.zeros((1,)), "weights")
    for momentum, wanted in ((0.5, [-1.0, -2.5]), (0.0, [-3.5, -4.5]), (0.5, [-5.5, -7.0])):
        parameter.relink(xp, (Momentum(momentum), Rate(1.0)))
        for W in wanted:
            parameter.dW[...] = 1.0
            parameter.step(xp, None, 1.0)
            assert parameter.W[0] == W
        assert ("w.update.0.tau" in dict(parameter.state())) == (momentum > 0.0)


def test_a_clamped_layer_takes_no_step(engine):
    start = trained(engine, "numpy", [{"rate": 1e-2}], batches=0)
    net = trained(engine, "numpy", [{"rate": 1e-2}], act="step", layers={"c": {"plasticity": "none"}})
    np.testing.assert_array_equal(engine.W(net)["c.W"], engine.W(start)["c.W"])
    assert not np.allclose(engine.W(net)["d.W"], engine.W(start)["d.W"])


def test_the_log_tells_dW_from_what_the_momentum_holds(tmp_path):
    """The same rows as of a run that keeps dW apart."""
    sets = ["record.update=1 update", "record.weights=3 updates", "record.gradient=2 updates"]
    sets += ["training.samples_per_batch=300", "defaults.update.momentum=0.9", "defaults.update.decay=0.0"]
    apart, within = (
        bioplaus.run("sgd", dataset="digits", epochs=2, backend="numpy", dtype="float64", sets=chosen, out=tmp_path / n)
        for n, chosen in (("apart", [*sets, f"training.clip={NEVER_CLIPS}"]), ("within", sets))
    )
    for name in ("conv1", "fc1"):
        one, other = apart.layer(name), within.layer(name)
        for table, column in (("update", "dW_norm"), ("weights", "dW"), ("feedback", "angle_to_gradient")):
            wanted, found = (np.asarray(getattr(getattr(run, table), column)) for run in (one, other))
            assert np.isfinite(wanted).any()
            np.testing.assert_allclose(
                found,
                wanted,
                rtol=1e-8,
                atol=1e-4 if column.startswith("angle") else 1e-8,
                err_msg=f"{name} {table} {column}",
            )
