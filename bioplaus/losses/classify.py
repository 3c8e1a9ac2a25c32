"""Classification."""

from __future__ import annotations

from collections.abc import Mapping

from bioplaus.backend.base import Array, Backend
from bioplaus.ops import score
from bioplaus.parts import At, Batch, State


class SoftmaxCrossEntropy:
    """-log softmax(output)[label], summed over samples; the error at the output is softmax - one-hot.

    Source: Bridle (1990), Probabilistic interpretation of feedforward classification network outputs.
    """

    needs = {"output"}
    supervised = True

    def error(
        self, xp: Backend, signals: Mapping[str, Array], batch: Batch, state: State, at: At
    ) -> tuple[Array, dict[str, Array]]:
        """(loss, {"output": (N, classes)})."""
        output = signals["output"]
        loss, error = score.cross_entropy(xp, output, batch.y, batch.weight)
        return loss, {"output": error}

    def wrong(self, xp: Backend, signals: Mapping[str, Array], batch: Batch) -> Array:
        """Samples whose largest output is not the label's."""
        missed = xp.floats(signals["output"].argmax(-1) != batch.y)
        return missed.sum() if batch.weight is None else (missed * batch.weight).sum()
