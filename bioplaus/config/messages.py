"""What pydantic found wrong, as lines that finish the user's thought."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from bioplaus.config.parts import Wrong, written
from bioplaus.config.text import Document, Keys
from bioplaus.errors import nearest

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
}


def checked(model: type[BaseModel], data: Any, document: Document, at: Keys = ()) -> tuple[BaseModel | None, list[str]]:
    """The data as a model, and a line for each thing that is wrong; one of the two is empty."""
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, [_line(model, problem, document, at) for problem in error.errors(include_url=False)]


def _line(model: type[BaseModel], problem: Any, document: Document, at: Keys) -> str:
    path = (*at, *problem["loc"])
    kind, given, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        text = f"unknown key {path[-1]!r}{nearest(str(path[-1]), _keys(model, problem['loc'][:-1]))}"
        return document.message(path, text)
    if kind == "missing":
        return document.message(path, "is missing.")
    if kind == "value_error":
        error = context["error"]
        inside = error.inside if isinstance(error, Wrong) else ()
        return document.message((*path, *inside), _stop(str(error)))
    return document.message(path, f"given {written(given)}, wanted {_wanted(model, kind, context, problem['loc'])}.")


def _wanted(model: type[BaseModel], kind: str, context: dict[str, Any], loc: Keys) -> str:
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    if kind in ("greater_than_equal", "greater_than"):
        return f"at least {context['ge']}" if "ge" in context else f"a number above {context['gt']:g}"
    if kind == "less_than":
        return f"a number below {context['lt']}"
    if kind in ("string_pattern_mismatch", "string_too_long"):
        return "a name of at most 100 characters, none of them / \\ or :"
    if kind in ("too_short", "too_long"):
        least = "min_length" in context
        return f"at {'least' if least else 'most'} {context['min_length' if least else 'max_length']} values"
    return _WANTED.get(kind, kind.replace("_", " "))


def _stop(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _keys(model: type[BaseModel], loc: Keys) -> list[str]:
    """The keys that may stand where ``loc`` leads."""
    for key in loc:
        found = next((f for name, f in model.model_fields.items() if key in (name, f.alias)), None)
        inner = _model_in(found.annotation) if found else None
        model = inner or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
