"""Use of synapses and neurons by explicit loops, the cuts that judge it, and what a mask takes away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bioplaus import config
from bioplaus.construct import make
from bioplaus.errors import ConfigError, RunFailed, UserError
from bioplaus.pruning.cut import Seen, most_used, wilson

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
NEVER = {"recipe": "keep", "share": 1.0, "at": 1000}
STACK = [
    {"c": {"conv": 3, "kernel": 3, "pad": [1, 1, 0, 2]}},
    "relu",
    {"maxpool": 2},
    "flatten",
    {"h": {"dense": 5}},
    "tanh",
    {"out": {"dense": 3}},
]
SHAPE, N = (2, 6, 6), 4


def run_by_hand(W, x, silent=None):
    """(x, y) of the three layers of STACK, place by place; of the convolution's x (N, 2, 8, 8), with its padding."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 2)))
    n = np.zeros((len(x), 3, 6, 6))
    for r in range(6):
        for c in range(6):
            window = padded[:, :, r : r + 3, c : c + 3]
            n[:, :, r, c] = np.einsum("nikl,oikl->no", window, W["c.W"]) + W["c.b"].ravel()
    y = np.maximum(n, 0.0) * (1.0 if silent is None else silent)
    flat = y.reshape(len(x), 3, 3, 2, 3, 2).max((3, 5)).reshape(len(x), -1)
    h = np.tanh(flat @ W["h.W"] + W["h.b"])
    return {"c": (padded, y), "h": (flat, h), "out": (h, h @ W["out.W"] + W["out.b"])}


def used_by_hand(x, y, W, contribution):
    """Mean over samples and places of pre x post, for every synapse."""
    use = np.zeros(W.shape)
    if W.ndim == 2:
        for n in range(len(x)):
            for i, o in np.ndindex(W.shape):
                use[i, o] += (abs(x[n, i] * W[i, o]) if contribution else x[n, i] > 0) * (y[n, o] > 0)
        return use / len(x)
    for n, r, c in np.ndindex(len(x), 6, 6):
        for o, i, k, m in np.ndindex(W.shape):
            pre = x[n, i, r + k, c + m]
            use[o, i, k, m] += (abs(pre * W[o, i, k, m]) if contribution else pre > 0) * (y[n, o, r, c] > 0)
    return use / (36 * len(x))


def network(engine, on, pruning, **more):
    return engine.net(STACK, SHAPE, on=on, defaults={"pruning": pruning}, **more)


def learn(engine, net, rng):
    """One batch; (images, weights as they were)."""
    x, W = rng.standard_normal((N, *SHAPE)), engine.W(net)
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, N)))
    net.update()
    return x, W


# -- estimates -------------------------------------------------------------------------------
@pytest.mark.parametrize("by", ["coincidence", "contribution"])
@on_each
def test_use_of_a_synapse_is_a_running_average_from_one_on(engine, by, on, rng):
    net = network(engine, on, {"recipe": "uili_sp", "by": by, "cut": NEVER, "momentum": 0.9})
    engine.shake(net)
    wanted = {node.name: np.ones(node.map.shape) for node in net.nodes}
    for _ in range(2):
        x, W = learn(engine, net, rng)
        for name, (pre, post) in run_by_hand(W, x).items():
            now = used_by_hand(pre, post, W[f"{name}.W"], by == "contribution")
            wanted[name] = 0.9 * wanted[name] + 0.1 * now
    for name, use in wanted.items():
        np.testing.assert_allclose(engine.state(net)[f"{name}.pruning.use"], use, rtol=1e-10, err_msg=name)


@on_each
def test_use_of_a_neuron_is_how_often_it_is_active_at_each_place(engine, on, rng):
    net = network(engine, on, {"recipe": "uili_np", "cut": NEVER})
    engine.shake(net)
    x, W = learn(engine, net, rng)
    for name, (_, y) in run_by_hand(W, x).items():
        use = 0.99 + 0.01 * (y > 0).mean(0, keepdims=True)
        np.testing.assert_allclose(engine.state(net)[f"{name}.pruning.use"], use, rtol=1e-12, err_msg=name)


