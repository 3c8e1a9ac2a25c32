"""A trained network is pruned, looked at, interrupted on the way, and made smaller."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
from program import everything

from bioplaus import open_run
from bioplaus.errors import RunError
from bioplaus.rendering import reconstruct
from bioplaus.train import lifetime
from bioplaus.train.compact import compact

NETWORK = """
network: tiny
input: [1, 8, 8]
layers:
- conv1: {conv: 6, kernel: 3}
- norm
- relu
- maxpool: 2
- conv2: {conv: 8, kernel: 2}
- norm
- relu
- flatten
- fc1: {dense: 20}
- norm
- relu
- fc2: {dense: classes}
"""
SYNAPSES = """
rule: synapses
from: sgd
defaults:
  channel: rndf
  update: {rate: 1.0e-3}
  pruning: {recipe: uili_sp, cut: {recipe: rat_neocortex, period: 1}, momentum: 0.9}
layers: {fc2: {pruning: {recipe: magnitude, cut: {recipe: keep, share: [0.5, 0.1], at: [2, 3]}}}}
training: {epochs: 5, rate: constant}
"""
NEURONS = """
rule: neurons
from: sgd
defaults:
  norm: batch
  update: {rate: 1.0e-3}
  pruning: {recipe: uili_np, cut: {recipe: prune, share: 0.6, at: [1, 2]}}
layers: {$last: {pruning: none}}
training: {epochs: 3, rate: constant}
"""
RENDERING = """
network: rendering
input: [1, 8, 8]
pass: generative
layers:
- conv1: {conv: 4, kernel: 3, pad: full}
- relu
- maxpool: 2
- conv2: {conv: 6, kernel: 2}
- relu
- globalmeanpool
- fc: {dense: classes}
"""
THINNED = """
rule: thinned
from: drmm_sup
network: rendering.yaml
defaults:
  norm: none
  pruning: {recipe: magnitude, cut: {recipe: keep, share: 0.5, at: 1}}
