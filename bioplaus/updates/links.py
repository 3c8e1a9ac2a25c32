"""The links of an update: each sees one array's step so far, the array, its role and its own state.

Steps are written in the sign of dW; the last link, ``rate``, subtracts. In Batch Manhattan's terms, with
g the accumulated dW, m the momentum and d the decay (Liao, Leibo & Poggio 2016, settings 0 to 3):

    SGD  [decay, momentum, rate]          tau = g + m tau + d w
    BM1  [sign, decay, momentum, rate]    tau = sign(g) + m tau + d w
    BM2  [sign, decay, signed_momentum, rate]      tau = sign(sign(g) + m tau + d w)
    BM3  [sign, decay, momentum, sign, rate]       kappa = sign(g) + m kappa + d w, step sign(kappa)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bioplaus.backend.base import Array, Backend
from bioplaus.parts import State


class Sign:
    """Batch Manhattan: keep only the direction of the accumulated gradient, weight by weight; sign(0) = 0.

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?, section Batch
    Manhattan.
    """

    def init(self, xp: Backend, W: Array) -> State:
        """Remembers nothing."""
        return {}

    def step(self, xp: Backend, d: Array, W: Array, state: State, role: str, out: Array) -> Array:
        """sign(d)."""
        return xp.sign(d, out=out)


@dataclass(frozen=True)
class Decay:
    """d + decay * W, on weights only: biases and gains do not decay.

    Source: Krogh & Hertz (1992), A simple weight decay can improve generalization.
    """

    decay: float

    def __post_init__(self) -> None:
        _at_least_zero("decay", self.decay)

    @property
    def idle(self) -> bool:
        """Nothing decays."""
        return self.decay == 0.0

    def init(self, xp: Backend, W: Array) -> State:
        """Remembers nothing."""
        return {}

    def step(self, xp: Backend, d: Array, W: Array, state: State, role: str, out: Array) -> Array:
        """d + decay * W."""
        return xp.add_scaled(d, W, self.decay, out=out) if role == "weights" and self.decay else d


@dataclass(frozen=True)
class Momentum:
    """tau <- d + momentum * tau.

    Source: Polyak (1964), Some methods of speeding up the convergence of iteration methods.
    """

    momentum: float
    sums_in: ClassVar[str] = "tau"

    def __post_init__(self) -> None:
        _share("momentum", self.momentum)

    @property
    def idle(self) -> bool:
        """Nothing is remembered."""
        return self.momentum == 0.0

    def init(self, xp: Backend, W: Array) -> State:
        """tau = 0."""
        return {} if self.idle else {"tau": xp.zeros(W.shape)}

    def step(self, xp: Backend, d: Array, W: Array, state: State, role: str, out: Array) -> Array:
        """tau."""
        return d if self.idle else xp.add_scaled(d, state["tau"], self.momentum, out=state["tau"])


@dataclass(frozen=True)
class SignedMomentum:
    """tau <- sign(d + momentum * tau): what is remembered is the sign (Batch Manhattan, setting 2).

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?, section Batch
    Manhattan, setting 2.
    """

    momentum: float

    def __post_init__(self) -> None:
        _share("momentum", self.momentum)

    def init(self, xp: Backend, W: Array) -> State:
        """tau = 0."""
        return {"tau": xp.zeros(W.shape)}

    def step(self, xp: Backend, d: Array, W: Array, state: State, role: str, out: Array) -> Array:
        """tau."""
        tau = xp.add_scaled(d, state["tau"], self.momentum, out=state["tau"])
        return xp.sign(tau, out=tau)


@dataclass(frozen=True)
class RootMeanSquare:
    """d / sqrt(v + eps), v <- decay * v + (1 - decay) * d^2.

    Source: Tieleman & Hinton (2012), RMSProp; eps inside the root.
    """

    decay: float = 0.9
    eps: float = 1e-6

    def __post_init__(self) -> None:
        _share("decay", self.decay)
        _above_zero("eps", self.eps)

    def init(self, xp: Backend, W: Array) -> State:
        """v = 0."""
        return {"v": xp.zeros(W.shape)}

    def step(self, xp: Backend, d: Array, W: Array, state: State, role: str, out: Array) -> Array:
        """d / sqrt(v + eps)."""
        v = xp.multiply(state["v"], self.decay, out=state["v"])
        xp.add_scaled(v, d * d, 1.0 - self.decay, out=v)
        return xp.multiply(d, 1.0 / xp.sqrt(v + self.eps), out=out)


@dataclass(frozen=True)
class AdaptiveMoments:
    """m' / (sqrt(v') + eps): bias-corrected running mean over root running square.

    Source: Kingma & Ba (2015), Adam, algorithm 1.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _share("beta1", self.beta1)
        _share("beta2", self.beta2)
        _above_zero("eps", self.eps)

    def init(self, xp: Backend, W: Array) -> State:
        """m = v = 0; the powers of the betas, each an array of one element, start at 1."""
        one = xp.zeros((1,)) + 1.0
        return {"m": xp.zeros(W.shape), "v": xp.zeros(W.shape), "power1": one, "power2": one + 0.0}

    def step(self, xp: Backend, d: Array, W: Array, state: State, role: str, out: Array) -> Array:
        """m' / (sqrt(v') + eps)."""
        m, v, power1, power2 = state["m"], state["v"], state["power1"], state["power2"]
        xp.multiply(m, self.beta1, out=m)
        xp.add_scaled(m, d, 1.0 - self.beta1, out=m)
        xp.multiply(v, self.beta2, out=v)
        xp.add_scaled(v, d * d, 1.0 - self.beta2, out=v)
        xp.multiply(power1, self.beta1, out=power1)
        xp.multiply(power2, self.beta2, out=power2)
        spread = xp.sqrt(v / (1.0 - power2)) + self.eps
        return xp.multiply(m, 1.0 / (spread * (1.0 - power1)), out=out)


@dataclass(frozen=True)
class Rate:
    """W <- W - rate * d: ends every chain; the schedule's factor multiplies it.

    Source: Robbins & Monro (1951), A stochastic approximation method.
    """

    rate: float

    def __post_init__(self) -> None:
        _at_least_zero("rate", self.rate)

    def init(self, xp: Backend, W: Array) -> State:
        """Remembers nothing."""
        return {}

    def step(self, xp: Backend, d: Array, W: Array, state: State, role: str, out: Array) -> Array:
        """rate * d, the step that is subtracted."""
        return xp.multiply(d, self.rate, out=out)


def _share(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} is {value}; wanted a number from 0 up to, not including, 1")


def _at_least_zero(name: str, value: float) -> None:
    if not value >= 0.0:
        raise ValueError(f"{name} is {value}; wanted 0 or more")


def _above_zero(name: str, value: float) -> None:
    if not value > 0.0:
        raise ValueError(f"{name} is {value}; wanted a number above 0")
