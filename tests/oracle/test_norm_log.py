"""What the log gets of a norm: its statistics in every unit, at every visit, and the price on activity."""

from __future__ import annotations

import numpy as np
import pytest

from bioplaus.config import Every
from bioplaus.config.schema import Record
from bioplaus.construct import make
from bioplaus.parts import LEARN, LOOK, TEST
from bioplaus.record import Log
from bioplaus.record.layout import TABLES
from bioplaus.train.listeners import Moment
from bioplaus.train.recorder import Recorder

SHAPE = (2, 3, 3)
SEVERAL = {"batch": {}, "streaming": {"per_visit": True}}
UNITS = {"batch": (2,), "neuronwise": (18,), "batch_star": (2,), "streaming": (2,), "streaming_l1": (2,), "lp": (2,)}


@pytest.mark.parametrize("recipe", UNITS)
def test_statistics_are_rows_of_units_led_by_visits_where_there_are_several(backends, rng, recipe):
    xp, norm = backends(dtype="float64"), make("norm", recipe)
    for visits in (1, 3):
        state = norm.init(xp, SHAPE, visits)
        x = rng.standard_normal((4, *SHAPE))
        for visit in range(visits):
            with xp.scope():
                norm.forward(xp, xp.array(x * (1 + visit)), state, LEARN._replace(visit=visit))
        stores = () if visits == 1 or recipe.startswith("streaming") else (visits,)
        looks = norm.looks(state)
        axes = 0 if recipe == "neuronwise" else (0, 2, 3)
        means = [(x * (1 + visit)).mean(axes).ravel() for visit in range(visits)]
        for name, value in looks.items():
            assert name in TABLES["layers/*/norm"]
            if name == "penalty":
                prices = [
                    norm.l1 * abs(x - x.mean(axes, keepdims=True)).mean() * (1 + visit) for visit in range(visits)
                ]
                np.testing.assert_allclose(xp.host(value), prices if visits > 1 else prices[0], rtol=1e-11)
            else:
                assert tuple(value.shape) == (*stores, *UNITS[recipe]), name
        wanted = np.mean(means, 0) if recipe.startswith("streaming") else means[0] if visits == 1 else means
        np.testing.assert_allclose(xp.host(looks["mean"]), wanted, rtol=1e-11)


def of_samples(recipe, x, eps=1e-5):
    """(mean, sigma) averaged over samples, from numpy's own moments; x (N, C, H, W) or (N, groups, units)."""
    axes = (2, 3) if recipe == "instance" else tuple(range(1, x.ndim)) if x.ndim == 4 else 2
    return x.mean(axes).reshape(len(x), -1).mean(0), np.sqrt(x.var(axes) + eps).reshape(len(x), -1).mean(0)


@pytest.mark.parametrize(("recipe", "shape"), [("layer", SHAPE), ("instance", SHAPE), ("layer", (6,))])
def test_statistics_of_each_sample_are_shown_as_averages_over_samples(backends, rng, recipe, shape):
    """At every visit; of the latest batch that was learned from, and nothing before there is one."""
    xp, norm = backends(dtype="float64"), make("norm", recipe)
    groups = 2 if shape == (6,) else 1
    state, x = norm.init(xp, shape, 3, groups), rng.standard_normal((2, 3, 5, *shape))
    assert norm.looks(state) == {}
    with xp.scope():
        for batch in x:
            for visit, now in enumerate(batch):
                norm.forward(xp, xp.array(now), state, LEARN._replace(visit=visit))
        for at in (TEST, LOOK):
            norm.forward(xp, xp.array(7.0 * x[0, 0]), state, at)
    split = [now.reshape(5, groups, -1) if groups > 1 else now for now in x[1]]
    wanted = [np.stack(value) for value in zip(*(of_samples(recipe, now) for now in split), strict=True)]
    looks = norm.looks(state)
    assert set(looks) == {"mean", "sigma"} <= set(TABLES["layers/*/norm"])
    np.testing.assert_allclose(xp.host(looks["mean"]), wanted[0], rtol=1e-11)
    np.testing.assert_allclose(xp.host(looks["sigma"]), wanted[1], rtol=1e-11)
    norm.loaded(state)
    assert norm.looks(state) == {}
    with xp.scope():
        norm.forward(xp, xp.array(x[1, 1]), state, LEARN._replace(visit=1))
    looks = norm.looks(state)
    for name, value in (("mean", wanted[0]), ("sigma", wanted[1])):
        found = xp.host(looks[name])
        np.testing.assert_allclose(found[1], value[1], rtol=1e-11)
        assert np.isnan(found[[0, 2]]).all()


