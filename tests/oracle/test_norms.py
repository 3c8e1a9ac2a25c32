"""Batch normalization: this batch's statistics in training, the stored ones in testing, and the true way back."""

from __future__ import annotations

import numpy as np
import pytest

from bioplaus.parts import LEARN

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
EPS = 1e-5
LAYERS = [
    {"c": {"conv": 3, "kernel": 3}},
    "norm",
    "relu",
    "flatten",
    {"f": {"dense": 4}},
    "norm",
    "tanh",
    {"out": {"dense": 3}},
]
SHAPE = (2, 5, 4)


def built(engine, on="numpy", norm="batch", **rule):
    net = engine.net(LAYERS, SHAPE, on=on, defaults={"norm": norm, **rule.pop("defaults", {})}, **rule)
    engine.shake(net)
    return net


def standardized(n):
    """(z, mean, sigma) per channel or unit."""
    axes = (0, 2, 3) if n.ndim == 4 else (0,)
    mean = n.mean(axes, keepdims=True)
    sigma = np.sqrt(((n - mean) ** 2).mean(axes, keepdims=True) + EPS)
    return (n - mean) / sigma, mean.ravel(), sigma.ravel()


def conv(x, W):
    out = np.zeros((len(x), len(W), x.shape[2] - 2, x.shape[3] - 2))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = np.einsum("nchw,ochw->no", x[:, :, i : i + 3, j : j + 3], W)
    return out


@pytest.mark.parametrize("shape", [(6, 3, 4, 5), (7, 4)], ids=["maps", "units"])
@on_each
def test_the_way_back_goes_through_mean_and_deviation(engine, plain, shape, on, rng):
    site = built(engine, on).norms[0 if len(shape) == 4 else 1]
    n, dz = rng.standard_normal(shape) * 2 + 1, rng.standard_normal(shape)
    twin = plain.torch.tensor(n, requires_grad=True)
    plain.Plain.standardized(twin, EPS).backward(plain.torch.tensor(dz))
    xp = site.xp
    with xp.scope():
        z, cache = site.forward(xp.array(n), LEARN)
        dn = xp.host(site.back(xp.array(dz), cache, None, None))
    np.testing.assert_allclose(xp.host(z), standardized(n)[0], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(dn, twin.grad, rtol=1e-9, atol=1e-11)
    step = 1e-6 * rng.standard_normal(shape)
    slope = ((standardized(n + step)[0] - standardized(n - step)[0]) / 2 * dz).sum()
    assert (dn * step).sum() == pytest.approx(slope, rel=1e-6)


@on_each
def test_test_statistics_are_a_moving_average_over_twenty_batches_started_at_the_first(engine, on, rng):
    """Of mean and deviation, not variance; alpha = 0.05; anew after every epoch."""
    net = built(engine, on)
    assert net.collects == 20
    W = engine.W(net)
    before = engine.state(net)
    for _ in range(2):
        mean = sigma = None
        net.begin_collecting()
        for _ in range(20):
            x = rng.standard_normal((6, *SHAPE)) * rng.uniform(0.5, 2) + rng.standard_normal()
            net.collect(engine.batch(net, x, np.zeros(6, int)))
            _, now_mean, now_sigma = standardized(conv(x, W["c.W"]))
            mean = now_mean if mean is None else 0.95 * mean + 0.05 * now_mean
            sigma = now_sigma if sigma is None else 0.95 * sigma + 0.05 * now_sigma
        stats = net.norms[0].stats
        np.testing.assert_allclose(net.xp.host(stats["mean"]).ravel(), mean, rtol=1e-10)
        np.testing.assert_allclose(net.xp.host(stats["sigma"]).ravel(), sigma, rtol=1e-10)
    for name, value in engine.state(net).items():
        if ".norm." not in name:
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert net.batches == net.updates == net.pending == 0


def test_what_collecting_may_be_told(engine, rng):
    net = built(engine, norm={"recipe": "batch", "collect": 3, "ema": 0.5})
    assert net.collects == 3
    xs = [rng.standard_normal((6, *SHAPE)) for _ in range(3)]
    net.begin_collecting()
    for x in xs:
        net.collect(engine.batch(net, x, np.zeros(6, int)))
    a, b, c = (standardized(conv(x, engine.W(net)["c.W"]))[1] for x in xs)
    np.testing.assert_allclose(net.norms[0].stats["mean"].ravel(), 0.25 * a + 0.25 * b + 0.5 * c, rtol=1e-11)


@on_each
def test_testing_uses_the_stored_statistics_and_changes_nothing(engine, on, rng):
    """Every sample alone gives what it gives among others."""
    net = built(engine, on, {"recipe": "batch", "affine": True})
    net.begin_collecting()
    for _ in range(3):
        net.collect(engine.batch(net, rng.standard_normal((6, *SHAPE)), np.zeros(6, int)))
    before, W = engine.state(net), engine.W(net)
    x = rng.standard_normal((4, *SHAPE))
    output = net.xp.host(net.predict(net.xp.array(x)))

    def stored(n, name):
        ready = (1, -1, *[1] * (n.ndim - 2))
        mean, sigma = (before[f"{name}.norm.{key}"].reshape(ready) for key in ("mean", "sigma"))
        return (n - mean) / sigma * W[f"{name}.gain"] + W[f"{name}.bias"]

    y = np.maximum(stored(conv(x, W["c.W"]), "c"), 0).reshape(4, -1)
    y = np.tanh(stored(y @ W["f.W"], "f"))
    np.testing.assert_allclose(output, y @ W["out.W"] + W["out.b"], rtol=1e-10)
    for n in range(4):
        np.testing.assert_allclose(net.xp.host(net.predict(net.xp.array(x[n : n + 1]))), output[n : n + 1], rtol=1e-10)
    net.evaluate(engine.batch(net, x, np.zeros(4, int)))
    for name, value in engine.state(net).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


@on_each
def test_evaluation_weighs_samples(engine, on, rng):
    """A padded test batch counts only the samples that are there."""
    net = built(engine, on)
    x, y = rng.standard_normal((5, *SHAPE)), rng.integers(0, 3, 5)
    net.accumulate(engine.batch(net, x, y))
    whole = net.evaluate(engine.batch(net, x[:3], y[:3]))
    padded = net.evaluate(engine.batch(net, x, y, (1.0, 1.0, 1.0, 0.0, 0.0)))
    for a, b in zip(whole, padded, strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-12)


@on_each
def test_until_an_epoch_is_complete_testing_goes_by_the_batches_learned_from(engine, on, rng):
    """The latest batch is there to be seen; the moving average is of all, and starts anew at collecting."""
    net = built(engine, on)
    W = engine.W(net)["c.W"]
    average = None
    for _ in range(3):
        x = rng.standard_normal((6, *SHAPE)) * rng.uniform(0.5, 2) + 1
        net.accumulate(engine.batch(net, x, rng.integers(0, 3, 6)))
        now = standardized(conv(x, W))[1:]
        average = now if average is None else [0.95 * a + 0.05 * b for a, b in zip(average, now, strict=True)]
    stats = {key: net.xp.host(value).ravel() for key, value in net.norms[0].stats.items()}
    for key, latest, all_ in zip(("mean", "sigma"), now, average, strict=True):
        np.testing.assert_allclose(stats[f"batch_{key}"], latest, rtol=1e-11)
        np.testing.assert_allclose(stats[key], all_, rtol=1e-11)
    net.begin_collecting()
    x = rng.standard_normal((6, *SHAPE))
    net.collect(engine.batch(net, x, np.zeros(6, int)))
    _, mean, sigma = standardized(conv(x, W))
    for key, only in (("mean", mean), ("sigma", sigma)):
        np.testing.assert_allclose(net.xp.host(net.norms[0].stats[key]).ravel(), only, rtol=1e-11)
        np.testing.assert_array_equal(net.xp.host(net.norms[0].stats[f"batch_{key}"]).ravel(), stats[f"batch_{key}"])


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ("none", {"c.W", "c.b", "f.W", "f.b", "out.W", "out.b"}),
        ("batch", {"c.W", "f.W", "out.W", "out.b"}),
        (
            {"recipe": "batch", "affine": True},
            {"c.W", "c.gain", "c.bias", "f.W", "f.gain", "f.bias", "out.W", "out.b"},
        ),
    ],
    ids=["none", "batch", "affine"],
)
def test_what_a_layer_learns_under_a_norm(engine, norm, expected):
    """A norm takes the mean away, so a bias before it would do nothing; gain and bias come after it, if asked for."""
    assert set(engine.W(built(engine, norm=norm))) == expected


