"""Networks: how layers are written, sizes that speak of classes, and the shipped files against the published table."""

from __future__ import annotations

import pytest

from bioplaus import config, registry
from bioplaus.config import LayerItem
from bioplaus.config.layers import write_layers
from bioplaus.construct import Layers, Size
from bioplaus.errors import ConfigError


def layers(*items, **given):
    return config.load({}, network={"input": [3, 8, 8], "layers": list(items)}, **given).network.layers


def test_the_forms_of_a_layer():
    assert layers("relu") == (LayerItem("relu"),)
    assert layers({"conv1": {"conv": 8, "kernel": [3, 5], "pad": "half"}}) == (
        LayerItem("conv", "conv1", {"filters": 8, "kernel": [3, 5], "pad": "half"}),
    )
    pool = LayerItem("maxpool", None, {"size": 3, "stride": 2, "pad": [0, 1, 0, 1]})
    assert layers({"maxpool": {"size": 3, "stride": 2, "pad": [0, 1, 0, 1]}}) == (pool,)
    assert layers({"maxpool": 2}) == (LayerItem("maxpool", None, {"size": 2}),)
    assert layers({"p1": {"maxpool": 2, "stride": 1}}) == (LayerItem("maxpool", "p1", {"size": 2, "stride": 1}),)
    assert layers({"drop1": {"dropout": 0.5}}) == (LayerItem("dropout", "drop1", {"p": 0.5}),)
    assert layers({"n1": {"norm": None}}) == (LayerItem("norm", "n1"),)
    assert layers({"fc": {"dense": "2*classes"}})[0].params == {"units": "2*classes"}


def test_blocks_nest_and_give_dotted_names():
    conv = {"conv": 8, "kernel": 3}
    (block,) = layers({"b": {"residual": [{"c": conv}, {"b": {"residual": [{"c": conv}]}}], "shortcut": [{"s": conv}]}})
    assert [item.name for item in config.walk([block])] == ["b", "b.c", "b.b", "b.b.c", "b.s"]
    assert (block.kind, len(block.params["path"]), len(block.params["shortcut"])) == ("residual", 2, 1)
    assert block.params["path"][1].params["path"][0].params == {"filters": 8, "kernel": 3}


MINE = """
from dataclasses import dataclass
from typing import Any, Literal

from bioplaus.construct import Layers, Size

@dataclass
class Plain:
    how: Literal["up", "down"] = "up"
    a: Any = None

@dataclass
class Cell:
    units: Size
    words: Size | None = None
    products = ("x", "h")

@dataclass
class Block:
    factor: float
    first: Layers
    second: Layers = ()

def anything(**given): ...
"""


@pytest.fixture
def mine(tmp_path):
    """Layer kinds of a user's own, as ``mine("Cell")``."""
    (tmp_path / "mine.py").write_text(MINE)
    return lambda name: f"{tmp_path}/mine.py:{name}"


def test_kinds_of_others_are_read_by_their_signatures(mine):
    block = {mine("Block"): 0.5, "first": ["relu", {"c": {"conv": 3, "kernel": 3}}], "second": []}
    listed = [mine("Plain"), {"m1": {mine("Plain"): "down", "a": [1, "x"]}}, {"g": {mine("Cell"): "2*classes"}}]
    items = layers(*listed, {"b": block}, {"o": {mine("anything"): None, "p": 1}})
    assert items[:3] == (
        LayerItem(mine("Plain")),
        LayerItem(mine("Plain"), "m1", {"how": "down", "a": [1, "x"]}),
        LayerItem(mine("Cell"), "g", {"units": "2*classes"}),
    )
    assert [item.name for item in config.walk(items)] == [None, "m1", "g", "b", None, "b.c", "o"]
    assert config.weighted(items) == ["g.x", "g.h", "b.c"]
    assert config.sized(items[2], 10) == {"units": 20}
    assert layers(*write_layers(items)) == items


