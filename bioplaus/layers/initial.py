"""Where weights start, in layers that say so; He-normal in all others."""

from __future__ import annotations

from math import prod, sqrt
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat

from bioplaus.construct import Wanted
from bioplaus.parts import Map

Measured = Annotated[
    dict[Literal["normal", "truncated_normal", "uniform"], PositiveFloat], Field(min_length=1, max_length=1)
]
Initial = Annotated[
    Measured | Literal["xavier"] | None,
    Wanted("xavier, {normal: deviation}, {truncated_normal: deviation} or {uniform: largest}"),
]


def drawn(map: Map, initial: Initial, generator: Any) -> Any:
    """Weights for a map, on the host.

    ``normal`` and ``truncated_normal`` have mean 0 and the deviation given, the second drawn again where it lies
    beyond two of them; ``uniform`` lies between minus and plus the number given; ``xavier`` is uniform up to
    sqrt(6 / (fan_in + fan_out)); None is He-normal, N(0, 2 / fan_in).

    Parameters
    ----------
    generator : numpy.random.Generator

    Source: He, Zhang, Ren & Sun (2015), equation 10; Glorot & Bengio (2010), equation 16, for ``xavier``.
    """
    if initial is None:
        return generator.normal(0.0, sqrt(2.0 / map.fan_in), map.shape)
    if initial == "xavier":
        fan_out = prod(map.shape) // (map.input or map.shape)[0]
        initial = {"uniform": sqrt(6.0 / (map.fan_in + fan_out))}
    ((kind, size),) = initial.items()
    if kind == "uniform":
        return generator.uniform(-size, size, map.shape)
    W = generator.normal(0.0, size, map.shape)
    while kind == "truncated_normal" and (beyond := abs(W) > 2.0 * size).any():
        W[beyond] = generator.normal(0.0, size, int(beyond.sum()))
    return W
