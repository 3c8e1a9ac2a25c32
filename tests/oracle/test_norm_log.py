"""What the log gets of a norm: its statistics in every unit, at every visit, and the price on activity."""

from __future__ import annotations

import numpy as np
import pytest

from bioplaus.config import Every
from bioplaus.config.schema import Record
from bioplaus.construct import make
from bioplaus.parts import LEARN
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
    assert len(rows) == bool(shown)
    for name, value in shown.items():
        np.testing.assert_array_equal(net.xp.host(rows[0][name]), value)
    recorder.flush(net.xp)
