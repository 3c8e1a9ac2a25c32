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
    assert drawn(figure)[1] == (-1.0, 1.0)
    assert len(figure.axes) == 2 and figure.axes[0].images[0].get_cmap().name == "RdBu_r"
    grey = pictures.templates(np.ones((2, 1, 4, 4)), np.array([3, 1200]), ["a", "b"], (0.0, 2.0))
    assert len(grey.axes) == 1 and grey.axes[0].images[0].get_cmap().name == "gray"
    assert texts(grey)[2:] == ["a", "b", "3", "1,200"]
    lopsided = pictures.templates(np.ones((2, 1, 4, 4)), np.array([1, 1]), ["a", "b"], (-1.0, 3.0))
    assert drawn(lopsided)[1] == (-3.0, 3.0) and len(lopsided.axes) == 2
    nothing = np.zeros((1, 1, 4, 4))
    assert drawn(pictures.liked(nothing, nothing, nothing, np.ones(1), ["a"]))[1] == (-1.0, 1.0)


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
    found = np.ones(2)
    figure = pictures.samples(x, found, ["a", "b"], (0.0, 255.0))
    array, span = drawn(figure)
    assert span == (0.0, 51.0) and "white is 20 % of a test image's white" in texts(figure)[1]
    assert (array[-40:, -40:] == 51.0).all() and (array[-40:, :40] == 0.0).all()  # a column per class
    assert drawn(pictures.samples(-x, found, ["a", "b"], (-1.0, 255.0)))[1] == (-51.0, 51.0)
    assert drawn(pictures.samples(np.zeros_like(x), found, ["a", "b"], (0.0, 255.0)))[1] == (0.0, 255.0)


def test_a_class_never_inferred_has_words_in_place_of_tiles():
    """The second of three, whose numbers are the largest."""
    x, found, names = np.ones((3, 2, 1, 40, 40)), np.array([5, 0, 7]), ["a", "b", "c"]
    x[1] = 9.0
    alone = x[:, 0]
    pages = {
        2: pictures.samples(x, found, names, (0.0, 255.0)),
        1: pictures.templates(alone, found, names, (0.0, 255.0)),
        3: pictures.liked(alone, alone * [[[[0.5]]], [[[1.0]]], [[[0.5]]]], alone, found, names),
    }
    for deep, figure in pages.items():
        array, _ = drawn(figure)
        assert np.isfinite(array).sum() == 2 * deep * 1600 and np.isnan(array[:, 42:82]).all()
        words = [text for text in figure.axes[0].texts if text.get_text() == pictures.NEVER]
        middles = [61.5, 19.5], [61.5, 40 + 2 + 19.5], [61.5, 2 * (40 + 2) + 19.5]
        if deep > 1:  # templates have room for a line
            np.testing.assert_allclose([text.get_position() for text in words], middles[:deep])
        assert len(words) == len(figure.axes[0].patches) == deep
        assert figure.axes[0].patches[0].get_bbox().bounds == (41.5, -0.5, 40, 40)
    assert drawn(pages[2])[1] == (0.0, 1.0) and drawn(pages[3])[1] == (-1.0, 1.0)
    assert np.isnan(drawn(pictures.samples(x[:1], np.zeros(1), ["a"], (0.0, 255.0)))[0]).all()


def test_what_a_class_likes_stands_between_the_start_and_the_template_of_its_norm():
    x = np.zeros((2, 1, 40, 40))
    x[:, 0, 0, 0], x[:, 0, 0, 1] = 3.0, -4.0
    starts, templates = np.full_like(x, 0.125), np.zeros_like(x)
    templates[0, 0, 1, 0], templates[1, 0, 1, 0] = 0.5, 20.0
    figure = pictures.liked(x, starts, templates, np.ones(2), ["a", "b"])
    array, span = drawn(figure)
    assert span == (-5.0, 5.0)
    for left in (0, 42):
        assert (array[:40, left : left + 40] == 0.125).all()
        np.testing.assert_array_equal(array[42:82, left : left + 40], x[0, 0])
        tile = array[84:124, left : left + 40]
        assert tile[1, 0] == 5.0 and (tile != 0).sum() == 1
    sides = [text for text in figure.axes[0].texts if text.get_rotation() == 90]
    assert [text.get_text() for text in sides] == ["start", "maximum", "template"]
    assert [text.get_position()[1] for text in sides] == [19.5, 61.5, 103.5]


def test_a_climb_that_ends_where_it_began_says_so():
    x = np.stack([np.full((1, 4, 4), 2.0), np.full((1, 4, 4), 3.0)])
    starts = np.stack([x[0] + 1e-6, np.full((1, 4, 4), 2.0)])
    figure = pictures.liked(x, starts, x, np.ones(2), ["a", "b"])
    (said,) = [text for text in figure.axes[0].texts if "no ascent" in text.get_text()]
    assert said.get_position() == (19.5, 61.5)  # the middle of the first column's second tile


def test_filters_are_sorted_by_norm_each_in_its_own_scale():
    x = np.zeros((4, 1, 40, 40))
    x[0, 0, 0, 0], x[1, 0, 0, :2], x[2, 0, 0, 0] = 3.0, (-4.0, 2.0), 6.0
    array, span = drawn(figure := pictures.filters(x, "conv1"))
    first, second, third = (array[0, left : left + 2].tolist() for left in (0, 42, 84))
    assert (first, second, third, span) == ([1.0, 0.0], [-1.0, 0.5], [1.0, 0.0], (-1.0, 1.0))
    assert texts(figure)[2:] == ["1.00", "0.75", "0.50", "0.00"]  # 6, sqrt(20), 3 and 0