WRONG = {
    "{a: {@Plain: left}}": "layers.0.a.@Plain: given 'left', wanted 'up' or 'down'.",
    "{a: {@Plain: up, how: up}}": "layers.0.a.how: given twice, here and behind @Plain; keep one.",
    "{a: {@Cell: 0}}": "layers.0.a.@Cell: given 0, wanted a size: a whole number above 0, classes, k*classes,",
    "{a: {@Cell: 1, words: classes+1}}": "layers.0.a.words: given 'classes+1', wanted a size: a whole number above 0,",
    "{a: {@Cell: 1, word: 1}}": "layers.0.a.word: @Cell has no parameter 'word'; did you mean 'words'? Known: ",
    "@Cell": "layers.0: @Cell needs a name: {my_name: {@Cell: ...}}.",
    "{b: {@Block: 1}}": "layers.0.b: @Block needs its first: {b: {@Block: ..., first: ...}}.",
    "{b: {@Block: 1, first: [relu, rleu]}}": "layers.0.b.first.1: no layer kind named 'rleu'; did you mean 'relu'?",
    "@Missing": "layers.0: layer '@Missing': ",
}


@pytest.mark.parametrize("written", WRONG)
def test_wrong_values_for_kinds_of_others(written, mine, tmp_path):
    path = tmp_path / "n.yaml"
    path.write_text(f"input: [3]\nlayers: [{written.replace('@', mine(''))}]\n")
    with pytest.raises(ConfigError) as raised:
        config.load({}, network=path, allow_code=True)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{path}:2: {WRONG[written].replace('@', mine(''))}")


def test_code_that_is_not_allowed_is_not_loaded(tmp_path):
    code = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nMine = dict\n"
    (tmp_path / "mine.py").write_text(code)
    path = tmp_path / "n.yaml"
    path.write_text("input: [3]\npass: ./mine.py:Mine\nlayers: [./mine.py:Mine, {a: {./mine.py:Mine: 3}}]\n")
    lines = config.check_file(path)
    assert len(lines) == 3 and all("would run code from a file" in line for line in lines)
    assert not (tmp_path / "ran").exists()
    config.check_file(path, allow_code=True)
    assert (tmp_path / "ran").exists()


def test_written_layers_read_back_the_same():
    items = config.load("sgd", network="resnet20").network.layers
    assert layers(*write_layers(items)) == items
    odd = layers(
        "relu", {"maxpool": 2}, {"p": {"maxpool": 2, "pad": 1}}, {"n": {"norm": None}}, {"dropout": {"p": 0.1}}
    )
    assert layers(*write_layers(odd)) == odd


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (7, 7),
        ("classes", 10),
        ("3*classes", 30),
        (" 3 * classes ", 30),
        ("max(256, 3*classes)", 256),
        ("max(8,classes)", 10),
        ("max(8, 2 * classes)", 20),
    ],
)
def test_sizes(text, expected):
    assert config.size(text, 10) == expected


@pytest.mark.parametrize(
    "text",
    [0, -1, 2.0, True, None, "7", "classes*3", "-1*classes", "min(1, classes)", "max(1, 2)", "3*classes+1", "", "x"],
)
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="wanted a size"):
        config.size(text, 10)


def test_every_way_to_take_a_size_speaks_of_classes():
    @registry.register("layer", "sized_example")
    class Sized:
        def __init__(self, a: Size, b: Size | None = None, c: int = 3, d: Layers = ()) -> None: ...

    (item,) = layers({"s": {"sized_example": "classes", "b": "max(3, 2*classes)", "c": 4}})
    assert config.sized(item, 5) == {"a": 5, "b": 10, "c": 4}
    with pytest.raises(ConfigError, match="c: given 'classes', wanted a valid integer"):
        layers({"s": {"sized_example": 1, "c": "classes"}})


