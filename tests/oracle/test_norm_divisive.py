"""Divisive normalization, its learned numbers, and the price on activity, against autograd from the definition."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bioplaus.construct import make
from bioplaus.errors import ConfigError, ShapeError
from bioplaus.parts import LEARN, TEST
from bioplaus.units import NormSite, Numbers, Parameter

torch = pytest.importorskip("torch")
spec = importlib.util.spec_from_file_location("norms_by_hand", Path(__file__).with_name("norms_by_hand.py"))
hand = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hand)

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
MAPS, UNITS = (2, 3, 5, 6), (3, 8)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def both_ways(xp, norm, state, x, dy):
    with xp.scope():
        y, cache = norm.forward(xp, xp.array(x), state, LEARN)
        return xp.host(y), xp.host(norm.back(xp, xp.array(dy), state, cache))


def around(shape, window, border, groups=1):
    letters = "Cw" if len(shape) == 4 else "u"
    return hand.matrix(shape, letters, window=window, border=border, groups=groups)


WINDOWS = [(shape, *pair) for shape in ((2, 4, 5, 6), (3, 12)) for pair in ((3, None), (3, 5), (5, 3), (None, 3))]
WINDOWS += [((3, 12), 4, 2)]
FORMULA = [(*each, border, groups) for each in WINDOWS for border in ("zero", "valid_count") for groups in (1, 2)]
FORMULA += [(shape, 9, 9, "valid_count", groups) for shape in ((2, 4, 5, 6), (3, 12)) for groups in (1, 2)]


@pytest.mark.parametrize(("shape", "window", "suppression", "border", "groups"), FORMULA, ids=str)
def test_divisive_by_its_formula(backends, rng, shape, window, suppression, border, groups):
    """v = x - M_A x, y = v / sqrt(sigma^2 + M_B v^2); and the loss's price on mean |v|, sample by sample."""
    sigma, l1 = 0.4, 0.3
    xp = backends(dtype="float64")
    given = {"window": window, "suppression": suppression, "sigma": sigma, "border": border, "l1": l1}
    window = window or 5
    norm = make("norm", {"recipe": "divisive_star", **given})
    state = norm.init(xp, shape[1:], 1, groups)
    x, dy = rng.standard_normal(shape) + 0.5, rng.standard_normal(shape)
    A, B = (around(shape, w, border, groups) for w in (window, suppression or window))

    def formula(x):
        v = x - hand.apply(A, x)
        return v / torch.sqrt(sigma**2 + hand.apply(B, v * v)), v

    leaf = torch.tensor(x, requires_grad=True)
    y, v = formula(leaf)
    price = l1 * groups * v.abs().flatten(1).mean(1)  # of each sample; every group is a layer of its own
    ((y * torch.tensor(dy)).sum() + price.sum()).backward()
    found, dx = both_ways(xp, norm, state, x, dy)
    np.testing.assert_allclose(found, y.detach(), **CLOSE)
    np.testing.assert_allclose(dx, leaf.grad, **CLOSE)
    assert float(state["penalty"][0]) == pytest.approx(float(price.detach().mean()), rel=1e-11)
    with xp.scope():
        np.testing.assert_array_equal(xp.host(norm.forward(xp, xp.array(x), state, TEST)[0]), found)


@pytest.mark.parametrize("shape", [MAPS, UNITS], ids=["maps", "units"])
@pytest.mark.parametrize(("p", "gamma"), [(1.0, 2.0), (2.0, 0.5), (3.0, 1.0)])
def test_learned_sigma_with_any_power_and_scale(backends, rng, shape, p, gamma):
    """y = gamma v / (sigma^2 + M |v|^p)^(1/p), windows in any composition; the error at sigma too."""
    op = {"recipe": "divisive", "sum": 3, "suppression": 5, "sigma": 0.7, "learn": True, "gamma": gamma}
    xp = backends(dtype="float64")
    norm = make("norm", {"recipe": "norm", "op": op, "stats": {"recipe": "sample", "p": p}})
    state = norm.init(xp, shape[1:])
    x, dy = rng.standard_normal(shape) + 0.5, rng.standard_normal(shape)
    A, B = around(shape, 3, "zero"), around(shape, 5, "zero")
    leaf, sigma = torch.tensor(x, requires_grad=True), torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    v = leaf - hand.apply(A, leaf)
    y = gamma * v / (sigma**2 + 1e-5 + hand.apply(B, v.abs() ** p)) ** (1 / p)
    y.backward(torch.tensor(dy))
    found, dx = both_ways(xp, norm, state, x, dy)
    np.testing.assert_allclose(found, y.detach(), **CLOSE)
    np.testing.assert_allclose(dx, leaf.grad, **CLOSE)
    np.testing.assert_allclose(xp.host(state.errors["sigma"]).ravel(), sigma.grad, **CLOSE)


