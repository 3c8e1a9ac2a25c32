"""Where activities are normalized, and the numbers learned there: gain, bias, and a norm's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bioplaus.backend.base import Array, Backend
from bioplaus.parts import At, Learn, Local, Norm, State
from bioplaus.units.parameter import Parameter


@dataclass
class NormSite:
    """Where activities are normalized: a norm and its statistics for one layer, and the numbers the norm learns."""

    name: str
    xp: Backend
    norm: Norm
    stats: State
    numbers: Numbers | None = None
    listened: bool = True
    gives_fresh = True
    clear = True

    @property
    def holds_weights(self) -> bool:
        """Whether it learns."""
        return self.numbers is not None

    @property
    def units(self) -> tuple[Any, ...]:
        """For whoever walks."""
        return () if self.numbers is None else (self.numbers,)

    @property
    def spares_error(self) -> bool:
        """As the norm does."""
        return getattr(self.norm, "spares_error", True)

    @property
    def by_sample(self) -> bool:
        """Whether no sample looks at another."""
        return getattr(self.norm, "by_sample", False)

    @property
    def settles(self) -> bool:
        """Whether what several visits leave can be taken up at once."""
        return hasattr(self.norm, "remember")

    def settle(self, caches: Sequence[Any], at: At) -> None:
        """Take up what visits 0, 1, ... saw that were not to track."""
        self.norm.remember(self.xp, self.stats, caches, at)  # type: ignore[attr-defined]

    def wire(self, below: bool) -> bool:
        """See Unit."""
        self.listened = below
        return below or (self.numbers is not None and not self.numbers.frozen)

    def forward(self, x: Array, at: At) -> tuple[Array, Any]:
        """z and the norm's cache."""
        return self.norm.forward(self.xp, x, self.stats, at)

    def back(self, dy: Array | None, cache: Any, top: Array, learn: Learn) -> Array | None:
        """Back through the statistics; the norm's numbers learn on the way."""
        if dy is None:
            return None
        dn = self.norm.back(self.xp, dy, self.stats, cache)
        if self.numbers is None:
            return dn
        if not self.numbers.frozen:
            learn(self.numbers, Local(x=self.stats.errors))  # type: ignore[attr-defined]
        return dn if self.listened else None

    def state(self) -> Iterator[tuple[str, Array]]:
        """Every array a checkpoint holds, by name."""
        for key, value in self.stats.items():
            yield f"{self.name}.norm.{key}", value


class Learner:
    """Parameters that learn from sums which their unit makes; ``keep`` is 0 until something has been accumulated."""

    xp: Backend
    frozen: bool
    keep: float

    def arrays(self) -> Iterator[Parameter]:
        """Every parameter."""
        raise NotImplementedError

    def parameters(self) -> Iterator[Parameter]:
        """What an update steps."""
        if not self.frozen:
            yield from self.arrays()

    def add(self, parameter: Parameter, total: Array, scale: float) -> None:
        """Add a sum over samples and places to what the parameter has accumulated."""
        total = total.reshape(parameter.W.shape)
        if keep := self.keep or parameter.share:
            self.xp.multiply(parameter.dW, keep, out=parameter.dW)
            self.xp.add_scaled(parameter.dW, total, scale, out=parameter.dW)
        else:
            self.xp.multiply(total, scale, out=parameter.dW)

    def state(self) -> Iterator[tuple[str, Array]]:
        """Every array a checkpoint holds, by name."""
        for parameter in self.arrays():
            yield from parameter.state()


