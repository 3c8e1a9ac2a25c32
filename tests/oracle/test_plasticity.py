"""Local rules by explicit loops; and that no error is computed for a layer that nobody listens to."""

from __future__ import annotations

import numpy as np
import pytest

from bioplaus import registry

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])


def oja(x, y, W):
    """sum over samples of y x - y^2 W, weight by weight: what Oja (1982) wants W to change by."""
    change = np.zeros_like(W)
    for n in range(len(x)):
        for i in range(W.shape[0]):
            for o in range(W.shape[1]):
                change[i, o] += y[n, o] * (x[n, i] - y[n, o] * W[i, o])
    return change


@pytest.mark.parametrize("norm", ["none", "batch"])
@on_each
def test_oja_in_a_dense_layer(engine, norm, on, rng):
    """y is what leaves the layer, after its norm and activation; dW has the sign that updates subtract."""
    layers = [{"h": {"dense": 4}}, "norm", "tanh", {"out": {"dense": 3}}]
    net = engine.net(layers, (5,), on=on, layers={"h": {"plasticity": "oja", "norm": norm}})
    engine.shake(net)
    W = engine.W(net)
    x = rng.standard_normal((6, 5)) + 0.5
    n = x @ W["h.W"] + W.get("h.b", 0.0)
    if norm == "batch":
        n = (n - n.mean(0)) / np.sqrt(n.var(0) + 1e-5)
    change = oja(x, np.tanh(n), W["h.W"])
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, 6)))
    np.testing.assert_allclose(engine.dW(net)["h.W"], -change, rtol=1e-10, atol=1e-12)
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, 6)))
    np.testing.assert_allclose(engine.dW(net)["h.W"], -2 * change, rtol=1e-10, atol=1e-12)
    net.update(rate=0.1)
    np.testing.assert_allclose(engine.W(net)["h.W"], W["h.W"] + 0.2 * change, rtol=1e-10)
    if norm == "none":
        np.testing.assert_array_equal(engine.W(net)["h.b"], W["h.b"])


@pytest.mark.parametrize("filters", [2, 3])
@on_each
def test_oja_in_a_convolution(engine, filters, on, rng):
    """One filter for all places: the sum runs over samples and places."""
    layers = [{"c": {"conv": filters, "kernel": [3, 2], "stride": [1, 2]}}, "relu", "flatten", {"out": {"dense": 3}}]
    net = engine.net(layers, (2, 5, 6), on=on, layers={"c": {"plasticity": "oja"}}, training={"reduction": "mean"})
    engine.shake(net)
    W, b = engine.W(net)["c.W"], engine.W(net)["c.b"].ravel()
    x, change = rng.standard_normal((4, 2, 5, 6)), np.zeros_like(W)
    for n in range(4):
        for row in range(3):
            for col in range(3):
                patch = x[n, :, row : row + 3, 2 * col : 2 * col + 2]
                for o in range(filters):
                    y = max((patch * W[o]).sum() + b[o], 0.0)
                    change[o] += y * (patch - y * W[o])
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, 4)))
    np.testing.assert_allclose(engine.dW(net)["c.W"], -change / 4, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("filters", [2, 3])
def test_oja_in_a_transposed_convolution(engine, filters, rng):
    layers = [{"t": {"conv_transposed": filters, "kernel": 2, "stride": 2}}, "flatten", {"out": {"dense": 3}}]
    net = engine.net(layers, (2, 3, 3), layers={"t": {"plasticity": "oja"}})
    W, x, change = engine.W(net)["t.W"], rng.standard_normal((4, 2, 3, 3)), 0.0
    y = np.einsum("ncrs,coij->norisj", x, W)  # windows do not meet: each output has one input place
    change = np.einsum("norisj,ncrs->coij", y, x) - W * np.einsum("norisj,norisj->o", y, y)[None, :, None, None]
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, 4)))
    np.testing.assert_allclose(engine.dW(net)["t.W"], -change, rtol=1e-10, atol=1e-12)