@on_each
def test_the_product_of_a_cell_is_watched_over_all_its_steps(engine, on, rng):
    """Of a plain recurrent layer: h(t - 1) before, h(t) behind; one average over samples and steps."""
    T, pruning = 5, {"recipe": "uili_sp", "cut": NEVER, "momentum": 0.0}
    net = engine.net([{"r": {"rnn": 4}}, {"out": {"dense": 3}}], (2,), on=on, over=T, defaults={"pruning": pruning})
    x, W = rng.standard_normal((T, N, 2)), engine.W(net)
    h = [np.zeros((N, 4))]
    for t in range(T):
        h.append(np.tanh(x[t] @ W["r.x.W"] + W["r.x.b"] + h[-1] @ W["r.h.W"]))
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, (T, N))))
    before, behind = np.reshape(h[:-1], (-1, 4)), np.reshape(h[1:], (-1, 4))
    state = engine.state(net)
    np.testing.assert_allclose(state["r.h.pruning.use"], used_by_hand(before, behind, W["r.h.W"], False), rtol=1e-12)
    np.testing.assert_allclose(
        state["r.x.pruning.use"], used_by_hand(x.reshape(-1, 2), behind, W["r.x.W"], False), rtol=1e-12
    )
    assert state["r.h.pruning.samples"] == T * N


@pytest.mark.parametrize("by", ["coincidence", "contribution"])
@on_each
def test_a_word_is_active_where_it_stands(engine, by, on, rng):
    """Word 0 too: its synapses are used wherever it is read and the unit behind is active."""
    T, pruning = 5, {"recipe": "uili_sp", "by": by, "cut": NEVER, "momentum": 0.0}
    layers = [{"e": {"embedding": 4, "words": 3}}, "tanh", {"out": {"dense": 3}}]
    net = engine.net(layers, (), on=on, over=T, defaults={"pruning": pruning})
    words, W = rng.integers(0, 3, (T, N)), engine.W(net)["e.W"]
    net.accumulate(engine.batch(net, words, rng.integers(0, 3, (T, N))))
    use = np.zeros((3, 4))
    for word in words.ravel():
        use[word] += (W[word] > 0) * (1.0 if by == "coincidence" else abs(W[word]))
    np.testing.assert_allclose(engine.state(net)["e.pruning.use"], use / words.size, rtol=1e-12)
    assert use[0].any() and use[1].any()


@on_each
def test_what_is_never_active_fades_as_a_power_of_the_momentum(engine, on, rng):
    for recipe in ("uili_sp", "uili_np"):
        net = network(engine, on, {"recipe": recipe, "cut": NEVER})
        net.nodes[0].bias.W[...] = -1000.0
        for _ in range(7):
            learn(engine, net, rng)
        use = engine.state(net)["c.pruning.use"]
        np.testing.assert_allclose(use, 0.99**7, rtol=1e-12)


@on_each
def test_only_learning_is_watched_and_only_every_so_many_batches(engine, on, rng):
    net = network(engine, on, {"recipe": "uili_sp", "cut": NEVER, "every": 3})
    moved = []
    for _ in range(7):
        before = engine.state(net)["h.pruning.use"]
        learn(engine, net, rng)
        moved.append(not np.array_equal(before, engine.state(net)["h.pruning.use"]))
    assert moved == [True, False, False, True, False, False, True]
    batch = engine.batch(net, rng.standard_normal((N, *SHAPE)), rng.integers(0, 3, N))
    before = engine.state(net)
    net.evaluate(batch), net.predict(batch.x), net.true_gradient(batch), net.first_nonfinite(batch)
    for name, value in engine.state(net).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


