"""What a layer costs, and what is left of that where weights are gone and activities are zero. Shares may be percent.

    whole       2 x weights x places
    supervised  kept x active                        kept: of weights, or of neurons; active: of the layer's inputs
    with a way down     (up kept active_in + down kept active_down) / (up + down)

Biases, norms, activations and pools are not counted.

Source: NINAI report (2017), tables 16 to 21, from whose entries the formulas were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from bioplaus.parts import Map


def places(map: Map) -> int:
    """How often each weight is used for one sample: wherever a window lies on a map, once in a dense layer."""
    window = getattr(map, "window", None)
    return prod(window.output) if window else max(1, map.fan_in * prod(map.output) // prod(map.shape))


def whole(map: Map) -> int:
    """Floating-point operations of one sample on its way up: a multiplication and an addition per weight and place."""
    return 2 * prod(map.shape) * places(map)


def left(kept: float, active: float, of: float = 1.0) -> float:
    """What is left of a layer's operations: those of weights (or neurons) kept, at inputs that are not zero.

    ``of`` is the whole, 100 for percent. Tables 16 to 18.
    """
    return kept * active / of


def left_both_ways(up: float, down: float, kept: float, active: float, active_down: float, of: float = 1.0) -> float:
    """Of a layer that also renders; ``up``, ``down``: its whole operations, ``active_down``: of what it renders.

    Tables 19 and 20.
    """
    return (up * left(kept, active, of) + down * left(kept, active_down, of)) / (up + down)


def left_as_printed(up: float, down: float, neurons: float, own: float, active_down: float, of: float = 1.0) -> float:
    """Table 21 as it is printed: with the activity of the layer itself, and nothing kept on the way down.

    By the formula of table 18 the way up would have the activity of the layer before.
    """
    return (up * left(neurons, own, of) + down * active_down) / (up + down)


def total(shares: Sequence[float], sizes: Sequence[float]) -> float:
    """Of a whole net: every share weighted by the layer's size, in weights, operations, units or activities."""
    return sum(share * size for share, size in zip(shares, sizes, strict=True)) / sum(sizes)
