"""Own arrays, from Python and from files: what is taken, and what is refused in one line."""

import h5py
import numpy as np
import pytest

from bioplaus.data import find, load
from bioplaus.errors import DataError

RNG = np.random.default_rng(0)
X, Y = RNG.random((6, 5)), np.array([0, 1, 2, 0, 1, 2])
X_TEST, Y_TEST = RNG.random((3, 5)), np.array([2, 1, 3])
ARRAYS = (X, Y, X_TEST, Y_TEST)


def test_arrays_from_python():
    data = load(ARRAYS)
    assert data.train.x.dtype == np.float32 and data.train.y.dtype == np.int64
    np.testing.assert_array_equal(data.test.x, X_TEST.astype(np.float32))
    assert data.test.y.tolist() == [2, 1, 3] and data.classes == 4
    assert len(data.train) == 6 and data.shape == (5,)


def test_grey_images_get_a_channel_and_keep_their_bytes():
    x = RNG.integers(0, 256, (4, 7, 6), dtype=np.uint8)
    data = load((x, [[0], [1], [0], [1]], x[:2], [0.0, 1.0]))
    assert data.train.x.shape == (4, 1, 7, 6) and data.train.x.dtype == np.uint8
    assert data.train.y.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("shape", "network"),
    [
        ((5,), "liao_timit"),
        ((28, 28), "lenet"),
        ((3, 32, 32), "liao_cifar"),
        ((1, 8, 8), "digits_net"),
        ((2, 4, 4), None),
    ],
)
def test_the_default_network_follows_the_shape(shape, network):
    x = np.zeros((2, *shape), np.uint8)
    assert find((x, [0, 1], x, [0, 1])).network == network


@pytest.mark.parametrize("keys", [("X", "y", "X_test", "y_test"), ("x_train", "y_train", "x_test", "y_test")])
@pytest.mark.parametrize("ending", ["npz", "h5", "hdf5"])
def test_files_by_either_set_of_names(tmp_path, keys, ending):
    path = tmp_path / f"speech.{ending}"
    content = dict(zip(keys, ARRAYS, strict=True))
    if ending == "npz":
        np.savez(path, **content)
    else:
        with h5py.File(path, "w") as file:
            for key, array in content.items():
                file[key] = array
            file.create_group("more")
    for source in (path, str(path)):
        data = load(source)
        assert data.name == "speech" and data.sha256 == load(ARRAYS).sha256
        np.testing.assert_array_equal(data.train.x, X.astype(np.float32))
    assert load("speech.h5" if ending == "h5" else path.name, data_dir=tmp_path).name == "speech"


def test_the_checksum_tells_samples_and_labels_apart():
    other = X.copy()
    other[0, 0] += 1
    sums = {load(arrays).sha256 for arrays in (ARRAYS, (other, Y, X_TEST, Y_TEST), (X, Y[::-1], X_TEST, Y_TEST))}
    assert len(sums) == 3


