"""Hebbian learning: presynaptic times postsynaptic activity, with no error from other layers."""

from __future__ import annotations

from bioplaus.backend.base import Array
from bioplaus.parts import Local, Map


class Oja:
    """dW = sum y x - y^2 W: Hebbian growth, with a decay that keeps every unit's weights near norm one.

    In a convolution the sum runs over samples and places, the filter being shared. y is the layer's
    output, after its norm and activation.

    Source: Oja (1982), Simplified neuron model as a principal component analyzer, equation 3.
    """

    needs = {"x", "y"}
    local = True

    def dW(self, local: Local, map: Map, W: Array, out: Array, scale: float) -> None:
        """out += scale * (x y - W sum y^2)."""
        y = local.y
        map.outer(local.x, y, out, scale)
        energy = (y * y).sum((0, 2, 3)) if y.ndim == 4 else (y * y).reshape((-1, y.shape[-1])).sum(0)
        out -= W * (energy.reshape(map.unit_shape) * scale)