layers: {conv2: {pruning: {recipe: uili_np, cut: {recipe: keep, share: 0.6, at: 1}}}}
losses: {reconstruction: {weight: 0.5, on: both}}
data: {labels: 100}
training: {epochs: 2, rate: constant}
"""
ABOUT = ["--dataset", "digits", "--network", "net.yaml", "--threads", "1", "--quiet"]


def written(home):
    for name, text in {"net": NETWORK, "synapses": SYNAPSES, "neurons": NEURONS}.items():
        (home / f"{name}.yaml").write_text(text)


def trained(program, rule, out, *more, **broken):
    written(program.folder)
    return program("run", f"{rule}.yaml", *ABOUT, "--out", out, *more, **broken)


@pytest.fixture(scope="module", params=["numpy", "torch"])
def home(request, server, tmp_path_factory):
    """A folder with a run of one epoch without pruning, and two that go on from it and prune."""
    pytest.importorskip(request.param)
    program = replace(server, folder=tmp_path_factory.mktemp(request.param))
    on = ["--backend", request.param]
    plain = ["--set", "defaults.pruning=none", "--set", "layers.*.pruning=none", "--epochs", "1"]
    for rule in ("synapses", "neurons"):
        assert trained(program, rule, f"{rule}_plain", *on, *plain).code == 0
        done = trained(program, rule, rule, *on, "--from", f"{rule}_plain")
        assert done.code == 0, done.err
    return program.folder


@pytest.fixture
def inside(program, home):
    """The command line in a copy of that folder."""
    shutil.copytree(home, program.folder, dirs_exist_ok=True)
    return program


# -- the log and the report ------------------------------------------------------------------
def test_every_cut_has_a_row_in_the_log(home):
    run = open_run(home / "synapses")
    for layer in ("conv1", "conv2", "fc1"):
        rows, size = run.layer(layer).pruning, run.weights(layer).size
        left = [size]
        for rate in (0.27, 0.15, 0.039, 0.006):
            left.append(left[-1] - round(rate * left[-1]))
        np.testing.assert_allclose(rows.alive, np.array(left[1:]) / size, rtol=1e-6)
        assert rows.step.tolist() == [14, 28, 42, 56]
        assert rows.use.shape == (4, run.array(f"{layer}.b").size) and (rows.use < 1).all()
        assert (run.weights(layer) != 0).sum() == left[-1]
    assert open_run(home / "synapses").layer("fc2").pruning.alive.tolist() == pytest.approx([0.5, 0.1])
    assert "layers/fc2/pruning" not in open_run(home / "neurons").tables


def test_the_report_counts_what_is_there(inside):
    done = inside("prune", "synapses", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    by_hand = counted(inside.folder / "synapses")
    for row, (name, wanted) in zip(found["layers"], by_hand.items(), strict=True):
        assert row["layer"] == name
        for key, value in wanted.items():
            assert row[key] == pytest.approx(value, rel=1e-6), (name, key)
    whole, weights = [row["flops"] for row in found["layers"]], [row["weights"] for row in found["layers"]]
    left = sum(row["flops"] * row["flops_left"] for row in found["layers"]) / sum(whole)
    kept = sum(row["weights"] * row["kept"] for row in found["layers"]) / sum(weights)
    assert found["total"]["flops_left"] == pytest.approx(left)
    assert found["fewer"] == {"weights": pytest.approx(100 / kept), "flops": pytest.approx(100 / left)}
    handed = [6 * 3 * 3, 8 * 2 * 2, 20, 10]
    active = sum(row["active"] * n for row, n in zip(found["layers"], handed, strict=True)) / sum(handed)
    assert found["total"]["active"] == pytest.approx(active)


def counted(folder):
    """Each layer of ``synapses`` by loops over the test images."""
    session = lifetime.reread(folder)
    net, run, feed = session.network, open_run(folder), session.feeds["test"]
    with net.xp.scope():
        x = net.xp.host(feed.batch(np.arange(len(feed))).x).astype(float)
    W = {node.name: net.xp.host(node.W).astype(float) for node in net.nodes}
    b = {name: run.array(f"{name}.b").astype(float).ravel() for name in W}

    def convolved(x, name, k):
        places = x.shape[2] - k + 1
        y = np.zeros((len(x), len(W[name]), places, places))
        for r, c in np.ndindex(places, places):
            y[:, :, r, c] = np.einsum("nikl,oikl->no", x[:, :, r : r + k, c : c + k], W[name]) + b[name]
        return np.maximum(y, 0.0)

    one = convolved(x, "conv1", 3).reshape(len(x), 6, 3, 2, 3, 2).max((3, 5))
    two = convolved(one, "conv2", 2).reshape(len(x), -1)
    three = np.maximum(two @ W["fc1"] + b["fc1"], 0.0)
    outs = {"conv1": one, "conv2": two, "fc1": three, "fc2": three @ W["fc2"] + b["fc2"]}
    places, below, found = {"conv1": 36, "conv2": 4, "fc1": 1, "fc2": 1}, 100.0, {}
    for name, y in outs.items():
        kept, active = 100.0 * (W[name] != 0).mean(), 100.0 * (y != 0).mean()
        flops = 2 * W[name].size * places[name]
        row = {"weights": W[name].size, "flops": flops, "kept": kept, "neurons": 100.0, "active": active}
        found[name] = row | {"flops_left": kept * below / 100.0}
        below = active
    return found


def test_the_report_on_neurons_and_on_a_network_that_was_never_pruned(inside):
    rows = json.loads(inside("prune", "neurons", "--json").out)["layers"]
    alive = [216 * 0.4, 32 * 0.4, 20 * 0.4]
    for row, first, size in zip(rows, alive, (216, 32, 20), strict=False):
        left = size - round(0.6 * size)
        assert row["neurons"] == pytest.approx(100 * (left - round(0.6 * left)) / size) and row["kept"] == 100.0
        assert first > row["neurons"] * size / 100
    assert rows[1]["flops_left"] == pytest.approx(rows[1]["neurons"] * rows[0]["active"] / 100)
    plain = inside("prune", "neurons_plain")
    assert plain.code == 0 and "1.0 times fewer weights" in plain.out
    still = "where zeros are skipped; weights of dead neurons still count"
    assert still in inside("prune", "neurons").out and still not in plain.out
    assert plain.out.startswith("layer  weights  FLOP   weights %  neurons %  active %  FLOP %\n")


@pytest.fixture(scope="module")
def thinned(server, tmp_path_factory):
    """A run of a generative network whose layers lose weights, one of them neurons."""
    pytest.importorskip("torch")
    program = replace(server, folder=tmp_path_factory.mktemp("thinned"))
    for name, text in {"rendering": RENDERING, "thinned": THINNED}.items():
        (program.folder / f"{name}.yaml").write_text(text)
    done = program("run", "thinned.yaml", "--dataset", "digits", "--quiet", "--out", "thinned")
    assert done.code == 0, done.err
    return program


def test_a_generative_network_is_counted_on_both_ways(thinned):
    """What a network without norms renders through each layer is the slope of the class's output there."""
    torch = pytest.importorskip("torch")
    found = json.loads(thinned("prune", "thinned", "--json").out)
    session, run = lifetime.reread(thinned.folder / "thinned"), open_run(thinned.folder / "thinned")
    net, feed = session.network, session.feeds["test"]
    x = torch.tensor(net.xp.host(feed.batch(np.arange(len(feed))).x))
    W = {node.name: torch.tensor(net.xp.host(node.W)) for node in net.nodes}
    b = {name: torch.tensor(run.array(f"{name}.b")).flatten() for name in W}
    alive = torch.tensor(run.array("conv2.pruning.mask"))
    one = torch.conv2d(x, W["conv1"], b["conv1"], padding=2).requires_grad_()
    given = torch.max_pool2d(one.relu(), 2)
    two = torch.conv2d(given, W["conv2"], b["conv2"])
    up = two.relu() * alive
    pooled = up.mean((2, 3))
    out = pooled @ W["fc"] + b["fc"]
    slopes = torch.autograd.grad(out.amax(1).sum(), (one, two))

    def share(array):
        return 100 * float((array != 0).double().mean())

    kept, neurons = [share(W["conv1"]), share(W["fc"])], share(alive)
    wanted = [  # operations up and down, what is left of each, activity on the way up and down
        (2 * 36 * 100, 2 * 36 * 64, kept[0], kept[0] * share(slopes[0]) / 100, share(given), share(slopes[0])),
        (2 * 96 * 16, 2 * 96 * 25, neurons * share(given) / 100, share(slopes[1]), share(pooled), share(slopes[1])),
        (2 * 60, 2 * 6, kept[1] * share(pooled) / 100, kept[1], 100.0, 100.0),
    ]
    assert [row["layer"] for row in found["layers"]] == ["conv1", "conv2", "fc"]
    for row, (rises, falls, rising, falling, *active) in zip(found["layers"], wanted, strict=True):
        assert (row["flops"], row["flops_down"]) == (rises, falls), row
        assert (row["active"], row["active_down"]) == pytest.approx(active, abs=0.02), row
        left = (rises * rising + falls * falling) / (rises + falls)
        assert row["flops_left"] == pytest.approx(left, abs=0.02), row
    assert neurons == pytest.approx(60, abs=1) and kept[0] == 50.0
    total, layers = found["total"], found["layers"]
    assert total["flops_down"] == sum(row["flops_down"] for row in layers)
    both = sum((row["flops"] + row["flops_down"]) * row["flops_left"] for row in layers)
    assert total["flops_left"] == pytest.approx(both / (total["flops"] + total["flops_down"]))
    rendered = sum(n * row["active_down"] for n, row in zip((400, 96, 10), layers, strict=True)) / 506
    assert total["active_down"] == pytest.approx(rendered)
    shown = thinned("prune", "thinned").out
    assert shown.startswith("layer  weights  FLOP up  FLOP down  weights %  neurons %  active %  rendered %  FLOP %\n")


