"""Mirrored and shifted images, by loops over pixels; what is drawn depends on seed, epoch and place alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bioplaus import assemble
from bioplaus.backend.streams import Stream
from bioplaus.data import load
from bioplaus.data.augment import Mirror, Shift, transforms
from bioplaus.data.preprocess import fit
from bioplaus.errors import ConfigError, PartError, ShapeError
from bioplaus.train.evaluate import collect
from bioplaus.train.feed import Feed
from bioplaus.train.loop import Progress, Trainer

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
N, C, H, W = 40, 3, 6, 5


def library(on):
    if on == "torch":
        pytest.importorskip("torch")
    return assemble.array_library(on, dtype="float64", threads=1)


def changed(on, transform, x, stream):
    xp = library(on)
    given = xp.array(x)
    with xp.scope():
        found = xp.host(transform(xp, given, stream))
    np.testing.assert_array_equal(xp.host(given), x)
    return found


@on_each
def test_a_shifted_image_is_a_crop_of_the_padded_one(on, rng):
    """Pad by 2 on every side, crop at (top, left) of each image's own; every offset comes about equally often."""
    x, stream = rng.standard_normal((N, C, H, W)), Stream(3).at("augment")
    y = changed(on, Shift(2), x, stream)
    padded = np.zeros((N, C, H + 4, W + 4))
    padded[:, :, 2:-2, 2:-2] = x
    seen = set()
    for n in range(N):
        fits = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if all(
                y[n, c, i, j] == padded[n, c, top + i, left + j] for c in range(C) for i in range(H) for j in range(W)
            )
        ]
        assert len(fits) == 1
        seen |= set(fits)
    assert len(seen) > 12
    assert {top for top, _ in seen} == {left for _, left in seen} == set(range(5))


@on_each
def test_a_mirrored_image_has_its_columns_in_reverse(on, rng):
    x = rng.standard_normal((N, C, H, W))
    y = changed(on, Mirror(), x, Stream(3).at("augment"))
    turned = 0
    for n in range(N):
        mirrored = np.array([[[x[n, c, i, W - 1 - j] for j in range(W)] for i in range(H)] for c in range(C)])
        assert (y[n] == x[n]).all() or (y[n] == mirrored).all()
        turned += (y[n] == mirrored).all()
    assert N / 4 < turned < 3 * N / 4
    np.testing.assert_array_equal(changed(on, Mirror(0.0), x, Stream(0)), x)
    np.testing.assert_array_equal(changed(on, Mirror(1.0), x, Stream(0)), x[..., ::-1])


@pytest.mark.parametrize("transform", [Mirror(), Shift(3)], ids=str)
def test_the_stream_is_all_that_is_drawn_from_and_backends_agree(transform, rng):
    x, stream = rng.standard_normal((N, C, H, W)), Stream(5).at("augment", 2)
    first = changed("numpy", transform, x, stream)
    np.testing.assert_array_equal(changed("numpy", transform, x, stream), first)
    np.testing.assert_array_equal(changed("torch", transform, x, stream), first)
    assert (changed("numpy", transform, x, stream.at(1)) != first).any()


@on_each
def test_maps_keep_the_memory_order_that_convolutions_like(on, rng):
    xp = library(on)
    x = xp.array(rng.standard_normal((N, C, H, W)))
    strides = (lambda a: a.stride()) if on == "torch" else (lambda a: a.strides)
    for transform in (Mirror(), Shift(2)):
        assert strides(transform(xp, x, Stream(0))) == strides(x)


BOTH = (Mirror(), Shift(1))


def feed(on, augment=BOTH):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (60, C, H, W), dtype=np.uint8), np.arange(60) % 3
    data, preprocess = fit("standard", load((x, y, x, y)))
    xp = library(on)
    return xp, Feed.of(xp, data.train, preprocess, augment), Feed.of(xp, data.train, preprocess)


