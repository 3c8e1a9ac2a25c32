"""``bioplaus data``: get the files of a data set, or check the ones that are there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from bioplaus.errors import ConfigError, DataError


@click.command("data")
@click.argument("act", type=click.Choice(["fetch", "verify"]))
@click.argument("dataset")
@click.option(
    "--data-dir",
    envvar="BIOPLAUS_DATA",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where data sets lie, each in a folder of its name.  [env: BIOPLAUS_DATA]",
)
def command(act: str, dataset: str, data_dir: Path | None) -> None:
    """Download what is missing of a data set, or verify every file of it.

    A download that was broken off goes on where it stopped; what does not match its checksum is not kept.
    """
    from bioplaus.data import fetch

    if data_dir is None:
        raise ConfigError("no data directory. Give --data-dir DIR, or set BIOPLAUS_DATA.")
    if act == "fetch":
        with _progress() as progress:
            fetched = fetch.fetch(dataset, data_dir, progress)
        for path in fetched:
            click.echo(f"{path}: downloaded and verified.")
        if not fetched:
            click.echo(f"{dataset}: nothing to download.")
        return
    statuses = fetch.verify(dataset, data_dir)
    wrong = [status for _, status in statuses if status != "ok"]
    for name, status in statuses:
        if status == "ok":
            click.echo(f"ok  {name}")
    if wrong:
        raise DataError("\n".join(wrong))
    if not statuses:
        click.echo(f"{dataset}: needs no files.")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar for each file on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def advance(name: str, here: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=here, total=total or None)

        yield advance
