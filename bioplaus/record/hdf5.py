"""Reading HDF5 files that may be damaged or somebody else's, and values that JSON and HDF5 both hold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bioplaus.errors import RunError


@contextmanager
def reading(path: Path, schema: str) -> Iterator[h5py.File]:
    """An HDF5 file of ours, open to read.

    Raises
    ------
    RunError
        the file is damaged, or of another kind than ``schema``
    FileNotFoundError
        there is none
    """
    try:
        with h5py.File(path, "r") as file:
            found = file.attrs.get("schema")
            if found != schema:
                kind = "an HDF5 file of another program" if found is None else f"of schema {found!r}"
                raise RunError(f"{path}: {kind}, not {schema!r}. Give a run folder that bioplaus has written.")
            yield file
    except FileNotFoundError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunError(
            f"{path}: damaged, or not an HDF5 file ({reason}). Put back a copy, or start anew from config.yaml."
        ) from error


def plain(value: Any) -> Any:
    """The value as JSON has it: NumPy numbers and arrays become Python's, NaN and infinities null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def attribute(value: Any) -> str | int | float:
    """The value as an HDF5 attribute that every reader understands: text, or one number."""
    value = plain(value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return json.dumps(value)
