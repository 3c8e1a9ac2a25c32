"""What a training says while it runs, in plain lines: what really runs, how far it is, how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isnan
from types import TracebackType
from typing import Any, NamedTuple

from bioplaus.config.text import shown
from bioplaus.record import Run
from bioplaus.train.listeners import Listener, Moment
from bioplaus.train.plan import Phase, phase_of
from bioplaus.train.session import Session
from bioplaus.units import GainBias, NormSite

EVERY = 60.0  # seconds between lines within an epoch
ALWAYS = ("channel", "norm")  # choices that have a column; the others have one where layers differ
CHOICES = (*ALWAYS, "update", "plasticity", "pruning")
MEASURES = {"perplexity": "{:.2f}", "error": "{:.2f} %", "loss": "{:.4f}"}  # the first that was scored is said
SPLITS = ("train", "validation", "test")


class Watching(Listener):
    """A listener that is also told when the training begins and how it ended; says nothing."""

    def begin(self, session: Session) -> None:
        """Before the first step."""

    def ended(self, run: Run) -> None:
        """The run is complete."""

    def __enter__(self) -> Watching:
        """Starts."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends, however it does."""


def _print(line: str) -> None:
    print(line, flush=True)


class Lines(Watching):
    """What really runs, a line after every epoch and about every minute within one, and how it ended.

    Parameters
    ----------
    say : takes a line
    clock : seconds that have gone by
    """

    def __init__(self, say: Callable[[str], None] = _print, clock: Callable[[], float] = time.monotonic) -> None:
        self.say, self.pace, self.said = say, Pace(clock), 0.0

    def begin(self, session: Session) -> None:
        """What really runs."""
        for item in what_runs(session):
            for line in [item] if isinstance(item, str) else item.lines():
                self.say(line)
        self.pace.begin(session)
        self.said = self.pace.clock()

    def advanced(self, moment: Moment, loss: float, error: float, rate: float) -> None:
        """A line where the last one was a minute ago."""
        if self.pace.clock() - self.said >= EVERY and moment.place < moment.batches:
            now = f"{_epoch(moment.epoch + 1, moment.epochs)}  batch {moment.place}/{moment.batches}"
            self.say(f"{now}  {running(loss, error, rate)}  {self.pace.speed(moment)}")
            self.said = self.pace.clock()

    def epoch_ended(self, network: Any, moment: Moment, row: dict[str, Any]) -> None:
        """One line."""
        self.say(f"{scored(moment, row)}  {self.pace.next_epoch():.1f} s")
        self.said = self.pace.clock()

    def ended(self, run: Run) -> None:
        """How it ended."""
        for line in how_it_ended(run):
            self.say(line)


class Pace:
    """How long an epoch has been going on, and how fast."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins now."""
        self.clock = clock
        self.since, self.place = clock(), 0  # when this epoch began here, after how many of its batches
        self.phases: Sequence[Phase] = ()
        self.steps, self.counted = 1, "samples"  # how many of them a batch takes of each stream of a text

    def begin(self, session: Session) -> None:
        """The first step comes."""
        self.phases, self.steps = session.phases, session.feeds["train"].steps
        self.counted = "symbols" if session.dataset.is_text else "samples"
        self.since, self.place = self.clock(), session.progress.place

    def next_epoch(self) -> float:
        """Seconds that the last one took."""
        before, self.since, self.place = self.since, self.clock(), 0
        return self.since - before

    def speed(self, moment: Moment) -> str:
        """``1,234 samples/s``."""
        each = phase_of(self.phases, moment.epoch).samples_per_batch * self.steps
        speed = (moment.place - self.place) * each / max(self.clock() - self.since, 1e-9)
        return f"{speed:,.0f} {self.counted}/s"