@pytest.mark.parametrize("shape", [MAPS, UNITS], ids=["maps", "units"])
def test_the_form_of_the_generative_model(backends, rng, shape):
    """s = (alpha + 1e-10 + M v^2 / (sigma + 1e-5)^2) / 2, y = v / sqrt(s) + b; all three learn."""
    start = {"alpha": 1.2, "sigma": 0.4, "b": 0.3}
    xp = backends(dtype="float64")
    norm = make("norm", {"recipe": "drmm_divisive", "window": 3, **start})
    state = norm.init(xp, shape[1:])
    x, dy = rng.standard_normal(shape) + 0.5, rng.standard_normal(shape)
    M = around(shape, 3, "zero")
    leaf = torch.tensor(x, requires_grad=True)
    alpha, sigma, b = learned = [
        torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in start.values()
    ]
    v = leaf - hand.apply(M, leaf)
    y = v / torch.sqrt((alpha + 1e-10 + hand.apply(M, v * v) / (sigma + 1e-5) ** 2) / 2) + b
    y.backward(torch.tensor(dy))
    found, dx = both_ways(xp, norm, state, x, dy)
    np.testing.assert_allclose(found, y.detach(), **CLOSE)
    np.testing.assert_allclose(dx, leaf.grad, **CLOSE)
    for name, wanted in zip(start, learned, strict=True):
        np.testing.assert_allclose(xp.host(state.errors[name]).ravel(), wanted.grad, **CLOSE, err_msg=name)


def test_the_generative_form_is_the_estimate_of_a_local_scale(backends):
    """u = sqrt(2) sigma x / sqrt(alpha sigma^2 + x^2): NINAI report, appendix, with beta = 1."""
    xp = backends(dtype="float64")
    norm = make("norm", {"recipe": "drmm_divisive", "window": 3, "alpha": 0.8, "sigma": 0.5})
    state = norm.init(xp, (3,))
    with xp.scope():
        y = xp.host(norm.forward(xp, xp.array([[3.0, -6.0, 3.0]]), state, LEARN)[0])
    v = -6.0  # less the mean of its window, which is 0
    power = (4.0**2 + 6.0**2 + 4.0**2) / 3  # the outer units' means are -1, divided by 3 at the border too
    assert y[0, 1] == pytest.approx(np.sqrt(2) * 0.5 * v / np.sqrt(0.8 * 0.25 + power), rel=1e-3)


def test_learned_numbers_are_parameters_with_the_role_of_gains(backends, rng):
    """They take the rule's steps, and the norm goes on with what they have become."""
    xp = backends(dtype="float64")
    norm = make("norm", {"recipe": "drmm_divisive", "window": 3})
    state = norm.init(xp, UNITS[1:])
    links = make("update", {"recipe": "sgd", "rate": 0.1, "momentum": 0.0, "decay": 0.5})

    def parameter(name, value):
        made = Parameter(f"conv1.op.{name}", value, "gain")
        made.relink(xp, links)
        return made

    numbers = Numbers.of("conv1", xp, state, parameter, False)
    site = NormSite("conv1", xp, norm, state, numbers)
    assert [p.name for p in numbers.parameters()] == [f"conv1.op.{key}" for key in ("alpha", "sigma", "b")]
    assert site.wire(False)
    assert site.units == (numbers,)
    x, dy = rng.standard_normal((2, *UNITS))
    with xp.scope():
        y, cache = site.forward(xp.array(x), LEARN)
        assert site.back(xp.array(dy), cache, None, lambda unit, local: unit.learn(local, 0.25)) is None  # nobody below
        first = {name: float(value.sum()) for name, value in state.errors.items()}
        _, cache = site.forward(xp.array(2 * x), LEARN)
        site.back(xp.array(dy), cache, None, lambda unit, local: unit.learn(local, 0.25))
        total = {name: first[name] + float(value.sum()) for name, value in state.errors.items()}
        for p in numbers.parameters():
            p.step(xp, None, 1.0)
        again = site.forward(xp.array(x), LEARN)[0]
    for name, start in (("alpha", 1.0), ("sigma", 0.5), ("b", 0.0)):
        assert float(state.learned[name].sum()) == pytest.approx(start - 0.1 * 0.25 * total[name], rel=1e-10, abs=1e-12)
    assert not np.allclose(xp.host(y), xp.host(again))
    frozen = NormSite("conv1", xp, norm, state, Numbers.of("conv1", xp, state, parameter, True))
    assert not frozen.wire(False)
    assert list(frozen.numbers.parameters()) == []


