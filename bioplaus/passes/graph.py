"""States that hand on to each other, one time step after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import PositiveInt

from bioplaus.backend.base import Array, Backend
from bioplaus.construct import Wanted
from bioplaus.errors import ConfigError, ShapeError
from bioplaus.parts import At, Batch, Learn, Site, Unit
from bioplaus.passes.feedforward import back_from_output

Time = Annotated[PositiveInt, Wanted("a time step: a whole number above 0")]
Plan = tuple[tuple[Any, ...], ...]  # the edges that are walked at time 1, 2, ...
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """States in time, and modules on the edges between them, each of which takes one time step.

        h_1(1) = prenet(x), all other states absent
        h_j(t+1) = sum or mean of T_ij(h_i(t)) over the edges i -> j open at t whose h_i(t) is there; else absent
        output = postnet(h_S(readout))

    Only what can reach the last state by the readout is built and run. Testing may read out at another time, with the
    modules of training; its statistics are those of training data at that time. A norm inside a module keeps one store
    for every visit, if it keeps them by visit.

    Source: Liao (2017), ch. 3; Liao & Poggio (2016), Bridging the gaps between residual learning, recurrent neural
    networks and visual cortex.
    """

    sections: ClassVar[tuple[str, ...]] = ("prenet", "states", "edges", "postnet")
    readout: Time
    test_readout: Time | None = None
    combine: Literal["sum", "mean"] = "sum"

    def place(self, site: Site, network: Any) -> Unrolled:
        """Every module placed once for all the times it is walked, unless its edge has a copy for every time."""
        names, plans = list(network.states), self.plans(network)
        prenet, shape = site.chain(network.prenet, tuple(network.input))
        _agrees(
            shape,
            network.states[names[0]],
            network.where("prenet"),
            f"the prenet gives {{}}, state {names[0]!r} is {{}}",
        )
        modules = _Modules(site, network, plans)
        training, testing = (modules.steps(plan) for plan in plans)
        postnet, output = site.chain(network.postnet, tuple(network.states[names[-1]]))
        pass_ = Unrolled(
            xp=site.xp,
            prenet=prenet,
            modules=tuple(modules.units.values()),
            postnet=postnet,
            output=output,
            first=names[0],
            last=names[-1],
            training=training,
            testing=testing,
            averages=self.combine == "mean",
            about=self.about(network, plans),
        )
        pass_.wire()
        return pass_

    def plans(self, network: Any) -> tuple[Plan, Plan]:
        """Which edges are walked at which time, in training and in testing.

        Raises
        ------
        ConfigError     an edge is open outside the times there are, nothing reaches the last state by a readout, or
                        testing would walk a module that training never does
        """
        training = _plan(network, self.readout, network.where("pass", "readout"))
        if self.test_readout is None:
            return training, training
        where = network.where("pass", "test_readout")
        testing = _plan(network, self.test_readout, where)
        trained = {_key(edge, t) for t, edges in _times(training) for edge in edges}
        for t, edges in _times(testing):
            for edge in edges:
                if _key(edge, t) not in trained:
                    raise ConfigError(
                        f"{where}: edge {edge.name!r} would be walked untrained at time {t}: by readout {self.readout} "
                        "training does not need it. Read out later in training, or share its module over time."
                    )
        return training, testing

    def about(self, network: Any, plans: tuple[Plan, Plan]) -> tuple[str, list[str], list[list[str]]]:
        """In words: a line on states and readouts; heads and rows of a table of the edges that are walked, and when."""
        states = ", ".join(f"{name} {_by(shape)}" for name, shape in network.states.items())
        testing = f", in testing at {self.test_readout}" if self.test_readout else ""
        line = f"states {states}; read out at time {self.readout}{testing}; a state is the {self.combine} of its inputs"
        shared = {True: "shared over time", False: "one copy per time"}
        shown = plans if self.test_readout else plans[:1]
        rows = [
            [
                edge.name,
                f"{edge.source} → {edge.target}",
                (edge.module if isinstance(edge.module, str) else "layers") + " + identity" * edge.identity,
                shared.get(edge.share, f"shared, set {edge.share}"),
                *(_spans([t for t, edges in _times(plan) if edge in edges]) for plan in shown),
            ]
            for edge in network.edges
        ]
        heads = ["edge", "states", "module", "weights", "walked at", "in testing at"]
        return line, heads[: len(rows[0])], [row for row in rows if row[4]]


class Visit(NamedTuple):
    """One walk of one edge: from which state, through which unit, and which of the unit's visits it is."""

    source: str
    unit: Any
    number: int


