"""Clustering regularisers, by loops over rows, by finite differences, and by autograd within a network."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bioplaus import assemble
from bioplaus.backend.streams import Stream
from bioplaus.construct import make
from bioplaus.errors import ConfigError, ShapeError
from bioplaus.parts import LEARN, LOOK, Batch

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
KINDS = ("sample", "spatial", "channel")
every_kind = pytest.mark.parametrize("kind", KINDS)
N, SHAPE = 7, (3, 4, 2)
C, H, W = SHAPE


def library(on):
    if on == "torch":
        pytest.importorskip("torch")
    return assemble.array_library(on, dtype="float64", threads=1)


def placed(xp, kind, shape=SHAPE, **parameters):
    loss = make("loss", {"recipe": f"{kind}_clustering", "layer": "c", **parameters})
    return loss, loss.init(xp, {"c.n": shape}, Stream(0))


def rows_of(kind, y):
    """{row: the places of y that it is made of}, written out; which way a row is laid out is the part's own affair."""
    n, c, h, w = (range(size) for size in y.shape)
    if kind == "sample":
        return [[(i, k, a, b) for k, a, b in itertools.product(c, h, w)] for i in n]
    if kind == "spatial":
        return [[(i, k, a, b) for k in c] for i, a, b in itertools.product(n, h, w)]
    return [[(i, k, a, b) for a, b in itertools.product(h, w)] for i, k in itertools.product(n, c)]


def centre_rows(xp, loss, state, kind, shape=SHAPE):
    """The centres, each in the order in which ``rows_of`` lists a row."""
    if kind != "sample":
        return xp.host(state["centres"])
    one = np.zeros((1, *shape))
    (places,) = rows_of(kind, one)
    maps = [xp.host(loss.folded(centre[None], xp.array(one))) for centre in state["centres"]]
    return np.array([[map[place] for place in places] for map in maps])


def regulariser(kind, y, centres, weight=None):
    """(N R, its gradient at y, nearest centre of every row, R's rows) by loops."""
    value, gradient, nearest = 0.0, np.zeros(y.shape), []
    size = y[0].size
    for places in rows_of(kind, y):
        row = np.array([y[p] for p in places])
        away = [((row - centre) ** 2).sum() for centre in centres]
        z = int(np.argmin(away))
        nearest.append(z)
        w = 1.0 if weight is None else weight[places[0][0]]
        value += w * away[z] / (2 * size)
        for p, centre in zip(places, centres[z], strict=True):
            gradient[p] = w * (y[p] - centre) / size
    return value, gradient, nearest


@pytest.mark.parametrize("weight", [None, (1.0, 0.0, 2.0, 1.0, 1.0, 0.5, 1.0)], ids=["alike", "weighted"])
@every_kind
@on_each
def test_value_and_error_by_loops(kind, weight, on, rng):
    """With centres as they are: a look, as in testing."""
    xp = library(on)
    loss, state = placed(xp, kind, centres=4)
    state["centres"][...] = xp.array(rng.standard_normal(tuple(state["centres"].shape)))
    y = rng.standard_normal((N, *SHAPE))
    expected, gradient, _ = regulariser(kind, y, centre_rows(xp, loss, state, kind), weight)
    batch = Batch(None, None, None if weight is None else xp.array(weight))
    with xp.scope():
        value, errors = loss.error(xp, {"c.n": xp.array(y)}, batch, state, LOOK)
    assert float(value) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(xp.host(errors["c.n"]), gradient, rtol=1e-11, atol=1e-14)


