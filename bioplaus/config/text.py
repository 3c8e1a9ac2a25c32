"""YAML text in, plain values out, with the line every key stands in.

YAML 1.2 without its dangers: no tags, no merge keys, no number that is not finite; text, aliases and depth
have limits. Every problem becomes a message that starts with ``file:line:``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from bioplaus.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000  # after aliases are written out
MAX_DEPTH = 40
MAX_DIGITS = 64

Keys = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Document:
    """One parsed file: its values, where each stands, and what is wrong with it so far."""

    data: Any
    label: str  # the file as messages name it
    folder: Path  # what relative paths inside it are relative to
    name: str = ""  # of the file, without suffix
    lines: dict[Keys, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    prefix: Keys = ()  # keys in the file that lead to ``data``
    changes: Mapping[Keys, str] = field(default_factory=dict)  # keys of ``data`` written elsewhere, and where

    def inside(self, key: str) -> Document:
        """The document below one key, which keeps its lines."""
        return replace(self, data=self.data[key], prefix=(*self.prefix, key), name="", problems=())

    def at(self, path: Keys) -> str:
        """``file:line`` of the deepest key on this path that the file holds, or where else that was written."""
        if path in self.changes:
            return self.changes[path]
        path = (*self.prefix, *path)
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return f"{self.label}:{self.lines[path[:end]]}"
        return self.label

    def message(self, path: Keys, text: str) -> str:
        """One line about a key of this file."""
        keys = dotted((*self.prefix, *path))
        if self.label in (f"--{keys}", f"--{keys.rpartition('.')[2]}"):
            keys = ""
        return f"{self.at(path)}: {keys}: {text}" if keys else f"{self.label}: {text}"

    def by_line(self, problems: Iterable[str]) -> list[str]:
        """Messages about this file in the order of its lines, the first for each key; those about no line come last."""

        def line(problem: str) -> int:
            number = problem.removeprefix(f"{self.label}:").partition(":")[0]
            return int(number) if number.isdecimal() else MAX_BYTES

        first: dict[tuple[str, ...], str] = {}
        for problem in sorted(problems, key=line):
            first.setdefault(tuple(problem.split(": ", 2)[:2]), problem)
        return list(first.values())


def dotted(path: Keys) -> str:
    """``("layers", 2, "conv")`` as users write it: ``layers.2.conv``."""
    return ".".join(str(key) for key in path)


def shown(path: Path) -> str:
    """A path as short as it can be said: relative to the current folder where it lies inside."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def home(name: str) -> Path:
    """The path a name means, ``~`` written out."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # the user behind the ~ does not exist
        return Path(name)


def read(path: Path) -> Document:
    """The YAML file as a Document.

    Raises
    ------
    ConfigError     missing, unreadable, too large, not UTF-8, empty, or not YAML
    """
    label = shown(path)
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ConfigError(f"{label}: is a folder; wanted a YAML file.")
        if size > MAX_BYTES:
            raise ConfigError(f"{label}: {size} bytes; a YAML file here may have {MAX_BYTES}. Is this the right file?")
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{label}: cannot be read: {error.strerror}.") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{label}:{line}: byte {raw[error.start]:#04x} is not UTF-8 text; save the file as UTF-8."
        ) from error
    return replace(parse(text, label=label), folder=path.resolve().parent, name=path.stem)


def parse(text: str, *, label: str) -> Document:
    """YAML text as a Document. Duplicate keys, tags and infinite numbers are noted as problems; the rest is raised."""
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{label}{line}: not YAML: {_reason(error, text)}.") from error
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{label}: not YAML: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise ConfigError(f"{label}: nested too deeply; {MAX_DEPTH} levels are allowed.") from error
    if node is None:
        raise ConfigError(f"{label}: is empty; wanted keys and values.")
    values = _Values(label)
    data = values.of(node, ())
    return Document(data, label, Path.cwd(), lines=values.lines, problems=tuple(values.problems))


def from_values(data: Any, *, label: str) -> Document:
    """Values given in Python, as a Document without lines."""
    return Document(_listed(data), label, Path.cwd())


def _listed(value: Any) -> Any:
    """The value as YAML would have given it."""
    if isinstance(value, Mapping):
        return {key: _listed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _reason(error: MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1]:
        return "a tab stands where YAML wants spaces"
    return " ".join(f"{error.context or ''} {error.problem or ''}".split()) or "cannot be parsed"


class _Values:
    """Walks a node tree once, aliases written out."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.lines: dict[Keys, int] = {}
        self.problems: list[str] = []
        self.count = 0

    def of(self, node: Node, path: Keys) -> Any:
        self.count += 1
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if self.count > MAX_VALUES:
            raise ConfigError(
                f"{self.label}: more than {MAX_VALUES} values once its aliases are written out; use fewer aliases."
            )
        if len(path) > MAX_DEPTH:
            raise ConfigError(f"{self.label}:{line}: nested too deeply; {MAX_DEPTH} levels are allowed.")
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        if isinstance(node, SequenceNode):
            self.plain(node, path, "seq")
            return [self.of(item, (*path, place)) for place, item in enumerate(node.value)]
        return self.scalar(node, path)

    def mapping(self, node: MappingNode, path: Keys) -> dict[str, Any]:
        self.plain(node, path, "map")
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self.problem(path, line, "a key must be text, not a list or a mapping")
                continue
            key = key_node.value
            if key in data:
                first = self.lines[(*path, key)]
                self.problem((*path, key), line, f"stands twice, first in line {first}; keep one")
                continue
            self.lines[(*path, key)] = line
            data[key] = self.of(value_node, (*path, key))
        return data

    def scalar(self, node: Node, path: Keys) -> Any:
        tag = str(node.tag).removeprefix(_TAG)
        text: str = node.value
        if tag in _READ:
            try:
                return _READ[tag](text)
            except (ValueError, KeyError):
                self.problem(path, node.start_mark.line + 1, f"{text[:40]} is not {_KINDS[tag]}")
                return None
        self.plain(node, path, "str", "timestamp", "merge")
        return text

    def plain(self, node: Node, path: Keys, *allowed: str) -> None:
        if str(node.tag).removeprefix(_TAG) not in allowed:
            self.problem(path, node.start_mark.line + 1, f"tag {node.tag} is not allowed; write plain values")

    def problem(self, path: Keys, line: int, text: str) -> None:
        where = f"{dotted(path)}: " if path else ""
        self.problems.append(f"{self.label}:{line}: {where}{text}.")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError
    return int(text, 0 if text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else 10)


