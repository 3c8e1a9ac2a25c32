"""Order of samples: every epoch covers what it can, once; test batches weigh every sample once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bioplaus.backend.streams import Stream
from bioplaus.data import order
from bioplaus.errors import ConfigError

sizes = st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@given(sizes, st.integers(0, 9), st.integers(0, 2**31))
def test_an_epoch_covers_each_sample_at_most_once(both, epoch, seed):
    n, size = both
    found = list(order.batches(n, size, Stream(seed), epoch))
    assert len(found) == n // size
    assert all(index.shape == (size,) and index.dtype == np.int64 for index in found)
    places = np.concatenate(found)
    assert len(set(places.tolist())) == len(places)
    assert places.min() >= 0 and places.max() < n


@given(sizes, st.integers(0, 9), st.integers(0, 2**31))
def test_the_order_belongs_to_seed_and_epoch(both, epoch, seed):
    n, size = both
    again = zip(order.batches(n, size, Stream(seed), epoch), order.batches(n, size, Stream(seed), epoch), strict=True)
    assert all((a == b).all() for a, b in again)


def test_epochs_and_seeds_differ():
    def first(seed, epoch):
        return next(order.batches(1000, 1000, Stream(seed), epoch)).tolist()

    assert first(0, 0) != first(0, 1) != first(1, 1)
    assert sorted(first(0, 0)) == list(range(1000))


@given(st.integers(1, 200), st.integers(1, 300))
def test_test_batches_weigh_every_sample_once(n, size):
    count = np.zeros(n)
    found = list(order.test_batches(n, size))
    for index, weight in found:
        assert index.shape == weight.shape == (size,) and weight.dtype == np.float32
        assert (index[weight == 0] == 0).all()
        np.add.at(count, index, weight)
    assert (count == 1).all()
    assert sum(weight.sum() for _, weight in found) == n
    assert len(found) == -(-n // size)


@pytest.mark.parametrize("size", [0, 11])
def test_a_batch_larger_than_the_training_set_is_refused_at_once(size):
    with pytest.raises(ConfigError, match=f"samples_per_batch: {size} given, 1 to 10 wanted"):
        order.batches(10, size, Stream(0), 0)


texts = st.tuples(st.integers(1, 8), st.integers(1, 9)).flatmap(
    lambda both: st.tuples(st.integers(both[0] * both[1], 300), st.just(both[0]), st.just(both[1]))
)


@given(texts)
def test_streams_of_a_text_go_on_where_the_batch_before_left_them(given_):
    """Every stream is one stretch of the text, streams do not meet, and less than a batch is left over."""
    n, size, steps = given_
    found = list(order.streams(n, size, steps))
    assert all(index.shape == (size,) and index.dtype == np.int64 for index in found)
    assert [bool(index[0] == 0) for index in found] == [True] + [False] * (len(found) - 1)
    covered = [np.concatenate([index[k] + np.arange(steps) for index in found]) for k in range(size)]
    for stretch in covered:
        np.testing.assert_array_equal(stretch, stretch[0] + np.arange(len(stretch)))
    places = np.concatenate(covered)
    assert len(set(places.tolist())) == len(places) and places.min() >= 0 and places.max() < n
    assert len(found) == n // size // steps


@given(st.integers(1, 300), st.integers(1, 8), st.integers(1, 9))
def test_the_streams_of_a_test_weigh_every_symbol_once(n, size, steps):
    count = np.zeros(n)
    found = list(order.test_streams(n, size, steps))
    for index, weight in found:
        assert index.shape == weight.shape == (steps, size) and weight.dtype == np.float32
        assert (index[weight == 0] == 0).all()
        np.add.at(count, index, weight)
    assert (count == 1).all()
    for k in range(size):  # in order within each stream
        stretch = np.concatenate([index[:, k][weight[:, k] > 0] for index, weight in found])
        np.testing.assert_array_equal(stretch, np.arange(len(stretch)) + (stretch[0] if len(stretch) else 0))


def test_a_text_shorter_than_one_batch_is_refused():
    with pytest.raises(ConfigError, match="4 streams of 5 steps given, the text has 19 symbols"):
        order.streams(19, 4, 5)
    assert len(list(order.streams(20, 4, 5))) == 1