@on_each
def test_oja_finds_the_first_principal_component_at_length_one(engine, on, rng):
    net = engine.net(
        [{"out": {"dense": 1}}],
        (6,),
        classes=1,
        on=on,
        loss="squared_error",
        defaults={"plasticity": "oja"},
        training={"reduction": "mean"},
    )
    axes = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    x = rng.standard_normal((500, 6)) * np.array([2.0, 1.0, 0.7, 0.5, 0.3, 0.1]) @ axes.T
    x -= x.mean(0)
    batch = engine.batch(net, x, np.zeros((500, 1)))
    for _ in range(150):
        net.accumulate(batch)
        net.update(rate=0.02)
    w = engine.W(net)["out.W"][:, 0]
    component = np.linalg.svd(x)[2][0]
    assert abs(w @ component) / np.linalg.norm(w) > 0.99
    assert np.linalg.norm(w) == pytest.approx(1.0, abs=0.02)


class Spy:
    """A map that counts what it is asked for."""

    def __init__(self, map):
        self.map, self.calls = map, {"down": 0, "outer": 0}

    def __getattr__(self, name):
        if name in self.calls:
            self.calls[name] += 1
        return getattr(self.map, name)


WAY = [
    {"c": {"conv": 3, "kernel": 3}},
    "norm",
    "relu",
    {"maxpool": 2},
    "flatten",
    {"f": {"dense": 5}},
    "norm",
    "tanh",
    {"dropout": 0.2},
    {"g": {"dense": 4}},
    "relu",
    {"out": {"dense": 3}},
]


@pytest.mark.parametrize(
    ("layers", "asked"),
    [
        ({}, {"c": (0, 1), "f": (1, 1), "g": (1, 1), "out": (1, 1)}),
        ({"*": {"plasticity": "oja"}}, {"c": (0, 1), "f": (0, 1), "g": (0, 1), "out": (0, 1)}),
        ({"$hidden": {"plasticity": "oja"}}, {"c": (0, 1), "f": (0, 1), "g": (0, 1), "out": (0, 1)}),
        ({"$hidden": {"plasticity": "none"}}, {"c": (0, 0), "f": (0, 0), "g": (0, 0), "out": (0, 1)}),
        ({"*": {"plasticity": "none"}}, {"c": (0, 0), "f": (0, 0), "g": (0, 0), "out": (0, 0)}),
        ({"$last": {"plasticity": "none"}}, {"c": (0, 1), "f": (1, 1), "g": (1, 1), "out": (1, 0)}),
        ({"c": {"plasticity": "none"}}, {"c": (0, 0), "f": (0, 1), "g": (1, 1), "out": (1, 1)}),
        (
            {"c": {"plasticity": "oja"}, "f": {"plasticity": "none"}},
            {"c": (0, 1), "f": (0, 0), "g": (0, 1), "out": (1, 1)},
        ),
        ({"f": {"plasticity": "oja"}}, {"c": (0, 1), "f": (1, 1), "g": (1, 1), "out": (1, 1)}),
    ],
    ids=str,
)
@on_each
def test_nobody_computes_an_error_that_nobody_wants(engine, layers, asked, on, rng, monkeypatch):
    """(times asked for the way down, times asked for an outer product) in one step, of every map."""
    net = engine.net(WAY, (2, 6, 6), on=on, defaults={"norm": "batch"}, layers=layers)
    spies = {}
    for node in net.nodes:
        node.map = spies[node.name] = Spy(node.map)
    backs = {name: 0 for name in ("relu_back", "maxpool_back", "standardize_back")}
    for name in backs:
        true = getattr(net.xp, name)

        def counted(*given, name=name, true=true):
            backs[name] += 1
            return true(*given)

        monkeypatch.setattr(net.xp, name, counted)
    net.accumulate(engine.batch(net, rng.standard_normal((5, 2, 6, 6)), rng.integers(0, 3, 5)))
    assert {name: (spy.calls["down"], spy.calls["outer"]) for name, spy in spies.items()} == asked
    reaches_c = asked["f"][0]  # what stands between c and f runs back only where c is told
    reaches_f = asked["g"][0]
    reaches_g = asked["out"][0]
    assert backs["maxpool_back"] == reaches_c
    assert backs["relu_back"] == reaches_c + reaches_g
    assert backs["standardize_back"] == reaches_c + reaches_f


