"""A run with several losses, changed images and scores within epochs: interrupted, repeated, and written wrongly."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from program import KILLED, assert_same, everything

NETWORK = """
network: tiny
input: [1, 8, 8]
layers:
- conv1: {conv: 4, kernel: 3, stride: 2}
- norm
- relu
- flatten
- dropout: 0.2
- fc1: {dense: 12}
- norm
- relu
- fc2: {dense: classes}
"""
RULE = """
rule: clustered
from: usf_bn_bm
losses:
  cross_entropy: {recipe: softmax_cross_entropy}
  conv1: {recipe: channel_clustering, layer: conv1, weight: 0.1, centres: 9}
  fc1: {recipe: sample_clustering, layer: fc1, weight: 0.2, centres: 7, memory: 0.5, least: 250}
data: {validation: 238, augment: [mirror, {shift: 2}]}
training: {epochs: 3, samples_per_batch: 200, batches_per_update: 2, evaluate: 2 updates}
record: {loss: 1 update, norm: off, feedback: off, update: off}
"""
TERMS = ("cross_entropy", "conv1", "fc1")


def command(home, backend, rule=RULE, *more):
    (home / "rule.yaml").write_text(rule)
    (home / "net.yaml").write_text(NETWORK)
    about = ["--dataset", "digits", "--network", "net.yaml", "--backend", backend, "--threads", "1", "--quiet"]
    return ["run", "rule.yaml", *about, *more, "--out", "run"]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_interrupted_anywhere_it_ends_to_the_bit_as_if_it_never_was(program, backend):
    pytest.importorskip(backend)
    assert program(*command(program.folder, backend)) == (0, "", "")
    (program.folder / "run").rename(program.folder / "whole")
    whole = everything(program.folder / "whole")
    done = program(*command(program.folder, backend), batch=4, by=signal.SIGINT)
    assert done.code == 130, done.err
    for at, by, code in ((3, signal.SIGKILL, KILLED), (7, signal.SIGTERM, 130)):
        assert program("resume", "run", "--quiet", batch=at, by=by).code == code
    assert program("resume", "run", "--quiet") == (0, "", "")
    assert_same(program.folder / "run", whole)
    state = whole["state"]
    assert {name for name in state if name.startswith("loss.")} == {
        f"loss.{term}.{key}" for term in ("conv1", "fc1") for key in ("centres", "got")
    }


def test_scores_and_losses_between_are_logged_and_change_no_bit(program):
    from bioplaus.record import open_run

    assert program(*command(program.folder, "numpy")).code == 0
    looked, run = everything(program.folder / "run"), open_run(program.folder / "run")
    silent = ["--set", "training.evaluate=off", "--set", "record.loss=off"]
    (program.folder / "run").rename(program.folder / "looked")
    assert program(*command(program.folder, "numpy", RULE, *silent)).code == 0
    plain = everything(program.folder / "run")
    assert plain["state"] == looked["state"]
    assert plain["metrics"] == looked["metrics"]

    # six batches an epoch, two an update: updates 1 to 9, scored after every second one and at 3, 6 and 9
    run = open_run(program.folder / "looked")
    for name in ("test", "validation"):
        table = run.table(f"metrics/{name}")
        np.testing.assert_array_equal(table["step"], [2, 3, 4, 6, 8, 9])
        np.testing.assert_array_equal(table["epoch"], [0, 1, 1, 2, 2, 3])
    np.testing.assert_array_equal(run.metrics.train.step, [3, 6, 9])
    batch = run.metrics.batch
    np.testing.assert_array_equal(batch.step, np.arange(1, 10))
    weights = dict(zip(TERMS, (1.0, 0.1, 0.2), strict=True))
    for table in (batch, run.metrics.train, run.metrics.test):
        summed = sum(weight * getattr(table, f"loss_{term}")[:] for term, weight in weights.items())
        np.testing.assert_allclose(summed, table.loss[:], rtol=1e-5)
    # what a batch before an update lost is half of what the epoch's train row averages: the other half has no row
    assert 0.5 < batch.loss[:3].mean() / run.metrics.train.loss[0] < 1.5

    last = json.loads((program.folder / "looked" / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(last["test"]["terms"]) == set(TERMS)
    assert run.summary["last"]["test_loss_fc1"] == last["test"]["terms"]["fc1"] == run.metrics.test.loss_fc1[-1]
    assert "terms" not in json.dumps([row["test"] for row in _metrics_of_one_loss(program)])


def _metrics_of_one_loss(program):
    args = ["--dataset", "digits", "--network", "net.yaml", "--backend", "numpy", "--quiet", "--epochs", 1]
    assert program("run", "usf_bn_bm", *args, "--out", "single").code == 0
    return [json.loads(line) for line in (program.folder / "single" / "metrics.jsonl").read_text().splitlines()]


def test_the_smoothed_training_loss_can_be_computed_from_the_log(program):
    """One batch an update: the rows of an epoch average to its train loss."""
    from bioplaus.record import open_run

    one = ["--set", "training.batches_per_update=1"]
    assert program(*command(program.folder, "numpy", RULE, *one)).code == 0
    run = open_run(program.folder / "run")
    rows = run.metrics.batch.loss[:].reshape(3, -1)
    np.testing.assert_allclose(rows.mean(1), run.metrics.train.loss[:], rtol=1e-5)


def test_a_configuration_with_all_of_it_repeats_the_run(program):
    assert program(*command(program.folder, "numpy")).code == 0
    assert program("run", "run/config.yaml", "--out", "again", "--quiet") == (0, "", "")
    assert_same(program.folder / "again", everything(program.folder / "run"))


def test_the_first_lines_say_what_is_scored_and_done_to_images(program):
    args = [arg for arg in command(program.folder, "numpy", RULE, "--epochs", 1) if arg != "--quiet"]
    lines = program(*args).out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("loss:"))
    assert [line.strip() for line in lines[at : at + 4]] == [
        "loss:        cross_entropy: 1 × softmax_cross_entropy",
        "conv1: 0.1 × channel_clustering (layer conv1, centres 9)",
        "fc1: 0.2 × sample_clustering (layer fc1, centres 7, memory 0.5, least 250)",
        "training images: mirror, shift 2",
    ]


def test_check_finds_wrong_losses_and_transforms_without_running(program):
    assert program(*command(program.folder, "numpy")).code == 0
    assert program("check", "rule.yaml").code == 0
    wrong = RULE.replace("channel_clustering", "chanel_clustering").replace("mirror", "miror").replace("least", "lest")
    (program.folder / "rule.yaml").write_text(wrong)
    done = program("check", "rule.yaml")
    assert done.code == 2
    found = [line.removeprefix("bioplaus: ").split(": ")[:2] for line in done.err.splitlines()]
    assert found == [
        ["rule.yaml:6", "losses.conv1"],
        ["rule.yaml:7", "losses.fc1"],
        ["rule.yaml:8", "data.augment.0"],
    ]


def test_other_weights_may_be_started_from_whatever_the_losses(program):
    assert program(*command(program.folder, "numpy")).code == 0
    more = ["--from", "run", "--epochs", 1]
    assert program("run", "usf_bn_bm", *command(program.folder, "numpy")[2:-1], "other", *more).code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("weight: 0.1", "weight: -0.1"),
            "rule.yaml:6: losses.conv1.weight: given -0.1, wanted a number of at least 0.",
        ),
        (("weight: 0.1", "weight: '1'"), "rule.yaml:6: losses.conv1.weight: given the text '1', wanted a number"),
        (
            ("layer: conv1", "layer: cnv1"),
            "rule.yaml:6: losses.conv1: network 'tiny' has no signal 'cnv1.n'; did you mean 'conv1.n'",
        ),
        (
            ("channel_clustering", "chanel_clustering"),
            "rule.yaml:6: losses.conv1: no loss named 'chanel_clustering'; did you mean",
        ),
        (("layer: conv1", "layer: fc2"), "rule.yaml:6: losses.conv1: layer 'fc2' gives 10 numbers, no maps"),
        (
            ("centres: 9", "centers: 9"),
            "rule.yaml:6: losses.conv1: 'channel_clustering' has no parameter 'centers'; did you mean",
        ),
        (("centres: 9", "centres: many"), "rule.yaml:6: losses.conv1.centres: given 'many', wanted"),
        (
            ("  conv1: {", "  con-v1: {"),
            "rule.yaml:6: losses.con-v1: 'con-v1' is no name of a term; wanted letters, digits and _",
        ),
        (
            ("cross_entropy: {recipe: softmax_cross_entropy}", "entropy: {weight: 2}"),
            "rule.yaml:5: losses.entropy: no loss named 'entropy'",
        ),
        (
            ("augment: [mirror,", "augment: [miror,"),
            "rule.yaml:8: data.augment.0: no data transform named 'miror'; did you mean 'mirror'",
        ),
        (
            ("{shift: 2}", "{shift: 9}"),
            "rule.yaml:8: data.augment.1: shift 9 moves images of 8×8 out of sight. Take less.",
        ),
        (("[mirror, {shift: 2}]", "mirror"), "rule.yaml:8: data.augment: given 'mirror', wanted a list of transforms"),
        (
            ("[mirror, {shift: 2}]", "[mirror, 3]"),
            "rule.yaml:8: data.augment.1: given 3, wanted a transform such as mirror",
        ),
        (
            ("evaluate: 2 updates", "evaluate: 2 epochs"),
            "rule.yaml:9: training.evaluate: given '2 epochs', wanted 'N updates', or off",
        ),
        (("evaluate: 2 updates", "evaluate: 20"), "rule.yaml:9: training.evaluate: given 20, wanted 'N updates'"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(program, change, said):
    rule = RULE.replace(*change)
    assert rule != RULE
    done = program(*command(program.folder, "numpy", rule))
    assert done.code == 2
    assert said in done.line
    assert not (program.folder / "run").exists()
