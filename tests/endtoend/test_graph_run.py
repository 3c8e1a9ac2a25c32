"""A run of a graph: its header, its log by visits, and going on to the bit after it was stopped."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from program import assert_same, everything

import bioplaus
from bioplaus.errors import ConfigError

NETWORK = """
network: loop
input: [1, 8, 8]
pass: {recipe: graph, readout: 4, test_readout: 5, combine: mean}
prenet: [{conv1: {conv: 3, kernel: 3, pad: half, bias: false}}]
states: {h1: [3, 8, 8], h2: [4, 4, 4]}
edges:
  h1_h1: {from: h1, to: h1, module: BRCx2, identity: true}
  h1_h2: {from: h1, to: h2, module: BRCx2}
  h2_h1:
    from: h2
    to: h1
    module: [{norm: next}, relu, {dropout: 0.2}, {up: {conv_transposed: 3, kernel: 2, stride: 2}}]
  h2_h2: {from: h2, to: h2, module: BRCx2, identity: true}
postnet: [norm, relu, globalmeanpool, {fc: {dense: classes}}]
"""
RULE = """
rule: in_time
from: usf_bn_bm
defaults: {channel: {recipe: brsf_p, p: 0.3}, norm: {recipe: batch, collect: 2}}
training: {epochs: 1, samples_per_batch: 400, batches_per_update: 2}
record: {norm: 1 update, feedback: off, update: off, weights: 1 update}
"""


def command(program, backend, out):
    (program.folder / "rule.yaml").write_text(RULE)
    (program.folder / "net.yaml").write_text(NETWORK)
    about = ["--dataset", "digits", "--network", "net.yaml", "--backend", backend, "--threads", "1"]
    return ["run", "rule.yaml", *about, "--out", out]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_stopped_run_of_a_graph_goes_on_to_the_bit(program, backend):
    pytest.importorskip(backend)
    done = program(*command(program, backend, "whole"))
    assert done.code == 0
    assert (
        "states h1 3×8×8, h2 4×4×4; read out at time 4, in testing at 5; a state is the mean of its inputs" in done.out
    )
    assert "h2_h1  h2 → h1  layers            shared over time  2          2–3" in done.out
    assert program(*command(program, backend, "run"), "--quiet", batch=2, by=signal.SIGINT).code == 130
    assert program("resume", "run", "--quiet") == (0, "", "")
    assert_same(program.folder / "run", everything(program.folder / "whole"))
    run = bioplaus.open_run(program.folder / "run")
    assert run.layer("h1_h1.conv1").norm.mean.shape[1:] == (4, 3)  # visits, units
    assert np.isfinite(run.metrics.test.error).all()
    seen = np.isfinite(run.layer("h1_h1.conv1").norm.sigma[0]).all(1)  # training makes two visits, testing two more
    assert seen.tolist() == [True, True, False, False]
    table, _, mean, sigma = program("inspect", "run", "h1_h1.conv1/norm").out.splitlines()[-4:]
    assert table.split()[:3] == ["norm/", "1", "row"]
    assert table.endswith("  walked at 2 of 4 times; these are numbers of those")
    for line, name in ((mean, "mean"), (sigma, "sigma")):
        ends = np.array(getattr(run.layer("h1_h1.conv1").norm, name), "float64")[[0, -1], :2].reshape(2, -1)
        shown = [f"{end.min():.3g} … {end.mean():.3g} … {end.max():.3g}" for end in ends]
        assert line.startswith(f"      {name}") and all(f"  {each}  " in line for each in shown)
    rows = {row.layer: row for row in bioplaus.prune(run.path)[0]}
    assert [rows[f"{edge}.conv1"].flops for edge in ("h1_h1", "h1_h2")] == [2 * 81 * 64 * 3, 2 * 108 * 16 * 4]


@pytest.mark.parametrize("norm", ["{collect: 2}", "{recipe: streaming, per_visit: true}"])
def test_a_trained_graph_is_read_out_at_any_time(program, rng, norm):
    """As if the run had tested at that time: its weights, and statistics of its training data at all times up to it.

    What streams is not settled anew; at times that training never came to the last one's goes on.
    """
    command(program, "numpy", "run")
    x, y = rng.normal(size=(80, 1, 8, 8)).astype("float32"), rng.integers(0, 10, 80)
    arrays = (x[:60], y[:60], x[60:], y[60:])

    def run(out, *sets):
        sets = [f"defaults.norm={norm}", "training.samples_per_batch=20", *sets]
        rule, network = program.folder / "rule.yaml", program.folder / "net.yaml"
        return bioplaus.run(rule, dataset=arrays, network=network, sets=sets, backend="numpy", out=program.folder / out)

    def score(found, **given):
        return bioplaus.evaluate(found.path, dataset=arrays, **given)["test"]

    early, late = run("early"), run("late", "network.pass.test_readout=9")
    np.testing.assert_array_equal(early.weights("fc"), late.weights("fc"))  # testing leaves no trace
    assert score(early, readout=7) == score(late, readout=7) != score(early, readout=5)
    for found, readout in ((early, 5), (late, 9)):  # the one it has: its own score, and nothing settled anew
        own = {name: found.metrics.test[name][-1] for name in ("loss", "error")}
        assert score(found, readout=readout) == score(found)
        assert {name: getattr(score(found, readout=readout), name) for name in own} == own
    with pytest.raises(
        ConfigError, match=r"^--readout: pass\.test_readout: no path leads from 'h1' at time 1 to 'h2' a"
    ):
        score(early, readout=1)


def test_the_readout_of_training_is_that_of_testing_where_there_is_no_other(program):
    command(program, "numpy", "run")
    args = ["run", "rule.yaml", "--dataset", "digits", "--network", "net.yaml", "--backend", "numpy", "--quiet"]
    assert program(*args, "--set", "network.pass.test_readout=null", "--out", "run").code == 0
    own = bioplaus.open_run(program.folder / "run").metrics.test
    scored = json.loads(program("evaluate", "run", "--readout", 4, "--json").out)["test"]
    assert (scored["loss"], scored["error"]) == (own.loss[-1], own.error[-1])
    refused = program("evaluate", "run", "--readout", 1)
    assert refused.code == 2 and refused.line.startswith("--readout: pass.test_readout: no path leads ")


def test_a_network_that_is_no_graph_has_no_readout(program):
    assert program("run", "sgd", "--dataset", "digits", "--epochs", 1, "--out", "run", "--quiet").code == 0
    done = program("evaluate", "run", "--readout", 3)
    assert done.code == 2 and "runs as feedforward; only a graph is read out at a time." in done.line


def test_a_graph_that_cannot_be_read_out_writes_nothing(program):
    before = command(program, "numpy", "run")
    done = program(*before, "--set", "network.pass.readout=1")
    assert done.code == 2 and "pass.readout: no path leads from 'h1' at time 1 to 'h2' at time 1." in done.line
    assert not (program.folder / "run").exists()
