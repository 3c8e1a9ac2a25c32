"""Runs on text, as a user has them: own files, what is carried over a stop, perplexity, what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from program import KILLED, Program, assert_same, everything

TEXT = "".join(f"{'abcde'[i % 5]}{'fg'[i % 2]} {'hij'[i % 3]}.\n" for i in range(500))  # 3,000 symbols
NETWORK = """
network: tiny
input: symbols
pass: {recipe: recurrent, steps: 6}
layers:
- onehot: classes
- cell: {KIND: 5}
- fc: {dense: 6}
- norm
- tanh
- out: {dense: classes}
"""
RULE = """
rule: eventful
defaults: {channel: brsf, norm: NORM, update: {recipe: bm1, rate: 1.0e-3, momentum: 0.5}}
data: {validation: 300}
training: {epochs: 2, samples_per_batch: 80, batches_per_update: 2}
record: {norm: 1 update, activity: 1 epoch, feedback: 1 update, update: 2 updates, weights: 2 updates,
  batches: 1 update, gradient: 2 updates, probe: 2, loss: 1 update}
"""
BATCHES = 5  # an epoch, of 80 streams and 6 steps; every 2 make an update, so one waits over its end
NORMS = {"batch": "{recipe: batch, affine: true, collect: 2}", "streaming": "{recipe: streaming, affine: true}"}
CASES = [("gru", "batch", "torch"), ("lstm", "streaming", "numpy")]


def command(home: Path, kind: str, norm: str, backend: str) -> list[str]:
    (home / "text.txt").write_text(TEXT)
    (home / "rule.yaml").write_text(RULE.replace("NORM", NORMS.get(norm, norm)))
    (home / "net.yaml").write_text(NETWORK.replace("KIND", kind))
    about = ["--dataset", "text.txt", "--network", "net.yaml", "--backend", backend, "--threads", "1", "--quiet"]
    return ["run", "rule.yaml", *about]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_stopped_or_killed_within_an_epoch_it_goes_on_to_the_bit(program: Program, case):
    """What cells carry from batch to batch is in the checkpoint; dW waits over the end of an epoch."""
    pytest.importorskip(case[2])
    run = command(program.folder, *case)
    assert program(*run, "--out", "whole").code == 0
    whole = everything(program.folder / "whole")
    assert len([name for name in whole["state"] if ".carried." in name]) == (2 if case[0] == "lstm" else 1)
    assert program(*run, "--out", "run", batch=3, by=signal.SIGTERM).code == 130
    found = everything(program.folder / "run")
    assert found["meta"]["progress"]["place"] == 3
    assert program("resume", "run", "--quiet", batch=BATCHES, by=signal.SIGINT).code == 130
    assert program("resume", "run", "--quiet", batch=1, by=signal.SIGKILL).code == KILLED
    assert program("resume", "run", "--quiet").code == 0
    assert_same(program.folder / "run", whole)


def test_a_run_on_a_text_from_command_to_perplexity(program: Program):
    run = command(program.folder, "gru", "layer", "numpy")[:-1]
    done = program(*run, "--out", "run")
    assert done.code == 0
    line = next(line for line in done.out.splitlines() if line.startswith("epoch 2/2"))
    row = json.loads((program.folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    for name in ("train", "validation", "test"):
        assert row[name]["perplexity"] == pytest.approx(np.exp(row[name]["loss"]), rel=1e-12)
        assert f"{name} {row[name]['perplexity']:.2f}" in line
    assert "perplexity: train" in line and "symbols/s" not in done.out
    assert row["train"]["samples"] == BATCHES * 80 * 6 and row["test"]["samples"] == 29
    summary = json.loads((program.folder / "run" / "summary.json").read_text())
    assert summary["last"]["test_perplexity"] == row["test"]["perplexity"]
    assert summary["best"]["selected_perplexity"] <= summary["last"]["validation_perplexity"]
    scored = program("evaluate", "run")
    assert f"perplexity {row['test']['perplexity']:.2f}" in scored.out and "(29 symbols)" in scored.out
    shown = program("inspect", "run", "metrics/test").out
    assert "perplexity" in shown
    assert "time" not in program("inspect", "run", "layers/fc/activity").err


def test_another_text_is_scored_in_the_symbols_of_the_run(program: Program):
    run = command(program.folder, "rnn", "layer", "numpy")
    assert program(*run, "--out", "run").code == 0
    scores = json.loads(program("evaluate", "run", "--json").out)
    (program.folder / "shorter.txt").write_text(TEXT.replace("a", "b")[:2400])  # no a: another vocabulary of its own
    other = json.loads(program("evaluate", "run", "--dataset", "shorter.txt", "--json").out)
    assert np.isfinite(other["test"]["loss"]) and other["train"]["samples"] != scores["train"]["samples"]
    (program.folder / "strange.txt").write_text(TEXT[:1000] + "?")
    refused = program("evaluate", "run", "--dataset", "strange.txt")
    assert refused.code == 2 and "holds '?', which the text trained on has not" in refused.line


def test_weights_are_taken_over_and_nothing_is_carried(program: Program):
    run = command(program.folder, "gru", "layer", "numpy")
    assert program(*run, "--out", "run").code == 0
    assert program(*run, "--from", "run", "--out", "more", "--set", "training.samples_per_batch=20").code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--network", "char_rnn", "--dataset", "digits"], "samples are (1, 8, 8), the network takes symbols"),
        (["--network", "digits_net"], "samples are symbols of a text, the network takes (1, 8, 8)"),
        (["--network", "flat.yaml"], "data set 'text' is a text, for which network 'flat' would need pass"),
        (["--set", "training.samples_per_batch=500"], "500 given, the training set has 444 samples of 6 symbols each"),
        (["--set", "data.preprocess=standard"], "data.preprocess: 'standard' given, a text is taken as it is"),
        (["--dataset", "unseen.txt"], "the test text holds '#', which the text trained on has not"),
        (["--dataset", "short.txt"], "the text has 100 characters. Its last 1% is the test text"),
        (["--network", "bare.yaml"], "layer 'cell': gru runs over time, this network does not. Give the network pass"),
        (["--network", "steps.yaml"], "steps.yaml:3: pass.steps: given 0, wanted a whole number above 0"),
        (["--network", "vector.yaml"], "layer 'cell': gru wants a vector at each step, given whole numbers. "),
    ],
)
def test_what_does_not_fit_ends_in_one_line(program: Program, change, said):
    home = program.folder
    run = command(home, "gru", "layer", "numpy")
    head = "network: {}\ninput: symbols\n"
    (home / "flat.yaml").write_text(head.format("flat") + "layers: [{onehot: classes}, {out: {dense: classes}}]\n")
    cell = "layers: [{onehot: classes}, {cell: {gru: 4}}, {out: {dense: classes}}]\n"
    (home / "bare.yaml").write_text(head.format("bare") + cell)
    (home / "steps.yaml").write_text(head.format("steps") + "pass: {recipe: recurrent, steps: 0}\n" + cell)
    (home / "vector.yaml").write_text(
        head.format("vector")
        + "pass: {recipe: recurrent, steps: 6}\nlayers: [{cell: {gru: 4}}, {out: {dense: classes}}]\n"
    )
    (home / "unseen.txt").write_text(TEXT + "#")
    (home / "short.txt").write_text(TEXT[:100])
    refused = program(*run, "--out", "run", *change)
    assert refused.code == 2 and said in refused.line
    assert not (home / "run").exists()
