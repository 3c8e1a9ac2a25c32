"""Graphs in time: their gradients against autograd of the definition, and against the residual nets they unroll to."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from ruamel.yaml import YAML

from bioplaus import assemble, config
from bioplaus.parts import LEARN, LOOK


def loop(layers, source, target, **given):
    return {"from": source, "to": target, "module": layers, **given}


SMALL = {"conv": 4, "kernel": 3, "pad": "half"}
# Edges of one set share a module at all times; relu at the end of a module writes into the error it is given.
SETS = {
    "network": "sets",
    "input": [3, 8, 8],
    "pass": {"recipe": "graph", "readout": 4, "combine": "mean"},
    "prenet": [{"stem": SMALL}, "norm", "relu"],
    "states": {"a": [4, 8, 8], "b": [4, 8, 8]},
    "edges": {
        "a_a": loop([{"c": SMALL}, "norm", "relu"], "a", "a", share="body", identity=True),
        "skip": loop(["relu"], "a", "b"),
        "a_b": loop([{"c": SMALL}, "norm", "tanh", {"d": SMALL}, "relu"], "a", "b", share="across"),
        "b_a": loop([{"c": SMALL}, "norm", "tanh", {"d": SMALL}, "relu"], "b", "a", share="across"),
        "b_b": loop([{"c": SMALL}, "norm", "relu"], "b", "b", share="body", identity=True),
        "late": loop([{"c": SMALL}, "relu"], "b", "b", share=False, open=[-1, -1]),
    },
    "postnet": ["globalmeanpool", {"fc": {"dense": "classes"}}],
}
GRAPHS = ["sets", "resnet_2state_shared", "resnet_2state_untied", "resnet_3state", "frnn_2state", "frnn_3state"]
GRAPHS += ["frnn_3state_adjacent", "frnn_4state", "frnn_4state_adjacent", "arch_b", "arch_c51", "arch_c55", "arch_d5"]
CHANNELS = {3: 3, 8: 2, 16: 3, 32: 3, 64: 4, 128: 5, 256: 6}
N = 3


def written(name, **changes):
    """A shipped graph as it is written, with few channels on small maps; or the one of sets."""
    if name == "sets":
        return {**deepcopy(SETS), "pass": SETS["pass"] | changes}
    data = YAML(typ="safe", pure=True).load(config.find("network", name).read_text("utf-8"))
    data["input"] = [3, 8, 8]
    data["states"] = {state: [CHANNELS[c], h // 4, w // 4] for state, (c, h, w) in data["states"].items()}

    def smaller(layers):
        for layer in layers if isinstance(layers, list) else []:
            for value in layer.values() if isinstance(layer, dict) else ():
                if isinstance(value, dict) and "conv" in value:
                    value["conv"] = CHANNELS[value["conv"]]

    for layers in (data["prenet"], *(edge["module"] for edge in data["edges"].values())):
        smaller(layers)
    data["pass"] |= changes
    return data


def built(network, *, on="numpy", classes=3, **rule):
    """The network of a mapping; ``rule``: what a rule file may hold."""
    pytest.importorskip(on)
    rule = {
        "rule": "tested",
        **rule,
        "defaults": {"update": {"recipe": "sgd", "rate": 0.1}, **rule.get("defaults", {})},
    }
    xp = assemble.array_library(on, dtype="float64", device="cpu", threads=1)
    return assemble.assembled(config.load(rule, network=network), classes=classes, xp=xp)


def samples(shape, rng, n=N):
    return rng.standard_normal((n, *shape)), rng.integers(0, 3, n)


# -- the definition --------------------------------------------------------------------------
def module(given, source, target):
    """The layers a named module stands for, written down a second time: Liao (2017), ch. 3."""
    if isinstance(given, list):
        return given
    kind = {"C": "conv", "D": "conv_transposed"}[given[2]]
    count, middle = int(given[-1]), round((source[0] + target[0]) / 2)
    larger, smaller = max(source[1], target[1]), min(source[1], target[1])
    twos = {1: 0, 2: 1, 4: 2, 8: 3}[larger // smaller]
    layers = []
    for k in range(1, count + 1):
        first_or_last = k <= twos if kind == "conv" else k > count - twos
        stride, filters = 2 if first_or_last else 1, target[0] if k == count else middle
        conv = {kind: filters, "kernel": 3, "stride": stride, "pad": 1, "extra": stride - 1}
        layers += ["norm", "relu", {f"conv{k}": conv}]
    return layers


def defined(data, net, x, *, readout=None):
    """h_S(readout), asked for from its end: every state asks the edges that lead to it. ``net``: a Plain."""
    readout, states = readout or data["pass"]["readout"], data["states"]
    first, last = next(iter(states)), list(states)[-1]

    def is_open(edge, t):
        if "open" not in edge:
            return True
        begin, end = (t if t > 0 else readout + t for t in edge["open"])
        return begin <= t <= end

    @cache
    def h(state, t):
        if t == 1:
            return net.chain(data["prenet"], x, "") if state == first else None
        arrived = []
        for name, edge in data["edges"].items():
            if edge["to"] == state and is_open(edge, t - 1) and h(edge["from"], t - 1) is not None:
                share = edge.get("share", True)
                layers = module(edge["module"], states[edge["from"]], states[state])
                prefix, suffix = (share if isinstance(share, str) else name), "" if share else f"@{t - 1}"
                below = h(edge["from"], t - 1)
                y = net.chain(copied(layers, suffix), below, f"{prefix}.")
                arrived.append(y + below if edge.get("identity") else y)
        if not arrived:
            return None
        return sum(arrived) / (len(arrived) if data["pass"].get("combine") == "mean" else 1)

    return net.chain(data["postnet"], h(last, readout), "")


def copied(layers, suffix):
    return [
        {f"{key}{suffix}": value for key, value in layer.items()} if isinstance(layer, dict) else layer
        for layer in layers
    ]


@pytest.mark.parametrize("on", ["numpy", "torch"])
@pytest.mark.parametrize("name", GRAPHS)
def test_what_accumulates_is_what_autograd_says_of_the_definition(engine, plain, name, on, rng):
    data = written(name)
    net = built(data, on=on, defaults={"norm": "batch"})
    engine.shake(net)
    x, y = samples((3, 8, 8), rng)
    restated, arrays = plain.restated(net, engine, [], normed=True)
    expected = plain.score("softmax_cross_entropy", defined(data, restated, plain.torch.tensor(x)), y)
    expected.backward()
    loss, _ = net.accumulate(engine.batch(net, x, y))
    assert float(loss) == pytest.approx(expected.item(), rel=1e-12)
    dW = engine.dW(net)
    assert set(dW) == set(arrays) and len(net.nodes) > 4
    for parameter, found in dW.items():
        np.testing.assert_allclose(found, arrays[parameter].grad, rtol=1e-8, atol=1e-11, err_msg=parameter)


@pytest.mark.parametrize("on", ["numpy", "torch"])
@pytest.mark.parametrize("channel", ["usf", "rndf", "dfa"])
@pytest.mark.parametrize("name", ["resnet_2state_shared", "frnn_2state"])
def test_errors_go_back_through_V_at_every_visit(engine, plain, name, channel, on, rng):
    data = written(name, readout=5)
    net = built(data, on=on, defaults={"norm": "batch", "channel": channel})
    x, y = samples((3, 8, 8), rng)
    batch = engine.batch(net, x, y)
    V, top = {node.name: net.xp.host(node.V) for node in net.nodes}, {}
    if channel == "dfa":
        with net.xp.scope():
            output = net.xp.host(net.pass_.forward(batch, LOOK)[0]["output"])
        share = np.exp(output) / np.exp(output).sum(1, keepdims=True)
        top = dict.fromkeys(V, plain.torch.tensor(share - np.eye(3)[y]))
    restated, arrays = plain.restated(net, engine, [], normed=True, V=V, top=top)
    plain.score("softmax_cross_entropy", defined(data, restated, plain.torch.tensor(x)), y).backward()
    net.accumulate(batch)
    for parameter, found in engine.dW(net).items():
        np.testing.assert_allclose(found, arrays[parameter].grad, rtol=1e-8, atol=1e-11, err_msg=parameter)


@pytest.mark.parametrize("readout", [5, 8])
def test_testing_reads_out_at_its_own_time(engine, plain, readout, rng):
    data = written("frnn_2state", test_readout=readout)
    net = built(data)
    x, _ = samples((3, 8, 8), rng)
    restated, _ = plain.restated(net, engine, [])
    found = net.predict(net.xp.array(x))
    expected = defined(data, restated, plain.torch.tensor(x), readout=readout)
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-10)


SETTLED = [("frnn_3state", 7), ("frnn_3state", 3), ("resnet_2state_shared", 7), ("arch_c51", 8), ("sets", 6)]


@pytest.mark.parametrize(("name", "readout"), SETTLED)
def test_statistics_are_of_their_time_and_settled_for_a_readout_never_trained(engine, plain, name, readout, rng):
    """One batch collected, testing on that batch is what training would compute at the readout of testing."""
    data = written(name, test_readout=readout)
    data["edges"].pop("late", None)
    x, y = samples((3, 8, 8), rng)
    found = {}
    for norm in ("batch", "batch_shared"):
        net = built(data, defaults={"norm": norm})
        net.accumulate(engine.batch(net, x + 1.0, y))  # its statistics are gone once others are collected
        net.begin_collecting()
        net.collect(engine.batch(net, x, y))
        found[norm] = net.predict(net.xp.array(x))
    restated, _ = plain.restated(net, engine, [], normed=True)
    expected = defined(data, restated, plain.torch.tensor(x), readout=readout).detach()
    np.testing.assert_allclose(found["batch"], expected, rtol=1e-9)
    assert np.abs(found["batch_shared"] - expected.numpy()).max() > 1e-3  # the control of Liao (2017), figure 3-6


def test_a_dropout_inside_a_module_is_drawn_at_every_visit(engine):
    data = {"network": "d", "input": [4000], "prenet": [], "postnet": [], "states": {"a": [4000]}}
    data |= {"pass": {"recipe": "graph", "readout": 3}, "edges": {"a_a": loop([{"dropout": 0.5}], "a", "a")}}
    net = built(data, classes=4000)
    output = net.pass_.forward(engine.batch(net, np.ones((1, 4000)), np.array([0])), LEARN)[0]["output"]
    assert np.mean(output > 0) == pytest.approx(0.25, abs=0.03)


# -- a recurrent net is a residual net with tied weights --------------------------------------
CONV = {"conv": 4, "kernel": 3, "pad": "half", "bias": False}
ACROSS = {"conv": 6, "kernel": 3, "pad": "half", "stride": 2, "bias": False}
FIRST = {"conv0": {"conv": 4, "kernel": 3, "pad": "half"}}
LAST = [{"norm": "next"}, "relu", "globalmeanpool", {"fc": {"dense": "classes"}}]
UNROLLED = 4


def recurrent(share):
    def module(conv):
        return [{"norm": "next"}, "relu", {"c": conv}]

    return {
        "network": "recurrent",
        "input": [2, 6, 6],
        "pass": {"recipe": "graph", "readout": UNROLLED + 2},
        "prenet": [FIRST],
        "states": {"a": [4, 6, 6], "b": [6, 3, 3]},
        "edges": {
            "r": {"from": "a", "to": "a", "module": module(CONV), "identity": True, "share": share, "open": [1, -2]},
            "s": {"from": "a", "to": "b", "module": module(ACROSS), "open": [-1, -1]},
        },
        "postnet": LAST,
    }


def residual():
    """The same net as any residual net is written: one block after the other."""
    blocks = [{f"r{t}": {"residual": [{"norm": "next"}, "relu", {"c": CONV}]}} for t in range(1, UNROLLED + 1)]
    layers = [FIRST, *blocks, {"norm": "next"}, "relu", {"s": ACROSS}, *LAST]
    return {"network": "residual", "input": [2, 6, 6], "layers": layers}


def twins(name):
    """Arrays of the residual net that one of the recurrent net stands for: ``r2.c.W`` of ``r.c@2.W``, or all copies."""
    if name.startswith("s."):
        return [name.replace("s.c", "s")]
    if not name.startswith("r."):
        return [name]
    layer, _, rest = name.partition("@")
    if not rest:
        return [name.replace("r.", f"r{t}.") for t in range(1, UNROLLED + 1)]
    t, _, rest = rest.partition(".")
    return [f"{layer.replace('r.', f'r{t}.')}.{rest}"]


RULES = {
    "error": {"defaults": {"norm": "batch"}},
    "affine": {"defaults": {"norm": {"recipe": "batch", "affine": True}}},
    "no norm": {},
    "usf": {"defaults": {"norm": "batch", "channel": "usf"}},
    "oja": {"defaults": {"norm": "batch", "plasticity": "oja"}},
    "hebbian below": {"layers": {"r*": {"plasticity": "oja"}, "conv0": {"plasticity": "oja"}}},
    "clamped below": {"layers": {"r*": {"plasticity": "none"}, "conv0": {"plasticity": "none"}}},
    "clamped loop": {"layers": {"r*": {"plasticity": "none"}}},
}


@pytest.mark.parametrize("on", ["numpy", "torch"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("share", [True, False], ids=["tied", "untied"])
def test_a_recurrent_net_is_a_residual_net(engine, share, rule, on, rng):
    """The same loss; the same dW where every copy has its own weights, and with tied ones the sum over the copies."""
    loop, chain = built(recurrent(share), on=on, **RULES[rule]), built(residual(), on=on, **RULES[rule])
    for name, array in loop.state.items():
        if name.endswith((".W", ".b", ".gain", ".bias")):
            array[...] = loop.xp.array(0.5 * rng.standard_normal(tuple(array.shape)))
            for twin in twins(name):
                chain.state[twin][...] = array
    for node in (*loop.nodes, *chain.nodes):
        node.channel.refresh(node.map, node.W, node.feedback, loop.stream)
    x, y = samples((2, 6, 6), rng)
    (loss, wrong), (expected, also) = (net.accumulate(engine.batch(net, x, y)) for net in (loop, chain))
    assert (float(loss), float(wrong)) == (pytest.approx(float(expected), rel=1e-12), float(also))
    found, single = engine.dW(loop), engine.dW(chain)
    assert found and sorted(twin for name in found for twin in twins(name)) == sorted(single)
    for name, value in found.items():
        total = sum(single[twin] for twin in twins(name))
        np.testing.assert_allclose(value, total, rtol=1e-9, atol=1e-11, err_msg=name)
