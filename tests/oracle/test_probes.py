"""What looks at a network leaves it as it was, and what a checkpoint holds is all there is to know."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kurtosis

from bioplaus.config.schema import Record
from bioplaus.errors import ConfigError, RunError
from bioplaus.parts import LOOK, At
from bioplaus.record import Log
from bioplaus.train.recorder import Recorder

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
LAYERS = [
    {"c": {"conv": 3, "kernel": 3}},
    "norm",
    "relu",
    {"dropout": 0.3},
    {"maxpool": 2},
    "flatten",
    {"r": {"residual": [{"f": {"dense": 12}}, "norm", "tanh"]}},
    {"dropout": 0.2},
    {"g": {"dense": 4}},
    "relu",
    {"out": {"dense": 3}},
]
SHAPE = (2, 6, 6)
RULE = {
    "channel": "brsf_p",
    "norm": {"recipe": "batch", "affine": True},
    "update": {"recipe": "bm1", "rate": 0.01, "decay": 0.1},
}


def built(engine, on="numpy", **rule):
    net = engine.net(LAYERS, SHAPE, on=on, defaults={**RULE, **rule.pop("defaults", {})}, **rule)
    engine.shake(net)
    return net


def draw(engine, net, seed):
    rng = np.random.default_rng(seed)
    return engine.batch(net, rng.standard_normal((6, *SHAPE)), rng.integers(0, 3, 6))


def same(one, other):
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@on_each
def test_the_true_gradient_is_what_backpropagation_would_have_accumulated(engine, reduction, on):
    """For the latest batch and its dropout, summed over samples, at the weights that saw it."""
    net, twin = built(engine, on, training={"reduction": reduction}), built(engine, on, defaults={"channel": "bp"})
    net.accumulate(draw(engine, net, 0))
    net.update()
    for mine, its in zip(net.learners, twin.learners, strict=True):
        for parameter, other in zip(mine.arrays(), its.arrays(), strict=True):
            other.W[...] = parameter.W
    twin.batches = net.batches
    batch = draw(engine, net, 1)
    net.accumulate(batch)
    twin.accumulate(batch)
    before, counters = engine.state(net), net.counters
    channels = [node.channel for node in net.nodes]
    found = {name: net.xp.host(g) for name, g in net.true_gradient(batch).items()}
    assert list(found) and set(found) == {"c", "r.f", "g", "out"}
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, engine.dW(twin)[f"{name}.W"], rtol=1e-11, atol=1e-13, err_msg=name)
    assert not np.allclose(found["c"], engine.dW(net)["c.W"], rtol=0.1)
    net.true_gradient(draw(engine, net, 2))  # of samples whose statistics are others
    same(engine.state(net), before)
    assert net.counters == counters
    assert [node.channel for node in net.nodes] == channels
    assert all(not np.array_equal(net.xp.host(node.V), net.xp.host(node.W)) for node in net.nodes)


def test_clamped_layers_and_local_rules_have_no_true_gradient(engine):
    layers = {"c": {"plasticity": "error"}, "r.f": {"plasticity": "oja"}, "g": {"plasticity": "none"}}
    net = built(engine, layers=layers)
    batch = draw(engine, net, 0)
    net.accumulate(batch)
    assert set(net.true_gradient(batch)) == {"c", "out"}


@on_each
def test_the_true_gradient_puts_everything_back_when_it_fails(engine, on):
    net = built(engine, on)
    batch = draw(engine, net, 0)
    net.accumulate(batch)
    before = engine.state(net)
    loss, net.loss = net.loss, None
    with pytest.raises(AttributeError):
        net.true_gradient(batch)
    net.loss = loss
    same(engine.state(net), before)
    assert {type(node.channel).__name__ for node in net.nodes} == {"RedrawnDiscordantSign"}


@on_each
def test_watching_shows_every_layers_output_and_leaves_no_trace(engine, on):
    net, other = built(engine, on), built(engine, on)
    for n in (net, other):
        n.accumulate(draw(engine, n, 0))
        n.update()
    batch = draw(engine, net, 1)
    before, counters = engine.state(net), net.counters
    with net.watching() as seen, net.xp.scope():
        signals, _ = net.pass_.forward(batch, LOOK)
    assert list(seen) == ["c", "r.f", "g", "out"]
    np.testing.assert_array_equal(net.xp.host(seen["out"]), net.xp.host(signals["output"]))
    W, stats = engine.W(net), net.xp.host(seen["c"])
    assert stats.shape == (6, 3, 4, 4)
    assert (stats >= 0).all()  # after norm and activation
    x = net.xp.host(batch.x)
    n = sum(
        np.einsum("nchw,oc->nohw", x[:, :, i : i + 4, j : j + 4], W["c.W"][:, :, i, j])
        for i in range(3)
        for j in range(3)
    )
    z = (n - n.mean((0, 2, 3), keepdims=True)) / np.sqrt(n.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(stats, np.maximum(z * W["c.gain"] + W["c.bias"], 0), rtol=1e-9, atol=1e-11)
    same(engine.state(net), before)
    assert net.counters == counters
    assert all(tap.y is None and not tap.watching for tap in net.taps)
    for n in (net, other):
        n.accumulate(draw(engine, n, 2))
        n.update()
    same(engine.state(net), engine.state(other))


@pytest.mark.parametrize("bad", ["c", "r.f", "g"])
def test_the_first_layer_that_is_not_finite_is_named(engine, bad):
    net = built(engine)
    node = next(node for node in net.nodes if node.name == bad)
    node.W[...] = np.inf if bad == "g" else np.nan
    before = engine.state(net)
    assert net.first_nonfinite(draw(engine, net, 0)) == bad
    same(engine.state(net), before)


def test_the_layer_is_looked_for_behind_the_dropout_of_the_batch_that_failed(engine):
    """One unit, which overflows in ``g`` unless it is dropped; where it is, only the last layer is left to name."""
    stack = [{"h": {"dense": 1}}, {"dropout": 0.5}, {"g": {"dense": 1}}, {"out": {"dense": 3}}]
    net = engine.net(stack, (1,))
    named, kept = [], []
    for _ in range(8):
        for node, W in zip(net.nodes, (1e200, 1e200, 0.0), strict=True):
            node.W[...] = W
        batch = engine.batch(net, np.ones((1, 1)), np.zeros(1, int))
        with np.errstate(all="ignore"):
            loss, _ = net.accumulate(batch)
            named.append(net.first_nonfinite(batch))
        kept.append(not np.isfinite(float(loss)))
    assert 0 < sum(kept) < 8
    assert named == ["g" if kept_here else "out" for kept_here in kept]


@pytest.mark.parametrize("update", ["bm1", "bm2", "rmsprop", "adam"])
@on_each
def test_a_network_loaded_from_a_checkpoint_goes_on_bit_for_bit(engine, update, on):
    """In the middle of an accumulation, with redrawn feedback, dropout, statistics and momentum."""
    rule = {"defaults": {"update": {"recipe": update, "rate": 0.01}}, "training": {"batches_per_update": 2}}
    net, fresh = (
        built(engine, on, **rule),
        engine.net(LAYERS, SHAPE, on=on, defaults={**RULE, **rule["defaults"]}, training=rule["training"]),
    )

    def go(network, seeds):
        for seed in seeds:
            network.accumulate(draw(engine, network, seed))
            if network.pending == 2:
                network.update()

    go(net, range(5))
    net.begin_collecting()
    net.collect(draw(engine, net, 9))
    assert net.pending == 1
    fresh.load(engine.state(net), net.counters)
    same(engine.state(fresh), engine.state(net))
    for network in (net, fresh):
        go(network, range(5, 10))
        network.collect(draw(engine, network, 10))
    same(engine.state(fresh), engine.state(net))
    assert fresh.counters == net.counters


def test_a_checkpoint_of_another_network_is_refused(engine):
    net = built(engine)
    state = engine.state(net)
    with pytest.raises(RunError, match=r"no 'c\.W' \(1 arrays missing\)"):
        net.load({name: value for name, value in state.items() if name != "c.W"})
    with pytest.raises(RunError, match=r"'g\.W' is \(3, 3\); this network wants \(12, 4\)"):
        net.load({**state, "g.W": np.zeros((3, 3))})


def test_count_is_the_number_of_weights_biases_and_gains(engine):
    net = built(engine)
    assert net.count() == sum(value.size for value in engine.W(net).values())


@pytest.mark.parametrize(
    ("layers", "defaults", "said"),
    [
        (["affine", "tanh", "affine"], {}, "layer 'h' has a gain and bias already"),
        (["norm", "affine"], {"norm": {"recipe": "batch", "affine": True}}, "layer 'h' has a gain and bias already"),
        (["norm", "tanh", "norm"], {"norm": "batch"}, "layer 'h' has a norm already"),
    ],
)
def test_arrays_that_would_share_a_name_in_a_checkpoint_are_refused(engine, layers, defaults, said):
    with pytest.raises(ConfigError, match=said):
        engine.net([{"h": {"dense": 4}}, *layers, {"out": {"dense": 3}}], (5,), defaults=defaults)


def test_a_gain_behind_a_pool_belongs_to_the_weights_before_it(engine, rng):
    """It follows their update, and is clamped with them."""
    stack = [{"c": {"conv": 3, "kernel": 3}}, "relu", {"maxpool": 2}, "affine", "flatten", {"out": {"dense": 3}}]
    for plasticity in ("error", "none"):
        layers = {"c": {"plasticity": plasticity, "update": ["sign", {"rate": 0.25}]}}
        net = engine.net(stack, (2, 6, 6), layers=layers)
        engine.shake(net)
        before = engine.W(net)
        net.accumulate(engine.batch(net, rng.standard_normal((5, 2, 6, 6)), rng.integers(0, 3, 5)))
        net.update()
        moved = np.abs(engine.W(net)["c.gain"] - before["c.gain"])
        np.testing.assert_allclose(moved, 0.25 if plasticity == "error" else 0.0, rtol=1e-12)
    with pytest.raises(ConfigError, match="affine follows no weight layer"):
        engine.net(["affine", {"out": {"dense": 3}}], (5,))


@on_each
def test_every_dropout_draws_for_itself_and_anew_for_every_batch(engine, on):
    net = engine.net(
        [{"h": {"dense": 40}}, "tanh", {"dropout": 0.3}, {"g": {"dense": 40}}, {"dropout": 0.3}, {"out": {"dense": 3}}],
        (5,),
        on=on,
    )
    dropouts = [unit for unit in net.units if type(unit).__name__ == "DropoutUnit"]
    ones = net.xp.zeros((50, 40)) + 1.0
    masks = [net.xp.host(unit.forward(ones, At(batch=batch))[0]) for unit in dropouts for batch in (0, 1, 0)]
    np.testing.assert_array_equal(masks[0], masks[2])
    for a, b in ((masks[0], masks[1]), (masks[0], masks[3]), (masks[1], masks[4])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)
    assert set(np.unique(masks[0])) == {0.0, 1 / 0.7}
    assert abs((masks[0] == 0).mean() - 0.3) < 3 * np.sqrt(0.3 * 0.7 / masks[0].size)
    np.testing.assert_array_equal(net.xp.host(dropouts[0].forward(ones, At(train=False))[0]), 1.0)


@on_each
def test_what_is_recorded_of_activity_is_what_scipy_says(engine, on, rng):
    """Mean, deviation, kurtosis and silence of every unit, over samples and places."""
    net = engine.net(LAYERS, SHAPE, on=on)
    probe = engine.batch(net, rng.standard_normal((40, *SHAPE)), rng.integers(0, 3, 40))
    with net.watching() as seen, net.xp.scope():
        net.pass_.forward(probe, LOOK)
    y = net.xp.host(seen["c"]).transpose(1, 0, 2, 3).reshape(3, -1)
    recorder = Recorder(Log(), Record(), probe, lambda batch: {})
    recorder.activity(net, 7)
    recorder.flush(net.xp)
    row = {name: column[0] for name, column in recorder.log.fresh()["layers/c/activity"].items()}
    assert row["step"] == 7
    np.testing.assert_allclose(row["mean"], y.mean(1), rtol=1e-10)
    np.testing.assert_allclose(row["std"], y.std(1), rtol=1e-10)
    np.testing.assert_allclose(row["kurtosis"], kurtosis(y, axis=1, fisher=False), rtol=1e-9)
    np.testing.assert_allclose(row["sparsity"], (y == 0).mean(1), rtol=1e-12)
    assert 0 < row["sparsity"].min() < 1
