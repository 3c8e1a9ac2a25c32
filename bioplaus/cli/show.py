"""``bioplaus show``: what a part is, what it can be given, what it claims; the text of a rule or network."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import click

from bioplaus.cli import table
from bioplaus.cli.list import FILES, first_comment, origin_of_files
from bioplaus.errors import ConfigError, nearest
from bioplaus.registry import KINDS, get, names, origin, reference


@click.command("show")
@click.argument("words", nargs=-1, required=True, metavar="[KIND] NAME")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, an object for each part of that name.")
def command(words: tuple[str, ...], as_json: bool) -> None:
    """Show what a part, rule or network is: its parameters, claims, source and origin.

    KIND is needed only where you want one of several parts of the same NAME.
    """
    if len(words) > 2:
        raise click.UsageError(f"given {' '.join(words)!r}, wanted [KIND] NAME.")
    kind, name = words if len(words) == 2 else (None, words[0])
    found = [_described(each, name) for each in _kinds_of(kind, name)]
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for k, part in enumerate(found):
        if k:
            click.echo()
        _print(part)


def _kinds_of(kind: str | None, name: str) -> list[str]:
    """The kinds to show: the one given, or all that have this name."""
    from bioplaus import config

    known = {each: config.shipped(each) for each in FILES} | {each: names(each) for each in KINDS}
    if kind is not None:
        if kind not in known:
            raise ConfigError(f"no kind named {kind!r}{nearest(kind, known)}")
        return [kind]
    if name.endswith((".yaml", ".yml")):
        return ["rule"]
    found = [each for each, listed in known.items() if name in listed]
    if not found:
        every = {each for listed in known.values() for each in listed}
        raise ConfigError(f"no part, rule or network named {name!r}{nearest(name, every)} See `bioplaus list`.")
    return found


def _described(kind: str, name: str) -> dict[str, Any]:
    if kind in FILES:
        from bioplaus import config

        path = config.find(kind, name)
        return {
            "kind": kind,
            "name": path.stem,
            "summary": first_comment(path),
            "path": str(path.resolve()),
            "origin": origin_of_files() if path.stem in config.shipped(kind) else "",
            "yaml": path.read_text("utf-8"),
        }
    part = get(kind, name)
    text = inspect.cleandoc(part.__doc__ or "")  # its own, not one it inherits
    return {
        "kind": kind,
        "name": name,
        "summary": _paragraphs(text)[0],
        "text": [p for p in _paragraphs(text)[1:] if not p.startswith("Source:")],
        "source": " ".join(p.removeprefix("Source:").strip() for p in _paragraphs(text) if p.startswith("Source:")),
        "parameters": _parameters(part),
        "claims": _claims(part),
        "origin": origin(kind, name),
        "code": reference(kind, name),
    }


def _paragraphs(text: str) -> list[str]:
    """Paragraphs; running text on one line each, indented formulas and tables as they stand."""
    found = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        is_running = not any(line.startswith(" ") or set(line) == {"-"} for line in lines)
        found.append(" ".join(lines) if is_running else paragraph)
    return found


def _parameters(part: Any) -> list[dict[str, str]]:
    from bioplaus.construct import parameters

    return [
        {"name": p.name, "type": _type(p.type), "default": "required" if p.is_required else _written(p.default)}
        for p in parameters(part).values()
    ]


def _type(hint: Any) -> str:
    from bioplaus.construct import named

    if get_origin(hint) in (Union, UnionType):
        return " | ".join(_type(each) for each in get_args(hint))
    if get_origin(hint) is Annotated:
        return named(hint) or _type(get_args(hint)[0])
    return inspect.formatannotation(hint).replace("typing.", "").replace("NoneType", "None")


def _written(value: Any) -> str:
    words = {True: "true", False: "false", None: "none"}
    return words[value] if value is None or isinstance(value, bool) else f"{value}"


def _claims(part: Any) -> dict[str, str]:
    """What a class says about all its parts: plain public class attributes that are no parameters."""
    if not isinstance(part, type):
        return {}
    own = {f.name for f in fields(part) if f.init} if is_dataclass(part) else set()
    found = {}
    for owner in reversed(part.__mro__[:-1]):
        for key, value in vars(owner).items():
            if not key.startswith("_") and key not in own and isinstance(value, property):
                found[key] = "depends on its parameters"
            elif not key.startswith("_") and key not in own and isinstance(value, bool | int | float | str):
                found[key] = _written(value)
            elif not key.startswith("_") and key not in own and isinstance(value, set | frozenset | tuple):
                found[key] = ", ".join(sorted(map(str, value))) if isinstance(value, set) else str(value)
    return found


def _print(part: dict[str, Any]) -> None:
    kind = KINDS.get(part["kind"], part["kind"])
    click.secho(f"{part['name']} ", bold=True, nl=False)
    click.echo(f"({kind})  {part['summary']}")
    if part["kind"] in FILES:
        click.echo(f"{_short(part['path'])}\n\n{part['yaml'].rstrip()}")
        return
    for paragraph in part["text"]:
        click.echo(f"\n{paragraph}")
    if part["parameters"]:
        click.echo()
        rows = [(p["name"], p["type"], p["default"]) for p in part["parameters"]]
        table.show(("parameter", "type", "default"), rows)
    click.echo()
    facts = {"claims": ", ".join(f"{k}: {v}" for k, v in part["claims"].items()), "source": part["source"]}
    for head, fact in {**facts, "from": f"{part['origin']}  {part['code']}".rstrip()}.items():
        if fact:
            click.echo(f"{head}: {fact}")


def _short(path: str) -> str:
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path
