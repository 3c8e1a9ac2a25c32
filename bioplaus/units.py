"""What every pass walks: nodes with weights, norm sites, gains, taps, and sequences of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.errors import RunFailed
from bioplaus.parts import At, Channel, Learn, Link, Local, Map, Norm, Plasticity, Pruning, State

# Told of every unit that is about to render: the unit, what forward left there, what comes from above, and what would
# come from above were all switches of the layer open. Gives what the unit is to render through.
Watch = Callable[[Any, Any, Array, Array], Any]


@dataclass
class Parameter:
    """One array that learns: what it is, what has been accumulated, and the chain that makes a step of it.

    Where every batch makes an update and the chain is a mere running sum, tau <- m tau + dW, what is new is accumulated
    right in tau: ``dW`` is tau then, and ``share`` is m.

    Attributes
    ----------
    W, dW : arrays of one shape          dW is overwritten by the update
    role : ``weights``, ``bias``, ``gain``
    links, states : the chain and what each link remembers; the last link is the rate
    share : what the first accumulation after an update leaves of dW
    straight : while what is learned goes straight into W, the factor on it (-rate); else None
    mask : ones and zeros, or None while every synapse exists
    nonnegative : whether W is cut off at 0
    """

    name: str
    W: Array
    role: str
    dW: Array = None
    links: Sequence[Link] = ()
    states: list[State] = field(default_factory=list)
    share: float = 0.0
    straight: float | None = None
    mask: Array = None
    nonnegative: bool = False
    _is_sum: bool = False  # dW is the memory of its one link
    _chain: list[tuple[Link, State]] = field(default_factory=list)  # links that do something else, and their memories

    def step(self, xp: Backend, rate: float | None, factor: float) -> None:
        """W <- W - rate * factor * (what the links make of dW)."""
        if self.straight is None:
            d = self.dW
            for link, state in self._chain:
                d = link.step(xp, d, self.W, state, self.role, self.dW)
            xp.add_scaled(self.W, d, -self.rate(rate) * factor, out=self.W)
        if self.mask is not None:
            xp.multiply(self.W, self.mask, out=self.W)
        if self.nonnegative:
            xp.relu(self.W, inplace=True)

    def silence(self, xp: Backend) -> None:
        """Nothing is left of synapses that do not exist: in W, in dW, in what the links remember."""
        memories = (value for state in self.states for value in state.values() if value.shape == self.W.shape)
        for array in (self.W, self.dW, *memories):
            xp.multiply(array, self.mask, out=array)

    def rate(self, given: float | None) -> float:
        """The rate given, or its own."""
        return self.links[-1].rate if given is None else given  # type: ignore[attr-defined]

    @property
    def is_plain(self) -> bool:
        """Whether an update is the rate and no more."""
        return not self._chain and not self._is_sum

    def relink(self, xp: Backend, links: Sequence[Link], at_once: bool = False) -> None:
        """Take another chain; a link of a kind there was before keeps what it remembers, if it is not idle now.

        ``at_once``: every batch makes an update, and nobody looks at dW between.
        """
        known = list(zip(self.links, self.states, strict=False))
        self.links, self.states = links, []
        for link in links[:-1]:
            place = next((i for i, (old, _) in enumerate(known) if type(old) is type(link)), None)
            kept = {} if place is None else known.pop(place)[1]
            self.states.append(link.init(xp, self.W) if _idle(link) or not kept else kept)
        pairs = zip(links[:-1], self.states, strict=True)
        self._chain = [(link, state) for link, state in pairs if not _idle(link)]
        sums = getattr(self._chain[0][0], "sums_in", None) if at_once and len(self._chain) == 1 else None
        if sums is None:
            self.dW, self.share = xp.zeros(self.W.shape) if self.dW is None or self._is_sum else self.dW, 0.0
        else:
            (link, state), self._chain = self._chain[0], []
            self.dW, self.share = state[sums], link.momentum  # type: ignore[attr-defined]
        self._is_sum = sums is not None

    def state(self) -> Iterator[tuple[str, Array]]:
        """Every array a checkpoint holds, by name."""
        yield self.name, self.W
        if not self._is_sum:
            yield f"{self.name}.dW", self.dW
        for i, state in enumerate(self.states):
            for key, value in state.items():
                yield f"{self.name}.update.{i}.{key}", value


def _idle(link: Link) -> bool:
    return getattr(link, "idle", False)


@dataclass
class Survivors:
    """Which synapses or neurons of one weight layer exist: a mask of ones and zeros, and what its pruning remembers."""

    name: str
    map: Map
    pruning: Pruning
    mask: Array
    memory: State

    @classmethod
    def of(cls, name: str, map: Map, pruning: Pruning | None) -> Survivors | None:
        """All of them; None where the layer is not pruned."""
        if pruning is None:
            return None
        shape = map.shape if pruning.of == "synapses" else (1, *map.output)
        return cls(name, map, pruning, map.xp.zeros(shape) + 1.0, pruning.init(map, shape))

    def decide(self, W: Array, epoch: int) -> None:
        """The next mask.

        Raises
        ------
        RunFailed       nothing would be left
        """
        xp, left = self.map.xp, self.pruning.mask(self.map, W, self.mask, self.memory, epoch)
        xp.multiply(self.mask, left, out=self.mask)
        if not bool((self.mask > 0.0).any()):
            raise RunFailed(f"layer {self.name!r}, epoch {epoch}: pruning leaves no {self.pruning.of}. Prune less.")

    def looks(self, W: Array) -> State:
        """For the log: the share that is alive, and the use of what is left, the mean of each unit's."""
        channel = (1, self.map.output[0], *(1 for _ in self.map.output[1:]))
        unit = self.map.unit_shape if self.pruning.of == "synapses" else channel
        others = tuple(axis for axis, size in enumerate(unit) if size == 1)
        used = (self.pruning.use(self.map, W, self.memory) * self.mask).sum(others)
        use = used / self.map.xp.maximum(self.mask.sum(others), 1.0)
        return {"alive": self.mask.mean(), "use": use.reshape((-1,))}

    def state(self) -> Iterator[tuple[str, Array]]:
        """Every array a checkpoint holds, by name."""
        for key, value in {"mask": self.mask, **self.memory}.items():
            yield f"{self.name}.pruning.{key}", value


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
    survivors: Survivors | None = None  # None: all synapses and neurons exist
    listened: bool = True
    keep: float = 0.0  # 0 until something has been accumulated since the last update
    seen: Local | None = None  # the latest visit, while its y is still to come
    memory: State = field(default_factory=dict)  # what the plasticity gathers
    settled: bool = False  # what was gathered since the last update is in dW
    heard: bool = False  # somebody above wants the error of a rendering
    gives_fresh = True
    spares_error = True
    holds_weights = True

    def __post_init__(self) -> None:
        needs = self.plasticity.needs if self.plasticity else set()
        self.wants_error = "dn" in needs
        self.wants_rendering = bool({"u", "x_hat"} & needs)
        self.gathers = hasattr(self.plasticity, "gather")
        self.memory = self.plasticity.init(self.map) if self.gathers else {}  # type: ignore[union-attr]
        self.unit_norm = getattr(self.plasticity, "unit_norm", False)
        self.weights.nonnegative = getattr(self.plasticity, "nonnegative", False)
        if self.survivors is not None:
            needs = needs | self.survivors.pruning.needs
            self.weights.mask = self.survivors.mask if self.survivors.pruning.of == "synapses" else None
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

    @property
    def neurons(self) -> Array | None:
        """Which neurons exist, a mask for y; None where nobody asks."""
        pruned = self.survivors is not None and self.survivors.pruning.of == "neurons"
        return self.survivors.mask if self.survivors is not None and pruned else None

    def wire(self, below: bool) -> bool:
        """See Unit."""
        self.listened = below
        return below or self.wants_error

    def forward(self, x: Array, at: At) -> tuple[Array, Local]:
        """n, and what was seen."""
        W = unit_norm(self.map, self.weights.W) if self.unit_norm else self.weights.W
        n = self.map.up(x, W, None if self.bias is None else self.bias.W)
        local = Local(x=x, at=at)
        if self.wants_n:
            local.n = n
        if self.wants_y:
            self.seen = local
        return n, local

    def back(self, dn: Array | None, cache: Local, top: Array, learn: Learn) -> Array | None:
        """Hand the error down, and learn."""
        cache.dn = dn
        if self.survivors is not None and cache.at.track and cache.at.watch:
            self.survivors.pruning.observe(self.map, cache, self.W, self.survivors.memory)
        silent = dn is None or not self.listened
        dx = None if silent else self.channel.carry(self.map, dn, top, self.feedback)
        if self.plasticity is not None and (dn is not None or not self.wants_error):
            learn(self, cache)
        return dx

    @property
    def renders(self) -> bool:
        """Whether something can come down through its weights: not to whole numbers."""
        return self.map.input != ()

    def wire_down(self, above: bool) -> bool:
        """Told at build whether anybody above wants the error of a rendering; says whether anybody here or above."""
        self.heard = above
        return above or self.wants_error

    def render(self, z: Array, cache: Local, watch: Watch | None) -> tuple[Array, Array]:
        """x_hat = down(z, W), through the very weights that went up; and z."""
        x_hat = self.map.down(z, self.weights.W)
        if self.wants_rendering:
            cache.u, cache.x_hat = z, x_hat
        return x_hat, z

    def render_back(self, d: Array | None, trace: Array, learn: Learn, errors: Mapping[str, Array]) -> Array | None:
        """The error at z, up(d, W); W learns from d and what it rendered."""
        if d is None:
            return None
        if self.wants_error:
            learn(self, Local(x=d, dn=trace, going_down=True))
        return self.map.up(d, self.weights.W) if self.heard else None

    def learn(self, local: Local, scale: float) -> None:
        """Add this visit's dW to what has been accumulated."""
        assert self.plasticity is not None
        if self.gathers:
            self.plasticity.gather(local, self.map, self.W, self.memory)  # type: ignore[attr-defined]
            self.keep, self.settled = 1.0, False
            return
        weights, bias = self.weights, None if local.going_down else self.bias
        local.keep = self.keep or weights.share
        if not self.keep and not self.overwrites:
            weights.dW[...] = weights.dW * local.keep if local.keep else 0.0
        if weights.straight is not None:
            local.keep, local.db = 1.0, None if bias is None else bias.W
            self.plasticity.dW(local, self.map, self.W, self.W, scale * weights.straight)
        elif self.wants_error:
            local.db = None if bias is None else bias.dW
            self.plasticity.dW(local, self.map, self.W, weights.dW, scale)
        else:
            self.plasticity.dW(local, self.map, self.W, weights.dW, -scale)
        if weights.mask is not None:
            self.xp.multiply(weights.dW, weights.mask, out=weights.dW)
        self.keep = 1.0

    def settle(self) -> None:
        """Turn what has been gathered since the last update into dW, once."""
        if not self.gathers or not self.keep or self.settled:
            return
        weights, change = self.weights, self.plasticity.settle(self.map, self.W, self.memory)  # type: ignore[union-attr]
        weights.dW[...] = weights.dW * weights.share - change if weights.share else -change
        if weights.mask is not None:
            self.xp.multiply(weights.dW, weights.mask, out=weights.dW)
        self.settled = True

    def refresh(self, stream: Stream) -> None:
        """V follows W; no error travels through a synapse that does not exist, whatever the channel."""
        self.channel.refresh(self.map, self.W, self.feedback, stream)
        self.silence_feedback()

    def silence_feedback(self) -> None:
        """V is 0 where a synapse does not exist."""
        V, mask = self.V, self.weights.mask
        if mask is not None and V is not None and V is not self.W and V.shape == mask.shape:
            self.xp.multiply(V, mask, out=V)

    def prune(self, epoch: int) -> bool:
        """When so many epochs are complete: whether something went, for good, as the layer's pruning has it."""
        if self.survivors is None or not self.survivors.pruning.due(epoch):
            return False
        self.survivors.decide(self.W, epoch)
        self.silence()
        return True

    def silence(self) -> None:
        """What does not exist is silent: in W, momentum, dW and V."""
        if self.weights.mask is not None:
            self.weights.silence(self.xp)
            self.silence_feedback()

    @property
    def is_plain(self) -> bool:
        """Learns from errors by a mere rate, so that what it learns may go straight into W."""
        return self.wants_error and self.overwrites and self.weights.is_plain

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
        for key, value in self.memory.items():
            yield f"{self.name}.plasticity.{key}", value
        if self.survivors is not None:
            yield from self.survivors.state()


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


