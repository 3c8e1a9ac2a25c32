"""Learning from what is rendered: the Hebbian rule and the M-step, by loops, least squares and finite differences."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioplaus import assemble, config
from bioplaus.backend.numpy import NumPy
from bioplaus.backend.window import Window
from bioplaus.errors import UserError
from bioplaus.layers.conv import ConvMap
from bioplaus.layers.dense import DenseMap
from bioplaus.parts import At, Local
from bioplaus.plasticity.drmm import LeastSquares, RenderingHebb
from bioplaus.units import unit_norm

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
N = 6
WINDOWS = {
    "valid": Window((3, 2), (1, 1), (0, 0, 0, 0), (4, 5)),
    "full": Window((2, 3), (1, 1), (1, 1, 2, 2), (3, 4)),
    "strided": Window((3, 3), (2, 1), (1, 0, 1, 1), (5, 4)),
    "dense": None,
}
by_map = pytest.mark.parametrize("kind", WINDOWS)
LAYERS = [
    {"c": {"conv": 3, "kernel": 3, "pad": "full"}},
    "norm",
    "relu",
    {"maxpool": 2},
    "flatten",
    {"h": {"dense": 5}},
    "relu",
    {"out": {"dense": 3}},
]


def mapped(xp, kind):
    window = WINDOWS[kind]
    return DenseMap(xp, (6,), (3,)) if window is None else ConvMap(xp, window, (2, 3))


def seen(xp, map, seed=0, n=N):
    """(x, u, W): u is sparse, as behind switches."""
    rng = np.random.default_rng(seed)
    x, u, W = (
        rng.standard_normal((n, *map.input)),
        rng.standard_normal((n, *map.output)),
        rng.standard_normal(map.shape),
    )
    return xp.array(x), xp.array(u * (rng.random(u.shape) < 0.6)), xp.array(W)


def local(map, x, u, W):
    return Local(x=x, u=u, x_hat=map.down(u, W))


def loops(map, u, x):
    """sum over samples and places of u x at every filter element, in W's shape: the definition, index by index."""
    if isinstance(map, DenseMap):
        return np.einsum("ni,no->io", x, u)
    (kh, kw), (sh, sw), (top, _, left, _), (H, W) = (
        map.window.kernel,
        map.window.stride,
        map.window.pad,
        map.window.size,
    )
    total = np.zeros(map.shape)
    for n, o, r, c in np.ndindex(u.shape):
        for i in range(map.channels[0]):
            for a in range(kh):
                for b in range(kw):
                    row, column = r * sh + a - top, c * sw + b - left
                    if 0 <= row < H and 0 <= column < W:
                        total[o, i, a, b] += u[n, o, r, c] * x[n, i, row, column]
    return total


def design(map, u):
    """(pixels, weights per input): every weight's share in what is rendered into one input channel, by unit weights."""
    one = DenseMap(NumPy("float64"), (1,), map.output) if isinstance(map, DenseMap) else None
    one = one or ConvMap(NumPy("float64"), map.window, (1, map.channels[1]))
    columns = []
    for k in range(prod(one.shape)):
        W = np.zeros(prod(one.shape))
        W[k] = 1.0
        columns.append(one.down(u, W.reshape(one.shape)).ravel())
    return np.stack(columns, 1)


def least_squares(map, u, x):
    """W of least ||x - down(u, W)||^2, channel by channel."""
    D = design(map, u)
    each = [np.linalg.lstsq(D, x[:, i].ravel(), rcond=None)[0] for i in range(map.input[0])]
    if isinstance(map, DenseMap):
        return np.stack(each)
    return np.stack([w.reshape((map.channels[1], *map.window.kernel)) for w in each], 1)


def energy(map, x, u, W):
    """mean ||x - down(u, W)||^2."""
    return float(((x - map.down(u, W)) ** 2).sum()) / len(x)


def wanted(rule, map, W, *updates):
    """What a rule wants of W after the last of some updates, each of one visit or, as a list, of several."""
    state = rule.init(map)
    for update in updates:
        for x, u in [update] if isinstance(update, tuple) else update:
            rule.gather(local(map, x, u, W), map, W, state)
        change = rule.settle(map, W, state)
    return change