class Arrival(NamedTuple):
    """All that reaches one state at one time."""

    state: str
    visits: tuple[Visit, ...]


Step = tuple[Arrival, ...]


@dataclass
class Unrolled:
    """The pass: time steps forward from the first state to the last, and back through time."""

    xp: Backend
    prenet: Unit
    modules: tuple[Unit, ...]
    postnet: Unit
    output: Shape
    first: str
    last: str
    training: tuple[Step, ...]
    testing: tuple[Step, ...]
    averages: bool
    about: tuple[str, list[str], list[list[str]]] = ("", [], [])  # for whoever shows it
    provides = {"output"}

    @property
    def units(self) -> tuple[Unit, ...]:
        """For whoever walks."""
        return (self.prenet, *self.modules, self.postnet)

    def wire(self) -> None:
        """Tells every module whether anybody below it, at any time, wants the error."""
        wanting = {self.first: self.prenet.wire(False)}
        heard = dict.fromkeys(map(id, self.modules), False)
        for step in self.training:
            wanted = {}
            for state, visits in step:
                for visit in visits:
                    heard[id(visit.unit)] |= wanting[visit.source]
                wanted[state] = any([visit.unit.wire(wanting[visit.source]) for visit in visits])
            wanting = wanted
        for unit in self.modules:
            unit.wire(heard[id(unit)])
        self.postnet.wire(wanting[self.last])

    # -- forward -----------------------------------------------------------------------------
    def forward(self, batch: Batch, at: At) -> tuple[dict[str, Array], Any]:
        """({"output": (N, outputs)}, tape); to the readout of training where there is a way back, else of testing."""
        x, cache = self.prenet.forward(batch.x, at)
        present, tape = {self.first: x}, [cache]
        for step in self.training if at.train else self.testing:
            present = {state: self._combined(visits, present, at, tape) for state, visits in step}
        output, cache = self.postnet.forward(present[self.last], at)
        tape.append(cache)
        return {"output": output}, tape

    def _combined(self, visits: tuple[Visit, ...], present: Mapping[str, Array], at: At, tape: list[Any]) -> Array:
        """The sum or the mean of what arrives."""
        total: Array = None
        for place, (source, unit, number) in enumerate(visits):
            y, cache = unit.forward(present[source], at._replace(visit=number))
            if at.train:
                tape.append(cache)
            if place < 2:
                total = y if total is None else total + y  # y is the unit's; the sum is ours
            else:
                total += y
        if self.averages and len(visits) > 1:
            total = self.xp.multiply(total, 1.0 / len(visits), out=total)
        return total

    # -- back --------------------------------------------------------------------------------
    def back(self, errors: Mapping[str, Array], tape: list[Any], learn: Learn) -> None:
        """From the error at the output back through time; a state hands down the sum of what it was handed."""
        top = errors["output"]
        due = {self.last: back_from_output(self.postnet, top, tape.pop(), learn)}
        for step in reversed(self.training):
            below: dict[str, Array | None] = {}
            for state, visits in reversed(step):
                dy = self._shared(due[state], len(visits))
                for left, (source, unit, _) in reversed(list(enumerate(visits))):
                    may_write = dy is not None and left and not getattr(unit, "spares_error", False)
                    dx = unit.back(dy + 0.0 if may_write else dy, tape.pop(), top, learn)
                    below[source] = _sum(below.get(source), dx)
            due = below
        self.prenet.back(due[self.first], tape.pop(), top, learn)

    def _shared(self, dy: Array, visits: int) -> Array:
        """The error at each of the units whose values were combined."""
        if dy is None or not self.averages or visits == 1:
            return dy
        return dy * (1.0 / visits)


def _sum(a: Array | None, b: Array | None) -> Array | None:
    return b if a is None else a if b is None else a + b


