"""The shipped rules against the columns of the published tables, and the configuration written out and read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from bioplaus import config
from bioplaus.config.parts import KINDS
from bioplaus.construct import make
from bioplaus.errors import ConfigError

LAYERS = ["conv1", "fc1", "fc2"]
SGD = {"recipe": "sgd", "momentum": 0.9, "decay": 0.05}  # rates were chosen by measuring, and may move
BM = {"momentum": 0.9, "decay": 0.05}
BM1, BM2, BM3 = ({"recipe": name, **BM} for name in ("bm1", "bm2", "bm3"))
BN, LEARNED = {"recipe": "batch"}, {"recipe": "batch", "affine": True}
NONE = {"recipe": "none"}
HALF_BR, HALF_FR = ({"recipe": name, "p": 0.5} for name in ("brsf_p", "frsf_p"))

# Thesis Tables 2.2 to 2.5: channel, norm, update of every column; which of three layers learn.
ALL, BOTTOM, TOP = "yyy", "yyn", "nny"
COLUMNS = {
    "sgd": ("bp", NONE, SGD, ALL),
    "bm": ("bp", NONE, BM1, ALL),
    "bn": ("bp", LEARNED, SGD, ALL),
    "bn_bm": ("bp", LEARNED, BM1, ALL),
    "usf": ("usf", NONE, SGD, ALL),
    "nusf": ("nusf", NONE, SGD, ALL),
    "usf_bm": ("usf", NONE, BM1, ALL),
    "usf_bn": ("usf", BN, SGD, ALL),
    "usf_bn_bm": ("usf", BN, BM1, ALL),
    "brsf_bn_bm": ("brsf", BN, BM1, ALL),
    "frsf_bn_bm": ("frsf", BN, BM1, ALL),
    "brsf_p_bn_bm": (HALF_BR, BN, BM1, ALL),
    "frsf_p_bn_bm": (HALF_FR, BN, BM1, ALL),
    "rndf": ("rndf", NONE, SGD, ALL),
    "rndf_bn": ("rndf", BN, SGD, ALL),
    "rndf_bm": ("rndf", NONE, BM1, ALL),
    "rndf_bn_bm": ("rndf", BN, BM1, ALL),
    "sgd_bottom": ("bp", NONE, SGD, BOTTOM),
    "sgd_top": ("bp", NONE, SGD, TOP),
    "rndf_bottom": ("rndf", NONE, SGD, BOTTOM),
    "rndf_top": ("rndf", NONE, SGD, TOP),
    "rndf_bn_bm_bottom": ("rndf", BN, BM1, BOTTOM),
    "rndf_bn_bm_top": ("rndf", BN, BM1, TOP),
    "usf_bn_bm_bottom": ("usf", BN, BM1, BOTTOM),
    "usf_bn_bm_top": ("usf", BN, BM1, TOP),
    "bm2": ("bp", NONE, BM2, ALL),
    "bm3": ("bp", NONE, BM3, ALL),
    "usf_bn_bm2": ("usf", BN, BM2, ALL),
    "usf_bn_bm3": ("usf", BN, BM3, ALL),
    "usf_bm_phases": ("usf", NONE, BM1, ALL),
    "dfa_bn": ("dfa", BN, SGD, ALL),
}


def test_every_shipped_rule_is_accounted_for():
    assert set(config.shipped("rule")) == {*COLUMNS, "oja"}


@pytest.mark.parametrize("rule", COLUMNS)
def test_shipped_rules_are_the_columns_of_the_tables(rule):
    channel, norm, update, learns = COLUMNS[rule]
    channel = channel if isinstance(channel, dict) else {"recipe": channel}
    loaded = config.load(rule, network="lenet")
    chosen = config.choices(loaded, LAYERS)
    for name, learning in zip(LAYERS, learns, strict=True):
        plasticity = {"recipe": "error" if learning == "y" else "none"}
        chosen[name]["update"] = dict(chosen[name]["update"])
        assert chosen[name]["update"].pop("rate") > 0
        assert chosen[name] == dict(zip(KINDS, (channel, norm, update, plasticity, NONE), strict=True))
    training = loaded.training
    assert loaded.rule == rule
    assert (training.reduction, training.samples_per_batch, training.epochs) == ("sum", 100, 65)
    assert training.rate == {"recipe": "steps", "after": [50, 60], "factor": 0.1}
    batches = [(phase.epochs, phase.samples_per_batch) for phase in training.timeline()]
    assert batches == ([(3, 100), (62, 500)] if rule == "usf_bm_phases" else [(65, 100)])


def test_oja_learns_locally_below_the_last_layer():
    chosen = config.choices(config.load("oja", network="lenet"), LAYERS)
    assert [chosen[name]["plasticity"]["recipe"] for name in LAYERS] == ["oja", "oja", "error"]


@pytest.mark.parametrize("rule", [*COLUMNS, "oja"])
def test_shipped_rules_name_parts_that_exist_and_parameters_they_take(rule):
    loaded = config.load(rule, network="lenet")
    for name, kinds in config.choices(loaded, LAYERS).items():
        for kind, spec in kinds.items():
            made = make(kind, spec, config.where(loaded, f"layers.{name}.{kind}"))
            assert (made is None) == (spec == NONE)
    make("schedule", loaded.training.rate)


@pytest.mark.parametrize("name", config.shipped("network"))
def test_shipped_networks_name_parts_that_exist(name):
    network = config.load("sgd", network=name).network
    assert make("loss", network.loss)
    assert make("pass", network.pass_)
    for item in config.walk(network.layers):
        if item.kind != "residual":
            sized = {key: config.size(v, 10) if "classes" in str(v) else v for key, v in item.params.items()}
            make("layer", {"recipe": item.kind, **sized}, item.where)


@pytest.mark.parametrize("kind", ["rule", "network"])
def test_shipped_files_begin_with_the_editors_line_and_what_they_are(kind):
    for name in config.shipped(kind):
        path = config.find(kind, name)
        first, second, *rest = path.read_text(encoding="utf-8").splitlines()
        assert first == f"# yaml-language-server: $schema=../docs/schema/{kind}.json"
        assert second.startswith("# ") and len(second) < 180, name
        assert f"{kind}: {name}" in rest
        assert config.check_file(path) == []


def read_back(loaded, folder: Path):
    path = folder / "config.yaml"
    path.write_text(config.dump(loaded), encoding="utf-8")
    assert config.check_file(path) == []
    return config.load(path)


@pytest.mark.parametrize("rule", config.shipped("rule"))
def test_a_configuration_written_out_repeats_itself(rule, tmp_path):
    for network in ("lenet", "resnet20"):
        loaded = config.load(
            rule, network=network, dataset="mnist", flags={"seed": 3, "threads": 2, "dtype": "float64"}
        )
        again = read_back(loaded, tmp_path)
        assert again == loaded
        assert config.dump(again) == config.dump(loaded)


def test_odd_settings_survive_being_written_out(tmp_path):
    sets = [
        "layers.*.norm=none",
        "layers.conv1.update={recipe: sgd, rate: 1.0e-3}",
        "layers.*.norm={recipe: batch}",
        "layers.conv1.update.rate=2",
        "layers.fc1.update=[sign, {decay: 1.0e-7}, {momentum: 0.9}, {rate: 1}]",
        "training.phases=[{epochs: 2, update: {recipe: sgd, rate: 1.0e-9}, rate: constant}, {batches_per_update: 3}]",
        "training.clip=0.1",
        "record.norm=off",
        "record.weights=3 epochs",
        "data={validation: 500, classes: [Ägypten, 'no', 'null'], split_seed: 4}",
        "rule=ünï code",
        "defaults.norm={recipe: lp, p: 3, ref: {recipe: x, axes: [0, 2]}}",
        "defaults.norm={text: 'a: b # c', empty: '', off: off, null: ~}",
    ]
    loaded = config.load("usf_bn_bm", network="resnet20", sets=sets)
    again = read_back(loaded, tmp_path)
    assert again == loaded
    assert config.choices(again, ["conv1", "fc1"], phase=0) == config.choices(loaded, ["conv1", "fc1"], phase=0)
    assert again.record.norm is None
    assert config.choices(loaded, ["conv1", "fc1"])["conv1"]["update"] == {"recipe": "sgd", "rate": 2}


def test_a_written_configuration_says_what_nobody_said(tmp_path):
    text = YAML(typ="safe", pure=True).load(config.dump(config.load({}, network="lenet")))
    assert text["training"]["reduction"] == "sum"
    assert set(text["defaults"]) == set(KINDS)
    assert text["network"]["layers"][0] == {"conv1": {"conv": 20, "kernel": 5}}


@pytest.mark.parametrize("kind", ["rule", "network"])
def test_the_schema_lists_what_may_be_written(kind):
    schema = config.json_schema(kind)
    assert schema["additionalProperties"] is False
    keys = set(schema["properties"])
    for name in config.shipped(kind):
        assert set(YAML(typ="safe", pure=True).load(config.find(kind, name).read_text())) <= keys
    for key in keys - {"rule", "from", "network", "dataset", "threads"}:
        with pytest.raises(ConfigError):
            config.load(
                {key: object()} if kind == "rule" else {}, network={key: object()} if kind != "rule" else "lenet"
            )
