"""``bioplaus list``: which parts, rules and networks there are, and where each comes from."""

from __future__ import annotations

import ast
import json
from importlib.util import find_spec
from pathlib import Path

import click

from bioplaus.cli import table
from bioplaus.errors import ConfigError, nearest
from bioplaus.registry import KINDS, names, origin, reference

FILES = ("rule", "network")


@click.command("list")
@click.argument("kind", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON array of {kind, name, summary, origin}.")
def command(kind: str | None, as_json: bool) -> None:
    """List the kinds of parts, or the parts of one KIND: channel, norm, update, ..., rule, network.

    Nothing is loaded: a broken plug-in is listed like any other.
    """
    known = (*FILES, *KINDS)
    if kind is not None and kind not in known:
        raise ConfigError(f"no kind named {kind!r}{nearest(kind, known)}")
    found = {each: list_kind(each) for each in ([kind] if kind else known)}
    if as_json:
        click.echo(json.dumps([entry for entries in found.values() for entry in entries], indent=1))
    elif kind:
        rows = [(entry["name"], entry["summary"], entry["origin"]) for entry in found[kind]]
        table.show(("name", "what it is", "from"), rows)
    else:
        listed = [(each, ", ".join(entry["name"] for entry in entries) or "-") for each, entries in found.items()]
        table.show(("kind", "names"), listed)


def list_kind(kind: str) -> list[dict[str, str]]:
    """One entry for each part, rule or network of a kind: kind, name, summary, origin."""
    if kind not in FILES:
        return [{"kind": kind, "name": n, "summary": _summary(kind, n), "origin": origin(kind, n)} for n in names(kind)]
    from bioplaus import config

    return [
        {"kind": kind, "name": name, "summary": first_comment(config.find(kind, name)), "origin": origin_of_files()}
        for name in config.shipped(kind)
    ]


def origin_of_files() -> str:
    """Whose the shipped rules and networks are."""
    return origin("plasticity", "error")


def first_comment(path: Path) -> str:
    """What the first comment of a YAML file says it is; the editor's line is not meant."""
    lines = [line.lstrip("# ") for line in path.read_text("utf-8").splitlines() if line.startswith("#")]
    return next((line for line in lines if not line.startswith("yaml-language-server")), "")


def _summary(kind: str, name: str) -> str:
    """The first line of an installed part's docstring, read from its source without importing it."""
    module, _, attribute = reference(kind, name).partition(":")
    try:
        spec = find_spec(module)
        tree = ast.parse(Path(str(spec and spec.origin)).read_text("utf-8"))
    except Exception:  # whatever is wrong with a plug-in's source, `show` names it; a list goes on without a line
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""
