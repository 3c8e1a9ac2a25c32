"""Texts as data: symbols and those that follow, the vocabulary, the feed, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bioplaus.backend.numpy import NumPy
from bioplaus.backend.streams import Stream
from bioplaus.data import fit, load
from bioplaus.data.text import PennTreebank, TinyShakespeare, characters, text, words
from bioplaus.errors import ConfigError, DataError, ShapeError
from bioplaus.train.feed import TextFeed

POEM = "the rose is red; the violet is blue.\n" * 10


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "poem.txt"
    path.write_text(POEM, encoding="utf-8")
    return path


def spelled(data, split):
    return "".join(data.names[i] for i in split.x), "".join(data.names[i] for i in split.y)


def test_the_label_of_a_symbol_is_the_one_that_follows(own):
    data = load(own, size=())
    end = round(0.99 * len(POEM))
    assert spelled(data, data.train) == (POEM[: end - 1], POEM[1:end])
    assert spelled(data, data.test) == (POEM[end:-1], POEM[end + 1 :])
    assert data.names == tuple(sorted(set(POEM))) and data.classes == len(data.names)
    assert data.is_text and data.shape == () and data.name == "poem"


def test_words_end_their_lines_and_are_numbered_by_frequency():
    data = text("w", {"train": words(b" a b a \n a c \n"), "test": words(b" c a \n")}, ["a", "<eos>", "b", "c"])
    assert data.train.x.tolist() == [0, 2, 0, 1, 0, 3] and data.train.y.tolist() == [2, 0, 1, 0, 3, 1]
    assert data.test.x.tolist() == [3, 0] and data.test.y.tolist() == [0, 1]


def test_a_symbol_that_training_has_not_is_refused_at_test():
    with pytest.raises(DataError, match=r"data set 'x': the test text holds 'é' and 1 more, which the text trained on"):
        characters("x", "a" * 198 + "éü")
    assert characters("x", "a" * 198 + "aa").classes == 1


def test_another_text_is_taken_in_the_vocabulary_given(own, tmp_path):
    known = tuple(reversed(sorted(set(POEM))))
    assert spelled(load(own, symbols=known), load(own, symbols=known).train) == spelled(load(own), load(own).train)
    assert load(own, symbols=known).names == known
    with pytest.raises(DataError, match=r"the train text holds 't'"):
        load(own, symbols=sorted(set(POEM) - {"t"}))


@pytest.mark.parametrize(("content", "said"), [(b"", "has 0 characters"), (b"\xff\xfe\x00", "Save it as UTF-8 text")])
def test_a_file_that_is_no_text_is_refused(tmp_path, content, said):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(DataError, match=said):
        load(tmp_path / "x.txt")


def test_a_text_too_short_to_test_on_is_told_how_long_it_must_be():
    said = (
        r"149 characters\. Its last 1% is the test text, which must have two at least\. Give a text of at least 150\."
    )
    with pytest.raises(DataError, match=rf"^data set 'x': the text has {said}$"):
        characters("x", "ab" * 74 + "a")
    for length in range(150, 1000):
        assert len(characters("x", ("ab" * 500)[:length]).test) == length - round(0.99 * length) - 1 >= 1
    with pytest.raises(
        DataError, match=r"the test text has 1 symbols\. Give at least two\.$"
    ):  # of another's own split
        text("x", {"train": "abc", "test": "a"}, "abc")


def test_the_fingerprint_knows_symbols_and_what_they_stand_for():
    one, other, renamed = characters("x", "ab" * 100), characters("x", "ba" * 100), characters("x", "ac" * 100)
    assert len({one.sha256, other.sha256, renamed.sha256}) == 3
    assert one.sha256 == characters("y", "ab" * 100).sha256


def test_the_end_of_a_text_is_put_aside_for_validation(own):
    whole, data = load(own), load(own, validation=50, seed=3)
    np.testing.assert_array_equal(data.validation.x, whole.train.x[-50:])
    np.testing.assert_array_equal(data.train.y, whole.train.y[:-50])
    brought = text("w", dict.fromkeys(("train", "test", "validation"), "abc"), "abc")
    with pytest.raises(ConfigError, match="brings its own"):
        load(type("Source", (), {"name": "w", "shape": (), "load": lambda self, folder: brought})(), validation=1)


def test_a_text_is_no_image_and_an_image_no_text(own):
    with pytest.raises(
        ShapeError, match=r"samples are symbols of a text, the network takes \(1, 8, 8\). .*input: symbols"
    ):
        load(own, size=(1, 8, 8))
    with pytest.raises(ShapeError, match=r"samples are \(1, 8, 8\), the network takes symbols .*input: \[1, 8, 8\]"):
        load("digits", size=())


def test_nothing_is_subtracted_from_a_text(own):
    data = load(own)
    assert fit("none", data)[0] is data
    for recipe in ("standard", "whiten"):
        with pytest.raises(ConfigError, match=f"data.preprocess: '{recipe}' given, a text is taken as it is"):
            fit(recipe, data)


def test_a_batch_is_read_down_its_streams(own):
    """x (T, N): stream n is column n; y is one symbol ahead; the next batch goes on."""
    data = load(own)
    feed = TextFeed.of(NumPy(), data.train, 7)
    streams = ["", "", ""]
    batches = [feed.batch(index) for index in feed.training(3, Stream(0), 0)]
    assert [batch.starts for batch in batches] == [True] + [False] * (len(batches) - 1)
    for batch in batches:
        assert batch.x.shape == batch.y.shape == (7, 3)
        np.testing.assert_array_equal(batch.y[:-1], batch.x[1:])
        streams = [before + "".join(data.names[i] for i in batch.x[:, n]) for n, before in enumerate(streams)]
    length = len(data.train) // 3
    for n, found in enumerate(streams):
        assert found == POEM[n * length : n * length + len(found)] and len(found) > length - 7
    again = [list(order) for order in feed.training(3, Stream(5), 4)]
    assert again == [list(order) for order in feed.training(3, Stream(0), 0)]


def test_a_test_has_every_symbol_and_few_enough_streams():
    """Two streams of 105 symbols at most, since a stream is to be ten batches long."""
    data = characters("x", "abcdefg" * 3000)
    feed = TextFeed.of(NumPy(), data.test, 10)
    batches = list(feed.testing(50))
    assert {batch.x.shape for batch in batches} == {(10, 2)}
    assert [batch.starts for batch in batches[:2]] == [True, False]
    assert sum(float(batch.weight.sum()) for batch in batches) == len(feed) == 209
    counted = sum(np.bincount(batch.x.ravel(), batch.weight.ravel(), 7) for batch in batches)
    np.testing.assert_array_equal(counted, np.bincount(data.test.x, minlength=7))
    assert len(list(TextFeed.of(NumPy(), data.test, 500).testing(50))) == 1


def test_a_probe_begins_anew(own):
    feed = TextFeed.of(NumPy(), load(own).train, 5)
    probe = feed.probe(4, Stream(1))
    assert probe.x.shape == (5, 4) and probe.starts
    np.testing.assert_array_equal(probe.x, feed.probe(4, Stream(1)).x)
    assert TextFeed.of(NumPy(), load(own).test, 50).probe(2, Stream(0)).x.shape == (50, 2)


def test_tiny_shakespeare_and_the_penn_treebank(data_dir):
    """Counts as published."""
    plays = load("tinyshakespeare", data_dir=data_dir, size=())
    assert (plays.classes, len(plays.train), len(plays.test)) == (TinyShakespeare.classes, 1104239, 11153)
    assert spelled(plays, plays.train)[0].startswith("First Citizen:\nBefore we proceed any further")
    ptb = load("ptb", data_dir=data_dir, size=())
    assert (ptb.classes, len(ptb.train) + 1) == (PennTreebank.classes, 929589)
    assert (len(ptb.validation) + 1, len(ptb.test) + 1) == (73760, 82430)
    assert ptb.names[:3] == ("the", "<unk>", "<eos>")
