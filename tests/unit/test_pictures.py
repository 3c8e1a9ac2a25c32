"""Pictures by arrays: where every pixel lies, what is written beside it, and that a file comes of it."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest

from bioplaus.errors import PartError, UserError
from bioplaus.report import mosaic, pictures

pytest.importorskip("matplotlib")
NAN = np.nan
TEN = [str(c) for c in range(10)]


def size(path):
    """(width, height) as a PNG's header has it."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR"
    return struct.unpack(">II", head[16:24])


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    return found + [text.get_text() for axes in figure.axes for text in axes.texts]


def drawn(figure, at=0):
    """The array on the figure's axes, with its limits."""
    image = figure.axes[at].images[0]
    return np.ma.filled(image.get_array().astype(float), NAN), image.get_clim()


# -- where pixels lie ------------------------------------------------------------------------
def test_tiles_lie_in_rows_and_columns_with_gaps_between():
    tiles = np.arange(1.0, 13.0).reshape(2, 3, 1, 1, 2)
    np.testing.assert_array_equal(
        mosaic.mosaic(tiles, (1, 2))[0],
        [
            [1, 2, NAN, NAN, 3, 4, NAN, NAN, 5, 6],
            [NAN] * 10,
            [7, 8, NAN, NAN, 9, 10, NAN, NAN, 11, 12],
        ],
    )
    tall = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    np.testing.assert_array_equal(mosaic.mosaic(tall, (3, 3)), tall[0, 0])
    np.testing.assert_array_equal(mosaic.mosaic(tiles, (0, 0))[0], [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]])


def test_rows_are_filled_one_after_another():
    tiles = np.arange(5.0).reshape(5, 1, 1, 1)
    np.testing.assert_array_equal(mosaic.rows(tiles, 3).reshape(2, 3), [[0, 1, 2], [3, 4, NAN]])
    assert mosaic.rows(tiles, 5).shape == (1, 5, 1, 1, 1)


def test_what_is_no_image_is_drawn_as_one():
    vectors = np.arange(48.0).reshape(2, 24)
    assert mosaic.images(vectors).shape == (2, 1, 3, 24)
    np.testing.assert_array_equal(mosaic.images(vectors)[1, 0], np.tile(vectors[1], (3, 1)))
    assert mosaic.images(np.zeros((2, 3))).shape == (2, 1, 1, 3)
    maps = np.arange(32.0).reshape(2, 4, 2, 2)
    np.testing.assert_array_equal(mosaic.images(maps)[0, 0], maps[0].reshape(8, 2))
    for channels in (1, 3):
        x = np.zeros((2, channels, 5, 5))
        assert mosaic.images(x) is x


# -- pages -----------------------------------------------------------------------------------
def test_images_stand_above_what_is_rendered_of_them():
    """Two images of the first class, one of the second; each class a column, wrong ones marked."""
    x = np.arange(3.0).reshape(3, 1, 1, 1) * np.ones((3, 1, 40, 40))
    figure = pictures.reconstructions(
        x, x + 10, np.array([0, 1, 0]), np.array([0, 0, 1]), ["cat", "$dog^"], (0.0, 12.0), "; a note"
    )
    array, span = drawn(figure)
    column = 40 + 2  # 0.06 inches of 40 pixels to 1.1
    assert span == (0.0, 12.0)
    for left, top, value in ((0, 0, 0.0), (column, 0, 1.0)):
        assert (array[top : top + 40, left : left + 40] == value).all()
        assert (array[top + 41 : top + 81, left : left + 40] == value + 10).all()
        assert np.isnan(array[top + 40, left : left + 40]).all()
    assert (array[-81:-41, :40] == 2.0).all() and (array[-40:, :40] == 12.0).all()
    assert np.isnan(array[-81:, column:]).all() and np.isnan(array[:, 40:column]).all()
    assert len(array) == 81 + 11 + 81  # 0.3 inches for the captions
    assert texts(figure)[2:] == ["cat", "$dog^", "✓ cat", "✗ $dog^", "✗ cat"]
    assert "a note" in texts(figure)[1]
    marked = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert (marked["✓ cat"], marked["✗ cat"]) == (pictures.RIGHT, pictures.WRONG)


