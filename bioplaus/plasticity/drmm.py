"""Learning a deep rendering mixture model layer by layer from what it renders, with no error from other layers.

Every layer sees its input I going up, and going down u, what it renders through the inferred switches, and its
prediction of the input, I^ = down(u, W). At fixed switches it is a regression of I on u, E = mean ||I - down(u, W)||^2:

    drmm        dW = eta mean_n sum u (I - I^)          one step down E, Hebbian (u I) and anti-Hebbian (u I^)
    drmm_em     W <- A^-1 H, A = sum u u, H = sum u I   the M-step: E at its least

Noise that is alike at all places, in whatever way it is correlated between channels, changes nothing: all channels of
I are regressed on the same u, so that generalized least squares are ordinary ones.

Source: Patel, Convnets from first principles (slides): E-step, M-step by GLS, nonlinear Hebbian rule; the formulas are
our own derivation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from bioplaus.backend.base import Array
from bioplaus.errors import ShapeError
from bioplaus.parts import Local, Map, State


@dataclass(frozen=True)
class RenderingHebb:
    """dW = sum u (I - I^), normalized: without momentum no rate up to 1 makes I^ worse at the switches inferred.

    The step is 1 / (kh kw sum ||u||^2) of the slope: the trace of the normal matrix bounds its largest eigenvalue. Both
    sums are over all samples since the last update, so that of two halves of a batch each counts by what it renders.
    ``normalized: false``: the mean over these samples; the rate alone says how far. ``unit_norm``: activity goes up
    through filters of length one. ``nonnegative``: weights are cut off at 0, as the nonnegative model has it in all
    layers above the first.

    Source: Patel, Convnets from first principles (slides); NINAI report (2017), section 2.
    """

    normalized: bool = True
    unit_norm: bool = False
    nonnegative: bool = False
    needs = {"x", "u", "x_hat"}
    local = True

    def init(self, map: Map) -> State:
        """sum u (x - x_hat) in W's shape, and what it is to be divided by."""
        return {"change": map.xp.zeros(map.shape), "over": map.xp.zeros((1,))}

    def gather(self, local: Local, map: Map, W: Array, state: State) -> None:
        """Add one visit to both."""
        map.outer(local.x - local.x_hat, local.u, state["change"])
        taps = prod(map.shape) // (map.input[0] * map.output[0])
        state["over"] += taps * map.xp.inner(local.u, local.u) if self.normalized else len(local.u)

    def settle(self, map: Map, W: Array, state: State) -> Array:
        """The one over the other, and nothing is gathered any more."""
        change = state["change"] / map.xp.maximum(state["over"], 1e-30)
        state["change"][...], state["over"][...] = 0.0, 0.0
        return change


@dataclass(frozen=True)
class LeastSquares:
    """W <- A^-1 H over all samples since the last update: the derivative-free M-step; at rate 1, without momentum.

    What it wants is W + A^-1 (H - A W), with the Moore-Penrose inverse: a unit that was never on keeps its weights.
    Eigenvalues of A below ``cutoff`` of the largest count as 0. Activity goes up through filters of length one
    (``unit_norm``): without, the length of W would swing between two values from step to step. ``nonnegative``: weights
    are cut off at 0. Where synapses are pruned, what the others take is still the solution with all of them.

    Source: Patel, Convnets from first principles (slides), EM for the DRMM; the Toeplitz form is our own derivation.
    """

    unit_norm: bool = True
    nonnegative: bool = False
    cutoff: float = 1e-6
    needs = {"x", "u", "x_hat"}
    local = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.cutoff < 1.0:
            raise ValueError(f"cutoff is {self.cutoff}; wanted a share from 0 up to, not including, 1")

    def init(self, map: Map) -> State:
        """A (weights per input, as many), and H - A W in W's shape. ShapeError where the map has no such A."""
        if not hasattr(map, "gram"):
            raise ShapeError("drmm_em learns dense and conv layers only. Choose another plasticity for this one.")
        size = prod(map.shape) // map.input[0]
        return {"A": map.xp.zeros((size, size)), "rest": map.xp.zeros(map.shape)}

    def gather(self, local: Local, map: Map, W: Array, state: State) -> None:
        """A += sum u u, rest += sum u (x - x_hat)."""
        map.gram(local.u, state["A"])  # type: ignore[attr-defined]
        map.outer(local.x - local.x_hat, local.u, state["rest"])

    def settle(self, map: Map, W: Array, state: State) -> Array:
        """A^-1 (H - A W), and nothing is gathered any more."""
        A, rest, xp = state["A"], state["rest"], map.xp
        axis = map.input_axis  # type: ignore[attr-defined]
        rows = rest.swapaxes(0, axis)
        change = xp.linear(rows.reshape((map.input[0], -1)), xp.pseudo_inverse(A, self.cutoff), None)
        A[...], rest[...] = 0.0, 0.0
        return change.reshape(rows.shape).swapaxes(0, axis)
