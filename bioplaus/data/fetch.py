"""Downloads the files of a data set, resuming what was broken off, and checks the ones that are there."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from bioplaus import registry
from bioplaus.data import files
from bioplaus.data.files import Archive
from bioplaus.errors import DataError

Progress = Callable[[str, int, int], None]  # file name, bytes here, bytes in all (0: not known)
BLOCK = 1 << 18
PATIENCE = 30.0  # seconds without an answer
COMPLETE = 416  # the server's "nothing left from there on"


def verify(name: str, data_dir: Path) -> list[tuple[str, str]]:
    """(file, ``ok`` or what is wrong with it) for every file of a data set; empty where it needs none.

    Raises
    ------
    PartError       no data set of that name
    """
    return [(archive.name, status(name, archive, data_dir)) for archive in registry.get("dataset", name).files]


def status(name: str, archive: Archive, data_dir: Path) -> str:
    """``ok``, or in one line why this file cannot be used."""
    try:
        for _ in files.open_archive(name, archive, data_dir):
            pass
    except DataError as error:
        return str(error)
    return "ok"


def fetch(name: str, data_dir: Path, progress: Progress | None = None) -> list[Path]:
    """Downloads what is missing of a data set into ``data_dir/<name>``.

    What arrives is written under another name (``.part``), and gets its own once its members are verified. A
    download broken off goes on where it stopped. Files that are there are never overwritten.

    Parameters
    ----------
    progress : called with (file name, bytes here, bytes in all), often

    Returns
    -------
    list of the files downloaded now

    Raises
    ------
    PartError       no data set of that name
    DataError       no connection, broken off, not the published file, or a damaged file in its place
    """
    fetched = []
    for archive in registry.get("dataset", name).files:
        if files.locate(name, archive, data_dir):
            for _ in files.open_archive(name, archive, data_dir):
                pass
        else:
            target = data_dir / name / archive.name
            download(name, archive, target, progress or (lambda file, here, total: None))
            fetched.append(target)
    return fetched


def download(name: str, archive: Archive, target: Path, progress: Progress) -> None:
    """One file, resumed, verified, and moved to where it belongs."""
    part = target.with_name(f"{target.name}.part")
    by_hand = f"Put {archive.name} ({archive.size} bytes) into {target.parent} by hand"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        receive(archive, part, progress)
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{archive.url}: download failed ({reason}). Run again to go on, or: {by_hand}.") from error
    try:
        for _ in files.members(part, archive, name):
            pass
    except DataError as error:
        part.unlink()
        raise DataError(
            f"{archive.url}: not the published file, and not kept: {error.args[0].split('. ')[0]}. "
            f"Run again, or: {by_hand}."
        ) from error
    part.replace(target)


def receive(archive: Archive, part: Path, progress: Progress) -> None:
    """The bytes still missing from ``part``, appended; all of them where the server cannot resume."""
    here = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "bioplaus"} | ({"Range": f"bytes={here}-"} if here else {})
    try:
        response = urlopen(Request(archive.url, headers=headers), timeout=PATIENCE)
    except HTTPError as error:
        error.close()
        if here and error.code == COMPLETE:
            return
        raise
    with response:
        resumes = response.status == http.client.PARTIAL_CONTENT
        here = here if resumes else 0
        length = response.headers.get("Content-Length")
        total = here + int(length) if length else 0
        with part.open("ab" if resumes else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                here += len(block)
                progress(archive.name, here, total)
    if here < total:
        raise OSError(f"connection ended after {here} of {total} bytes")
