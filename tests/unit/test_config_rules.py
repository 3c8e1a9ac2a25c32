"""The shipped rules against the columns of the published tables, and the configuration written out and read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from bioplaus import assemble, config
from bioplaus.config.parts import KINDS
from bioplaus.construct import make
from bioplaus.errors import ConfigError
from bioplaus.train.plan import phases

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


# NINAI report, Table 10 (Ren et al. 2017) on CIFAR-10: norm of convolutions, decay, (updates, updates before falls).
LONG, SHORT = (80_000, [30_000, 50_000]), (50_000, [5_000, 30_000])
WINDOWS = (5, 3, 3)
TABLE10 = {
    "base": (NONE, 0.0, SHORT),
    "base_l1": ({"recipe": "l1", "l1": 0.01}, 0.0, SHORT),
    "base_l2": (NONE, 0.1, SHORT),
    "base_caffe": (NONE, 0.004, (5_000, [4_000])),  # Table 14
    "bn_ren": ({"recipe": "batch_s", "sigma": 0.01, "affine": True}, 0.0, LONG),
    "bn_s": ({"recipe": "batch_s", "sigma": 1.0, "affine": True}, 0.0, LONG),
    "bn_star": ({"recipe": "batch_star", "sigma": 1.0, "l1": 0.005, "affine": True}, 0.0, LONG),
    "ln": ({"recipe": "layer_s", "sigma": 0.01, "affine": True}, 0.0, LONG),
    "ln_star": ({"recipe": "layer_star", "sigma": 0.5, "l1": 0.005, "affine": False}, 0.0, LONG),
    "dn": ({"recipe": "divisive", "sigma": 0.5, "window": WINDOWS}, 0.0, LONG),
    "dn_star": ({"recipe": "divisive_star", "sigma": 0.5, "l1": 0.005, "window": WINDOWS}, 0.0, LONG),
}
CLUSTERING = {f"parsimonious_{kind}": f"{kind}_clustering" for kind in ("sample", "spatial", "channel")}
# NINAI report, Tables 4, 6 and 16 to 18: what use is watched, and which cut judges it.
PRUNING = {
    "uili_sp": ("uili_sp", "rat_neocortex"),
    "uili_sp_60": ("uili_sp", "prune"),
    "uili_sp_lenet5": ("uili_sp", "keep"),
    "uili_np": ("uili_np", "below"),
    "uili_np_lenet5": ("uili_np", "keep"),
    "deep_compression": ("magnitude", "quality"),
    "deep_compression_lenet5": ("magnitude", "keep"),
}
# NINAI report, Table 11 (Ren et al. 2017): norm, rate, network; sigma enters squared, as an eps does.
TABLE11 = {
    "ptb_base": (NONE, 0.1, "ptb_rnn"),
    "ptb_bn": ({"recipe": "batch", "affine": True, "ema": 0.1, "eps": 0.01**2}, 1.0, "ptb_rnn_product"),
    "ptb_ln": ({"recipe": "layer", "affine": True, "eps": 0.01**2}, 1.0, "ptb_rnn"),
    "ptb_dn": ({"recipe": "divisive", "window": 60, "sigma": 0.01}, 1.0, "ptb_rnn"),
    "ptb_dn_star": ({"recipe": "divisive_star", "window": 60, "sigma": 1.0, "l1": 0.01}, 1.0, "ptb_rnn"),
}
CHARACTERS = {  # Liao (2017), figures 4-11 and 4-12: norm, samples per batch, batches per update
    "char_batch": ({"recipe": "batch", "affine": True}, 64, 1),
    "char_layer": ({"recipe": "layer", "affine": True}, 64, 1),
    "char_streaming": (
        {"recipe": "streaming", "centre": "B", "alpha": [0.7, 0.3], "beta": [0.7, 0.0, 0.3], "affine": True},
        32,
        2,
    ),
}
# Liao (2017), ch. 4: norm, network, samples per batch, batches per update.
STREAMING = {
    "sn_batch": ({"recipe": "batch"}, "arch_b", 32, 1),
    "sn_layer": ({"recipe": "layer"}, "arch_b", 32, 1),
    "sn_streaming": ({"p": 2.0, "centre": "A", "alpha": [0.5, 0.5], "beta": [0.5, 0.5, 0.0]}, "arch_b", 32, 1),
    "sn_streaming_l1": ({"p": 1.0, "centre": "B", "alpha": [0.7, 0.3], "beta": [0.7, 0.3, 0.0]}, "arch_a", 32, 1),
    "sn_streaming_time": ({"p": 2.0, "centre": "B", "alpha": [0.7, 0.3], "beta": [0.7, 0.0, 0.3]}, "arch_c55", 32, 2),
}
# NINAI report, Table 1: the losses of each row; by the Hebbian rule and by EM the reconstruction is only logged.
DRMM = {
    "drmm_sup": ["cross_entropy"],
    "drmm_mpc": ["cross_entropy", "reconstruction"],
    "drmm_mpc_nn": ["cross_entropy", "reconstruction", "nonnegativity"],
    "drmm_vi": ["cross_entropy", "reconstruction", "kl"],
    "drmm_vi_nn": ["cross_entropy", "reconstruction", "kl", "nonnegativity"],
    "drmm_vi_nn_long": ["cross_entropy", "reconstruction", "kl", "nonnegativity"],
    "drmm_vi_nn_dn": ["cross_entropy", "reconstruction", "kl", "nonnegativity"],
    "drmm_vi_nn_uili_sp": ["cross_entropy", "reconstruction", "kl", "nonnegativity"],
    "drmm9_uili_sp": ["cross_entropy", "reconstruction", "kl", "nonnegativity"],
    "drmm_hebb": ["cross_entropy", "reconstruction"],
    "drmm_em": ["cross_entropy", "reconstruction"],
}
CONVOLUTIONS, PER_EPOCH = ["conv1", "conv2", "conv3"], 500  # updates in 50,000 images


def test_every_shipped_rule_is_accounted_for():
    told = {*COLUMNS, *TABLE10, *CLUSTERING, *PRUNING, *TABLE11, *CHARACTERS, *STREAMING, *DRMM}
    assert set(config.shipped("rule")) == told | {"frnn", "oja"}


@pytest.mark.parametrize("rule", DRMM)
def test_shipped_rules_are_the_rows_of_table_1(rule):
    loaded = config.load(rule, network="drmm5")
    assert list(loaded.losses) == DRMM[rule]
    assert (loaded.data.labels, loaded.data.balanced, loaded.data.labelled_share) == (100, True, 0.5)
    sign = {"kl": -1} if "kl" in DRMM[rule] else {}
    assert {name: spec["sign"] for name, spec in loaded.losses.items() if "sign" in spec} == sign


def test_the_long_schedule_goes_from_adam_to_gradient_descent_that_falls_to_1e_4_in_480_epochs():
    loaded = config.load("drmm_vi_nn_long")
    adam, descent = phases(loaded)
    assert (adam.first, adam.end, descent.end) == (0, 20, 400)
    assert [one.update and one.update["recipe"] for one in loaded.training.timeline()] == [None, "sgd"]
    rate = loaded.training.timeline()[1].update["rate"]
    assert [adam.factor(epoch, 0, 300) for epoch in (0, 19)] == [1.0, 1.0]
    assert rate * descent.factor(20, 0, 300) == 0.2
    assert rate * descent.factor(499, 0, 300) == pytest.approx(1e-4, rel=2e-3)


@pytest.mark.parametrize("rule", ["drmm_hebb", "drmm_em"])
def test_rules_without_errors_render_labels_and_no_layer_needs_one(rule):
    """The last layer learns class means, so labels reach it by what is rendered, and by nothing else."""
    loaded = config.load(rule)
    assert loaded.network.name == "rmm" and loaded.network.pass_["topdown_class"] == "label"
    for choice in config.choices(loaded, ["conv1", "softmax"]).values():
        plasticity = make("plasticity", choice["plasticity"])
        assert plasticity.needs == {"x", "u", "x_hat"} and plasticity.unit_norm


@pytest.mark.parametrize("rule", TABLE10)
def test_shipped_rules_are_the_rows_of_table_10(rule):
    norm, decay, (updates, falls) = TABLE10[rule]
    loaded = config.load(rule, network="caffe_quick")
    chosen = config.choices(loaded, [*CONVOLUTIONS, "fc1", "fc2"])
    for name, width in zip(CONVOLUTIONS, WINDOWS, strict=True):
        wanted = norm | ({"window": width} if "window" in norm else {})
        assert chosen[name]["norm"] == wanted
        assert make("norm", chosen[name]["norm"]) is not None or norm == NONE
        update = {"decay": 0.0, **chosen[name]["update"]}
        assert update == {"recipe": "sgd", "rate": 1e-3, "momentum": 0.9, "decay": decay}
    training = loaded.training
    assert (training.reduction, training.samples_per_batch) == ("mean", 100)
    assert training.epochs * PER_EPOCH == updates
    assert [after * PER_EPOCH for after in training.rate["after"]] == falls and training.rate["factor"] == 0.1
    assert (loaded.data.preprocess, loaded.data.augment) == ("centre", ())


@pytest.mark.parametrize("rule", TABLE11)
def test_shipped_rules_are_the_rows_of_table_11(rule):
    norm, rate, network = TABLE11[rule]
    loaded = config.load(rule)
    assert (loaded.dataset, loaded.network.name) == ("ptb", network)
    names = config.weighted(loaded.network.layers)
    assert names == ["embed", "rnn1.x", "rnn1.h", "rnn2.x", "rnn2.h", "out"]
    for chosen in config.choices(loaded, names).values():
        assert chosen["norm"] == norm
        assert chosen["update"] == {"recipe": "sgd", "rate": rate, "momentum": 0.0}
    training = loaded.training
    assert (training.reduction, training.samples_per_batch, training.clip, training.epochs) == ("mean", 20, 5.0, 13)
    schedule = make("schedule", training.rate)
    assert [schedule.at(epoch, 13) for epoch in range(13)] == [0.5 ** max(0, epoch - 3) for epoch in range(13)]


@pytest.mark.parametrize("rule", CHARACTERS)
def test_shipped_rules_for_characters_are_those_of_the_source(rule):
    norm, samples, batches = CHARACTERS[rule]
    loaded = config.load(rule)
    assert (loaded.dataset, loaded.network.name) == ("tinyshakespeare", "char_gru")
    for chosen in config.choices(loaded, config.weighted(loaded.network.layers)).values():
        assert chosen["norm"] == norm and chosen["update"]["recipe"] == "bm1" and chosen["update"]["rate"] == 0.01
    training = loaded.training
    assert (training.samples_per_batch, training.batches_per_update, training.epochs) == (samples, batches, 3)
    assert [make("schedule", training.rate).at(epoch, 3) for epoch in range(3)] == pytest.approx([1.0, 1.0, 0.1])
    assert str(training.evaluate) == f"{20 // batches} updates"  # every 20 batches


@pytest.mark.parametrize("rule", STREAMING)
def test_shipped_rules_of_streaming_normalization_are_those_of_its_figures(rule):
    norm, network, samples, batches = STREAMING[rule]
    loaded = config.load(rule)
    assert loaded.network.name == network
    for chosen in config.choices(loaded, config.weighted(loaded.network.listed)).values():
        assert chosen["norm"] == {"recipe": "streaming", **norm, "affine": True}
        assert chosen["update"] == {"recipe": "sgd", "rate": 0.1, "momentum": 0.9}
    training = loaded.training
    assert (training.reduction, training.samples_per_batch, training.batches_per_update) == ("mean", samples, batches)
    rates = [make("schedule", training.rate).at(epoch, 30) for epoch in range(training.epochs)]
    assert rates == pytest.approx([1.0] * 25 + [0.1] * 5)
    assert assemble.build(rule=rule, network=network, classes=10, backend="numpy").norms


def test_the_shipped_rule_of_networks_in_time_is_that_of_the_source():
    """Liao (2017), ch. 3: every net of that chapter, without gain and bias; 0.01, 0.001, 0.0001."""
    loaded = config.load("frnn")
    assert loaded.network.name == "frnn_2state"
    for chosen in config.choices(loaded, config.weighted(loaded.network.listed)).values():
        assert chosen["norm"] == {"recipe": "batch", "affine": False}
        assert chosen["update"] == {"recipe": "sgd", "rate": 0.01, "momentum": 0.9, "decay": 1e-4}
    training = loaded.training
    assert (training.reduction, training.samples_per_batch, training.batches_per_update) == ("mean", 64, 1)
    rates = [make("schedule", training.rate).at(epoch, 60) for epoch in range(training.epochs)]
    assert rates == pytest.approx([1.0] * 40 + [0.1] * 10 + [0.01] * 10)
    assert loaded.data.augment == ({"shift": 4}, "mirror")
    net = assemble.build(rule="frnn", network="frnn_3state", backend="numpy")
    assert not net.gains and all(site.norm.stats.shared is False for site in net.norms)


@pytest.mark.parametrize("rule", PRUNING)
def test_shipped_rules_that_prune_learn_like_gradient_descent(rule):
    loaded, plain = config.load(rule, network="lenet5"), config.load("sgd", network="lenet5")
    layers = ["conv1", "conv2", *LAYERS[1:]]
    rate = 0.1 if rule.startswith("deep") else 1.0
    for name, chosen in config.choices(loaded, layers).items():
        wanted = config.choices(plain, layers)[name]
        assert chosen["update"] == wanted["update"] | {"rate": pytest.approx(rate * wanted["update"]["rate"])}
        assert all(chosen[kind] == wanted[kind] for kind in ("channel", "norm", "plasticity"))
        if rule.startswith("uili_np") and name == "fc2":
            assert chosen["pruning"] == NONE
            continue
        assert (chosen["pruning"]["recipe"], chosen["pruning"]["cut"]["recipe"]) == PRUNING[rule]
        cut = make("pruning", chosen["pruning"]).cut
        assert any(cut.due(epoch) for epoch in range(loaded.training.epochs))
        assert not any(cut.due(epoch) for epoch in range(loaded.training.epochs, 100))


def test_the_windows_of_the_shipped_divisive_drmm_are_the_filters_of_its_network():
    loaded = config.load("drmm_vi_nn_dn")
    for node in assemble.build(rule="drmm_vi_nn_dn", network="drmm5", backend="numpy").norms:
        kernel = next(item.params["kernel"] for item in loaded.network.layers if item.name == node.name)
        assert node.norm.op.window == kernel, node.name


@pytest.mark.parametrize(
    ("rule", "network", "periods"),
    [("drmm_vi_nn_uili_sp", "drmm5", [5, 4, 4, 3, 3]), ("drmm9_uili_sp", "drmm9", [5, 4, 4, 3, 3, 3, 2, 2, 2])],
)
def test_a_shipped_generative_rule_that_prunes_learns_like_the_one_it_goes_on_from(rule, network, periods):
    """Four cuts of every layer, at its period of table 8."""
    loaded, plain = config.load(rule), config.load("drmm_vi_nn", network=network)
    layers = config.weighted(plain.network.listed)
    assert loaded.network == plain.network and loaded.losses == plain.losses
    for (name, chosen), wanted in zip(
        config.choices(loaded, layers).items(), config.choices(plain, layers).values(), strict=True
    ):
        pruning = chosen.pop("pruning")
        assert chosen == {kind: wanted[kind] for kind in chosen}
        if name == "softmax":
            assert pruning == NONE
            continue
        cut, period = make("pruning", pruning).cut, periods[layers.index(name)]
        due = [epoch for epoch in range(1, 1 + loaded.training.epochs) if cut.due(epoch)]
        assert due == [period * place for place in (1, 2, 3, 4)]


@pytest.mark.parametrize("rule", CLUSTERING)
def test_shipped_clustering_rules_are_those_of_the_source(rule):
    loaded = config.load(rule)
    assert loaded.network.name == "parsimonious_cifar"
    ours = {"weight": 0.1, "centres": 100, "memory": 0.1}
    wanted = {name: {"recipe": CLUSTERING[rule], "layer": name, **ours} for name in CONVOLUTIONS}
    wanted |= {name: {"recipe": "sample_clustering", "layer": name, **ours} for name in ("fc1", "fc2")}
    assert loaded.losses == {"cross_entropy": {"recipe": "softmax_cross_entropy"}, **wanted}
    assert (loaded.training.reduction, loaded.training.samples_per_batch) == ("mean", 100)
    first, second = loaded.training.timeline()
    assert (first.epochs * PER_EPOCH, second.epochs * PER_EPOCH) == (50_000, 10_000)
    falling = make("schedule", first.rate)
    for epoch in range(first.epochs):  # 0.01 x 0.85 every 2,000 updates
        assert falling.at(epoch, first.epochs) == pytest.approx(0.85 ** (epoch * PER_EPOCH // 2000), rel=1e-12)
    rates = [config.choices(loaded, ["conv1"], phase=phase)["conv1"]["update"]["rate"] for phase in (0, 1)]
    assert rates == [0.01, 1e-3] and make("schedule", second.rate).at(3, 20) == 1.0
    assert loaded.data.preprocess == "centre_255"


@pytest.mark.parametrize(
    ("network", "deviations"),
    [
        ("caffe_quick", (1e-4, 1e-2, 1e-2, 0.1, 0.1)),
        ("caffe_quick_dropout", (1e-4, 1e-2, 1e-2, 0.1, 0.1)),
        ("parsimonious_cifar", (0.01, 0.01, 0.01, 0.1, 0.1)),
    ],
)
def test_weights_of_the_quick_nets_start_as_in_the_source(network, deviations):
    net = assemble.build(network=network, rule="base", backend="numpy")
    assert net.count() == 2432 + 25632 + 51264 + 65600 + 650
    for node, deviation in zip(net.nodes, deviations, strict=True):
        W = node.W / deviation
        assert abs(W).max() <= 2.0 + 1e-6
        assert W.std() == pytest.approx(0.8796, rel=0.06)  # of a normal number within two deviations
        assert not node.bias.W.any()


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


@pytest.mark.parametrize("rule", [*COLUMNS, *CLUSTERING, *PRUNING, "oja"])
def test_shipped_rules_name_parts_that_exist_and_parameters_they_take(rule):
    loaded = config.load(rule, network="lenet")
    for name, kinds in config.choices(loaded, config.weighted(loaded.network.listed)).items():
        for kind, spec in kinds.items():
            made = make(kind, spec, config.where(loaded, f"layers.{name}.{kind}"))
            assert (made is None) == (spec == NONE)
    make("schedule", loaded.training.rate)


@pytest.mark.parametrize("name", config.shipped("network"))
def test_shipped_networks_name_parts_that_exist(name):
    network = config.load("sgd", network=name).network
    assert make("loss", network.loss)
    assert make("pass", network.pass_)
    for item in config.walk(network.listed):
        make("layer", {"recipe": item.kind, **config.sized(item, 10)}, item.where)


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
def test_the_schema_that_editors_read_is_the_programs(kind):
    """Where this fails: bioplaus schema rule > docs/schema/rule.json, and likewise for network."""
    written = Path(__file__).parents[2] / "docs" / "schema" / f"{kind}.json"
    assert json.loads(written.read_text("utf-8")) == config.json_schema(kind)


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
