"""Feedback: dW never contains V, errors travel through V and nothing else, and V is made as the papers say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bioplaus.parts import LEARN

CHANNELS = [
    "bp",
    "usf",
    "nusf",
    "brsf",
    "frsf",
    {"recipe": "brsf_p", "p": 0.5},
    {"recipe": "frsf_p", "p": 0.75},
    "rndf",
    {"recipe": "rndf", "std": 0.4},
]
by_channel = pytest.mark.parametrize("channel", CHANNELS, ids=str)
on_each = pytest.mark.parametrize("on", ["numpy", "torch"])

LAYERS = [
    {"c1": {"conv": 4, "kernel": 3, "stride": 2, "pad": [0, 1, 0, 1]}},
    "norm",
    "relu",
    {"t1": {"conv_transposed": 3, "kernel": 2, "stride": 2}},
    "norm",
    "tanh",
    {"maxpool": {"size": 3, "stride": 2, "pad": [0, 1, 0, 1]}},
    {
        "r1": {
            "residual": [{"a": {"conv": 5, "kernel": 3, "pad": 1}}, "norm"],
            "shortcut": [{"s": {"conv": 5, "kernel": 1}}],
        }
    },
    "relu",
    {"avgpool": 2},
    "flatten",
    {"f1": {"dense": 6}},
    "norm",
    "relu",
    {"f2": {"dense": "classes"}},
]
ORDER = ["c1", "t1", "r1.a", "r1.s", "f1", "f2"]
SHAPE, N = (2, 8, 8), 6


def built(engine, on, channel, rng, norm="batch"):
    net = engine.net(LAYERS, SHAPE, on=on, defaults={"channel": channel, "norm": norm})
    engine.shake(net)
    x, y = rng.standard_normal((N, *SHAPE)), rng.integers(0, 3, N)
    return net, engine.batch(net, x, y), x, y


@by_channel
@on_each
def test_every_dW_is_autograds_where_linear_maps_go_back_through_V(engine, plain, channel, on, rng):
    """Pools, activations and normalization keep their true way back; the last layer's feedback is V too."""
    net, batch, x, y = built(engine, on, channel, rng)
    V = {node.name: net.xp.host(node.V) for node in net.nodes}
    forward, arrays = plain.restated(net, engine, LAYERS, normed=True, V=V)
    plain.score("softmax_cross_entropy", forward(plain.torch.tensor(x)), y).backward()
    net.accumulate(batch)
    dW = engine.dW(net)
    assert set(dW) == set(arrays)
    for name, found in dW.items():
        np.testing.assert_allclose(found, arrays[name].grad, rtol=1e-9, atol=1e-11, err_msg=name)