# -- the Hebbian rule ------------------------------------------------------------------------
@by_map
@on_each
def test_hebb_by_loops(kind, on):
    xp = assemble.array_library(on, dtype="float64", threads=1)
    map = mapped(xp, kind)
    x, u, W = seen(xp, map)
    host = {name: xp.host(a) for name, a in {"x": x, "u": u, "x_hat": map.down(u, W)}.items()}
    change = loops(map, host["u"], host["x"]) - loops(map, host["u"], host["x_hat"])
    taps = 1 if kind == "dense" else prod(map.window.kernel)
    for rule, over in ((RenderingHebb(normalized=False), N), (RenderingHebb(), taps * (host["u"] ** 2).sum())):
        found = wanted(rule, map, W, (x, u), (x, u))  # nothing is left over from the first time
        np.testing.assert_allclose(xp.host(found), change / over, rtol=1e-11, atol=1e-13)


@by_map
def test_hebb_is_half_the_way_down_the_slope_of_the_reconstruction(kind):
    """dW = -1/2 dE/dW at fixed switches, by central differences."""
    map = mapped(NumPy("float64"), kind)
    x, u, W = seen(map.xp, map)
    dW = wanted(RenderingHebb(normalized=False), map, W, (x, u))
    for k in range(5):
        step = 1e-5 * np.random.default_rng(k).standard_normal(map.shape)
        slope = (energy(map, x, u, W + step) - energy(map, x, u, W - step)) / 2
        assert -2 * (dW * step).sum() == pytest.approx(slope, rel=1e-7)


@by_map
def test_least_squares_are_a_fixed_point_of_hebb(kind):
    map = mapped(NumPy("float64"), kind)
    x, u, W = seen(map.xp, map)
    dW, away = (wanted(RenderingHebb(), map, start, (x, u)) for start in (least_squares(map, u, x), W))
    assert np.abs(dW).max() < 1e-12 * np.abs(away).max() + 1e-13
    assert np.abs(away).max() > 1e-2


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pad=st.integers(0, 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dense=st.booleans(),
    alike=st.booleans(),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 10**6),
)
def test_at_fixed_switches_the_error_never_rises(kernel, stride, pad, channels, dense, alike, share, seed):
    """Step 1 / (kh kw mean ||u||^2), for sparse u and for u alike everywhere, where the bound is nearly reached."""
    xp, rng = NumPy("float64"), np.random.default_rng(seed)
    map = DenseMap(xp, (5,), (4,)) if dense else ConvMap(xp, Window(kernel, stride, (pad,) * 4, (5, 6)), channels)
    x = rng.standard_normal((4, *map.input))
    u = np.ones((4, *map.output)) if alike else rng.standard_normal((4, *map.output))
    u *= rng.random(u.shape) <= share
    W, rule = rng.standard_normal(map.shape), RenderingHebb()
    before = energy(map, x, u, W)
    for _ in range(5):
        W = W + wanted(rule, map, W, (x, u))
        after = energy(map, x, u, W)
        assert np.isfinite(W).all() and after <= before * (1 + 1e-12)
        before = after


def test_beyond_twice_that_step_it_can_rise(engine):
    map = mapped(NumPy("float64"), "dense")
    x, W = np.random.default_rng(0).standard_normal((N, 6)), np.zeros((6, 3))
    u = np.ones((N, 1)) * np.array([1.0, 0.0, 0.0])  # one eigenvalue, which is the trace
    dW = wanted(RenderingHebb(), map, W, (x, u))
    start = energy(map, x, u, W)
    assert energy(map, x, u, W + 1.99 * dW) < start < energy(map, x, u, W + 2.01 * dW)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.floats(0.01, 30.0)), min_size=2, max_size=4),
    kind=st.sampled_from(list(WINDOWS)),
    seed=st.integers(0, 99),
)
def test_visits_of_any_energy_make_one_step_that_never_makes_it_worse(sizes, kind, seed):
    """Halves of a batch, or batches of an update, are more samples: their error together never rises, OLS stays."""
    map, visits = mapped(NumPy("float64"), kind), []
    for k, (n, scale) in enumerate(sizes):
        x, u, W = seen(map.xp, map, seed + 100 * k, n)
        visits.append((x, scale * u))
    x, u = (np.concatenate([visit[k] for visit in visits]) for k in (0, 1))
    change = wanted(RenderingHebb(), map, W, visits)
    np.testing.assert_allclose(change, wanted(RenderingHebb(), map, W, (x, u)), rtol=1e-9, atol=1e-13)
    assert energy(map, x, u, W + change) <= energy(map, x, u, W) * (1 + 1e-12)
    best = least_squares(map, u, x)
    assert np.abs(wanted(RenderingHebb(), map, best, visits)).max() < 1e-9 * max(1.0, np.abs(best).max())