def test_of_many_units_those_of_largest_norm_are_drawn_and_the_page_says_so():
    x = np.ones((200, 1, 40, 40))
    x[: 200 - pictures.FILTERS, 0, 0, 0] = 0.0
    figure = pictures.filters(x, "conv1")
    assert f"{pictures.FILTERS} of 200 units by norm" in texts(figure)[1]
    array = drawn(figure)[0]
    assert np.isfinite(array).sum() == pictures.FILTERS * 1600 and np.nanmin(array) == 1.0
    assert "5 units by norm" in texts(pictures.filters(np.ones((5, 3)), "fc1"))[1]


def traced(layers=3, channels=1, classes=12, inferred=3):
    rng = np.random.default_rng(0)
    image, rendered = rng.uniform(0, 255, (2, channels, 8, 8))
    maps = [(f"conv{i}", rng.standard_normal((4, 6, 6)), rng.random((4, 6, 6)) > 0.5) for i in range(layers - 1)]
    top = ("out", np.eye(classes)[inferred] * 7.0, np.eye(classes)[inferred] > 0)
    posterior = np.arange(classes) / np.arange(classes).sum()
    names = ["a$b", *(f"class {c}" for c in range(1, classes))]
    saliency = image * rendered - 100.0
    figure = pictures.trace(7, 0, inferred, posterior, names, image, rendered, saliency, [*maps, top])
    return {axes.get_title(): axes for axes in figure.axes}, figure, maps, saliency


@pytest.mark.parametrize(("layers", "channels"), [(3, 1), (2, 3), (11, 1)])
def test_one_image_and_its_way_through_the_layers(tmp_path, layers, channels):
    _, figure, maps, saliency = traced(layers, channels)
    shown = min(layers, pictures.LAYERS)
    order = ["image", "reconstruction", "q(class | image)", "pixel contribution", ""]  # "" has the bar
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:5] == order and titles[5:8] == ["conv0", "contribution", ""]
    assert len(titles) == 5 + 3 * shown and titles[-3] == "out"
    contribution, span = drawn(figure, 3)
    np.testing.assert_allclose(contribution, saliency.sum(0))
    most = np.abs(contribution).max()
    assert span == (-most, most)
    assert [text.get_text() for text in figure.axes[4].get_xticklabels()] == [f"−{most:.3g}", "0", f"{most:.3g}"]
    np.testing.assert_array_equal(drawn(figure, 5)[0], maps[0][2].sum(0))
    np.testing.assert_allclose(drawn(figure, 6)[0], maps[0][1].sum(0))
    assert figure.axes[5].get_xlabel() == f"{maps[0][2].sum()} of 144\nat most {maps[0][2].sum(0).max()} at a place"
    assert (f"{shown} of {layers} layers" in texts(figure)[1]) == (layers > shown)
    bars = figure.axes[2]
    assert [patch.get_width() for patch in bars.patches] == [c / 66 for c in range(11, 1, -1)]
    assert [text.get_text() for text in bars.texts] == [f"class {c}" for c in range(11, 1, -1)]
    wide, high = size(pictures.save({"trace-7": figure}, tmp_path)["trace-7"])
    assert 600 < high < wide < 2300


def test_the_page_of_a_way_is_as_wide_as_its_columns():
    """Two columns, of the image and of pixels, and one per layer: as many tiles as spaces between them and one more."""
    for layers in (2, 3, 6):
        axes, figure, *_ = traced(layers)
        left, right = axes["image"].get_position().x0, axes["out"].get_position()
        wide = figure.get_size_inches()[0]
        one = axes["conv0"].get_position().x0 - axes["q(class | image)"].get_position().x1
        assert one == pytest.approx(0.25 / wide)
        assert left == pytest.approx(0.3 / wide)
        middle = 1 - (right.x0 + right.x1) / 2  # the strip stands in the middle of its tile
        tile = axes["image"].get_position(original=True).width
        assert middle == pytest.approx(0.3 / wide + tile / 2)
        assert (2 + layers) * tile + ((1 + layers) * 0.25 + 0.6) / wide == pytest.approx(1.0)


def test_a_way_that_ends_wrong_is_red_and_classes_are_named_beside_their_units():
    wrong, right = traced()[1], traced(inferred=0)[1]
    assert wrong.texts[0].get_text() == "Test image 7, class a$b, inferred as class 3"
    assert (wrong.texts[0].get_color(), right.texts[0].get_color()) == (pictures.WRONG, "black")
    above, below = wrong.axes[-3], wrong.axes[-2]
    for axes in (above, below):
        assert [text.get_text() for text in axes.get_yticklabels()][:2] == ["a$b", "class 1"]
        assert len(axes.get_yticks()) == 12
    assert drawn(wrong, -2)[0][3].tolist() == [7.0]  # upright, a class a row
    many = traced(classes=21)[1].axes[-3]
    assert [text.get_text() for text in many.get_yticklabels()] == ["class 3"] and many.get_yticks().tolist() == [3]


# -- files -----------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 8, 8), (64,)], ids=str)
@pytest.mark.parametrize("classes", [2, 10])
def test_files_of_a_sensible_size(tmp_path, shape, classes):
    rng, names = np.random.default_rng(0), [*TEN[: classes - 1], "a class with a very long name in 日本語"]
    x = rng.uniform(0, 255, (3 * classes, *shape))
    labels, span = np.arange(3 * classes) % classes, (0.0, 255.0)
    figures = {
        "reconstructions": pictures.reconstructions(x, x, labels, labels, names, span),
        "samples": pictures.samples(x.reshape(classes, 3, *shape), np.ones(classes), names, span),
        "templates": pictures.templates(x[:classes], np.ones(classes), names, span),
        "liked": pictures.liked(x[:classes] - 100, x[:classes], x[:classes], np.ones(classes), names),
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
