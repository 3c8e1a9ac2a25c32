"""From what a user wrote to a part: a name and parameters in, a checked object out.

A part is a class or a recipe (a function that returns one). What it may be given is its signature; the type
hints there say what is allowed, and its own ``ValueError`` whatever hints cannot say.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import ConfigDict, PositiveInt, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from bioplaus.errors import ConfigError, PartError, nearest
from bioplaus.registry import OPTIONAL, get

EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class Wanted:
    """Beside a type hint, as in ``Annotated[int, Wanted("...")]``: how a message names what it stands for."""

    text: str


# A size in a network file may speak of the number of classes; by the time a layer is made it is a whole number.
Size = Annotated[PositiveInt, Wanted("a size: a whole number above 0, classes, k*classes, or max(a, k*classes)")]
Layers = Annotated[Sequence[Any], Wanted("a list of layers")]  # for a block: what ``site.chain`` takes


@dataclass(frozen=True)
class Parameter:
    """One parameter of a part: its name, its type hint (``Any`` without one), its default or ``EMPTY``."""

    name: str
    type: Any
    default: Any = EMPTY

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is EMPTY


def make(kind: str, spec: Any, where: str = "", *, allow_code: bool = False) -> Any:
    """The part that a specification describes.

    Parameters
    ----------
    kind : str              ``channel``, ``norm``, ... as in ``bioplaus list``
    spec : str or mapping   a name, or ``{"recipe": name, parameter: value, ...}``; for an update also a list of
                            links: a name, ``{name: first parameter, ...}`` or ``{name: {parameter: value}}``
    where : str             what messages begin with: ``rules/usf.yaml:7: layers.conv2.channel``
    allow_code : bool       whether names may be references to code, as in ``registry.get``

    Returns
    -------
    object                  the part; None for ``none`` where that is a choice; a tuple of links for an update

    Raises
    ------
    ConfigError             an unknown, missing or wrong parameter
    PartError               an unknown name, or a part that cannot be loaded
    """
    if kind in OPTIONAL and (spec is None or spec == "none" or spec == {"recipe": "none"}):
        return None
    if kind == "update" and _is_list(spec):
        return _chain(spec, where, allow_code)
    name, given = _split(kind, spec, where)
    part = _build(kind, name, given, where, allow_code)
    return _chain(part, where or f"update {name!r}", allow_code) if kind == "update" else part


def listed(kind: str, item: Any, where: str, *, allow_code: bool = False) -> Any:
    """One item of a list of parts: its first key is the part's name, its value the first parameter.

    Parameters and exceptions are those of ``make``; what is neither a name nor a mapping is a part already.
    """
    if not isinstance(item, str | Mapping):
        return item  # a recipe may return links ready made
    if isinstance(item, str) or "recipe" in item:
        return make(kind, item, where, allow_code=allow_code)
    if not item:
        raise ConfigError(f"{where}: given {{}}, wanted a {kind}: a name or {{name: value}}.")
    (name, first), *rest = item.items()
    given = dict(rest)
    if isinstance(first, Mapping):
        given |= first
    elif first is not None:
        try:
            known = list(parameters(get(kind, name, allow_code=allow_code)))
        except PartError as error:
            raise PartError(f"{where}: {error}") from error
        if not known:
            raise ConfigError(f"{where}: {name!r} has no parameters; given {first!r}. Write {name}.")
        given |= {known[0]: first}
    return make(kind, {"recipe": name, **given}, where, allow_code=allow_code)


def parameters(part: Any) -> dict[str, Parameter]:
    """What a class or recipe may be given: name -> hint and default, in the order of its signature.

    Raises
    ------
    PartError       its type hints name something that its module does not have
    """
    if not callable(part):
        return {}
    try:
        signature = inspect.signature(part)
        owner = getattr(part, "__init__") if isinstance(part, type) and not is_dataclass(part) else part  # noqa: B009
        hints = get_type_hints(owner, include_extras=True) if signature.parameters else {}
    except (NameError, TypeError, ValueError) as cause:
        raise PartError(f"{_title(part)}: its signature cannot be read: {cause}.") from cause
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        p.name: Parameter(p.name, hints.get(p.name, Any), p.default)
        for p in signature.parameters.values()
        if p.kind in kinds
    }


def takes_any(part: Any) -> bool:
    """Whether a class or recipe takes parameters of any name."""
    return callable(part) and any(p.kind is p.VAR_KEYWORD for p in inspect.signature(part).parameters.values())


def fitted(hint: Any, value: Any) -> Any:
    """The value as a type hint wants it: 1 for 1.0 and a list for a tuple are fine; text or true for a number is not.

    Raises
    ------
    ValueError      what is wanted instead: ``a whole number above 0``
    """
    try:
        if isinstance(value, float) and math.isnan(value):
            raise ValueError("a number")
        text = json.dumps(value)
    except TypeError:  # an object no YAML file can hold, made in Python: its receiver knows what to do with it
        return value
    try:
        return _adapter(hint).validate_json(text)  # as JSON, where a list may stand for a tuple
    except ValidationError as error:
        said = (_wanted(detail["msg"]) for detail in error.errors())
        raise ValueError(named(hint) or " or ".join(dict.fromkeys(said))) from None


def named(hint: Any) -> str:
    """The words of a hint's ``Wanted``, also where the hint is one of several alternatives; empty without one."""
    each = (extra for inner in (hint, *get_args(hint)) for extra in getattr(inner, "__metadata__", ()))
    return next((extra.text for extra in each if isinstance(extra, Wanted)), "")