# -- the M-step ------------------------------------------------------------------------------
@by_map
@on_each
def test_the_m_step_is_least_squares_over_all_batches(kind, on):
    xp = assemble.array_library(on, dtype="float64", threads=1)
    map = mapped(xp, kind)
    rule, (x, u, W) = LeastSquares(), seen(xp, map, n=25)
    state = rule.init(map)
    for part in (slice(0, 12), slice(12, 25)):
        rule.gather(local(map, x[part], u[part], W), map, W, state)
    D = design(map, xp.host(u))
    np.testing.assert_allclose(xp.host(state["A"]), D.T @ D, rtol=1e-10, atol=1e-11)
    change = rule.settle(map, W, state)
    expected = least_squares(map, xp.host(u), xp.host(x))
    np.testing.assert_allclose(xp.host(W + change), expected, rtol=1e-8, atol=1e-10)
    assert not any(xp.host(array).any() for array in state.values())


def test_the_m_step_is_where_no_step_helps(engine):
    map = mapped(NumPy("float64"), "full")
    rule, (x, u, W) = LeastSquares(), seen(map.xp, map)
    state = rule.init(map)
    rule.gather(local(map, x, u, W), map, W, state)
    W = W + rule.settle(map, W, state)
    best = energy(map, x, u, W)
    for k in range(10):
        step = 1e-2 * np.random.default_rng(k).standard_normal(map.shape)
        assert energy(map, x, u, W + step) > best


@by_map
def test_noise_alike_at_all_places_changes_nothing(kind):
    """Generalized least squares with any covariance of the input channels are ordinary ones: one u for all of them."""
    map = mapped(NumPy("float64"), kind)
    x, u, _ = seen(map.xp, map)
    root = np.random.default_rng(5).standard_normal((map.input[0], map.input[0]))
    precision = np.linalg.inv(root @ root.T + 0.1 * np.eye(map.input[0]))
    D, inputs = design(map, u), map.input[0]
    X = np.moveaxis(x, 1, 0).reshape(inputs, -1)  # channels x (samples, pixels)
    big = np.kron(precision, D.T @ D)
    right = (precision @ X @ D).reshape(-1)
    W = np.linalg.solve(big, right).reshape(inputs, -1)
    ordinary = least_squares(map, u, x)
    ordinary = ordinary if kind == "dense" else np.moveaxis(ordinary, 1, 0).reshape(inputs, -1)
    np.testing.assert_allclose(W, ordinary, rtol=1e-7, atol=1e-9)


@by_map
def test_a_unit_that_was_never_on_keeps_its_weights(kind):
    map = mapped(NumPy("float64"), kind)
    rule, (x, u, W) = LeastSquares(), seen(map.xp, map, n=25)
    u[:, 1] = 0.0
    state = rule.init(map)
    rule.gather(local(map, x, u, W), map, W, state)
    change = rule.settle(map, W, state)
    dead, alive = (change[:, 1], change[:, 0]) if kind == "dense" else (change[1], change[0])
    assert np.abs(dead).max() < 1e-12 and np.abs(alive).max() > 1e-2
    assert not rule.settle(map, W, rule.init(map)).any()  # nothing gathered at all


# -- in a network ----------------------------------------------------------------------------
def built(on="numpy", stack=LAYERS, shape=(2, 5, 5), order=None, dtype="float64", **rule):
    network = {"network": "g", "input": list(shape), "pass": {"recipe": "generative", **(order or {})}, "layers": stack}
    update = {"recipe": "sgd", "rate": 1.0, "momentum": 0.0}
    given_ = {"rule": "t", "training": {"reduction": "mean"}} | rule
    given_["defaults"] = {"update": update, "plasticity": "drmm"} | rule.get("defaults", {})
    xp = assemble.array_library(on, dtype=dtype, threads=1)
    return assemble.assembled(config.load(given_, network=network), classes=3, xp=xp)


