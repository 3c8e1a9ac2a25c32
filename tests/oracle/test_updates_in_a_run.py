"""Which batches make which update of a whole run: recomputed from the log, with one layer whose gradient is known."""

from __future__ import annotations

import numpy as np
import pytest

import bioplaus
from bioplaus import config
from bioplaus.errors import ConfigError
from bioplaus.train.plan import phases

NETWORK = {"network": "one", "input": [4], "layers": [{"out": {"dense": "classes"}}]}
SIZE = 10
SAMPLES = 5 * SIZE + 3  # five batches an epoch
RATE = 0.5
RECORD = {"batches": "1 update", "weights": "1 update"}


@pytest.fixture
def arrays(rng):
    x, y = rng.normal(size=(SAMPLES + 20, 4)), rng.integers(0, 3, SAMPLES + 20)
    return x[:SAMPLES].astype("float32"), y[:SAMPLES], x[SAMPLES:].astype("float32"), y[SAMPLES:]


def trained(arrays, out, backend="numpy", record=RECORD, **training):
    pytest.importorskip(backend)
    rule = {
        "rule": "tested",
        "defaults": {"update": [{"rate": RATE / SIZE}]},
        "training": {"samples_per_batch": SIZE, **training},
        "record": record,
        "dtype": "float64",
        "data": {"preprocess": "none"},
    }
    return bioplaus.run(rule, dataset=arrays, network=NETWORK, backend=backend, out=out)


def gradient(W, b, x, y):
    """Of softmax cross-entropy, summed over samples."""
    e = np.exp(x @ W + b)
    error = e / e.sum(1, keepdims=True) - np.eye(3)[y]
    return x.T @ error, error.sum(0, keepdims=True)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_phase_ends_with_an_update_of_what_waits_then(arrays, tmp_path, backend):
    """dW is the mean over the batches of an update, also where these are fewer than the phase wants.

    Ten batches in threes leave one for the end of the first phase; five batches in twos leave one waiting.
    """
    run = trained(
        arrays,
        tmp_path / "run",
        backend,
        phases=[{"epochs": 2, "batches_per_update": 3}, {"epochs": 1, "batches_per_update": 2}],
    )
    index, logged = run.table("batches").index, run.table("layers/out/weights")
    assert [(row >= 0).sum() // SIZE for row in index] == [3, 3, 3, 1, 2, 2]
    x, y = arrays[0].astype(float), arrays[1]
    W, b = logged.W[0], np.zeros((1, 3))
    for row, seen, dW_seen in zip(index, logged.W, logged.dW, strict=True):
        np.testing.assert_allclose(seen, W, rtol=1e-10, atol=1e-12)
        parts = [gradient(W, b, x[part], y[part]) for part in row[row >= 0].reshape(-1, SIZE)]
        dW, db = (np.mean(each, 0) for each in zip(*parts, strict=True))
        np.testing.assert_allclose(dW_seen, dW, rtol=1e-10, atol=1e-12)
        W, b = W - RATE / SIZE * dW, b - RATE / SIZE * db
    np.testing.assert_allclose(run.weights("out"), W, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(run.array("out.b").reshape(1, 3), b, rtol=1e-10, atol=1e-12)


def test_by_epochs_the_log_gets_the_update_that_ends_the_phase(arrays, tmp_path):
    phases = [{"epochs": 2, "batches_per_update": 3}, {"epochs": 1}]
    run = trained(arrays, tmp_path / "run", phases=phases, record={"update": "1 epoch"})
    assert run.table("layers/out/update").step.tolist() == [1, 4, 9]


def test_what_waits_at_the_end_of_a_run_waits_for_more_epochs(arrays, tmp_path):
    """So that a run trained on is a longer run."""
    short = trained(arrays, tmp_path / "short", batches_per_update=3, epochs=1)
    assert len(short.table("batches")) == 1
    more = bioplaus.resume(short.path, dataset=arrays, epochs=3)
    whole = trained(arrays, tmp_path / "whole", batches_per_update=3, epochs=3)
    np.testing.assert_array_equal(more.table("batches").index, whole.table("batches").index)
    np.testing.assert_array_equal(more.weights("out"), whole.weights("out"))


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"batches_per_update": 11, "epochs": 2}, "training.batches_per_update: 11 given, the run has 10 batches"),
        (
            {"phases": [{"epochs": 1}, {"epochs": 1, "batches_per_update": 6}]},
            "training.phases.1.batches_per_update: 6 given, the last phase has 5 batches",
        ),
    ],
)
def test_a_run_without_an_update_is_refused(arrays, tmp_path, training, said):
    with pytest.raises(ConfigError, match=said):
        trained(arrays, tmp_path / "run", **training)
    assert not list(tmp_path.iterdir())


def test_a_schedule_by_updates_ends_with_the_last_update():
    """Five batches an epoch: two epochs in threes make 3 updates and an early one, one epoch in twos makes 2."""
    schedule = {"recipe": "logspace", "end": 0.01, "by": "updates"}
    told = [{"epochs": 2, "batches_per_update": 3}, {"epochs": 1, "batches_per_update": 2, "rate": schedule}]
    rule = {"rule": "tested", "training": {"rate": schedule, "phases": told}}
    first, last = phases(config.load(rule, network=NETWORK))
    factors = [first.factor(0, 2, 5), first.factor(1, 0, 5), first.factor(1, 3, 5), first.factor(1, 4, 5)]
    np.testing.assert_allclose(factors, [1.0, 0.01 ** (1 / 3), 0.01 ** (2 / 3), 0.01], rtol=1e-12)
    np.testing.assert_allclose([last.factor(2, 1, 5), last.factor(2, 3, 5)], [1.0, 0.01], rtol=1e-12)