@on_each
def test_of_a_batch_with_few_labels_the_unlabelled_samples_are_watched(engine, on, rng):
    """Labelled ones come again and again; the others are what the data are like."""
    net = network(engine, on, {"recipe": "uili_sp", "cut": NEVER, "momentum": 0.9}, data={"labels": 3})
    x, W = rng.standard_normal((N, *SHAPE)), engine.W(net)
    net.accumulate(replace(engine.batch(net, x, rng.integers(0, 3, N)), labelled=1))
    for name, (pre, post) in run_by_hand(W, x[1:]).items():
        use = 0.9 + 0.1 * used_by_hand(pre, post, W[f"{name}.W"], False)
        np.testing.assert_allclose(engine.state(net)[f"{name}.pruning.use"], use, rtol=1e-10, err_msg=name)
    assert engine.state(net)["c.pruning.samples"] == N - 1


@on_each
def test_a_clamped_layer_is_watched_and_pruned_like_any_other(engine, on, rng):
    pruning = {"recipe": "uili_sp", "cut": {"recipe": "prune", "at": 1}}
    net = network(engine, on, pruning, layers={"c": {"plasticity": "none"}})
    x, W = learn(engine, net, rng)
    use = 0.99 + 0.01 * used_by_hand(*run_by_hand(W, x)["c"], W["c.W"], False)
    np.testing.assert_allclose(engine.state(net)["c.pruning.use"], use, rtol=1e-12)
    net.prune(1)
    assert (engine.W(net)["c.W"] != 0).sum() == 27


# -- cuts ------------------------------------------------------------------------------------
def cut(spec):
    return make("cut", spec)


def seen(rng, alive=0.7, shape=(12, 10)):
    return Seen(rng.random(shape), rng.random(shape) < alive, rng.standard_normal(shape), 500.0)


def test_prune_takes_a_share_of_what_is_left_the_least_used(rng):
    given = seen(rng)
    stays = cut({"recipe": "prune", "share": [0.1, 0.25], "at": [3, 5]}).survivors(given, 5)
    left = int(given.alive.sum())
    assert stays.sum() == left - round(0.25 * left)
    assert not (stays & ~given.alive).any()
    assert given.use[stays].min() > given.use[given.alive & ~stays].max()


def test_keep_leaves_a_share_of_all_the_most_used(rng):
    given = seen(rng)
    stays = cut({"recipe": "keep", "share": 0.2, "at": [3, 5]}).survivors(given, 3)
    assert stays.sum() == 24
    assert given.use[stays].min() > given.use[given.alive & ~stays].max()
    assert (cut({"recipe": "keep", "share": 0.99}).survivors(given, 1) == given.alive).all()
    assert cut({"recipe": "keep", "share": [0.5, 0.2], "at": [1, 2]}).left(15) == 3


def test_of_equally_used_synapses_the_larger_weights_stay(rng):
    given = seen(rng)._replace(use=np.repeat([0.0, 1.0], 60).reshape(12, 10))
    stays = most_used(given, 30)
    again = most_used(given, 70)
    for found, level in ((stays, 1.0), (again, 0.0)):
        there = given.alive & (given.use == level)
        size = abs(given.W)
        assert size[there & found].min() > size[there & ~found].max()
    assert (given.use[stays] == 1.0).all()


def test_at_the_threshold_itself_below_and_quality_take_and_wilson_leaves():
    here = Seen(np.array([0.25, 0.5]), np.ones(2, bool), samples=50.0)
    assert cut({"recipe": "below", "use": 0.25}).survivors(here, 1).tolist() == [False, True]
    end = float(wilson(np.array(0.25), 50.0))
    assert cut({"recipe": "wilson", "use": end}).survivors(here, 1).tolist() == [True, True]
    W = np.array([1.0, -1.0, 3.0, -3.0, 0.0, 2.0, -2.0])  # of mean 0 and deviation 2
    weights = Seen(abs(W), np.ones(7, bool), W)
    assert cut({"recipe": "quality"}).survivors(weights, 1).tolist() == [False, False, True, True, False, False, False]


