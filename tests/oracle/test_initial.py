"""Where weights start: the distribution a layer asks for, in every layer that has weights."""

from __future__ import annotations

import numpy as np
import pytest

from bioplaus.errors import ConfigError

LAYERS = {
    "dense": ([{"a": {"dense": 90}}, "relu", {"out": {"dense": 3}}], (80,), 0, ["a"]),
    "conv": ([{"a": {"conv": 60, "kernel": 5}}, "flatten", {"out": {"dense": 3}}], (6, 6, 6), 0, ["a"]),
    "conv_transposed": (
        [{"a": {"conv_transposed": 60, "kernel": 5}}, "flatten", {"out": {"dense": 3}}],
        (6, 3, 3),
        0,
        ["a"],
    ),
    "embedding": ([{"a": {"embedding": 90, "words": 80}}, {"out": {"dense": 3}}], (), 0, ["a"]),
    "rnn": ([{"a": {"rnn": 80}}, {"out": {"dense": 3}}], (70,), 4, ["a.x", "a.h"]),
    "gru": ([{"a": {"gru": 50}}, {"out": {"dense": 3}}], (60,), 4, ["a.x", "a.h", "a.n"]),
    "lstm": ([{"a": {"lstm": 50}}, {"out": {"dense": 3}}], (60,), 4, ["a.x", "a.h"]),
}
INITIALS = {  # deviation in units of the number given, largest value in the same
    "normal": (1.0, np.inf),
    "uniform": (1 / np.sqrt(3), 1.0),
    "truncated_normal": (0.8796, 2.0),  # of a normal cut at two deviations
}


def started(engine, layer, init, **rest):
    stack, shape, over, names = LAYERS[layer]
    ((name, given),) = stack[0].items()
    net = engine.net([{name: {**given, "init": init}}, *stack[1:]], shape, over=over, **rest)
    return {name: engine.W(net)[f"{name}.W"] for name in names}


@pytest.mark.parametrize("kind", INITIALS)
@pytest.mark.parametrize("layer", LAYERS)
def test_weights_follow_the_distribution_named(engine, layer, kind):
    share, largest = INITIALS[kind]
    for W in started(engine, layer, {kind: 0.02}).values():
        assert abs(W.mean()) < 4 * W.std() / np.sqrt(W.size)
        assert W.std() == pytest.approx(share * 0.02, rel=4 / np.sqrt(2 * W.size))
        assert abs(W).max() <= largest * 0.02
        assert abs(W).max() > min(largest, 3.0) * 0.02 * 0.95
    again, other = started(engine, layer, {kind: 0.02}), started(engine, layer, {kind: 0.02}, seed=1)
    for name, W in started(engine, layer, {kind: 0.02}, on="torch").items():
        np.testing.assert_array_equal(again[name], W)
        assert not np.array_equal(other[name], W)


@pytest.mark.parametrize("init", [{"normal": 0.1, "uniform": 0.1}, {}, {"normal": 0.0}, {"he": 1.0}, 0.1])
def test_anything_else_is_refused_in_one_line(engine, init):
    with pytest.raises(
        ConfigError, match=r"layers.0.a.init: given .*, wanted xavier, \{normal: deviation\}, \{truncated"
    ):
        started(engine, "dense", init)


@pytest.mark.parametrize("layer", LAYERS)
def test_xavier_looks_both_ways(engine, layer):
    """Uniform up to sqrt(6 / (fan_in + fan_out)); of what a kernel sees, and of what sees it."""
    fans = {"dense": (80, 90), "conv": (150, 1500), "conv_transposed": (150, 1500), "embedding": (1, 90)}
    for name, W in started(engine, layer, "xavier").items():
        fan_in, fan_out = fans.get(layer, W.shape)
        largest = np.sqrt(6 / (fan_in + fan_out))
        assert 0.98 * largest < abs(W).max() <= largest, name
