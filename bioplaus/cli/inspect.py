"""bioplaus inspect: what the log of a run holds, also of one that is still going or was killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from bioplaus.cli import table

HEADS = ("log", "shape", "first", "last", "what it is")
ABOUT = ("seed", "backend", "device", "dtype", "threads", "parameters", "started")


@click.command(short_help="Show what the log of a run holds.")
@click.argument("run")
@click.argument("path", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(run: str, path: str | None, as_json: bool) -> None:
    """Show what the log of RUN (a run folder or its log) holds, or the part of it below PATH.

    Each column has its shape, its first and last row (a number, or the least, mean and greatest), and its units;
    --json also tells the names of the axes.
    Only rows that a checkpoint counts are shown. Example: bioplaus inspect runs/mine conv1/norm
    """
    from bioplaus.record import describe, open_run

    found = describe(open_run(run), path)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    about = found["attributes"]
    stands = {"running": "running, or killed while it was"}.get(found["status"], found["status"])
    click.echo(f"{found['path']}: {stands}")
    click.echo("{rule} on {dataset}, network {network}".format_map(about))
    click.echo(", ".join(f"{name} {about[name]}" for name in ABOUT if name in about))
    if found["tables"]:
        table.show(HEADS, list(_rows(found["tables"])))
        if found.get("never_due"):
            click.echo(_too_short(**found))
    else:
        click.echo("no rows yet: the first come with the first checkpoint.")


def _rows(tables: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The tree, a line each: groups, tables, columns."""
    shown: list[str] = []
    for path, content in tables.items():
        parts = path.split("/")
        for depth, part in enumerate(parts):
            if parts[: depth + 1] != shown[: depth + 1]:
                rows = f"{content['rows']} row{'s' * (content['rows'] != 1)}" if depth + 1 == len(parts) else ""
                yield ("  " * depth + part + "/", rows, "", "", _times(content) if rows else "")
                shown = parts[: depth + 1]
        for name, column in content["columns"].items():
            what = column["long_name"] + (f" ({column['units']})" if column["units"] != "1" else "")
            ends = _said(column["first"]), _said(column["last"])
            yield ("  " * len(parts) + name, "×".join(map(str, column["shape"])), *ends, what)


def _too_short(never_due: dict[str, str], made: dict[str, int], **found: Any) -> str:
    """What never came due, and what to do: a line."""
    keys: dict[str, list[str]] = {}
    for key, cadence in never_due.items():
        keys.setdefault(cadence, []).append(key)
    waiting = ", ".join(f"{', '.join(names)} (every {cadence.removeprefix('1 ')})" for cadence, names in keys.items())
    so_far = ", ".join(f"{count} {unit}{'s' * (count != 1)}" for unit, count in made.items())
    advice = f"To have them sooner: bioplaus run with --set 'record.{next(iter(never_due))}=1 update'."
    return f"never due in {so_far}: {waiting}. {advice}"


def _times(content: dict[str, Any]) -> str:
    """At how many times a layer is walked, where it is not at all of them."""
    walked = content.get("walked")
    return f"walked at {sum(walked)} of {len(walked)} times; these are numbers of those" if walked else ""


def _said(value: Any) -> str:
    """A row in a few letters: ``0.031``, or ``-1.2 … 0.03 … 1.4`` for least, mean and greatest."""
    if isinstance(value, dict):
        missing = f", {value['not_numbers']} not a number" if "not_numbers" in value else ""
        return " … ".join(_said(value[name]) for name in ("min", "mean", "max")) + missing
    if value is None:
        return "not a number"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