def drawn(engine, net, n=N, seed=0):
    rng = np.random.default_rng(seed)
    return engine.batch(net, rng.standard_normal((n, *net.pass_.input)), rng.integers(0, 3, n))


def visible(net, batch):
    """What every layer sees, by its name, from the definition: x, u, x_hat."""
    torch = pytest.importorskip("torch")
    F, W = torch.nn.functional, {p.name: torch.tensor(net.xp.host(p.W)) for node in net.nodes for p in node.arrays()}
    x = torch.tensor(net.xp.host(batch.x))
    y = F.relu(F.conv2d(x, W["c.W"], padding=2) + W["c.b"])
    pooled, winners = F.max_pool2d(y, 2, return_indices=True)
    flat = pooled.flatten(1)
    h = F.relu(flat @ W["h.W"] + W["h.b"])
    c = (h @ W["out.W"] + W["out.b"]).argmax(1)
    top = torch.eye(3, dtype=x.dtype)[c]
    u_h = (top @ W["out.W"].T) * (h > 0)
    z = (u_h @ W["h.W"].T).reshape(pooled.shape)
    u_c = torch.zeros_like(y).flatten(2).scatter(2, winners.flatten(2), z.flatten(2)).reshape(y.shape) * (y > 0)
    image = F.conv_transpose2d(u_c, W["c.W"], padding=2)
    return {
        "c": (x, u_c, image),
        "h": (flat, u_h, u_h @ W["h.W"].T),
        "out": (h, top, top @ W["out.W"].T),
    }


@on_each
def test_every_layer_learns_from_its_own_input_and_rendering(engine, on):
    net = built(on, defaults={"plasticity": {"recipe": "drmm", "normalized": False}})
    engine.shake(net)
    batch = drawn(engine, net)
    expected = visible(net, batch)
    net.accumulate(batch)
    net.settle()
    for node in net.nodes:
        x, u, x_hat = (a.numpy() for a in expected[node.name])
        change = (loops(node.map, u, x) - loops(node.map, u, x_hat)) / N
        np.testing.assert_allclose(engine.dW(net)[f"{node.name}.W"], -change, rtol=1e-9, atol=1e-12)
    before = engine.W(net)
    net.update(rate=0.1)
    for node in net.nodes:
        assert not np.array_equal(engine.W(net)[f"{node.name}.W"], before[f"{node.name}.W"])
        np.testing.assert_array_equal(engine.W(net)[f"{node.name}.b"], before[f"{node.name}.b"])


@on_each
def test_hebb_needs_no_error_from_above(engine, on, monkeypatch):
    """With all layers but the last local, nothing is carried down; what labels say reaches the last layer alone."""
    net = built(on, layers={"out": {"plasticity": "error"}})
    batch, other = drawn(engine, net), drawn(engine, net)
    other.y[...] = (other.y + 1) % 3
    for node in net.nodes:
        monkeypatch.setattr(type(node.channel), "carry", lambda *given: pytest.fail("an error was carried"))
    found = []
    for each in (batch, other):
        net.accumulate(each)
        net.settle()
        found.append(engine.dW(net))
        net.update(rate=0.0)
    for name in found[0]:
        assert np.array_equal(found[0][name], found[1][name]) == (not name.startswith("out"))


@on_each
def test_local_layers_and_layers_that_learn_from_errors_mix(engine, plain, on):
    """The last layer gets the gradient of all terms, on both ways; the local one below it what it would get anyway."""
    losses = {"cross_entropy": {}, "reconstruction": {"weight": 0.5}}
    mixed = built(on, losses=losses, layers={"out": {"plasticity": "error"}, "h": {"plasticity": "error"}})
    every = built(on, losses=losses, defaults={"plasticity": "error"})
    local_ = built(on)
    batch = drawn(engine, mixed)
    for net in (mixed, every, local_):
        engine.shake(net)
        net.accumulate(batch)
        net.settle()
    dW = [engine.dW(net) for net in (mixed, every, local_)]
    for name, found in dW[0].items():
        np.testing.assert_allclose(found, dW[2 if name.startswith("c") else 1][name], rtol=1e-11, err_msg=name)


