"""Two whole training steps of every shipped rule: NumPy says what comes out, the others agree.

float64: dW to 1e-10 of its largest element. float32: to 2e-5, from the same state. A weight is compared
wherever its dW is larger than that or nothing at all: the sign of a rounding error says nothing.
"""

from __future__ import annotations

import numpy as np
import pytest

from bioplaus import config

DIGITS = [
    {"conv1": {"conv": 4, "kernel": 3, "pad": "half"}},
    "norm",
    "relu",
    {"maxpool": 2},
    {"conv2": {"conv": 5, "kernel": 3, "pad": "half"}},
    "norm",
    "relu",
    {"avgpool": {"size": 3, "stride": 2, "pad": [0, 1, 0, 1]}},
    "flatten",
    {"fc1": {"dense": 7}},
    "norm",
    "relu",
    {"fc2": {"dense": "classes"}},
]
MLP = [
    "flatten",
    {"fc1": {"dense": 9}},
    "norm",
    "relu",
    {"fc2": {"dense": 8}},
    "norm",
    "relu",
    {"fc3": {"dense": "classes"}},
]
NETWORKS = {"digits": (DIGITS, (1, 8, 8)), "mlp": (MLP, (1, 6, 6))}
OTHERS = [
    ("torch", "cpu"),
    pytest.param(("torch", "cuda:0"), marks=pytest.mark.gpu),
    pytest.param(("cupy", "auto"), marks=pytest.mark.gpu),
]
# A rule that looks into layers by name fits its own network only; see test_clustering and test_pruning.
RULES = [
    rule
    for rule in config.shipped("rule")
    if not config.load(rule, network="lenet").losses and not rule.endswith("_lenet5")
]
# A window that fits the layers here, where the rule's own is for larger ones.
NARROWED = {name: ["defaults.norm.window=3"] for name in ("ptb_dn", "ptb_dn_star")}
every_rule = pytest.mark.parametrize("rule", RULES)
every_network = pytest.mark.parametrize("network", NETWORKS)
on_others = pytest.mark.parametrize("other", OTHERS, ids=lambda other: "-".join(other))


def pair(engine, rule, network, other, dtype):
    layers, shape = NETWORKS[network]
    on, device = other
    common = {"classes": 10, "dtype": dtype, "shipped": rule, "sets": NARROWED.get(rule, ())}
    ours = engine.net(layers, shape, **common)
    theirs = engine.net(layers, shape, on=on, device=device, **common)
    return ours, theirs, shape


def draw(engine, nets, shape, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((20, *shape)), rng.integers(0, 10, 20)
    return [engine.batch(net, x, y) for net in nets]


def step_agrees(engine, ours, theirs, batches, tolerance):
    """One accumulation and one update on both."""
    losses = [net.accumulate(batch) for net, batch in zip((ours, theirs), batches, strict=True)]
    np.testing.assert_allclose(float(losses[1][0]), float(losses[0][0]), rtol=tolerance)
    assert float(losses[1][1]) == float(losses[0][1])
    expected, found = engine.dW(ours), engine.dW(theirs)
    assert set(found) == set(expected)
    clear = {}
    for name, dW in expected.items():
        largest = np.abs(dW).max()
        np.testing.assert_allclose(found[name], dW, rtol=0, atol=tolerance * largest, err_msg=f"dW of {name}")
        clear[name] = (np.abs(dW) > 2 * tolerance * largest) | ((dW == 0) & (found[name] == 0))
        assert clear[name].mean() > 0.75, f"{name}: too few weights left to compare"
    for net in (ours, theirs):
        net.update()
    moved, W = engine.W(theirs), engine.W(ours)
    for name, value in W.items():
        told = clear.get(name, np.ones(value.shape, bool))
        scale = max(np.abs(value).max(), 1.0)
        np.testing.assert_allclose(moved[name][told], value[told], rtol=0, atol=tolerance * scale, err_msg=name)


@every_rule
@every_network
@on_others
def test_two_training_steps_in_float64(engine, rule, network, other):
    ours, theirs, shape = pair(engine, rule, network, other, "float64")
    if other[1] != "cpu":
        theirs.load(engine.state(ours), ours.counters)
    for seed in range(2):
        step_agrees(engine, ours, theirs, draw(engine, (ours, theirs), shape, seed), 1e-10)
        if other[1] != "cpu":  # a GPU draws numbers of its own
            theirs.load(engine.state(ours), ours.counters)
    assert ours.updates == theirs.updates == 2


@every_rule
def test_two_training_steps_in_float32(engine, rule):
    ours, theirs, shape = pair(engine, rule, "digits", ("torch", "cpu"), "float32")
    for seed in range(2):
        theirs.load(engine.state(ours), ours.counters)
        step_agrees(engine, ours, theirs, draw(engine, (ours, theirs), shape, seed), 2e-5)


@every_rule
@every_network
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_run_starts_from_the_same_arrays(engine, rule, network, dtype):
    """Initial weights and feedback, drawn or fixed, are equal to the bit."""
    ours, theirs, _ = pair(engine, rule, network, ("torch", "cpu"), dtype)
    expected, found = engine.state(ours), engine.state(theirs)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], value, err_msg=name)