def test_a_norm_of_one_layer_alone(engine):
    net = engine.net(LAYERS, SHAPE, layers={"f": {"norm": "batch"}})
    assert [site.name for site in net.norms] == ["f"]
    assert set(engine.W(net)) == {"c.W", "c.b", "f.W", "out.W", "out.b"}


def test_eps_keeps_a_constant_channel_finite(engine):
    net = built(engine)
    with net.xp.scope():
        z, cache = net.norms[1].forward(np.full((5, 4), 3.0), LEARN)
        dn = net.norms[1].back(np.ones((5, 4)), cache, None, None)
    np.testing.assert_array_equal(z, 0)
    np.testing.assert_allclose(dn, 0, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@on_each
def test_collecting_anew_forgets_to_the_bit(engine, on, dtype, rng):
    """What testing goes by is a function of the batches collected alone: a + (b - a) is not quite b."""
    pytest.importorskip(on)
    xs = rng.standard_normal((12, 30, *SHAPE))
    fresh, old = (engine.net(LAYERS, SHAPE, on=on, dtype=dtype, defaults={"norm": "batch"}) for _ in range(2))
    for x in xs[:10]:
        old.begin_collecting()
        old.collect(engine.batch(old, 7.0 * x + 3.0, np.arange(30) % 3))
    for net in (fresh, old):
        net.begin_collecting()
        for x in xs[10:]:
            net.collect(engine.batch(net, x, np.arange(30) % 3))
    for one, other in zip(fresh.norms, old.norms, strict=True):
        for name in ("mean", "sigma"):
            np.testing.assert_array_equal(fresh.xp.host(one.stats[name]), old.xp.host(other.stats[name]))
