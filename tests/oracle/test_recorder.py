"""What the log says of feedback and updates, recomputed from the weights it holds."""

from __future__ import annotations

import numpy as np
import pytest

import bioplaus
from bioplaus.backend.numpy import NumPy
from bioplaus.ops.compare import chord
from bioplaus.record import RunFolder
from bioplaus.train import session
from bioplaus.train.recorder import Recorder

EVERY = "1 update"
LAYERS = ["conv1", "conv2", "fc1", "fc2"]


@pytest.fixture(scope="module", params=["numpy", "torch"])
def run(request, tmp_path_factory):
    pytest.importorskip(request.param)
    record = {"feedback": EVERY, "update": EVERY, "weights": EVERY, "norm": "off", "activity": "off"}
    rule = {
        "rule": "tested",
        "from": "usf_bn_bm",
        "defaults": {"channel": {"recipe": "brsf_p", "p": 0.2}, "update": {"rate": 0.01, "momentum": 0.5}},
        "layers": {"conv1": {"plasticity": "none"}},
        "dtype": "float64",
        "training": {"samples_per_batch": 200, "epochs": 1},
        "record": record,
    }
    out = tmp_path_factory.mktemp(request.param) / "run"
    return bioplaus.run(rule, dataset="digits", backend=request.param, out=out, progress=False)


@pytest.mark.parametrize("layer", LAYERS)
def test_feedback_against_forward_weights(run, layer):
    rows, weights = run.layer(layer).feedback, run.layer(layer).weights
    assert len(rows) == len(weights) == 7
    for k, (V, W) in enumerate(zip(weights.V, weights.W, strict=True)):
        v, w = np.linalg.norm(V), np.linalg.norm(W)
        assert rows.sign_agreement[k] == pytest.approx((np.sign(V) == np.sign(W)).mean(), rel=1e-12)
        assert np.cos(np.radians(rows.angle[k])) == pytest.approx((V * W).sum() / (v * w), rel=1e-9)
        assert rows.norm_ratio[k] == pytest.approx(v / w, rel=1e-12)
    assert 0.6 < rows.sign_agreement.mean() < 0.95


@pytest.mark.parametrize("layer", LAYERS[1:])
def test_steps(run, layer):
    rows, weights = run.layer(layer).update, run.layer(layer).weights
    after = [*weights.W[1:], run.weights(layer)]
    for k, (dW, old, new) in enumerate(zip(weights.dW, weights.W, after, strict=True)):
        assert rows.dW_norm[k] == pytest.approx(np.linalg.norm(dW), rel=1e-10)
        assert rows.step_norm[k] == pytest.approx(np.linalg.norm(new - old), rel=1e-9)
        assert rows.changed_sign[k] == pytest.approx((np.sign(new) != np.sign(old)).mean(), rel=1e-12)
    assert (rows.changed_sign > 0).any()


def test_a_long_epoch_hands_its_rows_over_before_it_ends(tmp_path, monkeypatch):
    """At a look at the loss, every 50 batches; and nothing else becomes of the run."""
    rule = {
        "rule": "tested",
        "from": "usf_bn_bm",
        "training": {"samples_per_batch": 5, "epochs": 2, "batches_per_update": 3},
        "record": {"weights": EVERY, "activity": "20 updates"},
    }
    commits, ends, losses = [], {}, []
    commit = RunFolder.commit

    def counted(folder, state, meta, line=None):
        commits.append((meta["progress"]["place"], folder.log.waiting))
        losses.append(meta["progress"]["loss"])
        commit(folder, state, meta, line)

    monkeypatch.setattr(RunFolder, "commit", counted)
    for name, most in (("at once", session.LOG_BYTES), ("in parts", 100_000)):
        monkeypatch.setattr(session, "LOG_BYTES", most)
        run = bioplaus.run(rule, dataset="digits", backend="numpy", out=tmp_path / name, progress=False)
        ends[name] = {f"{t}/{c}": run.table(t)[c] for t in run.tables for c in run.table(t) if "seconds" not in c}
        ends[name] |= {layer: run.weights(layer) for layer in LAYERS}
        ends[name] |= {f"{t}: {k}": v for t in ("last", "best") for k, v in run.summary[t].items()}
    at_once, in_parts = commits[:2], commits[2:]
    assert [place for place, _ in at_once] == [0, 0]
    assert [place for place, _ in in_parts][:7] == [50, 100, 150, 200, 250, 287, 0]
    assert 0 < losses[2] < losses[3] < losses[4]  # summed so far, for whoever resumes there
    assert max(size for _, size in in_parts) < max(size for _, size in at_once) / 4
    for name, value in ends["at once"].items():
        np.testing.assert_array_equal(value, ends["in parts"][name], err_msg=name)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_dW_is_what_is_new_where_a_momentum_sums_it_up(tmp_path, backend):
    """W after k updates is W - rate * sum over j < k of tau_j, with tau_j = dW_j + momentum * tau_(j-1)."""
    pytest.importorskip(backend)
    record = {"update": EVERY, "weights": EVERY}
    update = {"recipe": "sgd", "rate": 1e-4, "momentum": 0.5}
    training = {"samples_per_batch": 200, "epochs": 1}
    rule = {"rule": "tested", "defaults": {"update": update}, "training": training, "record": record}
    rule["dtype"] = "float64"
    run = bioplaus.run(rule, dataset="digits", backend=backend, out=tmp_path / "run", progress=False)
    for layer in LAYERS:
        weights, rows = run.layer(layer).weights, run.layer(layer).update
        tau, W = 0.0, weights.W[0]
        for k, dW in enumerate(weights.dW):
            np.testing.assert_allclose(weights.W[k], W, rtol=1e-9, atol=1e-12)
            assert rows.dW_norm[k] == pytest.approx(np.linalg.norm(dW), rel=1e-9)
            tau = dW + 0.5 * tau
            W = W - 1e-4 * tau


@pytest.mark.parametrize("degree", [0.0, 0.001, 1.0, 60.0, 90.0, 180.0])
def test_small_angles_are_told_from_none_in_float32_too(backends, rng, degree):
    xp = backends(dtype="float32")
    a, b = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 400)))
    b -= (a @ b) * a
    turned = np.cos(np.radians(degree)) * a + np.sin(np.radians(degree)) * b / np.linalg.norm(b)
    found = Recorder._read(xp, "angle", chord(xp, xp.array(3.0 * a), xp.array(0.1 * turned)))
    assert found == pytest.approx(degree, rel=1e-2 if degree < 1.0 else 1e-3, abs=1e-5)


def test_an_angle_with_nothing_is_no_number():
    for length, angle in ((0.0, 0.0), (1.0, 60.0), (2.0, 180.0), (2.0000002, 180.0)):
        assert Recorder._read(NumPy("float64"), "angle", np.float64(length)) == pytest.approx(angle)
    assert np.isnan(Recorder._read(NumPy("float64"), "angle", np.float64("nan")))
    assert np.isnan(Recorder._read(NumPy("float64"), "angle_to_gradient", float("nan")))


def test_a_clamped_layer_makes_no_steps(run):
    assert "update" not in run.layer("conv1")
