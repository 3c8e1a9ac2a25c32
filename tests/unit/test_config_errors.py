# ruff: noqa: E501 -- tables of one message per line
"""Wrong input: one line each, with file and line, what was given, what was wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from bioplaus import config
from bioplaus.errors import ConfigError

LAYERS = ["conv1", "conv2", "fc1", "fc2"]
BILLION_LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


def wrong(text: str | bytes, folder: Path, **given: object) -> list[str]:
    """The messages of loading a rule file with this text, and of resolving it for LeNet; no folder in them."""
    path = folder / "r.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as raised:
        config.choices(
            config.load(path, **{"network": None if b"network:" in path.read_bytes() else "lenet", **given}), LAYERS
        )
    return str(raised.value).replace(f"{folder}/", "").splitlines()


RULES = {
    # a key that does not exist
    "defautls: {norm: none}": "r.yaml:1: defautls: unknown key 'defautls'; did you mean 'defaults'? Known: backend,",
    "rule: r\ndefaults:\n  norm: none\n  chanel: usf": "r.yaml:4: defaults.chanel: unknown key 'chanel'; did you mean 'channel'? "
    "Known: channel, norm, plasticity, pruning, update.",
    "training: {phases: [{epohcs: 3}]}": "r.yaml:1: training.phases.0.epohcs: unknown key 'epohcs'; did you mean 'epochs'?",
    "record: {nrm: off}": "r.yaml:1: record.nrm: unknown key 'nrm'; did you mean 'norm'?",
    "layers: {conv1: {nrom: none}}": "r.yaml:1: layers.conv1.nrom: unknown key 'nrom'; did you mean 'norm'?",
    "<<: {seed: 1}": "r.yaml:1: <<: unknown key '<<'.",
    # a value of the wrong kind
    "training: {epochs: '5'}": "r.yaml:1: training.epochs: given the text '5', wanted a whole number.",
    "training: {epochs: 5.0}": "r.yaml:1: training.epochs: given 5.0, wanted a whole number.",
    "training: {epochs: true}": "r.yaml:1: training.epochs: given true, wanted a whole number.",
    "training: null": "r.yaml:1: training: given null, wanted a mapping.",
    "training: {reduction: avg}": "r.yaml:1: training.reduction: given 'avg', wanted sum or mean.",
    "training: {rate: 0.1}": "r.yaml:1: training.rate: given 0.1, wanted a name or a mapping with 'recipe'.",
    "training: {phases: {epochs: 1}}": "r.yaml:1: training.phases: given a mapping, wanted a list.",
    "defaults: [norm]": "r.yaml:1: defaults: given a list, wanted a mapping.",
    "defaults: {norm: 3}": "r.yaml:1: defaults.norm: given 3, wanted a name or a mapping with 'recipe'.",
    "defaults: {norm: {}}": "r.yaml:1: defaults.norm: given an empty mapping, wanted a name or a mapping with 'recipe'.",
    "defaults: {norm: {recipe: 3}}": "r.yaml:1: defaults.norm.recipe: given 3, wanted a name.",
    "defaults:\n  update: {recipe: sgd, rate: 1,\n    momentum: '0.9'}": "r.yaml:3: defaults.update.momentum: given the text '0.9', "
    "wanted a number: leave the quotes out.",
    "defaults: {update: {recipe: sgd, rate: fast}}": "r.yaml:1: defaults.update.rate: given 'fast', wanted a number.",
    "defaults: {update: [sign, 3]}": "r.yaml:1: defaults.update.1: given 3, wanted a link such as sign or {momentum: 0.9}.",
    "dtype: float16": "r.yaml:1: dtype: given 'float16', wanted float32 or float64.",
    "record: {norm: 50}": "r.yaml:1: record.norm: given 50, wanted 'N updates', 'N epochs', or off.",
    "record: {norm: 0 updates}": "r.yaml:1: record.norm: given '0 updates', wanted 'N updates', 'N epochs', or off.",
    "record: {norm: 5 days}": "r.yaml:1: record.norm: given '5 days', wanted 'N updates', 'N epochs', or off.",
    "layers: 3": "r.yaml:1: layers: given 3, wanted a mapping from layers to choices, such as {conv1: {norm: none}}.",
    "layers: [conv1]": "r.yaml:1: layers.0: given 'conv1', wanted a mapping from layers to choices,",
    "layers: {conv1: none}": "r.yaml:1: layers.conv1: given 'none', wanted a mapping.",
    "network: 3": "r.yaml:1: network: given 3, wanted a name or a network.",
    "from: 3": "r.yaml:1: from: given 3, wanted text.",
    "data: {classes: many}": "r.yaml:1: data.classes: given 'many', wanted a number of classes to draw, or a list of their names.",
    "data: {validation: '5'}": "r.yaml:1: data.validation: given the text '5', wanted a number of samples (such as 5000)",
    "rule:": "r.yaml:1: rule: given null, wanted text.",
    "rule: ../../etc/x": "r.yaml:1: rule: given '../../etc/x', wanted a name of at most 100 characters, none of them /",
    # a value out of range
    "training: {epochs: 0}": "r.yaml:1: training.epochs: given 0, wanted at least 1.",
    "seed: -1": "r.yaml:1: seed: given -1, wanted at least 0.",
    "seed: 9223372036854775808": "r.yaml:1: seed: given 9223372036854775808, wanted a number below 9223372036854775808.",
    f"seed: {'9' * 5000}": "r.yaml:1: seed: 9999999999999999999999999999999999999999 is not a whole number of at most 64 digits.",
    "threads: 0": "r.yaml:1: threads: given 0, wanted at least 1.",
    "training: {clip: 0}": "r.yaml:1: training.clip: given 0, wanted a number above 0.",
    "data: {validation: 1.5}": "r.yaml:1: data.validation: given 1.5, wanted a number of samples (such as 5000) or a share",
    "defaults: {update: {recipe: sgd, rate: -1}}": "r.yaml:1: defaults.update.rate: given -1, wanted a number of at least 0.",
    "defaults: {update: [sign, {rate: -1.0}]}": "r.yaml:1: defaults.update.1.rate: given -1.0, wanted a number of at least 0.",
    "defaults: {update: {recipe: sgd, rate: .nan}}": "r.yaml:1: defaults.update.rate: .nan is not a finite number.",
    "training:\n  clip: .inf": "r.yaml:2: training.clip: .inf is not a finite number.",
    "training:\n  clip: 1e999": "r.yaml:2: training.clip: 1e999 is not a finite number.",
    # none, where there must be something or nothing may follow
    "layers: {conv1: {channel: null}}": "r.yaml:1: layers.conv1.channel: given none, but errors need a way back; to clamp a layer "
    "write plasticity: none.",
    "layers: {conv1: {update: none}}": "r.yaml:1: layers.conv1.update: given none, wanted an update; to clamp a layer write",
    "defaults: {norm: {recipe: none, affine: true}}": "r.yaml:1: defaults.norm.affine: 'none' takes no parameters.",
    "defaults: {norm: {affine: true}}": "r.yaml:1: defaults.norm.affine: 'none' stands here and takes no parameters; name a recipe.",
    "rule: r\nlayers: {conv1: {norm: {affine: true}}}": "r.yaml:2: layers.conv1.norm.affine: 'none' stands here and takes no",
    "defaults: {update: [sign, {rate: 1}]}\nlayers: {fc1: {update: {rate: 2}}}": "r.yaml:2: layers.fc1.update: a list of links stands "
    "here, which parameters cannot change; write the whole list or a recipe.",
    # things that must agree
    "training: {phases: [{epochs: 3}, {epochs: 4}], epochs: 8}": "r.yaml:1: training.phases: the phases take 7 epochs, but "
    "training.epochs is 8. Make them agree, or leave one out.",
    "training: {phases: [{}, {epochs: 4}], epochs: 8}": "r.yaml:1: training.phases: only the last phase may leave its epochs out,",
    "training: {phases: [{epochs: 8}, {}], epochs: 8}": "r.yaml:1: training.phases: the first phases take 8 epochs, which leaves none",
    "training: {phases: [{epochs: 8}, {}]}": "r.yaml:1: training.phases: the last phase takes the epochs that remain, but",
    "layers: {conv9: {norm: none}}": "r.yaml:1: layers.conv9: matches no layer; did you mean 'conv2'? Known: conv1, conv2, fc1, fc2. "
    "Globs, $first, $last and $hidden also match.",
    "layers:\n  'x*': {norm: none}": "r.yaml:2: layers.x*: matches no layer. Known: conv1, conv2, fc1, fc2.",
    # names of files
    "from: nope": "r.yaml:1: from: no rule named 'nope'. Known: ",
    "from: usf_bn": "r.yaml:1: from: 'usf_bn' is itself a variant of 'sgd'; only one level is allowed. Begin from 'sgd' and add "
    "what 'usf_bn' changes, or run 'usf_bn' with --set.",
    # code
    "seed: 1\ndefaults: {plasticity: './my.py:Mine'}": "r.yaml:2: defaults.plasticity: './my.py:Mine' would run code from a file. If you "
    "trust it, add --allow-code.",
    "defaults: {update: [{'os.path:join': 1}, {rate: 1}]}": "r.yaml:1: defaults.update.0.os.path:join: 'os.path:join' would run code",
    "seed: !!int x": "r.yaml:1: seed: x is not a whole number of at most 64 digits.",
    "seed: !!bool x": "r.yaml:1: seed: x is not true or false.",
    "seed: !!null x": "r.yaml:1: seed: x is not null.",
    "seed: !!float x": "r.yaml:1: seed: x is not a finite number.",
    "network: ~nobody_here": "r.yaml:1: network: no network named '~nobody_here'.",
    f"network: {'n' * 5000}.yaml": "r.yaml:1: network: nnn",
    "a: !!python/object:os.system x": "r.yaml:1: a: tag tag:yaml.org,2002:python/object:os.system is not allowed; write plain values.",
}
TEXTS = {
    "defaults:\n  norm: none\n  norm: batch": "r.yaml:3: defaults.norm: stands twice, first in line 2; keep one.",
    BILLION_LAUGHS: "r.yaml: more than 20000 values once its aliases are written out; use fewer aliases.",
    "a: &a [*a]": "r.yaml:1: nested too deeply; 40 levels are allowed.",
    "[" * 5000: "r.yaml: nested too deeply; 40 levels are allowed.",
    b"rule: r\nseed: caf\xe9\n": "r.yaml:2: byte 0xe9 is not UTF-8 text; save the file as UTF-8.",
    b"rule: \x00\n": "r.yaml: not YAML: ",
    "": "r.yaml: is empty; wanted keys and values.",
    "# a comment\n": "r.yaml: is empty; wanted keys and values.",
    "defaults:\n\tnorm: none\n": "r.yaml:2: not YAML: a tab stands where YAML wants spaces.",
    "a: b: c\n": "r.yaml:1: not YAML: mapping values are not allowed here.",
    "defaults: {norm: none": "r.yaml:1: not YAML: while parsing a flow mapping expected ',' or '}'",
    "a: 1\n---\nb: 2\n": "r.yaml:2: not YAML: expected a single document in the stream but found another document.",
    "- a\n": "r.yaml: given a list, wanted keys and values.",
    "just text": "r.yaml: given 'just text', wanted keys and values.",
    "[1]: 2": "r.yaml:1: a key must be text, not a list or a mapping.",
    "x" * 1_000_001: "r.yaml: 1000001 bytes; a YAML file here may have 1000000. Is this the right file?",
}


@pytest.mark.parametrize("text", [*RULES, *TEXTS], ids=lambda text: repr(text[:40]))
def test_wrong_rule_files_are_told_in_one_line(text, tmp_path):
    expected = {**RULES, **TEXTS}[text]
    messages = wrong(text, tmp_path)
    assert messages[0].startswith(expected)
    assert len({message.split(": ")[1] for message in messages}) == len(messages)  # one for each key


def test_all_errors_of_a_file_come_at_once_in_its_order(tmp_path):
    text = "seed: x\nsede: 1\ndefaults: {nrm: 1, update: {rate: '1'}}\nseed: 2\nlayers: {a: {nrm: 1}}\nthreads: 0\n"
    messages = wrong(text, tmp_path)
    assert [message.split(": ")[:2] for message in messages] == [
        ["r.yaml:1", "seed"],
        ["r.yaml:2", "sede"],
        ["r.yaml:3", "defaults.update.rate"],
        ["r.yaml:3", "defaults.nrm"],
        ["r.yaml:4", "seed"],
        ["r.yaml:5", "layers.a.nrm"],
        ["r.yaml:6", "threads"],
    ]
    assert config.check_file(tmp_path / "r.yaml") == [
        m.replace("r.yaml", str(tmp_path / "r.yaml"), 1) for m in messages
    ]


SETS = {
    "training.epochs": "--set training.epochs: wanted key.path=value, such as training.epochs=5.",
    "training.epochs=": "--set training.epochs=: wanted key.path=value,",
    "=3": "--set =3: wanted key.path=value,",
    "training.epohcs=3": "--set: training.epohcs: unknown key 'epohcs'; did you mean 'epochs'?",
    "trainig.epochs=3": "--set: trainig: unknown key 'trainig'; did you mean 'training'?",
    "training=3": "--set: training: given 3, wanted a mapping.",
    "seed=[1]": "--set: seed: given a list, wanted a whole number.",
    "seed=[": "--set seed:1: not YAML: ",
    "layers.conv1.nrm=none": "--set: layers.conv1.nrm: no choice named 'nrm'; did you mean 'norm'?",
    "layers.conv7.norm=none": "--set: layers.conv7: matches no layer; did you mean 'conv2'?",
    "layers.conv1.norm={affine: true}": "--set: layers.conv1.norm.affine: 'none' stands here",
    "defaults.update.rate=abc": "--set: defaults.update.rate: given 'abc', wanted a number.",
    "network.input=[0]": "--set: network.input.0: given 0, wanted at least 1.",
    "network.layers.conv1.kernel=3": "--set: network.layers: given a mapping, wanted the list of all layers. To change one "
    "of them, copy networks/lenet.yaml, change the copy,",
    "network.inptu=[3]": "--set: network.inptu: unknown key 'inptu'; did you mean 'input'?",
    "training.clip=.nan": "--set: training.clip: .nan is not a finite number.",
    "defaults.update={rate: .nan}": "--set: defaults.update: rate: .nan is not a finite number.",
    "rate=.nan": "--set: rate: .nan is not a finite number.",
    "layers={conv7: {norm: none}}": "--set: layers.conv7: matches no layer; did you mean 'conv2'?",
    "network=lenett": "--set: network: no network named 'lenett'; did you mean 'lenet'?",
}


@pytest.mark.parametrize("setting", SETS)
def test_wrong_settings(setting, tmp_path):
    (message,) = wrong("rule: r\n", tmp_path, sets=[setting])
    assert message.startswith(SETS[setting])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"flags": {"epochs": 0}}, "--epochs: given 0, wanted at least 1."),
        ({"flags": {"epoch": 1}}, "no flag named 'epoch'; did you mean 'epochs'? Known: backend,"),
        (
            {"network": "liao_cifr"},
            "--network: no network named 'liao_cifr'; did you mean 'liao_cifar'? Known: ",
        ),
        ({"network": "nets/lenett.yaml"}, "--network: nets/lenett.yaml: no such network file; did you mean 'lenet'?"),
        (
            {"network": None},
            "no network is named. Give --dataset, which brings its own, or --network. Known: ",
        ),
        (
            {"preset": lambda name: {"sede": 1}, "dataset": "mnist"},
            "data set 'mnist': sede: unknown key 'sede'; did you",
        ),
    ],
    ids=["too few epochs", "flag", "network", "network file", "no network", "preset"],
)
def test_wrong_flags(given, expected, tmp_path):
    assert wrong("rule: r\n", tmp_path, **given)[0].startswith(expected)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("usf_bm_bn", "no rule named 'usf_bm_bn'; did you mean 'usf_bn'? Known: "),
        ("elsewhere/sgd_.yaml", "elsewhere/sgd_.yaml: no such rule file; did you mean 'sgd'? Known: "),
        ("elsewhere/sgd.yaml", "elsewhere/sgd.yaml: no such rule file; did you mean 'sgd'? Known: "),
        (".", ".: is a folder; wanted a YAML file."),
    ],
)
def test_wrong_rule_names(rule, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as raised:
        config.load(rule, network="lenet")
    assert str(raised.value).startswith(expected)


NETWORKS = {
    "layers: [relu]": "n.yaml: input: is missing.",
    "input: [3]": "n.yaml: layers: is missing.",
    "input: [3]\nlayers: []": "n.yaml:2: layers: is empty; wanted a list of layers.",
    "input: [3]\nlayers: {a: relu}": "n.yaml:2: layers: given a mapping, wanted a list.",
    "input: []\nlayers: [relu]": "n.yaml:1: input: given a list, wanted [features], [channels, height, width] or symbols.",
    "input: [3, 0]\nlayers: [relu]": "n.yaml:1: input.1: given 0, wanted at least 1.",
    "input: 3\nlayers: [relu]": "n.yaml:1: input: given 3, wanted a list.",
    "input: [3]\nlayres: [relu]": "n.yaml:2: layres: unknown key 'layres'; did you mean 'layers'?",
    "input: [3]\nlayers:\n  - relu\n  - rleu": "n.yaml:4: layers.1: no layer kind named 'rleu'; did you mean 'relu'?",
    "input: [3]\nlayers: [{fc1: {dnse: 3}}]": "n.yaml:2: layers.0.fc1: no layer kind named 'dnse'; did you mean 'dense'?",
    "input: [3]\nlayers: [{fc1: 3}]": "n.yaml:2: layers.0.fc1: no layer kind named 'fc1'",
    "input: [3]\nlayers: [3]": "n.yaml:2: layers.0: given 3, wanted a kind such as relu, or one key: {name: {kind: value}}.",
    "input: [3]\nlayers: [{a: {relu: null}, b: {relu: null}}]": "n.yaml:2: layers.0: given 2 keys, wanted a kind such as relu,",
    "input: [3]\nlayers: [{dense: 3}]": "n.yaml:2: layers.0: dense needs a name: {my_name: {dense: ...}}.",
    "input: [3]\nlayers: [{residual: [relu]}]": "n.yaml:2: layers.0: residual needs a name: {my_name: {residual: ...}}.",
    "input: [3]\nlayers: [{a-b: {dense: 3}}]": "n.yaml:2: layers.0.a-b: 'a-b' is no layer name; wanted letters, digits and _,",
    "input: [3]\nlayers:\n - a: {dense: 3}\n - a: {dense: 3}": "n.yaml:4: layers.1.a: a layer named 'a' stands above;",
    "input: [3]\nlayers: [{a: {dense: 0}}]": "n.yaml:2: layers.0.a.dense: given 0, wanted a size: a whole number above 0, classes,",
    "input: [3]\nlayers: [{a: {dense: 3*clases}}]": "n.yaml:2: layers.0.a.dense: given '3*clases', wanted a size:",
    "input: [3]\nlayers: [{a: {dense: '__import__(\"os\")'}}]": "n.yaml:2: layers.0.a.dense: given '__import__(\"os\")', wanted a size:",
    "input: [3]\nlayers: [{a: {dense: null}}]": "n.yaml:2: layers.0.a: dense needs its units: {a: {dense: ...}}.",
    "input: [3]\nlayers: [maxpool]": "n.yaml:2: layers.0: maxpool needs its size: {maxpool: ...}.",
    "input: [3]\nlayers: [{a: {conv: 3, kernal: 3}}]": "n.yaml:2: layers.0.a.kernal: conv has no parameter 'kernal'; did you mean 'kernel'?",
    "input: [3]\nlayers: [{a: {conv: 3, kernel: '3'}}]": "n.yaml:2: layers.0.a.kernel: given the text '3', wanted a whole number above 0, or",
    "input: [3]\nlayers: [{a: {conv: 3, kernel: [3, 3, 3]}}]": "n.yaml:2: layers.0.a.kernel: given a list, wanted a whole number above 0,",
    "input: [3]\nlayers: [{a: {conv: 3, kernel: 3, stride: 0}}]": "n.yaml:2: layers.0.a.stride: given 0, wanted a whole number above 0,",
    "input: [3]\nlayers: [{a: {conv: 3, kernel: 3, pad: same}}]": "n.yaml:2: layers.0.a.pad: given 'same', wanted valid, half, full,",
    "input: [3]\nlayers: [{maxpool: {size: 3, pad: [1, 1]}}]": "n.yaml:2: layers.0.maxpool.pad: given a list, wanted a whole number, or [top,",
    "input: [3]\nlayers: [{dropout: 1.0}]": "n.yaml:2: layers.0.dropout: given 1.0, wanted the share to drop, from 0 to below 1.",
    "input: [3]\nlayers: [{relu: 3}]": "n.yaml:2: layers.0: relu has no parameters; given 3.",
    "input: [3]\nlayers: [{a: {residual: relu}}]": "n.yaml:2: layers.0.a.residual: given 'relu', wanted a list of layers.",
    "input: [3]\nlayers: [{a: {residual: [rleu]}}]": "n.yaml:2: layers.0.a.residual.0: no layer kind named 'rleu'; did you mean",
    "input: [3]\nlayers: [{a: {residual: [relu], shrtcut: []}}]": "n.yaml:2: layers.0.a.shrtcut: residual has no parameter 'shrtcut'; did",
    "input: [3]\nlayers: [relu]\nloss: 3": "n.yaml:3: loss: given 3, wanted a name or a mapping with 'recipe'.",
    "input: [3]\nlayers: [{a: {'./m.py:L': 3}}]": "n.yaml:2: layers.0.a../m.py:L: './m.py:L' would run code from a file.",
}


@pytest.mark.parametrize("text", NETWORKS, ids=lambda text: repr(text[10:60]))
def test_wrong_network_files_are_told_in_one_line(text, tmp_path):
    path = tmp_path / "n.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        config.load("sgd", network=path)
    expected = NETWORKS[text]
    assert str(raised.value).replace(f"{tmp_path}/", "").removeprefix("--network: ").startswith(expected)
    if "input" in text:
        assert config.check_file(path)[0].replace(f"{tmp_path}/", "").startswith(expected)
