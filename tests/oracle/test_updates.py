"""From accumulated dW to a step: every chain against its formula, written out in NumPy, weight by weight."""

from __future__ import annotations

import numpy as np
import pytest

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
RATE, M, D = 0.03, 0.9, 0.07
LAYERS = [{"h": {"dense": 4}}, "affine", "tanh", {"out": {"dense": 3}}]


def sgd(w, g, s, d, t):
    s["tau"] = g + M * s.get("tau", 0.0) + d * w
    return w - RATE * s["tau"]


def bm1(w, g, s, d, t):
    s["tau"] = np.sign(g) + M * s.get("tau", 0.0) + d * w
    return w - RATE * s["tau"]


def bm2(w, g, s, d, t):
    s["tau"] = np.sign(np.sign(g) + M * s.get("tau", 0.0) + d * w)
    return w - RATE * s["tau"]


def bm3(w, g, s, d, t):
    s["kappa"] = np.sign(g) + M * s.get("kappa", 0.0) + d * w
    return w - RATE * np.sign(s["kappa"])


def rmsprop(w, g, s, d, t):
    g = g + d * w
    s["v"] = 0.8 * s.get("v", 0.0) + 0.2 * g**2
    return w - RATE * g / np.sqrt(s["v"] + 1e-3)


def adam(w, g, s, d, t):
    g = g + d * w
    s["m"] = 0.7 * s.get("m", 0.0) + 0.3 * g
    s["v"] = 0.95 * s.get("v", 0.0) + 0.05 * g**2
    return w - RATE * (s["m"] / (1 - 0.7**t)) / (np.sqrt(s["v"] / (1 - 0.95**t)) + 1e-2)


FORMULAS = {
    "sgd": (sgd, {"momentum": M}),
    "bm1": (bm1, {"momentum": M}),
    "bm2": (bm2, {"momentum": M}),
    "bm3": (bm3, {"momentum": M}),
    "rmsprop": (rmsprop, {"smoothing": 0.8, "eps": 1e-3}),
    "adam": (adam, {"beta1": 0.7, "beta2": 0.95, "eps": 1e-2}),
}


def gradients(net, rng):
    """Random dW for every parameter, some of it exactly zero; taken as accumulated."""
    found = {}
    for unit in net.learners:
        unit.keep = 1.0
        for parameter in unit.parameters():
            g = rng.standard_normal(tuple(parameter.W.shape)) * rng.integers(0, 2, tuple(parameter.W.shape))
            parameter.dW[...] = parameter.dW * parameter.share + net.xp.array(g)
            found[parameter.name] = g
    return found