@on_each
def test_the_last_layer_learns_class_means(engine, on):
    """mu_c <- mu_c + eta (I - mu_c) for c the class rendered; the M-step: the mean of I over its samples."""
    for recipe in ("drmm", "drmm_em"):
        net = built(on, [{"out": {"dense": 3}}], (4,), {"topdown_class": "label"}, defaults={"plasticity": recipe})
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((9, 4)), np.array([0, 0, 0, 0, 1, 1, 1, 0, 0])
        mu = engine.W(net)["out.W"]
        net.accumulate(engine.batch(net, x, y))
        net.update()
        means = np.stack([x[y == c].mean(0) if (y == c).any() else mu[:, c] for c in range(3)], 1)
        share = np.bincount(y, minlength=3) / 9 if recipe == "drmm" else np.ones(3)
        np.testing.assert_allclose(engine.W(net)["out.W"], mu + share * (means - mu), rtol=1e-10, atol=1e-12)


@on_each
def test_em_in_a_network_is_least_squares_for_what_every_layer_sees(engine, on):
    net = built(
        on, defaults={"plasticity": {"recipe": "drmm_em", "unit_norm": False}}, training={"batches_per_update": 2}
    )
    engine.shake(net)
    batches = [drawn(engine, net, 40, seed) for seed in range(2)]
    parts = [visible(net, batch) for batch in batches]
    for batch in batches:
        net.accumulate(batch)
    net.update()
    for node in net.nodes:
        x, u, _ = (np.concatenate([part[node.name][k].numpy() for part in parts]) for k in range(3))
        best, W = least_squares(node.map, u, x), engine.W(net)[f"{node.name}.W"]
        x_map = node.map if on == "numpy" else mapped_like(node.map)
        assert energy(x_map, x, u, W) == pytest.approx(energy(x_map, x, u, best), rel=1e-9)
        assert energy(x_map, x, u, W) <= energy(x_map, x, u, best) * (1 + 1e-9)


def mapped_like(map):
    xp = NumPy("float64")
    return DenseMap(xp, map.input, map.output) if isinstance(map, DenseMap) else ConvMap(xp, map.window, map.channels)


@on_each
def test_unit_norm_goes_up_at_length_one_and_down_as_it_is(engine, on):
    net = built(on, defaults={"plasticity": {"recipe": "drmm", "unit_norm": True}})
    batch = drawn(engine, net)
    W = engine.W(net)
    for node in net.nodes:
        axes = (1, 2, 3) if node.name == "c" else (0,)
        length = np.sqrt((W[f"{node.name}.W"] ** 2).sum(axes, keepdims=True))
        np.testing.assert_allclose(net.xp.host(unit_norm(node.map, node.W)), W[f"{node.name}.W"] / length, rtol=1e-12)
    with net.xp.scope():
        signals, (tape, _) = net.pass_.forward(batch, At())
        root = net.pass_.root
        output = net.xp.host(signals["output"])
        for node in net.nodes:
            node.W[...] = unit_norm(node.map, node.W)
        plain_output = net.xp.host(net.pass_.forward(batch, At(track=False))[0]["output"])
    np.testing.assert_allclose(output, plain_output, rtol=1e-10)
    first = tape[next(i for i, unit in enumerate(root.units) if unit is net.nodes[0])]
    np.testing.assert_allclose(net.xp.host(first.x_hat), net.xp.host(signals["reconstruction"]), rtol=1e-12)
    W0 = net.xp.array(W["c.W"])
    np.testing.assert_allclose(net.xp.host(first.x_hat), net.xp.host(net.nodes[0].map.down(first.u, W0)), rtol=1e-12)


