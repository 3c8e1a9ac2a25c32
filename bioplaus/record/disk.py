"""The only place that changes the file system: write beside, sync, rename, sync the folder.

Every primitive step is one method of ``Disk``, so a test can stand in for it and fail, or die, before and
after each. A file is either the old one or the new one, never half of it.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from bioplaus.errors import RunError, RunFailed

if sys.platform != "win32":
    import fcntl

NEW = ".new"  # ends the hidden name under which things are written before they appear


class Disk:
    """The primitive steps; each takes effect as a whole or raises OSError."""

    def folder(self, path: Path) -> None:
        """Make a folder; fine where it already is."""
        path.mkdir(exist_ok=True)

    def create(self, path: Path) -> FileIO:
        """A new empty file to write and read."""
        return FileIO(path, "w+")

    def write(self, file: FileIO, data: Any) -> None:
        """All of data at the file's position."""
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]

    def truncate(self, file: FileIO, size: int) -> None:
        """Cut or stretch to size bytes."""
        file.truncate(size)

    def sync(self, file: FileIO) -> None:
        """Not back before the file's bytes are on the disk."""
        os.fsync(file.fileno())

    def sync_folder(self, path: Path) -> None:
        """Not back before the folder's names are on the disk."""
        if sys.platform == "win32":  # folders cannot be opened there, and renames are journalled
            return
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Put source in the place of target, in one step."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()


class Sink:
    """A file the HDF5 library can write to, which never raises into that library.

    An exception on its way through HDF5 leaves the library with a file it cannot close and crashes the
    interpreter at exit. So the first error is kept in ``error``, later writes are only counted (``end`` is
    then the size that was needed), and ``replacing`` raises it once HDF5 is done.
    """

    def __init__(self, disk: Disk, file: FileIO) -> None:
        """Write to file, from its start, by the steps of disk."""
        self.error: BaseException | None = None
        self.end = 0
        self._disk, self._file, self._at = disk, file, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to offset from the start, from here or from the end."""
        self._at = offset + (0, self._at, self.end)[whence]
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def write(self, data: Any) -> int:
        """All of data at the position, unless something already went wrong."""
        size = memoryview(data).nbytes
        if self.error is None:
            try:
                self._file.seek(self._at)
                self._disk.write(self._file, data)
            except BaseException as error:  # kept, and raised by replacing()
                self.error = error
        self._at += size
        self.end = max(self.end, self._at)
        return size

    def truncate(self, size: int) -> int:
        """Cut or stretch, unless something already went wrong."""
        if self.error is None and size != self.end:
            try:
                self._disk.truncate(self._file, size)
            except BaseException as error:  # kept, and raised by replacing()
                self.error = error
        self.end = size
        return size

    def read(self, size: int = -1) -> bytes:
        """Up to size bytes from the position."""
        self._file.seek(self._at)
        data = self._file.read(size)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill buffer from the position."""
        self._file.seek(self._at)
        size = self._file.readinto(buffer) or 0
        self._at += size
        return size

    def flush(self) -> None:
        """Nothing is held back here."""


@contextmanager
def replacing(disk: Disk, path: Path) -> Iterator[Sink]:
    """Write a file beside ``path`` and put it there whole when the body ends.

    Raises
    ------
    RunFailed
        the disk refused; ``path`` is as it was, or (where only the last sync failed) the new one
    """
    beside = path.with_name(f".{path.name}{NEW}")
    sink: Sink | None = None
    try:
        with disk.create(beside) as file:
            sink = Sink(disk, file)
            yield sink
            if sink.error is not None:
                raise sink.error
            disk.sync(file)
        disk.rename(beside, path)
        disk.sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            disk.remove(beside)
        first = error if sink is None or sink.error is None else sink.error  # HDF5 may have stumbled over it since
        if isinstance(first, OSError):
            raise refused(path, first, 0 if sink is None else sink.end) from first
        raise first from None


def write(disk: Disk, path: Path, data: bytes) -> None:
    """Put a small file in place, whole."""
    with replacing(disk, path) as sink:
        sink.write(data)


def append(disk: Disk, path: Path, at: int, data: bytes) -> None:
    """Write data at byte ``at``, which is where the valid part of the file ends; nothing else stays behind it."""
    try:
        with FileIO(path, "r+") as file:
            if file.seek(0, os.SEEK_END) != at:
                disk.truncate(file, at)
            file.seek(at)
            try:
                if data:
                    disk.write(file, data)
                disk.sync(file)
            except OSError:
                with suppress(OSError):
                    disk.truncate(file, at)
                raise
    except OSError as error:
        raise refused(path, error, len(data)) from error


def clear(disk: Disk, folder: Path) -> None:
    """Remove all files in a folder and in those inside it, and these too."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            clear(disk, path)
            disk.remove_folder(path)
        else:
            disk.remove(path)


def refused(path: Path, error: OSError, needed: int = 0) -> RunFailed:
    """The one line for a disk that would not take a file."""
    room = f", {needed / 1e6:.2f} MB needed" if needed else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with suppress(OSError):
            room += f", {shutil.disk_usage(path.parent).free / 1e6:.2f} MB free"
    return RunFailed(
        f"{path}: cannot be written ({error.strerror or error}{room}). "
        "What was complete before is still there: make room or access, then go on from it."
    )


def lock(folder: Path) -> int | None:
    """Claim a run folder for this process until the handle is closed or the process ends, however it ends.

    Raises
    ------
    RunError
        another process is writing there
    """
    if sys.platform == "win32":
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RunError(f"{folder}: another process is writing this run. Wait for it, or stop it first.") from None
    except OSError:  # a network file system without locks
        os.close(handle)
        return None
    return handle
