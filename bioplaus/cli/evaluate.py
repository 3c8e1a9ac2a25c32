"""bioplaus evaluate: score the network of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from bioplaus.cli.options import ALLOW_CODE, DATA_DIR, ELSEWHERE

if TYPE_CHECKING:
    from bioplaus.train.session import Session


@click.command(short_help="Score the network of a run.")
@click.argument("run")
@click.option("--dataset", metavar="D", help="Another data set of the same shape and classes.")
@click.option("--readout", type=click.IntRange(1), metavar="T", help="Read a graph out at this time.")
@DATA_DIR
@ELSEWHERE
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@ALLOW_CODE
def command(
    run: str,
    dataset: str | None,
    readout: int | None,
    data_dir: str | None,
    backend: str | None,
    device: str | None,
    as_json: bool,
    allow_code: bool,
) -> None:
    """Loss and error of the network of RUN at its last checkpoint, split by split.

    With another --readout than the run's own the statistics of its norms are first settled anew, on training data, at
    all times up to it; those of streaming norms stay, and times beyond training have its last.
    """
    from bioplaus.train import run as training

    def say(session: Session) -> None:
        for note in session.dataset.notes if not as_json else ():
            click.echo(note)

    scores = training.evaluate(
        run,
        dataset=dataset,
        readout=readout,
        data_dir=data_dir,
        backend=backend,
        device=device,
        allow_code=allow_code,
        begin=say,
    )
    if as_json:
        click.echo(json.dumps({name: score.row() for name, score in scores.items()}))
        return
    for name, score in scores.items():
        likely = "" if score.perplexity is None else f"perplexity {score.perplexity:.2f}  "
        wrong = "" if score.error is None else f"error {score.error:.2f} %  "
        counted = "symbols" if likely else "samples"
        click.echo(f"{name:>10}  loss {score.loss:.4f}  {likely}{wrong}({score.samples:,} {counted})")