@pytest.mark.parametrize("shape", [MAPS, UNITS], ids=["maps", "units"])
def test_a_window_over_everything_is_layer_normalization(backends, rng, shape):
    """Counting what is inside, sigma -> 0, window >= 2 max(H, W) - 1."""
    xp = backends(dtype="float64")
    window = 2 * max(shape[2:] or shape[1:]) - 1
    op = {"recipe": "divisive", "sum": window, "sigma": 0.0, "border": "valid_count"}
    wide = make("norm", {"recipe": "norm", "op": op, "stats": {"recipe": "sample", "eps": 1e-5}})
    layer = make("norm", "layer")
    x, dy = rng.standard_normal((2, *shape))
    found = both_ways(xp, wide, wide.init(xp, shape[1:]), x, dy)
    for mine, its in zip(found, both_ways(xp, layer, layer.init(xp, shape[1:]), x, dy), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-10, atol=1e-12)


def test_without_sigma_the_scale_of_the_input_does_not_matter(backends, rng):
    xp = backends(dtype="float64")
    op = {"recipe": "divisive", "sum": 3, "sigma": 0.0}
    norm = make("norm", {"recipe": "norm", "op": op, "stats": {"recipe": "sample", "eps": 1e-30}})
    x = rng.standard_normal(MAPS)
    small, large = (both_ways(xp, norm, norm.init(xp, MAPS[1:]), k * x, x)[0] for k in (1.0, 1000.0))
    np.testing.assert_allclose(large, small, rtol=1e-10)