def test_unit_norm_keeps_the_length_from_swinging(engine):
    """One filter, one unit: I = z W0. Going up as it is, the length of W is inverted at every step."""
    rng = np.random.default_rng(0)
    direction = np.array([0.6, 0.8, 0.0])
    x = np.abs(rng.standard_normal((50, 1))) * direction
    lengths = {}
    for up in (None, False):  # left out, it is true
        layers = [{"h": {"dense": 1, "bias": False}}, "relu", {"out": {"dense": 1, "bias": False}}]
        plasticity = {"recipe": "drmm_em"} if up is None else {"recipe": "drmm_em", "unit_norm": up}
        net = built("numpy", layers, (3,), defaults={"plasticity": plasticity})
        net.nodes[0].W[...], net.nodes[1].W[...] = 1.7 * direction[:, None], 1.0
        found = []
        for _ in range(8):
            net.accumulate(engine.batch(net, x, np.zeros(50, int)))
            net.update()
            found.append(float(net.nodes[0].W.ravel() @ direction) * float(net.nodes[1].W[0, 0]))
        lengths[up] = np.array(found)
    steady = lengths[None][2:]
    assert np.ptp(lengths[False][2:]) > abs(steady[0])
    assert np.ptp(steady) < 1e-10 * abs(steady[0])
    assert np.allclose(steady, x.mean(0) @ direction)  # what is rendered is the mean image


@pytest.mark.parametrize("recipe", ["drmm", "drmm_em"])
@on_each
def test_nonnegative_weights_are_cut_off_at_zero(engine, recipe, on):
    rule = {"recipe": recipe, "nonnegative": True}
    net = built(on, layers={"h": {"plasticity": rule}, "out": {"plasticity": rule}})
    free = built(on)
    for each in (net, free):
        for batch in (drawn(engine, each, 20, seed) for seed in range(2)):
            each.accumulate(batch)
            each.update()
    assert all(engine.W(net)[f"{name}.W"].min() == 0.0 for name in ("h", "out"))
    assert engine.W(net)["c.W"].min() < 0.0 and engine.W(free)["h.W"].min() < 0.0


@pytest.mark.parametrize("more", [True, False], ids=["more", "cut short"])
@pytest.mark.parametrize("recipe", ["drmm", "drmm_em"])
@on_each
def test_what_is_half_gathered_survives_a_checkpoint(engine, recipe, more, on):
    rule = {"defaults": {"plasticity": recipe}, "training": {"batches_per_update": 2, "reduction": "mean"}}
    one, two = built(on, **rule), built(on, **rule)
    batches = [drawn(engine, one, 8, seed) for seed in range(4)]
    for batch in batches[:3]:
        one.accumulate(batch)
        if one.pending == 2:
            one.update()
    two.accumulate(batches[0])  # a network that has settled before
    two.accumulate(batches[1])
    two.update()
    two.load(engine.state(one), one.counters)
    for net in (one, two):
        if more:
            net.accumulate(batches[3])
        net.update()
    state = engine.state(one)
    assert all(np.array_equal(state[name], value) for name, value in engine.state(two).items())
    assert any(name.endswith("plasticity.A") for name in state) == (recipe == "drmm_em")


@on_each
def test_dW_is_known_before_the_update_and_settled_once(engine, on):
    net = built(on, defaults={"plasticity": "drmm_em"})
    batch = drawn(engine, net, 30)
    W = engine.W(net)
    net.accumulate(batch)
    net.settle()
    dW = engine.dW(net)
    net.settle()
    net.update()
    for node in net.nodes:
        name = f"{node.name}.W"
        assert np.abs(dW[name]).max() > 1e-3
        np.testing.assert_allclose(engine.W(net)[name], W[name] - dW[name], rtol=1e-12)


@pytest.mark.parametrize("recipe", ["drmm", "drmm_em"])
@on_each
def test_momentum_sums_what_is_wanted_and_none_of_it_for_synapses_that_are_gone(engine, recipe, on):
    """At rate 0 the same batch wants the same change c: -c, then -(1 + m) c; where a mask is 0, nothing."""
    update = {"recipe": "sgd", "rate": 0.1, "momentum": 0.7}
    pruning = {"recipe": "magnitude", "cut": {"recipe": "prune", "share": 0.4}}
    net = built(on, defaults={"plasticity": recipe, "update": update, "pruning": pruning})
    batch, sums = drawn(engine, net, 30), []
    net.prune(1)
    for _ in range(2):
        net.accumulate(batch)
        net.settle()
        sums.append({name: dW + 0.0 for name, dW in engine.dW(net).items()})
        net.update(rate=0.0)
    for node in net.nodes:
        name, gone = f"{node.name}.W", net.xp.host(node.survivors.mask) == 0
        assert gone.any() and not sums[0][name][gone].any() and not sums[1][name][gone].any()
        assert np.abs(sums[0][name]).max() > 1e-3
        np.testing.assert_allclose(sums[1][name], 1.7 * sums[0][name], rtol=1e-9, atol=1e-12)


