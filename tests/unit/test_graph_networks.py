# ruff: noqa: E501 -- a table of one message per line
"""Graphs: how they are written, what of them is built, the published sizes, and every mistake in one line."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from ruamel.yaml import YAML

from bioplaus import assemble, config, registry
from bioplaus.config.graph import MODULES
from bioplaus.errors import UserError
from bioplaus.parts import LEARN, TEST

PLAIN = {"rule": "plain", "defaults": {"update": {"recipe": "sgd", "rate": 0.1}, "norm": "batch"}}
BARE = {"rule": "bare", "defaults": {"update": {"recipe": "sgd", "rate": 0.1}}}
EDGE = {"from": "a", "to": "a", "module": [{"fc1": {"dense": 3}}]}
LINE = {
    "network": "line",
    "input": [3],
    "pass": {"recipe": "graph", "readout": 4},
    "prenet": [],
    "states": {"a": [3], "b": [3]},
    "edges": {"a_a": EDGE, "a_b": {**EDGE, "to": "b"}, "b_a": {**EDGE, "from": "b"}},
    "postnet": [],
}


def built(network, *, rule=PLAIN, classes=10, sets=(), on="numpy"):
    settings = config.load(rule, network=network, sets=sets)
    return assemble.assembled(settings, classes=classes, xp=assemble.array_library(on, dtype="float32", device="cpu"))


def names(net):
    return [node.name for node in net.nodes]


# Liao (2017), ch. 3, by the reconstruction of its figures: weights and the classifier's biases, with 10 classes.
COUNTS = {
    "resnet_2state_shared": 537_546,
    "resnet_2state_untied": 1_201_098,
    "resnet_3state": 2_382_026,
    "frnn_2state": 703_434,
    "frnn_3state": 4_206_794,
    "frnn_3state_adjacent": 3_285_194,
    "frnn_4state": 350_786,
    "frnn_4state_adjacent": 154_370,  # of 208_802 with what only later readouts can see
}


@pytest.mark.parametrize("name", COUNTS)
def test_shipped_graphs_have_as_many_weights_as_published(name):
    assert built(name).count() == COUNTS[name]


def test_what_goes_down_in_the_chain_of_four_plays_a_part_from_readout_6_on():
    assert built("frnn_4state_adjacent", sets=["network.pass.readout=6"]).count() == 208_802


@pytest.mark.parametrize(("readout", "depth"), [(5, 13), (10, 23)])
def test_depth_is_that_of_table_3_1(readout, depth):
    """The convolutions on a path from the image to the classifier, pooling and the classifier itself."""
    net = built("frnn_3state", sets=[f"network.pass.readout={readout}"])
    prenet = sum(node.name in ("conv1", "conv2", "conv3") for node in net.nodes)
    assert prenet + 2 * len(net.pass_.training) + 2 == depth


def test_the_first_state_of_the_residual_net_is_unrolled_ten_times():
    net = built("resnet_2state_untied")
    assert [name for name in names(net) if name.startswith("h1_h1.conv1")] == [f"h1_h1.conv1@{t}" for t in range(1, 11)]
    walked = [visit.source for step in built("resnet_2state_shared").pass_.training for a in step for visit in a.visits]
    assert walked == ["h1"] * 11 + ["h2"]


def test_only_what_reaches_the_last_state_by_the_readout_is_built():
    assert "h2_h1.conv1" not in names(built("frnn_2state", sets=["network.pass.readout=3"]))
    net = built("frnn_2state", sets=["network.pass.readout=4"])
    assert "h2_h1.conv1" in names(net)
    walked = [{(a.state, visit.source) for a in step for visit in a.visits} for step in net.pass_.training]
    assert walked == [
        {("h1", "h1"), ("h2", "h1")},
        {("h1", "h1"), ("h1", "h2"), ("h2", "h1"), ("h2", "h2")},
        {("h2", "h1"), ("h2", "h2")},
    ]


@pytest.mark.parametrize(("combine", "expected"), [("sum", 24.0), ("mean", 8.0)])
def test_states_combine_what_is_there(combine, expected):
    """Every edge doubles: a = 1, 2, 4; b is 2 at time 2, 4 + 4 or their mean at 3, 8 + twice that or the mean at 4."""
    edges = {"a_a": EDGE, "a_b": {**EDGE, "to": "b"}, "b_b": {**EDGE, "from": "b", "to": "b"}}
    data = {**LINE, "pass": {"recipe": "graph", "readout": 4, "combine": combine}, "edges": edges}
    net = built(data, rule=BARE, classes=3)
    for node in net.nodes:
        node.weights.W[...] = 2.0 * np.eye(3)
    output = net.pass_.forward(net.batch(np.ones((1, 3)), np.array([0])), LEARN)[0]["output"]
    assert output.tolist() == [[expected] * 3]


def test_a_norm_counts_its_visits():
    """Each time and each edge of a set is a visit of its own; a copy has one."""
    seen = {}

    @registry.register("norm", "visited_example")
    class Visited:
        removes_bias, collects = False, 0

        def init(self, xp, shape, visits=1, groups=1):
            return {"visits": xp.zeros((visits,))}

        def forward(self, xp, n, state, at):
            seen.setdefault((id(state), len(state["visits"])), []).append(at.visit)
            return n, None

    data = deepcopy(LINE)
    conv = [{"fc1": {"dense": 3}}, "norm"]
    data["pass"]["test_readout"] = 6
    data["prenet"] = [{"stem": {"dense": 3}}, "norm"]
    data["edges"] = {
        "a_a": {**EDGE, "module": conv},
        "a_b": {**EDGE, "module": conv, "to": "b", "share": "cross"},
        "b_a": {**EDGE, "module": conv, "from": "b", "share": "cross"},
        "b_b": {**EDGE, "module": conv, "from": "b", "to": "b", "share": False, "open": [2, 3]},
    }
    net = built(data, rule={"rule": "r", "defaults": {**PLAIN["defaults"], "norm": "visited_example"}}, classes=3)
    batch = net.batch(np.ones((2, 3)), np.array([0, 1]))
    net.pass_.forward(batch, LEARN)
    assert sorted((visits, sorted(numbers)) for (_, visits), numbers in seen.items()) == [
        (1, [0]),
        (1, [0]),
        (1, [0]),
        (5, [0, 1]),
        (10, [0, 2, 3, 4]),
    ]
    seen.clear()
    net.pass_.forward(batch, TEST)
    assert max(number for numbers in seen.values() for number in numbers) == 8


# -- how graphs are written ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("module", "source", "target", "expected"),
    [
        ("BRCx2", (4, 8, 8), (6, 8, 8), [("conv", 5, 1), ("conv", 6, 1)]),
        ("BRCx2", (4, 8, 8), (7, 8, 8), [("conv", 6, 1), ("conv", 7, 1)]),  # 5.5, rounded
        ("BRCx2", (4, 8, 8), (6, 4, 4), [("conv", 5, 2), ("conv", 6, 1)]),
        ("BRCx2", (4, 8, 8), (6, 2, 2), [("conv", 5, 2), ("conv", 6, 2)]),
        ("BRCx3", (4, 8, 8), (6, 4, 4), [("conv", 5, 2), ("conv", 5, 1), ("conv", 6, 1)]),
        ("BRDx2", (6, 4, 4), (4, 8, 8), [("conv_transposed", 5, 1), ("conv_transposed", 4, 2)]),
        (
            "BRDx3",
            (6, 1, 1),
            (4, 8, 8),
            [("conv_transposed", 5, 2), ("conv_transposed", 5, 2), ("conv_transposed", 4, 2)],
        ),
    ],
)
def test_a_named_module_is_short_for_layers(module, source, target, expected):
    edges = {"a_b": {"from": "a", "to": "b", "module": module}}
    data = {**LINE, "input": list(source), "states": {"a": list(source), "b": list(target)}, "edges": edges}
    data["pass"] = {"recipe": "graph", "readout": 2}
    layers = config.load({}, network=data).network.edges[0].layers
    assert [item.kind for item in layers] == ["norm", "relu", expected[0][0]] * len(expected)
    convs = [item for item in layers if item.name]
    assert [item.name for item in convs] == [f"a_b.conv{k + 1}" for k in range(len(expected))]
    assert [(item.kind, item.params["filters"], item.params["stride"]) for item in convs] == expected
    net = built(data)
    assert net.pass_.forward(net.batch(np.ones((2, *source)), np.array([0, 0])), LEARN)[0]["output"].shape == (
        2,
        *target,
    )


def test_layers_are_addressed_by_edge_and_copies_by_their_original():
    rule = {
        **PLAIN,
        "layers": {"h1_h1.conv1": {"channel": "usf"}, "h1_h1.conv2": {"norm": "none"}, "$last": {"channel": "rndf"}},
    }
    net = built("resnet_2state_untied", rule=rule)
    channels = {node.name: type(node.channel).__name__ for node in net.nodes}
    assert {channels[f"h1_h1.conv1@{t}"] for t in range(1, 11)} == {"UniformSign"}
    assert channels["fc"] == "RandomFeedback" and channels["h1_h2.conv1"] == "Backprop"
    norms = [site.name for site in net.norms]
    assert "h1_h1.conv1@3" in norms and "h1_h1.conv2@3" not in norms and "fc" in norms


def test_edges_of_a_set_share_their_module():
    data = deepcopy(LINE)
    data["edges"] = {name: {**edge, "share": "one"} for name, edge in data["edges"].items()}
    net = built(data, rule=BARE, classes=3)
    assert names(net) == ["one.fc1"]


GRAPHS = sorted(name for name in config.shipped("network") if config.load({}, network=name).network.states)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_written_out_reads_back_the_same(name, tmp_path):
    def preset(dataset):
        return {"network": "liao_cifar"}

    loaded = config.load("bn", network=name, sets=["network.pass.test_readout=12"], dataset="cifar10", preset=preset)
    path = tmp_path / "config.yaml"
    path.write_text(config.dump(loaded), encoding="utf-8")
    again = config.load(path, preset=preset)
    assert config.check_file(path) == []
    assert again == loaded and config.dump(again) == config.dump(loaded)
    assert again.network.listed == loaded.network.listed


def test_a_written_graph_says_no_more_than_needed():
    text = YAML(typ="safe", pure=True).load(config.dump(config.load({}, network="resnet_2state_shared")))
    edge = {"from": "h1", "to": "h2", "module": "BRCx2", "open": [-2, -2]}
    assert text["network"]["edges"]["h1_h2"] == edge and "layers" not in text["network"]


# -- mistakes --------------------------------------------------------------------------------
HEAD = """input: [3]
pass: {recipe: graph, readout: 4}
prenet: []
states: {a: [3], b: [3]}
edges:
  a_a: {from: a, to: a, module: [{fc: {dense: 3}}]}
  a_b: {from: a, to: b, module: [{fc: {dense: 3}}]}
