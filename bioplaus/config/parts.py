"""How parts are written: a bare name, or ``{recipe: name, parameter: value}``; and how one overrides another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

Spec = dict[str, Any]  # {"recipe": name, **parameters}
KINDS = ("channel", "norm", "update", "plasticity", "pruning")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class Wrong(ValueError):
    """Something is wrong inside a value: a text, and the keys that lead there."""

    def __init__(self, text: str, *inside: str | int) -> None:
        """What is wrong, and where inside."""
        super().__init__(text)
        self.text = text
        self.inside = inside


def written(value: Any) -> str:
    """A value as a message quotes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"the text {value!r}" if _NUMBER.fullmatch(value) else repr(value)
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else repr(value)


def part(value: Any) -> Spec:
    """A part as a mapping; without ``recipe`` it is a change of what stands."""
    if isinstance(value, str) and value:
        return {"recipe": value}
    if not isinstance(value, Mapping):
        raise Wrong(f"given {written(value)}, wanted a name or a mapping with 'recipe'")
    if not value:
        raise Wrong("given an empty mapping, wanted a name or a mapping with 'recipe'")
    if "recipe" in value and not (isinstance(value["recipe"], str) and value["recipe"]):
        raise Wrong(f"given {written(value['recipe'])}, wanted a name", "recipe")
    _check_numbers(value)
    if value.get("recipe") == "none" and len(value) > 1:
        raise Wrong("'none' takes no parameters", next(key for key in value if key != "recipe"))
    return dict(value)


def optional_part(value: Any) -> Spec:
    """A part that may be absent: null is the name ``none``."""
    return {"recipe": "none"} if value is None else part(value)


def channel(value: Any) -> Spec:
    """How errors come back; there is always one."""
    spec = optional_part(value)
    if spec.get("recipe") == "none":
        raise Wrong("given none, but errors need a way back; to clamp a layer write plasticity: none")
    return spec


def update(value: Any) -> Spec | list[Any]:
    """A recipe, or a list of links that ends with ``rate``."""
    if isinstance(value, list | tuple):
        links = [_link(link, place) for place, link in enumerate(value)]
        _check_rates(links)
        return links
    spec = optional_part(value)
    if spec.get("recipe") == "none":
        raise Wrong("given none, wanted an update; to clamp a layer write plasticity: none")
    _check_rates(spec)
    return spec


def merged(base: Any, over: Any) -> Any:
    """What stands after ``over`` was written on ``base``: a mapping without ``recipe`` merges, all else replaces."""
    if not isinstance(over, Mapping) or "recipe" in over:
        return over
    if isinstance(base, list):
        raise Wrong("a list of links stands here, which parameters cannot change; write the whole list or a recipe")
    if isinstance(base, str):
        base = {"recipe": base}
    if not isinstance(base, Mapping):
        return dict(over)
    if base.get("recipe") == "none":
        raise Wrong("'none' stands here and takes no parameters; name a recipe", next(iter(over), ""))
    result = dict(base)
    for key, value in over.items():
        stands = base.get(key)
        if isinstance(stands, list) and key != "update":  # any list but one of links is a plain value
            stands = None
        try:
            result[key] = merged(stands, value)
        except Wrong as error:
            raise Wrong(error.text, key, *error.inside) from None
    return result


def _link(value: Any, place: int) -> Any:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, Mapping) or not value:
        raise Wrong(f"given {written(value)}, wanted a link such as sign or {{momentum: 0.9}}", place)
    _check_numbers(value, (place,))
    return dict(value)


def _check_numbers(value: Any, inside: tuple[str | int, ...] = ()) -> None:
    """What can be said before the part is known: numbers are numbers."""
    for keys, inner in _parameters(value, inside):
        if isinstance(inner, str) and _NUMBER.fullmatch(inner):
            raise Wrong(f"given the text {inner!r}, wanted a number: leave the quotes out", *keys)


def _check_rates(value: Any) -> None:
    """What can be said of an update before its links are known: a rate is not negative."""
    for keys, inner in _parameters(value):
        if keys[-1] != "rate" or isinstance(inner, Mapping | list):
            continue
        if isinstance(inner, bool) or not isinstance(inner, int | float):
            raise Wrong(f"given {written(inner)}, wanted a number", *keys)
        if inner < 0:
            raise Wrong(f"given {inner}, wanted a number of at least 0", *keys)


def _parameters(value: Any, inside: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """(keys, value) of everything inside a value."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*inside, key), inner
        yield from _parameters(inner, (*inside, key))


_PART = {
    "anyOf": [
        {"type": "string", "description": "the name of a part"},
        {"type": "object", "properties": {"recipe": {"type": "string"}}, "additionalProperties": True},
    ]
}
_OPTIONAL = {"anyOf": [*_PART["anyOf"], {"type": "null"}]}
_UPDATE = {"anyOf": [*_PART["anyOf"], {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "object"}]}}]}

Part = Annotated[Spec, BeforeValidator(part), WithJsonSchema(_PART)]
OptionalPart = Annotated[Spec, BeforeValidator(optional_part), WithJsonSchema(_OPTIONAL)]
ChannelPart = Annotated[Spec, BeforeValidator(channel), WithJsonSchema(_PART)]
UpdatePart = Annotated[Any, BeforeValidator(update), WithJsonSchema(_UPDATE)]