def _build(kind: str, name: str, given: Mapping[str, Any], where: str, allow_code: bool) -> Any:
    try:
        part = get(kind, name, allow_code=allow_code)
        known = parameters(part)
    except PartError as error:
        raise PartError(f"{where}: {error}" if where else str(error)) from error
    at = where or f"{kind} {name!r}"
    for key in given:
        if key not in known and not takes_any(part):
            hint = nearest(str(key), known) if known else "; it has none."
            raise ConfigError(f"{at}: {name!r} has no parameter {key!r}{hint}")
    missing = [p.name for p in known.values() if p.is_required and p.name not in given]
    if missing:
        example = ", ".join(f"{key}: ..." for key in missing)
        raise ConfigError(f"{at}: {name!r} needs {', '.join(missing)}. Write {{recipe: {name}, {example}}}.")
    prefix = f"{where}." if where else f"{kind} {name!r}: "
    values = {key: _checked(known[key], value, prefix) if key in known else value for key, value in given.items()}
    if not callable(part):
        return part
    try:
        return part(**values)
    except ValueError as cause:  # the part's own word on its parameters
        raise ConfigError(f"{at}: {' '.join(str(cause).split())}") from cause


def _checked(parameter: Parameter, value: Any, prefix: str) -> Any:
    try:
        return fitted(parameter.type, value)
    except ValueError as wanted:
        raise ConfigError(f"{prefix}{parameter.name}: given {value!r}, wanted {wanted}.") from None


def _adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    except PydanticUserError:  # a pydantic model or a dataclass brings its own settings
        return TypeAdapter(hint)
    except SchemaError:  # an interface, which no value in a YAML file could show that it keeps
        return TypeAdapter(Any)


def _wanted(message: str) -> str:
    """Pydantic's word on a wrong value, without its beginning."""
    if longest := re.match(r"Tuple should have at most (\d+) items?", message):
        return f"no more than {longest[1]} items"
    words = {"Field required": "one more item", "Input should be a valid array": "a list"}
    return words.get(message, message.removeprefix("Input should be "))


def _split(kind: str, spec: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    """(name, parameters) of a bare name or a mapping with ``recipe``."""
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and isinstance(spec.get("recipe"), str):
        return spec["recipe"], {key: value for key, value in spec.items() if key != "recipe"}
    raise ConfigError(f"{where or kind}: given {spec!r}, wanted a name or {{recipe: name, ...}}.")


def _chain(items: Any, where: str, allow_code: bool) -> tuple[Any, ...]:
    """All links of an update; ``rate`` is the last and stands nowhere else, for it is the one that subtracts."""
    where = where or "update"
    if not _is_list(items):
        raise PartError(f"{where}: an update is a list of links, not {type(items).__name__}.")
    links = tuple(listed("link", item, f"{where}[{i}]", allow_code=allow_code) for i, item in enumerate(items))
    rate = get("link", "rate")
    if [isinstance(link, rate) for link in links] != [False] * (len(links) - 1) + [True]:
        kinds = ", ".join(_title(link) for link in links) or "no links"
        raise ConfigError(f"{where}: an update ends with its one rate; given {kinds}. End the list with {{rate: ...}}.")
    return links


def _is_list(spec: Any) -> bool:
    return isinstance(spec, Sequence) and not isinstance(spec, str)


def _title(part: Any) -> str:
    return str(getattr(part, "__name__", type(part).__name__))
