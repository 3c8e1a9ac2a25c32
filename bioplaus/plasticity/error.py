"""Learning from the error: dW is what the way back says."""

from __future__ import annotations

from bioplaus.backend.base import Array
from bioplaus.parts import Local, Map


class Error:
    """dW = sum x dn: presynaptic activity times postsynaptic error; with V = W the gradient of the loss.

    Source: Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating errors.
    """

    needs = {"x", "dn"}
    overwrites = True

    def dW(self, local: Local, map: Map, W: Array, out: Array, scale: float) -> None:
        """out <- keep * out + scale * sum x dn; the bias alike."""
        map.outer(local.x, local.dn, out, scale, local.keep, bias=local.db)
