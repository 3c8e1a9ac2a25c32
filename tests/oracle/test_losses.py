"""Losses on signals inside a network, sums of them, and where their errors go: against autograd."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest

from bioplaus import assemble, config, registry
from bioplaus.errors import ConfigError
from bioplaus.parts import LOOK, At, Batch
from bioplaus.units import Outlet

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
N = 5
SHAPE = (2, 6, 6)
LAYERS = [
    {"c": {"conv": 3, "kernel": 3}},
    "relu",
    {"maxpool": 2},
    "flatten",
    {"f": {"dense": 4}},
    "relu",
    {"out": {"dense": 3}},
]


@dataclass(frozen=True)
class Pull:
    """1/2 ||signal||^2, per sample."""

    signal: str

    @property
    def needs(self):
        return {self.signal}

    def error(self, xp, signals, batch, state, at):
        value = signals[self.signal]
        return (value * value).sum() * 0.5, {self.signal: value + 0.0}


class Twice:
    """The network's layers run twice over the same samples with the same weights; the output is the sum."""

    def place(self, site, network):
        root, output = site.chain(network.layers, tuple(network.input))
        root.wire(False)
        return TwoVisits(root, output)


@dataclass
class TwoVisits:
    root: object
    output: tuple
    provides = {"output"}

    @property
    def units(self):
        return (self.root,)

    def forward(self, batch, at):
        first, tape = self.root.forward(batch.x, at._replace(visit=0))
        second, tape2 = self.root.forward(batch.x * 2.0, at._replace(visit=1))
        return {"output": first + second}, [tape, tape2]

    def back(self, errors, tape, learn):
        for visit in reversed(tape):
            self.root.back(errors["output"] + 0.0, visit, errors["output"], learn)


@pytest.fixture(scope="module", autouse=True)
def parts():
    registry.add("loss", "pull", Pull)
    registry.add("pass", "twice", Twice)


def pulling(*signals, **weights):
    terms = {f"on_{i}": {"recipe": "pull", "signal": signal} for i, signal in enumerate(signals)}
    for name, weight in weights.items():
        terms[name]["weight"] = weight
    return terms