def test_eigenvalues_below_the_cutoff_count_as_none():
    """Two units, alone in samples of their own: A is diagonal, 4 and 1; beyond a quarter only the first one learns."""
    map = mapped(NumPy("float64"), "dense")
    u, x = np.diag([2.0, 1.0, 0.0]), np.ones((3, 6))
    for cutoff, learn in ((0.24, [1, 1, 0]), (0.26, [1, 0, 0])):
        change = wanted(LeastSquares(cutoff=cutoff), map, np.zeros((6, 3)), (x, u))
        np.testing.assert_allclose(change, np.ones((6, 1)) * np.array([0.5, 1.0, 0.0]) * learn, atol=1e-12)


@on_each
def test_hebb_learns_to_reconstruct(engine, on):
    """Images from a model of this form: with switches inferred anew at every step, the error falls a long way."""
    rng = np.random.default_rng(1)
    parts = rng.standard_normal((4, 8))
    x = np.abs(rng.standard_normal((200, 4))) * (rng.random((200, 4)) < 0.5) @ parts
    layers = [{"h": {"dense": 4, "bias": False}}, "relu", {"out": {"dense": 3, "bias": False}}]
    net = built(on, layers, (8,), defaults={"plasticity": {"recipe": "drmm", "unit_norm": True}})
    batch, missed = engine.batch(net, x, np.zeros(200, int)), []
    for _ in range(150):
        with net.xp.scope():
            x_hat = net.pass_.forward(batch, At(track=False))[0]["reconstruction"]
        missed.append(float(((x_hat - batch.x) ** 2).mean()))
        net.accumulate(batch)
        net.update()
    assert missed[-1] < 0.7 * float((batch.x**2).mean()) < missed[0]


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "updates"), [("drmm_em", 50), ("drmm_hebb", 140)])
def test_the_shipped_rules_learn_to_reconstruct_digits_and_to_tell_them_apart(rule, updates):
    """100 labels, one small layer: most of the power of the images is rendered, and classes are told apart."""
    pytest.importorskip("torch")
    stored = np.load(resources.files("bioplaus.data") / "digits.npz")
    (X, y), (test, labels) = ((stored[f"X{part}"] / 16.0, stored[f"y{part}"]) for part in ("", "_test"))
    layers = [{"c": {"conv": 12, "kernel": 3, "pad": "half", "init": "xavier"}}, "norm", "relu", {"maxpool": 2}]
    layers += ["flatten", {"out": {"dense": 10, "init": "xavier"}}]
    network = {
        "network": "g",
        "input": [1, 8, 8],
        "pass": {"recipe": "generative", "topdown_class": "label"},
        "layers": layers,
    }
    xp = assemble.array_library("torch", dtype="float32", threads=1)
    found = []
    for seed in range(2):
        settings = config.load(rule, network=network, sets=[f"seed={seed}"])
        net = assemble.assembled(settings, classes=10, xp=xp)
        rng = np.random.default_rng(seed)
        known = np.concatenate([np.flatnonzero(y == c)[:10] for c in range(10)])
        for _ in range(updates):
            index = np.concatenate([rng.choice(known, 100), rng.choice(len(X), 100)])
            net.accumulate(replace(net.batch(X[index, None], y[index].astype(int)), labelled=100))
            net.update()
        missed = (net.xp.host(net.predict(net.xp.array(test[:, None]))).argmax(1) != labels).mean()
        found.append((float(net.terms["reconstruction"]) / 200 / (X**2).mean(), missed))
    assert max(left for left, _ in found) < 0.5 and max(missed for _, missed in found) < 0.25, found


def test_em_wants_a_map_it_can_solve_for(engine):
    layers = [{"t": {"conv_transposed": 2, "kernel": 2}}, "relu", "flatten", {"out": {"dense": 3}}]
    with pytest.raises(UserError, match="dense and conv") as refused:
        built("numpy", layers, (1, 3, 3), defaults={"plasticity": "drmm_em"})
    assert "\n" not in str(refused.value)
