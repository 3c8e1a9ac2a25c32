"""Averaging maps against matrices written from the definition: means, adjoints, windows, borders, groups."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bioplaus.construct import make
from bioplaus.errors import ShapeError

pytest.importorskip("torch")
spec = importlib.util.spec_from_file_location("norms_by_hand", Path(__file__).with_name("norms_by_hand.py"))
hand = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hand)

MAPS, UNITS = (3, 4, 5, 4), (3, 6)
PLAIN = [(ref, letters, None, 1) for ref, letters in hand.SETS.items() if "w" not in letters]
WINDOWED = [({"recipe": ref, "window": 3}, hand.SETS[ref], 3, 1) for ref in ("BA3", "BA4", "SP3", "SP4")]
GROUPED = [(ref, hand.SETS[ref], None, 2) for ref in ("BA1", "BA2", "BA5", "BA6", "SP1", "SP2", "SP5")]
GROUPED += [({"recipe": ref, "window": 3}, hand.SETS[ref], 3, 2) for ref in ("BA3", "SP3", "SP4")]
BY_AXES = [
    ({"recipe": "axes", "over": ["N", "W"]}, "NW", None, 1),
    ({"recipe": "axes", "over": ["C", "H"]}, "CH", None, 2),
    ({"recipe": "axes", "over": ["N", "C", "H", "W"], "window": 3}, "NCw", 3, 1),
]
DENSE = [(ref, letters, None, 1) for ref, letters in hand.SETS.items() if ref not in ("SP2", "SP4")]
DENSE += [(ref, hand.SETS[ref], None, 3) for ref in ("BA1", "BA2", "SP1")]
EVERY = [(MAPS, *each) for each in PLAIN + WINDOWED + GROUPED + BY_AXES] + [(UNITS, *each) for each in DENSE]


def neighbours(shape, window, border, groups=1):
    letters = "Cw" if len(shape) == 4 else "u"
    ref = {"recipe": "neighbours", "window": window, "border": border}
    return shape, ref, letters, window, groups, border


BOXES = [neighbours(MAPS, window, "zero", groups) for groups in (1, 2) for window in (1, 3)]
BOXES += [neighbours(MAPS, window, "valid_count", groups) for groups in (1, 2) for window in (3, 5, 11)]
BOXES += [neighbours(UNITS, window, "zero") for window in (2, 3, 4, 5, 6)]
BOXES += [neighbours(UNITS, window, "zero", 2) for window in (2, 3)]
BOXES += [neighbours(UNITS, window, "valid_count", groups) for groups in (1, 2) for window in (2, 3, 4, 5, 11)]


def fitted(backends, shape, ref, groups):
    xp = backends(dtype="float64")
    return xp, make("norm_ref", ref).fit(xp, shape[1:], groups)


def compared(backends, rng, shape, ref, letters, window, groups, border="valid_count"):
    xp, M = fitted(backends, shape, ref, groups)
    wanted = hand.matrix(shape, letters, window=window, groups=groups, border=border).numpy()
    x = rng.standard_normal(shape)
    split = M.split(xp.array(x))
    mean = M.mean(split)
    whole = xp.host(M.join(mean + 0.0 * split))
    np.testing.assert_allclose(whole.ravel(), wanted @ x.ravel(), rtol=1e-12, atol=1e-14)
    # R, then the adjoint of M, of a number per element is the transposed matrix: M M = sum over who shares a place
    g = rng.standard_normal(shape)
    back = M.spread(M.pool(M.split(xp.array(g))), shape[0])
    back = xp.host(M.join(back + 0.0 * split))
    np.testing.assert_allclose(back.ravel(), wanted.T @ g.ravel(), rtol=1e-12, atol=1e-14)
    return M, mean


@pytest.mark.parametrize(("shape", "ref", "letters", "window", "groups"), EVERY, ids=str)
def test_every_reference_averages_what_its_letters_say(backends, rng, shape, ref, letters, window, groups):
    M, mean = compared(backends, rng, shape, ref, letters, window, groups)
    if M.over_samples:
        assert mean.shape[0] == 1
        assert tuple(mean.shape[1:]) == M.stored


@pytest.mark.parametrize(("shape", "ref", "letters", "window", "groups", "border"), BOXES, ids=str)
def test_neighbours_average_around_each_unit(backends, rng, shape, ref, letters, window, groups, border):
    compared(backends, rng, shape, ref, letters, window, groups, border)


@pytest.mark.parametrize(
    ("size", "window"), [((7, 9), 5), ((5, 5), 5), ((4, 9), 3), ((6, 3), 3), ((2, 8), 1), ((1, 1), 1)]
)
def test_the_default_window_is_five_or_the_largest_odd_one_that_fits(backends, rng, size, window):
    shape = (2, 3, *size)
    compared(backends, rng, shape, "BA4", "Nw", window, 1)


def test_an_explicit_window_must_fit_and_have_a_centre(backends):
    xp = backends(dtype="float64")
    with pytest.raises(ShapeError, match=r"a window of 5 is larger than the map, 4 x 9\. Take one of at most 3"):
        make("norm_ref", {"recipe": "SP4", "window": 5}).fit(xp, (3, 4, 9))
    make("norm_ref", {"recipe": "SP3", "window": 5}).fit(xp, (3,))  # no map, no window


@pytest.mark.parametrize("border", ["zero", "valid_count"])
@pytest.mark.parametrize(
    ("sample", "window"), [((3, 7, 9), 5), ((3, 4, 9), 3), ((3, 2, 8), 1), ((3, 1, 1), 1), ((8,), 5), ((4,), 4)]
)
def test_neighbours_reach_five_or_as_far_as_fits(backends, rng, sample, window, border):
    shape, letters = (2, *sample), "Cw" if len(sample) == 3 else "u"
    compared(backends, rng, shape, {"recipe": "neighbours", "border": border}, letters, window, 1, border)


@pytest.mark.parametrize(
    ("window", "sample", "groups", "message"),
    [
        (99, (3, 8, 8), 1, "a window of 99 is larger than the map, 8 x 8. Take one of at most 7."),
        (5, (3, 5, 4), 1, "a window of 5 is larger than the map, 5 x 4. Take one of at most 3."),
        (7, (6,), 1, "a window of 7 is larger than the layer, 6 units. Take one of at most 6."),
        (4, (6,), 2, "a window of 4 is larger than the layer, 3 units. Take one of at most 3."),
        (4, (3, 8, 8), 1, "a window of 4 has no centre on a map. Take an odd one."),
    ],
)
def test_an_explicit_window_of_neighbours_fits_and_has_a_centre_on_maps(backends, window, sample, groups, message):
    with pytest.raises(ShapeError) as error:
        make("norm_ref", {"recipe": "neighbours", "window": window}).fit(backends(), sample, groups)
    assert str(error.value) == message


@pytest.mark.parametrize("ref", ["SP2", "SP4", {"recipe": "axes", "over": ["H"]}], ids=str)
def test_one_number_has_no_statistic(backends, ref):
    xp = backends(dtype="float64")
    with pytest.raises(ShapeError, match="a statistic would be of one number"):
        make("norm_ref", ref).fit(xp, (5,))
    with pytest.raises(ShapeError, match="a statistic would be of one number"):
        make("norm_ref", ref).fit(xp, (5, 1, 1))


def test_in_a_dense_layer_the_references_fall_together(backends, rng):
    """BA1, BA4 and BA6; BA2, BA3 and BA5; SP1, SP3 and SP5."""
    x = rng.standard_normal(UNITS)
    for same in (("BA1", "BA4", "BA6"), ("BA2", "BA3", "BA5"), ("SP1", "SP3", "SP5")):
        means = []
        for ref in same:
            xp, M = fitted(backends, UNITS, ref, 1)
            means.append(xp.host(M.mean(xp.array(x))))
        np.testing.assert_array_equal(means[0], means[1])
        np.testing.assert_array_equal(means[0], means[2])


def test_groups_divide_the_channels(backends):
    with pytest.raises(ShapeError, match="6 channels cannot be 4 groups"):
        make("norm_ref", "SP1").fit(backends(dtype="float64"), (6,), 4)
