"""The shipped networks that render: sizes and weights as published; images come down as large as they went up."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from bioplaus import assemble, rendering

SIZES = {  # of every layer's map, before the pool behind it
    "drmm5": [32, 14, 16, 6, 6],
    "drmm9": [32, 34, 36, 16, 18, 16, 6, 6, 6],
    "drmm9_ladder": [30, 32, 34, 15, 17, 15, 5, 5, 5],
    "drmm64": [64, 34, 36, 16, 18, 16, 6, 6, 6],
    "rmm": [28],
}
WEIGHTS = {"drmm5": (131_204, 131_104), "drmm64": (1_371_744 + 36 * 36, 1_371_744)}  # all, of convolutions
CLASSES = {"drmm64": 36}


@pytest.fixture(scope="module", params=SIZES)
def net(request):
    pytest.importorskip("torch")
    return assemble.build(
        network=request.param,
        rule="drmm_mpc",
        classes=CLASSES.get(request.param, 10),
        backend="torch",
        sets=["defaults.norm=none"],
    )


def name(net):
    return next(name for name, sizes in SIZES.items() if sizes == [n.map.output[-1] for n in net.nodes[:-1]])


def test_maps_have_the_published_sizes_and_weights(net):
    assert name(net) in SIZES
    if name(net) in WEIGHTS:
        every = [prod(node.map.shape) for node in net.nodes]
        assert (sum(every), sum(every[:-1])) == WEIGHTS[name(net)]


def test_what_comes_down_is_as_large_as_what_went_up(net):
    images = np.random.default_rng(0).random((2, *net.pass_.input))
    batch = net.batch(images, np.array([0, 1]))
    found = rendering.reconstruct(net, batch)
    assert found.reconstruction.shape == found.image.shape == images.shape
    assert np.isfinite(found.reconstruction).all() and found.reconstruction.any()
    for path, node in zip(rendering.trace(net, batch, 1), net.nodes, strict=True):
        assert path.activity.shape == path.template.shape == path.rendered.shape == tuple(node.map.output)


def test_xavier_weights_lie_where_glorot_and_bengio_put_them(net):
    for node in net.nodes[:-1]:
        outputs, inputs, kh, kw = node.map.shape
        limit = np.sqrt(6.0 / ((inputs + outputs) * kh * kw))
        W = net.xp.host(node.W)
        assert np.abs(W).max() <= limit * (1 + 1e-6)
        assert W.size < 500 or (np.abs(W).max() > 0.98 * limit and abs(W.std() - limit / np.sqrt(3)) < 0.05 * limit)
