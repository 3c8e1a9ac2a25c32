"""The layers of a network: how they are written, what their sizes may be, and the dotted names they get."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bioplaus import registry
from bioplaus.config.parts import Wrong, written
from bioplaus.errors import ConfigError, nearest

# Layer kinds whose parameters are known here. First: the one that stands behind the kind itself.
PARAMETERS = {
    "dense": ("units",),
    "conv": ("filters", "kernel", "stride", "pad"),
    "conv_transposed": ("filters", "kernel", "stride", "pad", "extra"),
    "embedding": ("units", "words"),
    "maxpool": ("size", "stride", "pad"),
    "avgpool": ("size", "stride", "pad"),
    "globalmeanpool": (),
    "flatten": (),
    "relu": (),
    "tanh": (),
    "identity": (),
    "affine": (),
    "norm": (),
    "dropout": ("p",),
}
WEIGHTS = ("dense", "conv", "conv_transposed", "embedding")
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
    params : mapping        parameters as given; sizes may still speak of ``classes`` (see ``size``)
    main : any              of a kind that is not built in: the value behind the kind, its first parameter
    layers, shortcut        the two paths of a residual block
    where : str             ``file:line: key`` for messages
    """

    kind: str
    name: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    main: Any = None
    layers: tuple[LayerItem, ...] = ()
    shortcut: tuple[LayerItem, ...] = ()
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
        raise ConfigError(f"given {written(value)}, {WANTED_SIZE}")
    alone, least, beside = match.groups()
    if least is None:
        if alone is not None and int(alone) == 0:
            raise ConfigError(f"given {written(value)}, {WANTED_SIZE}")
        return int(alone or 1) * classes
    return max(int(least), int(beside or 1) * classes)


WANTED_SIZE = "wanted a size: a whole number above 0, classes, k*classes, or max(a, k*classes)"


def walk(items: Sequence[LayerItem]) -> Iterator[LayerItem]:
    """Every layer, blocks before what is inside them, paths in order."""
    for item in items:
        yield item
        yield from walk(item.layers)
        yield from walk(item.shortcut)


def read_layers(value: Any, where: Any) -> tuple[tuple[LayerItem, ...], list[Wrong]]:
    """The ``layers`` list of a network file, and everything wrong with it.

    Parameters
    ----------
    value : list
    where : function        keys inside the list -> the text that messages begin with
    """
    reader = _Reader(where)
    items = reader.path(value, "", ())
    return items, reader.problems


def write_layers(items: Sequence[LayerItem]) -> list[Any]:
    """The list that ``read_layers`` reads back to the same items."""
    return [_written_item(item) for item in items]


