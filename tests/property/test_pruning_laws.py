"""What is pruned while learning goes on stays gone, whatever moves the weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bioplaus import assemble, config, registry

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
LAYERS = [
    {"c": {"conv": 3, "kernel": 2}},
    "norm",
    "relu",
    {"t": {"conv_transposed": 2, "kernel": 2}},
    "tanh",
    "flatten",
    {"h": {"dense": 6}},
    "affine",
    "relu",
    {"out": {"dense": 3}},
]
SHAPE = (2, 4, 4)
UPDATES = [
    *({"recipe": name, "rate": 0.01} for name in registry.names("update")),
    {"recipe": "sgd", "rate": 0.01, "momentum": 0.9, "decay": 0.1},
    [{"decay": 0.3}, "sign", {"momentum": 0.5}, "adam", {"rate": 0.01}],
    [{"rate": 0.01}],
]
CHANNELS = [name for name in registry.names("channel") if name != "dfa"]
CUT = {"recipe": "prune", "share": 0.4, "at": [2, 4]}


@on_each
@given(
    update=st.sampled_from(UPDATES),
    channel=st.sampled_from(CHANNELS),
    pruning=st.sampled_from(["uili_sp", "magnitude"]),
    plasticity=st.sampled_from(["error", "oja", "none"]),
    norm=st.sampled_from(["none", "batch"]),
    training=st.sampled_from([{}, {"batches_per_update": 2}, {"clip": 0.1}]),
    at_once=st.booleans(),
    seed=st.integers(0, 5),
)
@settings(max_examples=25)
def test_nothing_pruned_comes_back_in_weights_memories_or_feedback(
    engine, on, update, channel, pruning, plasticity, norm, training, at_once, seed
):
    defaults = {
        "update": update,
        "channel": channel,
        "norm": norm,
        "pruning": {"recipe": pruning, "cut": CUT},
    }
    net = engine.net(
        LAYERS, SHAPE, on=on, defaults=defaults, training=training, layers={"h": {"plasticity": plasticity}}
    )
    rng = np.random.default_rng(seed)
    for epoch in range(1, 7):
        batch = engine.batch(net, rng.standard_normal((4, *SHAPE)), rng.integers(0, 3, 4))
        if at_once and not training:
            net.step(batch)
        else:
            net.accumulate(batch)
            if net.pending == net.batches_per_update:
                net.update()
        net.prune(epoch)
        state = engine.state(net)
        for node in net.nodes:
            gone = state[f"{node.name}.pruning.mask"] == 0
            assert gone.any() == (epoch >= 2)
            for name, value in state.items():
                if name.startswith(f"{node.name}.") and value.shape == gone.shape and not name.endswith((".use", ".M")):
                    assert not value[gone].any(), name


@on_each
def test_a_change_of_the_update_within_a_run_brings_nothing_back(engine, on, rng):
    network = {"network": "tested", "input": [5], "layers": [{"h": {"dense": 6}}, "relu", {"out": {"dense": 3}}]}
    phases = [{"epochs": 1, "update": {"recipe": "sgd", "rate": 0.1}}, {"epochs": 1, "update": {"recipe": "adam"}}]
    defaults = {
        "update": {"recipe": "sgd", "rate": 0.1},
        "pruning": {"recipe": "magnitude", "cut": {"recipe": "prune"}},
    }
    phases[1]["update"]["rate"] = 0.1
    settings = config.load({"rule": "t", "defaults": defaults, "training": {"phases": phases}}, network=network)
    net = assemble.assembled(settings, classes=3, xp=assemble.array_library(on, dtype="float64", threads=1))
    for phase in (0, 1):
        assemble.relink(net, settings, phase)
        for epoch in (1, 2):
            net.accumulate(engine.batch(net, rng.standard_normal((4, 5)), rng.integers(0, 3, 4)))
            net.update()
            net.prune(epoch + 2 * phase)
    for node in net.nodes:
        gone = net.xp.host(node.survivors.mask) == 0
        assert gone.mean() == pytest.approx(0.5, abs=0.06)
        for name, value in engine.state(net).items():
            if name.startswith(f"{node.name}.") and value.shape == gone.shape and not name.endswith(".use"):
                assert not value[gone].any(), name
