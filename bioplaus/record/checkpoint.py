"""The last complete state of a run: every array by its dotted name, and what of the log counts.

The file carries a SHA-256 of its contents, so that a damaged one is recognised and never trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bioplaus.errors import RunError, nearest
from bioplaus.record.disk import Disk, replacing
from bioplaus.record.hdf5 import reading
from bioplaus.record.rows import Table

SCHEMA = "bioplaus-checkpoint/1"
State = dict[str, np.ndarray]


@dataclass
class Record:
    """What of the run folder counts: everything past it was on its way when the run was cut off.

    commits: segments written so far, packed ones among them · lines: of metrics.jsonl · tables: of the log, with
    their number of rows · attributes: of the run, for the log's root.
    """

    attributes: dict[str, Any]
    commits: int = 0
    lines: int = 0
    tables: dict[str, Table] = field(default_factory=dict)


def save(disk: Disk, path: Path, record: Record, state: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Put a checkpoint in place, whole: the arrays, what of the log counts, and meta as JSON."""
    tables = {name: table.plain() for name, table in record.tables.items()}
    texts = {"record": json.dumps({**vars(record), "tables": tables}), "meta": json.dumps(meta)}
    with replacing(disk, path) as sink, h5py.File(sink, "w") as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["checksum"] = _checksum(state, texts)
        for name, text in texts.items():
            file[name] = text
        arrays = file.create_group("state")
        for name, array in state.items():
            arrays.create_dataset(name, data=array)


def load(path: Path) -> tuple[Record, State, dict[str, Any]]:
    """(record, state, meta) of a checkpoint, after its checksum was found right.

    Raises
    ------
    RunError
        it is missing, damaged or of another kind
    """
    with _opened(path) as file:
        state: State = {}
        file["state"].visititems(lambda name, item: _collect(state, name, item))
        texts = {name: file[name].asstr()[()] for name in ("record", "meta")}
        if file.attrs["checksum"] != _checksum(state, texts):
            raise ValueError("its checksum differs")
        return _record(texts["record"]), state, json.loads(texts["meta"])


def peek(path: Path) -> Record:
    """Only what of the log counts; the arrays stay unread."""
    with _opened(path) as file:
        return _record(file["record"].asstr()[()])


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise RunError(f"{path}: missing. Give a run folder that bioplaus has written.")
    return reading(path, SCHEMA)


def named(state: State, name: str, path: Path) -> np.ndarray:
    """One array of the state."""
    if name not in state:
        raise RunError(f"{path}: holds no {name!r}{nearest(name, state)}")
    return state[name]


def _record(text: str) -> Record:
    found = json.loads(text)
    found["tables"] = {name: Table.read(table) for name, table in found["tables"].items()}
    return Record(**found)


def _collect(state: State, name: str, item: Any) -> None:
    if isinstance(item, h5py.Dataset):
        state[name] = np.asarray(item[()])


def _checksum(state: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for name, value in sorted(state.items()):
        array = np.asarray(value)
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        data: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        digest.update(data)
    return digest.hexdigest()