def infinite(value):
    x = X.copy()
    x[3, 2] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        (ARRAYS[:3], "3 arrays given, 4 wanted"),
        ((), "0 arrays given, 4 wanted"),
        ((X, Y[:5], X_TEST, Y_TEST), "X has 6 samples and y 5 labels"),
        ((X, Y, X_TEST, Y_TEST[:1]), "X_test has 3 samples and y_test 1 labels"),
        ((X, Y, X_TEST[:, :4], Y_TEST), r"samples of shape \(5,\) and X_test of \(4,\)"),
        ((X, Y, X_TEST.astype(np.uint8), Y_TEST), "X holds float32 and X_test uint8"),
        ((infinite(np.nan), Y, X_TEST, Y_TEST), "X: holds values that are NaN or infinite"),
        ((infinite(-np.inf), Y, X_TEST, Y_TEST), "X: holds values that are NaN or infinite"),
        ((infinite(1e300), Y, X_TEST, Y_TEST), "X: holds values that are NaN or infinite"),
        ((X, Y - 1, X_TEST, Y_TEST), "y: holds labels that are not 0, 1, 2"),
        ((X, Y + 0.5, X_TEST, Y_TEST), "y: holds labels that are not 0, 1, 2"),
        ((X, Y * np.nan, X_TEST, Y_TEST), "y: holds labels that are not 0, 1, 2"),
        ((X, Y + 0.5, X_TEST, Y_TEST), "for targets choose a network whose loss is squared_error"),
        ((X, np.full(6, 1e300), X_TEST, Y_TEST), "y: holds labels that are not 0, 1, 2"),
        ((X, Y * 10**12, X_TEST, Y_TEST), "label 2000000000000 found among 9 samples"),
        ((X, Y, X_TEST, Y_TEST + 999), "label 1002 found among 9 samples"),
        ((X, np.eye(6), X_TEST, Y_TEST), r"y: shape \(6, 6\)"),
        ((X, Y.astype(str), X_TEST, Y_TEST), "y: shape"),
        ((X.astype(object), Y, X_TEST, Y_TEST), "X: holds object"),
        ((X.astype(complex), Y, X_TEST, Y_TEST), "X: holds complex128"),
        ((X[0], Y, X_TEST, Y_TEST), r"X: shape \(5,\)"),
        ((X[:0], Y[:0], X_TEST, Y_TEST), r"X: shape \(0, 5\)"),
        (([[1, 2], [3]], Y, X_TEST, Y_TEST), "equally long"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(arrays, text):
    with pytest.raises(DataError, match=rf"^data set 'arrays': .*{text}|^data set 'arrays': {text}") as caught:
        load(tuple(arrays))
    assert "\n" not in str(caught.value)


TARGETS, TARGETS_TEST = RNG.random((6, 2)), RNG.random((3, 2))


def test_floats_are_targets_where_these_are_wanted():
    data = load((X, TARGETS, X_TEST, TARGETS_TEST), targets=True)
    assert data.has_targets and data.classes == 2
    np.testing.assert_array_equal(data.train.y, TARGETS.astype(np.float32))
    for y, y_test in ((TARGETS[:, 0], TARGETS_TEST[:, 0]), (Y.astype(float), Y_TEST.astype(float))):
        data = load((X, y, X_TEST, y_test), targets=True)
        assert data.train.y.shape == (6, 1) and data.train.y.dtype == np.float32 and data.classes == 1
    labelled = load(ARRAYS, targets=True)
    assert not labelled.has_targets and labelled.classes == 4
    assert labelled.sha256 == load(ARRAYS).sha256


@pytest.mark.parametrize(
    ("y", "y_test", "text"),
    [
        (TARGETS, TARGETS_TEST[:, :1], "y has 2 targets a sample and y_test 1"),
        (TARGETS, Y_TEST, "y_test: shape .* int64 given. Give floats"),
        (Y, TARGETS_TEST, "y_test: shape"),
        (TARGETS[:5], TARGETS_TEST, "X has 6 samples and y 5"),
        (TARGETS * np.nan, TARGETS_TEST, "y: holds values that are NaN or infinite"),
        (TARGETS * 1e300, TARGETS_TEST, "y: holds values that are NaN or infinite"),
        (TARGETS[None], TARGETS_TEST, "y: shape .* Give floats"),
    ],
)
def test_targets_that_do_not_fit_are_one_line(y, y_test, text):
    with pytest.raises(DataError, match=f"^data set 'arrays': {text}") as caught:
        load((X, y, X_TEST, y_test), targets=True)
    assert "\n" not in str(caught.value)


def refused(path, text):
    with pytest.raises(DataError, match=text) as caught:
        load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_missing_names_are_listed(tmp_path):
    np.savez(tmp_path / "own.npz", x_train=X, y_train=Y, x_test=X_TEST)
    refused(tmp_path / "own.npz", "y_test missing; found x_test, x_train, y_train")
    with h5py.File(tmp_path / "own.h5", "w"):
        pass
    refused(tmp_path / "own.h5", "X, y, X_test, y_test missing; found nothing")


def test_pickled_objects_are_never_loaded(tmp_path):
    trap = np.array([{"a": 1}] * 6, object)
    np.savez(tmp_path / "own.npz", X=trap, y=Y, X_test=X_TEST, y_test=Y_TEST)
    refused(tmp_path / "own.npz", "not readable .*allow_pickle=False")


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_damaged_files_are_one_line(tmp_path, ending):
    path = tmp_path / f"own.{ending}"
    if ending == "npz":
        np.savez_compressed(path, X=X, y=Y, X_test=X_TEST, y_test=Y_TEST)
    else:
        with h5py.File(path, "w") as file:
            for key, array in zip(("X", "y", "X_test", "y_test"), ARRAYS, strict=True):
                file.create_dataset(key, data=array, compression="gzip", fletcher32=True)
    whole = path.read_bytes()
    for damaged in (b"", b"something else", whole[: len(whole) // 2], whole[:-4]):
        path.write_bytes(damaged)
        refused(path, "not readable")
    if ending == "npz":
        at = whole.index(b"X.npy") + 40
        path.write_bytes(whole[:at] + bytes(30) + whole[at + 30 :])
        refused(path, "not readable")


def test_other_endings_are_refused(tmp_path):
    (tmp_path / "own.csv").write_text("1,2")
    refused(tmp_path / "own.csv", "Give a .npz, .h5 or .txt file")
