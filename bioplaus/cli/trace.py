"""bioplaus trace: the way of one test image up through a run's generative network, and down again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bioplaus.cli import table
from bioplaus.cli.options import ALLOW_CODE, DATA_DIR, ELSEWHERE, PICTURES, pictures_of

if TYPE_CHECKING:
    from bioplaus.train.pictures import Traced

HEADS = ("layer", "units", "active", "active %", "carried by 1 % of units, %")
TOP = 5  # classes named


@click.command(short_help="Follow one test image up and down a generative network.")
@click.argument("run")
@click.option("--index", type=int, required=True, metavar="I", help="Which test image, from 0.")
@PICTURES
@DATA_DIR
@ELSEWHERE
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@ALLOW_CODE
def command(
    run: str,
    index: int,
    out: str | None,
    data_dir: str | None,
    backend: str | None,
    device: str | None,
    as_json: bool,
    allow_code: bool,
) -> None:
    """Follow one test image up through the generative network of RUN, and the class inferred down again.

    Writes trace-I.png: the image, its reconstruction, what each pixel contributes; and layer by layer, what units
    contribute, and where the fewest lie that together have 90 % of it.

    A unit's contribution is its activity times what is rendered there; it is active, on a path from the class to the
    image, where this is not 0. The last column is the share of all contribution, by size, that the hundredth of the
    units with most of it carries.
    """
    from bioplaus.report import pictures
    from bioplaus.train import run as training

    folder = pictures_of(run, out)
    pictures.check(folder)
    found = training.trace(run, index, data_dir=data_dir, backend=backend, device=device, allow_code=allow_code)
    drawn = pictures.save({f"trace-{index}": _figure(found)}, folder)
    likely = _likely(found)
    if as_json:
        about = {"run": run, "index": index, "label": found.label, "inferred": found.inferred}
        layers = [
            {
                "layer": path.layer,
                "units": int(path.active.size),
                "active": int(path.active.sum()),
                "carried": 100.0 * path.carried(),
            }
            for path in found.layers
        ]
        written = {name: str(path) for name, path in drawn.items()}
        more = {"posterior": dict(likely), "error": found.error, "layers": layers, "pictures": written}
        click.echo(json.dumps(about | more, ensure_ascii=False))
        return
    click.echo(drawn[f"trace-{index}"])
    said = ", ".join(f"{share:.3g} for {name}" for name, share in likely[:TOP])
    click.echo(f"test image {index}, of class {found.names[found.label]}: q(class | image) is {said}")
    table.show(HEADS, [_row(path) for path in found.layers])


def _row(path: Any) -> tuple[str, ...]:
    active = path.active
    shares = (100.0 * active.mean(), 100.0 * path.carried())
    return (path.layer, f"{active.size:,}", f"{active.sum():,}", *(f"{share:.1f}" for share in shares))


def _likely(found: Traced) -> list[tuple[str, float]]:
    order = (-found.posterior).argsort(kind="stable")
    return [(found.names[c], float(found.posterior[c])) for c in order]


def _figure(found: Traced) -> Any:
    from bioplaus.report import pictures

    return pictures.trace(
        found.index,
        found.label,
        found.inferred,
        found.posterior,
        found.names,
        found.image,
        found.reconstruction,
        found.saliency,
        [(path.layer, path.contribution, path.carrying(pictures.CARRIED)) for path in found.layers],
    )
