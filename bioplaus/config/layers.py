"""The layers of a network: how they are written, what their sizes may be, and the dotted names they get."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_args

from bioplaus import registry
from bioplaus.config.parts import Wrong, written
from bioplaus.construct import Layers, Parameter, Size, fitted, named, parameters, takes_any
from bioplaus.errors import ConfigError, UserError, nearest

Keys = tuple[str | int, ...]
_NAME = re.compile(r"[A-Za-z_]\w*")
_TIMES = r"(?:(\d+)\s*\*\s*)?classes"
_SIZE = re.compile(rf"{_TIMES}|max\(\s*(\d+)\s*,\s*{_TIMES}\s*\)")


@dataclass(frozen=True)
class LayerItem:
    """One layer as a network file lists it.

    Attributes
    ----------
    kind : str              ``conv``, ``relu``, ``residual``, ...
    name : str or None      dotted inside blocks; None for layers nobody addresses
    params : mapping        parameters as given; sizes may still speak of ``classes`` (see ``sized``), and the paths of
                            a block are tuples of items
    where : str             ``file:line: key`` for messages
    """

    kind: str
    name: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    where: str = field(default="", compare=False)


def size(value: int | str, classes: int) -> int:
    """A size as a number: an integer, ``classes``, ``k*classes`` or ``max(a, k*classes)``.

    Raises
    ------
    ConfigError     it is none of these
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ConfigError(f"given {written(value)}, wanted {named(Size)}")
    alone, least, beside = match.groups()
    if least is None:
        if alone is not None and int(alone) == 0:
            raise ConfigError(f"given {written(value)}, wanted {named(Size)}")
        return int(alone or 1) * classes
    return max(int(least), int(beside or 1) * classes)


def sized(item: LayerItem, classes: int) -> dict[str, Any]:
    """The parameters of a layer, with every size that speaks of ``classes`` as a number."""
    known = _kind(item.kind).parameters
    return {
        key: size(value, classes) if key in known and _speaks_of_classes(known[key].type, value) else value
        for key, value in item.params.items()
    }


def walk(items: Sequence[LayerItem]) -> Iterator[LayerItem]:
    """Every layer, blocks before what is inside them, paths in order."""
    for item in items:
        yield item
        for value in item.params.values():
            yield from walk(value) if isinstance(value, tuple) else ()


def weighted(items: Sequence[LayerItem]) -> list[str]:
    """What a rule can address: the names of all layers with weights, inside blocks too, in the order they are listed.

    A kind that says ``products = ("x", "h")`` has one for each of them: ``gru1.x``, ``gru1.h``.
    """
    return [name for item in walk(items) for name in _kind(item.kind).addresses(item.name or "")]


def states(items: Sequence[LayerItem]) -> list[str]:
    """What a rule can address beside weights: states of cells that a norm may stand on.

    A kind that says ``states = ("c",)`` has one for each of them: ``lstm1.c``.
    """
    return [f"{item.name}.{state}" for item in walk(items) for state in _kind(item.kind).states]


def write_layers(items: Sequence[LayerItem]) -> list[Any]:
    """The list that a reader reads back to the same items."""
    return [_written_item(item) for item in items]


def _kind(name: str) -> _Kind:
    return _Kind.of(registry.get("layer", name, allow_code=True))


class _Kind:
    """What the class behind a layer kind says of itself."""

    def __init__(self, part: Any) -> None:
        self.parameters = parameters(part)
        self.takes_any = takes_any(part)
        self.products: tuple[str, ...] = getattr(part, "products", ())
        self.states: tuple[str, ...] = getattr(part, "states", ())
        self.has_weights: bool = getattr(part, "has_weights", False)
        self.is_block = any(p.type == Layers for p in self.parameters.values())
        self.first = next(iter(self.parameters), None)  # the parameter that stands behind the kind

    @classmethod
    @cache
    def of(cls, part: Any) -> _Kind:
        """Read once: type hints take their time."""
        return cls(part)

    def addresses(self, name: str) -> list[str]:
        """The names of its weights."""
        return [f"{name}.{product}" for product in self.products] or [name] * self.has_weights


