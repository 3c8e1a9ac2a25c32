"""``bioplaus check``: what is wrong with a YAML file, or whether a part keeps its contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bioplaus.errors import ConfigError, UserError, nearest
from bioplaus.registry import KINDS

CLASSES = 10  # of a network that is built to see whether it can be


@click.command("check")
@click.argument("words", nargs=-1, required=True, metavar="FILE | KIND NAME")
@click.option("--allow-code", is_flag=True, help="Let a YAML FILE run the Python files it names.")
def command(words: tuple[str, ...], allow_code: bool) -> None:
    """Validate a rule or network FILE; or run the contract on the part NAME of KIND. A network is built, too.

    NAME is a listed name or a reference to code: ./my_rule.py:MyRule or package.module:Name. Every line printed
    is a claim that held; the first that does not ends the check.
    """
    if len(words) == 1:
        _check_file(words[0], allow_code)
    elif len(words) == 2:
        _check_part(*words)
    else:
        raise click.UsageError(f"given {' '.join(words)!r}, wanted FILE, or KIND NAME.")


def _check_part(kind: str, name: str) -> None:
    from bioplaus.testing import check, sample

    if kind not in KINDS:
        raise ConfigError(f"no kind of part named {kind!r}{nearest(kind, KINDS)}")
    held = check(kind, sample(kind, name, allow_code=True))  # the user named the code on the command line
    for claim in held:
        click.echo(f"ok  {claim}")
    click.echo(f"{kind} {name}: keeps its contract, {len(held)} claims.")


def _check_file(name: str, allow_code: bool) -> None:
    from bioplaus import config

    path = Path(name)
    if not path.exists():
        path = config.find("network" if Path(name).stem in config.shipped("network") else "rule", name)
    wrong = (
        config.check_file(path, allow_code=allow_code)
        or list(_wrong_parts(path, allow_code))
        or list(_misfits(path, allow_code))
    )
    if wrong:
        raise ConfigError("\n".join(wrong))
    click.echo(f"{name}: nothing wrong.")


def _wrong_parts(path: Path, allow_code: bool) -> Iterator[str]:
    """Messages about parts of a well-formed file: names that do not exist, parameters that do not fit."""
    from bioplaus.config import text
    from bioplaus.construct import listed

    document = text.read(path)
    data = text.absolute(document.data, document.folder) if allow_code else document.data
    for keys, kind, spec in _specs(data):
        where = document.message(keys, "").removesuffix(": ")
        try:
            listed(kind, spec, where, allow_code=allow_code)
        except UserError as error:
            yield str(error) if str(error).startswith(where) else f"{where}: {error}"


def _misfits(path: Path, allow_code: bool) -> Iterator[str]:
    """The message of what does not fit together in a network file, found by building it."""
    from bioplaus import assemble, config
    from bioplaus.config import text

    if "input" not in text.read(path).data:
        return
    plain = {"rule": "check", "defaults": {"update": {"rate": 0.0}}}
    try:
        settings = config.load(plain, network=path, allow_code=allow_code)
        output = assemble.assembled(settings, classes=CLASSES, xp=assemble.array_library("numpy")).output
    except UserError as error:
        yield str(error)
    else:
        if len(output) != 1:
            ends = f"ends in samples of shape {output}, wanted (classes,)"
            yield f"{path}: {ends}. Let its last layer be {{dense: classes}}."


def _specs(data: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str, Any]]:
    """(keys, kind, specification) of every part a file names in full; changes of inherited parts are left to build."""
    places: list[tuple[tuple[str | int, ...], Any]] = [(("defaults",), data.get("defaults"))]
    overrides = {} if "input" in data else data.get("layers") or {}  # a network's layers are no choices of parts
    numbered = enumerate(overrides) if isinstance(overrides, list) else [(None, overrides)]
    for i, override in numbered:
        under = ("layers",) if i is None else ("layers", i)
        places += [((*under, address), choices) for address, choices in override.items()]
    training = data.get("training") or {}
    places += [
        (("training", "phases", i), {"update": p.get("update")}) for i, p in enumerate(training.get("phases") or [])
    ]
    found = [((*keys, kind), kind, spec) for keys, kinds in places for kind, spec in (kinds or {}).items()]
    found += [(("training", "rate"), "schedule", training.get("rate"))]
    found += [((key,), key, data.get(key)) for key in ("pass", "loss")]
    for keys, kind, spec in found:
        if isinstance(spec, str | list) or (isinstance(spec, dict) and "recipe" in spec):
            yield keys, kind, spec
    for name, given in (data.get("losses") or {}).items():
        spec = {"recipe": given} if isinstance(given, str) else {**(given or {})}
        if "recipe" in spec or "from" not in data:
            own = {key: value for key, value in spec.items() if key not in ("weight", "on")}
            yield ("losses", name), "loss", {"recipe": name, **own}
    for i, item in enumerate((data.get("data") or {}).get("augment") or []):
        yield ("data", "augment", i), "transform", item
