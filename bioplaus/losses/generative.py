"""What a deep rendering mixture model scores beside its labels: reconstruction, prior on the classes, signs.

    L = alpha_H L_H + alpha_RC L_RC + alpha_KL L_KL + alpha_NN L_NN

The alphas are the weights of the terms; L_H is the cross-entropy of the labelled samples (``on: labelled``). The
published equations add up squares over pixels and units; the published alphas belong to means, as their public code
takes them, so ``reduction: mean`` is the default.

Source: NINAI report (2017), section 2; the authors' public code for the mean and for the other sign of L_KL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import log, prod
from typing import Literal

from bioplaus.backend.base import Array, Backend
from bioplaus.errors import ShapeError
from bioplaus.parts import At, Batch, State

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Reconstruction:
    """L_RC = ||image - reconstruction||^2 of each sample, divided by its number of pixels under ``reduction: mean``.

    Source: NINAI report (2017), section 2.
    """

    reduction: Reduction = "mean"
    needs = {"image", "reconstruction"}

    def error(
        self, xp: Backend, signals: Mapping[str, Array], batch: Batch, state: State, at: At
    ) -> tuple[Array, dict[str, Array]]:
        """(loss, {"reconstruction": 2 (reconstruction - image)}); the image is what it is."""
        away = signals["reconstruction"] - signals["image"]
        error = away * (2.0 * _share(away, self.reduction))
        if batch.weight is not None:
            error = xp.multiply(error, _ready(batch.weight, away), out=error)
        return xp.inner(error, away) * 0.5, {"reconstruction": error}


@dataclass(frozen=True)
class Divergence:
    """L_KL = KL(q || prior) of each sample, q = softmax(output); with ``sign: -1`` its negative.

    +1 is what is published: it draws q to the prior, uniform unless given. -1 is what the authors' public code
    minimises, for a uniform prior the entropy of q: it makes every q decided.

    Source: NINAI report (2017), section 2; its authors' public code of the DRMM for -1.
    """

    sign: Literal[1, -1] = 1
    prior: Sequence[float] | None = None
    needs = {"output"}

    def __post_init__(self) -> None:
        if self.prior is not None and not (min(self.prior, default=0.0) > 0.0 and abs(sum(self.prior) - 1.0) < 1e-6):
            raise ValueError(f"prior is {list(self.prior)}; wanted shares above 0 that add up to 1, one per class")

    def init(self, xp: Backend, shapes: Mapping[str, tuple[int, ...]], stream: object) -> State:
        """Remembers nothing; ShapeError where the prior is not over the network's classes."""
        classes = shapes["output"][-1]
        if self.prior is not None and len(self.prior) != classes:
            raise ShapeError(f"prior has {len(self.prior)} shares, the network {classes} classes. Give one each.")
        return {}

    def error(
        self, xp: Backend, signals: Mapping[str, Array], batch: Batch, state: State, at: At
    ) -> tuple[Array, dict[str, Array]]:
        """(loss, {"output": q (log q/p - KL)})."""
        output = signals["output"]
        log_q = xp.log_softmax(output)
        log_p = -log(output.shape[-1]) if self.prior is None else xp.array([log(share) for share in self.prior])
        q, excess = xp.exp(log_q), log_q - log_p
        each = (q * excess).sum(-1)
        error = q * (excess - each[..., None]) * self.sign
        if batch.weight is not None:
            each, error = each * batch.weight, error * batch.weight[..., None]
        return each.sum() * self.sign, {"output": error}


@dataclass(frozen=True)
class Nonnegativity:
    """L_NN = sum over layers of ||max(0, -template)||^2 of each sample, each divided by its units under ``mean``.

    0 exactly where no template is negative: there a ReLU network infers its model exactly. ``layers``: a name or a
    glob.

    Source: NINAI report (2017), section 2.
    """

    layers: str = "*"
    reduction: Reduction = "mean"

    @property
    def needs(self) -> set[str]:
        """See Loss."""
        return {f"{self.layers}.template"}

    def error(
        self, xp: Backend, signals: Mapping[str, Array], batch: Batch, state: State, at: At
    ) -> tuple[Array, dict[str, Array]]:
        """(loss, {signal: -2 max(0, -template)})."""
        loss, errors = xp.zeros(()), {}
        for name in sorted(name for name in signals if fnmatchcase(name, f"{self.layers}.template")):
            below = xp.relu(-signals[name], inplace=True)
            error = below * (-2.0 * _share(below, self.reduction))
            if batch.weight is not None:
                error = xp.multiply(error, _ready(batch.weight, below), out=error)
            loss, errors[name] = loss - xp.inner(error, below) * 0.5, error
        return loss, errors


def _share(x: Array, reduction: Reduction) -> float:
    """What one element of a sample of x (N, ...) counts."""
    return 1.0 / prod(x.shape[1:]) if reduction == "mean" else 1.0


def _ready(weight: Array, x: Array) -> Array:
    """(N,), to broadcast against x (N, ...)."""
    return weight.reshape((-1, *(1 for _ in x.shape[1:])))