def test_below_and_wilson_and_quality_are_thresholds(rng):
    given = seen(rng)
    assert (cut({"recipe": "below", "use": 0.4}).survivors(given, 1) == (given.alive & (given.use > 0.4))).all()
    doubtful = cut({"recipe": "wilson", "use": 0.4}).survivors(given, 1)
    assert (doubtful == (given.alive & (wilson(given.use, 500.0) >= 0.4))).all()
    assert doubtful.sum() > (given.alive & (given.use > 0.4)).sum()
    given.W[~given.alive] = 100.0
    weights = given._replace(use=abs(given.W))
    stays = cut({"recipe": "quality", "quality": 1.5}).survivors(weights, 1)
    assert (stays == (given.alive & (abs(given.W) > 1.5 * np.std(given.W[given.alive])))).all()


@pytest.mark.parametrize("share", [0.0, 0.003, 0.2, 0.97, 1.0])
@pytest.mark.parametrize("samples", [20.0, 19_900.0])
def test_the_upper_end_of_wilsons_interval(share, samples):
    """The larger q that lies 1.96 of its own deviations from what was seen: (p - q)^2 = z^2 q (1 - q) / n."""
    z = 1.959963984540054
    a, b, c = 1 + z**2 / samples, -(2 * share + z**2 / samples), share**2
    assert wilson(np.array(share), samples) == pytest.approx(max(np.roots([a, b, c])), rel=1e-10)


@on_each
def test_a_running_average_stands_for_many_batches(engine, on, rng):
    """Of 4 images each: 4 (1 + 0.99) / (1 - 0.99) = 796 samples."""
    cut = {"recipe": "wilson", "use": 0.5}
    net = network(engine, on, {"recipe": "uili_np", "cut": cut})
    learn(engine, net, rng)
    survivors = net.nodes[0].survivors
    use = np.linspace(0.4, 0.6, 108).reshape(1, 3, 6, 6)
    survivors.memory["use"][...] = net.xp.array(use)
    net.prune(1)
    np.testing.assert_array_equal(net.xp.host(survivors.mask), wilson(use, 796.0) >= 0.5)
    assert 0.0 < net.xp.host(survivors.mask).mean() < 1.0


def test_the_rat_neocortex_loses_two_fifths_in_a_phase_and_two_thirds_in_two():
    rat = cut({"recipe": "rat_neocortex", "period": 5})
    assert [epoch for epoch in range(200) if rat.due(epoch)] == [5, 10, 15, 20]
    assert [rat.rate(epoch) for epoch in (5, 10, 15, 20)] == [0.27, 0.15, 0.039, 0.006]
    twice = cut({"recipe": "rat_neocortex", "period": 4, "phases": 2})
    assert [epoch for epoch in range(200) if twice.due(epoch)] == [4, 8, 12, 16, 29, 33, 37, 41]
    assert [twice.rate(epoch) for epoch in (16, 29, 33)] == [0.006, 0.27, 0.15]
    filled = cut(
        {"recipe": "rat_neocortex", "period": 5, "phases": 2, "phase_epochs": 20}
    )  # no epoch without a cut to come
    assert [epoch for epoch in range(1, 200) if filled.due(epoch)] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert [filled.rate(epoch) for epoch in (20, 25)] == [0.006, 0.27]
    million = 1_000_000
    assert rat.left(million) == pytest.approx(0.73 * 0.85 * 0.961 * 0.994 * million, abs=3)
    assert rat.left(million) / million == pytest.approx(0.5927, abs=5e-5)
    assert 1 - rat.left(million) / million == pytest.approx(0.4073, abs=5e-5)
    assert 1 - twice.left(million) / million == pytest.approx(0.6487, abs=5e-5)


