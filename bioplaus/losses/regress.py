"""Regression onto targets (N, ...); onto one-hot targets where the batch holds labels (N,)."""

from __future__ import annotations

from collections.abc import Mapping

from bioplaus.backend.base import Array, Backend
from bioplaus.ops import score
from bioplaus.parts import At, Batch, State


class SquaredError:
    """1/2 ||output - target||^2, summed over samples; the error at the output is output - target.

    Source: Widrow & Hoff (1960), Adaptive switching circuits.
    """

    needs = {"output"}
    supervised = True
    takes_targets = True

    def error(
        self, xp: Backend, signals: Mapping[str, Array], batch: Batch, state: State, at: At
    ) -> tuple[Array, dict[str, Array]]:
        """(loss, {"output": as the output})."""
        output = signals["output"]
        loss, error = score.squared(output, self._target(xp, output, batch), batch.weight)
        return loss, {"output": error}

    def wrong(self, xp: Backend, signals: Mapping[str, Array], batch: Batch) -> Array:
        """Samples whose largest output is not the label's; NaN for targets, which are never right or wrong."""
        output = signals["output"]
        if batch.y.ndim == output.ndim:
            return xp.zeros(()) + float("nan")
        missed = xp.floats(output.argmax(-1) != batch.y)
        return missed.sum() if batch.weight is None else (missed * batch.weight).sum()

    @staticmethod
    def _target(xp: Backend, output: Array, batch: Batch) -> Array:
        return batch.y if batch.y.ndim == output.ndim else xp.one_hot(batch.y, output.shape[-1])
