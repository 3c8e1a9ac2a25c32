"""Few labels: which are kept, and batches of two parts that cycle through the labelled and through all samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioplaus.backend.numpy import NumPy
from bioplaus.backend.streams import Stream
from bioplaus.data.dataset import Split
from bioplaus.data.labels import Labels, drawn
from bioplaus.data.preprocess import Preprocess
from bioplaus.errors import ConfigError
from bioplaus.train.feed import Feed


def classes(n, count, seed=0):
    return np.concatenate([np.arange(count), np.random.default_rng(seed).integers(0, count, n - count)])


@given(st.integers(2, 8), st.integers(0, 60), st.integers(0, 2**31), st.booleans())
def test_kept_labels_are_as_many_as_asked_and_balanced(count, more, seed, balanced):
    y = classes(400, count)
    labels = count + more if balanced else 200
    index = drawn(y, count, labels, balanced, Stream(seed))
    assert len(set(index.tolist())) == labels == len(index)
    assert (np.diff(index) > 0).all() and index.dtype == np.int64
    kept = np.bincount(y[index], minlength=count)
    assert kept.min() >= 1
    if balanced:
        assert kept.max() - kept.min() <= 1
    np.testing.assert_array_equal(index, drawn(y, count, labels, balanced, Stream(seed)))


def test_other_seeds_keep_others_and_none_is_preferred():
    y = np.tile(np.arange(3), 40)
    seen = np.zeros(120)
    for seed in range(300):
        seen[drawn(y, 3, 12, True, Stream(seed))] += 1
    assert seen.sum() == 300 * 12
    assert seen.min() > 10 and seen.max() < 60  # 30 expected; more than four deviations each way
    odd = [np.bincount(y[drawn(y, 3, 10, True, Stream(seed))]).argmax() for seed in range(60)]
    assert set(odd) == {0, 1, 2}  # the one more falls on every class


@pytest.mark.parametrize(
    ("labels", "balanced", "said"),
    [
        (21, True, "21 asked, the training set has 20 samples"),
        (2, True, "2 asked, for 3 classes"),
        (2, False, "2 asked, for 3 classes"),
        (9, True, "9 asked, 3 of class 2, which has 1 training samples"),
        (5, False, "class 2 has none of the 5 drawn"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels, balanced, said):
    y = np.array([0] * 10 + [1] * 9 + [2])
    with pytest.raises(ConfigError, match=said):
        drawn(y, 3, labels, balanced, Stream(0))


parts = st.tuples(st.integers(2, 80), st.integers(2, 30), st.floats(0.05, 0.95)).filter(
    lambda p: p[1] <= p[0] and 0 < round(p[2] * p[1]) < p[1]
)


@given(parts, st.integers(1, 20), st.integers(1, 6), st.integers(0, 2**31))
def test_both_parts_cycle_without_a_seam(sizes, labels, epochs, seed):
    """Over epochs every labelled sample comes as often as any other, give or take one; unlabelled, every sample."""
    n, size, share = sizes
    index = np.sort(np.random.default_rng(1).permutation(n)[: min(labels, n)])
    few, count = Labels(index, share), round(share * size)
    found = [np.array(list(few.batches(n, size, Stream(seed), epoch))) for epoch in range(epochs)]
    for batches in found:
        assert batches.shape == (n // size, size) and batches.dtype == np.int64
    every = np.concatenate(found)
    for part, among in ((every[:, :count], index), (every[:, count:], np.arange(n))):
        times = np.bincount(part.ravel(), minlength=n)
        assert times[among].max() - times[among].min() <= 1
        assert times.sum() == times[among].sum()
        for start in range(0, part.size - len(among) + 1, len(among)):  # each cycle holds each once
            assert set(part.ravel()[start : start + len(among)].tolist()) == set(among.tolist())
    np.testing.assert_array_equal(found[-1], list(few.batches(n, size, Stream(seed), epochs - 1)))


def test_cycles_differ_from_each_other_and_by_seed():
    few = Labels(np.arange(50), 0.5)
    one, two = (np.array(list(few.batches(100, 100, Stream(seed), 0)))[0] for seed in (0, 1))
    later = np.array(list(few.batches(100, 100, Stream(0), 1)))[0]
    assert len({tuple(a[:50]) for a in (one, two, later)}) == 3
    assert len({tuple(a[50:]) for a in (one, two, later)}) == 3


@pytest.mark.parametrize(("share", "size", "which"), [(0.5, 1, "none"), (0.01, 40, "none"), (0.99, 40, "all")])
def test_a_batch_without_one_of_its_parts_is_refused(share, size, which):
    with pytest.raises(ConfigError, match=f"{share:g} given, which leaves {which} of {size} samples a batch labelled"):
        Labels(np.arange(5), share).check(size)


def fed(labels):
    y = np.arange(20) % 5 + 1
    split = Split(np.random.default_rng(0).standard_normal((20, 3)).astype("float32"), y)
    return Feed.of(NumPy("float64"), split, Preprocess(np.zeros(3, "float32"), 1.0), labels=labels), split


def test_a_batch_says_which_labels_count_and_holds_no_other():
    """The labels of unlabelled samples never reach the device, wherever those samples turn up."""
    few = Labels(np.array([2, 7, 11]), 0.25)
    feed, split = fed(few)
    (index, *_) = feed.training(8, Stream(0), 0)
    batch = feed.batch(index, stream=Stream(1))
    assert batch.labelled == 2
    np.testing.assert_array_equal(batch.x, split.x[index])
    seen = np.isin(index, few.index)
    np.testing.assert_array_equal(batch.y, np.where(seen, split.y[index], 0))
    assert seen[:2].all()
    np.testing.assert_array_equal(np.flatnonzero(feed.y), few.index)
    plain, _ = fed(None)
    assert plain.batch(index, stream=Stream(1)).labelled is None
    np.testing.assert_array_equal(plain.y, split.y)


@pytest.mark.parametrize(
    ("statistics", "parts"),
    [
        ("both", [slice(2), slice(2, None)]),
        ("labelled", [slice(2)]),
        ("unlabelled", [slice(2, None)]),
    ],
)
def test_statistics_for_testing_come_from_the_part_asked_for(statistics, parts):
    feed, _ = fed(Labels(np.array([2, 7, 11]), 0.25, statistics))
    expected = [index[part] for index in feed.training(8, Stream(0), 3) for part in parts]
    found = list(feed.settling(8, Stream(0), 3))
    assert len(found) == 2 * len(parts)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
