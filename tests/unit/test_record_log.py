"""Rows on their way into the log, and what the layout says of them."""

from __future__ import annotations

import numpy as np
import pytest

from bioplaus.errors import RunFailed
from bioplaus.record import Column, Log
from bioplaus.record.layout import TABLES, axes, column


def test_rows_are_copied_at_once_and_stacked() -> None:
    log, mean = Log(), np.zeros(3, "float32")
    for step in range(4):
        mean += 1
        log.add("layers/conv1/norm", step=step, mean=mean, sigma=2 * mean)
    fresh = log.fresh()["layers/conv1/norm"]
    np.testing.assert_array_equal(fresh["mean"], np.repeat([[1], [2], [3], [4]], 3, axis=1))
    assert fresh["mean"].dtype == "float32"
    np.testing.assert_array_equal(fresh["step"], [0, 1, 2, 3])
    assert log.tables["layers/conv1/norm"].rows == 0
    log.committed()
    assert log.fresh() == {}
    assert log.tables["layers/conv1/norm"].rows == 4


def test_a_whole_number_where_the_layout_wants_a_float_is_one() -> None:
    log = Log()
    log.add("metrics/train", step=1, loss=0, loss_kl=1, error=np.float32(3))
    log.add("metrics/train", step=2, loss=0.5, loss_kl=0.25, error=2)
    np.testing.assert_array_equal(log.fresh()["metrics/train"]["loss"], [0, 0.5])


def test_rows_of_different_length_are_filled_up_where_the_layout_allows_it() -> None:
    log = Log()
    log.add("batches", step=0, index=[4, 2])
    log.add("batches", step=1, index=[7, 8, 9])
    np.testing.assert_array_equal(log.fresh()["batches"]["index"], [[4, 2, -1], [7, 8, 9]])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"step": 2, "mean": np.zeros(3)}, "missing: sigma"),
        ({"step": 2, "mean": np.zeros(3), "sigma": np.zeros(3), "skew": 0}, "new: skew"),
        ({"step": 2, "mean": np.zeros(4), "sigma": np.zeros(3)}, r"'mean': shape \(4,\) given, \(3,\) wanted"),
        ({"step": 2.5, "mean": np.zeros(3), "sigma": np.zeros(3)}, "'step': float64 given, int64 wanted"),
        ({"step": 2, "mean": np.zeros(3), "sigma": ["a", "b", "c"]}, "'sigma'"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_leaves_nothing(row: dict[str, object], says: str) -> None:
    log = Log()
    log.add("layers/conv1/norm", step=1, mean=np.zeros(3), sigma=np.zeros(3))
    with pytest.raises(RunFailed, match=says) as error:
        log.add("layers/conv1/norm", **row)
    assert "layers/conv1/norm" in str(error.value)
    assert {name: len(values) for name, values in log.fresh()["layers/conv1/norm"].items()} == {
        "step": 1,
        "mean": 1,
        "sigma": 1,
    }


def test_a_table_needs_a_step() -> None:
    with pytest.raises(RunFailed, match="without 'step'"):
        Log().add("metrics/test", error=1.0)


def test_the_layout_knows_units_and_axes() -> None:
    assert column("layers/block1.conv2/feedback", "angle").units == "degree"
    assert column("metrics/validation", "error").units == "%"
    assert column("metrics/test", "loss_kl").long_name == "loss per sample, term kl before its weight"
    assert column("anything", "draw_seconds") == Column("s", "draw time by the clock on the wall", dtype="float64")
    assert column("layers/fc/memory", "short_term") == Column("1", "short term")
    assert axes("W", column("layers/fc/weights", "W"), 2) == ("in", "out")
    assert axes("W", column("layers/conv/weights", "W"), 4) == ("out", "in", "kh", "kw")
    assert axes("use", column("else", "use"), 2) == ("use_0", "use_1")


def test_every_column_of_the_layout_says_what_it_is() -> None:
    for table, columns in TABLES.items():
        for name, what in columns.items():
            assert what.units and what.long_name, f"{table}: {name}"


def test_what_the_layout_lacks_can_be_described() -> None:
    log = Log()
    log.describe("layers/fc/memory", short=Column("mV", "short memory", (("unit",),)))
    log.add("layers/fc/memory", step=1, short=np.zeros(2))
    assert log.tables["layers/fc/memory"].columns["short"].column == Column("mV", "short memory", (("unit",),))
