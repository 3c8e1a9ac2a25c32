"""Units that are visited once for every time step of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bioplaus.backend.base import Array, Backend
from bioplaus.parts import At, Learn, Local
from bioplaus.units.norm import ScaledNorm


class Together:
    """A Learn for many visits of one batch: sums over samples, which norms make at each, are added and learned once."""

    def __init__(self, xp: Backend, learn: Learn) -> None:
        self.xp, self.learn = xp, learn
        self.sums: dict[str, tuple[ScaledNorm, list[Local]]] = {}

    def __call__(self, unit: Any, local: Local) -> None:
        """Keep sums, hand on everything else."""
        if isinstance(unit, ScaledNorm):
            self.sums.setdefault(unit.site.name, (unit, []))[1].append(local)
        else:
            self.learn(unit, local)

    def close(self) -> None:
        """All visits have been."""
        for unit, locals in self.sums.values():
            dgain = self.xp.stack([local.x for local in locals]).sum(0)
            dbias = self.xp.stack([local.dn for local in locals]).sum(0)
            self.learn(unit, Local(x=dgain, dn=dbias))


@dataclass
class Stepwise:
    """A unit visited once for every time step of a batch; a norm may take up what it saw after the last of them."""

    unit: Any
    seen: list[Any] = field(default_factory=list)
    gives_fresh = True
    holds_weights = True

    def __post_init__(self) -> None:
        self.settles = getattr(self.unit, "settles", False)

    @property
    def units(self) -> tuple[Any]:
        """For whoever walks."""
        return (self.unit,)

    @property
    def spares_error(self) -> bool:
        """As the unit does."""
        return getattr(self.unit, "spares_error", False)

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return self.unit.wire(below)  # type: ignore[no-any-return]

    def forward(self, x: Array, at: At) -> tuple[Array, Any]:
        """One step; of a norm that settles, without a trace."""
        if not self.settles or not (at.track or at.collect):
            return self.unit.forward(x, at)  # type: ignore[no-any-return]
        y, cache = self.unit.forward(x, at._replace(train=True, track=False, collect=False))
        self.seen.append(cache)
        return y, cache

    def back(self, dy: Array, cache: Any, top: Array, learn: Learn) -> Array:
        """Of one step."""
        return self.unit.back(dy, cache, top, learn)

    def close(self, at: At) -> None:
        """The last step has been."""
        if self.seen:
            self.unit.settle(self.seen, at)
            self.seen = []


@dataclass
class OverTime:
    """A unit that looks at one time step at a time, given all of them: x (T, N, ...); every step is a visit.

    Where samples do not look at one another, all steps are more samples of one visit.
    """

    xp: Backend
    unit: Any
    gives_fresh = True
    holds_weights = True

    def __post_init__(self) -> None:
        self.step = Stepwise(self.unit)
        self.by_sample = getattr(self.unit, "by_sample", False)

    @property
    def units(self) -> tuple[Any]:
        """For whoever walks."""
        return (self.unit,)

    @property
    def spares_error(self) -> bool:
        """As the unit does."""
        return self.step.spares_error

    def wire(self, below: bool) -> bool:
        """See Unit."""
        self.listened = below
        return self.unit.wire(below)  # type: ignore[no-any-return]

    def forward(self, x: Array, at: At) -> tuple[Array, Any]:
        """y of every step."""
        y, cache = self.each(x, at)
        return y if self.by_sample else self.xp.stack(y), cache

    def each(self, x: Array, at: At) -> tuple[Array, Any]:
        """The same, as something to go through step by step."""
        if self.by_sample:
            y, cache = self.unit.forward(x.reshape((-1, *x.shape[2:])), at._replace(together=len(x)))
            return y.reshape(x.shape), cache
        y, tape = [], []
        for t, now in enumerate(x):
            out, cache = self.step.forward(now, at._replace(visit=t))
            y.append(out)
            tape.append(cache)
        self.step.close(at)
        return y, tape

    def back(self, dy: Array | None, cache: Any, top: Array, learn: Learn) -> Array | None:
        """From the last step to the first."""
        if dy is None:
            return None
        if self.by_sample:
            dx = self.unit.back(dy.reshape((-1, *dy.shape[2:])), cache, top, learn)
            return None if dx is None else dx.reshape(dy.shape)
        together = Together(self.xp, learn)
        dx = [self.unit.back(now, cache.pop(), top, together) for now in reversed(list(dy))]
        together.close()
        return self.xp.stack(dx[::-1]) if self.listened else None
