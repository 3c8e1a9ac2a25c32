"""bioplaus generate: pictures of what the generative network of a run would draw."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bioplaus.cli.options import ALLOW_CODE, DATA_DIR, ELSEWHERE, PICTURES, pictures_of

if TYPE_CHECKING:
    from bioplaus.train.pictures import Generated


@click.command(short_help="Draw what a generative network would.")
@click.argument("run")
@PICTURES
@DATA_DIR
@ELSEWHERE
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is drawn at random.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@ALLOW_CODE
def command(
    run: str,
    out: str | None,
    data_dir: str | None,
    backend: str | None,
    device: str | None,
    seed: int,
    as_json: bool,
    allow_code: bool,
) -> None:
    """Draw what the generative network of RUN would at its last checkpoint; for networks with pass: generative.

    \b
    reconstructions.png  test images above what is rendered of them, and the class inferred
    samples.png          images sampled from the model, with the chances of its switches given the class
    templates.png        the mean of what is rendered of the images inferred as each class
    liked.png            of images of one length, the one that makes the output of each class largest; where the
                         climb to it began, and the class's template
    filters.png          what the units of the first layer draw: their weights as images, each in its own scale

    Of many classes or units the first are drawn, and the title says so. The mean squared error of the reconstructions
    is over all elements of all test images, as the network sees them.
    """
    from bioplaus.report import pictures
    from bioplaus.train import run as training

    folder = pictures_of(run, out)
    pictures.check(folder)
    found = training.generate(run, data_dir=data_dir, backend=backend, device=device, seed=seed, allow_code=allow_code)
    drawn = pictures.save(_figures(found), folder)
    survey = found.survey
    if as_json:
        numbers = {
            "images": survey.samples,
            "error": survey.error,
            "power": survey.power,
            "same_class": 100.0 * survey.same,
        }
        inferred = dict(zip(found.names, map(int, survey.found), strict=True))
        written = {name: str(path) for name, path in drawn.items()}
        click.echo(json.dumps({"run": run, **numbers, "inferred": inferred, "pictures": written}, ensure_ascii=False))
        return
    for path in drawn.values():
        click.echo(path)
    if found.filters is None:
        click.echo(f"no filters.png: units of layer {found.layer!r} draw no images")
    missed = f"{survey.error:.4g}, {100.0 * survey.missed:.1f} % of the images' own mean square"
    click.echo(f"mean squared error of the reconstructions: {missed} ({survey.samples:,} test images)")
    click.echo(f"classified like their image: {100.0 * survey.same:.2f} % of the reconstructions")


def _figures(found: Generated) -> dict[str, Any]:
    from bioplaus.report import pictures

    names, span = [found.names[c] for c in found.drawn], found.span
    note = f"; the first {len(names)} of {len(found.names)} classes" if len(names) < len(found.names) else ""
    inferred, same = found.survey.found[: len(names)], 100.0 * found.survey.same
    missed = 100.0 * found.survey.missed
    all_of_them = f"; of all, {same:.1f} % are classified like their image, {missed:.1f} % of the mean square is missed"
    figures = {
        "reconstructions": pictures.reconstructions(
            found.images, found.reconstructions, found.labels, found.inferred, found.names, span, all_of_them + note
        ),
        "samples": pictures.samples(found.samples, inferred, names, span, note),
        "templates": pictures.templates(found.templates, inferred, names, span, note),
        "liked": pictures.liked(found.liked, found.starts, found.survey.templates[: len(names)], inferred, names, note),
    }
    if found.filters is not None:
        figures["filters"] = pictures.filters(found.filters, found.layer)
    return figures
