"""What a generative network shows and what the log says of it, against the two-layer model written out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from bioplaus import assemble, config, rendering
from bioplaus.backend.streams import Stream
from bioplaus.config import Every
from bioplaus.config.schema import Record
from bioplaus.errors import ConfigError, DataError
from bioplaus.record import Log
from bioplaus.rendering import LayerPath
from bioplaus.train.listeners import Moment
from bioplaus.train.recorder import Recorder

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
SHAPE, CLASSES = (2, 4, 6), 3
LAYERS = [{"c": {"conv": 3, "kernel": 3, "pad": "half"}}, "relu", {"maxpool": 2}, "flatten", {"out": {"dense": 3}}]
EPOCH = Record(rendering=Every(1, "epoch"), templates=Every(2, "epoch"), activity=None)


def built(engine, on="numpy", layers=LAYERS, order="generative", norm="none"):
    pytest.importorskip(on)
    rule = {"rule": "tested", "defaults": {"norm": norm, "update": {"recipe": "sgd", "rate": 0.1}}}
    network = {"network": "tiny", "input": list(SHAPE), "pass": order, "layers": layers}
    xp = assemble.array_library(on, dtype="float64", threads=1)
    net = assemble.assembled(config.load(rule, network=network), classes=CLASSES, xp=xp)
    engine.shake(net)
    return net


def drawn(n=7):
    return np.random.default_rng(3).standard_normal((n, *SHAPE))


def by_hand(engine, net, images):
    """(class inferred, y of the conv, what out is given, u of the conv, reconstruction) of every image."""
    W = engine.W(net)
    found = []
    for image in images:
        wide = np.pad(image, ((0, 0), (1, 1), (1, 1)))
        y, pooled, won = np.zeros((3, 4, 6)), np.zeros((3, 2, 3)), {}
        for o, r, k in product(range(3), range(4), range(6)):
            y[o, r, k] = max(0.0, (W["c.W"][o] * wide[:, r : r + 3, k : k + 3]).sum() + W["c.b"].ravel()[o])
        for o, r, k in product(range(3), range(2), range(3)):
            window = y[o, 2 * r : 2 * r + 2, 2 * k : 2 * k + 2]
            pooled[o, r, k] = window.max()
            i, j = divmod(int(window.argmax()), 2)
            won[o, r, k] = 2 * r + i, 2 * k + j
        label = int((pooled.ravel() @ W["out.W"] + W["out.b"]).argmax())
        z, u = W["out.W"][:, label].reshape(3, 2, 3), np.zeros((3, 4, 6))
        for (o, r, k), (i, j) in won.items():
            u[o, i, j] = z[o, r, k] * (y[o, i, j] > 0)
        drawn = np.zeros((2, 6, 8))
        for o, r, k in product(range(3), range(4), range(6)):
            drawn[:, r : r + 3, k : k + 3] += u[o, r, k] * W["c.W"][o]
        found.append((label, y, pooled.ravel(), u, drawn[:, 1:-1, 1:-1]))
    return [np.array(each) for each in zip(*found, strict=True)]


# -- the log ---------------------------------------------------------------------------------
def logged(net, batch, record, epochs=2):
    log = Log()
    recorder = Recorder(log, record, batch, net.true_gradient)
    for epoch in range(1, epochs + 1):
        recorder.epoch_ended(net, Moment(epoch, 0, 0, 0, 1), {})
    found = {}
    for table, row in recorder.waiting:
        found.setdefault(table, []).append({name: net.xp.host(value) for name, value in row.items() if name != "step"})
    recorder.flush(net.xp)
    return found


@on_each
def test_the_log_has_the_use_of_switches_and_what_layers_predict(engine, on):
    net, images = built(engine, on), drawn()
    label, y, pooled, _, reconstruction = by_hand(engine, net, images)
    found = logged(net, engine.batch(net, images, np.zeros(7, int)), EPOCH)
    assert {table: len(rows) for table, rows in found.items()} == {
        "layers/c/rendering": 2,
        "layers/out/rendering": 2,
        "templates": 1,
    }
    conv, out = found["layers/c/rendering"][0], found["layers/out/rendering"][0]
    np.testing.assert_allclose(conv["use"], (y > 0).mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(out["use"], np.ones(3))
    assert conv["error"] == pytest.approx(((images - reconstruction) ** 2).mean(), rel=1e-12)
    mu = engine.W(net)["out.W"].T[label]
    assert out["error"] == pytest.approx(((pooled - mu) ** 2).mean(), rel=1e-12)
    (table,) = found["templates"]
    for c in range(CLASSES):
        mine = reconstruction[label == c]
        assert table["found"][c] == len(mine)
        np.testing.assert_allclose(table["image"][c], mine.mean(0) if len(mine) else np.zeros(SHAPE), atol=1e-12)
    assert (table["found"] > 0).sum() > 1


def test_the_log_has_nothing_of_it_where_nothing_is_rendered_or_asked_for(engine):
    net, images = built(engine), drawn()
    batch = engine.batch(net, images, np.zeros(7, int))
    assert logged(net, batch, Record(rendering=None, templates=None, activity=None)) == {}
    assert logged(built(engine, order="feedforward"), batch, EPOCH) == {}


def test_a_look_leaves_no_trace(engine):
    net = built(engine, layers=[LAYERS[0], "norm", *LAYERS[1:]], norm={"recipe": "batch", "affine": True})
    before = {name: value.copy() for name, value in engine.state(net).items()}
    logged(net, engine.batch(net, drawn(), np.zeros(7, int)), EPOCH)
    for name, value in engine.state(net).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


# -- what is shown ---------------------------------------------------------------------------
@on_each
def test_a_survey_counts_over_batches(engine, on):
    net, images = built(engine, on), drawn()
    label, _, _, _, reconstruction = by_hand(engine, net, images)
    again = by_hand(engine, net, reconstruction)[0]
    batches = [engine.batch(net, part, np.zeros(len(part), int)) for part in (images[:4], images[4:])]
    survey = rendering.survey(net, batches)
    assert survey.samples == 7
    assert survey.error == pytest.approx(((images - reconstruction) ** 2).mean(), rel=1e-12)
    assert survey.power == pytest.approx((images**2).mean(), rel=1e-12)
    assert survey.same == pytest.approx((again == label).mean())
    np.testing.assert_array_equal(survey.found, np.bincount(label, minlength=CLASSES))
    with pytest.raises(DataError, match="no images"):
        rendering.survey(net, [])


@on_each
def test_switches_have_their_chances_given_the_class(engine, on):
    """By hand, over two batches; a class that was never inferred has none."""
    net, images = built(engine, on), drawn()
    net.nodes[-1].bias.W[..., 2] -= 100.0  # dies
    label, y, *_ = by_hand(engine, net, images)
    assert sorted(set(label.tolist())) == [0, 1]
    won = np.zeros_like(y)
    for n, o, r, k in product(range(7), range(3), range(2), range(3)):
        i, j = divmod(int(y[n, o, 2 * r : 2 * r + 2, 2 * k : 2 * k + 2].argmax()), 2)
        won[n, o, 2 * r + i, 2 * k + j] = 1.0
    batches = [engine.batch(net, part, np.zeros(len(part), int)) for part in (images[:4], images[4:])]
    survey = rendering.survey(net, batches)
    for c, given in enumerate(survey.given):
        np.testing.assert_array_equal(given.classes, np.eye(CLASSES)[c])
        mine = label == c
        for switch, expected in zip(given.switches, (won[mine], y[mine] > 0), strict=True):
            np.testing.assert_allclose(switch, expected.mean(0) if mine.any() else np.zeros(y.shape[1:]))
    for pooled, *each in zip(survey.usage.switches, *(given.switches for given in survey.given), strict=True):
        np.testing.assert_allclose(pooled, np.tensordot(survey.usage.classes, each, 1))


@on_each
def test_samples_of_a_class_have_the_chances_given_it(engine, on):
    """With one image of a class its switches are sure, so every sample is its reconstruction."""
    net, images = built(engine, on), drawn()
    label, _, _, _, reconstruction = by_hand(engine, net, images)
    two = [int(np.flatnonzero(label == c)[0]) for c in sorted(set(label.tolist()))[:2]]
    given = rendering.survey(net, [engine.batch(net, images[two], np.zeros(2, int))]).given
    for i in two:
        labels, samples = rendering.sample(net, 3, Stream(0), given[label[i]])
        assert labels.tolist() == [label[i]] * 3
        np.testing.assert_allclose(samples, np.stack([reconstruction[i]] * 3), atol=1e-12)


def test_the_fewest_units_that_carry_a_share():
    activity = np.array([[[1.0, -2.0], [0.0, 4.0]], [[3.0, 0.0], [0.5, 0.5]]])
    path = LayerPath("c", activity, activity, np.full((2, 2, 2), -1.0))  # of 11: 4, 3, 2, 1, 0.5, 0.5
    for share, least in ((0.1, 4.0), (4.0 / 11, 4.0), (0.5, 3.0), (0.9, 1.0), (0.94, 0.5), (1.0, 0.5)):
        units = path.carrying(share)
        assert np.abs(path.contribution[units]).sum() >= share * 11 - 1e-12
        assert np.abs(path.contribution[units]).min() == least
    assert path.carrying(0.94).sum() == 5 and path.carrying(1.0).sum() == 6  # of two alike, one
    assert not LayerPath("c", activity, activity, np.zeros((2, 2, 2))).carrying(0.9).any()


def test_what_the_units_with_most_of_it_carry():
    activity = np.array([[[1.0, -2.0], [0.0, 4.0]], [[3.0, 0.0], [0.5, 0.5]]])
    path = LayerPath("c", activity, np.zeros(8).reshape(2, 2, 2), np.full((2, 2, 2), -1.0))
    assert path.active.sum() == 6
    assert path.carried(0.01) == pytest.approx(4 / 11)  # one at least
    assert path.carried(0.25) == pytest.approx(7 / 11)
    assert path.carried(0.26) == pytest.approx(9 / 11)  # no fewer than the share
    assert path.carried(1.0) == pytest.approx(1.0)
    assert repr(path) == "<c: 8 units, 6 active>"
    assert LayerPath("c", activity, activity, np.zeros((2, 2, 2))).carried() == 0.0


@on_each
def test_a_unit_alone_draws_its_filter(engine, on):
    net = built(engine, on)
    found = rendering.filters(net)
    assert found.shape == (3, 2, 3, 3)
    for unit in range(3):
        z = np.zeros((1, 3, 4, 6))
        z[0, unit, 1, 2] = 1.0
        with net.xp.scope():
            image = net.xp.host(net.nodes[0].map.down(net.xp.array(z), net.nodes[0].W))[0]
        np.testing.assert_allclose(image[:, 0:3, 1:4], found[unit])
        assert np.abs(image).sum() == pytest.approx(np.abs(found[unit]).sum())
    dense = built(engine, on, ["flatten", {"h": {"dense": 5}}, "relu", {"out": {"dense": 3}}])
    found = rendering.filters(dense)
    np.testing.assert_array_equal(found[4].ravel(), engine.W(dense)["h.W"][:, 4])
    assert found.shape == (5, *SHAPE)


@pytest.mark.parametrize(
    "first",
    [
        ["globalmeanpool", {"h": {"dense": 5}}],
        [{"maxpool": 2}, {"h": {"conv": 5, "kernel": 1}}],  # what a unit adds is spread over the windows
        [{"h": {"conv_transposed": 2, "kernel": 3}}],  # its weights (2, 2, 3, 3) would pass for filters
    ],
    ids=["mean", "pooled", "transposed"],
)
def test_a_layer_that_draws_no_images_has_no_filters(engine, first):
    assert rendering.filters(built(engine, layers=[*first, "relu", "flatten", {"out": {"dense": 3}}])) is None


def test_a_network_that_renders_nothing_has_no_filters(engine):
    with pytest.raises(ConfigError, match="renders nothing"):
        rendering.filters(built(engine, order="feedforward"))


def test_a_climb_from_given_images_ends_no_lower_than_the_best_of_them(engine):
    net, images = built(engine), drawn()
    long = images * (5.0 / np.sqrt((images**2).sum((1, 2, 3), keepdims=True)))
    for c in range(CLASSES):
        image, outputs = rendering.liked(net, c, Stream(0), rounds=6, length=5.0, images=images)
        assert (image**2).sum() == pytest.approx(25.0)
        np.testing.assert_allclose(outputs[0], net.xp.host(net.predict(net.xp.array(long)))[:, c])
        assert float(net.predict(net.xp.array(image[None]))[0, c]) == pytest.approx(outputs.max())
        assert outputs.max() >= outputs[0].max()