@pytest.mark.parametrize("cell", [{"rnn": 4}, {"gru": 4}])
@pytest.mark.parametrize("on", ["numpy", "torch"])
def test_steps_put_together_as_samples_are_shown_apart(engine, rng, cell, on):
    """The product of the input is normalized at all steps in one go; its rows are those of every step."""
    net = engine.net([{"c": cell}, {"o": {"dense": 3}}], (6,), on=on, over=3, defaults={"norm": "layer"})
    x = rng.standard_normal((3, 5, 6))
    net.accumulate(engine.batch(net, x, rng.integers(0, 3, (3, 5))))
    (site,) = [site for site in net.norms if site.name == "c.x"]
    W, gates = engine.W(net)["c.x.W"], 1 if "rnn" in cell else 3
    products = (x @ W).reshape(3, 5, gates, 4)
    shown = {name: net.xp.host(value) for name, value in site.norm.looks(site.stats).items()}
    wanted = zip(*(of_samples("layer", now) for now in products), strict=True)
    for name, value in zip(("mean", "sigma"), wanted, strict=True):
        np.testing.assert_allclose(shown[name], np.stack(value), rtol=1e-10)


@pytest.mark.parametrize("recipe", SEVERAL)
def test_a_visit_that_no_batch_has_made_is_not_a_number(backends, rng, recipe):
    xp, norm = backends(dtype="float64"), make("norm", {"recipe": recipe, **SEVERAL[recipe]})
    state, x = norm.init(xp, SHAPE, 3), rng.standard_normal((4, *SHAPE))
    with xp.scope():
        for visit in (0, 2):
            norm.forward(xp, xp.array(x), state, LEARN._replace(visit=visit))
        for _ in range(2):  # before the update, and behind it
            for name, value in norm.looks(state).items():
                assert np.isfinite(xp.host(value)).all(1).tolist() == [True, False, True], name
            norm.updated(xp, state)


def test_the_price_on_plain_activity_has_a_row_for_every_visit(backends, rng):
    xp, norm = backends(dtype="float64"), make("norm", {"recipe": "l1", "l1": 0.5})
    state, x = norm.init(xp, SHAPE, 2), rng.standard_normal((2, 4, *SHAPE))
    with xp.scope():
        for visit in range(2):
            norm.forward(xp, xp.array(x[visit]), state, LEARN._replace(visit=visit))
    np.testing.assert_allclose(xp.host(norm.looks(state)["penalty"]), 0.5 * abs(x).mean((1, 2, 3, 4)), rtol=1e-12)


@pytest.mark.parametrize("norm", ["streaming", {"recipe": "batch_star", "l1": 0.5}, "layer", "l1"], ids=str)
@pytest.mark.parametrize("on", ["numpy", "torch"])
def test_the_recorder_writes_what_a_norm_shows(engine, rng, norm, on):
    layers = [{"h": {"dense": 4}}, "norm", "relu", {"o": {"dense": 3}}]
    net = engine.net(layers, (6,), on=on, defaults={"norm": norm})
    batch = engine.batch(net, rng.standard_normal((5, 6)), rng.integers(0, 3, 5))
    log = Log()
    recorder = Recorder(log, Record(norm=Every(1, "update")), batch, net.true_gradient)
    net.accumulate(batch)
    shown = {name: net.xp.host(value) for name, value in net.norms[0].norm.looks(net.norms[0].stats).items()}
    recorder.updating(net, batch, Moment(0, 0, 0, 0, 1))
    net.update()  # what was shown is what there was before
    rows = [row for table, row in recorder.waiting if table == "layers/h/norm"]
    assert len(rows) == 1
    for name, value in shown.items():
        np.testing.assert_array_equal(net.xp.host(rows[0][name]), value)
    recorder.flush(net.xp)