def test_the_shipped_rule_has_the_periods_of_table_8(engine):
    loaded = config.load("uili_sp", network="lenet5")
    chosen = config.choices(loaded, ["conv1", "conv2", "fc1", "fc2"])
    cuts = [make("pruning", chosen[name]["pruning"]).cut for name in chosen]
    assert [each.period for each in cuts] == [5, 4, 4, 3]
    assert max(epoch for epoch in range(100) for each in cuts if each.due(epoch)) < loaded.training.epochs


@pytest.mark.parametrize(
    ("rule", "shares"),
    [
        ("deep_compression_lenet5", (0.66, 0.12, 0.08, 0.19)),
        ("uili_sp_lenet5", (0.66, 0.07, 0.08, 0.26)),
        ("uili_np_lenet5", (0.59, 0.10, 0.19)),
    ],
)
def test_the_rules_for_lenet5_end_at_the_shares_of_tables_16_to_18(rule, shares):
    loaded = config.load(rule)
    chosen = config.choices(loaded, ["conv1", "conv2", "fc1", "fc2"])
    for share, choice in zip(shares, chosen.values(), strict=False):
        cut = make("pruning", choice["pruning"]).cut
        assert cut.share[-1] == share and cut.at[-1] < loaded.training.epochs
        np.testing.assert_allclose(cut.share, [share ** (k / 4) for k in (1, 2, 3, 4)], atol=0.006)


# -- what a mask takes away ------------------------------------------------------------------
@pytest.mark.parametrize("channel", ["bp", "usf", "nusf", "brsf", "frsf", "brsf_p", "frsf_p", "rndf"])
@on_each
def test_no_error_travels_through_a_synapse_that_is_gone(engine, channel, on, rng):
    pruning = {"recipe": "magnitude", "cut": {"recipe": "prune", "share": 0.5}}
    net = engine.net(STACK, SHAPE, on=on, defaults={"pruning": pruning, "channel": channel})
    learn(engine, net, rng)
    assert [node.name for node in net.prune(1)] == ["c", "h", "out"] and not net.prune(2)
    for _ in range(3):
        for node in net.nodes:
            gone = net.xp.host(node.survivors.mask) == 0
            assert abs(gone.mean() - 0.5) < 0.05
            assert not net.xp.host(node.W)[gone].any()
            assert not net.xp.host(node.V)[gone].any()
            assert net.xp.host(node.V)[~gone].all()
        learn(engine, net, rng)


class Restless:
    """A channel of somebody's own, whose V has nothing to do with W."""

    redraws = True

    def refresh(self, map, W, state, stream):
        state["V"][...] = map.xp.array(stream.generator().normal(size=map.shape))

    def carry(self, map, dn, top, state):
        return map.down(dn, state["V"])


class Forgiving:
    """A pruning of somebody's own, which would have everything back."""

    of = "synapses"

    def observe(self, map, local, W, state):
        pass

    def mask(self, map, W, mask, state, epoch):
        return mask * 0.0 + 1.0


@on_each
def test_channels_and_prunings_of_others_bring_nothing_back(engine, on, rng):
    net = network(engine, on, {"recipe": "magnitude", "cut": {"recipe": "prune"}})
    net.prune(1)
    before = engine.state(net)
    for node in net.nodes:
        node.channel, node.redraws, node.feedback = Restless(), True, {"V": node.W + 0.0}
        node.survivors.pruning = Forgiving()
        node.survivors.decide(node.W, 2)
    learn(engine, net, rng)
    for node in net.nodes:
        gone = before[f"{node.name}.pruning.mask"] == 0
        assert not net.xp.host(node.V)[gone].any() and net.xp.host(node.V)[~gone].all()
        np.testing.assert_array_equal(net.xp.host(node.survivors.mask) == 0, gone)