def test_signs_are_drawn_about_zero_with_a_bar_and_grey_levels_without():
    signed = np.array([[-0.5, 0.25]]).reshape(1, 1, 1, 2) * np.ones((1, 1, 40, 1))
    figure = pictures.filters(signed, "conv1")
    assert drawn(figure)[1] == (-0.5, 0.5)
    assert len(figure.axes) == 2 and figure.axes[0].images[0].get_cmap().name == "RdBu_r"
    grey = pictures.templates(np.ones((2, 1, 4, 4)), np.array([3, 1200]), ["a", "b"], (0.0, 2.0))
    assert len(grey.axes) == 1 and grey.axes[0].images[0].get_cmap().name == "gray"
    assert texts(grey)[2:] == ["a", "b", "3", "1,200"]
    lopsided = pictures.templates(np.ones((2, 1, 4, 4)), np.array([1, 1]), ["a", "b"], (-1.0, 3.0))
    assert drawn(lopsided)[1] == (-3.0, 3.0) and len(lopsided.axes) == 2
    assert drawn(pictures.liked(np.zeros((1, 1, 4, 4)), ["a"]))[1] == (-1.0, 1.0)


def test_colours_keep_their_channels_and_gaps_are_clear():
    x = np.zeros((2, 3, 40, 40))
    x[0, 0], x[1, 2] = 255.0, 51.0
    array, _ = drawn(pictures.templates(x, np.array([1, 1]), ["a", "b"], (0.0, 255.0)))
    assert array[0, 0].tolist() == [1.0, 0.0, 0.0, 1.0]
    assert array[0, -1].tolist() == [0.0, 0.0, 0.2, 1.0]
    assert array[0, 41].tolist() == [0.0] * 4
    signed, _ = drawn(pictures.filters(x[:1] - 510.0, "conv1"))  # -255 where it was 255, else -510
    assert signed[0, 0].tolist() == [0.25, 0.0, 0.0, 1.0]
    page = pictures.filters(x - 1.0, "conv1")
    assert len(page.axes) == 1 and texts(page)[1].endswith("; grey is 0")
    assert "grey" not in texts(pictures.filters(x[:, :1], "conv1"))[1]


def test_samples_have_their_own_contrast_and_the_page_says_so():
    x = np.zeros((2, 3, 1, 40, 40))
    x[1, 2] = 51.0
    figure = pictures.samples(x, ["a", "b"], (0.0, 255.0))
    array, span = drawn(figure)
    assert span == (0.0, 51.0) and "white is 20% of a test image's white" in texts(figure)[1]
    assert (array[-40:, -40:] == 51.0).all() and (array[-40:, :40] == 0.0).all()  # a column per class
    assert drawn(pictures.samples(-x, ["a", "b"], (-1.0, 255.0)))[1] == (-51.0, 51.0)
    assert drawn(pictures.samples(np.zeros_like(x), ["a", "b"], (0.0, 255.0)))[1] == (0.0, 255.0)


def test_of_many_units_the_first_are_drawn_and_the_page_says_so():
    figure = pictures.filters(np.ones((200, 1, 40, 40)), "conv1")
    assert f"the first {pictures.FILTERS} of 200 units" in texts(figure)[1]
    assert np.isfinite(drawn(figure)[0]).sum() == pictures.FILTERS * 1600
    assert "5 units" in texts(pictures.filters(np.ones((5, 3)), "fc1"))[1]


