"""Preprocessing against its formulas, computed in one piece in float64."""

import numpy as np
import pytest

from bioplaus.data import fit, load, preprocess
from bioplaus.errors import ConfigError, DataError, ShapeError

RNG = np.random.default_rng(0)
SHAPE = (3, 4, 4)


def images(n=300):
    """Correlated grey levels with contrasts on both sides of the floor."""
    basis = RNG.normal(size=(12, 48))
    x = 120 + RNG.normal(size=(n, 12)) @ basis * RNG.uniform(2, 25, (n, 1)) + RNG.normal(size=(n, 48)) * 4
    return x.clip(0, 255).astype(np.uint8).reshape(n, *SHAPE)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(preprocess, "CHUNK", 64)


@pytest.fixture
def data():
    x, x_test = images(), images(70)
    return load((x, np.arange(300) % 5, x_test, np.arange(70) % 5), validation=100)


def test_standard_is_the_mean_image_and_one_deviation(data, small_chunks):
    same, found = fit("standard", data)
    x = data.train.x.astype(np.float64)
    assert same is data and found.mean.dtype == np.float32 and found.mean.shape == SHAPE
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-6)
    assert found.scale == pytest.approx(1 / x.std(), rel=1e-12)
    np.testing.assert_allclose(found.apply(data.test.x), (data.test.x - x.mean(0)) / x.std(), atol=1e-5)


def test_standard_of_features_is_per_feature(small_chunks):
    x = RNG.normal(RNG.normal(size=9), 0.3, (500, 9))
    _, found = fit("standard", load((x, np.zeros(500), x, np.zeros(500))))
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-5, atol=1e-6)
    assert found.scale == pytest.approx(1 / x.std(), rel=1e-6)


@pytest.mark.parametrize(("recipe", "scale"), [("centre", 1.0), ("centre_255", 1 / 255)])
def test_centring_keeps_the_units_or_makes_255_of_them_one(recipe, scale, data, small_chunks):
    same, found = fit(recipe, data)
    x = data.train.x.astype(np.float64)
    assert same is data and found.mean.dtype == np.float32
    expected = (data.test.x - x.mean(0)) * scale
    np.testing.assert_allclose(found.apply(data.test.x), expected, rtol=1e-5, atol=3e-5 * scale)


def test_none_changes_nothing(data):
    same, found = fit("none", data)
    assert same is data
    np.testing.assert_array_equal(found.apply(data.train.x), data.train.x)


def reference_whitening(train, x):
    """The formulas on all images at once: (N, values) in, (N, values) out."""
    mean = train.mean(0)

    def normalized(a):
        a = a - mean
        a = a - a.mean(1, keepdims=True)
        typical = np.mean((train - mean).std(1))
        return a * (typical / np.maximum(a.std(1), 40))[:, None]

    even = normalized(train)
    values, vectors = np.linalg.eigh(even.T @ even / len(even))
    spread = np.sqrt(values.clip(0))
    return normalized(x) @ vectors @ np.diag(np.sqrt(np.mean(spread**2)) / np.maximum(spread, 10)) @ vectors.T


def test_whitening_is_contrast_normalization_then_zca(data, small_chunks):
    white, found = fit("whiten", data)
    train = data.train.x.reshape(200, -1).astype(np.float64)
    for name in ("train", "test", "validation"):
        before, after = getattr(data, name), getattr(white, name)
        assert after.x.dtype == np.float32 and after.x.shape == before.x.shape
        expected = reference_whitening(train, before.x.reshape(len(before), -1).astype(np.float64))
        np.testing.assert_allclose(after.x.reshape(len(after), -1), expected, atol=2e-3)
        np.testing.assert_array_equal(after.y, before.y)
    assert found.scale * white.train.x.std(dtype=np.float64) == pytest.approx(1, abs=1e-9)
    assert "whitened" in white.notes[-1] and data.train.x.dtype == np.uint8


def test_whitening_makes_strong_directions_equally_strong(data):
    """Along every axis above the floor the variance is the same after as along every other."""
    white, _ = fit("whiten", data)
    x = white.train.x.reshape(200, -1).astype(np.float64)
    spread = np.sqrt(np.linalg.eigvalsh(x.T @ x / len(x)).clip(0))
    strong = spread > 0.999 * spread.max()
    assert strong.sum() >= 8


def test_wrong_recipes_and_data_are_one_line(data):
    with pytest.raises(ConfigError, match=r"data\.preprocess: unknown recipe 'standart'; did you mean 'standard'"):
        fit("standart", data)
    grey = np.full((4, 1, 2, 2), 7, np.uint8)
    with pytest.raises(DataError, match="all training values are the same"):
        fit("standard", load((grey, [0, 1, 0, 1], grey, [0, 1, 0, 1])))
    third = np.full((3, 7), 0.1)
    with pytest.raises(DataError, match="all training values are the same"):
        fit("standard", load((third, [0, 1, 0], third, [0, 1, 0])))
    vectors = RNG.random((4, 6))
    with pytest.raises(ShapeError, match="whitening wants images"):
        fit("whiten", load((vectors, [0, 1, 0, 1], vectors, [0, 1, 0, 1])))
    floats = RNG.random((4, 1, 2, 2))
    with pytest.raises(DataError, match="whitening wants grey levels in uint8"):
        fit("whiten", load((floats, [0, 1, 0, 1], floats, [0, 1, 0, 1])))


def test_unit_is_grey_levels_from_0_to_1(data):
    same, found = fit("unit", data)
    assert same is data
    np.testing.assert_allclose(found.apply(data.test.x), data.test.x / 255.0, rtol=1e-6)
    with pytest.raises(DataError, match="unit wants grey levels in uint8"):
        fit("unit", data.change(lambda x: x.astype(np.float32), "as floats"))


@pytest.mark.parametrize("size", [None, (1, 12, 12)])
def test_unit_makes_the_white_of_digits_one(size):
    digits = load("digits", size=size)
    found = fit("unit", digits)[1]
    assert found.apply(digits.train.x).max() == 1.0  # of 16 grey levels above black
