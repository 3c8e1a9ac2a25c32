"""Sign-concordant feedback: V shares only the signs of W; magnitudes are one, fixed or redrawn.

    V = M * sign(W) * S_p        element by element

Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?, section
"Variants of asymmetric backpropagation".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from bioplaus.backend.base import Array
from bioplaus.backend.streams import Stream
from bioplaus.parts import Map, State


class UniformSign:
    """V = sign(W): errors travel through weights that share only the sign of the forward ones.

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?: uSF.
    """

    signs_agree = True

    def init(self, map: Map, W: Array, top: int, stream: Stream) -> State:
        """V, preallocated."""
        return {"V": map.xp.sign(W)}

    def refresh(self, map: Map, W: Array, state: State, stream: Stream) -> None:
        """V follows the signs of W."""
        map.xp.sign(W, out=state["V"])

    def carry(self, map: Map, dn: Array, top: Array, state: State) -> Array:
        """dn through V."""
        return map.down(dn, state["V"])


class NormalizedUniformSign:
    """V = sign(W) / fan-in: uniform sign feedback, shrunk by the number of inputs of a unit.

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?: NuSF.
    """

    signs_agree = True

    def init(self, map: Map, W: Array, top: int, stream: Stream) -> State:
        """V, preallocated."""
        state = {"V": map.xp.zeros(W.shape)}
        self.refresh(map, W, state, stream)
        return state

    def refresh(self, map: Map, W: Array, state: State, stream: Stream) -> None:
        """V follows the signs of W."""
        V = map.xp.sign(W, out=state["V"])
        map.xp.multiply(V, 1.0 / map.fan_in, out=V)

    def carry(self, map: Map, dn: Array, top: Array, state: State) -> Array:
        """dn through V."""
        return map.down(dn, state["V"])


@dataclass(frozen=True)
class _RandomMagnitude:
    """V = M * sign(W) * S_p with M ~ U[0, 1] and S_p = -1 with probability p, else 1.

    M and S_p come from one draw u ~ U[0, 1): where u < p the sign is -1 and the magnitude u / p, elsewhere
    1 and (u - p) / (1 - p); both are exactly uniform and independent of the sign.
    """

    p: float = 0.0
    redraws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ValueError(f"p is {self.p}; wanted a probability of discordant sign between 0 and 1")

    @property
    def signs_agree(self) -> bool:
        """Whether V never opposes W."""
        return self.p == 0.0

    def init(self, map: Map, W: Array, top: int, stream: Stream) -> State:
        """V and the signed magnitudes M S_p."""
        state = {"V": map.xp.zeros(W.shape), "M": map.xp.zeros(W.shape)}
        self._draw(map, state["M"], stream)
        self._follow(map, W, state)
        return state

    def refresh(self, map: Map, W: Array, state: State, stream: Stream) -> None:
        """V follows the signs of W; redrawn kinds also draw M and S_p anew."""
        if self.redraws:
            self._draw(map, state["M"], stream)
        self._follow(map, W, state)

    def carry(self, map: Map, dn: Array, top: Array, state: State) -> Array:
        """dn through V."""
        return map.down(dn, state["V"])

    def _draw(self, map: Map, M: Array, stream: Stream) -> None:
        p = self.p
        map.xp.uniform(stream, M)
        if p == 1.0:
            map.xp.multiply(M, -1.0, out=M)
        elif p > 0.0:
            M[...] = map.xp.where(p > M, M / -p, (M - p) / (1.0 - p))

    def _follow(self, map: Map, W: Array, state: State) -> None:
        V = map.xp.sign(W, out=state["V"])
        map.xp.multiply(V, state["M"], out=V)


@dataclass(frozen=True)
class RedrawnDiscordantSign(_RandomMagnitude):
    """brSF-p: M and S_p redrawn after every update; p is the probability of *discordant* sign.

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?: brSF-p.
    """

    redraws: ClassVar[bool] = True
    p: float = 0.5


@dataclass(frozen=True)
class FixedDiscordantSign(_RandomMagnitude):
    """frSF-p: M and S_p drawn once; the sign follows W; p is the probability of *discordant* sign.

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?: frSF-p.
    """

    p: float = 0.5


@dataclass(frozen=True)
class RedrawnSign(_RandomMagnitude):
    """brSF: V = M * sign(W), M ~ U[0, 1] redrawn after every update.

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?: brSF.
    """

    redraws: ClassVar[bool] = True
    p: float = field(default=0.0, init=False)


@dataclass(frozen=True)
class FixedSign(_RandomMagnitude):
    """frSF: V = M * sign(W), M ~ U[0, 1] drawn once; the sign follows W.

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?: frSF.
    """

    p: float = field(default=0.0, init=False)
