"""Streaming normalization against its algorithm written with plain lists of what was seen since the last update."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bioplaus.construct import make
from bioplaus.errors import RunError
from bioplaus.parts import LEARN, TEST, At

torch = pytest.importorskip("torch")
spec = importlib.util.spec_from_file_location("norms_by_hand", Path(__file__).with_name("norms_by_hand.py"))
hand = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hand)

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
SHAPE, EPS = (3, 2, 2, 3), 1e-5
LETTERS = {"BA1": ((0, 2, 3), "NHW"), "BA2": ((0, 1, 2, 3), "NCHW"), "BA6": ((0,), "N")}


class ByHand:
    """One store: everything seen since the last update in lists, the averages over updates beside them."""

    def __init__(self, ref, *, p, centre, alpha, beta, kappa, error_kappa, gradient):
        self.axes, self.p, self.centre, self.gradient = LETTERS[ref][0], p, centre, gradient
        self.alpha, self.beta, self.kappa, self.error_kappa = alpha, beta, kappa, error_kappa
        self.long, self.glong = {}, {}
        self.first = {"mean": 0.0, "sigma": 0.5 * alpha[0]}  # weight of a deviation of 1 before the first update
        self.seen, self.errors = {"mean": [], "sigma": []}, {"mean": [], "sigma": []}
        self.last = {}

    def mixed(self, name):
        short = self.short(name)
        return short if name not in self.long else self.alpha[0] * self.long[name] + self.alpha[1] * short

    def short(self, name):
        return (sum(self.seen[name]) + self.first[name]) / (len(self.seen[name]) + self.first[name])

    def mean(self, x):
        return x.mean(self.axes, keepdim=True)

    def step(self, x, dy):
        """(y, dx) of one visit."""
        x, dy = torch.tensor(x, requires_grad=True), torch.tensor(dy)
        mean = self.mean(x)
        self.seen["mean"].append(mean.detach())
        used = self.mixed("mean").clone().requires_grad_()
        c = {"A": mean, "B": used.detach(), "C": 0.0}[self.centre]
        sigma = (self.mean((x - c).abs() ** self.p) + EPS) ** (1 / self.p)
        self.seen["sigma"].append(sigma.detach())
        divisor = self.mixed("sigma").clone().requires_grad_()
        self.last = {"mean": used.detach(), "sigma": divisor.detach()}
        weight = self.alpha[1] if self.long else 1.0
        y = (x - used) / divisor
        now = dict(
            zip(("mean", "sigma"), torch.autograd.grad((y * dy).sum(), (used, divisor), retain_graph=True), strict=True)
        )
        handed = {}
        for name, g in now.items():
            self.errors[name].append(g)
            short = sum(self.errors[name]) / len(self.errors[name])
            handed[name] = self.beta[0] * self.glong.get(name, 0.0) + self.beta[1] * short + self.beta[2] * g
            if self.gradient == "chain":
                handed[name] = handed[name] * weight / (len(self.seen[name]) + self.first[name])
        through = (y * dy).sum() + (handed["mean"] * mean).sum() + (handed["sigma"] * sigma).sum()
        return y.detach().numpy(), torch.autograd.grad(through, x)[0].numpy()

    def updated(self):
        now = {name: self.short(name) for name, values in self.seen.items() if values}
        errors = {name: sum(values) / len(values) for name, values in self.errors.items() if values}
        for long, short, kappa in ((self.long, now, self.kappa), (self.glong, errors, self.error_kappa)):
            for name, value in short.items():
                long[name] = kappa[0] * long[name] + kappa[1] * value if name in long else value
        for values in (*self.seen.values(), *self.errors.values()):
            values.clear()
        self.first = {"mean": 0.0, "sigma": 0.0}


VARIANTS = {
    "defaults": {},
    "settings of fig 4-5": {"p": 1.0, "centre": "B", "alpha": [0.7, 0.3], "beta": [0.7, 0.3, 0.0]},
    "settings of fig 4-8": {"centre": "B", "alpha": [0.7, 0.3], "beta": [0.7, 0.0, 0.3]},
    "kappas apart": {"p": 3.0, "kappa": [0.9, 0.1], "error_kappa": [0.2, 0.8], "beta": [0.3, 0.3, 0.4]},
    "zero centre": {"p": 1.5, "centre": "C", "alpha": [0.2, 0.8], "beta": [0.1, 0.6, 0.3]},
    "chain": {"gradient": "chain", "alpha": [0.7, 0.3], "beta": [0.2, 0.3, 0.5]},
    "chain, p 1": {"gradient": "chain", "p": 1.0, "alpha": [0.4, 0.6], "beta": [0.0, 0.0, 1.0]},
    "no errors": {"beta": [0.0, 0.0, 0.0]},
}


def pair(backends, ref, variant, visits, per_visit):
    given = {"p": 2.0, "centre": "A", "alpha": [0.5, 0.5], "beta": [0.5, 0.5, 0.0], "gradient": "straight", **variant}
    stats = {"recipe": "streaming", "per_visit": per_visit, **given}
    xp = backends(dtype="float64")
    norm = make("norm", {"recipe": "norm", "ref": ref, "stats": stats})
    kappa = given.pop("kappa", given["alpha"])
    error_kappa = given.pop("error_kappa", kappa)
    by_hand = [ByHand(ref, **given, kappa=kappa, error_kappa=error_kappa) for _ in range(visits if per_visit else 1)]
    return xp, norm, norm.init(xp, SHAPE[1:], visits), by_hand


@pytest.mark.parametrize("per_visit", [False, True], ids=["one store", "per visit"])
@pytest.mark.parametrize("ref", LETTERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_three_updates_of_two_visits_and_two_batches(backends, rng, variant, ref, per_visit):
    """Every forward, every way back (last visit first), every move of the long averages, and testing at the end."""
    xp, norm, state, by_hand = pair(backends, ref, VARIANTS[variant], 2, per_visit)
    for _ in range(3):
        for _ in range(2):
            for visit in range(2):
                x, dy = 1.3 * rng.standard_normal(SHAPE) + 0.4, rng.standard_normal(SHAPE)
                y, dx = by_hand[visit % len(by_hand)].step(x, dy)
                with xp.scope():
                    found, cache = norm.forward(xp, xp.array(x), state, At(visit=visit))
                    back = norm.back(xp, xp.array(dy), state, cache)
                np.testing.assert_allclose(xp.host(found), y, rtol=1e-9, atol=1e-11)
                np.testing.assert_allclose(xp.host(back), dx, rtol=1e-9, atol=1e-11)
        with xp.scope():
            norm.updated(xp, state)
        for place, each in enumerate(by_hand):
            each.updated()
            for name in ("mean", "sigma"):  # whatever beta is, errors are kept
                stored = (xp.host(state[key])[place] for key in (f"long_{name}", f"long_d{name}"))
                for found, wanted in zip(stored, (each.long[name], each.glong[name]), strict=True):
                    np.testing.assert_allclose(found, wanted[0], rtol=1e-9, atol=1e-11)
    for visit in (0, 1, 6):
        last = by_hand[min(visit, 1) % len(by_hand)].last
        with xp.scope():
            y = norm.forward(xp, xp.array(x), state, TEST._replace(visit=visit))[0]
        np.testing.assert_allclose(
            xp.host(y), (x - last["mean"].numpy()) / last["sigma"].numpy(), rtol=1e-9, atol=1e-11
        )


def test_bptt_goes_back_through_what_was_used_at_each_step(backends, rng):
    """Three steps forward, then back in reverse: each with its own statistics, the counters of errors on their own."""
    xp, norm, state, (one,) = pair(backends, "BA1", {"beta": [0.0, 0.0, 1.0], "alpha": [0.7, 0.3]}, 3, False)
    xs, dys = rng.standard_normal((2, 3, *SHAPE))
    wanted = [one.step(x, dy) for x, dy in zip(xs, dys, strict=True)]
    with xp.scope():
        ways = [norm.forward(xp, xp.array(x), state, At(visit=t)) for t, x in enumerate(xs)]
        assert [float(state[key].reshape(-1)[0]) for key in ("count", "dcount")] == [3.0, 0.0]
        for t in (2, 1, 0):
            dx = norm.back(xp, xp.array(dys[t]), state, ways[t][1])
            np.testing.assert_allclose(xp.host(dx), wanted[t][1], rtol=1e-9, atol=1e-11)
    assert [float(state[key].reshape(-1)[0]) for key in ("count", "dcount")] == [3.0, 3.0]


def test_a_visit_never_trained_is_tested_with_the_last_one_before_it(backends, rng):
    """Stores for five visits, of which training makes the first and the third."""
    xp, norm, state, (zeroth, _, second, *_) = pair(backends, "BA1", {}, 5, True)
    x, dy = rng.standard_normal((2, *SHAPE))
    trained = {0: zeroth.step(x, dy)[0], 2: second.step(x + 1.0, dy)[0]}
    with xp.scope():
        with pytest.raises(RunError, match=r"no statistics for testing yet \(visit 3\)"):
            norm.forward(xp, xp.array(x), state, TEST._replace(visit=3))
        for visit in (2, 0):
            norm.forward(xp, xp.array(x + visit / 2), state, At(visit=visit))
        for visit, trained_at in ((0, 0), (1, 0), (2, 2), (3, 2), (4, 2), (9, 2)):
            y = norm.forward(xp, xp.array(x + trained_at / 2), state, TEST._replace(visit=visit))[0]
            np.testing.assert_allclose(xp.host(y), trained[trained_at], rtol=1e-9, atol=1e-11)


def test_a_store_that_comes_late_begins_like_any_other(backends, rng):
    """The second visit is made after the first update for the first time; a third one never."""
    xp, norm, state, (first, second, _) = pair(backends, "BA1", {"gradient": "chain", "beta": [0.0, 0.0, 1.0]}, 3, True)
    for visits in ((0,), (0, 1), (1, 0)):
        for visit in visits:
            x, dy = rng.standard_normal((2, *SHAPE))
            y, dx = (first, second)[visit].step(3.0 * x + 1.0, dy)
            with xp.scope():
                found, cache = norm.forward(xp, xp.array(3.0 * x + 1.0), state, At(visit=visit))
                back = norm.back(xp, xp.array(dy), state, cache)
            np.testing.assert_allclose(xp.host(found), y, rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(xp.host(back), dx, rtol=1e-9, atol=1e-11)
        with xp.scope():
            norm.updated(xp, state)
        for each in (first, second):
            if each.seen["mean"]:
                each.updated()
    assert [float(value) for value in xp.host(state["begun"]).ravel()] == [1.0, 1.0, 0.0]


LAYERS = [
    {"c": {"conv": 3, "kernel": 3}},
    "norm",
    "relu",
    "flatten",
    {"f": {"dense": 4}},
    "norm",
    "tanh",
    {"o": {"dense": 3}},
]
INPUT = (2, 5, 4)
LIKE_BATCH = {"alpha": [0.0, 1.0], "beta": [0.0, 0.0, 1.0]}
SN = {"recipe": "streaming", "affine": True, **LIKE_BATCH}


def network(engine, on, norm, **training):
    net = engine.net(
        LAYERS, INPUT, on=on, defaults={"norm": norm, "update": {"recipe": "sgd", "rate": 0.1}}, training=training
    )
    engine.shake(net)
    return net


def fed(engine, net, seed, samples=6):
    rng = np.random.default_rng(seed)
    net.accumulate(engine.batch(net, rng.standard_normal((samples, *INPUT)), rng.integers(0, 3, samples)))


@on_each
def test_with_nothing_but_the_newest_it_is_batch_normalization(engine, on):
    """alpha (0, 1), beta (0, 0, 1), one batch an update: four updates of all weights, gains and biases included."""
    streaming, batch = network(engine, on, SN), network(engine, on, {"recipe": "batch", "affine": True})
    for seed in range(4):
        for net in (streaming, batch):
            fed(engine, net, seed)
        dW = engine.dW(batch)
        assert {"c.gain", "f.bias"} < set(dW)
        for name, found in engine.dW(streaming).items():
            np.testing.assert_allclose(found, dW[name], rtol=1e-9, atol=1e-12, err_msg=name)
        for net in (streaming, batch):
            net.update()
        W = engine.W(batch)
        for name, found in engine.W(streaming).items():
            np.testing.assert_allclose(found, W[name], rtol=1e-9, atol=1e-12, err_msg=name)
    for site, other in zip(streaming.norms, batch.norms, strict=True):  # and testing goes by the last batch
        for key in ("mean", "sigma"):
            np.testing.assert_allclose(
                site.xp.host(site.stats[key]), site.xp.host(other.stats[f"batch_{key}"]), rtol=1e-10, atol=1e-12
            )


@on_each
def test_one_sample_by_itself_has_a_bounded_way_back(engine, on):
    """Its deviation from its own mean is 0; what short begins with keeps its error from exploding."""
    net = network(
        engine, on, {"recipe": "streaming", "p": 1.0, "centre": "B", "alpha": [0.7, 0.3]}, batches_per_update=2
    )
    site = net.norms[-1]
    x = np.linspace(-2.0, 3.0, 4)[None]
    y, cache = site.norm.forward(site.xp, site.xp.array(x), site.stats, LEARN)
    np.testing.assert_allclose(site.xp.host(y), 0.0, atol=1e-13)
    dx = site.xp.host(site.norm.back(site.xp, site.xp.array(np.ones_like(x)), site.stats, cache))
    divisor = (EPS + 0.35) / 1.35  # the mean of 0 and 0.35 times 1
    np.testing.assert_allclose(
        dx, (1.0 - 0.5) / divisor, rtol=1e-10
    )  # beta: half of the error at the mean is handed on


@on_each
def test_counters_start_anew_at_updates_only(engine, on):
    net = network(engine, on, "streaming", batches_per_update=3)

    def counters():
        return [
            [float(site.stats[key].reshape(-1)[0]) for key in ("count", "dcount", "begun", "dbegun")]
            for site in net.norms
        ]

    for k in range(3):
        assert counters() == [[k, k, 0, 0]] * 2
        fed(engine, net, k)
        net.begin_collecting()
        net.evaluate(engine.batch(net, np.ones((2, *INPUT)), np.array([0, 1])))
    assert counters() == [[3, 3, 0, 0]] * 2
    net.update()
    assert counters() == [[0, 0, 1, 1]] * 2
    before = engine.state(net)
    net.update()  # with nothing seen in between, nothing moves
    assert counters() == [[0, 0, 1, 1]] * 2
    for key in ("long_mean", "long_sigma", "long_dsigma"):
        assert before[f"c.norm.{key}"].any()
        np.testing.assert_array_equal(engine.state(net)[f"c.norm.{key}"], before[f"c.norm.{key}"])


@pytest.mark.parametrize("norm", ["streaming", "batch"])
@on_each
def test_a_checkpoint_from_before_the_first_batch_leaves_nothing_to_test_with(engine, on, norm):
    net, fresh = (network(engine, on, norm) for _ in range(2))
    x = net.xp.array(np.random.default_rng(9).standard_normal((4, *INPUT)))
    fed(engine, net, 0)
    net.predict(x)
    net.load(engine.state(fresh), fresh.counters)
    with pytest.raises(RunError, match="no statistics for testing"):
        net.predict(x)


@pytest.mark.parametrize("norm", ["streaming", "streaming_l1", "batch"])
@on_each
def test_a_resumed_network_goes_on_bit_for_bit(engine, on, norm):
    """Cut off between two batches of one update, after an update."""
    straight = network(engine, on, norm, batches_per_update=2)
    for seed in range(3):
        fed(engine, straight, seed)
        if seed == 1:
            straight.update()
    resumed = network(engine, on, norm, batches_per_update=2)
    resumed.load(engine.state(straight), straight.counters)
    for net in (straight, resumed):
        for seed in range(3, 6):
            fed(engine, net, seed)
            if seed != 4:
                net.update()
    found = engine.state(resumed)
    for name, value in engine.state(straight).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    x = straight.xp.array(np.random.default_rng(9).standard_normal((4, *INPUT)))
    np.testing.assert_array_equal(straight.xp.host(straight.predict(x)), resumed.xp.host(resumed.predict(x)))


@on_each
def test_learning_online_one_sample_at_a_time(engine, on):
    """Setting B learns from single samples where the batch's own statistics would leave nothing."""
    net = network(engine, on, "streaming_l1", batches_per_update=2)
    for seed in range(40):
        fed(engine, net, seed, samples=1)
        if seed % 2:
            net.update(rate=1e-2)
    for name, value in engine.state(net).items():
        assert np.isfinite(value).all(), name
    batch = network(engine, on, "batch", batches_per_update=2)
    for seed in range(4):
        fed(engine, batch, seed, samples=1)
    for name, value in engine.dW(batch).items():
        assert np.isfinite(value).all(), name
        if name == "f.W":
            np.testing.assert_allclose(value, 0.0, atol=1e-9)  # a unit that is its own mean learns nothing