class _Reader:
    def __init__(self, where: Any) -> None:
        self.where = where
        self.kinds = set(registry.names("layer")) | set(PARAMETERS) | {"residual"}
        self.problems: list[Wrong] = []
        self.names: set[str] = set()

    def path(self, value: Any, prefix: str, at: tuple[str | int, ...]) -> tuple[LayerItem, ...]:
        if not isinstance(value, list | tuple):
            self.problems.append(Wrong(f"given {written(value)}, wanted a list of layers", *at))
            return ()
        items = []
        for place, entry in enumerate(value):
            try:
                items.append(self.item(entry, prefix, (*at, place)))
            except Wrong as error:
                self.problems.append(error)
        return tuple(items)

    def item(self, entry: Any, prefix: str, at: tuple[str | int, ...]) -> LayerItem:
        if isinstance(entry, str):
            return self.layer(entry, None, {entry: None}, prefix, at)
        if not isinstance(entry, Mapping) or len(entry) != 1:
            given = f"{len(entry)} keys" if isinstance(entry, Mapping) else written(entry)
            raise Wrong(f"given {given}, wanted a kind such as relu, or one key: {{name: {{kind: value}}}}", *at)
        ((key, value),) = entry.items()
        if key in self.kinds:
            return self.unnamed(key, value, prefix, at)
        if not isinstance(value, Mapping) or not value:
            raise Wrong(f"no layer kind named {key!r}{nearest(key, self.kinds)} {_HOW}", *at, key)
        if not _NAME.fullmatch(key):
            raise Wrong(f"{key!r} is no layer name; wanted letters, digits and _, no digit first", *at, key)
        name = f"{prefix}{key}"
        if name in self.names:
            raise Wrong(f"a layer named {name!r} stands above; every name is used once", *at, key)
        self.names.add(name)
        return self.layer(next(iter(value)), name, value, f"{name}.", (*at, key))

    def unnamed(self, kind: str, value: Any, prefix: str, at: tuple[str | int, ...]) -> LayerItem:
        if isinstance(value, Mapping):
            return self.layer(kind, None, {kind: None, **value}, prefix, (*at, kind))
        return self.layer(kind, None, {kind: value}, prefix, at)

    def layer(
        self, kind: str, name: str | None, value: Mapping[str, Any], prefix: str, at: tuple[str | int, ...]
    ) -> LayerItem:
        """One layer; ``value`` holds the kind with what stands behind it, then the parameters."""
        if kind not in self.kinds and ":" not in kind:
            raise Wrong(f"no layer kind named {kind!r}{nearest(kind, self.kinds)}", *at)
        if name is None and kind in (*WEIGHTS, "residual"):
            raise Wrong(f"{kind} needs a name: {{my_name: {{{kind}: ...}}}}", *at)
        where = self.where(at)
        if kind == "residual":
            return self.residual(name, value, prefix, at)
        main = value[kind]
        params = {key: inner for key, inner in value.items() if key != kind}
        known = PARAMETERS.get(kind)
        if known is None:
            return LayerItem(kind, name, params, main, where=where)
        if main is not None:
            if not known:
                raise Wrong(f"{kind} has no parameters; given {written(main)}", *at)
            if known[0] in params:
                raise Wrong(f"given twice, here and behind {kind}; keep one", *at, known[0])
            params = {known[0]: main, **params}
        for key, inner in params.items():
            spot = (*at, kind) if main is not None and (key,) == known[:1] else (*at, key)
            if key not in known:
                hint = nearest(key, known) if known else "; it has none."
                raise Wrong(f"{kind} has no parameter {key!r}{hint}", *spot)
            _check(key, inner, spot)
        if known and known[0] not in params:
            form = f"{{{kind}: ...}}"
            raise Wrong(f"{kind} needs its {known[0]}: {f'{{{name}: {form}}}' if name else form}", *at)
        return LayerItem(kind, name, params, where=where)

    def residual(self, name: str | None, value: Mapping[str, Any], prefix: str, at: tuple[str | int, ...]) -> LayerItem:
        for key in value:
            if key not in ("residual", "shortcut"):
                raise Wrong(f"residual has no parameter {key!r}{nearest(key, ['shortcut'])}", *at, key)
        inner = self.path(value["residual"], prefix, (*at, "residual"))
        shortcut = self.path(value["shortcut"], prefix, (*at, "shortcut")) if "shortcut" in value else ()
        return LayerItem("residual", name, layers=inner, shortcut=shortcut, where=self.where(at))


_HOW = "A named layer is written {name: {kind: value}}."


def _check(key: str, value: Any, at: tuple[str | int, ...]) -> None:
    """The form of one parameter of a built-in kind."""
    if key in ("units", "filters"):
        try:
            size(value, 1)
        except ConfigError as error:
            raise Wrong(str(error), *at) from None
    elif key == "pad":
        if not (_whole(value, 0) or _wholes(value, 4, 0) or value in ("valid", "half", "full")):
            raise Wrong(
                f"given {written(value)}, wanted valid, half, full, a whole number, or [top, bottom, left, right]", *at
            )
    elif key in ("kernel", "stride", "size"):
        if not (_whole(value, 1) or _wholes(value, 2, 1)):
            raise Wrong(f"given {written(value)}, wanted a whole number above 0, or [height, width]", *at)
    elif key == "p" and not (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1):
        raise Wrong(f"given {written(value)}, wanted the share to drop, from 0 to below 1", *at)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _wholes(value: Any, count: int, least: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == count and all(_whole(v, least) for v in value)


def _written_item(item: LayerItem) -> Any:
    if item.kind == "residual":
        inner: dict[str, Any] = {"residual": write_layers(item.layers)}
        if item.shortcut:
            inner["shortcut"] = write_layers(item.shortcut)
    elif item.kind in PARAMETERS:
        known = PARAMETERS[item.kind][:1]
        rest = {key: value for key, value in item.params.items() if key not in known}
        inner = {item.kind: item.params[known[0]] if known else None, **rest}
    else:
        inner = {item.kind: item.main, **item.params}
    if item.name is not None:
        return {item.name.rpartition(".")[2]: inner}
    if set(inner) == {item.kind} and inner[item.kind] is None:
        return item.kind
    return {item.kind: dict(item.params) if item.params else item.main}
