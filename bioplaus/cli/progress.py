"""What a training prints while it runs: a bar on a terminal, lines elsewhere, JSON or nothing where asked."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bioplaus.train.listeners import Listener, Moment
from bioplaus.train.session import Session
from bioplaus.units import GainBias


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
        print(json.dumps(row), flush=True)


class Lines(Watching):
    """What really runs, then one line per epoch; on a terminal also a bar within each epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None
        self.task: Any = None
        self.clock = time.monotonic()
        self.samples = 0
        self.folder = ""

    def begin(self, session: Session) -> None:
        """Backend, network, and a table of layers x choices."""
        about, console = session.attributes(), self.console
        threads = about["threads"]
        self.say(f"[bold]{about['rule']}[/] on {about['dataset']}, seed {about['seed']}")
        self.say(
            f"{about['backend']} on {about['device']}"
            + (f", {threads} thread{'s' * (threads > 1)}" if threads else "")
            + f", {about['dtype']}; network {about['network']}, {about['parameters']:,} parameters"
        )
        for note in session.dataset.notes:
            self.say(note)
        shared, heads, rows = layers(session)
        table.show(heads, rows, file=console.file)
        self.say(f"every layer: {shared}")
        self.say(f"log: {session.folder.path}" if session.folder else "")
        self.samples = session.phases[0].samples_per_batch
        if console.is_terminal:
            self.bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[said]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task("", total=1, epoch=1, said="")
        self.clock = time.monotonic()

    def advanced(self, moment: Moment, loss: float, error: float, rate: float) -> None:
        """Moves the bar."""
        if self.bar is not None:
            speed = moment.place * self.samples / max(time.monotonic() - self.clock, 1e-9)
            said = f"loss {loss:.4f}  error {error:.2f} %  rate {rate:.2g}  {speed:,.0f} samples/s"
            self.bar.update(
                self.task,
                completed=moment.place,
                total=moment.batches,
                epoch=f"{moment.epoch + 1}/{moment.epochs}",
                said=said,
            )

    def epoch_ended(self, network: Any, moment: Moment, row: dict[str, Any]) -> None:
        """One line."""
        took = time.monotonic() - self.clock
        scores = "  ".join(
            f"{name} {row[name]['error']:.2f} %" for name in ("train", "validation", "test") if name in row
        )
        self.console.print(
            f"epoch {row['epoch']:>{len(str(moment.epochs))}}/{moment.epochs}  loss {row['train']['loss']:.4f}  "
            f"error: {scores}  rate {row['rate']:.2g}  {took:.1f} s",
            highlight=False,
        )
        self.clock = time.monotonic()
        if self.bar is not None:
            self.bar.reset(self.task, total=1, epoch=f"{row['epoch'] + 1}/{moment.epochs}", said="")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.stop()


def layers(session: Session) -> Table:
    """Layers x choices, as they are."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("layer", "weights", "channel", "norm", "update", "plasticity", "pruning"):
        table.add_column(heading)
    norms = {site.name for site in session.network.norms}
    gains = {unit.name for unit in session.network.units if isinstance(unit, GainBias)}
    chosen = session.choices()
    for node in session.network.nodes:
        spec = chosen[node.name]
        norm = _said(spec["norm"]) if node.name in norms else "none"
        table.add_row(
            node.name,
            "×".join(map(str, node.map.shape)),
            _said(spec["channel"]),
            norm + (" + gain, bias" if node.name in gains and "affine" not in norm else ""),
            _said(spec["update"]),
            _said(spec["plasticity"]),
            _said(spec["pruning"]),
        )
    return table


def _said(spec: Any) -> str:
    """A part as one would say it: ``bm1 rate 5e-05, momentum 0.9``."""
    if isinstance(spec, list):
        return " ".join(_link(link) for link in spec)
    rest = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in spec.items()
        if key != "recipe"
    )
    return f"{spec['recipe']} {rest}".strip()


def _link(link: Any) -> str:
    return link if isinstance(link, str) else " ".join(f"{key} {value}" for key, value in link.items())


def listener(*, quiet: bool, as_json: bool) -> Watching:
    """The one that was asked for."""
    if as_json:
        return Json()
    return Watching() if quiet else Lines(Console(file=sys.stdout))