@every_kind
@on_each
def test_centres_move_to_the_mean_of_their_rows_before_the_error_is_taken(kind, on, rng):
    xp = library(on)
    loss, state = placed(xp, kind, centres=5, memory=0.3)
    state["centres"][...] = xp.array(rng.standard_normal(tuple(state["centres"].shape)))
    state["centres"][4] = 100.0  # far from everything
    y = rng.standard_normal((N, *SHAPE))
    old = centre_rows(xp, loss, state, kind)
    _, _, nearest = regulariser(kind, y, old)
    rows = np.array([[y[p] for p in places] for places in rows_of(kind, y)])
    expected = old.copy()
    for k in range(5):
        mine = rows[np.array(nearest) == k]
        if len(mine):
            expected[k] = 0.3 * old[k] + 0.7 * mine.mean(0)
    with xp.scope():
        value, errors = loss.error(xp, {"c.n": xp.array(y)}, Batch(None, None), state, LEARN)
    np.testing.assert_allclose(centre_rows(xp, loss, state, kind), expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(centre_rows(xp, loss, state, kind)[4], 100.0)  # nobody came: it stays
    np.testing.assert_array_equal(xp.host(state["got"])[:, 0], np.bincount(nearest, minlength=5))
    away = rows - expected[nearest]
    assert float(value) == pytest.approx((away**2).sum() / (2 * C * H * W), rel=1e-12)
    found = xp.host(errors["c.n"])
    for places, row in zip(rows_of(kind, y), away / (C * H * W), strict=True):
        np.testing.assert_allclose([found[p] for p in places], row, rtol=1e-10, atol=1e-13)


@every_kind
@on_each
def test_assigning_and_moving_never_raise_the_regulariser(kind, on, rng):
    xp = library(on)
    loss, state = placed(xp, kind, centres=4, memory=0.6)
    y = xp.array(rng.standard_normal((N, *SHAPE)))
    signals, batch = {"c.n": y}, Batch(None, None)
    with xp.scope():
        loss.begin_epoch(xp, signals, batch, state, Stream(1))
        values = [float(loss.error(xp, signals, batch, state, LOOK)[0])]
        for _ in range(12):
            values.append(float(loss.error(xp, signals, batch, state, LEARN)[0]))  # moved, as assigned before
            values.append(float(loss.error(xp, signals, batch, state, LOOK)[0]))  # assigned anew
    assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(values))
    assert values[-1] < 0.9 * values[0]


