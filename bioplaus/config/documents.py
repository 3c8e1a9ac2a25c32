"""Everything that may say something about a run, as documents in the form of a rule file.

Rule files and their parents, values given in Python, flags of the command line, and ``--set``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bioplaus.config import text
from bioplaus.config.files import find
from bioplaus.config.parts import KINDS, written
from bioplaus.config.text import Document, Keys
from bioplaus.errors import ConfigError, nearest

_FLAGS: dict[str, Keys] = {
    name: (name,) for name in ("network", "dataset", "backend", "device", "dtype", "threads", "seed", "initial")
} | {"epochs": ("training", "epochs")}
_DATA_FILES = (".npz", ".h5", ".hdf5")


def rule(given: str | Path | Mapping[str, Any], *, allow_code: bool) -> list[Document]:
    """A rule by name, path or values, behind the one it is a variant of."""
    if isinstance(given, Mapping):
        return with_parent(replace(text.from_values(given, label="rule"), name="unnamed"), allow_code=True)
    return with_parent(text.read(find("rule", given)), allow_code=allow_code)


def with_parent(document: Document, *, allow_code: bool) -> list[Document]:
    """The document, behind the one that its ``from`` names."""
    document = vetted(_mapping(document), allow_code=allow_code)
    if "rule" not in document.data:
        document = replace(document, data={"rule": document.name, **document.data})
    name = document.data.get("from")
    if not isinstance(name, str):
        return [document]
    try:
        parent = vetted(_mapping(text.read(find("rule", name, beside=document.folder))), allow_code=allow_code)
    except ConfigError as error:
        raise ConfigError(document.message(("from",), str(error))) from None
    if "from" in parent.data:
        first = parent.data["from"]
        problem = (
            f"{name!r} is itself a variant of {first!r}; only one level is allowed. Begin from {first!r} and add what "
            f"{name!r} changes, or run {name!r} with --set."
        )
        raise ConfigError(document.message(("from",), problem))
    return [parent, document]


def vetted(document: Document, *, allow_code: bool) -> Document:
    """The document with its references to code made absolute, or a problem for each where code is not allowed."""
    found = [(path, name) for path, name in text.references(document.data) if path[:1] != ("device",)]
    if not found:
        return document
    if allow_code:
        return replace(document, data=text.absolute(document.data, document.folder))
    problems = tuple(
        document.message(path, f"{name!r} would run code from a file. If you trust it, add --allow-code.")
        for path, name in found
    )
    return replace(document, problems=(*document.problems, *problems))


def flag(name: str, value: Any) -> Document:
    """A flag of the command line as a document."""
    if name not in _FLAGS:
        raise ConfigError(f"no flag named {name!r}{nearest(name, _FLAGS)}")
    return _said(_nested(_FLAGS[name], value), f"--{name}")


def setting(item: str) -> Document:
    """``a.b=c`` as a document.

    Raises
    ------
    ConfigError     another form, or a value that is no plain YAML
    """
    key, _, value = item.partition("=")
    key = key.strip()
    if not key or not value.strip():
        raise ConfigError(f"--set {item}: wanted key.path=value, such as training.epochs=5.")
    parsed = text.parse(value, label=f"--set {key}")
    if parsed.problems:
        problems = (problem.removeprefix(f"--set {key}:1: ") for problem in parsed.problems)
        raise ConfigError("\n".join(f"--set: {key}: {problem}" for problem in problems))
    keys: Keys = tuple(key.split("."))
    if keys[0] == "layers" and len(keys) > 1:
        keys = _layer_keys(keys, parsed.data)
    return _said(_nested(keys, parsed.data), "--set")


def _said(values: dict[str, Any], label: str) -> Document:
    """Values from the command line, which may name code; it lies relative to the current folder."""
    document = text.from_values(values, label=label)
    return replace(document, data=text.absolute(document.data, document.folder))


def _mapping(document: Document) -> Document:
    if not isinstance(document.data, Mapping):
        raise ConfigError(document.message((), f"given {written(document.data)}, wanted keys and values."))
    return document


def _layer_keys(keys: Keys, value: Any) -> Keys:
    """``layers.stage1.conv1.norm.affine``: the address may be dotted, and ends where a choice begins."""
    end = next((i for i in range(2, len(keys)) if keys[i] in KINDS), len(keys))
    if end == len(keys) and not isinstance(value, Mapping):
        last = str(keys[-1])
        raise ConfigError(f"--set: {text.dotted(keys)}: no choice named {last!r}{nearest(last, KINDS)}")
    return ("layers", ".".join(str(key) for key in keys[1:end]), *keys[end:])


def _nested(keys: Keys, value: Any) -> dict[str, Any]:
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def data_path(name: str, folder: Path) -> str:
    """A data set that is a path, made absolute; a name stays."""
    given = text.home(name)
    is_path = len(given.parts) > 1 or given.suffix.lower() in _DATA_FILES or given.is_absolute()
    return str((folder / given).resolve()) if is_path and not text.is_reference(name) else name