def test_online_statistics_settle_on_those_of_the_data(backends, rng):
    """One sample a batch, two batches an update, setting B, p = 1: outputs with mean 0 and mean size 1, nearly."""
    xp = backends(dtype="float64")
    norm = make("norm", "streaming_l1")
    state = norm.init(xp, (64,))
    outputs = []
    for k in range(400):
        with xp.scope():
            y, cache = norm.forward(xp, xp.array(3.0 * rng.standard_normal((1, 64)) + 5.0), state, LEARN)
            norm.back(xp, xp.zeros((1, 64)) + 1.0, state, cache)
            if k % 2:
                norm.updated(xp, state)
        outputs.append(xp.host(y))
    outputs = np.concatenate(outputs[100:])
    assert abs(outputs.mean()) < 0.1
    assert 0.8 < np.abs(outputs).mean() < 1.25


@pytest.mark.parametrize("norm", ["streaming", "batch", {"recipe": "lp"}], ids=str)
@on_each
def test_testing_before_anything_was_learned_is_said_to_be_impossible(engine, on, norm):
    net = network(engine, on, norm)
    x = net.xp.array(np.ones((2, *INPUT)))
    with pytest.raises(RunError, match="no statistics for testing yet"):
        net.predict(x)
    fed(engine, net, 0)
    assert np.isfinite(net.xp.host(net.predict(x))).all()
