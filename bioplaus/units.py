"""What every pass walks: nodes with weights, norm sites, gains, taps, and sequences of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bioplaus.backend.base import Array, Backend
from bioplaus.parts import At, Channel, Learn, Link, Local, Map, Norm, Plasticity, Pruning, State


@dataclass
class Parameter:
    """One array that learns: what it is, what has been accumulated, and the chain that makes a step of it.

    Attributes
    ----------
    W, dW : arrays of one shape          dW is overwritten by the update
    role : ``weights``, ``bias``, ``gain``
    links, states : the chain and what each link remembers; the last link is the rate
    mask : ones and zeros, or None while every synapse exists
    """

    name: str
    W: Array
    dW: Array
    role: str
    links: Sequence[Link]
    states: list[State]
    mask: Array = None

    def step(self, xp: Backend, rate: float | None, factor: float) -> None:
        """W <- W - rate * factor * (what the links make of dW)."""
        d = self.dW
        *chain, last = self.links
        for link, state in zip(chain, self.states, strict=True):
            d = link.step(xp, d, self.W, state, self.role, self.dW)
        xp.add_scaled(self.W, d, -(last.rate if rate is None else rate) * factor, out=self.W)  # type: ignore[attr-defined]
        if self.mask is not None:
            xp.multiply(self.W, self.mask, out=self.W)

    def relink(self, xp: Backend, links: Sequence[Link]) -> None:
        """Take another chain; a link of the same kind in the same place keeps what it remembers."""
        kept = [
            state if type(old) is type(new) else new.init(xp, self.W)
            for old, new, state in zip(self.links, links[:-1], self.states, strict=False)
        ]
        self.states = kept + [new.init(xp, self.W) for new in links[len(kept) : -1]]
        self.links = links

    def state(self) -> Iterator[tuple[str, Array]]:
        """Every array a checkpoint holds, by name."""
        yield self.name, self.W
        yield f"{self.name}.dW", self.dW
        if self.mask is not None:
            yield f"{self.name}.mask", self.mask
        for i, state in enumerate(self.states):
            for key, value in state.items():
                yield f"{self.name}.update.{i}.{key}", value


@dataclass
class Node:
    """One weight array and its four choices: channel, update, plasticity, pruning.

    Forward: n = map.up(x, W) + b. Back: learn from what is seen here, then carry dn through V, not W.
    """

    name: str
    xp: Backend
    map: Map
    weights: Parameter
    bias: Parameter | None
    channel: Channel
    feedback: State
    plasticity: Plasticity | None  # None: the layer is clamped; errors still pass through V
    pruning: Pruning | None = None
    listened: bool = True
    keep: float = 0.0  # 0 until something has been accumulated since the last update
    seen: Local | None = None  # the latest visit, while its y is still to come
    gives_fresh = True
    spares_error = True
    holds_weights = True

    def __post_init__(self) -> None:
        needs = self.plasticity.needs if self.plasticity else set()
        self.wants_error = "dn" in needs
        self.wants_y = "y" in needs
        self.wants_n = "n" in needs
        self.overwrites = getattr(self.plasticity, "overwrites", False)
        self.redraws = getattr(self.channel, "redraws", False)

    @property
    def W(self) -> Array:
        """The forward weights."""
        return self.weights.W

    @property
    def V(self) -> Array | None:
        """The weights errors travel through, where the channel has any of its own."""
        return self.feedback.get("V")

    def wire(self, below: bool) -> bool:
        """See Unit."""
        self.listened = below
        return below or self.wants_error

    def forward(self, x: Array, at: At) -> tuple[Array, Local]:
        """n, and what was seen."""
        n = self.map.up(x, self.weights.W, None if self.bias is None else self.bias.W)
        local = Local(x=x, at=at)
        if self.wants_n:
            local.n = n
        if self.wants_y:
            self.seen = local
        return n, local

    def back(self, dn: Array | None, cache: Local, top: Array, learn: Learn) -> Array | None:
        """Learn, then hand the error down."""
        cache.dn = dn
        if self.plasticity is not None and (dn is not None or not self.wants_error):
            learn(self, cache)
        if dn is None or not self.listened:
            return None
        return self.channel.carry(self.map, dn, top, self.feedback)

    def learn(self, local: Local, scale: float) -> None:
        """Add this visit's dW to what has been accumulated."""
        assert self.plasticity is not None
        local.keep = self.keep if self.overwrites else 1.0
        if self.keep == 0.0 and not self.overwrites:
            self.weights.dW[...] = 0.0
        if self.wants_error:
            local.db = None if self.bias is None else self.bias.dW
            self.plasticity.dW(local, self.map, self.W, self.weights.dW, scale)
        else:
            self.plasticity.dW(local, self.map, self.W, self.weights.dW, -scale)
        self.keep = 1.0

    def arrays(self) -> Iterator[Parameter]:
        """Weights and bias."""
        yield self.weights
        if self.bias is not None:
            yield self.bias

    def parameters(self) -> Iterator[Parameter]:
        """What an update steps."""
        if self.plasticity is not None:
            yield self.weights
            if self.bias is not None and self.wants_error:
                yield self.bias

    def state(self) -> Iterator[tuple[str, Array]]:
        """Every array a checkpoint holds, by name."""
        for parameter in self.arrays():
            yield from parameter.state()
        for key, value in self.feedback.items():
            if value is not self.weights.W:
                yield f"{self.name}.feedback.{key}", value