@pytest.mark.parametrize("decay", [0.0, D])
@pytest.mark.parametrize("recipe", FORMULAS)
@on_each
def test_five_steps_of_every_recipe_by_its_formula(engine, recipe, decay, on, rng):
    """Weights, biases and gains alike, but only weights decay; sign(0) = 0."""
    formula, parameters = FORMULAS[recipe]
    update = {"recipe": recipe, "rate": RATE, "decay": decay, **parameters}
    net = engine.net(LAYERS, (5,), on=on, defaults={"update": update})
    engine.shake(net)
    W = engine.W(net)
    assert {name.rpartition(".")[2] for name in W} == {"W", "b", "gain", "bias"}
    states = {name: {} for name in W}
    for t in range(1, 6):
        for name, g in gradients(net, rng).items():
            W[name] = formula(W[name], g, states[name], decay if name.endswith(".W") else 0.0, t)
        net.update()
    for name, found in engine.W(net).items():
        np.testing.assert_allclose(found, W[name], rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("recipe", ["sgd", "rmsprop", "adam"])
@on_each
def test_five_steps_as_torchs_own_optimizers_take_them(engine, plain, recipe, on, rng):
    """Where definitions coincide: for RMSProp, with an eps too small to matter inside or outside the root."""
    ours = {"sgd": {"momentum": 0.8}, "rmsprop": {"smoothing": 0.9, "eps": 1e-30}, "adam": {"eps": 1e-6}}[recipe]
    net = engine.net(
        [{"out": {"dense": 3}}], (5,), on=on, defaults={"update": {"recipe": recipe, "rate": RATE, "decay": D, **ours}}
    )
    parameter = net.nodes[0].weights
    twin = plain.torch.tensor(net.xp.host(parameter.W), requires_grad=True)
    optimizer = {
        "sgd": lambda: plain.torch.optim.SGD([twin], lr=RATE, momentum=0.8, weight_decay=D),
        "rmsprop": lambda: plain.torch.optim.RMSprop([twin], lr=RATE, alpha=0.9, eps=1e-30, weight_decay=D),
        "adam": lambda: plain.torch.optim.Adam([twin], lr=RATE, eps=1e-6, weight_decay=D),
    }[recipe]()
    for _ in range(5):
        twin.grad = plain.torch.tensor(gradients(net, rng)["out.W"])
        optimizer.step()
        net.update()
    np.testing.assert_allclose(net.xp.host(parameter.W), twin.detach(), rtol=1e-12, atol=1e-14)


def test_a_first_step_of_bm_is_the_sign_and_the_decay_alone(engine, rng):
    """From zero state w changes by rate (-sign g - d w)."""
    for recipe in ("bm1", "bm2", "bm3"):
        net = engine.net(LAYERS, (5,), defaults={"update": {"recipe": recipe, "rate": RATE, "decay": D}})
        W, g = engine.W(net)["h.W"], gradients(net, rng)["h.W"]
        net.update()
        wanted = np.sign(g) + D * W if recipe == "bm1" else np.sign(np.sign(g) + D * W)
        np.testing.assert_allclose(engine.W(net)["h.W"], W - RATE * wanted, rtol=1e-13)


def trained(engine, recipe, *, scaled=1.0, act="relu", on="numpy", dtype="float64", **parameters):
    """Weights after a few real updates under sign feedback and normalization."""
    layers = [
        {"c": {"conv": 4, "kernel": 3}},
        "norm",
        act,
        "flatten",
        {"f": {"dense": 6}},
        "norm",
        act,
        {"out": {"dense": 3}},
    ]
    update = {"recipe": recipe, "rate": 1e-2, **parameters}
    net = engine.net(
        layers,
        (1, 5, 5),
        on=on,
        dtype=dtype,
        defaults={"channel": "usf", "norm": "batch", "update": update},
        losses={"softmax_cross_entropy": {"weight": scaled}},
    )
    rng = np.random.default_rng(3)
    for _ in range(6):
        net.accumulate(engine.batch(net, rng.standard_normal((8, 1, 5, 5)), rng.integers(0, 3, 8)))
        net.update()
    return engine.W(net)


@pytest.mark.parametrize("recipe", ["bm1", "bm2", "bm3"])
@pytest.mark.parametrize(("on", "dtype"), [("numpy", "float64"), ("torch", "float32")])
def test_batch_manhattan_does_not_know_the_units_of_the_loss(engine, recipe, on, dtype):
    """With 1024 times the loss and no decay the trajectory is the same, bit for bit."""
    one, other = (trained(engine, recipe, scaled=scaled, on=on, dtype=dtype) for scaled in (1.0, 1024.0))
    for name, W in one.items():
        np.testing.assert_array_equal(other[name], W, err_msg=name)
    assert not np.allclose(trained(engine, "sgd")["c.W"], trained(engine, "sgd", scaled=1024.0)["c.W"])


def test_bm2_is_sign_descent_while_momentum_and_decay_stay_small(engine):
    """With |d w| < 1 - m the outer sign is decided by the gradient alone, where there is one: tanh units never rest."""
    bm2 = trained(engine, "bm2", act="tanh", momentum=0.9, decay=0.02)
    sign_descent = trained(engine, "bm1", act="tanh", momentum=0.0)
    for name, W in bm2.items():
        assert np.abs(0.02 * W).max() < 0.1
        np.testing.assert_allclose(W, sign_descent[name], rtol=1e-13, err_msg=name)
    assert not np.allclose(bm2["c.W"], trained(engine, "bm1", act="tanh", momentum=0.9)["c.W"])


def test_a_list_of_links_is_the_recipe_it_spells(engine, rng):
    chain = ["sign", {"decay": D}, {"momentum": M}, {"rate": RATE}]
    spelt, named = (
        engine.net(LAYERS, (5,), defaults={"update": update})
        for update in (chain, {"recipe": "bm1", "rate": RATE, "momentum": M, "decay": D})
    )
    for net in (spelt, named):
        local = np.random.default_rng(5)
        for _ in range(3):
            gradients(net, local)
            net.update()
    for name, W in engine.W(named).items():
        np.testing.assert_array_equal(engine.W(spelt)[name], W)


@pytest.mark.parametrize("longest", [0.5, 1e3])
@on_each
def test_clipping_shortens_all_of_dW_together(engine, plain, longest, on, rng):
    """As torch.nn.utils.clip_grad_norm_, but for the 1e-6 that it adds to the length."""
    net = engine.net(
        LAYERS,
        (5,),
        on=on,
        training={"clip": longest},
        defaults={"update": {"recipe": "sgd", "rate": 1.0, "momentum": 0.0}},
    )
    W, g = engine.W(net), gradients(net, rng)
    twins = {name: plain.torch.zeros(value.shape, dtype=plain.torch.float64) for name, value in g.items()}
    for name, twin in twins.items():
        twin.grad = plain.torch.tensor(g[name])
    plain.torch.nn.utils.clip_grad_norm_(list(twins.values()), longest)
    net.update()
    length = np.sqrt(sum((value**2).sum() for value in g.values()))
    for name, found in engine.W(net).items():
        np.testing.assert_allclose(W[name] - found, twins[name].grad, rtol=2e-6, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(W[name] - found, g[name] * min(1.0, longest / length), rtol=1e-9, atol=1e-14)


@on_each
def test_sum_and_mean_differ_by_the_number_of_samples(engine, on, rng):
    x, y = rng.standard_normal((8, 5)), rng.integers(0, 3, 8)
    found = {}
    for reduction in ("sum", "mean"):
        net = engine.net(LAYERS, (5,), on=on, training={"reduction": reduction})
        net.accumulate(engine.batch(net, x, y))
        found[reduction] = engine.dW(net)
    for name, total in found["sum"].items():
        np.testing.assert_allclose(total, 8 * found["mean"][name], rtol=1e-13, atol=1e-15)


def test_rate_and_factor(engine, rng):
    """The rule's rate, unless one is given; times the schedule's factor. Each layer has its own."""
    update = {"recipe": "sgd", "rate": 0.5, "momentum": 0.0}
    layers = {"out": {"update": {"rate": 0.125}}}
    for given, wanted in (
        ({}, (0.5, 0.125)),
        ({"factor": 0.25}, (0.125, 0.03125)),
        ({"rate": 2.0, "factor": 0.5}, (1.0, 1.0)),
    ):
        net = engine.net(LAYERS, (5,), defaults={"update": update}, layers=layers)
        W, g = engine.W(net), gradients(net, rng)
        net.update(**given)
        for name, rate in zip(("h.W", "out.W"), wanted, strict=True):
            np.testing.assert_allclose(engine.W(net)[name], W[name] - rate * g[name], rtol=1e-14)


def test_another_chain_remembers_what_it_shares_with_the_old_one(engine, rng):
    """A phase of training that changes the momentum keeps tau; one that changes the kind of link starts it anew."""
    from bioplaus import assemble, config

    phases = [
        {"epochs": 1},
        {"epochs": 1, "update": {"momentum": 0.5}},
        {"epochs": 1, "update": ["sign", {"rate": RATE}]},
    ]
    network = {"network": "tested", "input": [5], "layers": LAYERS}
    rule = {"rule": "tested", "defaults": {"update": {"recipe": "sgd", "rate": RATE}}, "training": {"phases": phases}}
    settings = config.load(rule, network=network)
    net = assemble.assembled(settings, classes=3, xp=assemble.array_library("numpy", dtype="float64"))
    W = engine.W(net)["h.W"]
    first = gradients(net, rng)["h.W"]
    net.update()
    assemble.relink(net, settings, 1)
    second = gradients(net, rng)["h.W"]
    net.update()
    W = W - RATE * first - RATE * (second + 0.5 * first)
    np.testing.assert_allclose(engine.W(net)["h.W"], W, rtol=1e-13)
    assemble.relink(net, settings, 2)
    third = gradients(net, rng)["h.W"]
    net.update()
    np.testing.assert_allclose(engine.W(net)["h.W"], W - RATE * np.sign(third), rtol=1e-13)


def test_schedules_by_their_closed_forms():
    from bioplaus.construct import make

    for done in range(12):
        assert make("schedule", "constant").at(done, 12) == 1.0
        steps = make("schedule", {"recipe": "steps", "after": [3, 8], "factor": 0.1})
        assert steps.at(done, 12) == pytest.approx(1.0 if done < 3 else 0.1 if done < 8 else 0.01, rel=1e-14)
        assert make("schedule", {"recipe": "exponential", "factor": 0.8}).at(done, 12) == pytest.approx(
            0.8**done, rel=1e-14
        )
        assert make("schedule", {"recipe": "logspace", "end": 1e-3}).at(done, 12) == pytest.approx(
            np.logspace(0, -3, 12)[done], rel=1e-12
        )
    assert make("schedule", {"recipe": "logspace", "end": 1e-3}).at(0, 1) == 1.0
