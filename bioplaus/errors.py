"""Every exception bioplaus raises on purpose, as one tree.

BioplausError
├── UserError       the input is wrong: one line, exit 2, nothing written
│   ├── ConfigError     a key or value in a YAML file, on the command line or in a call
│   ├── PartError       a part that does not exist, cannot be loaded or breaks its contract
│   ├── ShapeError      sizes that do not fit
│   ├── DataError       a data file that is missing, damaged or of another kind
│   └── RunError        a run folder or log that is not what the command needs
└── RunFailed       the run broke on the way: one line, exit 1
    ├── NonFinite       a value became NaN or infinite; names layer and step
    └── Stopped         Ctrl-C or SIGTERM, after a checkpoint: exit 130
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BioplausError(Exception):
    """Anything bioplaus raises on purpose; its text is one line that finishes the user's thought."""

    exit_code = 1


class UserError(BioplausError):
    """The user's input is wrong; nothing has been written."""

    exit_code = 2


class ConfigError(UserError):
    """A key or value in a file, on the command line or in a call is wrong."""


class PartError(UserError):
    """A part does not exist, cannot be loaded, or breaks its contract."""


class ShapeError(UserError):
    """Sizes do not fit."""


class DataError(UserError):
    """A data file is missing, damaged, or not of the kind named."""


class RunError(UserError):
    """A run folder or log is not what the command needs."""


class RunFailed(BioplausError):
    """The run broke on the way; its log holds what happened until then."""


class NonFinite(RunFailed):
    """A value became NaN or infinite."""


class Stopped(BioplausError):
    """Ctrl-C or SIGTERM, after a checkpoint."""

    exit_code = 130


LISTED = 30  # names a message shows at most


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say about an unknown name: the closest known one, and the list when it is short.

    Returns
    -------
    str
        ``"; did you mean 'usf'? Known: bp, usf."``, or only the list where nothing is close.
    """
    names = sorted(known)
    alike = [each for each in names if each[:1] == name[:1]]  # what begins otherwise has to be closer: rate is no at
    close = [each for each in names if each.lower() == name.lower()]  # KL is kl
    close = close or difflib.get_close_matches(name, names, 1, 0.7) or difflib.get_close_matches(name, alike, 1, 0.6)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    if not names:
        return hint
    more = len(names) - LISTED
    return f"{hint} Known: {', '.join(names[:LISTED])}{f' and {more} more' if more > 0 else ''}."
