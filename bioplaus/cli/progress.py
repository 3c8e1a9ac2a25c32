"""What a training prints while it runs: a bar on a terminal, lines elsewhere, JSON or nothing where asked."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from bioplaus.cli import table
from bioplaus.train.listeners import Listener, Moment
from bioplaus.train.plan import Phase, phase_of
from bioplaus.train.session import Session
from bioplaus.units import GainBias

ALWAYS = ("channel", "norm")  # choices that have a column; the others have one where layers differ
CHOICES = (*ALWAYS, "update", "plasticity", "pruning")


class Watching(Listener):
    """Prints nothing."""

    def begin(self, session: Session) -> None:
        """Before the first step."""

    def __enter__(self) -> Watching:
        """Starts."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends."""


class Json(Watching):
    """One JSON object per epoch."""

    def epoch_ended(self, network: Any, moment: Moment, row: dict[str, Any]) -> None:
        """One line."""
        click.echo(json.dumps(row))


class Lines(Watching):
    """What really runs, then one line per epoch; on a terminal also a bar within each epoch."""

    def __init__(self, console: Console) -> None:
        """Prints on ``console``."""
        self.console = console
        self.phases: Sequence[Phase] = ()
        self.since, self.place = time.monotonic(), 0  # when this epoch began here, after how many of its batches
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=None, epoch="", said="")

    def say(self, text: str, style: str = "") -> None:
        """One line as it is, however narrow the terminal."""
        self.console.print(Text(text, style), soft_wrap=True)

    def begin(self, session: Session) -> None:
        """Backend, network, and a table of layers x choices."""
        about = session.attributes()
        threads = about["threads"]
        self.say(f"{about['rule']} on {about['dataset']}, seed {about['seed']}", "bold")
        self.say(
            f"{about['backend']} on {about['device']}"
            + (f", {threads} thread{'s' * (threads > 1)}" if threads else "")
            + f", {about['dtype']}; network {about['network']}, {about['parameters']:,} parameters"
        )
        for note in session.dataset.notes:
            self.say(note)
        heads, rows, shared = layers(session)
        table.show(heads, rows)
        for i, text in enumerate(shared):
            self.say(f"{'' if i else 'every layer:':<12} {text}")
        if session.folder is not None:
            self.say(f"log: {session.folder.path}")
        self.phases, self.place = session.phases, session.progress.place
        self.bar.update(self.task, epoch=f"{session.progress.epoch + 1}/{session.phases[-1].end}")
        self.bar.start()
        self.since = time.monotonic()

    def advanced(self, moment: Moment, loss: float, error: float, rate: float) -> None:
        """Moves the bar."""
        size = phase_of(self.phases, moment.epoch).samples_per_batch
        speed = (moment.place - self.place) * size / max(time.monotonic() - self.since, 1e-9)
        self.bar.update(
            self.task,
            completed=moment.place,
            total=moment.batches,
            said=f"loss {loss:.4f}  error {error:.2f} %  rate {rate:.2g}  {speed:,.0f} samples/s",
            refresh=True,
        )

    def epoch_ended(self, network: Any, moment: Moment, row: dict[str, Any]) -> None:
        """One line."""
        scores = "  ".join(
            f"{name} {row[name]['error']:.2f} %" for name in ("train", "validation", "test") if name in row
        )
        self.say(
            f"epoch {row['epoch']:>{len(str(moment.epochs))}}/{moment.epochs}  loss {row['train']['loss']:.4f}  "
            f"error: {scores}  rate {row['rate']:.2g}  {time.monotonic() - self.since:.1f} s"
        )
        following = min(row["epoch"] + 1, moment.epochs)
        self.bar.reset(self.task, total=None, epoch=f"{following}/{moment.epochs}", said="")
        self.since, self.place = time.monotonic(), 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Takes the bar away."""
        self.bar.stop()


def layers(session: Session) -> tuple[list[str], list[list[str]], list[str]]:
    """(heads, rows) of layers x choices as they are, and the choices that are the same in every layer."""
    norms = {site.name for site in session.network.norms}
    gains = {unit.name for unit in session.network.units if isinstance(unit, GainBias)}
    chosen = session.choices()
    said: dict[str, list[str]] = {choice: [] for choice in CHOICES}
    for node in session.network.nodes:
        spec = chosen[node.name]
        norm = _said(spec["norm"]) if node.name in norms else "none"
        gained = " + gain, bias" if node.name in gains and "affine" not in norm else ""
        for choice in CHOICES:
            said[choice].append(norm + gained if choice == "norm" else _said(spec[choice]))
    columns = [choice for choice in CHOICES if choice in ALWAYS or len(set(said[choice])) > 1]
    rows = [
        [node.name, "×".join(map(str, node.map.shape)), *(said[choice][i] for choice in columns)]
        for i, node in enumerate(session.network.nodes)
    ]
    shared = [f"{choice} {said[choice][0]}" for choice in CHOICES if choice not in columns]
    return ["layer", "weights", *columns], rows, shared


def _said(spec: Any) -> str:
    """A part as one would say it: ``bm1 (rate 5e-05, momentum 0.9)``."""
    if isinstance(spec, list | tuple):
        return " → ".join(link if isinstance(link, str) else _linked(link) for link in spec)
    rest = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in spec.items()
        if key != "recipe"
    )
    return f"{spec['recipe']} ({rest})" if rest else str(spec["recipe"])


def _linked(link: Mapping[str, Any]) -> str:
    """One link of a list, as one would say it: ``momentum 0.9``."""
    if "recipe" in link:
        return _said(link)
    return ", ".join(key if value is None else f"{key} {value}" for key, value in link.items())


def listener(*, quiet: bool, as_json: bool) -> Watching:
    """The one that was asked for."""
    if as_json:
        return Json()
    return Watching() if quiet else Lines(Console())
