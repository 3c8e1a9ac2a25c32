"""What a training prints while it runs: a bar on a terminal, lines elsewhere, JSON or nothing where asked."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from bioplaus.cli import table
from bioplaus.record import Run
from bioplaus.train import lines
from bioplaus.train.lines import Lines, Pace, Watching
from bioplaus.train.listeners import Moment
from bioplaus.train.session import Session


class Json(Watching):
    """One JSON object per epoch."""

    def epoch_ended(self, network: Any, moment: Moment, row: dict[str, Any]) -> None:
        """One line."""
        click.echo(json.dumps(row))


class Bar(Watching):
    """On a terminal: what really runs, a bar within each epoch and a line after it, and how it ended."""

    def __init__(self, console: Console) -> None:
        """Prints on ``console``."""
        self.console, self.pace = console, Pace()
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("", total=None, epoch="", said="")

    def say(self, text: str, style: str = "") -> None:
        """One line as it is, however narrow the terminal."""
        self.console.print(Text(text, style), soft_wrap=True)

    def begin(self, session: Session) -> None:
        """What really runs."""
        for i, item in enumerate(lines.what_runs(session)):
            if isinstance(item, str):
                self.say(item, "" if i else "bold")
            else:
                table.show(*item)
        self.bar.update(self.task, epoch=f"{session.progress.epoch + 1}/{session.phases[-1].end}")
        self.bar.start()
        self.pace.begin(session)

    def advanced(self, moment: Moment, loss: float, error: float, rate: float) -> None:
        """Moves the bar."""
        said = f"{lines.running(loss, error, rate)}  {self.pace.speed(moment)}"
        self.bar.update(self.task, completed=moment.place, total=moment.batches, said=said, refresh=True)

    def epoch_ended(self, network: Any, moment: Moment, row: dict[str, Any]) -> None:
        """One line."""
        self.say(f"{lines.scored(moment, row)}  {self.pace.next_epoch():.1f} s")
        following = min(row["epoch"] + 1, moment.epochs)
        self.bar.reset(self.task, total=None, epoch=f"{following}/{moment.epochs}", said="")

    def ended(self, run: Run) -> None:
        """How it ended."""
        for text in lines.how_it_ended(run):
            self.say(text)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Takes the bar away."""
        self.bar.stop()


def watching(*, quiet: bool, as_json: bool) -> Watching:
    """The one that was asked for."""
    if as_json:
        return Json()
    console = Console()
    return Watching() if quiet else Bar(console) if console.is_terminal else Lines(click.echo)