def _finite(text: str) -> float:
    number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if not math.isfinite(number):
        raise ValueError
    return number


_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_READ: dict[str, Callable[[str], Any]] = {
    "null": lambda text: _WORDS[text.lower()],
    "bool": lambda text: _WORDS[text.lower()],
    "int": _whole,
    "float": _finite,
}
_KINDS = {
    "null": "null",
    "bool": "true or false",
    "int": f"a whole number of at most {MAX_DIGITS} digits",
    "float": "a finite number",
}


def references(value: Any, path: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Every text in a document that is a reference to code, ``file.py:Name`` or ``package.module:Name``."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if is_reference(key):
                yield (*path, key), key
            yield from references(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from references(inner, (*path, place))
    elif isinstance(value, str) and is_reference(value):
        yield path, value


def is_reference(text: str) -> bool:
    """Does the text name code: ``./my_rule.py:MyRule`` or ``package.module:Name``?"""
    source, colon, name = text.rpartition(":")
    return bool(colon) and name.isidentifier() and bool(source) and (source.endswith(".py") or _is_module(source))


def absolute(value: Any, folder: Path) -> Any:
    """The same values with every reference to a file of code relative to ``folder`` made absolute."""
    if isinstance(value, dict):
        return {absolute(key, folder): absolute(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [absolute(inner, folder) for inner in value]
    if isinstance(value, str) and is_reference(value) and value.rpartition(":")[0].endswith(".py"):
        return os.path.normpath(folder / home(value))
    return value


def _is_module(source: str) -> bool:
    return all(part.isidentifier() for part in source.split("."))