@on_each
def test_local_rules_learn_whatever_the_labels_say(engine, on, rng):
    net = engine.net(WAY, (2, 6, 6), on=on, defaults={"norm": "batch", "plasticity": "oja"})
    x = rng.standard_normal((5, 2, 6, 6))
    W = engine.W(net)
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, 5)))
    first = engine.dW(net)
    assert set(first) == {"c.W", "f.W", "g.W", "out.W"}
    net.update(rate=0.0)
    net.batches = 0  # the same dropout again
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, 5)))
    for name, found in engine.dW(net).items():
        np.testing.assert_array_equal(found, first[name])  # labels say nothing
        np.testing.assert_array_equal(engine.W(net)[name], W[name])


@on_each
def test_a_rule_written_in_a_notebook(engine, on, rng, monkeypatch):
    """It writes the change it wants, and gets it; the layers above learn from the error as ever."""
    monkeypatch.setattr(registry, "_added", {})

    @registry.register("plasticity", "covariance_tested")
    class Covariance:
        """dW = sum (x - <x>)(y - <y>)"""

        needs = {"x", "y"}

        def dW(self, local, map, W, out, scale):
            x, y = local.x, local.y
            map.outer(x - x.mean(-2, keepdims=True), y - y.mean(-2, keepdims=True), out, scale)

    layers = [{"h": {"dense": 4}}, "tanh", {"out": {"dense": 3}}]
    net = engine.net(layers, (5,), on=on, layers={"h": {"plasticity": "covariance_tested"}})
    W, x = engine.W(net), rng.standard_normal((6, 5))
    y = np.tanh(x @ W["h.W"] + W["h.b"])
    wanted = (x - x.mean(0)).T @ (y - y.mean(0))
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, 6)))
    net.update(rate=0.01)
    np.testing.assert_allclose(engine.W(net)["h.W"], W["h.W"] + 0.01 * wanted, rtol=1e-11)
    assert not np.array_equal(engine.W(net)["out.W"], W["out.W"])


@on_each
def test_a_rule_that_reads_the_pre_activation_sees_it_before_the_activation(engine, on, rng, monkeypatch):
    """Even where the activation would overwrite it in place."""
    monkeypatch.setattr(registry, "_added", {})

    @registry.register("plasticity", "presynaptic_tested")
    class Linear:
        needs = {"x", "n"}

        def dW(self, local, map, W, out, scale):
            map.outer(local.x, local.n, out, scale)

    layers = [{"h": {"dense": 4}}, "relu", {"out": {"dense": 3}}]
    net = engine.net(layers, (5,), on=on, layers={"h": {"plasticity": "presynaptic_tested"}})
    W, x = engine.W(net), rng.standard_normal((6, 5))
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, 6)))
    np.testing.assert_allclose(engine.dW(net)["h.W"], -x.T @ (x @ W["h.W"]), rtol=1e-11, atol=1e-12)


@on_each
def test_an_error_that_no_layer_wants_does_not_even_start(engine, on, rng, monkeypatch):
    net = engine.net(
        [{"h": {"dense": 4}}, "relu", {"out": {"dense": 3}}, "relu"], (5,), on=on, defaults={"plasticity": "oja"}
    )

    def never(*given):
        raise AssertionError("an error came back")

    monkeypatch.setattr(net.xp, "relu_back", never)
    net.accumulate(engine.batch(net, rng.standard_normal((6, 5)), rng.integers(0, 3, 6)))
    assert set(engine.dW(net)) == {"h.W", "out.W"}


@on_each
def test_a_clamped_gain_wants_no_error_either(engine, on, rng):
    """Nobody below the second layer learns, so it hands nothing down."""
    layers = [{"h": {"dense": 4}}, "norm", "relu", {"g": {"dense": 4}}, "affine", "tanh", {"out": {"dense": 3}}]
    defaults = {"norm": {"recipe": "batch", "affine": True}}
    clamped = {"h": {"plasticity": "none"}, "g": {"plasticity": "none"}}
    for frozen, downs in (({"h": clamped["h"]}, [0, 0, 1]), (clamped, [0, 0, 0]), ({}, [0, 1, 1])):
        net = engine.net(layers, (5,), on=on, defaults=defaults, layers=frozen)
        for node in net.nodes:
            node.map = Spy(node.map)
        net.accumulate(engine.batch(net, rng.standard_normal((6, 5)), rng.integers(0, 3, 6)))
        assert [node.map.calls["down"] for node in net.nodes] == downs