@every_kind
@on_each
def test_unfolding_and_folding_back(kind, on, rng):
    xp = library(on)
    loss, state = placed(xp, kind)
    width = {"sample": C * H * W, "spatial": C, "channel": H * W}[kind]
    assert state["centres"].shape[1] == width
    for leading in ((N,), (2, N)):
        y = rng.standard_normal((*leading, *SHAPE))
        given = xp.array(y)
        rows = loss.rows(given, width)
        assert tuple(rows.shape) == (y.size // width, width)
        np.testing.assert_array_equal(xp.host(loss.folded(rows, given)), y)
    flat, _ = placed(xp, "sample", (6,))
    y = xp.array(rng.standard_normal((N, 6)))
    np.testing.assert_array_equal(xp.host(flat.folded(flat.rows(y, 6), y)), xp.host(y))


def test_on_vectors_places_are_samples_and_there_are_no_maps(rng):
    xp = library("numpy")
    y = {"c.n": rng.standard_normal((N, 6))}
    found = []
    for kind in ("sample", "spatial"):
        loss, state = placed(xp, kind, (6,), centres=3)
        state["centres"][...] = y["c.n"][:3]
        found.append(loss.error(xp, y, Batch(None, None), state, LEARN)[1]["c.n"])
    np.testing.assert_array_equal(*found)
    with pytest.raises(ShapeError, match=r"layer 'c' gives 6 numbers, no maps \(C, H, W\)"):
        placed(xp, "channel", (6,))


@on_each
def test_centres_with_too_few_rows_are_put_on_rows_of_the_batch(on, rng):
    xp = library(on)
    loss, state = placed(xp, "spatial", centres=6)  # fewer than 10 is too few, as in the source
    y = rng.standard_normal((N, *SHAPE))
    rows = {tuple(y[i, :, a, b]) for i, a, b in itertools.product(range(N), range(H), range(W))}
    signals, batch = {"c.n": xp.array(y)}, Batch(None, None)
    with xp.scope():
        loss.begin_epoch(xp, signals, batch, state, Stream(1))  # of a run: nobody has got any
        first = xp.host(state["centres"])
        assert len({tuple(row) for row in first}) == 6 and {tuple(row) for row in first} <= rows
        state["got"][...] = xp.array([[10.0], [9.0], [11.0], [0.0], [10.0], [50.0]])
        state["centres"][0] = 3.0
        before = xp.host(state["centres"])
        loss.begin_epoch(xp, signals, batch, state, Stream(1).at(1))
    after = xp.host(state["centres"])
    np.testing.assert_array_equal(after[[0, 2, 4, 5]], before[[0, 2, 4, 5]])
    for k in (1, 3):
        assert tuple(after[k]) in rows and tuple(after[k]) != tuple(before[k])
    assert not xp.host(state["got"]).any()
    with xp.scope():
        state["got"][...] = 10.0
        loss.begin_epoch(xp, signals, batch, state, Stream(1).at(2))
    np.testing.assert_array_equal(xp.host(state["centres"]), after)


def test_rows_far_from_every_centre_are_drawn_more_often():
    """One draw, many times: the chance is the squared distance to the nearest centre that stays."""
    xp = library("numpy")
    y = np.array([[0.0], [1.0], [2.0], [11.0]])
    loss, state = placed(xp, "sample", (1,), centres=3)
    counts = np.zeros(4)
    for trial in range(3000):
        state["centres"][...] = [[0.0], [10.0], [-50.0]]
        state["got"][...] = [[10.0], [10.0], [0.0]]
        loss.begin_epoch(xp, {"c.n": y}, Batch(None, None), state, Stream(trial))
        counts[int(np.flatnonzero(y[:, 0] == state["centres"][2, 0])[0])] += 1
    expected = np.array([0.0, 1.0, 4.0, 1.0]) / 6
    assert np.abs(counts / 3000 - expected).max() < 4 * np.sqrt(0.25 / 3000)
    assert counts[0] == 0


def test_a_batch_with_fewer_rows_than_centres_fills_as_many_as_it_can(rng):
    xp = library("numpy")
    loss, state = placed(xp, "sample", (5,), centres=4)
    y = rng.standard_normal((3, 5)) + 10.0
    loss.begin_epoch(xp, {"c.n": y}, Batch(None, None), state, Stream(0))
    assert sorted(map(tuple, state["centres"][:3])) == sorted(map(tuple, y))
    np.testing.assert_array_equal(state["centres"][3], 0.0)


LAYERS = [
    {"c": {"conv": 3, "kernel": 3}},
    "relu",
    {"maxpool": 2},
    "flatten",
    {"f": {"dense": 4}},
    {"out": {"dense": 3}},
]
IMAGE = (2, 6, 6)


def losses(kind, weight=0.4):
    return {
        "ce": {"recipe": "softmax_cross_entropy"},
        "c": {"recipe": f"{kind}_clustering", "layer": "c", "weight": weight, "centres": 3, "memory": 0.2},
        "f": {"recipe": "sample_clustering", "layer": "f", "weight": 2 * weight, "centres": 2, "memory": 0.2},
    }


def draw(engine, net, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((N, *IMAGE)), rng.integers(0, 3, N)
    return engine.batch(net, x, y), x, y


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@every_kind
@on_each
def test_the_weight_is_lambda_under_both_reductions(engine, plain, kind, reduction, on):
    """d(L + lambda R)/dW with L the mean cross-entropy; under ``sum`` N times that."""
    torch = plain.torch
    net = engine.net(LAYERS, IMAGE, on=on, losses=losses(kind), training={"reduction": reduction})
    engine.shake(net)
    batch, x, y = draw(engine, net, 0)
    net.begin_epoch(batch, 0)
    W = {name: torch.tensor(value, requires_grad=True) for name, value in engine.W(net).items()}
    n1 = torch.nn.functional.conv2d(torch.tensor(x), W["c.W"]) + W["c.b"]
    n2 = torch.nn.functional.max_pool2d(torch.relu(n1), 2).flatten(1) @ W["f.W"] + W["f.b"]
    score = plain.score("softmax_cross_entropy", n2 @ W["out.W"] + W["out.b"], y) / N
    old = {key: net.xp.host(value) for key, value in net.memory.items()}

    value, _ = net.accumulate(batch)
    for name, n, lam, unfold in (("c", n1, 0.4, kind), ("f", n2[:, :, None, None], 0.8, "sample")):
        term = next(t.loss for t in net.loss.terms if t.name == name)
        shape = tuple(n.shape[1:])
        folded = shape if name == "c" else (4,)
        before, after = (
            centre_rows(net.xp, term, {"centres": net.xp.array(m)}, unfold, folded) if name == "c" else m
            for m in (old[f"{name}.centres"], net.xp.host(net.memory[f"{name}.centres"]))
        )
        _, _, nearest = regulariser(unfold, n.detach().numpy(), before)
        rows = torch.stack([torch.stack([n[p] for p in places]) for places in rows_of(unfold, n.detach().numpy())])
        score = score + lam * ((rows - torch.tensor(after)[nearest]) ** 2).sum() / (2 * n.numel())
    score.backward()
    times = N if reduction == "sum" else 1
    assert float(value) == pytest.approx(N * score.item(), rel=1e-11)
    for name, dW in engine.dW(net).items():
        np.testing.assert_allclose(dW, times * W[name].grad, rtol=1e-9, atol=1e-12, err_msg=name)


@on_each
def test_only_learning_moves_the_memory(engine, on):
    net = engine.net(LAYERS, IMAGE, on=on, losses=losses("channel"))
    batch, *_ = draw(engine, net, 0)
    net.begin_epoch(batch, 0)
    net.accumulate(batch)
    before = engine.state(net)
    assert before["loss.c.got"].sum() == N * 3 and before["loss.f.got"].sum() == N
    net.evaluate(batch)
    net.true_gradient(batch)
    net.predict(batch.x)
    net.collect(batch)
    for name, value in engine.state(net).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    net.update()
    net.accumulate(batch)
    assert (engine.state(net)["loss.c.centres"] != before["loss.c.centres"]).any()


@every_kind
def test_backends_agree_over_two_epochs(engine, kind):
    pytest.importorskip("torch")
    nets = [engine.net(LAYERS, IMAGE, on=on, losses=losses(kind)) for on in ("numpy", "torch")]
    for net in nets:
        for epoch in range(2):
            net.begin_epoch(draw(engine, net, epoch)[0], epoch)
            for seed in range(2):
                net.accumulate(draw(engine, net, 2 * epoch + seed)[0])
                net.update(rate=1e-3)
    ours, theirs = (engine.state(net) for net in nets)
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        np.testing.assert_allclose(theirs[name], value, rtol=1e-9, atol=1e-11, err_msg=name)


@on_each
def test_a_network_loaded_within_an_epoch_goes_on_bit_for_bit(engine, on):
    net, fresh = (engine.net(LAYERS, IMAGE, on=on, losses=losses("spatial")) for _ in range(2))

    def go(network, seeds):
        for seed in seeds:
            if seed % 3 == 0:
                network.begin_epoch(draw(engine, network, seed)[0], seed // 3)
            network.accumulate(draw(engine, network, seed)[0])
            network.update(rate=1e-2)

    go(net, range(5))
    fresh.load(engine.state(net), net.counters)
    for network in (net, fresh):
        go(network, range(5, 9))
    for name, value in engine.state(net).items():
        np.testing.assert_array_equal(engine.state(fresh)[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"centres": 0}, "centres is 0; wanted 1 or more"),
        ({"memory": 1.0}, "memory is 1.0; wanted a number from 0 up to, not including, 1"),
        ({"least": -1}, "least is -1; wanted 0 or more"),
    ],
)
def test_parameters_that_cannot_be(given, said):
    with pytest.raises(ConfigError, match=said):
        make("loss", {"recipe": "sample_clustering", "layer": "c", **given})


def test_clustering_maps_of_a_layer_without_maps_names_the_term(engine):
    with pytest.raises(ShapeError, match=r"losses\.wrong: layer 'f' gives 4 numbers"):
        engine.net(LAYERS, IMAGE, losses={"wrong": {"recipe": "channel_clustering", "layer": "f"}})