@on_each
def test_direct_feedback_sends_the_outputs_error_to_every_layer(engine, plain, on, rng):
    net, batch, x, y = built(engine, on, {"recipe": "dfa", "std": 0.3}, rng)
    V = {node.name: net.xp.host(node.V) for node in net.nodes}
    output = plain.restated(net, engine, LAYERS, normed=True)[0](plain.torch.tensor(x)).detach().requires_grad_()
    plain.score("softmax_cross_entropy", output, y).backward()
    forward, arrays = plain.restated(net, engine, LAYERS, normed=True, V=V, top=dict.fromkeys(V, output.grad))
    plain.score("softmax_cross_entropy", forward(plain.torch.tensor(x)), y).backward()
    net.accumulate(batch)
    for name, found in engine.dW(net).items():
        np.testing.assert_allclose(found, arrays[name].grad, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("last", ["relu", "affine"])
@on_each
def test_direct_feedback_sends_the_error_that_the_loss_gave(engine, last, on, rng):
    """Whatever stands behind the last weights has its own way back, and leaves the error at the output alone."""
    layers = [{"h": {"dense": 4}}, "tanh", {"out": {"dense": 3}}, last]
    net = engine.net(layers, (5,), on=on, defaults={"channel": "dfa"})
    engine.shake(net)
    x, y = rng.standard_normal((N, 5)), rng.integers(0, 3, N)
    W = engine.W(net)
    h = np.tanh(x @ W["h.W"] + W["h.b"])
    n = h @ W["out.W"] + W["out.b"]
    output = np.maximum(n, 0) if last == "relu" else n * W["out.gain"] + W["out.bias"]
    p = np.exp(output) / np.exp(output).sum(1, keepdims=True)
    top = p - np.eye(3)[y]
    net.accumulate(engine.batch(net, x, y))
    expected = x.T @ ((top @ net.xp.host(net.nodes[1].V)) * (1 - h**2))
    np.testing.assert_allclose(engine.dW(net)["h.W"], expected, rtol=1e-10)


@pytest.mark.parametrize("channel", ["usf", "rndf", "dfa"])
@on_each
def test_dW_of_a_layer_and_of_those_above_never_contains_its_V(engine, channel, on, rng):
    for place, name in enumerate(ORDER):
        if name == "r1.a":
            continue  # the two paths of a block stand side by side
        net, batch, _, _ = built(engine, on, channel, np.random.default_rng(0))
        net.accumulate(batch)
        before = engine.dW(net)
        other, batch, _, _ = built(engine, on, channel, np.random.default_rng(0))
        V = next(node for node in other.nodes if node.name == name).V
        V += other.xp.array(rng.standard_normal(tuple(V.shape)))
        other.accumulate(batch)
        after = engine.dW(other)
        for above in ORDER[place:]:
            np.testing.assert_array_equal(after[f"{above}.W"], before[f"{above}.W"], err_msg=f"{name} in {above}")
        if place and channel != "dfa":
            assert not np.allclose(after["c1.W"], before["c1.W"], rtol=1e-3)


def wide(engine, channel, on="numpy", **rule):
    """One large weight array below a small one."""
    layers = [{"h": {"dense": 150}}, "relu", {"out": {"dense": 3}}]
    return engine.net(layers, (300,), on=on, defaults={"channel": channel, **rule.pop("defaults", {})}, **rule)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("kind", ["brsf_p", "frsf_p"])
@on_each
def test_p_is_the_probability_of_discordant_sign_and_says_nothing_about_the_magnitude(engine, kind, p, on):
    net = wide(engine, {"recipe": kind, "p": p}, on)
    node = net.nodes[0]
    W, V = net.xp.host(node.W), net.xp.host(node.V)
    agree = np.sign(W) == np.sign(V)
    assert abs(agree.mean() - (1 - p)) <= 3 * np.sqrt(p * (1 - p) / W.size)
    for part in (agree & (W > 0), agree & (W < 0), ~agree & (W > 0), ~agree & (W < 0)):
        if part.any():
            assert stats.kstest(np.abs(V[part]), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("kind", ["brsf", "frsf"])
@on_each
def test_magnitudes_are_uniform_and_signs_agree(engine, kind, on):
    net = wide(engine, kind, on)
    node = net.nodes[0]
    W, V = net.xp.host(node.W), net.xp.host(node.V)
    np.testing.assert_array_equal(np.sign(V), np.sign(W))
    assert stats.kstest(np.abs(V).ravel(), "uniform").pvalue > 1e-3
    assert abs(stats.pearsonr(np.abs(V).ravel(), np.abs(W).ravel()).statistic) < 3 / np.sqrt(W.size)
    assert not np.array_equal(np.abs(V[:3, :3]), np.abs(net.xp.host(net.nodes[1].V)[:3, :3]))


@on_each
def test_uniform_feedback_is_the_sign_and_the_normalized_one_divides_it_by_fan_in(engine, on, rng):
    uniform, _, _, _ = built(engine, on, "usf", rng)
    normalized, _, _, _ = built(engine, on, "nusf", rng)
    fan_in = {"c1": 2 * 9, "t1": 4 * 4 / 4, "r1.a": 3 * 9, "r1.s": 3, "f1": 5 * 4, "f2": 6}
    for plain, shrunk in zip(uniform.nodes, normalized.nodes, strict=True):
        V = uniform.xp.host(plain.V)
        np.testing.assert_array_equal(V, np.sign(uniform.xp.host(plain.W)))
        np.testing.assert_allclose(normalized.xp.host(shrunk.V), V / fan_in[plain.name], rtol=1e-15)


@pytest.mark.parametrize("channel", ["rndf", "dfa"])
def test_random_feedback_has_its_spread_and_never_changes(engine, channel, rng):
    layers = [{"h": {"dense": 150}}, "relu", {"out": {"dense": 100}}]
    net = engine.net(layers, (300,), classes=100, defaults={"channel": channel})
    node = net.nodes[0]
    V = node.V.copy()
    assert V.shape == ((300, 150) if channel == "rndf" else (100, 300))
    for moment, expected, error in ((V.mean(), 0.0, 1.0), (V.std(), 0.05, np.sqrt(0.5))):
        assert abs(moment - expected) < 3 * error * 0.05 / np.sqrt(V.size)
    assert abs(np.sign(V).mean()) < 3 / np.sqrt(V.size)
    assert stats.kstest(V.ravel() / 0.05, "norm").pvalue > 1e-3
    for _ in range(3):
        net.accumulate(engine.batch(net, rng.standard_normal((8, 300)), rng.integers(0, 100, 8)))
        net.update()
        np.testing.assert_array_equal(node.V, V)


@pytest.mark.parametrize("kind", ["brsf", "brsf_p"])
@on_each
def test_redrawn_feedback_is_redrawn_once_per_update(engine, kind, on, rng):
    """One V for all samples and batches of an update, another one for the next."""
    net = wide(engine, kind, on, training={"batches_per_update": 3})
    node, drawn = net.nodes[0], []
    for _ in range(4):
        V = net.xp.host(node.V)
        for _ in range(3):
            net.accumulate(engine.batch(net, rng.standard_normal((8, 300)), rng.integers(0, 3, 8)))
            np.testing.assert_array_equal(net.xp.host(node.V), V)
        drawn.append(V)
        W = net.xp.host(node.W)
        net.update()
        assert not np.array_equal(net.xp.host(node.W), W)
        M = net.xp.host(node.feedback["M"])
        np.testing.assert_array_equal(net.xp.host(node.V), M * np.sign(net.xp.host(node.W)))
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert abs(stats.pearsonr(np.abs(one).ravel(), np.abs(other).ravel()).statistic) < 4 / np.sqrt(one.size)


@pytest.mark.parametrize("kind", ["frsf", "frsf_p"])
@on_each
def test_fixed_feedback_keeps_its_magnitudes_while_signs_follow_W(engine, kind, on, rng):
    net = wide(engine, kind, on)
    node = net.nodes[0]
    V, W = net.xp.host(node.V), net.xp.host(node.W)
    M = V * np.sign(W)
    for _ in range(3):
        net.accumulate(engine.batch(net, rng.standard_normal((8, 300)), rng.integers(0, 3, 8)))
        net.update()
    moved = net.xp.host(node.W)
    assert (np.sign(moved) != np.sign(W)).mean() > 0.02
    np.testing.assert_array_equal(net.xp.host(node.V), M * np.sign(moved))


@pytest.mark.parametrize("channel", ["usf", "nusf"])
@on_each
def test_sign_feedback_follows_W(engine, channel, on, rng):
    net = wide(engine, channel, on)
    W = net.xp.host(net.nodes[0].W)
    net.accumulate(engine.batch(net, rng.standard_normal((8, 300)), rng.integers(0, 3, 8)))
    net.update(rate=1.0)
    moved, V = net.xp.host(net.nodes[0].W), net.xp.host(net.nodes[0].V)
    assert (np.sign(moved) != np.sign(W)).any()
    np.testing.assert_allclose(V, np.sign(moved) / (1 if channel == "usf" else 300), rtol=1e-15)


def test_a_weight_of_zero_says_nothing(engine):
    """sign(0) = 0: a synapse that is not there carries no error."""
    for channel in ("usf", "nusf", "brsf", "frsf", "brsf_p", "frsf_p"):
        net = wide(engine, channel)
        node = net.nodes[0]
        node.W[5] = 0.0
        node.channel.refresh(node.map, node.W, node.feedback, net.stream)
        assert (node.V[5] == 0).all()
        assert (node.V[6] != 0).all()


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


@pytest.mark.parametrize(("channel", "expected"), [("usf", np.sqrt(2 / np.pi)), ("frsf", np.sqrt(3 / 4 * 2 / np.pi))])
def test_the_angle_between_gaussian_weights_and_their_feedback(engine, channel, expected):
    """cos(W, sign W) = 0.798; cos(W, U sign W) = 0.691: E|w| E u / sqrt(E u^2)."""
    node = wide(engine, channel).nodes[0]
    assert cosine(node.W, node.V) == pytest.approx(expected, abs=3 * 0.6 / np.sqrt(node.W.size))


# channel: cosine to the true error and ratio of lengths, at layers 3, 2, 1 of the net below
TRAVEL = {
    "usf": ((0.79, 7.1), (0.63, 49.0), (0.50, 350.0)),
    "nusf": ((0.79, 0.071), (0.63, 0.0049), (0.50, 0.00035)),
    "frsf": ((0.68, 4.0), (0.48, 16.0), (0.33, 67.0)),
    "rndf": ((0.0, 0.36), (0.0, 0.12), (0.0, 0.04)),
}


def errors(engine, channel, seed):
    """dn at every layer of a random ReLU network, four layers of 100, under a random error at its output."""
    layers = [
        {"l1": {"dense": 100}},
        "relu",
        {"l2": {"dense": 100}},
        "relu",
        {"l3": {"dense": 100}},
        "relu",
        {"l4": {"dense": 100}},
    ]
    net = engine.net(layers, (100,), classes=100, seed=seed, defaults={"channel": channel})
    rng = np.random.default_rng(seed)
    found = {}
    _, tape = net.pass_.forward(engine.batch(net, rng.standard_normal((40, 100)), np.zeros(40, int)), LEARN)
    top = {"output": rng.standard_normal((40, 100))}
    net.pass_.back(top, tape, lambda unit, local: found.update({unit.name: local.dn + 0}))
    return found


@pytest.mark.parametrize("channel", TRAVEL)
def test_what_becomes_of_an_error_on_its_way_down(engine, channel):
    """Uniform signs blow an error up about 7 times a layer, normalized ones shrink it about 14 times."""
    measured = {name: [] for name in ("l3", "l2", "l1")}
    for seed in range(3):
        true, seen = errors(engine, "bp", seed), errors(engine, channel, seed)
        np.testing.assert_array_equal(seen["l4"], true["l4"])
        for name, values in measured.items():
            values.append((cosine(seen[name], true[name]), np.linalg.norm(seen[name]) / np.linalg.norm(true[name])))
    for (name, values), (angle, ratio) in zip(measured.items(), TRAVEL[channel], strict=True):
        found = np.mean(values, 0)
        assert found[0] == pytest.approx(angle, abs=0.03), name
        assert found[1] == pytest.approx(ratio, rel=0.15), name


@on_each
def test_redrawn_feedback_is_redrawn_for_a_clamped_layer_too(engine, on, rng):
    """The layers below a clamped one get another V at every update, as its rule says."""
    stack = [{"h": {"dense": 8}}, "relu", {"out": {"dense": 3}}]
    net = engine.net(stack, (5,), on=on, defaults={"channel": "brsf"}, layers={"out": {"plasticity": "none"}})
    node = net.nodes[1]
    W, V = net.xp.host(node.W), net.xp.host(node.V)
    net.accumulate(engine.batch(net, rng.standard_normal((8, 5)), rng.integers(0, 3, 8)))
    net.update()
    np.testing.assert_array_equal(net.xp.host(node.W), W)
    assert not np.array_equal(net.xp.host(node.V), V)
    np.testing.assert_array_equal(np.sign(net.xp.host(node.V)), np.sign(W))
