"""Runs with few labels and a generative pass: interrupted, poisoned, written wrongly."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from program import KILLED, assert_same, everything

import bioplaus
from bioplaus.backend.streams import Stream
from bioplaus.data.digits import Digits
from bioplaus.data.labels import drawn
from bioplaus.record import open_run
from bioplaus.record.checkpoint import load
from bioplaus.train import session

NETWORK = """
network: tiny
input: [1, 8, 8]
pass: {recipe: generative, topdown_class: sample}
layers:
- conv1: {conv: 6, kernel: 3, pad: full}
- norm
- relu
- maxpool: 2
- dropout: 0.1
- conv2: {conv: 8, kernel: 3}
- norm
- relu
- globalmeanpool
- out: {dense: classes}
"""
RULE = """
rule: few
defaults: {norm: {recipe: batch, affine: true}, update: {recipe: adam, rate: 1.0e-3}}
layers: {conv1: {plasticity: {recipe: drmm}, update: {recipe: sgd, rate: 0.5}}}
losses:
  cross_entropy: {weight: 1.0}
  reconstruction: {weight: 0.5, on: unlabelled}
  kl: {weight: 0.2, sign: -1}
  nonnegativity: {weight: 1.0}
data: {labels: 50, labelled_share: 0.4, validation: 0.58}
training: {reduction: mean, epochs: 2, samples_per_batch: 100}
record: {norm: off, feedback: off, update: off, loss: 1 update}
"""
TERMS = ("cross_entropy", "reconstruction", "kl", "nonnegativity")


def command(home, rule=RULE, *more, dataset="digits", backend="numpy"):
    (home / "rule.yaml").write_text(rule)
    (home / "net.yaml").write_text(NETWORK)
    about = ["--dataset", dataset, "--network", "net.yaml", "--backend", backend, "--threads", "1", "--quiet"]
    return ["run", "rule.yaml", *about, "--out", "run", *more]


@pytest.mark.parametrize(("backend", "plasticity"), [("numpy", "drmm"), ("torch", "drmm"), ("numpy", "drmm_em")])
def test_interrupted_anywhere_it_ends_to_the_bit_as_if_it_never_was(program, backend, plasticity):
    pytest.importorskip(backend)
    rule = RULE.replace("recipe: drmm", f"recipe: {plasticity}") + "seed: 3\n"
    rule = rule.replace("epochs: 2", "epochs: 2, batches_per_update: 3")  # a kill lands between gathering and settling
    assert program(*command(program.folder, rule, backend=backend)) == (0, "", "")
    (program.folder / "run").rename(program.folder / "whole")
    whole = everything(program.folder / "whole")
    done = program(*command(program.folder, rule, backend=backend), batch=4, by=signal.SIGINT)
    assert done.code == 130, done.err
    for at, by, code in ((3, signal.SIGKILL, KILLED), (5, signal.SIGTERM, 130)):
        assert program("resume", "run", "--quiet", batch=at, by=by).code == code
    assert program("resume", "run", "--quiet") == (0, "", "")
    assert_same(program.folder / "run", whole)
    assert ("conv1.plasticity.A" in whole["state"]) == (plasticity == "drmm_em")


@pytest.mark.parametrize("balanced", ["true", "false"])
def test_a_class_that_no_training_sample_is_of_has_no_labels_to_draw(program, balanced):
    x, y = np.eye(60, 64, dtype="float32").reshape(60, 1, 8, 8), np.tile([0, 1, 3], 20)
    np.savez(program.folder / "gap.npz", X=x, y=y, X_test=x, y_test=np.tile([0, 1, 2], 20))
    rule = RULE.replace("labels: 50", f"labels: 20, balanced: {balanced}")
    done = program(*command(program.folder, rule, dataset="gap.npz"))
    assert done.code == 2 and not (program.folder / "run").exists()
    assert "data.labels: class 2 has no training sample, so none of its labels can be drawn." in done.line


@pytest.mark.parametrize("poisoned", ["hidden", "kept"])
def test_labels_that_may_not_be_seen_are_not(program, poisoned, monkeypatch):
    """With all hidden labels changed the run is the same to the bit; with two that may be seen, another one."""
    y = np.tile(np.arange(10), 60)
    X = np.random.default_rng(0).integers(0, 17, (600, 8, 8), dtype="uint8")
    kept = drawn(y, 10, 50, True, Stream(0).at("labels"))
    changed = y.copy()
    if poisoned == "hidden":
        changed = (y + 1) % 10
        changed[kept] = y[kept]
    else:
        changed[kept[:2]] = (y[kept[:2]] + 1) % 10
    monkeypatch.setattr(session, "drawn", lambda *given: kept)  # which are kept depends on all of them
    monkeypatch.chdir(program.folder)
    command(program.folder)
    rule = {"network": "net.yaml", "backend": "numpy", "epochs": 1, "progress": False}
    sets = ["data.validation=null"]
    states = []
    for name, labels in (("one", y), ("two", changed)):
        run = bioplaus.run("rule.yaml", dataset=(X, labels, X[:50], y[:50]), sets=sets, out=name, **rule)
        states.append({key: value for key, value in load(run.path / "checkpoint.h5")[1].items()})
    same = all(np.array_equal(states[0][key], value) for key, value in states[1].items())
    assert same == (poisoned == "hidden")


def test_terms_and_the_error_of_the_labelled_part_are_logged(program):
    assert program(*command(program.folder)) == (0, "", "")
    run = open_run(program.folder / "run")
    weights = dict(zip(TERMS, (1.0, 0.5, 0.2, 1.0), strict=True))
    for table in (run.metrics.batch, run.metrics.train, run.metrics.test):
        summed = sum(weight * getattr(table, f"loss_{term}")[:] for term, weight in weights.items())
        np.testing.assert_allclose(summed, table.loss[:], rtol=1e-5)
    assert (run.metrics.train.loss_kl[:] < 0).all()
    assert 0 < run.metrics.train.error[-1] < 100
    last = json.loads((program.folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(last["test"]["terms"]) == set(TERMS)
    assert program("evaluate", "run").code == 0
    assert program("run", "run/config.yaml", "--out", "again", "--quiet") == (0, "", "")
    assert_same(program.folder / "again", everything(program.folder / "run"))


def test_what_the_m_step_wants_is_in_the_log_of_its_own_update(program):
    rule = RULE.replace("recipe: drmm", "recipe: drmm_em").replace("update: off", "update: 1 update")
    rule = rule.replace("rate: 0.5", "rate: 0.5, momentum: 0.0")
    assert program(*command(program.folder, rule, "--epochs", 1)) == (0, "", "")
    table = open_run(program.folder / "run").table("layers/conv1/update")
    assert len(table["step"]) == 6 and (table["dW_norm"] > 0).all()
    np.testing.assert_allclose(table["step_norm"], 0.5 * table["dW_norm"], rtol=1e-4)


def test_the_training_set_is_scored_with_all_its_labels(program):
    """Also with those that the learner did not see: as own arrays without any hidden are scored."""
    assert program(*command(program.folder, RULE, "--epochs", 1, "--set", "data.validation=null")) == (0, "", "")
    X, y = Digits().load(None)[:2]
    np.savez(program.folder / "all.npz", X=X, y=y, X_test=X, y_test=y)
    asked = (("--backend", "numpy", "--device", "cpu"), ("--dataset", "all.npz"))
    found, plain = (json.loads(program("evaluate", "run", "--json", *more).out) for more in asked)
    for measure in ("samples", "error", "loss"):
        assert found["train"][measure] == pytest.approx(plain["train"][measure], rel=1e-5)


def test_a_run_killed_within_its_first_epoch_can_be_looked_at(program):
    done = program(*command(program.folder), batch=3, by=signal.SIGKILL)
    assert done.code == KILLED and bioplaus.open_run(program.folder / "run").attributes["rule"] == "few"
    for verb in ("evaluate", "prune"):
        looked = program(verb, "run")
        assert (looked.code, looked.err) == (0, ""), (verb, looked.err)


def test_other_data_are_scored_whatever_labels_they_have(program):
    assert program(*command(program.folder, RULE, "--epochs", 1)) == (0, "", "")
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 17, (20, 8, 8), dtype="uint8"), np.arange(20) % 10
    np.savez(program.folder / "few.npz", X=X, y=y, X_test=X, y_test=y)
    assert program("evaluate", "run", "--dataset", "few.npz").code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("labels: 50", "labels: 5000"), "rule.yaml:10: data.labels: 5000 asked, the training set has 60"),
        (("labels: 50", "labels: 9"), "rule.yaml:10: data.labels: 9 asked, for 10 classes"),
        (("labels: 50", "labels: 0"), "rule.yaml:10: data.labels"),
        (("share: 0.4", "share: 0.001"), "rule.yaml:10: data.labelled_share: 0.001 given, which leaves none of 100"),
        (("share: 0.4", "share: 1.0"), "rule.yaml:10: data.labelled_share"),
        (("weight: 0.2", "weight: -0.2"), "rule.yaml:8: losses.kl.weight: given -0.2, wanted a number of at least 0"),
        (("on: unlabelled", "on: unlabeled"), "rule.yaml:7: losses.reconstruction.on: given 'unlabeled'"),
        (("data: {labels: 50", "data: {balanced: true"), "rule.yaml:7: losses.reconstruction.on: unlabelled given"),
        (("{weight: 1.0}\n  rec", "{on: both}\n  rec"), "rule.yaml:6: losses.cross_entropy.on: both given"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_wrong_input_is_one_line_and_nothing_is_written(program, change, said):
    assert change[0] in RULE
    done = program(*command(program.folder, RULE.replace(*change)))
    assert done.code == 2
    assert said in done.line
    assert not (program.folder / "run").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("- relu\n- maxpool: 2", "- tanh\n- maxpool: 2"), "net.yaml:8: layers.2: layer 'conv1'"),
        (("- maxpool: 2", "- maxpool: {size: 3, stride: 2}"), "net.yaml:9: layers.3"),
        (("sample", "best"), "topdown_class"),
    ],
)
def test_a_network_that_cannot_be_rendered_is_one_line(program, change, said):
    assert change[0] in NETWORK
    args = command(program.folder)
    (program.folder / "net.yaml").write_text(NETWORK.replace(*change))
    done = program(*args)
    assert done.code == 2 and said in done.line
    assert not (program.folder / "run").exists()
