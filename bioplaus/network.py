"""A network: units, a pass over them, a loss. It learns in two acts, ``accumulate`` and ``update``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite, prod
from typing import Any

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.errors import RunError
from bioplaus.losses.terms import WHOLE, Shares, Terms, halves
from bioplaus.parts import COLLECT, LOOK, TEST, At, Batch, Learn, Local, Map, Pass, State
from bioplaus.units import GainBias, Node, NormSite, Numbers, Outlet, Parameter, Tap


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
    memory : what the loss remembers
    terms : value of every term of the loss, before its weight, for the batch scored last; on the device
    batches, updates : how many batches have been learned from, how many updates made
    pending : how many batches dW holds that no update has used
    watched : on the device; 0 as long as the dW looked at last were finite, else NaN
    """

    xp: Backend
    units: list[Any]
    pass_: Pass
    loss: Terms
    stream: Stream
    reduction: str = "sum"
    batches_per_update: int = 1
    clip: float | None = None
    output: tuple[int, ...] = ()
    memory: State = field(default_factory=dict)
    batches: int = 0
    updates: int = 0
    pending: int = 0
    watched: Array = 0.0
    terms: dict[str, Array] = field(default_factory=dict)
    nodes: list[Node] = field(init=False)
    norms: list[NormSite] = field(init=False)
    gains: list[GainBias | Numbers] = field(init=False)  # what learns beside the weights
    taps: list[Tap] = field(init=False)
    outlets: dict[str, list[Outlet]] = field(init=False)  # by signal
    learners: list[Node | GainBias | Numbers] = field(init=False)
    carriers: list[Any] = field(init=False)  # what goes on from batch to batch
    steps: int = field(init=False)  # of time in a batch x (T, N, ...); 0 where samples are no sequences

    def __post_init__(self) -> None:
        self.nodes = [unit for unit in self.units if isinstance(unit, Node)]
        self.norms = [unit for unit in self.units if isinstance(unit, NormSite)]
        self.gains = [unit for unit in self.units if isinstance(unit, GainBias | Numbers)]
        self.taps = [unit for unit in self.units if isinstance(unit, Tap)]
        found = [unit for unit in self.units if isinstance(unit, Outlet)]
        self.outlets = {one.signal: [each for each in found if each.signal == one.signal] for one in found}
        self.learners = [*self.nodes, *self.gains]
        self.carriers = [unit for unit in self.units if hasattr(unit, "adopt")]
        self.steps = getattr(self.pass_, "steps", 0)

    def __repr__(self) -> str:
        """Layers and sizes; never the weights."""
        layers = ", ".join(f"{node.name} {'×'.join(map(str, node.map.shape))}" for node in self.nodes)
        where = f"{self.xp.name} on {self.xp.device}"
        return f"<Network {layers}; {self.count():,} parameters, {self.updates} updates, {where}>"

    def batch(self, x: Any, y: Any, starts: bool = True) -> Batch:
        """x (N, ...), y (N,) whole-number labels or (N, ...) targets as a batch on this network's device.

        For a network over time x is (T, N, ...), or (T, N) whole-number symbols, and y (T, N); ``starts`` is False
        where they go on from the batch before.
        """
        xp = self.xp
        given = xp.raw(y)
        labels = xp.whole(given) if "int" in str(given.dtype) else xp.array(y)
        symbols = self.steps and "int" in str(xp.raw(x).dtype)
        return Batch(xp.whole(xp.raw(x)) if symbols else xp.array(x), labels, starts=starts)

    def samples(self, batch: Batch) -> int:
        """How many samples a batch holds; every symbol of a text is one."""
        return prod(batch.x.shape[: 2 if self.steps else 1])

    @property
    def updates_at_once(self) -> bool:
        """Whether every batch makes an update and nothing is done to dW before its links see it."""
        return self.batches_per_update == 1 and self.clip is None

    # -- learning ----------------------------------------------------------------------------
    def accumulate(self, batch: Batch) -> tuple[Array, Array]:
        """Forward, error, back: dW grows by this batch's share. Returns (loss sum, number wrong), on the device."""
        scale = 1.0 / self.batches_per_update
        if self.reduction == "mean":
            scale /= batch.x.shape[1 if self.steps else 0]
        with self.xp.scope():
            at = At(batch=self.batches)
            self.terms, wrong = self._up_and_back(batch, at, lambda unit, local: unit.learn(local, scale))
            loss = self.loss.total(self.terms)
        self.batches += 1
        self.pending += 1
        return loss, wrong

    def _up_and_back(self, batch: Batch, at: At, learn: Learn) -> tuple[dict[str, Array], Array]:
        """({term: value}, number wrong); labelled and unlabelled samples each with statistics of their own."""
        values: dict[str, Array] = {}
        wrong: Array = 0.0
        for visit, (half, shares) in enumerate(halves(batch)):
            now = at._replace(visit=visit, watch=batch.labelled is None or half.labelled == 0)
            signals, tape = self._up(half, now)
            found, errors = self._scores(signals, half, now, shares)
            values = {name: value + values[name] if values else value for name, value in found.items()}
            wrong = wrong + self.loss.wrong(self.xp, signals, half, shares)
            self._back(errors, tape, learn)
        return values, wrong

    def begin_epoch(self, batch: Batch, epoch: int) -> None:
        """An epoch begins with this batch: for a loss that wants to know (``loss.begins_epochs``)."""
        with self.xp.scope():
            signals, _ = self._up(batch, LOOK._replace(batch=self.batches))
            self.loss.begin_epoch(self.xp, signals, batch, self.memory, self.stream.at("loss", epoch))

    def _up(self, batch: Batch, at: At) -> tuple[dict[str, Array], Any]:
        """(every signal that the loss looks at, tape)."""
        open_ = [outlet for outlets in self.outlets.values() for outlet in outlets]
        for outlet in open_:
            outlet.open = True
        signals, tape = self.pass_.forward(batch, at._replace(render=getattr(self.pass_, "renders", False)))
        for signal, outlets in self.outlets.items():
            visits = [value for outlet in outlets for value in outlet.close()]
            signals[signal] = visits[0] if len(visits) == 1 else self.xp.stack(visits)
        return signals, tape

    def _scores(
        self, signals: dict[str, Array], batch: Batch, at: At, shares: Shares = WHOLE
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """({term: value}, {signal: error}), with an error at the output in any case: passes and channels ask for it."""
        values, errors = self.loss.scores(self.xp, signals, batch, self.memory, at, shares)
        if "output" not in errors:
            errors["output"] = self.xp.zeros(signals["output"].shape)
        return values, errors

    def _back(self, errors: dict[str, Array], tape: Any, learn: Learn) -> None:
        """Every error to where its signal came from, and down from there."""
        for signal, outlets in self.outlets.items():
            error, visits = errors.get(signal), sum(outlet.visits for outlet in outlets)
            shares = iter(() if error is None else [error] if visits == 1 else error)
            for outlet in outlets:
                outlet.errors = list(islice(shares, outlet.visits))
        self.pass_.back(errors, tape, learn)
        for outlets in self.outlets.values():
            for outlet in outlets:
                outlet.errors = []

    def cut_short(self) -> None:
        """The next update comes early: dW becomes the mean over the batches it holds, fewer than were to come."""
        with self.xp.scope():
            for parameter in self.parameters():
                self.xp.multiply(parameter.dW, self.batches_per_update / self.pending, out=parameter.dW)

    def update(self, rate: float | None = None, factor: float = 1.0) -> None:
        """One step of every parameter, then every V follows its W.

        ``rate`` overrides the rule's rates; ``factor`` is the schedule's and multiplies them.
        """
        with self.xp.scope():
            self._settle()
            if self.clip is not None:
                self._clip(self.clip)
            parameters = list(self.parameters())
            if self.updates % WATCH_EVERY == 0 and parameters:
                self.watched = sum(((p.dW if p.straight is None else p.W) * 0.0).sum() for p in parameters)
            for parameter in parameters:
                parameter.step(self.xp, rate, factor)
            self.updates += 1
            self.pending = 0
            for node in self.nodes:
                if node.keep or node.redraws:
                    node.refresh(self._feedback_stream(node))
            for unit in self.learners:
                unit.keep = 0.0
            for site in self.norms:
                site.norm.updated(self.xp, site.stats)

    def settle(self) -> None:
        """What layers have gathered since the last update becomes dW: for rules that solve for what they want."""
        with self.xp.scope():
            self._settle()

    def _settle(self) -> None:
        for node in self.nodes:
            node.settle()

    def prune(self, epoch: int) -> list[Node]:
        """So many epochs are complete: the layers that have lost synapses or neurons for good, as their pruning has it.

        Raises
        ------
        RunFailed       nothing would be left of a layer
        """
        with self.xp.scope():
            return [node for node in self.nodes if node.prune(epoch)]

    def step(self, batch: Batch, rate: float | None = None, factor: float = 1.0) -> tuple[Array, Array]:
        """``accumulate`` and ``update`` in one act, for loops that do not look at dW.

        Where a layer is seen once and its update is a mere rate (sgd with neither momentum nor decay), what it learns
        goes straight into W. Returns (loss sum, number wrong), on the device.
        """
        twice = batch.labelled is not None or getattr(self.pass_, "revisits", False)
        at_once = self.updates_at_once and not self.pending and not twice
        straight = [p for node in self.nodes if at_once and node.is_plain for p in node.parameters()]
        for parameter in straight:
            parameter.straight = -parameter.rate(rate) * factor
        try:
            scored = self.accumulate(batch)
            self.update(rate, factor)
        finally:
            for parameter in straight:
                parameter.straight = None
        return scored

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
        length = self.xp.sqrt(sum(self.xp.inner(p.dW, p.dW) for p in parameters))
        share = longest / self.xp.maximum(length, longest)
        for parameter in parameters:
            self.xp.multiply(parameter.dW, share, out=parameter.dW)

    def _feedback_stream(self, node: Node) -> Stream:
        return self.stream.at("feedback", node.name, self.updates)

    # -- looking -----------------------------------------------------------------------------
    def evaluate(self, batch: Batch) -> tuple[Array, Array]:
        """(loss sum, number wrong) with the stored statistics; nothing learns."""
        with self.xp.scope():
            signals, _ = self._up(batch, TEST)
            self.terms, _ = self._scores(signals, batch, TEST)
            return self.loss.total(self.terms), self.loss.wrong(self.xp, signals, batch)

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
                if unit.weights.mask is not None:
                    self.xp.multiply(gradient[unit.name], unit.weights.mask, out=gradient[unit.name])

        ways = [(node, node.channel, node.feedback) for node in self.nodes]
        for node in self.nodes:
            node.channel, node.feedback = _ThroughW(), {"V": node.W}
        try:
            with self.xp.scope():
                self._up_and_back(batch, At(track=False, batch=self.batches - 1), gather)
        finally:
            for node, channel, feedback in ways:
                node.channel, node.feedback = channel, feedback
        return gradient

    def first_nonfinite(self, batch: Batch) -> str:
        """Name of the first layer whose output is not finite, for the latest batch and the state as it is."""
        for visit, (half, _) in enumerate(halves(batch)):
            with self.watching() as seen, self.xp.scope():
                self.pass_.forward(half, At(visit=visit, track=False, batch=self.batches - 1))
            for name, y in seen.items():
                if not isfinite(float((y * 0.0).sum())):
                    return name
        return self.nodes[-1].name

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
        keepers = (*self.learners, *self.norms, *self.carriers)
        found = {name: value for unit in keepers for name, value in unit.state()}
        return found | {f"loss.{name}": value for name, value in self.memory.items()}

    @property
    def counters(self) -> dict[str, int]:
        """What a checkpoint holds beside the arrays."""
        keeps = {f"{unit.name}.keep": int(unit.keep) for unit in self.learners}
        return {"batches": self.batches, "updates": self.updates, "pending": self.pending, **keeps}

    def load(self, state: dict[str, Any], counters: dict[str, int] | None = None) -> None:
        """Take over the arrays (host or device) of a checkpoint, all of them, in place."""
        with self.xp.scope():
            for unit in self.carriers:
                unit.adopt(state)
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
        for site in self.norms:
            if hasattr(site.norm, "loaded"):
                site.norm.loaded(site.stats)
        self.watched = 0.0
        if counters:
            self.batches, self.updates, self.pending = (counters[k] for k in ("batches", "updates", "pending"))
            for unit in self.learners:
                unit.keep = float(counters[f"{unit.name}.keep"])
            for node in self.nodes:
                node.settled = False

    def count(self) -> int:
        """Number of weights, biases and gains."""
        return sum(prod(p.W.shape) for unit in self.learners for p in unit.arrays())