@on_each
def test_only_batches_with_a_stream_are_changed_and_samples_stay_bytes(on):
    xp, changing, plain = feed(on)
    index, stream = np.arange(10), Stream(1)
    assert str(changing.x.dtype).endswith("uint8")
    before = xp.host(changing.x)
    one, other = (xp.host(f.batch(index).x) for f in (changing, plain))
    np.testing.assert_array_equal(one, other)
    for batch, same in zip(changing.testing(30), plain.testing(30), strict=True):
        np.testing.assert_array_equal(xp.host(batch.x), xp.host(same.x))
    with xp.scope():
        moved = xp.host(changing.batch(index, stream=stream).x)
        expected = xp.host(Shift(1)(xp, Mirror()(xp, xp.array(other), stream.at(0)), stream.at(1)))
    np.testing.assert_array_equal(moved, expected)
    assert (moved != one).any()
    np.testing.assert_array_equal(xp.host(plain.batch(index, stream=stream).x), other)
    np.testing.assert_array_equal(xp.host(changing.x), before)


def test_a_batch_to_learn_from_is_drawn_for_its_epoch_and_its_place_in_it(engine):
    _, changing, _ = feed("numpy")
    net = engine.net(["flatten", {"out": {"dense": 3}}], (C, H, W))
    index, seen = np.arange(20), []
    for epoch, place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = Progress(epoch=epoch, place=place)
        trainer = Trainer(net, changing, {}, (), lambda phase: None, lambda row: None, progress=at)
        seen.append(trainer.batch(index).x)
        expected = changing.batch(index, stream=net.stream.at("augment", epoch, place)).x
        np.testing.assert_array_equal(seen[-1], expected)
    assert all((a != b).any() for a, b in itertools.combinations(seen, 2))


def test_the_order_of_batches_is_not_affected():
    _, changing, plain = feed("numpy")
    orders = [list(f.training(10, Stream(4), 2)) for f in (changing, plain)]
    np.testing.assert_array_equal(*orders)


def test_statistics_for_testing_are_of_images_changed_as_in_training(engine):
    """Their mean activity is that of the changed images, not of the plain ones."""
    _, changing, plain = feed("numpy", (Shift(4),))
    stack = [{"c": {"conv": 2, "kernel": 3}}, "norm", "relu", "flatten", {"out": {"dense": 3}}]
    found = []
    for f in (changing, plain):
        net = engine.net(stack, (C, H, W), defaults={"norm": "batch"})
        collect(net, f, 20, 1)
        found.append(engine.state(net))
        collect(net, f, 20, 1)
        for name, value in engine.state(net).items():
            np.testing.assert_array_equal(value, found[-1][name], err_msg=name)
    assert any((found[0][name] != found[1][name]).any() for name in found[0] if ".norm." in name)


@pytest.mark.parametrize(
    ("items", "shape", "error", "said"),
    [
        (["mirror"], (5,), ShapeError, r"augment 0: mirror wants images .* given samples of \(5,\)"),
        ([{"shift": 4}, {"shift": 6}], (3, 6, 7), ShapeError, "augment 1: shift 6 moves images of 6×7 out of sight"),
        ([{"shift": 0}], (3, 6, 7), ConfigError, "pixels is 0; wanted 1 or more"),
        (["shift"], (3, 6, 7), ConfigError, "'shift' needs pixels"),
        ([{"mirror": 1.5}], (3, 6, 7), ConfigError, "share is 1.5; wanted a number from 0 to 1"),
        (["miror"], (3, 6, 7), PartError, "no data transform named 'miror'; did you mean 'mirror'"),
        ([{"shift": {"pixels": 2, "by": 1}}], (3, 6, 7), ConfigError, "'shift' has no parameter 'by'"),
    ],
)
def test_what_is_wrong_with_a_list_of_transforms(items, shape, error, said):
    with pytest.raises(error, match=said):
        transforms(items, shape, lambda place: f"augment {place}")


def test_three_ways_to_write_one():
    made = transforms(["mirror", {"shift": 4}, {"recipe": "shift", "pixels": 2}], (3, 8, 8), str)
    assert made == (Mirror(), Shift(4), Shift(2))
