"""A network: units, a pass over them, a loss. It learns in two acts, ``accumulate`` and ``update``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite, prod
from typing import Any

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.errors import RunError
from bioplaus.parts import COLLECT, LOOK, TEST, At, Batch, Local, Loss, Map, Pass, State
from bioplaus.units import GainBias, Node, NormSite, Parameter, Tap


class _ThroughW:
    """The way back of plain backpropagation."""

    def init(self, map: Map, W: Array, top: int, stream: Stream) -> State:
        return {"V": W}

    def refresh(self, map: Map, W: Array, state: State, stream: Stream) -> None:
        pass

    def carry(self, map: Map, dn: Array, top: Array, state: State) -> Array:
        return map.down(dn, state["V"])


WATCH_EVERY = 50  # updates between looks at dW: a sign update would hide a NaN


@dataclass(repr=False)
class Network:
    """Nodes, norm sites and gains in the order they run, with the pass that walks them.

    Attributes
    ----------
    reduction : ``sum`` (dW adds up over the samples of a batch) or ``mean``
    batches_per_update : dW is the mean over this many batches
    clip : where set, dW of all parameters together is shortened to at most this length before an update
    output : shape of one sample coming out
    batches, updates : how many batches have been learned from, how many updates made
    pending : how many batches dW holds that no update has used
    watched : on the device; 0 as long as the dW looked at last were finite, else NaN
    """

    xp: Backend
    units: list[Any]
    pass_: Pass
    loss: Loss
    stream: Stream
    reduction: str = "sum"
    batches_per_update: int = 1
    clip: float | None = None
    output: tuple[int, ...] = ()
    batches: int = 0
    updates: int = 0
    pending: int = 0
    watched: Array = 0.0
    nodes: list[Node] = field(init=False)
    norms: list[NormSite] = field(init=False)
    gains: list[GainBias] = field(init=False)
    taps: list[Tap] = field(init=False)
    learners: list[Node | GainBias] = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = [unit for unit in self.units if isinstance(unit, Node)]
        self.norms = [unit for unit in self.units if isinstance(unit, NormSite)]
        self.gains = [unit for unit in self.units if isinstance(unit, GainBias)]
        self.taps = [unit for unit in self.units if isinstance(unit, Tap)]
        self.learners = [*self.nodes, *self.gains]

    def __repr__(self) -> str:
        """Layers and sizes; never the weights."""
        layers = ", ".join(f"{node.name} {'×'.join(map(str, node.map.shape))}" for node in self.nodes)
        where = f"{self.xp.name} on {self.xp.device}"
        return f"<Network {layers}; {self.count():,} parameters, {self.updates} updates, {where}>"

    def batch(self, x: Any, y: Any) -> Batch:
        """x (N, ...), y (N,) whole-number labels or (N, ...) targets as a batch on this network's device."""
        given = self.xp.raw(y)
        return Batch(self.xp.array(x), self.xp.whole(given) if "int" in str(given.dtype) else self.xp.array(y))

    # -- learning ----------------------------------------------------------------------------
    def accumulate(self, batch: Batch) -> tuple[Array, Array]:
        """Forward, error, back: dW grows by this batch's share. Returns (loss sum, number wrong), on the device."""
        scale = 1.0 / self.batches_per_update
        if self.reduction == "mean":
            scale /= batch.x.shape[0]
        with self.xp.scope():
            signals, tape = self.pass_.forward(batch, At(batch=self.batches))
            loss, errors = self.loss.error(self.xp, signals, batch)
            wrong = self.loss.wrong(self.xp, signals, batch)
            self.pass_.back(errors, tape, lambda unit, local: unit.learn(local, scale))
        self.batches += 1
        self.pending += 1
        return loss, wrong

    def update(self, rate: float | None = None, factor: float = 1.0) -> None:
        """One step of every parameter, then every V follows its W.

        ``rate`` overrides the rule's rates; ``factor`` is the schedule's and multiplies them.
        """
        with self.xp.scope():
            if self.clip is not None:
                self._clip(self.clip)
            parameters = list(self.parameters())
            if self.updates % WATCH_EVERY == 0 and parameters:
                self.watched = sum((p.dW * 0.0).sum() for p in parameters)
            for parameter in parameters:
                parameter.step(self.xp, rate, factor)
            self.updates += 1
            self.pending = 0
            for node in self.nodes:
                if node.keep or node.redraws:
                    node.channel.refresh(node.map, node.W, node.feedback, self._feedback_stream(node))
            for unit in self.learners:
                unit.keep = 0.0
            for site in self.norms:
                site.norm.updated(self.xp, site.stats)

    def parameters(self) -> Iterator[Parameter]:
        """What learns: weights, biases and gains of layers that are not clamped, once something was accumulated."""
        for unit in self.learners:
            if unit.keep:
                yield from unit.parameters()

    def _clip(self, longest: float) -> None:
        """dW <- dW * min(1, longest / ||dW||) over all parameters together, without reading from the device."""
        parameters = list(self.parameters())
        if not parameters:
            return
        length = self.xp.sqrt(sum((p.dW * p.dW).sum() for p in parameters))
        share = longest / self.xp.maximum(length, longest)
        for parameter in parameters:
            self.xp.multiply(parameter.dW, share, out=parameter.dW)

    def _feedback_stream(self, node: Node) -> Stream:
        return self.stream.at("feedback", node.name, self.updates)

    # -- looking -----------------------------------------------------------------------------
    def evaluate(self, batch: Batch) -> tuple[Array, Array]:
        """(loss sum, number wrong) with the stored statistics; nothing learns."""
        with self.xp.scope():
            signals, _ = self.pass_.forward(batch, TEST)
            return self.loss.error(self.xp, signals, batch)[0], self.loss.wrong(self.xp, signals, batch)

    def predict(self, x: Array) -> Array:
        """The output for x (N, ...), with the stored statistics."""
        with self.xp.scope():
            return self.pass_.forward(Batch(x, None), TEST)[0]["output"]

    @property
    def collects(self) -> int:
        """How many training batches the norms want before testing."""
        return max((site.norm.collects for site in self.norms), default=0)

    def begin_collecting(self) -> None:
        """The next ``collects`` batches given to ``collect`` settle the statistics for testing."""
        for site in self.norms:
            site.norm.begin_collecting(site.stats)

    def collect(self, batch: Batch, place: int = 0) -> None:
        """One training batch, the ``place``-th of them, through the network for its statistics alone."""
        with self.xp.scope():
            self.pass_.forward(batch, COLLECT._replace(batch=-1 - place))

    def true_gradient(self, batch: Batch) -> dict[str, Array]:
        """dLoss/dW summed over the latest batch learned from, by layer: every V is W for once, nothing learns.

        Layers that are clamped or learn without an error have none.
        """
        gradient: dict[str, Array] = {}

        def gather(unit: Any, local: Local) -> None:
            if isinstance(unit, Node) and unit.wants_error:
                if unit.name not in gradient:
                    gradient[unit.name] = self.xp.zeros(unit.W.shape)
                unit.map.outer(local.x, local.dn, gradient[unit.name])

        ways = [(node, node.channel, node.feedback) for node in self.nodes]
        for node in self.nodes:
            node.channel, node.feedback = _ThroughW(), {"V": node.W}
        try:
            with self.xp.scope():
                signals, tape = self.pass_.forward(batch, At(track=False, batch=self.batches - 1))
                self.pass_.back(self.loss.error(self.xp, signals, batch)[1], tape, gather)
        finally:
            for node, channel, feedback in ways:
                node.channel, node.feedback = channel, feedback
        return gradient

    def first_nonfinite(self, batch: Batch) -> str:
        """Name of the first layer whose output for this batch is not finite, in the state as it is now."""
        with self.watching() as seen, self.xp.scope():
            self.pass_.forward(batch, LOOK)
        bad = (name for name, y in seen.items() if not isfinite(float((y * 0.0).sum())))
        return next(bad, self.nodes[-1].name)

    @contextmanager
    def watching(self) -> Iterator[dict[str, Array]]:
        """Inside it, every layer's output y of the latest forward is kept; filled by name at the end."""
        seen: dict[str, Array] = {}
        for tap in self.taps:
            tap.watching = True
        try:
            yield seen
        finally:
            for tap in self.taps:
                if tap.y is not None:
                    seen[tap.node.name] = tap.y
                tap.watching, tap.y = False, None

    # -- state -------------------------------------------------------------------------------
    @property
    def state(self) -> dict[str, Array]:
        """Every array a checkpoint holds, by dotted name; the arrays themselves."""
        return {name: value for unit in (*self.learners, *self.norms) for name, value in unit.state()}

    @property
    def counters(self) -> dict[str, int]:
        """What a checkpoint holds beside the arrays."""
        keeps = {f"{unit.name}.keep": int(unit.keep) for unit in self.learners}
        return {"batches": self.batches, "updates": self.updates, "pending": self.pending, **keeps}

    def load(self, state: dict[str, Any], counters: dict[str, int] | None = None) -> None:
        """Take over the arrays (host or device) of a checkpoint, all of them, in place."""
        own = self.state
        if missing := sorted(set(own) - set(state)):
            raise RunError(
                f"the checkpoint has no {missing[0]!r} ({len(missing)} arrays missing): another network or rule."
            )
        with self.xp.scope():
            for name, array in own.items():
                if tuple(array.shape) != tuple(state[name].shape):
                    given, wanted = tuple(state[name].shape), tuple(array.shape)
                    raise RunError(f"the checkpoint's {name!r} is {given}; this network wants {wanted}.")
                array[...] = self.xp.array(state[name])
        self.watched = 0.0
        if counters:
            self.batches, self.updates, self.pending = (counters[k] for k in ("batches", "updates", "pending"))
            for unit in self.learners:
                unit.keep = float(counters[f"{unit.name}.keep"])

    def count(self) -> int:
        """Number of weights, biases and gains."""
        return sum(prod(p.W.shape) for unit in self.learners for p in unit.arrays())