def test_samples_do_not_meet(backends, rng):
    xp, order = backends(dtype="float64"), [2, 0, 1]
    norm = make("norm", {"recipe": "divisive_star", "window": 3})
    x, dy = rng.standard_normal((2, *UNITS))
    found = both_ways(xp, norm, norm.init(xp, UNITS[1:]), x, dy)
    for mine, its in zip(both_ways(xp, norm, norm.init(xp, UNITS[1:]), x[order], dy[order]), found, strict=True):
        np.testing.assert_allclose(mine, its[order], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("ref", ["BA1", "SP1"])
def test_without_windows_sigma_is_a_constant_in_the_deviation(backends, rng, ref):
    """BN-s and LN-s: y = v / sqrt(sigma^2 + var)."""
    xp = backends(dtype="float64")
    x, dy = rng.standard_normal((2, *MAPS))
    stats = {"recipe": "batch" if ref == "BA1" else "sample", "eps": 0.0}
    divisive = make("norm", {"recipe": "norm", "ref": ref, "op": {"recipe": "divisive", "sigma": 0.6}, "stats": stats})
    named = make("norm", {"recipe": "batch_s" if ref == "BA1" else "layer_s", "sigma": 0.6})
    found = both_ways(xp, divisive, divisive.init(xp, MAPS[1:]), x, dy)
    for mine, its in zip(found, both_ways(xp, named, named.init(xp, MAPS[1:]), x, dy), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-10, atol=1e-12)
    axes = (0, 2, 3) if ref == "BA1" else (1, 2, 3)
    v = x - x.mean(axes, keepdims=True)
    np.testing.assert_allclose(found[0], v / np.sqrt(0.36 + (v * v).mean(axes, keepdims=True)), rtol=1e-10)


STARS = {
    "l1": lambda x: (x, x),
    "batch_star": lambda x: (
        hand.normalized(x, hand.matrix(MAPS, "NHW"), eps=1.0)[0],
        x - x.mean((0, 2, 3), keepdim=True),
    ),
    "layer_star": lambda x: (
        hand.normalized(x, hand.matrix(MAPS, "CHW"), eps=0.25)[0],
        x - x.mean((1, 2, 3), keepdim=True),
    ),
}


@pytest.mark.parametrize("recipe", STARS)
def test_stars_price_the_mean_size_of_centred_activity(backends, rng, recipe):
    """l1 mean |v| for each sample, so that reduction mean gives the price of the batch and sum its N-fold."""
    xp = backends(dtype="float64")
    norm = make("norm", {"recipe": recipe, "l1": 0.7})
    state = norm.init(xp, MAPS[1:])
    x, dy = rng.standard_normal((2, *MAPS))
    leaf = torch.tensor(x, requires_grad=True)
    y, v = STARS[recipe](leaf)
    ((y * torch.tensor(dy)).sum() + 0.7 * v.abs().flatten(1).mean(1).sum()).backward()
    found, dx = both_ways(xp, norm, state, x, dy)
    np.testing.assert_allclose(found, y.detach(), **CLOSE)
    np.testing.assert_allclose(dx, leaf.grad, **CLOSE)
    assert float(norm.looks(state)["penalty"]) == pytest.approx(0.7 * float(v.detach().abs().mean()), rel=1e-11)


@pytest.mark.parametrize(("recipe", "share"), [("batch_star", 1.0), ("layer_star", 4.0), ("divisive_star", 4.0)])
def test_gates_normalized_by_themselves_pay_by_themselves(backends, rng, recipe, share):
    """Four gates of one product: where channels share a statistic it is four layers; where none do, it is one."""
    xp, x = backends(dtype="float64"), rng.standard_normal((6, 8))
    norm = make("norm", {"recipe": recipe, "l1": 0.7})
    together, apart = norm.init(xp, (8,), 1, 4), [norm.init(xp, (2,)) for _ in range(4)]
    _, dx = both_ways(xp, norm, together, x, np.zeros((6, 8)))
    each = [
        both_ways(xp, norm, state, gate, np.zeros((6, 2)))[1]
        for state, gate in zip(apart, np.split(x, 4, 1), strict=True)
    ]
    np.testing.assert_allclose(dx * 4.0 / share, np.concatenate(each, 1), **CLOSE)
    prices = [float(norm.looks(state)["penalty"]) for state in (together, *apart)]
    assert prices[0] * 4.0 / share == pytest.approx(sum(prices[1:]), rel=1e-11)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@on_each
def test_the_price_of_a_network_is_the_same_however_the_batch_is_reduced(engine, plain, on, reduction, rng):
    """The last layer's own error is 0 where its weights are: what is left in dW below is the price alone."""
    layers = [{"h": {"dense": 4}}, "norm", "identity", {"o": {"dense": 3}}]
    norm = {"recipe": "l1", "l1": 0.5}
    net = engine.net(layers, (6,), on=on, defaults={"norm": norm}, training={"reduction": reduction})
    net.nodes[1].W[...] = 0.0
    x = rng.standard_normal((5, 6))
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, 5)))
    W = torch.tensor(engine.W(net)["h.W"], requires_grad=True)
    price = 0.5 * (torch.tensor(x) @ W).abs().mean(1)
    (price.sum() if reduction == "sum" else price.mean()).backward()
    np.testing.assert_allclose(engine.dW(net)["h.W"], W.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_general_form_with_weights_of_its_own(backends, rng, weighted, p):
    """gamma z u / (sigma^2 + |z|^p w)^(1/p): NINAI report, eq. 5."""
    xp = backends(dtype="float64")
    z, dy = rng.standard_normal((2, 4, 5))
    u, w = (rng.standard_normal((5, 5)), rng.uniform(0, 1, (5, 5))) if weighted else (None, None)
    leaf = torch.tensor(z, requires_grad=True)
    U, V = (torch.eye(5).double(), torch.ones(5, 5).double() / 5) if u is None else (torch.tensor(u), torch.tensor(w))
    y = 1.3 * (leaf @ U) / (0.6**2 + (leaf.abs() ** p) @ V) ** (1 / p)
    y.backward(torch.tensor(dy))
    weights = {} if u is None else {"summation": u.tolist(), "suppression": w.tolist()}
    norm = make("norm", {"recipe": "heeger", "sigma": 0.6, "p": p, "gamma": 1.3, **weights})
    for places in ((), (2, 2)):  # the four rows are samples, or places of one sample
        as_given = [a if not places else a.T.reshape(1, 5, *places) for a in (z, dy)]
        state = norm.init(xp, (5, *places))
        with xp.scope():
            found, cache = norm.forward(xp, xp.array(as_given[0]), state, LEARN)
            dz = norm.back(xp, xp.array(as_given[1]), state, cache)
        for ours, theirs in ((found, y.detach()), (dz, leaf.grad)):
            wanted = theirs if not places else theirs.T.reshape(1, 5, *places)
            np.testing.assert_allclose(xp.host(ours), wanted, **CLOSE)


WRONG = {
    "sigma is -1.0; wanted a number above 0": {"recipe": "heeger", "sigma": -1.0},
    "p is 0.0; wanted a number of at least 1": {"recipe": "heeger", "p": 0.0},
    "summation has 2 rows; wanted as many numbers": {"recipe": "heeger", "summation": [[1, 2], [3]]},
    "summation: given 3, wanted a square of numbers": {"recipe": "heeger", "summation": 3},
    "suppression has a weight below 0": {"recipe": "heeger", "suppression": [[1.0, -0.5], [1.0, 1.0]]},
    "eps is 0.0; wanted a number above 0, or a sigma": {"recipe": "norm", "stats": {"recipe": "batch", "eps": 0.0}},
    "a statistic for every sample, which nothing can remember": {"recipe": "norm", "ref": "SP1", "stats": "batch"},
    "over the samples of a batch, which testing has to remember": {"recipe": "norm", "stats": "sample"},
    "p is 0.5; wanted a number of at least 1": {"recipe": "lp", "p": 0.5},
    "l1 is -1.0; wanted 0 or more": {"recipe": "l1", "l1": -1.0},
    "sigma is 0.0; wanted a number above 0": {"recipe": "layer_s", "sigma": 0.0},
    "window is 0; wanted 1 or more": {"recipe": "divisive_star", "window": 0},
    "suppression is 0; wanted 1 or more": {"recipe": "divisive", "suppression": 0},
    "window is 4; wanted an odd number": {"recipe": "norm", "ref": {"recipe": "BA4", "window": 4}},
    "a window is in H and W": {"recipe": "norm", "ref": {"recipe": "axes", "over": ["N"], "window": 3}},
    "over is .*; wanted some of N, C, H, W, each once": {
        "recipe": "norm",
        "ref": {"recipe": "axes", "over": ["N", "N"]},
    },
    "no norm reference named 'BA7'; did you mean": {"recipe": "norm", "ref": "BA7"},
    "'streaming' has no parameter 'gamma'": {"recipe": "norm", "stats": {"recipe": "streaming", "gamma": 1}},
    r"alpha is \[0.5, 0.6\]; wanted two weights that sum to 1": {"recipe": "streaming", "alpha": [0.5, 0.6]},
    r"beta is \[0.5, -0.5, 0.0\]; wanted weights of 0 or more": {"recipe": "streaming", "beta": [0.5, -0.5, 0.0]},
    r"beta is \[0.7, 0.3, 0.1\]; wanted three weights that sum to 1 or less": {
        "recipe": "streaming",
        "beta": [0.7, 0.3, 0.1],
    },
    "ref is 'SP2', but op has windows of its own": {
        "recipe": "norm",
        "ref": "SP2",
        "op": {"recipe": "divisive", "sum": 3},
    },
    "suppression is given without sum": {"recipe": "norm", "op": {"recipe": "divisive", "suppression": 3}},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_is_said_in_one_line_behind_its_place(message):
    with pytest.raises(ConfigError, match=f"^r.yaml:3: norm.*{message}") as error:
        make("norm", WRONG[message], "r.yaml:3: norm")
    assert "\n" not in str(error.value)


def test_a_reference_that_does_not_fit_a_layer_names_it(engine):
    layers = [{"c": {"conv": 3, "kernel": 3}}, "norm", "flatten", {"f": {"dense": 4}}, "norm", {"o": {"dense": 3}}]
    with pytest.raises(Exception, match=r"layers.f.norm: .* a statistic would be of one number") as error:
        engine.net(layers, (2, 5, 5), defaults={"norm": "instance"})
    assert type(error.value).__name__ == "ShapeError"


def test_removing_a_bias_is_claimed_where_a_constant_per_unit_changes_nothing(backends, rng):
    claims = {
        "batch": True, "neuronwise": True, "instance": True, "streaming": True, "lp": True,
        "layer": False, "divisive": False, "l1": False, "drmm_divisive": False,
    }  # fmt: skip
    xp = backends(dtype="float64")
    for recipe, claimed in claims.items():
        norm = make("norm", recipe)
        assert norm.removes_bias is claimed, recipe
        x, constant = rng.standard_normal(MAPS), rng.standard_normal((1, 3, 1, 1))
        plain, moved = (both_ways(xp, norm, norm.init(xp, MAPS[1:]), each, x)[0] for each in (x, x + constant))
        assert np.allclose(plain, moved, atol=1e-9) is claimed, recipe
    for centre in ("A", "B", "C"):
        assert make("norm", {"recipe": "lp", "centre": centre}).removes_bias is (centre != "C")


LEARNING = [{"h": {"dense": 6}}, "norm", "tanh", {"o": {"dense": 3}}]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@on_each
def test_a_network_learns_the_numbers_of_its_norms(engine, rng, on, reduction):
    """Their dW is the gradient; they step, count as parameters, and are in a checkpoint once."""
    norm = {"recipe": "drmm_divisive", "window": 3}
    rule = {"defaults": {"norm": norm}, "training": {"reduction": reduction, "batches_per_update": 2}}
    net = engine.net(LEARNING, (5,), on=on, **rule)
    x, y = rng.standard_normal((4, 5)), rng.integers(0, 3, 4)
    for _ in range(2):
        net.accumulate(engine.batch(net, x, y))
    W = {name: torch.tensor(value, requires_grad=True) for name, value in engine.W(net).items()}
    assert {"h.op.alpha", "h.op.sigma", "h.op.b"} < set(W)
    M = around((4, 6), 3, "zero")
    n = torch.tensor(x) @ W["h.W"] + W["h.b"]
    v = n - hand.apply(M, n)
    power = hand.apply(M, v * v) / (W["h.op.sigma"] + 1e-5) ** 2
    h = torch.tanh(v / torch.sqrt((W["h.op.alpha"] + 1e-10 + power) / 2) + W["h.op.b"])
    logits = h @ W["o.W"] + W["o.b"]
    torch.nn.functional.cross_entropy(logits, torch.tensor(y), reduction=reduction).backward()
    for name, found in engine.dW(net).items():
        np.testing.assert_allclose(found, W[name].grad, rtol=1e-9, atol=1e-12, err_msg=name)
    state = engine.state(net)
    net.update(rate=0.1)
    assert all(engine.W(net)[name] != W[name].detach().numpy() for name in ("h.op.alpha", "h.op.sigma", "h.op.b"))
    other = engine.net(LEARNING, (5,), on=on, **rule)
    other.load(state, net.counters | {"h.keep": 1, "o.keep": 1, "updates": 0, "pending": 2})
    other.update(rate=0.1)
    for name, value in engine.state(net).items():
        np.testing.assert_array_equal(engine.state(other)[name], value, err_msg=name)


def test_the_numbers_of_a_clamped_layer_stay(engine, rng):
    net = engine.net(LEARNING, (5,), defaults={"norm": "drmm_divisive"}, layers={"h": {"plasticity": "none"}})
    net.accumulate(engine.batch(net, rng.standard_normal((4, 5)), rng.integers(0, 3, 4)))
    assert set(engine.dW(net)) == {"o.W", "o.b"}


def test_weights_of_another_number_of_channels_are_refused(backends):
    """A group of channels counts by itself."""
    xp, norm = backends(), make("norm", {"recipe": "heeger", "summation": [[1.0, 0.0], [0.5, 1.0]]})
    with pytest.raises(ShapeError, match=r"summation is 2×2, the layer has 6 channels\. Give 6 rows of 6 numbers"):
        norm.init(xp, (6, 3, 3))
    assert norm.init(xp, (6,), groups=3).u.shape == (2, 2)
