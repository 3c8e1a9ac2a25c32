"""bioplaus evaluate: score the network of a run."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from bioplaus.cli.options import ALLOW_CODE, DATA_DIR


@click.command(short_help="Score the network of a run.")
@click.argument("run")
@click.option("--dataset", metavar="D", help="Another data set of the same shape and classes.")
@DATA_DIR
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@ALLOW_CODE
def command(run: str, dataset: str | None, data_dir: str | None, as_json: bool, allow_code: bool) -> None:
    """Loss and error of the network of RUN at its last checkpoint, split by split."""
    from bioplaus.train import run as training

    scores = training.evaluate(run, dataset=dataset, data_dir=data_dir, allow_code=allow_code)
    if as_json:
        click.echo(json.dumps({name: asdict(score) for name, score in scores.items()}))
        return
    for name, score in scores.items():
        click.echo(f"{name:>10}  loss {score.loss:.4f}  error {score.error:.2f} %  ({score.samples:,} samples)")
