"""The log as it lies on the disk: log.h5, then one closed segment per commit since, read as one.

A segment holds the rows of one commit, without decoration; ``pack`` turns everything into one documented
log.h5. Which commits log.h5 already holds is written in it, so a segment that is in both counts once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bioplaus.errors import RunError
from bioplaus.record.disk import Disk, replacing
from bioplaus.record.hdf5 import reading
from bioplaus.record.layout import ROW, SCHEMA, Column, numbered
from bioplaus.record.rows import Form, Table

SEGMENT = "bioplaus-segment/1"
CHUNK = 1 << 18  # bytes of a chunk, before compression, unless one row is larger
BLOCK = 1 << 25  # bytes copied at once


def log_file(folder: Path) -> Path:
    """The packed log of a run folder."""
    return folder / "log.h5"


def segment_file(folder: Path, commit: int) -> Path:
    """Where the rows of one commit (from 1) lie until they are packed."""
    return folder / "log" / f"{commit:06d}.h5"


def segments(folder: Path) -> dict[int, Path]:
    """All segments there are, by commit."""
    found = {int(path.stem): path for path in (folder / "log").glob("*.h5") if path.stem.isdecimal()}
    return dict(sorted(found.items()))


def write_segment(disk: Disk, path: Path, rows: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """The rows of one commit: {table: {column: (rows, ...)}}."""
    with replacing(disk, path) as sink, h5py.File(sink, "w") as file:
        file.attrs["schema"] = SEGMENT
        for table, columns in rows.items():
            group = file.create_group(table)
            for name, values in columns.items():
                group.create_dataset(name, data=values)


def packed(folder: Path) -> tuple[int, str]:
    """(how many commits log.h5 holds, the status it states); (0, "") where there is none."""
    if not log_file(folder).is_file():
        return 0, ""
    with reading(log_file(folder), SCHEMA) as file:
        return int(file.attrs["commits"]), str(file.attrs["status"])


@dataclass(frozen=True)
class Piece:
    """One file of the log."""

    path: Path
    schema: str


def pieces(folder: Path, commits: int) -> list[Piece]:
    """The files that hold the first ``commits`` commits, in order, each opened once to see that it is whole.

    Raises
    ------
    RunError
        one is missing or damaged
    """
    done, there = packed(folder)[0], segments(folder)
    files = [Piece(log_file(folder), SCHEMA)] if done else []
    for commit in range(done + 1, commits + 1):
        if commit not in there:
            raise RunError(f"{segment_file(folder, commit)}: missing. Put back a copy, or start the run again.")
        with reading(there[commit], SEGMENT):
            files.append(Piece(there[commit], SEGMENT))
    return files


def read(files: list[Piece], table: str, name: str, form: Form, start: int, stop: int) -> np.ndarray:
    """Rows start to stop of one column, (stop - start, ...)."""
    out = np.full((stop - start, *form.shape), form.column.fill or 0, form.dtype)
    at = 0  # where this piece begins, in rows of the whole
    for piece in files:
        if at >= stop:
            break
        with reading(piece.path, piece.schema) as file:
            if table not in file:
                continue
            here = len(file[table][ROW])
            first, last = max(start - at, 0), min(stop - at, here)
            if first < last:
                values = file[table][name][(slice(first, last), *map(slice, form.shape))]
                out[(slice(at + first - start, at + last - start), *map(slice, values.shape[1:]))] = values
            at += here
    if at < stop:
        raise RunError(
            f"{files[0].path.parent if files else table}: table {table!r} has lost rows. Open the run again."
        )
    return out


def tables_of(file: h5py.File) -> dict[str, Table]:
    """The tables of a packed log, from what it says about itself."""
    found: dict[str, Table] = {}

    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and ROW in item:
            columns = {n: _form(d) for n, d in item.items() if n == ROW or not d.is_scale}
            found[path] = Table({ROW: columns[ROW], **columns}, len(item[ROW]))

    file.visititems(visit)
    return found


def _form(dataset: Any) -> Form:
    dims = tuple(str(dim[0].name).rsplit("/", 1)[-1] for dim in list(dataset.dims)[1:])
    what = Column(str(dataset.attrs["units"]), str(dataset.attrs["long_name"]), (dims,))
    return Form(dataset.dtype.str, dataset.shape[1:], what)


def pack(
    disk: Disk, path: Path, attributes: Mapping[str, Any], tables: Mapping[str, Table], files: list[Piece]
) -> None:
    """Write one complete log from all pieces, as many rows of each table as it counts, and put it in place."""
    tables = {name: table for name, table in sorted(tables.items()) if table.rows}
    with replacing(disk, path) as sink, h5py.File(sink, "w") as log:
        log.attrs["schema"] = SCHEMA
        log.attrs.update(attributes)
        targets = {name: _lay_out(log.create_group(name), table) for name, table in tables.items()}
        done = dict.fromkeys(tables, 0)
        for piece in files:
            with reading(piece.path, piece.schema) as file:
                for name, table in tables.items():
                    if name in file:
                        done[name] += _copy(file[name], targets[name], done[name], table.rows)
            if sink.error is not None:
                raise sink.error
        for name, table in tables.items():
            if done[name] != table.rows:
                raise RunError(
                    f"{path.parent}: table {name!r} has {done[name]} rows, its checkpoint counts {table.rows}."
                )


def _copy(source: Any, targets: Mapping[str, Any], at: int, limit: int) -> int:
    """Copy a piece's rows of one table to rows ``at`` onwards; how many."""
    rows = min(len(source[ROW]), limit - at)
    for name, target in targets.items():
        for first, last in _blocks(rows, target):
            values = source[name][(slice(first, last), *map(slice, target.shape[1:]))]  # dropped rows may be wider
            target[(slice(at + first, at + last), *map(slice, values.shape[1:]))] = values
    return rows


def _blocks(rows: int, target: Any) -> Iterator[tuple[int, int]]:
    size = max(1, target.nbytes // max(1, len(target)))
    step = max(1, BLOCK // size)
    return ((first, min(first + step, rows)) for first in range(0, rows, step))


def _lay_out(group: Any, table: Table) -> dict[str, Any]:
    """Empty datasets of the right size, with units, long_name and named dimension scales."""
    targets = {name: _dataset(group, name, form, table.rows) for name, form in table.columns.items()}
    targets[ROW].make_scale(ROW)
    for name, form in table.columns.items():
        if name == ROW:
            continue
        targets[name].dims[0].attach_scale(targets[ROW])
        for i, axis in enumerate(table.axes(name)):
            targets[name].dims[i + 1].attach_scale(_scale(group, axis, form.shape[i]))
    return targets


def _dataset(group: Any, name: str, form: Form, rows: int) -> Any:
    shape = (rows, *form.shape)
    storage: dict[str, Any] = {}
    if all(shape):
        row = np.dtype(form.dtype).itemsize * int(np.prod(form.shape))
        # level 1: floats hardly become smaller above it, only slower
        storage = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        storage["chunks"] = (min(rows, max(1, CHUNK // row)), *form.shape)
    dataset = group.create_dataset(name, shape, form.dtype, fillvalue=form.column.fill, **storage)
    dataset.attrs.update(units=form.column.units, long_name=form.column.long_name)
    return dataset


def _scale(group: Any, axis: str, size: int) -> Any:
    """The scale of an axis, shared by the columns that have it: 0, 1, 2, ..."""
    if axis not in group:
        scale = group.create_dataset(axis, data=np.arange(size, dtype="int32"))
        scale.attrs.update(numbered(axis))
        scale.make_scale(axis)
    return group[axis]