def test_what_was_pruned_before_stays_pruned_where_a_run_goes_on_from_it(inside):
    done = trained(inside, "synapses", "more", "--from", "synapses", "--epochs", "1", "--set", "seed=3")
    assert done.code == 0, done.err
    before, after = (open_run(inside.folder / name) for name in ("synapses", "more"))
    for layer in ("conv1", "conv2", "fc1"):
        old, new = (run.array(f"{layer}.pruning.mask") for run in (before, after))
        assert not (new > old).any() and new.sum() == old.sum() - round(0.27 * old.sum())
        assert not after.weights(layer)[new == 0].any()
        assert not after.array(f"{layer}.feedback.V")[new == 0].any()


@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_run_that_ends_before_its_first_cut_says_so(program, first):
    written(program.folder)
    later = ["--set", f"defaults.pruning.cut.at=[{first}, 9]", "--set", "defaults.pruning.cut.share=0.5"]
    run = ["run", "neurons.yaml", *ABOUT, "--epochs", "2", *later]
    run.remove("--quiet")
    done = program(*run)
    assert done.code == 0, done.err
    said = "no cut is due at the end of epochs 1 to 2: what exists now stays"
    assert (said in done.out.splitlines()) == (first > 2)


# -- resuming --------------------------------------------------------------------------------
@pytest.mark.parametrize("batch", [14, 15])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_stopped_before_or_after_a_cut_it_ends_to_the_bit_the_same(program, backend, batch, whole):
    """An epoch has 14 batches: in the first case the cut is still to come."""
    pytest.importorskip(backend)
    on = ["--backend", backend, "--set", "record.weights=1 epoch"]
    stopped = trained(program, "synapses", "run", *on, batch=batch, by=signal.SIGTERM)
    assert stopped.code == 130, stopped.err
    assert program("resume", "run", "--quiet").code == 0
    assert everything(program.folder / "run") == whole(backend)


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    """What an uninterrupted run leaves, by backend."""
    found = {}

    def run(backend):
        if backend not in found:
            program = replace(server, folder=tmp_path_factory.mktemp(backend))
            on = ["--backend", backend, "--set", "record.weights=1 epoch"]
            assert trained(program, "synapses", "run", *on).code == 0
            found[backend] = everything(program.folder / "run")
        return found[backend]

    return run