@on_each
def test_direct_feedback_has_no_synapses_in_common_with_w(engine, on, rng):
    pruning = {"recipe": "magnitude", "cut": {"recipe": "prune"}}
    net = engine.net(STACK, SHAPE, on=on, defaults={"pruning": pruning, "channel": "dfa"})
    V = engine.state(net)["h.feedback.V"]
    net.prune(1)
    np.testing.assert_array_equal(engine.state(net)["h.feedback.V"], V)


@on_each
def test_the_true_gradient_is_that_of_the_network_that_is_left(engine, on, rng):
    net = network(engine, on, {"recipe": "magnitude", "cut": {"recipe": "prune"}}, training={"reduction": "sum"})
    net.prune(1)
    batch = engine.batch(net, rng.standard_normal((N, *SHAPE)), rng.integers(0, 3, N))
    net.accumulate(batch)
    gradient = net.true_gradient(batch)
    for node in net.nodes:
        np.testing.assert_allclose(engine.dW(net)[f"{node.name}.W"], net.xp.host(gradient[node.name]), atol=1e-12)
        assert not net.xp.host(gradient[node.name])[net.xp.host(node.survivors.mask) == 0].any()


@on_each
def test_a_neuron_that_is_gone_is_silent_and_hears_no_error(engine, on, rng):
    """Forward by hand with the mask; dW by central differences of the loss."""
    net = network(engine, on, {"recipe": "uili_np", "cut": {"recipe": "prune", "share": 0.4}}, layers=LAST)
    engine.shake(net)
    for _ in range(3):
        learn(engine, net, rng)
    net.prune(1)
    silent = net.xp.host(net.nodes[0].neurons)
    assert silent.shape == (1, 3, 6, 6) and silent.sum() == 108 - round(0.4 * 108)
    assert net.xp.host(net.nodes[1].neurons).sum() == 3
    x, y = rng.standard_normal((N, *SHAPE)), rng.integers(0, 3, N)
    batch, W = engine.batch(net, x, y), engine.W(net)
    _, h = run_by_hand(W, x, silent)["h"]
    alive = net.xp.host(net.nodes[1].neurons)
    out = (h * alive) @ W["out.W"] + W["out.b"]
    np.testing.assert_allclose(net.xp.host(net.predict(batch.x)), out, rtol=1e-9)
    net.accumulate(batch)
    dW = engine.dW(net)
    for name in ("c.W", "c.b", "h.W"):
        parameter = next(p for p in net.parameters() if p.name == name)
        for place in list(np.ndindex(tuple(parameter.W.shape)))[::5]:
            kept, ends = float(parameter.W[place]), []
            for step in (1e-6, -1e-6):
                parameter.W[place] = kept + step
                ends.append(float(net.evaluate(batch)[0]))
            parameter.W[place] = kept
            assert dW[name][place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)
    assert not dW["h.W"][:, alive[0] == 0].any()


LAST = {"out": {"pruning": "none"}}


@on_each
def test_nothing_that_is_gone_comes_back_and_what_is_left_is_logged(engine, on, rng):
    net = network(engine, on, {"recipe": "uili_sp", "cut": {"recipe": "prune", "share": 0.3, "at": [1, 2, 3]}})
    alive = {node.name: np.ones(node.map.shape, bool) for node in net.nodes}
    for epoch in (1, 2, 3):
        learn(engine, net, rng)
        net.prune(epoch)
        for node in net.nodes:
            now = net.xp.host(node.survivors.mask) > 0
            assert not (now & ~alive[node.name]).any() and now.sum() < alive[node.name].sum()
            alive[node.name] = now
            looks = {key: net.xp.host(value) for key, value in node.survivors.looks(node.W).items()}
            use = engine.state(net)[f"{node.name}.pruning.use"]
            assert looks["alive"] == pytest.approx(now.mean())
            units = use.T if use.ndim == 2 else use
            mine = now.T if now.ndim == 2 else now
            by_unit = [u[m].mean() if m.any() else 0.0 for u, m in zip(units, mine, strict=True)]
            np.testing.assert_allclose(looks["use"], by_unit, rtol=1e-10)


