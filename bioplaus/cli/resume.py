"""bioplaus resume: go on from the last checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from bioplaus.cli.options import ALLOW_CODE, DATA_DIR, OUTPUT, limit_threads, stop_on_signal, warnings_on_one_line


@click.command(short_help="Go on from the last checkpoint of a run.")
@click.argument("run")
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="E",
    help="Train on to so many epochs in all; the last phase becomes longer.",
)
@DATA_DIR
@OUTPUT
@ALLOW_CODE
def command(run: str, epochs: int | None, data_dir: str | None, quiet: bool, as_json: bool, allow_code: bool) -> None:
    """Go on with RUN (a run folder or its log), to the bit what an uninterrupted run gives."""
    limit_threads(written_in=(Path(run) if Path(run).is_dir() else Path(run).parent) / "config.yaml")
    from bioplaus.cli import progress
    from bioplaus.train import run as training

    if training.complete(run, epochs):
        if not quiet and not as_json:
            click.echo(f"{run}: complete. Train on with a larger --epochs.")
        return
    watching = progress.watching(quiet=quiet, as_json=as_json)
    with stop_on_signal() as stopping, warnings_on_one_line(), watching:
        done = training.resume(
            run,
            epochs=epochs,
            data_dir=data_dir,
            allow_code=allow_code,
            listeners=(watching,),
            begin=watching.begin,
            progress=False,
            stopping=stopping,
        )
    watching.ended(done)