# Liao (2017), Table 2.1, with 10 classes: kind, units or filters, side of the square map that comes out (0: a vector).
PUBLISHED = {
    "liao_119": "conv 48 56, maxpool 48 28, conv 128 24, maxpool 128 12, dense 256 0, dense 20 0, dense 10 0",
    "lenet": "conv 20 24, maxpool 20 12, conv 50 8, maxpool 50 4, dense 500 0, dense 10 0",
    "liao_cifar": "conv 32 32, maxpool 32 16, conv 64 16, avgpool 64 8, conv 64 8, avgpool 64 4, "
    "dense 128 0, dense 10 0",
    "liao_svhn": "conv 20 28, maxpool 20 14, conv 512 8, maxpool 512 4, dense 40 0, dense 10 0",
    "liao_timit": "dense 512 0, dense 256 0, dense 10 0",
    "mlp": "dense 512 0, dense 256 0, dense 10 0",
    "digits_net": "conv 16 8, maxpool 16 4, conv 32 4, maxpool 32 2, dense 64 0, dense 10 0",
}
INPUTS = {"liao_119": (3, 119, 119), "liao_timit": (1845,), "digits_net": (1, 8, 8)} | dict.fromkeys(
    ("lenet", "mlp"), (1, 28, 28)
)


def side(size, item):
    """Windows that fit along one side of a padded square map."""
    window = item.params.get("kernel", item.params.get("size"))
    stride = item.params.get("stride", 1 if item.kind == "conv" else window)
    pad = item.params.get("pad", "valid")
    top, bottom = pad[:2] if isinstance(pad, list) else [{"valid": 0, "half": (window - 1) // 2}[pad]] * 2
    return (size + top + bottom - window) // stride + 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_shipped_networks_have_the_published_sizes(name):
    network = config.load("sgd", network=name).network
    assert network.input == INPUTS.get(name, (3, 32, 32))
    assert network.name == name
    channels, now, seen = network.input[0], network.input[-1], []
    for item in network.layers:
        if item.kind == "flatten":
            now = 0
        elif item.kind == "dense":
            channels, now = config.size(item.params["units"], 10), 0
        elif item.kind in ("conv", "maxpool", "avgpool"):
            channels, now = item.params.get("filters", channels), side(now, item)
        if item.kind not in ("norm", "relu", "flatten"):
            seen.append(f"{item.kind} {channels} {now}")
    assert seen == PUBLISHED[name].split(", ")


def test_the_wide_layer_of_the_119_net_grows_with_the_classes():
    sizes = [
        item.params["units"] for item in config.load("sgd", network="liao_119").network.layers if item.kind == "dense"
    ]
    assert [config.size(size, 102) for size in sizes] == [306, 204, 102]


def test_every_weight_layer_but_the_last_has_a_norm_and_a_relu():
    for name in PUBLISHED:
        kinds = [item.kind for item in config.load("sgd", network=name).network.layers]
        places = [place for place, kind in enumerate(kinds) if kind in ("dense", "conv")]
        assert all(kinds[place + 1 : place + 3] == ["norm", "relu"] for place in places[:-1]), name
        assert places[-1] == len(kinds) - 1, name


def test_resnet20_has_twenty_layers_in_three_stages():
    """He et al. (2016): 1 + 3 stages x 3 blocks x 2 convs + 1, of 16, 32, 64 filters; projections between stages."""
    network = config.load("sgd", network="resnet20").network
    weights = [item for item in config.walk(network.layers) if item.kind in ("dense", "conv")]
    main = [item for item in weights if not item.name.endswith("projection")]
    assert [item.params.get("filters") for item in main] == [16] * 7 + [32] * 6 + [64] * 6 + [None]
    assert [item.name for item in weights if item.params.get("stride") == 2] == [
        "s2b1.conv1",
        "s2b1.projection",
        "s3b1.conv1",
        "s3b1.projection",
    ]
    blocks = [item for item in network.layers if item.kind == "residual"]
    assert [item.name for item in blocks] == [f"s{stage}b{block}" for stage in (1, 2, 3) for block in (1, 2, 3)]
    inside = ["conv", "norm", "relu", "conv", "norm"]
    assert all([item.kind for item in block.params["path"]] == inside for block in blocks)