# -- which edges are walked when -------------------------------------------------------------
def _plan(network: Any, readout: int, where: str) -> Plan:
    """The edges that carry something from the first state at time 1 to the last at the readout, by time."""
    names = list(network.states)
    open_at = [[edge for edge in network.edges if t in _window(edge, readout, network)] for t in range(1, readout)]
    reached = [{names[0]}]
    for edges in open_at:
        reached.append({edge.target for edge in edges if edge.source in reached[-1]})
    if names[-1] not in reached[-1]:
        raise ConfigError(
            f"{where}: no path leads from {names[0]!r} at time 1 to {names[-1]!r} at time {readout}. "
            "Read out later, or open edges that lead there."
        )
    needed, plan = {names[-1]}, []
    for edges, there in zip(reversed(open_at), reversed(reached[:-1]), strict=True):
        plan.append(tuple(edge for edge in edges if edge.source in there and edge.target in needed))
        needed = {edge.source for edge in plan[-1]}
    return tuple(reversed(plan))


def _window(edge: Any, readout: int, network: Any) -> range:
    """The time steps at which an edge is open; those counted from the end mean the steps before this readout."""
    first, last = edge.open or (1, -1)
    begin, end = (t if t > 0 else readout + t for t in (first, last))
    if edge.open and not 1 <= begin <= end < readout:
        raise ConfigError(
            f"{network.where('edges', edge.name, 'open')}: given [{first}, {last}], wanted the first and the last of "
            f"time steps 1 to {readout - 1}, or -1 for the last of them, -2 for the one before: readout is {readout}."
        )
    return range(begin, end + 1)


def _times(plan: Plan) -> Iterator[tuple[int, tuple[Any, ...]]]:
    return enumerate(plan, 1)


def _key(edge: Any, t: int) -> tuple[str, str]:
    """Whose module an edge walks at a time, its own or its set's; and which copy of it, where there is one per time."""
    return (edge.share, "") if isinstance(edge.share, str) else (edge.name, "" if edge.share else str(t))


class _Modules:
    """The units of the modules that training walks, in the order of the network's edges."""

    def __init__(self, site: Site, network: Any, plans: tuple[Plan, Plan]) -> None:
        self.length = max(map(len, plans))
        self.tied = {edge.name: [e.name for e in network.edges if _tied(edge, e)] for edge in network.edges}
        self.units: dict[tuple[str, str], Unit] = {}
        for edge in network.edges:
            for key in (_key(edge, t) for t, edges in _times(plans[0]) if edge in edges):
                if key not in self.units:
                    self.units[key] = self.placed(site, network, edge, key[1])

    def placed(self, site: Site, network: Any, edge: Any, copy: str) -> Unit:
        """One module, or one copy of it."""
        given, wanted = network.states[edge.source], network.states[edge.target]
        visits = 1 if copy else self.length * len(self.tied[edge.name])
        unit, shape = site.chain(edge.layers, tuple(given), visits=visits, copy=copy)
        where = network.where("edges", edge.name, "module")
        _agrees(shape, wanted, where, f"the module gives {{}}, state {edge.target!r} is {{}}")
        return unit

    def steps(self, plan: Plan) -> tuple[Step, ...]:
        """A plan with the units that are walked."""
        return tuple(tuple(self.arrivals(t, edges)) for t, edges in _times(plan))

    def arrivals(self, t: int, edges: Sequence[Any]) -> Iterator[Arrival]:
        """What reaches every state at one time."""
        for state in dict.fromkeys(edge.target for edge in edges):
            yield Arrival(state, tuple(self.visit(edge, t) for edge in edges if edge.target == state))

    def visit(self, edge: Any, t: int) -> Visit:
        """A module is visited once at every time, by each of the edges that share it; a copy once in all."""
        key, tied = _key(edge, t), self.tied[edge.name]
        return Visit(edge.source, self.units[key], 0 if key[1] else (t - 1) * len(tied) + tied.index(edge.name))


def _tied(edge: Any, other: Any) -> bool:
    return other.name == edge.name or (isinstance(edge.share, str) and other.share == edge.share)


def _agrees(given: Shape, wanted: Sequence[int], where: str, text: str) -> None:
    if tuple(given) != tuple(wanted):
        raise ShapeError(f"{where}: {text.format(_by(given), _by(wanted))}. Make them agree.")


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _spans(times: Sequence[int]) -> str:
    """Times as one says them: ``1–3, 5``."""
    ends = [t for t in times if t + 1 not in times]
    starts = [t for t in times if t - 1 not in times]
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in zip(starts, ends, strict=True))