# -- the smaller network ---------------------------------------------------------------------
def outputs(session):
    network, feed = session.network, session.feeds["test"]
    with network.xp.scope():
        return network.xp.host(network.predict(feed.batch(np.arange(len(feed))).x))


def test_a_smaller_network_gives_the_same_outputs_and_learns_on(inside):
    done = inside("prune", "neurons", "--out", "small", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)["compact"]
    before, after = (lifetime.reread(inside.folder / name) for name in ("neurons", "small"))
    wanted, given = outputs(before), outputs(after)
    assert abs(given - wanted).max() <= 1e-6 * abs(wanted).max() and found["difference"] <= 1e-6
    assert found["units"]["fc1"] == [20, 3] and found["units"]["fc2"] == [10, 10]
    small = open_run(inside.folder / "small")
    assert small.weights("fc1").shape == (4 * found["units"]["conv2"][1], 3)
    assert found["weights"][1] == sum(small.weights(name).size for name in ("conv1", "conv2", "fc1", "fc2"))
    scores = [json.loads(inside("evaluate", name, "--json").out)["test"] for name in ("neurons", "small")]
    assert scores[0] == scores[1] | {"loss": pytest.approx(scores[0]["loss"], rel=1e-5)}
    assert inside("resume", "small").out.startswith("small: complete")
    assert inside("resume", "small", "--epochs", "4", "--quiet").code == 0
    assert open_run(inside.folder / "small").summary["epochs"] == 4


@pytest.fixture
def dying(inside):
    """``synapses`` at its end, with some units whose synapses are all gone; told by hand which."""
    session = lifetime.reread(inside.folder / "synapses")
    net = session.network
    conv1, conv2, fc1, fc2 = net.nodes
    with net.xp.scope():
        conv1.bias.W[...] = 0.5
        conv1.weights.mask[2] = 0.0  # constant: reaches conv2 as 0.5, and its bias can hold that
        conv2.weights.mask[3] = 0.0  # constant 0.25
        conv2.bias.W[0, 3] = 0.25
        conv2.weights.mask[5] = 0.0  # constant 0, after relu
        conv2.bias.W[0, 5] = -1.0
        fc1.weights.mask[:, 4] = 0.0
        fc1.bias.W[0, 4] = 2.0
        fc2.weights.mask[7] = 0.0  # nobody reads unit 7 of fc1
        fc2.weights.mask[8] = 0.0
        fc1.weights.mask[20:24, :7] = 0.0  # filter 5 of conv2 is dead anyway
        for node in net.nodes:
            node.silence()
        keeps = fc1.weights.mask[0:4] * 0.0
        keeps[:, 8] = 1.0
        fc1.weights.mask[0:4] = keeps  # filter 0 of conv2 is read by unit 8 alone, which is gone
        fc1.silence()
    return session