@dataclass
class Tap:
    """The end of a layer, after its norm and activation: here y can be seen."""

    node: Node
    mask: Array = None  # of the neurons that exist
    watching: bool = False
    y: Array = None
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, None]:
        """Lets x through, of neurons that exist; hands it to whoever watches and to a rule that needs y."""
        if self.mask is not None:
            x = x * self.mask
        if self.watching:
            self.y = x
        if self.node.seen is not None:
            self.node.seen.y, self.node.seen = x, None
        return x, None

    def back(self, dy: Array, cache: None, top: Array, learn: Learn) -> Array:
        """Lets dy through, to neurons that exist."""
        return dy if self.mask is None else dy * self.mask

    @property
    def clear(self) -> bool:
        """Where all neurons exist."""
        return self.mask is None

    def render(self, z: Array, cache: None, watch: Watch | None) -> tuple[Array, None]:
        """z of the neurons that exist."""
        return z * self.mask, None

    def render_back(self, d: Array, trace: None, learn: Learn, errors: Mapping[str, Array]) -> Array:
        """d at the neurons that exist."""
        return d * self.mask

    def unmasked(self, z: Array) -> Array:
        """As it is."""
        return z

    unmasked_back = unmasked


@dataclass
class Outlet:
    """A signal inside the network that a loss looks at: lets x through, and adds the loss's error to what comes back.

    Attributes
    ----------
    signal : its name, ``conv2.n`` or ``conv2.y``
    shape : of one sample
    open : whether the values of this forward are kept
    values, errors : one for every visit of a forward, in their order; errors may be empty
    visits : how many there were while it was open
    """

    signal: str
    shape: tuple[int, ...]
    open: bool = False
    visits: int = 0
    values: list[Array] = field(default_factory=list)
    errors: list[Array] = field(default_factory=list)
    holds_weights = True  # `back` is called also where no error comes from above
    clear = True

    def wire(self, below: bool) -> bool:
        """See Unit."""
        self.listened = below
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, int]:
        """Lets x through; which visit it was."""
        if self.open:
            self.values.append(x)
        return x, len(self.values) - 1

    def close(self) -> list[Array]:
        """The values of all visits, in their order; nothing is kept."""
        values, self.values = self.values, []
        self.open, self.visits = False, len(values)
        return values

    def back(self, dy: Array | None, cache: int, top: Array, learn: Learn) -> Array | None:
        """The error from above and the loss's, where there is one and anybody listens."""
        if not self.listened:
            return None
        if not self.errors:
            return dy
        error = self.errors[cache]
        return error if dy is None else dy + error


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

    @property
    def by_sample(self) -> bool:
        """Whether no sample looks at another."""
        return all(getattr(unit, "by_sample", False) for unit in self.units)

    def wire(self, below: bool) -> bool:
        """Tells every unit whether anybody below it wants the error."""
        self.listened, self.weighted = [], []
        for unit in self.units:
            self.weighted.append(getattr(unit, "holds_weights", False))
            self.listened.append(below)
            below = unit.wire(below)
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, list[Any]]:
        """Through all units; in testing nothing is kept, unless something is to be rendered."""
        tape = []
        for unit in self.units:
            x, cache = unit.forward(x, at)
            if at.train or at.render:
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

    @property
    def renders(self) -> bool:
        """Whether all units can be gone down through."""
        return all(can_render(unit) for unit in self.units)

    def wire_down(self, above: bool) -> bool:
        """As a Node, from the top unit to the bottom."""
        for unit in reversed(self.units):
            above = unit.wire_down(above) if hasattr(unit, "wire_down") else above
        return above

    def render(self, z: Array, cache: Sequence[Any], watch: Watch | None = None) -> tuple[Array, list[Any]]:
        """What the top unit is to render, down to the bottom; and every unit's trace, the bottom one's last."""
        template, trace = z, []
        for unit, seen in zip(reversed(self.units), reversed(cache), strict=True):
            if watch is not None:
                seen = watch(unit, seen, z, template)
            kept = None
            if not getattr(unit, "clear", False):
                z, kept = unit.render(z, seen, watch)
                if watch is not None:
                    template = unit.unmasked(template) if hasattr(unit, "unmasked") else z
            trace.append(kept)
        return z, trace

    def render_back(
        self, d: Array | None, trace: Sequence[Any], learn: Learn, errors: Mapping[str, Array]
    ) -> Array | None:
        """The error at what the top unit rendered; d: at what came out below, ``errors``: at templates, by layer."""
        e: Array | None = None  # at the template
        for unit, kept in zip(self.units, reversed(trace), strict=True):
            if getattr(unit, "clear", False):
                continue
            if hasattr(unit, "unmasked_back"):
                d = None if d is None else unit.render_back(d, kept, learn, errors)
                e = None if e is None else unit.unmasked_back(e)
            else:
                d = unit.render_back(total(d, e), kept, learn, errors)
                e = errors.get(unit.name) if isinstance(unit, Node) else None
        return total(d, e)


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
            y, cache = self.unit.forward(x.reshape((-1, *x.shape[2:])), at)
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


def can_render(unit: Any) -> bool:
    """Whether a generative pass can go down through a unit."""
    return getattr(unit, "clear", False) or (hasattr(unit, "render") and getattr(unit, "renders", True))


def unit_norm(map: Map, W: Array) -> Array:
    """W with every unit's weights at length one; where all are 0 they stay so."""
    axes = tuple(axis for axis, size in enumerate(map.unit_shape) if size == 1)
    return W / map.xp.maximum(map.xp.sqrt((W * W).sum(axes, keepdims=True)), 1e-12)


def total(a: Array | None, b: Array | None) -> Array | None:
    """The sum of what there is."""
    return b if a is None else a if b is None else a + b


def walk(unit: Any) -> Iterator[Any]:
    """Every unit inside ``unit``, itself included, in the order they run."""
    yield unit
    for inner in getattr(unit, "units", ()):
        yield from walk(inner)