postnet: []
"""
A_B = "  a_b: {from: a, to: b, module: [{fc: {dense: 3}}]}"
MAPS = """input: [4, 8, 8]
pass: {recipe: graph, readout: 4}
prenet: []
states: {a: [4, 8, 8], b: [6, 2, 2]}
edges:
  a_a: {from: a, to: a, module: BRCx2}
  a_b: {from: a, to: b, module: BRCx2}
postnet: []
"""
WRONG = {
    # edges and states
    (HEAD, "to: b,", "to: c,"): "n.yaml:7: edges.a_b.to: no state named 'c'. Known: a, b.",
    (
        HEAD,
        "  a_b: {from: a",
        "  a_b: {from: aa",
    ): "n.yaml:7: edges.a_b.from: no state named 'aa'; did you mean 'a'? Known: a, b.",
    (HEAD, "a_a: {from: a,", "a_a: {frm: a,"): "n.yaml:6: edges.a_a.from: is missing.",
    (HEAD, "a_a: {", "a-a: {"): "n.yaml:6: edges.a-a: 'a-a' is no name; wanted letters, digits and _, no digit first.",
    (
        HEAD,
        "a_a: {from: a, to: a, module: [{fc: {dense: 3}}]}",
        "a_a: {from: a, to: a}",
    ): "n.yaml:6: edges.a_a.module: is missing.",
    (HEAD, "states: {a: [3], b: [3]}", "states: {}"): "n.yaml:4: states: is empty; wanted a mapping.",
    (HEAD, "states: {a: [3], b: [3]}", "states: {a: [0], b: [3]}"): "n.yaml:4: states.a.0: given 0, wanted at least 1.",
    (
        HEAD,
        "[{fc: {dense: 3}}]}\n  a_b",
        "[{fc: {dense: 3}}], share: 3}\n  a_b",
    ): "n.yaml:6: edges.a_a.share: given 3, wanted true, false, or the name of a set of edges.",
    (HEAD, "prenet: []\n", ""): "n.yaml: prenet: is missing.",
    (
        HEAD,
        "pass: {recipe: graph, readout: 4}\n",
        "",
    ): "n.yaml:2: prenet: pass 'feedforward' reads no prenet, but layers.",
    (
        HEAD,
        "prenet: []",
        "prenet: []\nlayers: [relu]",
    ): "n.yaml:4: layers: pass 'graph' reads no layers, but prenet, states, edges, postnet.",
    (HEAD, "recipe: graph", "recipe: grap"): "n.yaml:2: pass: no pass named 'grap'; did you mean 'graph'?",
    # modules
    (
        MAPS,
        "BRCx2}\n  a_b",
        "BRCx4}\n  a_b",
    ): "n.yaml:6: edges.a_a.module: no module named 'BRCx4'; did you mean 'BRCx3'? Known: BRCx2,",
    (
        MAPS,
        "b: [6, 2, 2]",
        "b: [6, 1, 1]",
    ): "n.yaml:7: edges.a_b.module: BRCx2 halves maps up to 2 times; it does not lead from 4×8×8 to 6×1×1.",
    (
        MAPS,
        "a, to: b, module: BRC",
        "a, to: b, module: BRD",
    ): "n.yaml:7: edges.a_b.module: BRDx2 doubles maps up to 2 times; it does not lead",
    (
        HEAD,
        A_B,
        "  a_b: {from: a, to: b, module: BRCx2}",
    ): "n.yaml:4: states.a: given 3, wanted channels × height × width: a named module leads from maps to maps. Write [channels,",
    (
        HEAD,
        A_B,
        "  a_b: {from: a, to: b, module: BRCx4}",
    ): "n.yaml:7: edges.a_b.module: no module named 'BRCx4'; did you mean 'BRCx3'?",
    (
        HEAD,
        A_B,
        "  a_b: {from: a, to: b, module: [rleu]}",
    ): "n.yaml:7: edges.a_b.module.0: no layer kind named 'rleu'; did you mean 'relu'?",
    (
        MAPS,
        "b, module: BRCx2",
        "b, module: BRCx2, identity: true",
    ): "n.yaml:7: edges.a_b.identity: a is 4×8×8, b 6×2×2: one cannot be added to the other.",
    (
        HEAD,
        "b, module: [{fc: {dense: 3}}]",
        "b, module: [{fc: {dense: 4}}]",
    ): "n.yaml:7: edges.a_b.module: the module gives 4, state 'b' is 3.",
    (HEAD, "prenet: []", "prenet: [{fc: {dense: 4}}]"): "n.yaml:3: prenet: the prenet gives 4, state 'a' is 3.",
    # sets
    (
        MAPS,
        "BRCx2}\n  a_b: {from: a, to: b, module: BRCx2}",
        "BRCx2, share: s}\n  a_b: {from: a, to: b, module: BRCx2, share: s}",
    ): "n.yaml:7: edges.a_b.share: set 's' ties 4×8×8 to 6×2×2 here and 4×8×8 to 4×8×8 in 'a_a'; one module takes one shape.",
    (
        HEAD,
        "[{fc: {dense: 3}}]}\n" + A_B,
        "[{fc: {dense: 3}}], share: s}\n  a_b: {from: a, to: b, module: [tanh], share: s}",
    ): "n.yaml:7: edges.a_b.share: set 's' has another module in 'a_a'; edges of one set have one.",
    (
        HEAD,
        "[{fc: {dense: 3}}]}\n  a_b",
        "[{fc: {dense: 3}}], share: a_b}\n  a_b",
    ): "n.yaml:7: edges.a_b: a layer or set named 'a_b' stands above; every name is used once.",
    # times
    (HEAD, "readout: 4", "readout: 1"): "n.yaml:2: pass.readout: no path leads from 'a' at time 1 to 'b' at time 1.",
    (
        HEAD,
        "readout: 4",
        "readout: 0",
    ): "n.yaml:2: pass.readout: given 0, wanted a time step: a whole number above 0.",
    (
        HEAD,
        "readout: 4",
        "readuot: 4",
    ): "n.yaml:2: pass: 'graph' has no parameter 'readuot'; did you mean 'readout'?",
    (
        HEAD,
        "readout: 4",
        "readout: 4, test_readout: 1",
    ): "n.yaml:2: pass.test_readout: no path leads from 'a' at time 1 to 'b' at time 1.",
    (
        HEAD,
        A_B,
        A_B.replace("]}", "], open: [1, 4]}"),
    ): "n.yaml:7: edges.a_b.open: given [1, 4], wanted the first and the last of time steps 1 to 3,",
    (HEAD, A_B, A_B.replace("]}", "], open: [3, 2]}")): "n.yaml:7: edges.a_b.open: given [3, 2], wanted",
    (HEAD, A_B, A_B.replace("]}", "], open: [0, 2]}")): "n.yaml:7: edges.a_b.open: given [0, 2], wanted",
    (HEAD, A_B, A_B.replace("]}", "], open: [-4, 2]}")): "n.yaml:7: edges.a_b.open: given [-4, 2], wanted",
    (
        HEAD,
        A_B,
        A_B.replace("]}", "], open: [1]}"),
    ): "n.yaml:7: edges.a_b.open: given a list, wanted [first, last]: two time steps.",
    (
        HEAD,
        A_B,
        A_B.replace("]}", "], open: [1, 1]}"),
    ): "n.yaml:2: pass.readout: no path leads from 'a' at time 1 to 'b' at time 4. Read out later, or open edges that",
    (
        HEAD,
        f"readout: 4|{A_B}",
        f"readout: 4, test_readout: 5|{A_B.replace(']}', '], share: false}')}",
    ): "n.yaml:2: pass.test_readout: edge 'a_b' would be walked untrained at time 4: by readout 4 training does not need it.",
}


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case[2][:50])
def test_wrong_graphs_are_told_in_one_line(case, tmp_path):
    text, old, new = case
    for before, after in zip(old.split("|"), new.split("|"), strict=True):
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    path = tmp_path / "n.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        built(path, classes=3)
    assert str(raised.value).replace(f"{tmp_path}/", "").splitlines()[0].startswith(WRONG[case])


def test_a_state_that_is_no_maps_is_told_once_however_many_modules_want_maps(tmp_path):
    path = tmp_path / "n.yaml"
    path.write_text(
        MAPS.replace("b: [6, 2, 2]", "b: [6, 4]").replace("postnet", "  b_b: {from: b, to: b, module: BRCx2}\npostnet")
    )
    (message,) = config.check_file(path)
    assert message == (
        f"{path}:4: states.b: given 6×4, wanted channels × height × width: a named module leads from maps to maps. "
        "Write [channels, height, width], or give its edges lists of layers."
    )


def test_the_graphs_that_the_mistakes_are_made_in_are_right(tmp_path):
    for text in (HEAD, MAPS):
        (tmp_path / "n.yaml").write_text(text)
        assert built(tmp_path / "n.yaml", rule=BARE, classes=3)


def test_a_norm_may_belong_to_the_layer_after_it():
    layers = ["norm", "relu", {"fc1": {"dense": 4}}, {"norm": "next"}, {"fc2": {"dense": 3}}]
    rule = {**PLAIN, "layers": {"fc2": {"norm": {"recipe": "batch", "affine": True}}}}
    net = built({"input": [3], "layers": layers}, rule=rule, classes=3)
    assert [site.name for site in net.norms] == ["fc1", "fc2"]
    biased = [node.name for node in net.nodes if node.bias is not None]
    assert biased == ["fc2"]  # the norm of fc2 stands right behind fc1, and takes a bias away
    assert [unit.name for unit in net.gains] == ["fc2"]


def test_a_bias_goes_where_a_norm_takes_it_away_whosever_norm_that_is():
    layers = [{"fc1": {"dense": 4}}, {"norm": "next"}, {"fc2": {"dense": 4}}, "relu", {"fc3": {"dense": 3}}]
    for without, biased in (("fc1", ["fc2", "fc3"]), ("fc2", ["fc1", "fc2", "fc3"])):
        net = built({"input": [3], "layers": layers}, rule={**PLAIN, "layers": {without: {"norm": "none"}}}, classes=3)
        assert [node.name for node in net.nodes if node.bias is not None] == biased


def test_a_norm_belongs_to_some_layer(tmp_path):
    (tmp_path / "n.yaml").write_text("input: [3]\nlayers:\n  - fc: {dense: 3}\n  - norm: next\n")
    with pytest.raises(UserError, match=r"n.yaml:4: layers.1: no weight layer stands before this norm or after it\."):
        built(tmp_path / "n.yaml", classes=3)


def test_a_norm_that_does_not_fit_is_told_where_it_was_chosen(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "defaults: {update: {rate: 1.0}}\nlayers:\n  c: {norm: {recipe: divisive, window: 4}}\n"
    )
    there = {"input": [1, 4, 4], "layers": [{"c": {"conv": 2, "kernel": 1}}, "norm", "flatten", {"fc": {"dense": 3}}]}
    with pytest.raises(UserError, match=r"r.yaml:3: layers.c.norm: a window of 4 has no centre on a map. Take an odd"):
        built(there, rule=tmp_path / "r.yaml", classes=3)


def test_layers_may_have_no_bias():
    layers = [{"c": {"conv": 2, "kernel": 1, "bias": False}}, {"t": {"conv_transposed": 2, "kernel": 1, "bias": False}}]
    layers += ["flatten", {"fc": {"dense": 3, "bias": False}}]
    net = built({"input": [1, 2, 2], "layers": layers}, rule=BARE, classes=3)
    assert [node.bias for node in net.nodes] == [None] * 3
    assert set(MODULES) == {"BRCx2", "BRCx3", "BRDx2", "BRDx3"}