def test_constants_move_into_biases_and_what_nobody_reads_is_gone(dying, tmp_path):
    wanted = outputs(dying)
    made = compact(dying, tmp_path / "small")
    assert made.difference <= 1e-6
    given = outputs(lifetime.reread(tmp_path / "small"))
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-6 * abs(wanted).max())
    gone = {name: before - after for name, (before, after) in made.units.items()}
    assert gone["conv1"] >= 1 and gone["conv2"] >= 3 and gone["fc1"] >= 3 and gone["fc2"] == 0
    small = open_run(tmp_path / "small")
    assert small.array("conv2.b").size == 8 - gone["conv2"]
    for layer in ("conv1", "conv2", "fc1"):
        assert not small.weights(layer)[small.array(f"{layer}.pruning.mask") == 0].any()
        assert small.array(f"{layer}.pruning.use").shape == small.weights(layer).shape


def test_a_constant_at_the_edge_of_a_padded_map_stays(inside):
    """Where the next layer pads with zeros a constant map is no constant to it, nor what it makes of it."""
    padded = NETWORK.replace("conv: 8, kernel: 2", "conv: 8, kernel: 3, pad: half").replace("tiny", "padded")
    (inside.folder / "padded.yaml").write_text(padded)
    run = ["run", "synapses.yaml", "--dataset", "digits", "--network", "padded.yaml", "--quiet", "--out", "padded"]
    assert inside(*run, "--epochs", "1").code == 0
    session = lifetime.reread(inside.folder / "padded")
    conv1, conv2 = session.network.nodes[:2]
    with session.network.xp.scope():
        conv1.weights.mask[:2] = 0.0
        conv1.bias.W[...] = 0.0
        conv1.bias.W[0, 0] = 0.5
        conv1.silence()
        conv2.weights.mask[...] = 1.0
        conv2.weights.mask[3, 1:] = 0.0  # of nothing but the constant
        conv2.weights.W[3, 0] = 0.5
        conv2.silence()
    made = compact(session, inside.folder / "small")
    assert made.units["conv1"] == (6, 5) and made.units["conv2"] == (8, 8) and made.difference <= 1e-6
    assert open_run(inside.folder / "small").array("conv1.b").ravel()[0] == 0.5


def test_a_smaller_generative_network_renders_the_same(thinned, tmp_path):
    session = lifetime.reread(thinned.folder / "thinned")
    net, feed = session.network, session.feeds["test"]
    conv1, conv2, fc = net.nodes
    with net.xp.scope():
        conv1.weights.mask[1] = 0.0  # constant, and nobody renders anything through it
        conv1.bias.W[0, 1] = 0.25
        conv2.survivors.mask[:, 2] = 0.0
        fc.weights.mask[4] = 0.0  # nobody reads filter 4, and no template reaches it
        for node in net.nodes:
            node.silence()
        alive = net.xp.host(conv2.survivors.mask).reshape((6, -1)).any(1)
        alive[4] = False
        batch = feed.batch(np.arange(len(feed)))
    wanted = reconstruct(net, batch)
    made = compact(session, tmp_path / "small")
    assert made.units == {"conv1": (4, 3), "conv2": (6, alive.sum()), "fc": (10, 10)} and made.difference <= 1e-6
    given = reconstruct(lifetime.reread(tmp_path / "small").network, batch)
    for one, other in ((wanted.output, given.output), (wanted.reconstruction, given.reconstruction)):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-6 * abs(one).max())
    assert wanted.reconstruction.any()