@dataclass
class NormSite:
    """Where activities are normalized: a norm and its statistics for one layer."""

    name: str
    xp: Backend
    norm: Norm
    stats: State
    gives_fresh = True
    spares_error = True
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, Any]:
        """z and the norm's cache."""
        return self.norm.forward(self.xp, x, self.stats, at)

    def back(self, dy: Array, cache: Any, top: Array, learn: Learn) -> Array:
        """Back through the statistics."""
        return self.norm.back(self.xp, dy, self.stats, cache)

    def state(self) -> Iterator[tuple[str, Array]]:
        """Every array a checkpoint holds, by name."""
        for key, value in self.stats.items():
            yield f"{self.name}.norm.{key}", value


@dataclass
class GainBias:
    """y = gain * x + bias, per channel or unit: learned by gradient, both starting at 1 and 0."""

    name: str
    xp: Backend
    gain: Parameter
    bias: Parameter
    frozen: bool
    keep: float = 0.0
    gives_fresh = True
    holds_weights = True

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
        for parameter, new in ((self.gain, dgain), (self.bias, dbias)):
            total = new.reshape(parameter.W.shape)
            if self.keep:
                self.xp.add_scaled(parameter.dW, total, scale, out=parameter.dW)
            else:
                self.xp.multiply(total, scale, out=parameter.dW)
        self.keep = 1.0

    def arrays(self) -> Iterator[Parameter]:
        """Gain and bias."""
        yield self.gain
        yield self.bias

    def parameters(self) -> Iterator[Parameter]:
        """What an update steps."""
        if not self.frozen:
            yield self.gain
            yield self.bias

    def state(self) -> Iterator[tuple[str, Array]]:
        """Every array a checkpoint holds, by name."""
        for parameter in self.arrays():
            yield from parameter.state()


@dataclass
class ScaledNorm:
    """A norm and the gain and bias behind it, computed together: y = gain * z + bias."""

    site: NormSite
    gain: GainBias
    gives_fresh = True
    spares_error = True
    holds_weights = True

    @property
    def units(self) -> tuple[NormSite, GainBias]:
        """For whoever walks."""
        return self.site, self.gain

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


@dataclass
class Tap:
    """The end of a layer, after its norm and activation: here y can be seen."""

    node: Node
    watching: bool = False
    y: Array = None
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, None]:
        """Lets x through; hands it to whoever watches and to a rule that needs y."""
        if self.watching:
            self.y = x
        if self.node.seen is not None:
            self.node.seen.y, self.node.seen = x, None
        return x, None

    def back(self, dy: Array, cache: None, top: Array, learn: Learn) -> Array:
        """Lets dy through."""
        return dy


@dataclass
class Chain:
    """Units one after another."""

    units: list[Any] = field(default_factory=list)
    listened: list[bool] = field(default_factory=list)
    weighted: list[bool] = field(default_factory=list)
    holds_weights = True

    @property
    def spares_error(self) -> bool:
        """Whether the error handed to ``back`` is left as it was, and what comes out is another array."""
        last = next((unit for unit in reversed(self.units) if not isinstance(unit, Tap)), None)
        return getattr(last, "spares_error", False)

    def wire(self, below: bool) -> bool:
        """Tells every unit whether anybody below it wants the error."""
        self.listened, self.weighted = [], []
        for unit in self.units:
            self.weighted.append(getattr(unit, "holds_weights", False))
            self.listened.append(below)
            below = unit.wire(below)
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, list[Any]]:
        """Through all units; in testing nothing is kept for the way back."""
        tape = []
        for unit in self.units:
            x, cache = unit.forward(x, at)
            if at.train:
                tape.append(cache)
        return x, tape

    def back(self, dy: Array | None, cache: list[Any], top: Array, learn: Learn) -> Array | None:
        """Backwards through all units, freeing the tape; where nobody below listens the error stops."""
        way = zip(reversed(self.units), reversed(self.listened), reversed(self.weighted), strict=True)
        for unit, listened, weighted in way:
            visit = cache.pop()
            if weighted:
                dy = unit.back(dy, visit, top, learn)
            elif dy is not None:
                dy = unit.back(dy, visit, top, learn) if listened else None
        return dy


def walk(unit: Any) -> Iterator[Any]:
    """Every unit inside ``unit``, itself included, in the order they run."""
    yield unit
    for inner in getattr(unit, "units", ()):
        yield from walk(inner)
