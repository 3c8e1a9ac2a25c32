"""``bioplaus schema``: JSON Schema of the YAML files, for editors."""

from __future__ import annotations

import json

import click


@click.command("schema")
@click.argument("kind", type=click.Choice(["rule", "network"]), default="rule")
def command(kind: str) -> None:
    """Write the JSON Schema of rule (or network) files to stdout.

    An editor that knows it completes keys and marks mistakes while you type.
    """
    from bioplaus import config

    click.echo(json.dumps(config.json_schema(kind), indent=2, ensure_ascii=False))