def traced(layers=3, channels=1, classes=12):
    rng = np.random.default_rng(0)
    image, rendered = rng.uniform(0, 255, (2, channels, 8, 8))
    maps = [(f"conv{i}", rng.standard_normal((4, 6, 6)), rng.random((4, 6, 6)) > 0.5) for i in range(layers - 1)]
    top = ("out", np.eye(classes)[3], np.eye(classes)[3] > 0)
    posterior = [(f"class {c}", 1 / classes) for c in range(classes)]
    saliency = image * rendered - 100.0
    return pictures.trace(7, "a$b", posterior, "class 0", image, rendered, saliency, [*maps, top]), maps, saliency


@pytest.mark.parametrize(("layers", "channels"), [(3, 1), (2, 3), (11, 1)])
def test_one_image_and_its_way_through_the_layers(tmp_path, layers, channels):
    figure, maps, saliency = traced(layers, channels)
    top, below = figure.subfigs
    shown = min(layers, pictures.LAYERS)
    assert len(below.axes) == 2 * shown
    contribution, span = drawn(top, 2)
    np.testing.assert_allclose(contribution, saliency.sum(0))
    assert span == (-np.abs(contribution).max(), np.abs(contribution).max())
    np.testing.assert_array_equal(drawn(below, 0)[0], maps[0][2].sum(0))
    np.testing.assert_allclose(drawn(below, shown)[0], maps[0][1].sum(0))
    assert below.axes[0].get_xlabel() == f"{maps[0][2].sum()} of 144 ({maps[0][2].mean():.0%})"
    assert below.axes[shown - 1].get_title() == "out"
    assert (f"{shown} of {layers} layers" in below._suptitle.get_text()) == (layers > shown)
    assert len(top.axes[3].patches) == pictures.CLASSES
    wide, high = size(pictures.save({"trace-7": figure}, tmp_path)["trace-7"])
    assert 1000 < high < wide < 2500


# -- files -----------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 8, 8), (64,)], ids=str)
@pytest.mark.parametrize("classes", [2, 10])
def test_files_of_a_sensible_size(tmp_path, shape, classes):
    rng, names = np.random.default_rng(0), [*TEN[: classes - 1], "a class with a very long name in 日本語"]
    x = rng.uniform(0, 255, (3 * classes, *shape))
    labels, span = np.arange(3 * classes) % classes, (0.0, 255.0)
    figures = {
        "reconstructions": pictures.reconstructions(x, x, labels, labels, names, span),
        "samples": pictures.samples(x.reshape(classes, 3, *shape), names, span),
        "templates": pictures.templates(x[:classes], np.ones(classes), names, span),
        "liked": pictures.liked(x[:classes] - 100, names),
        "filters": pictures.filters(rng.standard_normal((32, *shape)), "conv1"),
    }
    before = set(sys.modules)
    found = pictures.save(figures, tmp_path / "made" / "here")
    assert "matplotlib.pyplot" not in set(sys.modules) - before
    assert {path.name for path in (tmp_path / "made" / "here").iterdir()} == {f"{name}.png" for name in figures}
    for path in found.values():
        wide, high = size(path)
        assert 900 <= wide <= 1800 and 150 < high < 2200, path


def test_where_nothing_can_be_written_it_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: cannot be written \(.*--out"):
        pictures.save({"filters": pictures.filters(np.ones((2, 1, 3, 3)), "c")}, tmp_path / "file")


@pytest.mark.parametrize("place", ["file", "file/in/it", "link/in/it"])
def test_a_place_where_nothing_can_be_written_is_told_before(tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"cannot be written \(.* is no folder\).*--out"):
        pictures.check(tmp_path / place)
    pictures.check(tmp_path / "not" / "yet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_a_folder_that_lets_nobody_write_is_told_before(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures.os, "access", lambda path, mode: path != tmp_path)
    pictures.check(tmp_path.parent)
    with pytest.raises(UserError, match="does not let you"):
        pictures.check(tmp_path / "new")


def test_without_matplotlib_it_says_what_to_install(monkeypatch, tmp_path):
    pictures.check(tmp_path)
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    with pytest.raises(PartError, match=r"Install bioplaus\[plot\]"):
        pictures.check(tmp_path)
