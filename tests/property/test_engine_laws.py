"""Laws of the engine over random shapes, stacks and updates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bioplaus.parts import At

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
few = st.integers(1, 4)
seeds = st.integers(0, 99)
UPDATES = st.sampled_from(
    [
        {"recipe": "sgd", "rate": 0.3, "decay": 0.1},
        {"recipe": "bm1", "rate": 0.1, "decay": 0.1},
        {"recipe": "bm2", "rate": 0.1},
        {"recipe": "bm3", "rate": 0.1},
        {"recipe": "rmsprop", "rate": 0.1, "decay": 0.1},
        {"recipe": "adam", "rate": 0.1},
    ]
)


@st.composite
def weighted(draw):
    """(layer, shape of a sample): any of the maps, of any geometry that fits."""
    kind = draw(st.sampled_from(["dense", "conv", "conv_transposed"]))
    if kind == "dense":
        return {"dense": draw(few)}, (draw(few),)
    kernel = [draw(few), draw(few)]
    stride = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    pad = [draw(st.integers(0, k - 1)) for k in kernel for _ in range(2)]
    if kind == "conv":
        size = [draw(st.integers(max(1, k - pad[2 * i] - pad[2 * i + 1]), 7)) for i, k in enumerate(kernel)]
        return {"conv": draw(few), "kernel": kernel, "stride": stride, "pad": pad}, (draw(few), *size)
    size = [draw(st.integers(2, 4)) for _ in range(2)]
    for i, k in enumerate(kernel):  # something must be left after cropping
        if (size[i] - 1) * stride[i] + k - pad[2 * i] - pad[2 * i + 1] < 1:
            pad[2 * i] = pad[2 * i + 1] = 0
    extra = draw(st.integers(0, min(stride) - 1))
    layer = {"conv_transposed": draw(few), "kernel": kernel, "stride": stride, "pad": pad, "extra": extra}
    return layer, (draw(few), *size)


def node_of(engine, on, layer, shape, **rule):
    tail = ["flatten", {"out": {"dense": 3}}] if len(shape) == 3 else [{"out": {"dense": 3}}]
    return engine.net([{"h": layer}, *tail], shape, on=on, **rule)


@on_each
@given(given_layer=weighted(), N=few, seed=seeds)
def test_up_down_and_outer_are_adjoint(engine, on, given_layer, N, seed):
    """<up(x, W), n> = <x, down(n, W)> = <W, outer(x, n)>, with a V in the place of W as well."""
    node, rng = node_of(engine, on, *given_layer).nodes[0], np.random.default_rng(seed)
    map, xp = node.map, node.xp
    x, n, W = (rng.standard_normal(shape) for shape in ((N, *map.input), (N, *map.output), map.shape))
    with xp.scope():
        X, D, weights, dW = xp.array(x), xp.array(n), xp.array(W), xp.zeros(map.shape)
        up, down = xp.host(map.up(X, weights)), xp.host(map.down(D, weights))
        map.outer(X, D, dW, keep=0.0)
    assert up.shape == n.shape
    assert down.shape == x.shape
    value = (up * n).sum()
    assert (x * down).sum() == pytest.approx(value, rel=1e-11, abs=1e-11)
    assert (W * xp.host(dW)).sum() == pytest.approx(value, rel=1e-11, abs=1e-11)


@on_each
@given(
    given_layer=weighted(),
    update=UPDATES,
    seed=seeds,
    steps=st.integers(1, 4),
    plasticity=st.sampled_from(["error", "none"]),
)
def test_a_synapse_that_does_not_exist_stays_zero_under_every_update(
    engine, on, given_layer, update, seed, steps, plasticity
):
    """Momentum and decay included; the other synapses go on learning."""
    rule = {"defaults": {"update": update}, "layers": {"h": {"plasticity": plasticity}}}
    net, rng = node_of(engine, on, *given_layer, **rule), np.random.default_rng(seed)
    weights = net.nodes[0].weights
    mask = rng.integers(0, 2, tuple(weights.W.shape)).astype(float)
    weights.mask = net.xp.array(mask)
    weights.W[...] = net.xp.array(net.xp.host(weights.W) * mask)
    for step in range(steps):
        if plasticity == "error":
            net.nodes[0].keep = 1.0
            weights.dW[...] = net.xp.array(rng.standard_normal(mask.shape))
        x = rng.standard_normal((2, *given_layer[1]))
        before = net.xp.host(weights.W)
        if step:
            net.accumulate(engine.batch(net, x, rng.integers(0, 3, 2)))
        net.update()
        after = net.xp.host(weights.W)
        assert not after[mask == 0].any()
        if plasticity == "error" and not step:
            assert (after != before)[mask == 1].all()


@on_each
@given(
    channel=st.sampled_from(["bp", "usf", "nusf", "brsf", "frsf", {"recipe": "brsf_p", "p": 0.0}]),
    update=UPDATES,
    norm=st.sampled_from(["none", "batch"]),
    updates=st.integers(0, 3),
    per_update=st.integers(1, 2),
    seed=seeds,
)
@settings(max_examples=40)
def test_the_signs_of_V_are_those_of_W_after_any_number_of_updates(
    engine, on, channel, update, norm, updates, per_update, seed
):
    layers = [
        {"c": {"conv": 2, "kernel": 2}},
        "norm",
        "relu",
        {"t": {"conv_transposed": 2, "kernel": 2}},
        "norm",
        "tanh",
        "flatten",
        {"out": {"dense": 3}},
    ]
    rule = {
        "defaults": {"channel": channel, "update": update, "norm": norm},
        "training": {"batches_per_update": per_update},
    }
    net, rng = engine.net(layers, (1, 3, 3), on=on, seed=seed, **rule), np.random.default_rng(seed)
    for _ in range(updates):
        for _ in range(per_update):
            net.accumulate(engine.batch(net, rng.standard_normal((3, 1, 3, 3)), rng.integers(0, 3, 3)))
        net.update()
    assert net.updates == updates
    for node in net.nodes:
        np.testing.assert_array_equal(np.sign(net.xp.host(node.V)), np.sign(net.xp.host(node.W)), err_msg=node.name)


@st.composite
def stacks(draw, depth=2):
    """A random stack on maps of four channels: convolutions, norms, pools, blocks; one size throughout."""
    names = iter(f"l{k}" for k in range(99))
    acts = ["relu", "tanh", "identity", "affine"]

    def path(depth, most):
        found = []
        for _ in range(draw(st.integers(0, most))):
            kind = draw(st.sampled_from(["conv", "conv", "transposed", "pool", "act", "residual"][: 6 if depth else 5]))
            if kind == "act":
                found.append(draw(st.sampled_from(["relu", "tanh"])))
            elif kind == "pool":
                pool = draw(st.sampled_from(["maxpool", "avgpool"]))
                found.append({pool: {"size": 3, "stride": 1, "pad": 1}})
            elif kind == "residual":
                block = {"residual": path(depth - 1, 2)}
                if draw(st.booleans()):
                    block["shortcut"] = path(depth - 1, 1)
                found.append({next(names): block})
            else:
                layer = (
                    {"conv": 4, "kernel": 3, "pad": "half"}
                    if kind == "conv"
                    else {"conv_transposed": 4, "kernel": 3, "pad": 1}
                )
                found.append({next(names): layer})
                found += ["norm"] * draw(st.integers(0, 1)) + draw(
                    st.lists(st.sampled_from(acts), max_size=2, unique=True)
                )
        return found

    return [{"first": {"conv": 4, "kernel": 1}}, *path(depth, 4), "flatten", {"out": {"dense": 3}}]


@on_each
@given(
    layers=stacks(),
    norm=st.sampled_from(["none", "batch"]),
    loss=st.sampled_from(["softmax_cross_entropy", "squared_error"]),
    seed=seeds,
)
@settings(max_examples=40)
def test_every_stack_learns_its_gradient(engine, on, layers, norm, loss, seed):
    """Whatever stands on whatever, in blocks too: dW along a random direction is the slope of the loss."""
    net, rng = (
        engine.net(layers, (2, 3, 4), on=on, seed=seed, loss=loss, defaults={"norm": norm}),
        np.random.default_rng(seed),
    )
    engine.shake(net)
    x, y = rng.standard_normal((5, 2, 3, 4)), rng.integers(0, 3, 5)
    batch = engine.batch(net, x, y)
    net.accumulate(batch)
    np.testing.assert_array_equal(net.xp.host(batch.x), x)
    parameters = list(net.parameters())
    assert len(parameters) == len(engine.W(net))  # no two arrays under one name
    assert len(net.state) == sum(1 for unit in (*net.learners, *net.norms) for _ in unit.state())
    steps = [1e-6 * rng.standard_normal(tuple(p.W.shape)) for p in parameters]
    slope = sum((net.xp.host(p.dW) * step).sum() for p, step in zip(parameters, steps, strict=True))

    def moved(share):
        with net.xp.scope():
            for p, step in zip(parameters, steps, strict=True):
                p.W += net.xp.array(share * step)
            signals, _ = net.pass_.forward(batch, At(batch=0))
            return float(net.loss.error(net.xp, signals, batch)[0])

    above = moved(1.0)
    below = moved(-2.0)
    assert slope == pytest.approx((above - below) / 2, rel=1e-4, abs=1e-11 * max(1.0, abs(above)))


@on_each
@given(layers=stacks(), norm=st.sampled_from(["none", "batch"]), seed=seeds)
@settings(max_examples=25)
def test_one_batch_in_parts_is_one_batch(engine, on, layers, norm, seed):
    """The error of a sample depends on no other, unless a norm lets them meet; and dW adds up over samples."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((4, 2, 3, 4)), rng.integers(0, 3, 4)
    whole, parts = (engine.net(layers, (2, 3, 4), on=on, seed=seed, defaults={"norm": norm}) for _ in range(2))
    whole.accumulate(engine.batch(whole, x, y))
    if norm == "batch":  # twice the same batch instead: statistics do not change
        parts.accumulate(engine.batch(parts, np.concatenate([x, x]), np.concatenate([y, y])))
        factor = 2
    else:
        for n in range(4):
            parts.accumulate(engine.batch(parts, x[n : n + 1], y[n : n + 1]))
        factor = 1
    found = engine.dW(parts)
    for name, dW in engine.dW(whole).items():
        np.testing.assert_allclose(
            found[name], factor * dW, rtol=1e-8, atol=1e-10 * (1 + np.abs(dW).max()), err_msg=name
        )