class Table(NamedTuple):
    """Heads and rows."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def lines(self) -> Iterator[str]:
        """Its columns aligned."""
        widths = [max(map(len, column)) for column in zip(self.heads, *self.rows, strict=True)]
        for row in (self.heads, *self.rows):
            yield "  ".join(map(str.ljust, row, widths)).rstrip()


def what_runs(session: Session) -> Iterator[str | Table]:
    """Rule, data, backend, network, layers x choices and run folder; and, of a run that goes on, from where."""
    about, progress = session.attributes(), session.progress
    threads = about["threads"]
    begun = f", from epoch {progress.epoch + 1}" if progress.epoch or progress.place else ""
    within = f", batch {progress.place + 1}" if progress.place else ""
    yield f"{about['rule']} on {about['dataset']}, seed {about['seed']}{begun}{within}"
    yield (
        f"{about['backend']} on {about['device']}"
        + (f", {threads} thread{'s' * (threads > 1)}" if threads else "")
        + f", {about['dtype']}; network {about['network']}, {about['parameters']:,} parameters"
    )
    yield from session.dataset.notes
    if untaught := session.dataset.untaught:
        yield f"no training sample of class {', '.join(map(str, untaught))}"
    if told := getattr(session.network.pass_, "about", None):  # a pass that has something to say of itself
        line, *table = told
        yield line
        yield Table(*table)
    yield from layers(session)
    terms = {name: {"recipe": name, **term} for name, term in session.config.losses.items()}
    yield from _listed("loss:", [f"{name}: {t.pop('weight', 1.0):g} × {_said(t)}" for name, t in terms.items()])
    if session.labels is not None:
        seen, samples = len(session.labels.index), len(session.dataset.train)
        share = f"{session.labels.share:.0%} of every batch"
        yield f"labels: {seen:,} of {samples:,} training samples, {share}; the training error is of these"
    if session.config.data.augment:
        yield f"training images: {', '.join(_said_item(item) for item in session.config.data.augment)}"
    prunings = [node.survivors.pruning for node in session.network.nodes if node.survivors is not None]
    coming = range(progress.epoch + 1, session.phases[-1].end + 1)
    if prunings and not any(pruning.due(epoch) for pruning in prunings for epoch in coming):
        yield f"no cut is due at the end of epochs {coming.start} to {coming[-1]}: what exists now stays"
    fewest = min(phase.samples_per_batch for phase in session.phases)
    blind = [site.name for site in session.network.norms if _sees_no_deviation(site, fewest)]
    if blind:
        yield (
            f"norm of {', '.join(blind)}: one sample a batch never differs from its own mean, so there is no deviation "
            "to divide by; take centre: B, as streaming_l1 has it, or more samples a batch"
        )
    if session.folder is not None:
        yield f"log: {session.folder.path}"


def running(loss: float, error: float, rate: float) -> str:
    """How an epoch is going."""
    wrong = "" if isnan(error) else f"error {error:.2f} %  "
    return f"loss {loss:.4f}  {wrong}rate {rate:.2g}"


def scored(moment: Moment, row: Mapping[str, Any]) -> str:
    """How an epoch has ended."""
    measure = next(each for each in MEASURES if each in row["train"])
    scores = "  ".join(f"{name} {MEASURES[measure].format(row[name][measure])}" for name in SPLITS if name in row)
    loss = f"loss {row['train']['loss']:.4f}  " if measure != "loss" else ""
    return f"{_epoch(row['epoch'], moment.epochs)}  {loss}{measure}: {scores}  rate {row['rate']:.2g}"


def how_it_ended(run: Run) -> Iterator[str]:
    """Last and best test score, how long it took, and where to look next."""
    summary = run.summary
    last, best = summary["last"], summary["best"]
    measure = next(each for each in MEASURES if f"test_{each}" in last)
    then, now = (MEASURES[measure].format(each[f"test_{measure}"]) for each in (best, last))
    chosen = ", by validation" if f"validation_{measure}" in best else ""
    seconds = summary["train_seconds"] + summary["test_seconds"]
    took = f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"
    yield f"test {measure}: last {now}, best {then} (epoch {best['epoch']}{chosen}); {took}"
    yield f"look at it with: bioplaus inspect {shown(run.path)}"
    if any(table.endswith("/rendering") for table in run.tables):
        yield f"see what it draws with: bioplaus generate {shown(run.path)}"


def layers(session: Session) -> Iterator[str | Table]:
    """Layers x choices as they are, and a line for each choice that is the same in every layer."""
    norms = {site.name for site in session.network.norms}
    gains = {unit.name for unit in session.network.units if isinstance(unit, GainBias)}
    chosen = session.choices()
    shapes = {node.name: "×".join(map(str, node.map.shape)) for node in session.network.nodes}
    names = _with_states(list(shapes), [name for name in chosen if name not in shapes])
    said: dict[str, list[str]] = {choice: [] for choice in CHOICES}
    for name in names:
        spec = chosen[name]
        norm = _said(spec["norm"]) if name in norms else "none"
        gained = " + gain, bias" if name in gains and "affine" not in norm else ""
        for choice in CHOICES:
            weightless = choice in ("channel", "pruning") and name not in shapes
            said[choice].append(norm + gained if choice == "norm" else "" if weightless else _said(spec[choice]))
    columns = [choice for choice in CHOICES if choice in ALWAYS or len({*said[choice]} - {""}) > 1]
    rows = [[name, shapes.get(name, "state"), *(said[choice][i] for choice in columns)] for i, name in enumerate(names)]
    yield Table(["layer", "weights", *columns], _gathered(rows))
    yield from _listed("every layer:", [f"{choice} {said[choice][0]}" for choice in CHOICES if choice not in columns])


def _sees_no_deviation(site: NormSite, samples: int) -> bool:
    asked = getattr(site.norm, "sees_no_deviation", None)
    return asked is not None and asked(site.stats, samples)


def _with_states(layers: list[str], states: Sequence[str]) -> list[str]:
    """All names, each state behind the last product of its cell."""
    names = [*layers]
    for state in states:
        cell = state.rpartition(".")[0]
        last = max(place for place, name in enumerate(names) if name.rpartition(".")[0] == cell)
        names.insert(last + 1, state)
    return names


def _gathered(rows: list[list[str]]) -> list[list[str]]:
    """Rows that tell the same of copies of one layer as one: ``h1_h1.conv1@1…3``."""
    copies: dict[tuple[str, ...], list[str]] = {}
    for name, *rest in rows:
        copies.setdefault((name.partition("@")[0], *rest), []).append(name)
    return [
        [names[0] if len(names) == 1 else f"{names[0]}…{names[-1].partition('@')[2]}", *rest]
        for (_, *rest), names in copies.items()
    ]


def _listed(head: str, texts: Sequence[str]) -> Iterator[str]:
    """One below the other, the first behind the head."""
    for i, text in enumerate(texts):
        yield f"{'' if i else head:<12} {text}"


def _epoch(epoch: int, epochs: int) -> str:
    return f"epoch {epoch:>{len(str(epochs))}}/{epochs}"


def _said(spec: Any) -> str:
    """A part as one would say it: ``bm1 (rate 5e-05, momentum 0.9)``."""
    if isinstance(spec, list | tuple):
        return " → ".join(_said_item(link) for link in spec)
    rest = ", ".join(f"{key} {_said_value(value)}" for key, value in spec.items() if key != "recipe")
    return f"{spec['recipe']} ({rest})" if rest else str(spec["recipe"])


def _said_value(value: Any) -> str:
    """A parameter, which may be a part itself."""
    if isinstance(value, Mapping) and "recipe" in value:
        return _said(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _said_item(item: Any) -> str:
    """One item of a list of parts."""
    return item if isinstance(item, str) else _linked(item)


def _linked(link: Mapping[str, Any]) -> str:
    """One link of a list, as one would say it: ``momentum 0.9``."""
    if "recipe" in link:
        return _said(link)
    return ", ".join(key if value is None else f"{key} {value}" for key, value in link.items())
