"""How a configuration comes together: precedence, variants, addresses, phases, references, and where it is all from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bioplaus import config
from bioplaus.config import Every
from bioplaus.config.choices import matching
from bioplaus.config.parts import Wrong, merged
from bioplaus.errors import ConfigError

LAYERS = ["conv1", "conv2", "fc1", "fc2"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def resolved(rule, kind="norm", **given):
    """The recipe of one choice for every layer of LeNet."""
    chosen = config.choices(config.load(rule, **{"network": "lenet", **given}), LAYERS)
    return [chosen[name][kind]["recipe"] for name in LAYERS]


def test_what_a_rule_leaves_out():
    """design: channel bp, norm none, update sgd, plasticity error, pruning none; and the log's usual tables."""
    plain = config.load({}, network="lenet")
    chosen = config.choices(plain, ["a"])["a"]
    assert {kind: spec["recipe"] for kind, spec in chosen.items()} == {
        "channel": "bp",
        "norm": "none",
        "update": "sgd",
        "plasticity": "error",
        "pruning": "none",
    }
    record = plain.record
    assert (record.norm, record.feedback, record.update) == (Every(50, "update"),) * 3
    assert record.activity == Every(1, "epoch")
    assert (record.weights, record.batches, record.gradient) == (None, None, None)
    assert (plain.training.reduction, plain.training.batches_per_update, plain.seed) == ("sum", 1, 0)
    assert plain.rule == "unnamed"


def test_a_mapping_with_recipe_replaces_and_one_without_merges(folder):
    Path("base.yaml").write_text("defaults: {update: {recipe: bm1, rate: 1.0e-3, decay: 0.1}, norm: batch}")
    Path("child.yaml").write_text("from: base.yaml\ndefaults: {update: {rate: 2}, norm: {affine: true}}")
    Path("other.yaml").write_text("from: base.yaml\ndefaults: {update: {recipe: sgd, rate: 3}, norm: null}")
    child, other = (config.load(name, network="lenet").defaults for name in ("child.yaml", "other.yaml"))
    assert child.update == {"recipe": "bm1", "rate": 2, "decay": 0.1}
    assert child.norm == {"recipe": "batch", "affine": True}
    assert other.update == {"recipe": "sgd", "rate": 3}
    assert other.norm == {"recipe": "none"}


def test_later_wins(folder):
    """preset, then network, rule's parent, rule, flag, setting; each overrules all before it."""
    Path("parent.yaml").write_text("seed: 3\ntraining: {epochs: 3, samples_per_batch: 30}\nthreads: 3")
    Path("rule.yaml").write_text("from: parent.yaml\nseed: 4\ntraining: {epochs: 4}")

    def preset(name):
        assert name == "mnist"
        return {"network": "lenet", "seed": 1, "data": {"preprocess": "whiten"}, "training": {"clip": 1.0}}

    def load(**given):
        return config.load("rule.yaml", dataset="mnist", preset=preset, **given)

    plain = load()
    assert (plain.network.name, plain.data.preprocess, plain.training.clip) == ("lenet", "whiten", 1.0)
    assert (plain.seed, plain.training.epochs, plain.training.samples_per_batch, plain.threads) == (4, 4, 30, 3)
    assert load(flags={"seed": 5, "epochs": None}).seed == 5
    both = load(flags={"seed": 5, "epochs": 5}, sets=["seed=6", "training.epochs=6", "training.epochs=7"])
    assert (both.seed, both.training.epochs) == (6, 7)
    assert load(network="mlp").network.name == "mlp"
    assert load(network="mlp", sets=["network=digits_net"]).network.name == "digits_net"
    assert load(sets=["network.input=[1, 32, 32]"]).network.input == (1, 32, 32)


def test_the_data_set_that_counts_brings_its_preset(folder):
    Path("rule.yaml").write_text("dataset: digits")
    brought = {"digits": "digits_net", "mnist": "lenet", "cifar10": "liao_cifar"}

    def load(**given):
        return config.load("rule.yaml", preset=lambda name: {"network": brought[name]}, **given).network.name

    assert load() == "digits_net"
    assert load(dataset="mnist") == "lenet"
    assert load(dataset="mnist", sets=["dataset=cifar10"]) == "liao_cifar"


