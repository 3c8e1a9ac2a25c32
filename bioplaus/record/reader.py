"""Reading a run: its log as one, whether packed, still growing, or cut off; its weights, config and summary.

A reader sees the rows that a checkpoint counts, as of the moment it opened the run. Only of a failed run it sees
more: also the rows between the last checkpoint and the failure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from bioplaus.errors import RunError, nearest
from bioplaus.record import checkpoint
from bioplaus.record.folder import root, status
from bioplaus.record.hdf5 import plain, reading
from bioplaus.record.layout import ROW, SCHEMA, Column, numbered
from bioplaus.record.pieces import Piece, packed, pieces, read, tables_of
from bioplaus.record.rows import Table


def open_run(path: str | Path) -> Run:
    """Open a run to read: a run folder, the log.h5 in it, or a log.h5 that was copied elsewhere.

    >>> run = open_run("runs/mine")                                          # doctest: +SKIP
    >>> run.metrics.test.error[-1], run.layer("conv1").norm.mean, run.weights("conv1")   # doctest: +SKIP

    Raises
    ------
    RunError
        there is no run, or a file of it is damaged or of another kind
    """
    return Run(path)


class Run:
    """What a run has recorded, as of the moment it was opened.

    path : the run folder, or the log where it stands alone · status : running, finished, stopped or failed ·
    attributes : {name: text or number} · config : the resolved config, YAML text
    """

    def __init__(self, path: str | Path) -> None:
        """As ``open_run`` says."""
        path = Path(path).resolve()
        self._folder = None if path.is_file() and not (path.parent / "checkpoint.h5").is_file() else root(path)
        self.path = self._folder or path
        self.attributes: dict[str, Any]
        self.status: str
        if self._folder is None:
            self._read_log(path)
        else:
            self._read_folder(self._folder)
        self.config = str(self.attributes["config"])

    def _read_log(self, path: Path) -> None:
        with reading(path, SCHEMA) as log:
            found = {name: value if isinstance(value, str) else value.item() for name, value in log.attrs.items()}
            self._tables = tables_of(log)
        self._commits = int(found.pop("commits"))
        self.status = found.pop("status")
        self.attributes = {name: value for name, value in found.items() if name != "schema"}
        self._pieces = [Piece(path, SCHEMA)]

    def _read_folder(self, folder: Path) -> None:
        record = checkpoint.peek(folder / "checkpoint.h5")
        if packed(folder)[0] > record.commits:  # failed, or a commit was made and packed meanwhile
            self._read_log(folder / "log.h5")
            return
        self._commits, self._tables = record.commits, {n: t for n, t in record.tables.items() if t.rows}
        self.status, self.attributes = status(folder, record), record.attributes
        self._pieces = self._find(folder)

    def _find(self, folder: Path) -> list[Piece]:
        try:
            return pieces(folder, self._commits)
        except (FileNotFoundError, RunError):  # the run ended and was packed between two looks
            return pieces(folder, self._commits)

    def __repr__(self) -> str:
        """Where, how it stands, how much."""
        return f"<Run {self.path} {self.status}, {len(self._tables)} tables>"

    @property
    def tables(self) -> list[str]:
        """Paths of all tables that have rows."""
        return sorted(self._tables)

    @property
    def layers(self) -> list[str]:
        """Names of the layers that something was recorded of."""
        return list(dict.fromkeys(name.split("/")[1] for name in self.tables if name.startswith("layers/")))

    @property
    def made(self) -> dict[str, int]:
        """How many updates and epochs its rows are of."""
        updates = max((int(Rows(self, name, table).step[-1]) for name, table in self._tables.items()), default=0)
        epochs = int(self.metrics.train.epoch[-1]) if "metrics/train" in self._tables else 0
        return {"update": updates, "epoch": epochs}

    @property
    def never_due(self) -> dict[str, str]:
        """What was to be recorded and has not been, as the run was too short: {"norm": "50 updates", ...}."""
        record = (YAML(typ="safe", pure=True).load(self.config) or {}).get("record", {})
        every = {key: each.split() for key, each in record.items() if isinstance(each, str) and each != "off"}
        made = self.made
        return {key: record[key] for key, (count, unit) in every.items() if int(count) > made[unit.removesuffix("s")]}

    @property
    def metrics(self) -> Group:
        """The tables train, test and validation, one row per epoch and more where asked for; batch on request."""
        return Group(self, "metrics")

    def layer(self, name: str) -> Group:
        """The tables of one layer: norm, activity, feedback, ..."""
        if name not in self.layers:
            raise RunError(f"{self.path}: nothing recorded of a layer {name!r}{nearest(name, self.layers)}")
        return Group(self, f"layers/{name}")

    def table(self, path: str) -> Rows:
        """One table by its path, as ``layers/conv1/norm``."""
        if path not in self._tables:
            raise self.absent(path)
        return Rows(self, path, self._tables[path])

    def below(self, path: str) -> list[str]:
        """Names of the tables and groups in a group, "" being all, or of the columns of a table."""
        if path in self._tables:
            return list(self._tables[path].columns)
        start = f"{path}/" if path else ""
        return list(dict.fromkeys(n.removeprefix(start).split("/")[0] for n in self.tables if n.startswith(start)))

    def absent(self, path: str) -> RunError:
        """What to say of a path that names no table: from where on nothing is recorded, and what is there instead."""
        here, known = "", [*self.below(""), *self.layers]
        for name in path.split("/"):
            there = f"{here}/{name}".lstrip("/")
            if name not in known:
                due = self.never_due.get(name) if here.startswith("layers/") else None
                why = f", which is due every {due}" if due else ""
                return RunError(f"{self.path}: nothing recorded as {there!r}{why}{nearest(name, known)}")
            here, known = there, self.below(there)
        return RunError(f"{self.path}: {path!r} is no table{nearest('', known)}")

    def weights(self, layer: str) -> np.ndarray:
        """W of a layer at the last checkpoint, in the checkpoint's dtype."""
        return self.array(f"{layer}.W")

    def array(self, name: str) -> np.ndarray:
        """Any array of the last checkpoint by its dotted name, as ``conv1.feedback.V``."""
        if self._folder is None:
            raise RunError(f"{self.path}: a log alone holds no {name!r}. Give the run folder, where checkpoint.h5 is.")
        file = self._folder / "checkpoint.h5"
        return checkpoint.named(checkpoint.load(file)[1], name, file)

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json says; empty until the run is complete."""
        file = self._folder / "summary.json" if self._folder else None
        if file is None or not file.is_file():
            return {}
        try:
            found: dict[str, Any] = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise RunError(f"{file}: damaged ({error}). Remove it and resume the run, which writes it anew.") from error
        return found

    def read(self, table: str, column: str, start: int, stop: int) -> np.ndarray:
        """Rows start to stop of one column, (stop - start, ...)."""
        form = self._tables[table].columns[column]
        try:
            return read(self._pieces, table, column, form, start, stop)
        except FileNotFoundError:
            if self._folder is None:
                raise RunError(f"{self.path}: is gone.") from None
        self._pieces = self._find(self._folder)  # the run has ended and was packed since it was opened
        return read(self._pieces, table, column, form, start, stop)

    def to_xarray(self, table: str) -> Any:
        """A table as an xarray.Dataset over ``step``, with named axes, their coordinates, units and long names.

        Raises
        ------
        RunError
            no such table, or xarray is not installed
        """
        try:
            import xarray
        except ImportError as error:
            raise RunError("xarray is not installed. Install bioplaus[xarray].") from error
        rows = self.table(table)
        columns = {
            name: ((ROW, *rows.axes(name)), rows[name], {"units": what.units, "long_name": what.long_name})
            for name, what in rows.columns.items()
        }
        sizes = {
            axis: size for dims, values, _ in columns.values() for axis, size in zip(dims, values.shape, strict=True)
        }
        counts = {axis: (axis, np.arange(sizes[axis], dtype="int32"), numbered(axis)) for axis in sizes if axis != ROW}
        return xarray.Dataset(columns, counts, {"table": table, "run": str(self.path)}).set_coords(ROW)


class Group:
    """Tables and groups below one path, as attributes: ``run.metrics.test``."""

    def __init__(self, run: Run, path: str) -> None:
        """What lies below path."""
        self._run, self._path = run, path

    def __iter__(self) -> Iterator[str]:
        """Names of what is here."""
        return iter(self._run.below(self._path))

    def __getitem__(self, name: str) -> Any:
        """The table or group of that name."""
        path = f"{self._path}/{name}"
        if path in self._run.tables:
            return self._run.table(path)
        if name not in list(self):
            raise self._run.absent(path)
        return Group(self._run, path)

    def __getattr__(self, name: str) -> Any:
        """The same, for names that Python can spell."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __dir__(self) -> list[str]:
        """What tab completion offers."""
        return list(self)

    def __repr__(self) -> str:
        """Path and names."""
        return f"<{self._path}: {', '.join(self)}>"


