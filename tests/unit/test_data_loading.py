"""From a name to a data set that fits the network: validation, sizes, and names that lead nowhere."""

import numpy as np
import pytest

from bioplaus import registry
from bioplaus.data import find, load
from bioplaus.errors import ConfigError, DataError, PartError, ShapeError

RNG = np.random.default_rng(0)


def images(n=20, shape=(3, 6, 4)):
    """Sample k has the value k everywhere, and label k % 4."""
    x = np.broadcast_to(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1), (n, *shape))
    return x, np.arange(n) % 4, x[:5] + 100, np.arange(5) % 4


def places(split):
    return split.x[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(("validation", "count"), [(5, 5), (0.25, 5), (1, 1), (19, 19)])
def test_validation_comes_off_the_training_set(validation, count):
    data = load(images(), validation=validation)
    kept, aside = places(data.train), places(data.validation)
    assert len(aside) == count and sorted(kept + aside) == list(range(20))
    assert data.validation.y.tolist() == [k % 4 for k in aside]
    assert places(data.test) == [100, 101, 102, 103, 104]
    assert any("validation" in note for note in data.notes)


def test_validation_belongs_to_the_seed():
    def aside(seed):
        return places(load(images(), validation=8, seed=seed).validation)

    assert aside(0) == aside(0) != aside(1)
    assert load(images()).validation is None
    assert load(images(), validation=8).sha256 == load(images()).sha256


@pytest.mark.parametrize("validation", [0, 20, -1, 1.0, 0.0, 0.001, 0.99, 1.5, True, float("nan")])
def test_a_validation_set_that_cannot_be_is_refused(validation):
    with pytest.raises(ConfigError, match=r"data\.validation: .* given. Give a number of samples from 1 to 19"):
        load(images(), validation=validation)


def test_images_are_resized_to_the_network_and_it_is_said():
    data = load(images(), size=(3, 9, 8), validation=4)
    for split in (data.train, data.test, data.validation):
        assert split.x.shape[1:] == (3, 9, 8) and split.x.dtype == np.uint8
        assert (split.x == split.x[:, :1, :1, :1]).all()
    assert "images resized 6×4 → 9×8 (bilinear)" in data.notes


def test_nothing_is_done_where_sizes_agree():
    data = load(images(), size=(3, 6, 4))
    assert data.notes == () and data.shape == (3, 6, 4)


def test_images_are_laid_out_for_a_network_of_vectors():
    x = RNG.integers(0, 256, (4, 3, 6, 4), dtype=np.uint8)
    data = load((x, [0, 1, 0, 1], x, [0, 1, 0, 1]), size=(72,))
    np.testing.assert_array_equal(data.train.x, x.reshape(4, 72))
    assert "images of 3×6×4 laid out as 72 values" in data.notes


@pytest.mark.parametrize(
    ("shape", "size", "text"),
    [
        ((3, 6, 4), (1, 6, 4), "3 channels given, 1 wanted"),
        ((3, 6, 4), (71,), "the network takes 71 values"),
        ((1845,), (3, 6, 4), "samples are 1845 values each"),
        ((1845,), (1844,), "the network takes 1844 values"),
    ],
)
def test_sizes_that_cannot_fit_are_one_line(shape, size, text):
    x = np.zeros((2, *shape), np.uint8) + np.arange(2, dtype=np.uint8).reshape(2, *[1] * len(shape))
    with pytest.raises(ShapeError, match=text) as caught:
        load((x, [0, 1], x, [0, 1]), size=size)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_one_line(tmp_path):
    with pytest.raises(PartError, match="no data set named 'mnits'; did you mean 'mnist'"):
        find("mnits", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"own\.npz: no such file"):
        find(tmp_path / "own.npz")
    with pytest.raises(DataError, match=r"^\./mine/: no such file or folder"):
        find("./mine/")
    with pytest.raises(
        ConfigError, match=r"data\.train_per_class: given, only folders of images take it, not .* 'digits'"
    ):
        find("digits", options={"train_per_class": 3})


def test_a_registered_data_set_is_loaded_like_a_built_in(monkeypatch):
    """Four arrays in a class are all a plug-in needs."""

    class Stripes:
        name, network, shape, classes, preset, files = "stripes", "lenet", (3, 6, 4), 4, {}, ()

        def load(self, data_dir):
            return images()

    monkeypatch.setitem(registry._added, ("dataset", "stripes"), Stripes)
    data = load("stripes")
    assert data.name == "stripes" and len(data.train) == 20
    Stripes.classes = 3
    with pytest.raises(DataError, match="label 3 found, 3 classes wanted"):
        load("stripes")


def test_a_reference_to_code_needs_leave(tmp_path):
    (tmp_path / "mine.py").write_text("raise SystemExit")
    with pytest.raises(PartError, match="--allow-code"):
        find(f"{tmp_path / 'mine.py'}:Mine")