def test_overrides_apply_from_top_to_bottom_and_after_the_parents():
    rule = {"defaults": {"norm": "a"}, "layers": {"*": {"norm": "b"}, "conv*": {"norm": "c"}, "conv2": {"norm": None}}}
    assert resolved(rule) == ["c", "none", "b", "b"]
    rule["layers"] = {"conv2": {"norm": None}, "conv*": {"norm": "c"}, "*": {"norm": "b"}}
    assert resolved(rule) == ["b"] * 4
    assert resolved(rule, sets=["layers.conv2.norm=d"]) == ["b", "d", "b", "b"]
    assert resolved(rule, sets=["layers.conv2.norm=d", "layers.$last={norm: e}"]) == ["b", "d", "b", "e"]


def test_a_child_overrides_the_layers_of_its_parent(folder):
    Path("parent.yaml").write_text("layers: {conv1: {norm: a}, '*': {norm: b, plasticity: none}}")
    Path("child.yaml").write_text("from: parent.yaml\nlayers: {conv1: {norm: c}}")
    assert resolved("child.yaml") == ["c", "b", "b", "b"]
    assert resolved("child.yaml", "plasticity") == ["none"] * 4


def test_a_layer_may_bear_the_name_of_a_choice():
    loaded = config.load(
        {}, network={"input": [3], "layers": [{"norm1": {"dense": 3}}]}, sets=["layers.norm.norm=batch"]
    )
    assert loaded.layers == (("norm", {"norm": {"recipe": "batch"}}),)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("conv1", ["conv1"]),
        ("conv?", ["conv1"]),
        ("s*", ["s1.conv1", "s1.conv2"]),
        ("s1.conv2", ["s1.conv2"]),
        ("*conv1", ["conv1", "s1.conv1"]),
        ("$first", ["conv1"]),
        ("$last", ["fc"]),
        ("$hidden", ["conv1", "s1.conv1", "s1.conv2"]),
        ("s1", ["s1.conv1", "s1.conv2"]),
        ("s?", ["s1.conv1", "s1.conv2"]),
        ("s", []),
        ("CONV1", []),
    ],
)
def test_addresses(address, expected):
    assert matching(address, ["conv1", "s1.conv1", "s1.conv2", "fc"]) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("lstm1.c", ["lstm1.c"]),
        ("*.c", ["lstm1.c"]),
        ("lstm1.*", ["lstm1.x", "lstm1.h", "lstm1.c"]),
        ("lstm1", ["lstm1.x", "lstm1.h", "lstm1.c"]),
        ("$first", ["lstm1.x"]),
        ("$hidden", ["lstm1.x", "lstm1.h", "lstm1.c"]),
        ("$last", ["out"]),
    ],
)
def test_addresses_of_states(address, expected):
    """A state is addressed as a product is, and is neither the first layer nor the last."""
    assert matching(address, ["lstm1.x", "lstm1.h", "out"], ["lstm1.c"]) == expected


def test_settings_reach_every_part_of_a_rule():
    given = [
        "defaults.norm={recipe: layer}",
        "defaults.update.rate=1e-3",
        "layers.s1b1.conv2.update.rate=2",
        "layers.fc.channel=rndf",
        "record.weights=1 epoch",
        "record.norm=off",
        "data.validation=0.1",
        "data.classes=[cat, dog]",
        "training.rate.factor=0.5",
        "training.clip=null",
    ]
    loaded = config.load("usf_bn_bm", network="resnet20", sets=given)
    chosen = config.choices(loaded, ["conv1", "s1b1.conv2", "fc"])
    assert loaded.defaults.norm == {"recipe": "layer"}
    assert [chosen[name]["update"]["rate"] for name in chosen] == [1e-3, 2, 1e-3]
    assert [chosen[name]["channel"]["recipe"] for name in chosen] == ["usf", "usf", "rndf"]
    assert (loaded.record.weights, loaded.record.norm, loaded.data.validation) == (Every(1, "epoch"), None, 0.1)
    assert loaded.data.options() == {"classes": ["cat", "dog"]}
    assert loaded.training.rate == {"recipe": "steps", "after": [50, 60], "factor": 0.5}


