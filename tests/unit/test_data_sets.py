"""The formats of the data sets, on small files written here in the same layout."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from scipy.io import savemat

from bioplaus import registry
from bioplaus.data import cifar, mnist, stl10, svhn
from bioplaus.data.files import Member
from bioplaus.data.loading import load
from bioplaus.errors import DataError


def test_digits_are_the_1797_of_the_source():
    """Class counts and the first sample as the source publishes them."""
    digits = load("digits")
    x, y = np.concatenate([digits.train.x, digits.test.x]), np.concatenate([digits.train.y, digits.test.y])
    assert x.shape == (1797, 1, 8, 8) and x.dtype == np.uint8 and x.max() == 16
    np.testing.assert_array_equal(np.bincount(y), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    zero = [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0]
    rows = (x.reshape(1797, 64)[:, :32] == zero).all(1)
    assert y[rows].tolist() == [0]


def test_digits_put_a_fifth_of_every_class_aside():
    digits = load("digits")
    both = np.bincount(digits.train.y) + np.bincount(digits.test.y)
    assert (np.abs(np.bincount(digits.test.y) - both / 5) <= 0.5).all()
    assert len(digits.train) == 1438 and len(digits.test) == 359
    assert len(set(digits.train.y[:40].tolist())) == 10  # shuffled, not class after class


def test_digits_are_known_by_their_checksum():
    assert load("digits").sha256 == load("digits").sha256 != ""


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_idx_files():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(mnist.idx(idx(images), "images"), images)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0", b"\0\0\x08\0", b"\0\0\x0d\x01\0\0\0\x01a", b"\0\0\x08\x03\0\0\0\x01", idx(np.zeros(9, "u1"))[:-1]],
)
def test_what_is_no_idx_file_is_refused(data):
    with pytest.raises(DataError, match=r"^images: .*Fetch the original"):
        mnist.idx(data, "images")


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_cifar_records(label_bytes):
    """Byte by byte as the format's page says: labels, then red, green and blue planes, row by row."""
    rng = np.random.default_rng(1)
    width = label_bytes + 3072
    raw = {name: rng.integers(0, 10, n * width, dtype=np.uint8) for name, n in (("b", 3), ("a", 2), ("test", 4))}
    members = tuple(Member(name, len(data)) for name, data in raw.items())
    reordered = iter((name, raw[name].tobytes()) for name in ("test", "a", "b"))
    x, y, x_test, y_test = cifar.records(reordered, members, label_bytes, 10)
    assert x.shape == (5, 3, 32, 32) and x_test.shape == (4, 3, 32, 32)
    everything = np.concatenate([raw["b"], raw["a"]])
    for k, channel, row, column in [(0, 0, 0, 0), (1, 2, 31, 30), (4, 1, 5, 7), (3, 0, 9, 0)]:
        at = k * width + label_bytes + channel * 1024 + row * 32 + column
        assert x[k, channel, row, column] == everything[at]
    assert y.tolist() == [everything[k * width + label_bytes - 1] for k in range(5)]
    assert y_test.tolist() == [raw["test"][k * width + label_bytes - 1] for k in range(4)]


def test_cifar_labels_out_of_range_are_refused():
    data = bytes([10]) + bytes(3072)
    with pytest.raises(DataError, match="label 10 found, 0 to 9 expected"):
        cifar.records(iter([("a", data)]), (Member("a", len(data)),), 1, 10)


def matlab(**arrays):
    file = io.BytesIO()
    savemat(file, arrays)
    return file.getvalue()


def test_svhn_labels_ten_as_zero_and_puts_samples_first():
    x = np.random.default_rng(2).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    images, labels = svhn.mat(matlab(X=x, y=np.array([[10], [1], [9], [10]], np.uint8)), "train")
    assert labels.tolist() == [0, 1, 9, 0]
    assert images.shape == (4, 3, 32, 32)
    assert images[2, 1, 30, 7] == x[30, 7, 1, 2]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not matlab" * 100,
        matlab(X=np.zeros((32, 32, 3, 2), np.uint8)),
        matlab(X=np.zeros((32, 32, 3, 2)), y=np.ones((2, 1))),
        matlab(X=np.zeros((32, 32, 3, 2), np.uint8), y=np.ones((3, 1))),
        matlab(X=np.zeros((32, 32, 3, 2), np.uint8), y=np.full((2, 1), 11)),
        matlab(X=np.zeros((32, 32, 3, 2), np.uint8), y=np.ones((2, 1)))[:250],
    ],
)
def test_what_is_no_svhn_file_is_refused(data):
    with pytest.raises(DataError, match=r"^train: .*Fetch the original"):
        svhn.mat(data, "train")


