"""bioplaus prune: what is left of the network of a run, and a smaller one without what is dead."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from bioplaus.cli import table
from bioplaus.cli.options import ALLOW_CODE, DATA_DIR, ELSEWHERE

SHARES = ("weights %", "neurons %", "active %")


@click.command(short_help="Show what is left of a pruned network; write a smaller one.")
@click.argument("run")
@click.option("--out", metavar="COMPACT", help="Write a run folder with the network without its dead units.")
@DATA_DIR
@ELSEWHERE
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@ALLOW_CODE
def command(
    run: str,
    out: str | None,
    data_dir: str | None,
    backend: str | None,
    device: str | None,
    as_json: bool,
    allow_code: bool,
) -> None:
    """What is left of the network of RUN at its last checkpoint: weights, neurons, activity, operations.

    Pruning itself is a choice of the rule: `bioplaus run uili_sp --dataset mnist --from RUN` prunes a trained network.

    weights %: synapses that exist. neurons %: units that exist, before pooling. active %: what the next layer is given
    that is not zero, after pooling, over the test set. FLOP %: weights x neurons x activity of the layer before.
    Of a generative network both ways count, and rendered % is what each layer renders that is not zero.

    --out writes a run folder with a smaller network of equal outputs, which can be scored, and trained on by
    `bioplaus resume COMPACT --epochs E`.
    """
    from bioplaus.train import run as training

    rows, smaller = training.prune(
        run, out=out, data_dir=data_dir, backend=backend, device=device, allow_code=allow_code
    )
    layers, total = rows[:-1], rows[-1]
    fewer = {"weights": 100.0 / total.kept, "flops": 100.0 / total.flops_left}
    if as_json:
        made = {} if smaller is None else {"compact": {**asdict(smaller), "path": str(smaller.path)}}
        found = {"run": run, "layers": [asdict(row) for row in layers], "total": asdict(total), "fewer": fewer}
        click.echo(json.dumps(found | made))
        return
    if total.active_down is None:
        table.show(("layer", "weights", "FLOP", *SHARES, "FLOP %"), [_said(row) for row in rows])
    else:
        heads = ("layer", "weights", "FLOP up", "FLOP down", *SHARES, "rendered %", "FLOP %")
        table.show(heads, [_said_both_ways(row) for row in rows])
    counts = f"{fewer['weights']:.1f} times fewer weights, {fewer['flops']:.1f} times fewer operations"
    still = "; weights of dead neurons still count" if total.neurons < 100.0 else ""
    click.echo(f"{counts} where zeros are skipped{still}")
    if smaller is not None:
        units = ", ".join(f"{name} {before} → {after}" for name, (before, after) in smaller.units.items())
        click.echo(f"{smaller.path}: {units}; {smaller.weights[0]:,} → {smaller.weights[1]:,} weights in arrays")
        click.echo(f"outputs on the test set differ by {smaller.difference:.1g} of the largest at most")


def _said(row: Any) -> tuple[str, ...]:
    shares = (row.kept, row.neurons, row.active, row.flops_left)
    return (row.layer, f"{row.weights:,}", f"{row.flops:,}", *(f"{share:.1f}" for share in shares))


def _said_both_ways(row: Any) -> tuple[str, ...]:
    sizes = (row.weights, row.flops, row.flops_down)
    shares = (row.kept, row.neurons, row.active, row.active_down, row.flops_left)
    return (row.layer, *(f"{size:,}" for size in sizes), *(f"{share:.1f}" for share in shares))
