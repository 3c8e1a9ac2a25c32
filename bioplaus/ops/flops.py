"""What a layer costs, and what is left of that where weights are gone and activities are zero. Shares may be percent.

    way up      2 x weights x places of the output      left: kept x active; kept: of weights, or of neurons
    way down    2 x weights x places of the input       active: of what goes in, from below or from above
    both        the mean of what is left, weighted by operations

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


def whole_down(map: Map) -> int:
    """The same on its way down, where every weight is used wherever a window lies on the map that is rendered."""
    window = getattr(map, "window", None)
    if window is None:
        return whole(map)
    apart = prod(window.stride) if map.input[1:] == window.size else 1  # the adjoint of a convolution renders by one
    return 2 * prod(map.shape) * (prod(map.input[1:]) // apart)


def left(kept: float, active: float, of: float = 1.0) -> float:
    """What is left of a layer's operations: those of weights (or neurons) kept, at inputs that are not zero.

    ``of`` is the whole, 100 for percent. Tables 16 to 18; of tables 19 to 21 either way by itself.
    """
    return kept * active / of


def total(shares: Sequence[float], sizes: Sequence[float]) -> float:
    """Of a whole net: every share weighted by the layer's size, in weights, operations, units or activities."""
    return sum(share * size for share, size in zip(shares, sizes, strict=True)) / sum(sizes)