def draw(engine, net, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((N, *shape)), rng.integers(0, 3, N)
    return engine.batch(net, x, y), x, y


def inside(torch, W, x):
    """Every signal of LAYERS, from its definition."""
    F = torch.nn.functional
    found = {"c.n": F.conv2d(x, W["c.W"]) + W["c.b"]}
    found["c.y"] = torch.relu(found["c.n"])
    found["f.n"] = F.max_pool2d(found["c.y"], 2).flatten(1) @ W["f.W"] + W["f.b"]
    found["f.y"] = torch.relu(found["f.n"])
    found["output"] = found["f.y"] @ W["out.W"] + W["out.b"]
    return found


def gradients(plain, engine, net, x, score):
    """{parameter: gradient} of ``score(signals)`` by autograd."""
    W = {name: plain.torch.tensor(value, requires_grad=True) for name, value in engine.W(net).items()}
    value = score(inside(plain.torch, W, plain.torch.tensor(x)))
    value.backward()
    return value.item(), {
        name: a.grad.numpy() if a.grad is not None else 0.0 * engine.W(net)[name] for name, a in W.items()
    }


@pytest.mark.parametrize(
    "signals",
    [("c.n",), ("c.y",), ("f.n", "c.n"), ("f.y", "c.y"), ("output", "c.n", "f.y"), ("c.n", "c.n", "c.y", "out.n")],
    ids="+".join,
)
@on_each
def test_errors_at_inner_signals_are_what_autograd_says(engine, plain, signals, on):
    """Also where no term looks at the output, and where the activation could have overwritten what is looked at."""
    net = engine.net(LAYERS, SHAPE, on=on, losses=pulling(*signals, on_0=0.7))
    engine.shake(net)
    batch, x, _ = draw(engine, net)
    weights = [0.7] + [1.0] * (len(signals) - 1)

    def score(found):
        found["out.n"] = found["output"]
        return sum(w * 0.5 * (found[name] ** 2).sum() for w, name in zip(weights, signals, strict=True))

    expected, grads = gradients(plain, engine, net, x, score)
    value, wrong = net.accumulate(batch)
    assert float(value) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(float(wrong))  # nobody counts
    found = engine.dW(net)
    assert set(found) == set(grads)
    for name, dW in found.items():
        np.testing.assert_allclose(dW, grads[name], rtol=1e-10, atol=1e-12, err_msg=name)


@on_each
def test_a_sum_is_weighted_and_every_term_is_kept(engine, plain, on):
    losses = {"ce": {"recipe": "softmax_cross_entropy", "weight": 2.0}, **pulling("c.n", "f.n", on_0=0.1, on_1=0.0)}
    net = engine.net(LAYERS, SHAPE, on=on, losses=losses)
    engine.shake(net)
    batch, x, y = draw(engine, net)
    each = {}

    def score(found):
        each["ce"] = plain.score("softmax_cross_entropy", found["output"], y)
        each["on_0"], each["on_1"] = (0.5 * (found[name] ** 2).sum() for name in ("c.n", "f.n"))
        return 2.0 * each["ce"] + 0.1 * each["on_0"]

    expected, grads = gradients(plain, engine, net, x, score)
    value, wrong = net.accumulate(batch)
    assert float(value) == pytest.approx(expected, rel=1e-12)
    assert {name: float(v) for name, v in net.terms.items()} == pytest.approx(
        {name: v.item() for name, v in each.items()}, rel=1e-12
    )
    alone = engine.net(LAYERS, SHAPE, on=on)
    engine.shake(alone)
    assert float(wrong) == float(alone.accumulate(batch)[1])
    for name, dW in engine.dW(net).items():
        np.testing.assert_allclose(dW, grads[name], rtol=1e-10, atol=1e-12, err_msg=name)
    assert float(net.evaluate(batch)[0]) == pytest.approx(expected, rel=1e-12)
    true = net.true_gradient(batch)
    for name in ("c", "f", "out"):
        np.testing.assert_allclose(net.xp.host(true[name]), grads[f"{name}.W"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_reduction_holds_for_every_term(engine, reduction):
    losses = {"softmax_cross_entropy": {}, **pulling("c.n")}
    nets = [engine.net(LAYERS, SHAPE, losses=losses, training={"reduction": r}) for r in ("sum", reduction)]
    for net in nets:
        net.accumulate(draw(engine, net)[0])
    share = 1.0 if reduction == "sum" else 1.0 / N
    for name, dW in engine.dW(nets[1]).items():
        np.testing.assert_allclose(dW, engine.dW(nets[0])[name] * share, rtol=1e-12, atol=1e-15)


@on_each
def test_one_loss_of_the_rule_is_that_loss_of_the_network(engine, on):
    """Bit for bit, and it replaces whatever the network has."""
    own = engine.net(LAYERS, SHAPE, on=on, loss="softmax_cross_entropy")
    ruled = engine.net(LAYERS, SHAPE, on=on, loss="squared_error", losses={"softmax_cross_entropy": None})
    for net in (own, ruled):
        for seed in range(2):
            net.accumulate(draw(engine, net, seed=seed)[0])
            net.update()
    for name, W in engine.W(own).items():
        np.testing.assert_array_equal(engine.W(ruled)[name], W, err_msg=name)


@on_each
def test_looking_at_a_signal_changes_nothing(engine, on):
    """With weight 0 the training is the same to the bit."""
    plain, looked = (
        engine.net(LAYERS, SHAPE, on=on, losses={"softmax_cross_entropy": {}, **more})
        for more in ({}, pulling("c.n", "c.y", "f.n", on_0=0.0, on_1=0.0, on_2=0.0))
    )
    for net in (plain, looked):
        for seed in range(2):
            net.accumulate(draw(engine, net, seed=seed)[0])
            net.update()
    for name, W in engine.W(plain).items():
        np.testing.assert_array_equal(engine.W(looked)[name], W, err_msg=name)


def test_the_error_of_an_inner_loss_travels_through_V(engine):
    """x -> h -> relu -> g: what a loss at g's n sends to h goes through sign(W of g)."""
    stack = [{"h": {"dense": 6}}, "relu", {"g": {"dense": 4}}, "tanh", {"out": {"dense": 3}}]
    net = engine.net(stack, (5,), losses=pulling("g.n"), defaults={"channel": "usf"})
    engine.shake(net)
    batch, x, _ = draw(engine, net, (5,))
    net.accumulate(batch)
    W = engine.W(net)
    h = x @ W["h.W"] + W["h.b"]
    dg = np.maximum(h, 0) @ W["g.W"] + W["g.b"]
    dh = (dg @ np.sign(W["g.W"]).T) * (h > 0)
    np.testing.assert_allclose(engine.dW(net)["h.W"], x.T @ dh, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(engine.dW(net)["g.W"], np.maximum(h, 0).T @ dg, rtol=1e-11, atol=1e-13)
    assert not engine.dW(net)["out.W"].any()


def test_direct_feedback_has_no_error_to_send_where_the_output_has_none(engine):
    net = engine.net(LAYERS, SHAPE, losses=pulling("f.n"), defaults={"channel": "dfa"})
    net.accumulate(draw(engine, net)[0])
    assert not engine.dW(net)["c.W"].any() and engine.dW(net)["f.W"].any()


@on_each
def test_signals_of_a_layer_that_is_visited_twice_lie_one_after_another(engine, plain, on):
    """(visits, samples, ...): whatever the pass, errors go back to the visit they belong to."""
    losses = pulling("c.n", "f.y", on_1=0.3)
    rule = {"rule": "t", "defaults": {"update": {"recipe": "sgd", "rate": 0.1}}, "losses": losses}
    network = {"network": "t", "input": list(SHAPE), "layers": LAYERS, "pass": "twice"}
    settings = config.load(rule, network=network)
    net = assemble.assembled(settings, classes=3, xp=assemble.array_library(on, dtype="float64", threads=1))
    engine.shake(net)
    batch, x, _ = draw(engine, net)
    W = {name: plain.torch.tensor(value, requires_grad=True) for name, value in engine.W(net).items()}
    visits = [inside(plain.torch, W, plain.torch.tensor(x * k)) for k in (1.0, 2.0)]
    expected = sum(0.5 * (v["c.n"] ** 2).sum() + 0.15 * (v["f.y"] ** 2).sum() for v in visits)
    expected.backward()
    value, _ = net.accumulate(batch)
    assert float(value) == pytest.approx(expected.item(), rel=1e-12)
    for name in ("c.W", "c.b", "f.W", "f.b"):
        np.testing.assert_allclose(engine.dW(net)[name], W[name].grad, rtol=1e-10, atol=1e-12, err_msg=name)
    with net.xp.scope():
        signals, _ = net._up(batch, At())
    np.testing.assert_allclose(net.xp.host(signals["c.n"])[1], visits[1]["c.n"].detach().numpy(), rtol=1e-12)


STATES = {
    "network": "t",
    "input": [2, 4, 4],
    "pass": {"recipe": "graph", "readout": 4, "combine": "sum"},
    "prenet": [{"stem": {"conv": 3, "kernel": 3, "pad": "half"}}],
    "states": {"a": [3, 4, 4]},
    "edges": {
        "a_a": {"from": "a", "to": "a", "module": [{"c": {"conv": 3, "kernel": 3, "pad": "half"}}, "tanh"]},
    },
    "postnet": ["globalmeanpool", {"fc": {"dense": "classes"}}],
}
UNTIED = STATES | {"edges": {"a_a": STATES["edges"]["a_a"] | {"share": False}}}
CELLS = {
    "network": "t",
    "input": [4],
    "pass": {"recipe": "recurrent", "steps": 3},
    "layers": [{"h": {"rnn": 5}}, {"f": {"dense": 4}}, "tanh", {"out": {"dense": "classes"}}],
}


@pytest.mark.parametrize(
    ("network", "signals"),
    [(STATES, ("a_a.c.n", "a_a.c.y")), (UNTIED, ("a_a.c.n", "a_a.c.y")), (CELLS, ("f.n", "f.y"))],
    ids=["shared over time", "one copy a step", "recurrent"],
)
@on_each
def test_losses_inside_networks_in_time(engine, network, signals, on, rng):
    """Every visit, and every copy, has its part: by central differences of the sum."""
    losses = {"softmax_cross_entropy": {}, **pulling(*signals, on_0=0.3, on_1=0.7)}
    rule = {"rule": "t", "defaults": {"update": {"recipe": "sgd", "rate": 0.1}}, "losses": losses}
    settings = config.load(rule, network=network)
    net = assemble.assembled(settings, classes=3, xp=assemble.array_library(on, dtype="float64", threads=1))
    engine.shake(net)
    leading = (3, N) if network is CELLS else (N,)
    batch = net.batch(rng.standard_normal((*leading, *network["input"])), rng.integers(0, 3, leading))

    def score():
        with net.xp.scope():
            return float(net.loss.error(net.xp, net._up(batch, LOOK)[0], batch)[0])

    value, _ = net.accumulate(batch)
    assert float(value) == pytest.approx(score(), rel=1e-12)
    with net.xp.scope():
        assert tuple(net._up(batch, LOOK)[0][signals[0]].shape[:2]) == (3, N)
    for parameter in net.parameters():
        step = net.xp.array(1e-5 * rng.standard_normal(tuple(parameter.W.shape)))
        slope = float((parameter.dW * step).sum())
        parameter.W[...] += step
        above = score()
        parameter.W[...] -= 2 * step
        below = score()
        parameter.W[...] += step
        assert slope == pytest.approx((above - below) / 2, rel=1e-5, abs=1e-11), parameter.name


@on_each
def test_a_signal_within_a_block(engine, plain, on):
    stack = [
        {"h": {"dense": 5}},
        "relu",
        {"r": {"residual": [{"f": {"dense": 5}}, "tanh"]}},
        "relu",
        {"out": {"dense": 3}},
    ]
    net = engine.net(stack, (5,), on=on, losses=pulling("r.f.n", "r.f.y"))
    engine.shake(net)
    batch, x, _ = draw(engine, net, (5,))
    torch = plain.torch
    W = {name: torch.tensor(value, requires_grad=True) for name, value in engine.W(net).items()}
    n = torch.relu(torch.tensor(x) @ W["h.W"] + W["h.b"]) @ W["r.f.W"] + W["r.f.b"]
    (0.5 * (n**2).sum() + 0.5 * (torch.tanh(n) ** 2).sum()).backward()
    net.accumulate(batch)
    for name in ("h.W", "h.b", "r.f.W", "r.f.b"):
        np.testing.assert_allclose(engine.dW(net)[name], W[name].grad, rtol=1e-10, atol=1e-12, err_msg=name)


def test_nothing_is_sent_where_nobody_listens(engine):
    """Below a clamped first layer there is no one to learn; above it all is as before."""
    clamped = {"c": {"plasticity": "none"}}
    net = engine.net(LAYERS, SHAPE, losses={"softmax_cross_entropy": {}, **pulling("c.n")}, layers=clamped)
    other = engine.net(LAYERS, SHAPE, layers=clamped)
    for each in (net, other):
        each.accumulate(draw(engine, each)[0])
    assert set(engine.dW(net)) == set(engine.dW(other)) == {"f.W", "f.b", "out.W", "out.b"}
    for name, dW in engine.dW(other).items():
        np.testing.assert_array_equal(engine.dW(net)[name], dW, err_msg=name)


def test_an_outlet_gives_the_losses_error_where_none_comes_from_above():
    outlet = Outlet("h.n", (2,))
    outlet.wire(True)
    outlet.errors = ["first", "second"]
    assert outlet.back(None, 1, None, None) == "second"
    outlet.errors = []
    assert outlet.back("above", 0, None, None) == "above"
    outlet.wire(False)
    assert outlet.back("above", 0, None, None) is None


def test_a_loss_looks_only_while_it_scores(engine):
    """No activity is kept by collecting, predicting or watching."""
    net = engine.net(LAYERS, SHAPE, losses=pulling("c.n"))
    batch, *_ = draw(engine, net)
    net.accumulate(batch)
    net.predict(batch.x)
    net.collect(batch)
    net.evaluate(batch)
    assert [outlet.values + outlet.errors for outlet in net.outlets["c.n"]] == [[]]


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        ("conv2.n", "has no signal 'conv2.n'"),
        ("cc.n", "has no signal 'cc.n'; did you mean 'c.n'?"),
        ("relu.y", "has no signal 'relu.y'"),
        ("image", "has no signal 'image'"),
    ],
)
def test_a_signal_that_nobody_provides(engine, signal, said):
    with pytest.raises(ConfigError, match=re.escape(f"losses.on_0: network 'tested' {said}")):
        engine.net(LAYERS, SHAPE, losses=pulling(signal))


def test_all_missing_signals_are_named_at_once(engine):
    with pytest.raises(ConfigError) as error:
        engine.net(LAYERS, SHAPE, losses=pulling("a.n", "c.n", "b.n"))
    assert ["'a.n'" in line or "'b.n'" in line for line in str(error.value).splitlines()] == [True, True]


def test_padding_has_no_part_in_a_scored_batch(engine, rng):
    """Through evaluate, as a last test batch comes."""
    net = engine.net(LAYERS, SHAPE, losses={"ce": {"recipe": "softmax_cross_entropy"}})
    x, y = rng.standard_normal((N, *SHAPE)), rng.integers(0, 3, N)
    padded = engine.batch(net, x, y, (1.0, 1.0, 0.0, 1.0, 0.0))
    real = [0, 1, 3]
    whole = engine.batch(net, x[real], y[real])
    assert isinstance(padded, Batch)
    assert float(net.evaluate(padded)[0]) == pytest.approx(float(net.evaluate(whole)[0]), rel=1e-12)
