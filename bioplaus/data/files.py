"""Finds the files of a data set in the data directory, and reads what is inside them, checked.

An archive is what is downloaded, its members what the data are. Members are verified (size, checksum) and
archives never: the same samples in another wrapping are the same samples. Archives are read in memory, one
member at a time; nothing is unpacked onto the disk.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bioplaus.errors import DataError

READ_ERRORS = (tarfile.TarError, zlib.error, EOFError, OSError)


@dataclass(frozen=True)
class Member:
    """One file the samples are in, as the archive's makers wrote it.

    ``checksum`` is ``sha256:`` or ``md5:`` and hexadecimal digits, empty where none is known for sure.
    """

    name: str
    size: int
    checksum: str = ""


@dataclass(frozen=True)
class Archive:
    """One file to download: a .tar.gz with members, a .gz with one, or the one member itself."""

    name: str
    size: int  # bytes of the published file
    url: str
    members: tuple[Member, ...]


def directory(given: Path | None) -> Path | None:
    """The data directory: the one given, else what BIOPLAUS_DATA names."""
    if given is not None:
        return given
    named = os.environ.get("BIOPLAUS_DATA")
    return Path(named) if named else None


def read(dataset: str, archives: Sequence[Archive], data_dir: Path | None) -> Iterator[tuple[str, bytes]]:
    """(member name, its bytes), verified, for every member of every archive.

    Each archive is looked for in ``data_dir`` and ``data_dir/<dataset>``, unpacked or as it was downloaded.

    Raises
    ------
    DataError       a file that is missing, cut short or altered; says which to put where
    """
    if data_dir is None:
        wanted = ", ".join(archive.name for archive in archives)
        raise DataError(
            f"data set {dataset!r}: no data directory given. Put {wanted} into a folder and name it with --data-dir "
            f"or BIOPLAUS_DATA, or run: bioplaus data fetch {dataset}"
        )
    for archive in archives:
        yield from open_archive(dataset, archive, data_dir)


def open_archive(dataset: str, archive: Archive, data_dir: Path) -> Iterator[tuple[str, bytes]]:
    """The members of one archive, verified, from where it lies."""
    found = locate(dataset, archive, data_dir)
    if not found:
        raise DataError(
            f"data set {dataset!r}: {archive.name} not found. Put it ({archive.size} bytes, {archive.url}) "
            f"into {data_dir / dataset} or {data_dir}, or run: bioplaus data fetch {dataset}"
        )
    if found[0].name == archive.name:
        yield from members(found[0], archive, dataset)
    else:
        for path, member in zip(found, archive.members, strict=True):
            yield member.name, verified(read_plain(path, member.size), member, str(path), dataset)


def locate(dataset: str, archive: Archive, data_dir: Path) -> list[Path]:
    """Where an archive's members lie unpacked, or the archive itself; empty if neither is there."""
    for folder in (data_dir / dataset, data_dir):
        unpacked = [path for member in archive.members if (path := unpacked_at(folder, member))]
        if len(unpacked) == len(archive.members):
            return unpacked
        if (folder / archive.name).is_file():
            return [folder / archive.name]
    return []


def unpacked_at(folder: Path, member: Member) -> Path | None:
    """Where a member lies by itself, with or without the archive's own folder."""
    places = (folder / member.name, folder / Path(member.name).name)
    return next((path for path in places if path.is_file()), None)


def members(path: Path, archive: Archive, dataset: str) -> Iterator[tuple[str, bytes]]:
    """The members inside this file, in the file's order, verified."""
    wanted = {member.name: member for member in archive.members}
    try:
        for name, size, data in contents(path, archive, wanted):
            member = wanted.pop(name)
            if size != member.size:
                raise wrong_size(f"{path}: {name}", size, member, dataset)
            yield name, verified(data, member, f"{path}: {name}", dataset)
            if not wanted:
                return
    except READ_ERRORS as error:
        raise DataError(
            f"{path}: cut short or damaged at {', '.join(wanted)} ({error}; {path.stat().st_size} bytes found, "
            f"{archive.size} published). Remove it and run: bioplaus data fetch {dataset}"
        ) from error
    raise DataError(f"{path}: {', '.join(wanted)} not inside. Remove it and run: bioplaus data fetch {dataset}")


def contents(path: Path, archive: Archive, wanted: dict[str, Member]) -> Iterator[tuple[str, int, bytes]]:
    """(name, size, bytes) of the wanted members; no more bytes of each than it should have, and one."""
    if archive.name.endswith(".tar.gz"):
        with tarfile.open(path, "r|gz", bufsize=1 << 20) as tar:
            for entry in tar:
                name = entry.name.removeprefix("./")
                if name in wanted and entry.isreg():
                    stream = tar.extractfile(entry)
                    fits = stream is not None and entry.size == wanted[name].size
                    yield name, entry.size, stream.read() if stream and fits else b""
    elif archive.name.endswith(".gz"):
        (member,) = wanted.values()
        with gzip.open(path) as packed:
            data = packed.read(member.size + 1)
            yield member.name, len(data), data
    else:
        (member,) = wanted.values()
        yield member.name, path.stat().st_size, read_plain(path, member.size)


def read_plain(path: Path, size: int) -> bytes:
    """A file's bytes, at most one more than wanted."""
    with path.open("rb") as file:
        return file.read(size + 1)


def verified(data: bytes, member: Member, where: str, dataset: str) -> bytes:
    """The same bytes, if they are the member's."""
    if len(data) != member.size:
        raise wrong_size(where, len(data), member, dataset)
    if member.checksum:
        kind, expected = member.checksum.split(":")
        found = hashlib.new(kind, data, usedforsecurity=False).hexdigest()
        if found != expected:
            raise DataError(
                f"{where}: altered, {kind} {found} found, {expected} expected. "
                f"Remove it and run: bioplaus data fetch {dataset}"
            )
    return data


def wrong_size(where: str, found: int, member: Member, dataset: str) -> DataError:
    """What to say about a member that is too short or too long."""
    size = f"more than {member.size}" if found == member.size + 1 else str(found)
    return DataError(
        f"{where}: {size} bytes found, {member.size} expected. Remove it and run: bioplaus data fetch {dataset}"
    )
