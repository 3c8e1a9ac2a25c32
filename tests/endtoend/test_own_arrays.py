"""Runs on arrays from memory: they go on, and other data are seen as the run saw its own."""

from __future__ import annotations

import numpy as np
import pytest

import bioplaus
from bioplaus.errors import ConfigError, DataError, RunError

NETWORK = {"network": "two", "input": [5], "layers": [{"h": {"dense": 8}}, "relu", {"out": {"dense": "classes"}}]}


@pytest.fixture
def arrays(rng):
    x, y = rng.normal(size=(140, 5)).astype("float32"), rng.integers(0, 3, 140)
    return x[:120], y[:120], x[120:], y[120:]


@pytest.fixture
def run(arrays, tmp_path):
    sets = ["training.samples_per_batch=20"]
    return bioplaus.run(
        "sgd", dataset=arrays, network=NETWORK, sets=sets, epochs=2, backend="numpy", out=tmp_path / "run"
    )


def test_resumed_with_the_same_arrays_it_equals_one_run(run, arrays, tmp_path):
    more = bioplaus.resume(run.path, dataset=arrays, epochs=4)
    sets = ["training.samples_per_batch=20"]
    whole = bioplaus.run(
        "sgd", dataset=arrays, network=NETWORK, sets=sets, epochs=4, backend="numpy", out=tmp_path / "w"
    )
    np.testing.assert_array_equal(more.weights("h"), whole.weights("h"))


def test_without_the_arrays_it_says_what_to_do(run):
    with pytest.raises(DataError, match=r"dataset=\(X, y, X_test, y_test\)"):
        bioplaus.resume(run.path, epochs=4)


def test_other_arrays_are_refused(run, arrays):
    x, y, x_test, y_test = arrays
    with pytest.raises(RunError, match="SHA-256 differs"):
        bioplaus.resume(run.path, dataset=(x + 1, y, x_test, y_test), epochs=4)


def test_shifted_data_score_otherwise(run, arrays):
    x, y, x_test, y_test = arrays
    same = bioplaus.evaluate(run.path, dataset=arrays)
    shifted = bioplaus.evaluate(run.path, dataset=(100 * x + 1000, y, 100 * x_test + 1000, y_test))
    assert same["test"].loss == pytest.approx(run.metrics.test.loss[-1], rel=1e-6)
    assert shifted["test"].loss > 10 * same["test"].loss


def test_two_runs_in_one_second_get_folders_of_their_own(arrays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = ["training.samples_per_batch=20"]
    runs = [
        bioplaus.run("sgd", dataset=arrays, network=NETWORK, sets=sets, epochs=1, backend="numpy") for _ in range(3)
    ]
    assert len({run.path for run in runs}) == 3


def test_a_parameter_that_the_pass_does_not_take_is_refused(arrays, tmp_path):
    network = NETWORK | {"pass": {"recipe": "feedforward", "readout": 5}}
    with pytest.raises(ConfigError, match="'feedforward' has no parameter 'readout'"):
        bioplaus.run("sgd", dataset=arrays, network=network, epochs=1, backend="numpy", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