class Rows:
    """One table; its columns are attributes, arrays of (row, ...): ``run.metrics.test.error``."""

    def __init__(self, run: Run, path: str, table: Table) -> None:
        """The table at path."""
        self._run, self._path, self._table = run, path, table

    @property
    def columns(self) -> dict[str, Column]:
        """What each column means: units, long_name, ..."""
        return {name: form.column for name, form in self._table.columns.items()}

    def axes(self, name: str) -> tuple[str, ...]:
        """Names of the axes of one row of a column."""
        return self._table.axes(name)

    def __len__(self) -> int:
        """How many rows."""
        return self._table.rows

    def __iter__(self) -> Iterator[str]:
        """Names of the columns."""
        return iter(self._table.columns)

    def __getitem__(self, name: str) -> np.ndarray:
        """A column, all rows."""
        return self.between(name, 0, len(self))

    def between(self, name: str, start: int, stop: int) -> np.ndarray:
        """A column, rows start to stop."""
        if name not in self._table.columns:
            known = self._table.columns
            raise RunError(f"{self._run.path}: no column {name!r} in {self._path!r}{nearest(name, known)}")
        return self._run.read(self._path, name, start, stop)

    def __getattr__(self, name: str) -> Any:
        """The same as ``[name]``."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __dir__(self) -> list[str]:
        """What tab completion offers."""
        return [*self, "axes", "between", "columns"]

    def __repr__(self) -> str:
        """Path, rows and columns."""
        return f"<{self._path}: {len(self)} rows of {', '.join(self)}>"


def describe(run: Run, path: str | None = None) -> dict[str, Any]:
    """What a log holds, in values that JSON holds too, for ``bioplaus inspect``.

    Parameters
    ----------
    path : str, optional
        a table, a column (``layers/conv1/norm/mean``) or the beginning of several tables; all of them without. What
        begins with the name of a layer may leave ``layers/`` out; that of a cell or block (``lstm1``) also means the
        layers inside it (``lstm1.x``)

    Returns
    -------
    dict
        path, status, attributes, and tables: {path: {rows, walked, columns: {name: {units, long_name, dims, shape,
        dtype, first, last}}}}. first and last are a number, or least, mean and greatest of the row's numbers, with
        not_numbers where some are none (as the kurtosis of a unit that never changes); NaN and infinities None.
        walked, of a layer that is not at every time, says at which it is: first and last are of those. Of more than
        one table also made and never_due, as a Run has them

    Raises
    ------
    RunError
        nothing in the log has this path
    """
    wanted = (path or "").strip("/")
    tables = {name: Rows(run, name, run._tables[name]) for name in run.tables}
    first, roots = wanted.partition("/")[0], {name.partition("/")[0] for name in tables}
    if first not in roots and any(f"{layer}.".startswith(f"{first}.") for layer in run.layers):
        wanted = f"layers/{wanted}"
    chosen = {name: list(rows) for name, rows in tables.items() if not wanted or _lies_in(wanted, name)}
    above, _, name = wanted.rpartition("/")
    if not chosen and above in tables and name in list(tables[above]):
        chosen = {above: [name]}
    if wanted and not chosen:
        raise run.absent(wanted)
    return {
        "path": str(run.path),
        "status": run.status,
        "attributes": plain(run.attributes),
        **({} if wanted in tables or above in tables else {"made": run.made, "never_due": run.never_due}),
        "tables": {
            name: {
                "rows": len(tables[name]),
                **({"walked": walked.tolist()} if (walked := _walked(tables[name])) is not None else {}),
                "columns": {c: _column(tables[name], c, walked) for c in columns},
            }
            for name, columns in chosen.items()
        },
    }


def _lies_in(path: str, table: str) -> bool:
    """Whether a table is what the path names, lies below it, or inside the cell or block that it names."""
    return table == path or table.startswith((f"{path}/", f"{path}."))


def _walked(rows: Rows) -> np.ndarray | None:
    """The times (T,) at which a row has numbers; None where that is all of them, or none.

    At a time that a layer is never walked no column has a number of any unit. What diverged there has, in others.
    """
    columns = [name for name in rows if rows.axes(name)[:1] == ("time",) and len(rows.axes(name)) > 1]
    ends = [row for name in columns for row in _ends(rows, name)]
    walked = np.any([~np.isnan(row).all(tuple(range(1, row.ndim))) for row in ends], axis=0)
    return walked if walked.any() and not walked.all() else None


def _ends(rows: Rows, name: str) -> tuple[Any, Any]:
    """The first and the last row of a column."""
    return rows.between(name, 0, 1)[0], rows.between(name, len(rows) - 1, len(rows))[0]


def _column(rows: Rows, name: str, walked: np.ndarray | None) -> dict[str, Any]:
    form, (first, last) = rows._table.columns[name], _ends(rows, name)
    if walked is not None and rows.axes(name)[:1] == ("time",):
        first, last = first[walked], last[walked]
    return {
        "units": form.column.units,
        "long_name": form.column.long_name,
        "dims": [ROW, *rows.axes(name)],
        "shape": [len(rows), *form.shape],
        "dtype": np.dtype(form.dtype).name,
        "first": _brief(first),
        "last": _brief(last),
    }


def _brief(row: Any) -> Any:
    if not np.ndim(row):
        return plain(row)
    if not np.size(row):
        return None
    missing = int(np.isnan(row).sum()) if np.issubdtype(np.asarray(row).dtype, np.floating) else 0
    there = row[~np.isnan(row)] if 0 < missing < np.size(row) else row
    brief = {"min": np.min(there), "mean": np.mean(there, dtype="float64"), "max": np.max(there)}
    return plain(brief | ({"not_numbers": missing} if there is not row else {}))