class Reader:
    """Reads the lists of layers of one network file, and notes everything wrong with them in ``problems``.

    Parameters
    ----------
    where : function    keys of the file -> the text that messages begin with
    run_code : bool     whether kinds that are references to code may be loaded; those that may not are left out
    """

    def __init__(self, where: Callable[[Keys], str], *, run_code: bool = True) -> None:
        """Nothing read yet."""
        self.where = where
        self.run_code = run_code
        self.kinds = set(registry.names("layer"))
        self.problems: list[Wrong] = []
        self.names: set[str] = set()

    def path(self, value: Any, prefix: str, at: Keys) -> tuple[LayerItem, ...]:
        """The items of one list, their names behind ``prefix``; it stands at the keys ``at``."""
        if not isinstance(value, list | tuple):
            self.problems.append(Wrong(f"given {written(value)}, wanted a list of layers", *at))
            return ()
        items = []
        for place, entry in enumerate(value):
            try:
                items.append(self._item(entry, prefix, (*at, place)))
            except Wrong as error:
                self.problems.append(error)
        return tuple(items)

    def _item(self, entry: Any, prefix: str, at: Keys) -> LayerItem:
        if isinstance(entry, str):
            return self._layer(entry, None, {entry: None}, prefix, at)
        if not isinstance(entry, Mapping) or len(entry) != 1:
            given = f"{len(entry)} keys" if isinstance(entry, Mapping) else written(entry)
            raise Wrong(f"given {given}, wanted a kind such as relu, or one key: {{name: {{kind: value}}}}", *at)
        ((key, value),) = entry.items()
        if key in self.kinds:
            return self._unnamed(key, value, prefix, at)
        if not isinstance(value, Mapping) or not value:
            raise Wrong(f"no layer kind named {key!r}{nearest(key, self.kinds)} {_HOW}", *at, key)
        if not _NAME.fullmatch(key):
            raise Wrong(f"{key!r} is no layer name; wanted letters, digits and _, no digit first", *at, key)
        name = f"{prefix}{key}"
        if name in self.names:
            raise Wrong(f"a layer named {name!r} stands above; every name is used once", *at, key)
        self.names.add(name)
        return self._layer(next(iter(value)), name, value, f"{name}.", (*at, key))

    def _unnamed(self, kind: str, value: Any, prefix: str, at: Keys) -> LayerItem:
        if isinstance(value, Mapping):
            return self._layer(kind, None, {kind: None, **value}, prefix, (*at, kind))
        return self._layer(kind, None, {kind: value}, prefix, at)

    def _layer(self, kind: str, name: str | None, value: Mapping[str, Any], prefix: str, at: Keys) -> LayerItem:
        """One layer; ``value`` holds the kind with what stands behind it, then the parameters."""
        if kind not in self.kinds and ":" not in kind:
            raise Wrong(f"no layer kind named {kind!r}{nearest(kind, self.kinds)}", *at)
        if ":" in kind and not self.run_code:
            return LayerItem(kind, name)
        try:
            known = _kind(kind)
        except UserError as error:
            raise Wrong(str(error), *at) from None
        if name is None and (known.has_weights or known.products or known.is_block):
            raise Wrong(f"{kind} needs a name: {{my_name: {{{kind}: ...}}}}", *at)
        given, spots = _given(kind, known.first, value, at)
        params = {}
        for key, inner in given.items():
            if key not in known.parameters and not known.takes_any:
                hint = nearest(key, known.parameters) if known.parameters else "; it has none."
                raise Wrong(f"{kind} has no parameter {key!r}{hint}", *spots[key])
            params[key] = self._value(known.parameters.get(key, Parameter(key, Any)), inner, prefix, spots[key])
        for parameter in known.parameters.values():
            if parameter.is_required and parameter.name not in params:
                more = "" if parameter.name == known.first else f", {parameter.name}: ..."
                form = f"{{{kind}: ...{more}}}"
                form = f"{{{name.rpartition('.')[2]}: {form}}}" if name else form
                raise Wrong(f"{kind} needs its {parameter.name}: {form}", *at)
        return LayerItem(kind, name, params, where=self.where(at))

    def _value(self, parameter: Parameter, value: Any, prefix: str, at: Keys) -> Any:
        """A parameter's value: the layers of a block as items, anything else as given, once it is known to fit."""
        if parameter.type == Layers:
            return self.path(value, prefix, at)
        try:
            if _speaks_of_classes(parameter.type, value):
                size(value, 1)
            else:
                fitted(parameter.type, value)
        except ConfigError as error:
            raise Wrong(str(error), *at) from None
        except ValueError as wanted:
            raise Wrong(f"given {written(value)}, wanted {wanted}", *at) from None
        return value


_HOW = "A named layer is written {name: {kind: value}}."


def _given(kind: str, first: str | None, value: Mapping[str, Any], at: Keys) -> tuple[dict[str, Any], dict[str, Keys]]:
    """Parameters by name, with the one that stands behind the kind; and where each is written."""
    main = value[kind]
    given = {key: inner for key, inner in value.items() if key != kind}
    spots = {key: (*at, key) for key in given}
    if main is None:
        return given, spots
    if first is None:
        raise Wrong(f"{kind} has no parameters; given {written(main)}", *at)
    if first in given:
        raise Wrong(f"given twice, here and behind {kind}; keep one", *at, first)
    return {first: main, **given}, {first: (*at, kind), **spots}


def _speaks_of_classes(hint: Any, value: Any) -> bool:
    return isinstance(value, str) and "classes" in value and Size in (hint, *get_args(hint))


def _written_item(item: LayerItem) -> Any:
    params = {key: write_layers(value) if isinstance(value, tuple) else value for key, value in item.params.items()}
    if item.name is None:
        return {item.kind: params} if params else item.kind
    first = _kind(item.kind).first
    main = params.pop(first, None) if first else None
    return {item.name.rpartition(".")[2]: {item.kind: main, **params}}
