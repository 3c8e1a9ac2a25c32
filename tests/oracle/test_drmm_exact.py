"""A ReLU network is the max-sum inference of a nonnegative rendering model: by writing down every configuration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from bioplaus import assemble, config, rendering
from bioplaus.backend.streams import Stream
from bioplaus.errors import BioplausError
from bioplaus.parts import TEST, At

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
LAYERS = [
    {"c1": {"conv": 2, "kernel": [1, 3], "pad": "half"}},
    "relu",
    {"maxpool": 2},
    {"c2": {"conv": 2, "kernel": [1, 2]}},
    "relu",
    "flatten",
    {"out": {"dense": 3}},
]
IMAGE = (1, 2, 6)
DOWN = TEST._replace(render=True)


def built(on="numpy", layers=LAYERS, shape=IMAGE, classes=3, order=None, **rule):
    network = {
        "network": "tiny",
        "input": list(shape),
        "pass": {"recipe": "generative", **(order or {})},
        "layers": layers,
    }
    given = {"rule": "tested", "defaults": {"update": {"recipe": "sgd", "rate": 0.1}}, "losses": {"reconstruction": {}}}
    xp = assemble.array_library(on, dtype="float64", threads=1)
    return assemble.assembled(config.load(given | rule, network=network), classes=classes, xp=xp)


def filled(net, seed, *, signed=(), biased=True):
    """Random weights, at least 0 above the first layer but where ``signed``; biases, which stand for priors."""
    rng = np.random.default_rng(seed)
    for node in net.nodes:
        W = rng.standard_normal(node.map.shape)
        free = node.name == "c1" or node.name in signed
        node.W[...] = net.xp.array(W if free else np.abs(W))
        node.bias.W[...] = net.xp.array(0.4 * rng.standard_normal(node.map.bias_shape) * biased)


def every_configuration(W, images):
    """(best score of each class, image rendered by the best configuration of all), from the model's definition.

    score = <mu_cg, I> + what the priors add: b_c, and z b for every unit that is on.
    """
    choices = [None, *product(range(2), range(2))]  # of a pooled unit: off, or where in its window it is on
    first = list(product(choices, repeat=6))  # 2 channels x 3 places
    G1, G2, mu = W["c1.W"], W["c2.W"], W["out.W"]
    render = np.zeros((len(first), 12, 6))  # z^(1) of 6 pooled units -> image of 2 x 6 pixels
    on = np.zeros((len(first), 6))
    for number, configuration in enumerate(first):
        for unit, where in enumerate(configuration):
            if where is None:
                continue
            on[number, unit] = 1.0
            channel, place = divmod(unit, 3)
            row, column = where[0], 2 * place + where[1]
            for k in range(3):
                if 0 <= column + k - 1 < 6:
                    render[number, row * 6 + column + k - 1, unit] += G1[channel, 0, 0, k]
    pixels = images.reshape(len(images), 12)
    best = np.full((len(images), 3), -np.inf)
    rendered = np.zeros((len(images), 3, 12))
    seen = np.einsum("ip,gpu->igu", pixels, render)
    b1 = np.repeat(W["c1.b"].ravel(), 3)
    for c in range(3):
        for a2 in product((0.0, 1.0), repeat=4):  # 2 channels x 2 places
            z2 = mu[:, c] * np.array(a2)
            z1 = np.zeros((2, 3))
            for channel in range(2):
                for place in range(2):
                    z1[:, place : place + 2] += z2[2 * channel + place] * G2[channel, :, 0, :]
            z1 = z1.ravel()
            prior = W["out.b"][0, c] + (z2 * np.repeat(W["c2.b"].ravel(), 2)).sum() + (on * z1 * b1).sum(1)
            score = seen @ z1 + prior
            g = score.argmax(1)
            top = score[np.arange(len(images)), g]
            better = top > best[:, c]
            best[better, c] = top[better]
            rendered[better, c] = (render[g[better]] @ z1).reshape(-1, 12)
    chosen = best.argmax(1)
    return best, rendered[np.arange(len(images)), chosen].reshape(images.shape)


@pytest.mark.parametrize("biased", [False, True], ids=["", "biased"])
@on_each
def test_the_network_finds_the_best_of_all_configurations(engine, on, biased):
    """Its outputs are the best scores, class by class; what it renders is the best configuration's image."""
    net = built(on)
    filled(net, 1, biased=biased)
    images = np.random.default_rng(2).standard_normal((10, *IMAGE))
    best, rendered = every_configuration(engine.W(net), images)
    found = rendering.reconstruct(net, engine.batch(net, images, np.zeros(10, int)))
    np.testing.assert_allclose(found.output, best, rtol=1e-12)
    np.testing.assert_allclose(found.reconstruction, rendered, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(found.label, best.argmax(1))
    assert np.abs(rendered).sum((1, 2, 3)).min() > 0.1 and len(set(found.label.tolist())) > 1


def test_with_weights_of_both_signs_above_the_first_layer_it_does_not(engine):
    net = built()
    filled(net, 1, signed=("c2", "out"))
    images = np.random.default_rng(2).standard_normal((10, *IMAGE))
    best, _ = every_configuration(engine.W(net), images)
    output = net.xp.host(net.predict(net.xp.array(images)))
    assert (best.max(1) > output.max(1) + 1e-6).sum() >= 8


# -- the signed variant ----------------------------------------------------------------------
@on_each
def test_signed_inference_finds_the_best_switches_of_the_class_it_goes_down_from(engine, on):
    """max_a z' diag(a) u = sum max(z u, 0), whatever the signs: one hidden layer, every a."""
    net = built(on, [{"h": {"dense": 6}}, "relu", {"out": {"dense": 3}}], (4,), order={"signed": True})
    filled(net, 3, signed=("h", "out"))
    W, x = engine.W(net), np.random.default_rng(4).standard_normal((9, 4))
    u = x @ W["h.W"] + W["h.b"]
    c = (np.maximum(u, 0) @ W["out.W"] + W["out.b"]).argmax(1)  # found going up for the first time
    every = np.array(list(product((0.0, 1.0), repeat=6)))
    output = net.xp.host(net.predict(net.xp.array(x)))
    for n in range(9):
        z = W["out.W"][:, c[n]]
        scores = every @ (z * u[n])
        assert output[n, c[n]] - W["out.b"][0, c[n]] == pytest.approx(scores.max(), rel=1e-12)
        assert scores.max() == pytest.approx(np.maximum(z * u[n], 0).sum(), rel=1e-12)
    again = net.xp.host(net.predict(net.xp.array(x)))
    np.testing.assert_array_equal(output, again)  # no sign is left over


@on_each
def test_signed_maps_are_s_times_maxpool_of_relu_of_s_n(engine, on):
    layers = [{"c1": {"conv": 3, "kernel": 3, "pad": "half"}}, "relu", {"maxpool": 2}, "flatten", {"out": {"dense": 3}}]
    net = built(on, layers, (1, 4, 4), order={"signed": True})
    filled(net, 5, signed=("c1", "out"))
    torch = pytest.importorskip("torch")
    F, W = torch.nn.functional, {name: torch.tensor(value) for name, value in engine.W(net).items()}
    x = torch.tensor(np.random.default_rng(6).standard_normal((5, 1, 4, 4)))
    n = F.conv2d(x, W["c1.W"], padding=1) + W["c1.b"]
    first = F.max_pool2d(n.relu(), 2).flatten(1) @ W["out.W"] + W["out.b"]
    s = torch.sign(W["out.W"].T[first.argmax(1)].reshape(5, 3, 2, 2))
    wide = s.repeat_interleave(2, 2).repeat_interleave(2, 3)
    pooled, winners = F.max_pool2d((wide * n).relu(), 2, return_indices=True)
    output = (s * pooled).flatten(1) @ W["out.W"] + W["out.b"]
    found = rendering.reconstruct(net, engine.batch(net, x.numpy(), np.zeros(5, int)))
    np.testing.assert_allclose(found.output, output, rtol=1e-12)
    z = W["out.W"].T[output.argmax(1)].reshape(5, 3, 4) * (pooled.flatten(2) > 0)
    u = torch.zeros(5, 3, 16, dtype=torch.float64).scatter(2, winners.flatten(2), z).reshape(5, 3, 4, 4)
    np.testing.assert_allclose(found.reconstruction, F.conv_transpose2d(u, W["c1.W"], padding=1), rtol=1e-12)


def test_signed_inference_learns_down_the_slope(engine):
    inner = {"recipe": "sample_clustering", "layer": "c1", "centres": 2, "weight": 0.3, "memory": 1 - 1e-12}
    losses = {"cross_entropy": {}, "reconstruction": {"weight": 0.5}, "nonnegativity": {}, "inner": inner}
    net = built(order={"signed": True}, losses=losses)
    filled(net, 7, signed=("c1", "c2", "out"))
    slopes_agree(engine, net)


def test_a_pool_whose_template_is_0_hands_no_error_down(engine):
    """y = 0 max(0 n) there, whatever n."""
    layers = [{"c1": {"conv": 3, "kernel": 3, "pad": "half"}}, {"maxpool": 2}, "flatten", {"out": {"dense": 3}}]
    net = built("numpy", layers, IMAGE, order={"signed": True}, losses={"cross_entropy": {}})
    filled(net, 7, signed=("c1", "out"))
    net.nodes[1].weights.W[::2, :2] = 0.0  # of two classes
    slopes_agree(engine, net, of="c1")


def slopes_agree(engine, net, of=""):
    """Signs and switches are constants: central differences of the loss in random directions."""
    rng = np.random.default_rng(8)
    batch = engine.batch(net, rng.standard_normal((6, *IMAGE)), rng.integers(0, 3, 6))
    net.begin_epoch(batch, 0)
    net.accumulate(batch)

    def score():
        with net.xp.scope():
            at = At(batch=0, track=False)
            return float(net.loss.total(net._scores(net._up(batch, at)[0], batch, at)[0]))

    for parameter in net.parameters():
        if not parameter.name.startswith(of):
            continue
        step = rng.standard_normal(parameter.W.shape) * 1e-6
        slope = float((parameter.dW * step).sum())
        parameter.W += step
        above = score()
        parameter.W -= 2 * step
        below = score()
        parameter.W += step
        assert slope == pytest.approx((above - below) / 2, rel=1e-5, abs=1e-12), parameter.name


def test_the_first_of_two_ways_up_leaves_no_trace(engine, monkeypatch):
    net = built(order={"signed": True})
    filled(net, 7)
    tracked, true = [], type(net.pass_.root).forward

    def forward(root, x, at):
        tracked.append(at.track)
        return true(root, x, at)

    monkeypatch.setattr(type(net.pass_.root), "forward", forward)
    net.accumulate(engine.batch(net, np.ones((2, *IMAGE)), np.array([0, 1])))
    assert tracked == [False, True]


# -- what a network can show -----------------------------------------------------------------
@on_each
def test_along_active_paths_every_layer_adds_up_to_the_output(engine, on):
    """Without biases: sum of activity x rendered is the output of the class, at every layer and at the image."""
    net = built(on)
    filled(net, 1, signed=("c2", "out"), biased=False)
    images = np.random.default_rng(2).standard_normal((4, *IMAGE))
    batch = engine.batch(net, images, np.zeros(4, int))
    found = rendering.reconstruct(net, batch)
    for index in range(4):
        paths = rendering.trace(net, batch, index)
        assert [path.layer for path in paths] == ["c1", "c2", "out"]
        for path in paths:
            assert path.activity.shape == path.template.shape == path.rendered.shape
            assert path.contribution.sum() == pytest.approx(found.output[index].max(), rel=1e-12)
            np.testing.assert_array_equal(path.active, (path.activity != 0) & (path.rendered != 0))
            on_path = path.rendered != 0
            np.testing.assert_array_equal(path.rendered, np.where(on_path, path.template, 0.0))
            assert path.layer == "out" or (path.template != 0).sum() > on_path.sum()
        assert (images[index] * found.reconstruction[index]).sum() == pytest.approx(
            found.output[index].max(), rel=1e-12
        )


def test_what_is_rendered_is_the_slope_of_the_output_at_every_layer(engine, plain):
    net = built()
    filled(net, 1, signed=("c2", "out"))
    torch, W = plain.torch, {name: plain.torch.tensor(value) for name, value in engine.W(net).items()}
    F, images = torch.nn.functional, np.random.default_rng(2).standard_normal((3, *IMAGE))
    for index in range(3):
        x = torch.tensor(images[index : index + 1], requires_grad=True)
        n1 = F.conv2d(x, W["c1.W"], padding=(0, 1)) + W["c1.b"]
        n2 = F.conv2d(F.max_pool2d(n1.relu(), 2), W["c2.W"]) + W["c2.b"]
        output = n2.relu().flatten(1) @ W["out.W"] + W["out.b"]
        slopes = torch.autograd.grad(output.max(), (n1, n2, x))
        paths = rendering.trace(net, engine.batch(net, images, np.zeros(3, int)), index)
        for path, slope in zip(paths, slopes, strict=True):
            if path.layer != "out":
                np.testing.assert_allclose(path.rendered, slope[0], rtol=1e-12, atol=1e-14)
        found = rendering.reconstruct(net, engine.batch(net, images, np.zeros(3, int)))
        np.testing.assert_allclose(found.reconstruction[index], slopes[2][0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("index", [-1, 4, 100])
def test_an_image_that_is_not_there_has_no_trace(engine, index):
    net = built()
    batch = engine.batch(net, np.zeros((4, *IMAGE)), np.zeros(4, int))
    with pytest.raises(BioplausError, match=f"image {index} asked, there are 4. Give a number from 0 to 3."):
        rendering.trace(net, batch, index)


def test_a_network_that_renders_nothing_shows_nothing(engine):
    net = engine.net([{"out": {"dense": 3}}], (4,))
    with pytest.raises(BioplausError, match="pass: generative"):
        rendering.reconstruct(net, engine.batch(net, np.zeros((4, 4)), np.zeros(4, int)))


@on_each
def test_usage_counts_classes_and_switches(engine, on):
    net = built(on)
    filled(net, 1, signed=("c2", "out"))
    images = np.random.default_rng(2).standard_normal((8, *IMAGE))
    batches = [engine.batch(net, part, np.zeros(4, int)) for part in (images[:4], images[4:])]
    used = rendering.usage(net, batches)
    W = engine.W(net)
    classes, on2, won, on1 = np.zeros(3), np.zeros((2, 1, 2)), np.zeros((2, 2, 6)), np.zeros((2, 2, 6))
    for image in images:
        n1 = np.zeros((2, 2, 6))
        wide = np.pad(image[0], ((0, 0), (1, 1)))
        for channel, row, column in product(range(2), range(2), range(6)):
            n1[channel, row, column] = (W["c1.W"][channel, 0, 0] * wide[row, column : column + 3]).sum()
        n1 = np.maximum(n1 + W["c1.b"][0], 0)
        on1 += n1 > 0
        pooled = np.zeros((2, 1, 3))
        for channel, place in product(range(2), range(3)):
            window = n1[channel, :, 2 * place : 2 * place + 2]
            pooled[channel, 0, place] = window.max()
            row, column = divmod(int(window.argmax()), 2)
            won[channel, row, 2 * place + column] += 1
        n2 = np.zeros((2, 1, 2))
        for channel, place in product(range(2), range(2)):
            n2[channel, 0, place] = (W["c2.W"][channel, :, 0] * pooled[:, 0, place : place + 2]).sum()
        n2 = np.maximum(n2 + W["c2.b"][0], 0)
        on2 += n2 > 0
        classes[(n2.ravel() @ W["out.W"] + W["out.b"]).argmax()] += 1
    np.testing.assert_allclose(used.classes, classes / 8)
    for found, expected in zip(used.switches, (on2, won, on1), strict=True):
        np.testing.assert_allclose(found, expected / 8)


@on_each
def test_samples_have_the_models_mean(engine, on):
    """Switches are independent, so E[image | c] renders c through their chances; and the classes come as often."""
    net = built(on)
    filled(net, 1)
    rng = np.random.default_rng(0)
    a2, a1, t = rng.uniform(0.2, 0.9, (2, 1, 2)), rng.uniform(0.2, 0.9, (2, 2, 6)), rng.uniform(0.1, 1.0, (2, 2, 6))
    t /= t.reshape(2, 1, 2, 3, 2).sum((2, 4)).repeat(2, 1).repeat(2, 2).reshape(2, 2, 6)
    used = rendering.Usage(np.array([0.5, 0.2, 0.3]), (a2, t, a1))
    n = 6000
    labels, images = rendering.sample(net, n, Stream(0).at("sample"), used)
    counts = np.bincount(labels, minlength=3) / n
    assert np.abs(counts - used.classes).max() < 4 * np.sqrt(0.25 / n)
    W = engine.W(net)
    for c in range(3):
        z2 = W["out.W"][:, c].reshape(2, 1, 2) * a2
        z1 = np.zeros((2, 3))
        for channel, place in product(range(2), range(2)):
            z1[:, place : place + 2] += z2[channel, 0, place] * W["c2.W"][channel, :, 0]
        u = z1[:, None, :].repeat(2, 2).repeat(2, 1) * t * a1
        mean = np.zeros((2, 8))
        for channel, row, column in product(range(2), range(2), range(6)):
            mean[row, column : column + 3] += u[channel, row, column] * W["c1.W"][channel, 0, 0]
        mine = images[labels == c][:, 0]
        off = np.abs(mine.mean(0) - mean[:, 1:7])
        assert (off < 5 * mine.std(0) / np.sqrt(len(mine)) + 1e-12).all()
    again = rendering.sample(net, n, Stream(0).at("sample"), used)
    np.testing.assert_array_equal(again[1], images)
    noisy = rendering.sample(net, n, Stream(0).at("sample"), used, noise=2.0)[1] - images
    assert noisy.std() == pytest.approx(2.0, rel=0.02)


def test_templates_are_the_mean_of_what_a_class_renders(engine):
    net = built()
    filled(net, 1)
    images = np.random.default_rng(2).standard_normal((9, *IMAGE))
    found = rendering.reconstruct(net, engine.batch(net, images, np.zeros(9, int)))
    batches = [engine.batch(net, part, np.zeros(3, int)) for part in np.split(images, 3)]
    shown = rendering.templates(net, batches)
    for c in range(3):
        mine = found.reconstruction[found.label == c]
        np.testing.assert_allclose(shown[c], mine.mean(0) if len(mine) else np.zeros(IMAGE), rtol=1e-12, atol=1e-15)
    assert len(set(found.label.tolist())) < 3 or np.abs(shown).min(0).max() > 0


@pytest.mark.parametrize("pooled", [False, True], ids=["", "pooled"])
@on_each
def test_the_image_a_class_likes_best_is_its_longest_template(engine, on, pooled):
    """max over images of length one, and switches g, of <mu_cg, I> is max over g of ||mu_cg||."""
    shape, places = ((1, 4, 4), 4) if pooled else ((1, 2, 4), 2)
    pool = [{"maxpool": 2}] if pooled else []
    conv = {"conv": 1, "kernel": 1} if pooled else {"conv": 3, "kernel": 2, "stride": 2}
    net = built(on, [{"c1": conv}, "relu", *pool, "flatten", {"out": {"dense": 3}}], shape)
    filled(net, 5, biased=False)
    W = engine.W(net)
    for c in range(3):
        longest = 0.0
        mu = W["out.W"][:, c].reshape(-1, places)
        for a in product((0.0, 1.0), repeat=mu.size):  # a window renders one pixel, wherever it is
            patches = np.einsum("kp,kij->pij", mu * np.array(a).reshape(mu.shape), W["c1.W"][:, 0])
            longest = max(longest, np.sqrt((patches**2).sum()))
        image, outputs = rendering.liked(net, c, Stream(0).at("liked"))
        assert (image**2).sum() == pytest.approx(1.0)
        assert outputs.max() == pytest.approx(longest, rel=1e-12)


@on_each
def test_liking_never_falls_and_ends_where_the_image_is_its_own_template(engine, on):
    net = built(on)
    filled(net, 1, biased=False)
    for c in range(3):
        image, outputs = rendering.liked(net, c, Stream(0).at("liked"))
        assert outputs.shape == (30, 100) and (np.diff(outputs, axis=0) > -1e-12).all()
        batch = engine.batch(net, image[None], np.array([c]))
        with net.xp.scope():
            output, tape = net.pass_.infer(batch.x, DOWN)
            mu = net.xp.host(net.pass_.render(net.xp.one_hot(net.xp.raw([c]), 3), tape))[0]
        assert float(output[0, c]) == pytest.approx(outputs.max()) == pytest.approx(np.sqrt((mu**2).sum()))
        np.testing.assert_allclose(mu / np.sqrt((mu**2).sum()), image, atol=1e-6)
        some = np.random.default_rng(c).standard_normal((500, *IMAGE))
        some /= np.sqrt((some**2).sum((1, 2, 3), keepdims=True))
        assert float(net.predict(net.xp.array(some))[:, c].max()) < outputs.max()
    with pytest.raises(BioplausError, match="class 3 asked"):
        rendering.liked(net, 3, Stream(0))
