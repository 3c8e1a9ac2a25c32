"""A value that stops being finite ends the run: exit 1, one line with layer and step, the folder still readable."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from bioplaus.errors import NonFinite
from bioplaus.record import open_run
from bioplaus.train import lifetime, session

RUN = ["--dataset", "digits", "--threads", "1", "--quiet", "--out", "run"]


@pytest.fixture(params=["numpy", "torch"])
def backend(request):
    pytest.importorskip(request.param)
    return request.param


def test_errors_that_grow_before_anything_was_learned_are_not_blamed_on_the_rate(program):
    text = "network: deep\ninput: symbols\npass: {recipe: recurrent, steps: 60}\nlayers:\n"
    text += "- embed: {embedding: 50, words: classes}\n- rnn1: {rnn: 50, activation: relu, placement: sum}\n"
    (program.folder / "deep.yaml").write_text(text + "- out: {dense: classes}\nloss: softmax_cross_entropy\n")
    (program.folder / "own.txt").write_text("to be or not to be, " * 1500)
    about = ["--dataset", "own.txt", "--network", "deep.yaml", "--threads", "1", "--quiet", "--backend", "numpy"]
    rate = ["--set", "defaults.channel=usf", "--set", "defaults.update.rate=1e-9"]
    done = program("run", "char_layer", *about, *rate, "--set", "defaults.norm=none")
    assert done.code == 1 and "step 1: dW is not finite (channel usf, norm none, rate 1e-09)" in done.line
    assert "Lower the rate" not in done.line and "Take a norm, a channel of smaller weights (nusf for usf)" in done.line


def test_errors_that_go_on_growing_are_not_blamed_on_the_rate_alone(program):
    """Errors through signs are so large that the smallest rate makes something overflow, sooner or later."""
    text = "network: deep\ninput: [1, 8, 8]\nlayers:\n- flatten\n"
    text += "".join(f"- fc{i}: {{dense: 300}}\n- relu\n" for i in range(20))
    (program.folder / "deep.yaml").write_text(text + "- out: {dense: classes}\nloss: softmax_cross_entropy\n")
    steps = ["--set", "defaults.update.rate=1e-9", "--set", "training.samples_per_batch=1"]
    done = program("run", "usf", *RUN, "--network", "deep.yaml", "--backend", "numpy", *steps)
    assert done.code == 1 and re.search("step [1-9]: .* is not finite", done.line)
    assert "Lower the rate. If that changes nothing, errors grow on their way: take a norm, a channel of " in done.line


def test_a_rate_far_too_large(program, backend):
    done = program("run", "sgd", *RUN, "--backend", backend, "--set", "defaults.update.rate=1e6")
    assert (done.code, done.out) == (1, "")
    found = re.fullmatch(
        r"layer '(\w+)', step (\d+): output is not finite \(channel bp, norm none, rate 1e\+06\)\. Lower the rate\."
        rf" Log: {program.folder}/run",
        done.line,
    )
    assert found and found[1] in ("conv1", "conv2", "fc1", "fc2")
    assert 1 <= int(found[2]) <= 5
    shown = program("inspect", "run")
    assert shown.code == 0 and shown.out.splitlines()[0].endswith("/run: failed")
    assert program("evaluate", "run").code == 0  # at the last checkpoint, which is sound
    again = program("resume", "run", "--quiet")
    assert again == done  # the same layer and step, to the bit


@pytest.mark.parametrize(("layer", "batch"), [("conv1", 3), ("conv2", 20), ("fc1", 75), ("fc2", 64)])
def test_the_layer_and_the_step_are_the_right_ones(program, layer, batch, tmp_path):
    """One layer alone has a rate that sends its weights to infinity in one update, in a certain epoch.

    The rate rises by a schedule of updates, so that update ``batch`` is the first that overflows; the loss is looked
    at only every 50th batch.
    """
    text = (
        f"rule: late\nfrom: usf_bn_bm\ndefaults: {{update: [sign, {{rate: 1.0e-30}}]}}\n"
        f"layers: {{{layer}: {{update: [sign, {{rate: 1.0}}]}}}}\n"
        f"training: {{rate: {{recipe: steps, after: [{batch - 1}], factor: 1.0e+39, by: updates}}}}\n"
    )
    (tmp_path / "late.yaml").write_text(text)
    done = program("run", "late.yaml", *RUN, "--backend", "numpy", "--epochs", 6)
    assert done.code == 1
    assert done.line.startswith(f"layer '{layer}', step {batch}: W is not finite (channel usf, norm ")
    run = open_run(tmp_path / "run")
    assert run.status == "failed"
    per_epoch = 1438 // 100
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == (batch - 1) // per_epoch


def test_an_error_that_blows_up_on_its_way_down_is_named_where_it_did(tmp_path):
    """Through the V of fc2 errors become infinite: the first dW that suffers is that of fc1, and all below it do."""
    settings, source = session.configure("rndf", dataset="digits", backend="numpy", threads=1, epochs=2)
    made = session.prepare(settings, source)
    made.network.nodes[-1].V[...] = np.inf
    lifetime.start(made, tmp_path / "run")
    with pytest.raises(NonFinite, match=r"^layer 'fc1', step 1: dW is not finite \(channel rndf, norm none, "):
        lifetime.complete(made)


NETWORK = """
network: two
input: [5]
layers: [{fc1: {dense: 8}}, relu, {fc2: {dense: classes}}]
loss: softmax_cross_entropy
"""
OWN = ["--dataset", "own.npz", "--network", "two.yaml", *RUN[2:], "--backend", "numpy", "--epochs", 2]


def own_data(home, rng):
    """120 samples to learn from, 20 to test on, and where to write them."""
    (home / "two.yaml").write_text(NETWORK)
    x, y = rng.normal(size=(140, 5)).astype("float32"), rng.integers(0, 3, 140)
    return {"X": x[:120], "y": y[:120], "X_test": x[120:], "y_test": y[120:]}


def test_not_a_number_in_the_data(program, tmp_path, rng):
    """Refused when the file is read, before anything is written."""
    arrays = own_data(tmp_path, rng)
    arrays["X"][17, 2] = np.nan
    np.savez(tmp_path / "own.npz", **arrays)
    done = program("run", "sgd", *OWN)
    assert done.code == 2
    assert done.line.startswith("data set 'own': X: holds values that are NaN")
    assert not (tmp_path / "run").exists()


def test_a_test_score_that_is_not_finite(program, tmp_path, rng):
    """Training never sees it: only the test set holds a sample that is too large."""
    arrays = own_data(tmp_path, rng)
    arrays["X_test"][3] = 3e38
    np.savez(tmp_path / "own.npz", **arrays)
    done = program("run", "sgd", *OWN, "--set", "data.preprocess=none")
    assert done.code == 1
    assert done.line.startswith("layer 'fc2', step 1: test output is not finite")


def test_the_json_lines_hold_numbers_only(program):
    done = program("run", "sgd", "--dataset", "digits", "--epochs", 2, "--backend", "numpy", "--json", "--out", "run")
    rows = [json.loads(line, parse_constant=pytest.fail) for line in done.out.splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows == [json.loads(line) for line in (program.folder / "run" / "metrics.jsonl").read_text().splitlines()]
