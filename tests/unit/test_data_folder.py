"""Image folders: who is in which split, that it is always the same, and what is refused."""

import numpy as np
import pytest

from bioplaus.data import find, load
from bioplaus.errors import ConfigError, DataError, ShapeError

Image = pytest.importorskip("PIL.Image")
COUNTS = {"ant": 7, "bee": 5, "cat": 12}


def paint(path, colour, size=(6, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three classes; each image has a colour of its own: (class, number, 200)."""
    for k, (name, count) in enumerate(COUNTS.items()):
        for number in range(count):
            paint(tmp_path / "animals" / name / f"{number:02}.png", (k, number, 200), size=(5 + number, 9))
    (tmp_path / "animals" / "notes.txt").write_text("not an image")
    (tmp_path / "animals" / ".cache").mkdir()
    (tmp_path / "animals" / "ant" / "._00.png").write_text("not an image")
    return tmp_path / "animals"


def identities(split):
    return [tuple(colour) for colour in split.x[:, :2, 0, 0].tolist()]


def test_a_split_has_so_many_to_train_and_up_to_so_many_to_test(folder):
    data = load(folder, size=(3, 4, 4), options={"train_per_class": 4, "test_per_class": 3})
    assert data.names == ("ant", "bee", "cat") and data.classes == 3 and data.name == "animals"
    assert np.bincount(data.train.y).tolist() == [4, 4, 4]
    assert np.bincount(data.test.y).tolist() == [3, 1, 3]
    assert data.train.x.shape == (12, 3, 4, 4) and data.train.x.dtype == np.uint8
    assert (data.train.x[:, 2] == 200).all()
    train, test = identities(data.train), identities(data.test)
    assert len({*train, *test}) == len(train) + len(test)
    assert [k for k, _ in train] == data.train.y.tolist()
    assert "4×4 (bilinear)" in data.notes[0]


def test_the_rest_goes_to_test_where_no_number_is_given(folder):
    data = load(folder, size=(3, 4, 4), options={"train_per_class": 4})
    assert np.bincount(data.test.y).tolist() == [3, 1, 8]


def test_the_split_belongs_to_its_seed(folder):
    def split(seed):
        return identities(load(folder, size=(3, 2, 2), options={"train_per_class": 4, "split_seed": seed}).train)

    assert split(0) == split(0) != split(1)


def test_classes_by_number_and_by_name(folder):
    some = find(folder, options={"train_per_class": 3, "classes": 2})
    assert some.classes == 2 and set(some.names) < set(COUNTS)
    assert some.names == find(folder, options={"train_per_class": 3, "classes": 2}).names
    drawn = {find(folder, options={"train_per_class": 3, "classes": 2, "split_seed": s}).names for s in range(20)}
    assert len(drawn) == 3
    data = load(folder, size=(3, 2, 2), options={"train_per_class": 3, "classes": ["cat", "ant"]})
    assert data.names == ("ant", "cat") and {k for k, _ in identities(data.train)} == {0, 2}
    assert set(data.train.y.tolist()) == {0, 1}


def test_a_folder_that_is_split_already(tmp_path):
    for part, count in (("train", 4), ("test", 2)):
        for k, name in enumerate(("a", "b")):
            for number in range(count):
                paint(tmp_path / part / name / f"{number}.bmp", (k, number, part == "test"))
    data = load(tmp_path, size=(3, 3, 3))
    assert np.bincount(data.train.y).tolist() == [4, 4] and np.bincount(data.test.y).tolist() == [2, 2]
    assert (data.train.x[:, 2] == 0).all() and (data.test.x[:, 2] == 1).all()
    fewer = load(tmp_path, size=(3, 3, 3), options={"train_per_class": 3, "test_per_class": 5})
    assert len(fewer.train) == 6 and len(fewer.test) == 4


def test_grey_images_become_colour_and_plain_folders_take_119(tmp_path):
    for number in range(2):
        paint(tmp_path / "a" / f"{number}.png", 77, mode="L")
    source = find(tmp_path, options={"train_per_class": 1})
    assert source.network == "liao_119" and source.shape == (3, 119, 119)
    data = load(source)
    assert data.train.x.shape == (1, 3, 119, 119) and (data.train.x == 77).all()


def test_a_folder_in_the_data_directory_goes_by_its_name(folder):
    data = load("animals", data_dir=folder.parent, size=(3, 2, 2), options={"train_per_class": 2})
    assert data.classes == 3


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, ConfigError, "data.train_per_class: missing"),
        ({"train_per_clas": 3}, ConfigError, "unknown key 'train_per_clas'; did you mean 'train_per_class'"),
        ({"train_per_class": 0}, ConfigError, "train_per_class: 0 given, a whole number from 1"),
        ({"train_per_class": True}, ConfigError, "train_per_class: True given"),
        ({"train_per_class": 3, "classes": ["ant", 1]}, ConfigError, "or a list of names"),
        ({"train_per_class": 3, "split_seed": -1}, ConfigError, "split_seed: -1 given"),
        ({"train_per_class": 3, "classes": ["cow"]}, ConfigError, "no class 'cow'"),
        ({"train_per_class": 3, "classes": 4}, ConfigError, "4 given, .* has 3"),
        ({"train_per_class": 5}, DataError, "class 'bee' has 5 images, 5 to train and at least 1 to test"),
    ],
)
def test_wrong_options_are_one_line(folder, options, error, text):
    with pytest.raises(error, match=text) as caught:
        find(folder, options=options)
    assert "\n" not in str(caught.value)


def test_wrong_folders_are_one_line(tmp_path, folder):
    with pytest.raises(DataError, match="no images in class folders"):
        find(tmp_path / "animals" / "ant")
    with pytest.raises(ShapeError, match="3 channels given, 1 wanted"):
        load(folder, size=(1, 8, 8), options={"train_per_class": 2})
    (folder / "ant" / "00.png").write_bytes((folder / "ant" / "00.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"ant/00\.png: not a readable image"):
        load(folder, size=(3, 2, 2), options={"train_per_class": 6, "classes": ["ant"]})
    paint(tmp_path / "split" / "test" / "a" / "0.png", 0)
    paint(tmp_path / "split" / "train" / "b" / "0.png", 0)
    with pytest.raises(DataError, match="class 'a' has 0 images, at least 1 wanted"):
        find(tmp_path / "split")


def test_without_pillow_the_way_to_install_it_is_told(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(DataError, match=r"Install bioplaus\[data\]"):
        load(folder, size=(3, 2, 2), options={"train_per_class": 2})
