"""Rows on their way into the log: kept on the host until the next checkpoint.

``Log.add`` copies what it is given and checks that every row of a table has the same columns, so that a
table is always rectangular.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bioplaus.errors import RunFailed
from bioplaus.record.layout import ROW, Column, axes, column


@dataclass
class Form:
    """How one column is stored: dtype and shape of a row, and what it means."""

    dtype: str
    shape: tuple[int, ...]
    column: Column


@dataclass
class Table:
    """The columns of one table, and how many rows of it are committed."""

    columns: dict[str, Form]
    rows: int = 0

    def axes(self, name: str) -> tuple[str, ...]:
        """Names of the axes of one row of a column; one name has one size in the whole table."""
        return self._axes()[name]

    def _axes(self) -> dict[str, tuple[str, ...]]:
        sizes: dict[str, int] = {}
        found = {}
        for name, form in self.columns.items():
            named = axes(name, form.column, len(form.shape))
            found[name] = tuple(
                axis if axis not in self.columns and sizes.setdefault(axis, size) == size else f"{name}_{axis}"
                for axis, size in zip(named, form.shape, strict=True)
            )
        return found

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Table:
        """From what ``plain`` gave."""
        return cls({name: _form(**form) for name, form in plain["columns"].items()}, plain["rows"])


def _form(dtype: str, shape: list[int], column: dict[str, Any]) -> Form:
    dims = tuple(tuple(axes) for axes in column.pop("dims"))
    return Form(dtype, tuple(shape), Column(dims=dims, **column))


class Log:
    """The tables of one run, and the rows that no checkpoint counts on yet.

    >>> log = Log()
    >>> log.add("layers/conv1/norm", step=12, mean=np.zeros(3), sigma=np.ones(3))
    >>> log.tables["layers/conv1/norm"].columns["mean"].column.units
    '1'
    """

    def __init__(self, tables: Mapping[str, Table] | None = None) -> None:
        """Go on from tables, or from none."""
        self._given: dict[tuple[str, str], Column] = {}
        self.rewind(tables or {})

    def rewind(self, tables: Mapping[str, Table]) -> None:
        """Forget all rows that are not committed; go on from these tables."""
        self.waiting = 0  # bytes of rows that are not committed
        self.tables: dict[str, Table] = dict(tables)
        self._fresh: dict[str, dict[str, list[np.ndarray]]] = {path: _lists(table) for path, table in tables.items()}

    def describe(self, table: str, **columns: Column) -> None:
        """Say what columns mean that the layout does not know, before their first row."""
        self._given.update({(table, name): what for name, what in columns.items()})

    def add(self, table: str, **row: Any) -> None:
        """One row: ``step`` and the same columns each time, numbers or host arrays. Copied at once.

        Raises
        ------
        RunFailed
            a column is missing, new, of another shape or of another kind than in the table's first row
        """
        if table not in self.tables:
            self.tables[table] = self._begin(table, row)
            self._fresh[table] = _lists(self.tables[table])
        columns = self.tables[table].columns
        if row.keys() != columns.keys():
            absent, new = sorted(columns.keys() - row.keys()), sorted(row.keys() - columns.keys())
            raise RunFailed(
                f"log table {table!r}, step {row.get(ROW)}: a row has the columns of the first one"
                f"{_names(', missing: ', absent)}{_names(', new: ', new)}. Always record them, or use another table."
            )
        values = {name: _fit(table, name, value, columns[name]) for name, value in row.items()}
        for name, value in values.items():
            self._fresh[table][name].append(value)
            self.waiting += value.nbytes

    def fresh(self) -> dict[str, dict[str, np.ndarray]]:
        """The rows since the last commit, stacked: {table: {column: (rows, ...)}}."""
        return {
            path: {name: stack(values, self.tables[path].columns[name]) for name, values in lists.items()}
            for path, lists in self._fresh.items()
            if lists[ROW]
        }

    def counted(self) -> dict[str, Table]:
        """The tables as they are once the fresh rows are committed."""
        return {p: Table(table.columns, table.rows + len(self._fresh[p][ROW])) for p, table in self.tables.items()}

    def committed(self) -> None:
        """The fresh rows are on the disk."""
        self.waiting = 0
        self.tables = self.counted()
        self._fresh = {path: _lists(table) for path, table in self.tables.items()}

    def _begin(self, table: str, row: Mapping[str, Any]) -> Table:
        if ROW not in row:
            raise RunFailed(f"log table {table!r}: a row without {ROW!r}. Give the number of updates made so far.")
        columns = {}
        for name in [ROW, *(name for name in row if name != ROW)]:
            what = self._given.get((table, name)) or column(table, name)
            value = np.asarray(row[name])
            columns[name] = Form(what.dtype or _stored(value.dtype), value.shape, what)
        return Table(columns)


def stack(values: list[np.ndarray], form: Form) -> np.ndarray:
    """Rows (or, along a new first axis, arrays of rows) as one array; ragged ones filled up to the form's shape."""
    if form.column.fill is None:
        return np.stack(values)
    out = np.full((len(values), *form.shape), form.column.fill, form.dtype)
    for row, value in zip(out, values, strict=True):
        row[tuple(slice(size) for size in value.shape)] = value
    return out


def _lists(table: Table) -> dict[str, list[np.ndarray]]:
    return {name: [] for name in table.columns}


def _stored(dtype: np.dtype) -> str:
    """bool and half precision are kept in the nearest type that netCDF has too."""
    return {"bool": "int8", "float16": "float32"}.get(dtype.name, dtype.str)


def _fit(table: str, name: str, value: Any, form: Form) -> np.ndarray:
    array = np.array(value)
    if array.dtype.kind not in "biuf" or not np.can_cast(array.dtype, form.dtype, "same_kind"):
        raise RunFailed(f"log table {table!r}, column {name!r}: {array.dtype} given, {np.dtype(form.dtype)} wanted.")
    if array.shape != form.shape:
        if form.column.fill is None or array.ndim != len(form.shape):
            raise RunFailed(
                f"log table {table!r}, column {name!r}: shape {array.shape} given, {form.shape} wanted as before."
            )
        form.shape = tuple(np.maximum(array.shape, form.shape).tolist())
    return array.astype(form.dtype, copy=False)


def _names(before: str, names: list[str]) -> str:
    return before + ", ".join(names) if names else ""