def test_phases_fill_in_what_they_leave_out():
    training = {
        "epochs": 10,
        "samples_per_batch": 20,
        "rate": {"recipe": "steps", "after": [1], "factor": 0.1},
        "phases": [
            {"epochs": 3, "update": {"rate": 7}, "rate": {"factor": 0.5}},
            {"samples_per_batch": 50, "batches_per_update": 2, "update": ["sign", {"rate": 1}]},
        ],
    }
    loaded = config.load({"defaults": {"update": {"recipe": "bm1", "rate": 1}}, "training": training}, network="lenet")
    first, second = loaded.training.timeline()
    assert (first.epochs, first.samples_per_batch, first.batches_per_update) == (3, 20, 1)
    assert (second.epochs, second.samples_per_batch, second.batches_per_update) == (7, 50, 2)
    assert first.rate == {"recipe": "steps", "after": [1], "factor": 0.5}
    assert second.rate == training["rate"]
    updates = [config.choices(loaded, ["fc1"], phase=phase)["fc1"]["update"] for phase in (None, 0, 1)]
    assert updates == [{"recipe": "bm1", "rate": 1}, {"recipe": "bm1", "rate": 7}, ["sign", {"rate": 1}]]


def test_epochs_are_the_sum_of_the_phases_where_nobody_says():
    loaded = config.load({"training": {"phases": [{"epochs": 3}, {"epochs": 4}]}}, network="lenet")
    assert loaded.training.epochs == 7
    whole = config.load({"training": {"epochs": 9}}, network="lenet").training.timeline()
    assert [phase.epochs for phase in whole] == [9]


def test_one_problem_with_phases_and_the_flag():
    assert config.load("usf_bm_phases", network="lenet", flags={"epochs": 5}).training.timeline()[1].epochs == 2
    with pytest.raises(ConfigError, match=r"usf_bm_phases.yaml:\d+: training.phases: the first phases take 3 epochs"):
        config.load("usf_bm_phases", network="lenet", flags={"epochs": 3})


def test_where_a_choice_came_from(folder):
    Path("p.yaml").write_text("defaults:\n  channel: usf\n  norm: batch\n")
    Path("r.yaml").write_text(
        "from: p.yaml\nlayers:\n  conv*:\n    channel: rndf\n  conv2: {norm: none, channel: usf}\n"
        "defaults: {update: sgd}"
    )
    loaded = config.load("r.yaml", network="lenet", sets=["layers.fc1.norm=none"], flags={"epochs": 3})
    assert config.where(loaded, "layers.conv1.channel") == "r.yaml:4: layers.conv1.channel"
    assert config.where(loaded, "layers.conv2.channel") == "r.yaml:5: layers.conv2.channel"
    assert config.where(loaded, "layers.fc2.update") == "r.yaml:6: layers.fc2.update"
    assert config.where(loaded, "defaults") == "r.yaml:6: defaults"
    assert config.where(loaded, "layers.conv2.norm") == "r.yaml:5: layers.conv2.norm"
    assert config.where(loaded, "layers.conv1.norm") == "p.yaml:3: layers.conv1.norm"
    assert config.where(loaded, "layers.fc1.norm") == "--set: layers.fc1.norm"
    assert config.where(loaded, "training.epochs") == "--epochs: training.epochs"
    assert config.where(loaded, "seed") == "seed"
    set_too = config.load("sgd", network="lenet", sets=["training.clip=1"])
    assert config.where(set_too, "training.clip") == "--set: training.clip"
    network = config.load("sgd", network="char_gru", sets=["network.pass.steps=7"]).network
    assert network.where("pass", "steps") == "--set: pass.steps"
    assert network.where("layers", 0).rpartition(": ")[0].rpartition(":")[0].endswith("networks/char_gru.yaml")
    assert config.where(set_too, "training.epochs").endswith("rules/sgd.yaml:10: training.epochs")
    assert loaded.network.layers[0].where.endswith("networks/lenet.yaml:6: layers.0.conv1")


