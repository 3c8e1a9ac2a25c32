"""What is asked of a part, and the checks that ask it."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np

from bioplaus.construct import make, parameters
from bioplaus.errors import BioplausError, PartError
from bioplaus.registry import get


@dataclass
class Claims:
    """What was asked of one part: the claims that held; the first that does not ends the check."""

    title: str
    held: list[str] = field(default_factory=list)

    def __call__(self, holds: Any, claim: str) -> None:
        """Note the claim, or raise."""
        if not holds:
            raise PartError(f"{self.title} breaks its contract: wanted '{claim}'. Repair it, or withdraw the claim.")
        if claim not in self.held:
            self.held.append(claim)

    def methods(self, part: Any, *names: str) -> None:
        """The interface is there."""
        for name in names:
            self(callable(getattr(part, name, None)), f"has the method {name}")


Check = Callable[[Any], list[str]]


def contract(kind: str) -> Callable[[Callable[[Any, Claims], None]], Check]:
    """A check: runs the body, returns what held; whatever the part raises is the part's fault, and is named."""

    def deciding(body: Callable[[Any, Claims], None]) -> Check:
        @wraps(body)
        def checking(part: Any) -> list[str]:
            claims = Claims(f"{kind} {named(part)!r}")
            try:
                with np.errstate(all="ignore"):
                    body(part, claims)
            except BioplausError:
                raise
            except Exception as cause:
                done = f" after {claims.held[-1]!r}" if claims.held else ""
                said = " ".join(f"{type(cause).__name__}: {cause}".split())
                raise PartError(f"{claims.title} breaks its contract: it raised {said}{done}.") from cause
            return claims.held

        CHECKS[kind] = checking
        return checking

    return deciding


CHECKS: dict[str, Check] = {}


def check(kind: str, part: Any) -> list[str]:
    """Run the contract of a kind on a part; returns the claims that held.

    Parameters
    ----------
    kind : str      ``channel``, ``norm``, ...
    part : object   a made part: ``Mirror()``, not ``Mirror``

    Raises
    ------
    PartError       a claim does not hold, or there is no contract for this kind
    """
    if kind not in CHECKS:
        raise PartError(f"there is no contract for the kind {kind!r}. There is one for: {', '.join(sorted(CHECKS))}.")
    if isinstance(part, type):
        raise PartError(f"{kind} {part.__name__!r} is a class; the contract is for a part. Give {part.__name__}().")
    return CHECKS[kind](part)


def sample(kind: str, name: str, *, allow_code: bool = False) -> Any:
    """The part of that name, made to be tried: small values from the type hints for parameters it requires.

    Raises
    ------
    PartError       as ``registry.get``; or a required parameter whose hint tells no small value
    """
    part = get(kind, name, allow_code=allow_code)
    needed = [p for p in parameters(part).values() if p.is_required]
    values = {p.name: _small(p.type, f"{kind} {name!r}: {p.name}") for p in needed}
    if kind == "backend":
        values["dtype"] = "float64"
    return make(kind, {"recipe": name, **values}, allow_code=allow_code)


def _small(hint: Any, where: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return inner[0]
    if origin in (typing.Union, types.UnionType):
        return _small(inner[0], where)
    if origin is typing.Annotated:
        return _small(inner[0], where)
    if origin in (list, Sequence):
        return [1, 2] if inner and inner[0] in (int, float) else []
    if origin is tuple:
        return [_small(each, where) for each in inner if each is not ...]
    small = {int: 3, float: 0.5, bool: False, str: "", list: []}
    if hint not in small:
        raise PartError(f"{where} is required and its hint, {hint}, tells no example. Give it a default.")
    return small[hint]


def named(part: Any) -> str:
    """What messages call a part."""
    return str(getattr(part, "__name__", type(part).__name__))
