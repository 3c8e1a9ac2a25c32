"""Resizing: what every bilinear interpolation must keep, a loop over pixels, and Pillow's own as the oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioplaus.data.resize import resize

size = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(size, size, st.integers(0, 255))
def test_a_grey_image_stays_grey(old, new, level):
    x = np.full((2, 3, *old), level, np.uint8)
    out = resize(x, new)
    assert out.shape == (2, 3, *new) and out.dtype == np.uint8
    assert (out == level).all()


@given(size, st.integers(0, 1000))
def test_the_same_size_changes_nothing(old, seed):
    x = np.random.default_rng(seed).random((1, 2, *old), dtype=np.float32)
    np.testing.assert_allclose(resize(x, old), x, rtol=1e-6)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 1000))
def test_axes_are_treated_alike(a, b, seed):
    x = np.random.default_rng(seed).random((1, 1, a, b), dtype=np.float32)
    upright = resize(x, (b, a)).transpose(0, 1, 3, 2)
    np.testing.assert_allclose(upright, resize(x.transpose(0, 1, 3, 2), (a, b)), rtol=1e-5)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 4), st.integers(0, 1000))
def test_enlarging_is_the_textbook_formula(height, width, times, seed):
    """Pixel centres at k + 1/2; outside the outermost centres the edge goes on."""
    x = np.random.default_rng(seed).random((1, 1, height, width), dtype=np.float32)
    new = (height * times + 1, width * times + 2)
    expected = np.empty(new)
    for i in range(new[0]):
        for j in range(new[1]):
            r = min(max((i + 0.5) * height / new[0] - 0.5, 0), height - 1)
            c = min(max((j + 0.5) * width / new[1] - 0.5, 0), width - 1)
            r0, c0 = min(int(r), height - 2), min(int(c), width - 2)
            dr, dc = r - r0, c - c0
            corners = x[0, 0, r0 : r0 + 2, c0 : c0 + 2]
            expected[i, j] = np.array([1 - dr, dr]) @ corners @ np.array([1 - dc, dc])
    np.testing.assert_allclose(resize(x, new)[0, 0], expected, atol=1e-5)


@given(size, size, st.integers(0, 1000))
def test_pillow_agrees(old, new, seed):
    """To one grey level: Pillow rounds after each axis."""
    image = pytest.importorskip("PIL.Image")
    x = np.random.default_rng(seed).integers(0, 256, old, dtype=np.uint8)
    expected = np.asarray(image.fromarray(x).resize(new[::-1], image.Resampling.BILINEAR)).astype(int)
    assert np.abs(resize(x[None, None], new)[0, 0] - expected).max() <= 1


@given(st.integers(1, 6), st.integers(1, 6))
def test_shrinking_skips_no_pixel(height, width):
    """Each old pixel of an image four times as high and twice as wide must show in the small one."""
    for k in range(8 * height * width):
        x = np.zeros(8 * height * width, np.float32)
        x[k] = 1
        assert resize(x.reshape(1, 1, 4 * height, 2 * width), (height, width)).sum() > 0
