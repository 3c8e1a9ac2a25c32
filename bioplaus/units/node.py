"""A weight array with its four choices, and which of its synapses or neurons exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.errors import RunFailed
from bioplaus.parts import At, Channel, Learn, Local, Map, Plasticity, Pruning, State
from bioplaus.units.parameter import Parameter

# Told of every unit that is about to render: the unit, what forward left there, what comes from above, and what would
# come from above were all switches of the layer open. Gives what the unit is to render through.
Watch = Callable[[Any, Any, Array, Array], Any]


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


def unit_norm(map: Map, W: Array) -> Array:
    """W with every unit's weights at length one; where all are 0 they stay so."""
    axes = tuple(axis for axis, size in enumerate(map.unit_shape) if size == 1)
    return W / map.xp.maximum(map.xp.sqrt((W * W).sum(axes, keepdims=True)), 1e-12)