@dataclass
class Numbers(Learner):
    """The numbers a norm learns, by gradient; their arrays are the very ones the norm computes with."""

    name: str
    xp: Backend
    named: dict[str, Parameter]
    frozen: bool
    keep: float = 0.0
    holds_weights = True

    @classmethod
    def of(
        cls, layer: str, xp: Backend, stats: State, parameter: Callable[[str, Array], Parameter], frozen: bool
    ) -> Numbers | None:
        """Those of a norm's state, each made a parameter by its name; None where the norm learns none."""
        named = {key: parameter(key, value) for key, value in getattr(stats, "learned", {}).items()}
        return cls(layer, xp, named, frozen) if named else None

    def learn(self, local: Local, scale: float) -> None:
        """``local.x``: the error at each number, by name."""
        for key, parameter in self.named.items():
            self.add(parameter, local.x[key], scale)
        self.keep = 1.0

    def arrays(self) -> Iterator[Parameter]:
        """All numbers."""
        yield from self.named.values()


@dataclass
class GainBias(Learner):
    """y = gain * x + bias, per channel or unit: learned by gradient, both starting at 1 and 0."""

    name: str
    xp: Backend
    gain: Parameter
    bias: Parameter
    frozen: bool
    keep: float = 0.0
    by_sample = True
    gives_fresh = True
    holds_weights = True
    clear = True

    def wire(self, below: bool) -> bool:
        """See Unit."""
        self.listened = below
        return below or not self.frozen

    def forward(self, x: Array, at: At) -> tuple[Array, Array]:
        """y and x."""
        return x * self.gain.W + self.bias.W, x

    def back(self, dy: Array | None, cache: Array, top: Array, learn: Learn) -> Array | None:
        """Learn gain and bias, then dx = gain * dy."""
        if dy is None:
            return None
        if not self.frozen:
            learn(self, Local(x=cache, dn=dy))
        return self.xp.multiply(dy, self.gain.W, out=dy) if self.listened else None

    def learn(self, local: Local, scale: float) -> None:
        """dgain = sum dy x, dbias = sum dy, over samples and places."""
        axes = (0, *range(2, local.dn.ndim))
        self.take((local.dn * local.x).sum(axes), local.dn.sum(axes), scale)

    def take(self, dgain: Array, dbias: Array, scale: float) -> None:
        """Add sums over samples and places to what has been accumulated."""
        self.add(self.gain, dgain, scale)
        self.add(self.bias, dbias, scale)
        self.keep = 1.0

    def arrays(self) -> Iterator[Parameter]:
        """Gain and bias."""
        yield self.gain
        yield self.bias


@dataclass
class ScaledNorm:
    """A norm and the gain and bias behind it, computed together: y = gain * z + bias."""

    site: NormSite
    gain: GainBias
    gives_fresh = True
    holds_weights = True
    clear = True

    @property
    def units(self) -> tuple[NormSite, GainBias]:
        """For whoever walks."""
        return self.site, self.gain

    @property
    def by_sample(self) -> bool:
        """As the norm."""
        return self.site.by_sample

    @property
    def settles(self) -> bool:
        """As the norm."""
        return self.site.settles

    def settle(self, caches: Sequence[Any], at: At) -> None:
        """As the norm."""
        self.site.settle(caches, at)

    @property
    def spares_error(self) -> bool:
        """As the norm does."""
        return self.site.spares_error

    def wire(self, below: bool) -> bool:
        """See Unit."""
        self.listened = below
        return self.gain.wire(below)

    def forward(self, x: Array, at: At) -> tuple[Array, Any]:
        """y and the norm's cache."""
        site, gain = self.site, self.gain
        return site.norm.forward_scaled(site.xp, x, site.stats, at, gain.gain.W, gain.bias.W)  # type: ignore[attr-defined, no-any-return]

    def back(self, dy: Array | None, cache: Any, top: Array, learn: Any) -> Array | None:
        """Back through gain and statistics; gain and bias learn on the way."""
        if dy is None:
            return None
        site, gain = self.site, self.gain
        dn, dgain, dbias = site.norm.back_scaled(site.xp, dy, site.stats, cache, gain.gain.W)  # type: ignore[attr-defined]
        if not gain.frozen:
            learn(self, Local(x=dgain, dn=dbias))
        return dn if self.listened else None

    def learn(self, local: Local, scale: float) -> None:
        """The sums are made already."""
        self.gain.take(local.x, local.dn, scale)