def test_names_paths_and_shipped_files(folder):
    assert config.find("rule", "sgd") == config.find("rule", "rules/sgd.yaml") == config.find("rule", "sgd.yaml")
    Path("rules").mkdir()
    Path("rules/sgd.yaml").write_text("seed: 9")
    assert config.find("rule", "rules/sgd.yaml") == folder / "rules/sgd.yaml"
    assert config.load("rules/sgd.yaml", network="networks/lenet.yaml").seed == 9
    assert config.load(Path("rules/sgd.yaml").resolve(), network="lenet").rule == "sgd"
    Path("deep").mkdir()
    Path("deep/net.yaml").write_text("input: [4]\nlayers: [{fc: {dense: classes}}]")
    Path("deep/rule.yaml").write_text("network: net.yaml\ndataset: ./mine.npz")
    loaded = config.load("deep/rule.yaml")
    assert (loaded.network.name, loaded.rule) == ("net", "rule")
    assert loaded.dataset == str(folder / "deep/mine.npz")
    assert config.load("sgd", network="lenet", dataset="mine.npz").dataset == str(folder / "mine.npz")
    assert config.load("sgd", network="lenet", dataset="mnist").dataset == "mnist"


def test_code_runs_only_where_it_was_allowed(folder):
    Path("deep").mkdir()
    Path("deep/r.yaml").write_text(
        "defaults: {plasticity: './my.py:Mine'}\nlayers: {fc1: {update: [{./my.py:L: 1}, rate]}}"
    )
    with pytest.raises(ConfigError) as raised:
        config.load("deep/r.yaml", network="lenet")
    assert len(str(raised.value).splitlines()) == 2
    allowed = config.load("deep/r.yaml", network="lenet", allow_code=True)
    reference = f"{folder}/deep/my.py:Mine"
    assert allowed.defaults.plasticity == {"recipe": reference}
    assert allowed.layers[0][1]["update"] == [{f"{folder}/deep/my.py:L": 1}, "rate"]
    said = config.load("sgd", network="lenet", sets=["defaults.plasticity=./my.py:Mine"])
    assert said.defaults.plasticity == {"recipe": f"{folder}/my.py:Mine"}
    Path("again.yaml").write_text(config.dump(said))
    with pytest.raises(ConfigError, match="would run code from a file"):
        config.load("again.yaml")
    assert config.load("again.yaml", allow_code=True) == said


def test_nothing_in_a_config_changes():
    loaded = config.load("sgd", network="lenet")
    with pytest.raises(ValueError, match="frozen"):
        loaded.seed = 3
    with pytest.raises(ValueError, match="frozen"):
        loaded.training.epochs = 3
    assert config.load("sgd", network="lenet") == loaded


def test_parents_are_not_changed_by_their_children():
    before = config.load("usf_bn_bm", network="lenet")
    config.load("usf_bn_bm", network="lenet", sets=["defaults.update.rate=9", "training.rate.factor=9"])
    config.choices(before.model_copy(update={"layers": (("*", {"update": {"rate": 8}}),)}), LAYERS)
    assert config.load("usf_bn_bm", network="lenet") == before


@pytest.mark.parametrize(
    ("base", "over", "expected"),
    [
        ({"recipe": "a", "p": 1}, {"q": 2}, {"recipe": "a", "p": 1, "q": 2}),
        ({"recipe": "a", "p": 1}, {"recipe": "b"}, {"recipe": "b"}),
        (
            {"recipe": "a", "ref": {"recipe": "x", "n": 1}},
            {"ref": {"n": 2}},
            {"recipe": "a", "ref": {"recipe": "x", "n": 2}},
        ),
        ({"recipe": "a", "ref": "x"}, {"ref": {"n": 2}}, {"recipe": "a", "ref": {"recipe": "x", "n": 2}}),
        (["sign", "rate"], {"recipe": "b"}, {"recipe": "b"}),
        ({"recipe": "a"}, ["sign"], ["sign"]),
    ],
)
def test_merging(base, over, expected):
    assert merged(base, over) == expected


def test_what_cannot_be_merged():
    with pytest.raises(Wrong, match="a list of links stands here"):
        merged(["sign"], {"rate": 1})
    with pytest.raises(Wrong, match="'none' stands here"):
        merged({"recipe": "none"}, {"affine": True})


def test_config_knows_names_and_no_parts_of_rules():
    """Reading loads the layers a network lists, for their signatures: no backend of a run, no part of a rule."""
    code = (
        "import sys; from bioplaus import config; config.dump(config.load('usf_bn_bm', network='resnet20'));"
        "print([m for m in sys.modules if m in ('torch', 'scipy', 'h5py') or m.startswith("
        "('bioplaus.layers.emb', 'bioplaus.channels', 'bioplaus.updates', 'bioplaus.norms', 'bioplaus.data'))])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
