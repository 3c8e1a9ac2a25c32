"""Names of parts: which there are, where each comes from, and the one asked for.

Built-in parts come through the same door as anybody else's: entry points in the group ``bioplaus.<kind>``
of an installed package. Listing reads names only; a part is imported when ``get`` asks for it, so a broken
plug-in is reported by name, alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from bioplaus.errors import PartError, nearest

KINDS = {
    "layer": "layer",
    "pass": "pass",
    "loss": "loss",
    "channel": "feedback channel",
    "norm": "norm",
    "update": "update",
    "plasticity": "plasticity",
    "pruning": "pruning",
    "dataset": "data set",
    "backend": "backend",
    "norm_ref": "norm reference",
    "norm_stats": "norm statistic",
    "norm_op": "norm operation",
    "link": "update link",
    "cut": "pruning cut",
    "schedule": "rate schedule",
    "transform": "data transform",
}
OPTIONAL = ("norm", "plasticity", "pruning")  # kinds where `none` is a choice

T = TypeVar("T")
_added: dict[tuple[str, str], Any] = {}


def names(kind: str) -> list[str]:
    """The names of all parts of one kind, sorted; nothing is imported.

    Raises
    ------
    PartError       there is no such kind
    """
    _known(kind)
    return sorted({*_installed(tuple(sys.path))[kind], *(name for k, name in _added if k == kind)})


def get(kind: str, name: str, *, allow_code: bool = False) -> Any:
    """The part of that name: a class, or a function that makes one; loaded now, and only once.

    Parameters
    ----------
    kind : str              a key of ``KINDS``
    name : str              a listed name, or a reference ``./my_rule.py:MyRule`` or ``package.module:Name``
    allow_code : bool       references run code that nobody installed as a part; refused unless True

    Raises
    ------
    PartError               unknown name, broken plug-in, one name in two packages, or a reference not allowed
    """
    _known(kind)
    if (kind, name) in _added:
        return _added[kind, name]
    if ":" in name:
        if not allow_code:
            raise PartError(f"{KINDS[kind]} {name!r} runs code that is not an installed part. Allow it: --allow-code.")
        return _referred(kind, name)
    if name == "none" and kind in OPTIONAL:
        raise PartError(f"{KINDS[kind]} 'none' is the absence of one: there is no part to load. Write {kind}: none.")
    entries = _installed(tuple(sys.path))[kind].get(name, [])
    if not entries:
        known = [*names(kind), *(["none"] if kind in OPTIONAL else [])]
        raise PartError(f"no {KINDS[kind]} named {name!r}{nearest(name, known)} See `bioplaus list {kind}`.")
    if len(entries) > 1:
        raise PartError(f"{KINDS[kind]} {name!r} is offered by {origin(kind, name)}. Uninstall all but one.")
    try:
        return _loaded(entries[0])
    except Exception as cause:  # whatever a plug-in's import raises is the plug-in's fault, and is named
        raise PartError(
            f"{KINDS[kind]} {name!r} of {origin(kind, name)} cannot be loaded from {entries[0].value!r}: "
            f"{_one_line(cause)}. Repair or uninstall that package."
        ) from cause


def origin(kind: str, name: str) -> str:
    """Where a part comes from: ``bioplaus 0.1.0``, a file, or ``added in this program``; nothing is imported."""
    _known(kind)
    if (kind, name) in _added:
        return "added in this program"
    return " and ".join(_distribution(entry) for entry in _installed(tuple(sys.path))[kind].get(name, [])) or name


def reference(kind: str, name: str) -> str:
    """Where the code of an installed part stands, ``package.module:Name``; empty for all others."""
    _known(kind)
    entries = _installed(tuple(sys.path))[kind].get(name, [])
    return entries[0].value if len(entries) == 1 and (kind, name) not in _added else ""


def add(kind: str, name: str, part: Any) -> None:
    """Offer a part under a name until the program ends; adding the same name again replaces it.

    Raises
    ------
    PartError       the name is taken by an installed part, or is not one a YAML file could write
    """
    _known(kind)
    if not name.isidentifier() or name in ("none", "recipe"):
        raise PartError(f"{KINDS[kind]} {name!r}: a name is a word of letters, digits and '_' other than none, recipe.")
    if name in _installed(tuple(sys.path))[kind]:
        raise PartError(f"{KINDS[kind]} {name!r} is a part of {origin(kind, name)}. Choose another name.")
    _added[kind, name] = part


def register(kind: str, name: str) -> Callable[[T], T]:
    """Decorator: offer a class or recipe of this notebook or script under a name.

    Examples
    --------
    >>> @register("plasticity", "covariance_example")
    ... class Covariance:
    ...     needs = {"x", "y"}
    >>> get("plasticity", "covariance_example").needs == {"x", "y"}
    True
    """

    def adding(part: T) -> T:
        add(kind, name, part)
        return part

    return adding


def _known(kind: str) -> None:
    if kind not in KINDS:
        raise PartError(f"no kind of part named {kind!r}{nearest(kind, KINDS)}")


@cache
def _installed(path: tuple[str, ...]) -> dict[str, dict[str, list[EntryPoint]]]:
    """All entry points that Python's path (the key of the cache) leads to: kind -> name -> offers."""
    table: dict[str, dict[str, list[EntryPoint]]] = {kind: {} for kind in KINDS}
    every = entry_points()
    for kind, offers in table.items():
        for entry in every.select(group=f"bioplaus.{kind}"):
            offers.setdefault(entry.name, []).append(entry)
    return table


@cache
def _loaded(entry: EntryPoint) -> Any:
    return entry.load()


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _referred(kind: str, name: str) -> Any:
    """The part behind ``./my_rule.py:MyRule`` (from the current folder) or ``package.module:Name``."""
    source, _, attribute = name.rpartition(":")
    try:
        if source.endswith(".py"):
            path = Path(source).expanduser().resolve(strict=True)
            module = _file(path, path.stat().st_mtime_ns)
        else:
            module = importlib.import_module(source)
        found = getattr(module, attribute, None)
    except Exception as cause:
        raise PartError(f"{KINDS[kind]} {name!r} cannot be loaded: {_one_line(cause)}.") from cause
    if found is None:
        own = [each for each, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        raise PartError(f"{KINDS[kind]} {name!r}: {source} has no {attribute!r}{nearest(attribute, own)}")
    return found


@cache
def _file(path: Path, changed: int) -> Any:
    """A file as a module; loaded anew when it has changed (the second key of the cache)."""
    name = f"bioplaus_file_{path.stem}_{abs(hash((path, changed))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _one_line(cause: BaseException) -> str:
    return " ".join(f"{type(cause).__name__}: {cause}".split()).rstrip(".")
