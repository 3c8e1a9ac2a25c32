"""A run folder that is whole at every moment: made by one rename, then one commit after another.

A commit puts a new segment of the log in place, adds a line to metrics.jsonl, and then puts the checkpoint
that counts on both in place. Killed anywhere between, the folder is what its checkpoint says; ``restore``
drops the rest. At the end the segments become one log.h5, and summary.json says that the run is complete.
"""

from __future__ import annotations

import errno
import json
import os
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bioplaus.errors import RunError
from bioplaus.record import checkpoint
from bioplaus.record.checkpoint import Record, State
from bioplaus.record.disk import NEW, Disk, append, clear, lock, refused, write
from bioplaus.record.hdf5 import attribute, plain
from bioplaus.record.pieces import log_file, pack, packed, pieces, segment_file, segments, write_segment
from bioplaus.record.rows import Log

DISK = Disk()


class RunFolder:
    """One run on the disk, and the log on its way there.

    Record rows with ``folder.log.add``; make them and the state last with ``commit``; end with ``finish``, or
    with ``end("stopped")`` or ``end("failed")``. One process at a time: ``create`` and ``restore`` claim the folder
    until ``close``, the end of a ``with`` block, or the end of the process.
    """

    def __init__(self, path: Path, record: Record, disk: Disk = DISK) -> None:
        """As ``create`` and ``open`` make it."""
        self.path = path
        self.log = Log(record.tables)
        self._record = record
        self._disk = disk
        self._metrics_size = 0  # bytes of metrics.jsonl that count
        self._release: weakref.finalize[..., RunFolder] | None = None

    @classmethod
    def create(
        cls,
        path: str | Path,
        config_text: str,
        attributes: Mapping[str, Any],
        state: Mapping[str, np.ndarray],
        meta: Mapping[str, Any],
        disk: Disk = DISK,
    ) -> RunFolder:
        """Make a run folder that can be resumed from step 0; it appears whole, by one rename.

        Parameters
        ----------
        path : str or Path      not there yet, or an empty folder
        config_text : str       the resolved config, for config.yaml and the log
        attributes : mapping    for the log's root: text and numbers; what is neither is kept as JSON, None left out
        state : {dotted name: array}    host arrays of any dtype and shape
        meta : mapping          what else resuming needs; anything JSON holds

        Raises
        ------
        RunError                there is something at path already, or no folder can be made there
        RunFailed               the disk refused; nothing is left behind
        """
        path = Path(path).resolve()
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(f"{path}: exists already. Name another folder, or resume the run that is there.")
        record = Record({k: attribute(v) for k, v in attributes.items() if v is not None} | {"config": config_text})
        folder = cls(path.with_name(f".{path.name}{NEW}"), record, disk)
        try:
            _make(disk, folder.path)
            folder._claim()
            clear(disk, folder.path)  # of a process that was killed here
            folder._fill(config_text, state, meta)
            disk.rename(folder.path, path)
            disk.sync_folder(path.parent)
        except BaseException as error:
            with folder, suppress(OSError):
                if folder._release is not None:
                    clear(disk, folder.path)
                    disk.remove_folder(folder.path)
            if isinstance(error, OSError):
                raise refused(path, error) from error
            raise
        folder.path = path
        return folder

    @classmethod
    def open(cls, path: str | Path, disk: Disk = DISK) -> RunFolder:
        """A run folder, by its own path or its log's. Changes nothing.

        Raises
        ------
        RunError                it is no run folder, or its checkpoint is damaged
        """
        path = root(path)
        return cls(path, checkpoint.peek(path / "checkpoint.h5"), disk)

    @property
    def status(self) -> str:
        """running (or killed while it was), finished, stopped or failed."""
        return status(self.path, self._record)

    @property
    def commits(self) -> int:
        """How many commits the checkpoint counts; 0 at step 0."""
        return self._record.commits

    def commit(
        self, state: Mapping[str, np.ndarray], meta: Mapping[str, Any], line: Mapping[str, Any] | None = None
    ) -> None:
        """Make the rows since the last commit, the state, and a line of metrics.jsonl last.

        Either all of it counts afterwards or, when killed or refused on the way, nothing does; after RunFailed it may
        be called again.

        Raises
        ------
        RunFailed               the disk refused; the last checkpoint stands
        """
        record = Record(self._record.attributes, self._record.commits + 1, self._record.lines, self.log.counted())
        self._write_rows(record.commits)
        size = self._metrics_size
        if line is not None:
            text = (json.dumps(plain(line)) + "\n").encode()
            append(self._disk, self._metrics, size, text)
            record.lines, size = record.lines + 1, size + len(text)
        self._remove(self.path / "summary.json")  # trained on: no longer complete
        checkpoint.save(self._disk, self.path / "checkpoint.h5", record, state, meta)
        self._record, self._metrics_size = record, size
        self.log.committed()

    def restore(self) -> tuple[State, dict[str, Any]]:
        """(state, meta) of the last checkpoint; whatever lies past it is dropped, in memory and on the disk.

        Raises
        ------
        RunError                checkpoint or log are damaged, or another process is writing
        RunFailed               the disk refused
        """
        self._claim()
        record, state, meta = checkpoint.load(self.path / "checkpoint.h5")
        in_log, _ = packed(self.path)
        try:
            for path in [*self.path.glob(f".*{NEW}"), *self.path.glob(f"log/.*{NEW}")]:
                self._disk.remove(path)
            for commit, path in segments(self.path).items():
                if not in_log < commit <= record.commits:
                    self._disk.remove(path)
        except OSError as error:
            raise refused(self.path, error) from error
        files = pieces(self.path, record.commits)
        if in_log > record.commits:  # a failed run's log goes on to the failure
            pack(self._disk, log_file(self.path), _root(record, "running"), record.tables, files)
        self._cut_metrics(record.lines)
        self._record = record
        self.log.rewind(record.tables)
        return state, meta

    def end(self, status: str) -> None:
        """Turn the committed segments into one log.h5 that says how the run ended: stopped or failed.

        A failed run's log also gets the rows since the last commit, for whoever looks for the reason; ``restore``
        drops them again.

        Raises
        ------
        RunError                a piece of the log is damaged
        RunFailed               the disk refused; the log can still be read, and packed later
        """
        record = self._record
        if status == "failed":
            record = Record(record.attributes, record.commits + 1, record.lines, self.log.counted())
            self._write_rows(record.commits)
        if packed(self.path) != (record.commits, status):
            pack(
                self._disk, log_file(self.path), _root(record, status), record.tables, pieces(self.path, record.commits)
            )
        try:
            for path in segments(self.path).values():
                self._disk.remove(path)
            if (self.path / "log").is_dir():
                clear(self._disk, self.path / "log")
                self._disk.remove_folder(self.path / "log")
        except OSError as error:
            raise refused(self.path, error) from error

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Pack the log, then write summary.json: the run is complete."""
        self.end("finished")
        write(self._disk, self.path / "summary.json", (json.dumps(plain(summary), indent=2) + "\n").encode())

    def close(self) -> None:
        """Let other processes write here."""
        if self._release is not None:
            self._release()
            self._release = None

    def __enter__(self) -> RunFolder:
        """Close at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close, whatever happened."""
        self.close()

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def _claim(self) -> None:
        if self._release is None:
            handle = lock(self.path)
            if handle is not None:
                self._release = weakref.finalize(self, os.close, handle)

    def _fill(self, config_text: str, state: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        write(self._disk, self.path / "config.yaml", config_text.encode())
        write(self._disk, self._metrics, b"")
        self._disk.folder(self.path / "log")
        checkpoint.save(self._disk, self.path / "checkpoint.h5", self._record, state, meta)

    def _write_rows(self, commit: int) -> None:
        target = segment_file(self.path, commit)
        try:
            if not target.parent.is_dir():
                self._disk.folder(target.parent)
                self._disk.sync_folder(self.path)
        except OSError as error:
            raise refused(target, error) from error
        write_segment(self._disk, target, self.log.fresh())

    def _cut_metrics(self, lines: int) -> None:
        try:
            found = self._metrics.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise RunError(f"{self._metrics}: cannot be read ({error.strerror}). Put back a copy.") from error
        whole = [line for line in found if line.endswith(b"\n")]
        if len(whole) < lines:
            raise RunError(f"{self._metrics}: {len(whole)} lines, its checkpoint counts {lines}. Put back a copy.")
        self._metrics_size = sum(map(len, whole[:lines]))
        if found[lines:]:
            append(self._disk, self._metrics, self._metrics_size, b"")

    def _remove(self, path: Path) -> None:
        if path.exists():
            try:
                self._disk.remove(path)
                self._disk.sync_folder(path.parent)
            except OSError as error:
                raise refused(path, error) from error


def root(path: str | Path) -> Path:
    """The run folder that a path names: itself, or the folder of a log.

    Raises
    ------
    RunError                there is none
    """
    path = Path(path).resolve()
    folder = path.parent if path.is_file() and path.name == "log.h5" else path
    if not (folder / "checkpoint.h5").is_file():
        what = "no run folder (it has no checkpoint.h5)" if path.exists() else "does not exist"
        raise RunError(f"{path}: {what}. Give the folder that `bioplaus run` made, or the log.h5 in it.")
    return folder


def status(folder: Path, record: Record) -> str:
    """How the run in a folder stands. A killed one is "running" until it is resumed: its log is not whole."""
    commits, stated = packed(folder)
    if commits < record.commits or not stated or (stated == "finished" and not (folder / "summary.json").is_file()):
        return "running"
    return stated


def _root(record: Record, status: str) -> dict[str, Any]:
    return record.attributes | {"status": status, "commits": record.commits}


def _make(disk: Disk, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.folder(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"{path.parent}: no folder can be made here ({error.strerror}). Name another with --out."
        ) from error