def small(name, count):
    """The members of a data set, each of ``count`` samples: their bytes, and the same samples as arrays."""
    rng = np.random.default_rng(4)
    side = 96 if name == "stl10" else 28 if name == "mnist" else 32
    channels = 1 if name == "mnist" else 3
    x = rng.integers(0, 256, (2 * count, channels, side, side), dtype=np.uint8)
    y = rng.integers(0, 10, 2 * count).astype(np.uint8)
    halves = [(x[:count], y[:count]), (x[count:], y[count:])]
    if name == "mnist":
        content = [idx(part) for images, labels in halves for part in (images[:, 0], labels)]
    elif name == "svhn":
        content = [matlab(X=images.transpose(2, 3, 1, 0), y=np.where(labels, labels, 10)) for images, labels in halves]
    elif name == "stl10":
        content = [part.tobytes() for images, labels in halves for part in (images.transpose(0, 1, 3, 2), labels + 1)]
    else:
        coarse = np.zeros((count, 1), np.uint8)
        content = [
            np.hstack([coarse, labels[:, None], images.reshape(count, -1)]).tobytes() for images, labels in halves
        ]
    return content, x, y


@pytest.mark.parametrize("name", ["mnist", "svhn", "stl10", "cifar100"])
def test_each_data_set_from_its_own_files(name, tmp_path, monkeypatch):
    """Small files in the original layout, under the original names."""
    part = registry.get("dataset", name)
    content, x, y = small(name, 3)
    members = [member for archive in part.files for member in archive.members]
    assert len(members) == len(content)
    sizes = {member.name: Member(member.name, len(data)) for member, data in zip(members, content, strict=True)}
    archives = tuple(
        replace(archive, members=tuple(sizes[member.name] for member in archive.members)) for archive in part.files
    )
    monkeypatch.setattr(part, "files", archives)
    for member, data in zip(members, content, strict=True):
        path = tmp_path / name / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    data = load(name, data_dir=tmp_path, size=part.shape)
    np.testing.assert_array_equal(np.concatenate([data.train.x, data.test.x]), x)
    np.testing.assert_array_equal(np.concatenate([data.train.y, data.test.y]), y)
    assert len(data.train) == len(data.test) == 3 and data.classes == part.classes
    assert data.train.x.flags.c_contiguous


def test_stl10_pixels_lie_column_by_column():
    raw = np.random.default_rng(3).integers(0, 256, 2 * 3 * 96 * 96, dtype=np.uint8)
    images = stl10.images(raw)
    assert images.shape == (2, 3, 96, 96)
    assert images[1, 2, 5, 90] == raw[1 * 27648 + 2 * 9216 + 90 * 96 + 5]
    assert stl10.classes(np.array([1, 10, 3], np.uint8)).tolist() == [0, 9, 2]
    with pytest.raises(DataError, match="labels 0 to 3"):
        stl10.classes(np.array([0, 3], np.uint8))


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10", "cifar100", "svhn", "stl10"])
def test_every_data_set_says_what_it_is(name):
    source = registry.get("dataset", name)()
    assert source.name == name
    assert source.network and source.classes >= 10 and len(source.shape) == 3
    assert len(getattr(source, "names", ())) in (0, source.classes)
    for archive in source.files:
        assert archive.url.endswith(archive.name)
        assert all(member.checksum or name == "cifar100" for member in archive.members)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "svhn", "stl10"])
def test_a_data_set_that_is_not_there_is_one_line(name, tmp_path):
    with pytest.raises(DataError, match=rf"^data set '{name}': .* not found\. Put it \(\d+ bytes, http.*$"):
        load(name, data_dir=tmp_path)
