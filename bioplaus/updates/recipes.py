"""Named chains of links. ``decay`` is zero unless a rule states one.

Source: Liao, Leibo & Poggio (2016), section "Batch Manhattan", settings 0 to 3; RMSProp: Tieleman & Hinton
(2012); Adam: Kingma & Ba (2015).
"""

from __future__ import annotations

from typing import Any

from bioplaus.updates.links import AdaptiveMoments, Decay, Momentum, Rate, RootMeanSquare, Sign, SignedMomentum


def sgd(rate: float, momentum: float = 0.9, decay: float = 0.0) -> list[Any]:
    """Gradient descent with momentum: tau = g + m tau + d w.

    Source: Polyak (1964), Some methods of speeding up the convergence of iteration methods; as in Liao, Leibo &
    Poggio (2016), , setting 0.
    """
    return [Decay(decay), Momentum(momentum), Rate(rate)]


def bm1(rate: float, momentum: float = 0.9, decay: float = 0.0) -> list[Any]:
    """Batch Manhattan 1: tau = sign(g) + m tau + d w.

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?, section Batch
    Manhattan, setting 1.
    """
    return [Sign(), Decay(decay), Momentum(momentum), Rate(rate)]


def bm2(rate: float, momentum: float = 0.9, decay: float = 0.0) -> list[Any]:
    """Batch Manhattan 2: tau = sign(sign(g) + m tau + d w).

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?, section Batch
    Manhattan, setting 2.
    """
    return [Sign(), Decay(decay), SignedMomentum(momentum), Rate(rate)]


def bm3(rate: float, momentum: float = 0.9, decay: float = 0.0) -> list[Any]:
    """Batch Manhattan 3: kappa = sign(g) + m kappa + d w, step sign(kappa).

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?, section Batch
    Manhattan, setting 3.
    """
    return [Sign(), Decay(decay), Momentum(momentum), Sign(), Rate(rate)]


def rmsprop(rate: float, smoothing: float = 0.9, eps: float = 1e-6, decay: float = 0.0) -> list[Any]:
    """RMSProp: g over its running root mean square; ``smoothing`` is the memory, ``decay`` pulls weights to zero.

    Source: Tieleman & Hinton (2012), Lecture 6.5 of Neural networks for machine learning.
    """
    return [Decay(decay), RootMeanSquare(smoothing, eps), Rate(rate)]


def adam(rate: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, decay: float = 0.0) -> list[Any]:
    """Adam: bias-corrected running mean over root running square.

    Source: Kingma & Ba (2015), Adam: a method for stochastic optimization.
    """
    return [Decay(decay), AdaptiveMoments(beta1, beta2, eps), Rate(rate)]
