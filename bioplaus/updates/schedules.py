"""How the rate falls: a factor, 1 at the start, by epochs or by updates.

``at(done, total)`` is the factor after ``done`` of ``total`` epochs (or updates) have been completed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["epochs", "updates"]


@dataclass(frozen=True)
class Constant:
    """Factor 1 throughout.

    Source: Robbins & Monro (1951), A stochastic approximation method, with steps that stay.
    """

    by: Unit = "epochs"

    def at(self, done: int, total: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True)
class Steps:
    """After each number of epochs (or updates) in ``after`` the rate is multiplied by ``factor``.

    Source: Liao, Leibo & Poggio (2016), How important is weight symmetry in backpropagation?: ten times less
    after 50 and after 60 epochs.
    """

    after: list[int]
    factor: float = 0.1
    by: Unit = "epochs"

    def __post_init__(self) -> None:
        if any(b <= a for a, b in zip(self.after, self.after[1:], strict=False)) or any(n < 1 for n in self.after):
            raise ValueError(f"after is {self.after}; wanted rising numbers of {self.by}, 1 or more")
        _positive("factor", self.factor)

    def at(self, done: int, total: int) -> float:
        """factor ^ (how many of ``after`` are behind us)."""
        return float(self.factor ** sum(done >= n for n in self.after))


@dataclass(frozen=True)
class Exponential:
    """The rate is multiplied by ``factor`` after every epoch (or update).

    Source: NINAI report (2017), Table 15.
    """

    factor: float
    by: Unit = "epochs"

    def __post_init__(self) -> None:
        _positive("factor", self.factor)

    def at(self, done: int, total: int) -> float:
        """factor ^ done."""
        return float(self.factor**done)


@dataclass(frozen=True)
class LogSpaced:
    """Evenly spaced on a logarithmic scale: factor 1 in the first epoch (or update), ``end`` in the last.

    Source: Liao (2017), ch. 3: its rates on ImageNet.
    """

    end: float
    by: Unit = "epochs"

    def __post_init__(self) -> None:
        _positive("end", self.end)

    def at(self, done: int, total: int) -> float:
        """end ^ (done / (total - 1))."""
        return float(self.end ** (done / max(total - 1, 1)))


def _positive(name: str, value: float) -> None:
    if not value > 0.0:
        raise ValueError(f"{name} is {value}; wanted a number above 0")