@pytest.mark.parametrize("factor", [1.001, np.nan])
def test_a_smaller_network_that_renders_anything_else_is_not_written(thinned, tmp_path, monkeypatch, factor):
    session = lifetime.reread(thinned.folder / "thinned")
    with session.network.xp.scope():
        session.network.nodes[2].weights.mask[4] = 0.0
        session.network.nodes[2].silence()

    def wrong(network, batch):
        found = reconstruct(network, batch)
        off = 1.0 if network is session.network else factor
        return found._replace(reconstruction=found.reconstruction * off)

    monkeypatch.setattr("bioplaus.train.compact.reconstruct", wrong)
    with pytest.raises(RunError, match="differ by"):
        compact(session, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_a_layer_that_is_dead_keeps_one_unit(dying, tmp_path):
    with dying.network.xp.scope():
        fc2 = dying.network.nodes[-1]
        fc2.weights.mask[...] = 0.0
        fc2.silence()
    made = compact(dying, tmp_path / "small")
    assert [after for _, after in made.units.values()] == [1, 1, 1, 10] and made.difference == 0.0


def test_synapses_of_the_living_cannot_be_left_out(inside, tmp_path):
    session = lifetime.reread(inside.folder / "synapses_plain")
    node = session.network.nodes[-1]
    node.survivors = lifetime.reread(inside.folder / "synapses").network.nodes[0].survivors
    node.survivors.mask = node.xp.zeros(node.map.shape) + 1.0
    node.survivors.mask[3, 3] = 0.0
    with pytest.raises(RunError, match="no unit and no filter is dead"):
        compact(session, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_what_cannot_be_made_smaller_says_why(inside, tmp_path):
    done = inside("prune", "synapses_plain", "--out", "small")
    assert done.code == 2 and done.line.endswith(
        "nothing of it is pruned. Train it by a rule that prunes, as uili_np does."
    )
    assert not (inside.folder / "small").exists()
    (inside.folder / "block.yaml").write_text(
        "network: block\ninput: [1, 8, 8]\nlayers:\n- flatten\n- fc1: {dense: 20}\n"
        "- b: {residual: [{conv2: {dense: 20}}]}\n- relu\n- fc2: {dense: classes}\n"
    )
    run = ["run", "sgd", "--dataset", "digits", "--network", "block.yaml", "--epochs", "1", "--quiet", "--out", "block"]
    assert inside(*run).code == 0
    done = inside("prune", "block", "--out", "small")
    assert done.code == 2 and "'block' has a layer residual; only chains of conv and dense" in done.line
    (inside.folder / "unit.yaml").write_text(RENDERING.replace("rendering", "unit"))
    local = "drmm_hebb", "--network", "unit.yaml", "--dataset", "digits", "--set", "defaults.norm=none"
    assert inside("run", *local, "--epochs", "1", "--quiet", "--out", "unit").code == 0
    done = inside("prune", "unit", "--out", "small")
    assert done.code == 2 and "the weights of 'conv1' are taken at length one" in done.line
    stopped = trained(inside, "neurons", "stopped", batch=16, by=signal.SIGTERM)
    assert stopped.code == 130
    done = inside("prune", "stopped", "--out", "small")
    assert done.code == 2 and "stopped within an epoch" in done.line and inside("prune", "stopped").code == 0
    assert trained(inside, "neurons", "mixed", "--set", "defaults.norm=layer", "--epochs", "2").code == 0
    done = inside("prune", "mixed", "--out", "small")
    assert done.code == 2 and "outputs differ by" in done.line and "norm over channels" in done.line
    assert not (inside.folder / "small").exists()
    assert inside("prune", "neurons", "--out", "block").code == 2


# -- wrong input -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["defaults.pruning.cut={recipe: prune, share: 1.5}"], "share is 1.5; wanted a share of what is left"),
        (
            ["defaults.pruning.cut={recipe: keep, share: 0.0001}"],
            "layers.conv1.pruning: of 54 synapses none would be left",
        ),
        (
            ["layers.fc2.pruning={recipe: uili_np, cut: {recipe: rat_neocortex, rates: [0.95]}}"],
            "of 10 neurons none would",
        ),
        (["defaults.pruning.cutt=prune"], "'uili_sp' has no parameter 'cutt'; did you mean 'cut'?"),
        (["defaults.pruning.momentum=1.0"], "layers.conv1.pruning.momentum: given 1.0, wanted a share"),
        (["layers.conv9.pruning=none"], "layers.conv9: matches no layer"),
    ],
)
def test_wrong_input(program, args, said):
    sets = [word for arg in args for word in ("--set", arg)]
    done = trained(program, "synapses", "run", "--backend", "numpy", *sets)
    assert done.code == 2 and said in done.line
    assert not (program.folder / "run").exists()


def test_a_cut_that_empties_a_layer_ends_the_run_with_one_line(program):
    sets = ["--set", "defaults.pruning.cut={recipe: below, use: 0.999, at: 2}"]
    done = trained(program, "synapses", "run", "--backend", "numpy", *sets)
    assert done.code == 1
    assert done.line.startswith("layer 'conv1', epoch 2: pruning leaves no synapses. Prune less. Log: ")
    assert open_run(program.folder / "run").status == "failed"


def test_a_run_that_is_not_there(program):
    done = program("prune", "nowhere")
    assert done.code == 2 and "nowhere: does not exist" in done.line
    with pytest.raises(RunError):
        lifetime.reread(program.folder / "nowhere")
