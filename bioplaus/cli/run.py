"""bioplaus run: train a network by a rule on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bioplaus.cli.options import ALLOW_CODE, DATA_DIR, OUTPUT, limit_threads, stop_on_signal


@click.command(short_help="Train a network by a rule on a data set; write one run folder.")
@click.argument("rule")
@click.option("--dataset", metavar="D", help="digits, mnist, cifar10, ... (`bioplaus list dataset`), or a path.")
@click.option(
    "--network", metavar="N", help="A name (`bioplaus list network`) or a path; else the rule's, or the data set's own."
)
@click.option("--backend", metavar="B", help="A name (`bioplaus list backend`); auto takes torch if installed.")
@click.option("--device", metavar="auto|cpu|cuda:0", help="auto takes a GPU if there is one.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]))
@click.option("--threads", type=click.IntRange(1), metavar="T", help="Threads one operation may use.")
@click.option("--seed", type=click.IntRange(0), metavar="S")
@click.option("--epochs", type=click.IntRange(1), metavar="E")
@click.option(
    "--set", "sets", multiple=True, metavar="a.b=c", help="Change any key, as --set defaults.update.rate=1e-4."
)
@click.option("--from", "initial", metavar="RUN", help="Start from the weights of this run.")
@DATA_DIR
@click.option("--out", metavar="DIR", help="The run folder; runs/<date>-<rule>-... where left out.")
@OUTPUT
@ALLOW_CODE
def command(
    rule: str,
    dataset: str | None,
    network: str | None,
    sets: tuple[str, ...],
    initial: str | None,
    data_dir: str | None,
    out: str | None,
    quiet: bool,
    as_json: bool,
    allow_code: bool,
    threads: int | None,
    **flags: Any,
) -> None:
    """Train a network by RULE (a shipped name or a path; also the config.yaml of an earlier run).

    Example: bioplaus run rules/usf_bn_bm.yaml --dataset cifar10
    """
    limit_threads(threads, written_in=Path(rule))
    from bioplaus.cli import progress
    from bioplaus.train import run as training

    watching = progress.watching(quiet=quiet, as_json=as_json)
    with stop_on_signal() as stopping, watching:
        done = training.run(
            rule,
            dataset=dataset,
            network=network,
            out=out,
            initial=initial,
            data_dir=data_dir,
            sets=sets,
            listeners=(watching,),
            begin=watching.begin,
            progress=False,
            stopping=stopping,
            allow_code=allow_code,
            threads=threads,
            **flags,
        )
    watching.ended(done)
