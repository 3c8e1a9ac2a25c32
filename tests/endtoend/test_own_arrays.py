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


def test_classes_that_nobody_teaches_are_told(arrays, tmp_path, capsys):
    x, y, x_test, y_test = arrays
    for held_out, told in [
        ((2,), ["no training sample of class 2"]),
        ((0, 1), ["no training sample of class 0, 1"]),
        ((), []),
    ]:
        kept = ~np.isin(y, held_out)
        given = (x[kept], y[kept], x_test, np.append(y_test[1:], 2))
        sets = ["training.samples_per_batch=20"]
        out = tmp_path / str(len(held_out))
        bioplaus.run("sgd", dataset=given, network=NETWORK, sets=sets, epochs=1, backend="numpy", out=out)
        assert [line for line in capsys.readouterr().out.splitlines() if "no training sample" in line] == told


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


# -- targets -------------------------------------------------------------------------------------
LINE = {"network": "line", "input": [5], "layers": [{"out": {"dense": "classes"}}], "loss": "squared_error"}


@pytest.fixture
def targets(rng):
    """Three numbers for each sample, a linear function of it and noise."""
    x = rng.normal(size=(170, 5)).astype("float32")
    y = x @ rng.normal(size=(5, 3)) + 1.0 + 0.1 * rng.normal(size=(170, 3))
    return x[:120], y[:120], x[120:], y[120:]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_numbers_are_predicted_under_squared_error(targets, tmp_path, backend):
    """The loss is half the squared distance, of the least-squares solution in the end; nothing is right or wrong."""
    pytest.importorskip(backend)
    x, y, x_test, y_test = targets
    rule = {
        "rule": "line",
        "defaults": {"update": {"recipe": "sgd", "rate": 0.003}},
        "training": {"samples_per_batch": 40, "epochs": 80},
        "data": {"preprocess": "none"},
    }
    given = {"dataset": targets, "network": LINE, "backend": backend, "dtype": "float64", "progress": False}
    run = bioplaus.run(rule, out=tmp_path / "run", **given)
    W, b = run.weights("out"), run.array("out.b").reshape(1, 3)

    def loss(x, y):
        return 0.5 * ((x.astype(float) @ W + b - y.astype("float32")) ** 2).sum(1).mean()

    assert run.metrics.test.loss[-1] == pytest.approx(loss(x_test, y_test), rel=1e-6)
    best = np.linalg.lstsq(np.c_[x, np.ones(120)], y, rcond=None)[0]
    np.testing.assert_allclose(np.r_[W, b], best, atol=0.01)
    assert set(run.table("metrics/test")) == {"step", "epoch", "samples", "loss", "elapsed_seconds"}
    losses = run.metrics.test.loss
    chosen = run.summary["best"]
    assert chosen == {"epoch": chosen["epoch"], "test_loss": losses.min(), "selected_loss": losses.min()}
    assert chosen["epoch"] == losses.argmin() + 1
    assert run.summary["last"] == {"epoch": 80, "test_loss": losses[-1]}
    scores = bioplaus.evaluate(run.path, dataset=targets)
    assert scores["test"].loss == pytest.approx(losses[-1], rel=1e-12) and scores["test"].error is None


def test_targets_from_a_file_and_what_is_said(targets, program):
    np.savez(program.folder / "line.npz", **dict(zip(("X", "y", "X_test", "y_test"), targets, strict=True)))
    (program.folder / "line.yaml").write_text(
        "network: line\ninput: [5]\nlayers: [{h: {dense: 8}}, tanh, {out: {dense: classes}}]\nloss: squared_error\n"
    )
    given = ["--dataset", "line.npz", "--network", "line.yaml", "--backend", "numpy", "--epochs", 2]
    sets = ["--set", "training.samples_per_batch=40", "--set", "defaults.update={recipe: sgd, rate: 1.0e-3}"]
    done = program("run", "sgd", *given, *sets, "--out", "run")
    assert (done.code, done.err) == (0, "")
    assert "nan" not in done.out and "%" not in done.out
    run = bioplaus.open_run(program.folder / "run")
    first, second = run.metrics.test.loss
    train = run.metrics.train.loss[1]
    assert f"epoch 2/2  loss: train {train:.4f}  test {second:.4f}  rate 0.001  " in done.out
    assert f"test loss: last {second:.4f}, best {min(first, second):.4f} (epoch {1 + (second < first)}); " in done.out
    assert f"      test  loss {second:.4f}  (50 samples)\n" in program("evaluate", "run").out
    assert "error" not in program("evaluate", "run", "--json").out + (program.folder / "run/metrics.jsonl").read_text()


def test_other_data_of_another_size_are_resized_and_that_is_said(program, rng):
    x, y = rng.integers(0, 256, (40, 1, 8, 8), dtype="uint8"), np.arange(40) % 10
    np.savez(program.folder / "same.npz", X=x, y=y, X_test=x, y_test=y)
    large = x.repeat(2, 2).repeat(2, 3)
    np.savez(program.folder / "large.npz", X=large, y=y, X_test=large, y_test=y)
    run = ["run", "sgd", "--dataset", "same.npz", "--backend", "numpy", "--epochs", 1, "--out", "run", "--quiet"]
    assert program(*run, "--set", "training.samples_per_batch=20").code == 0
    assert len(program("evaluate", "run", "--dataset", "same.npz").out.splitlines()) == 2
    lines = program("evaluate", "run", "--dataset", "large.npz").out.splitlines()
    assert lines[0] == "images resized 16×16 → 8×8 (bilinear)" and len(lines) == 3
    assert program("evaluate", "run", "--dataset", "large.npz", "--json").out.startswith('{"train"')