# -- wrong input -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"recipe": "prune", "share": 1.0}, "share is 1.0; wanted a share of what is left, from 0 to below 1"),
        ({"recipe": "prune", "share": -0.1}, "share is -0.1; wanted"),
        ({"recipe": "keep", "share": 0}, "share is 0.0; wanted a share of all, above 0 up to 1"),
        ({"recipe": "keep", "share": [0.5, 1.5], "at": [1, 2]}, "share is 1.5; wanted"),
        ({"recipe": "keep", "share": [0.5, 0.2], "at": [1, 2, 3]}, "share has 2 numbers for 3 epochs"),
        ({"recipe": "prune", "at": [2, 2]}, r"at is \[2, 2\]; wanted ascending epochs"),
        ({"recipe": "prune", "at": 0}, "cut.at: given 0, wanted an epoch, or a list of them"),
        ({"recipe": "rat_neocortex", "rates": [0.27, 1.2]}, "rates is 1.2; wanted shares of what is left"),
        ({"recipe": "rat_neocortex", "rates": []}, r"rates is \[\]; wanted shares of what is left"),
        ({"recipe": "rat_neocortex", "phases": 2, "period": 9}, "phase_epochs is 25, the cuts of a phase take 36"),
        ({"recipe": "below", "use": -0.1}, "use is -0.1; wanted 0 or more"),
        ({"recipe": "below", "use": 1.0}, "cut: use is 1.0; wanted a share of the samples, from 0 to below 1"),
        ({"recipe": "below", "use": [0.5, 2.0], "at": [1, 2]}, "cut: use is 2.0; wanted a share of the samples"),
        ({"recipe": "wilson", "use": 2.0}, "use is 2.0; wanted a number between 0 and 1"),
        ({"recipe": "quality"}, "cut: quality judges weights, here are averages"),
        ({"recipe": "prune", "rate": -0.1}, r"cut: 'prune' has no parameter 'rate'\. Known: at, share\."),
        ({"recipe": "pruen"}, "no pruning cut named 'pruen'; did you mean 'prune'?"),
    ],
)
def test_wrong_cuts(spec, said):
    with pytest.raises(UserError, match=said):
        make("pruning", {"recipe": "uili_sp", "cut": spec}, "rules/r.yaml:3: defaults.pruning")


def test_below_is_no_share_of_sizes():
    for by in ({"recipe": "magnitude"}, {"recipe": "uili_sp", "by": "contribution"}):
        assert make("pruning", {**by, "cut": {"recipe": "below", "use": 2.0}}).cut.use == 2.0


def test_wilson_judges_averages_alone():
    with pytest.raises(UserError, match="cut: wilson judges averages, here are weights"):
        make("pruning", {"recipe": "magnitude", "cut": "wilson"})
    with pytest.raises(UserError, match="cut: wilson judges averages, here are sizes"):
        make("pruning", {"recipe": "uili_sp", "by": "contribution", "cut": "wilson"})


@on_each
def test_a_threshold_that_leaves_nothing_ends_the_run(engine, on, rng):
    net = network(engine, on, {"recipe": "uili_sp", "cut": {"recipe": "below", "use": 0.999, "at": 3}})
    learn(engine, net, rng)
    with pytest.raises(RunFailed, match=r"layer 'c', epoch 3: pruning leaves no synapses\."):
        net.prune(3)


def test_neurons_of_a_cell_are_refused(engine):
    layers = {"r.h": {"pruning": "uili_np"}}
    with pytest.raises(ConfigError, match=r"layers.r.h.pruning: neurons of a cell share their products."):
        engine.net([{"r": {"rnn": 4}}, {"out": {"dense": 3}}], (2,), over=5, layers=layers)
