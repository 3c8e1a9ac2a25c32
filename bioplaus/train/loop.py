"""Training: epochs as a page of straight code."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bioplaus.backend.base import Array
from bioplaus.errors import NonFinite
from bioplaus.network import Network
from bioplaus.train.evaluate import Score, collect, evaluate
from bioplaus.train.feed import Feed
from bioplaus.train.listeners import Listener, Moment
from bioplaus.train.plan import Phase

LOOK_EVERY = 50  # updates between reads of the running loss from the device


@dataclass
class Progress:
    """Where training stands, beside the network: what a checkpoint's meta holds.

    ``epoch`` epochs are complete; of the next one ``place`` batches, with their summed ``loss`` and ``wrong``.
    """

    epoch: int = 0
    place: int = 0
    loss: float = 0.0
    wrong: float = 0.0
    rows: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    train_seconds: float = 0.0
    test_seconds: float = 0.0


class Diverged(Exception):
    """The running loss is not finite; whoever holds the checkpoints finds out where."""


@dataclass
class Trainer:
    """A network, its data, and the plan it is trained by."""

    network: Network
    train: Feed
    tests: Mapping[str, Feed]
    phases: Sequence[Phase]
    relink: Callable[[Phase], None]
    commit: Callable[[dict[str, Any] | None], None]
    stopping: Callable[[], bool] = lambda: False
    listeners: Sequence[Listener] = ()
    progress: Progress = field(default_factory=Progress)
    careful: bool = False  # look after every batch, and say where a value stopped being finite

    @property
    def epochs(self) -> int:
        """All of them, the completed ones included."""
        return self.phases[-1].first + self.phases[-1].epochs

    def run(self) -> bool:
        """Trains all epochs that are left. False where it was asked to stop, which it does after a commit."""
        for phase in self.phases:
            if self.progress.epoch >= phase.first + phase.epochs:
                continue
            self.relink(phase)
            while self.progress.epoch < phase.first + phase.epochs:
                if not self.epoch(phase):
                    return False
        return True

    def epoch(self, phase: Phase) -> bool:
        """One epoch, from where it was left: learn, settle statistics, score, commit."""
        network, progress = self.network, self.progress
        order = list(self.train.training(phase.samples_per_batch, network.stream, progress.epoch))
        loss, wrong = network.xp.array(progress.loss), network.xp.array(progress.wrong)
        factor, clock = 1.0, time.monotonic()
        for index in order[progress.place :]:
            batch = self.train.batch(index)
            batch_loss, batch_wrong = network.accumulate(batch)
            loss, wrong = loss + batch_loss, wrong + batch_wrong
            if network.pending == network.batches_per_update:
                factor = phase.factor(progress.epoch, progress.place, len(order))
                moment = self.moment(len(order))
                for listener in self.listeners:
                    listener.updating(network, batch, moment)
                network.update(factor=factor)
                for listener in self.listeners:
                    listener.updated(network, batch, moment)
            progress.place += 1
            if self.careful:
                self.check(batch, batch_loss)
            if network.batches % LOOK_EVERY == 0:
                self.look(loss, wrong, phase, factor, len(order))
            if self.stopping():
                progress.loss, progress.wrong = float(loss), float(wrong)
                progress.train_seconds += time.monotonic() - clock
                self.commit(None)
                return False
        self.look(loss, wrong, phase, factor, len(order))
        samples = len(order) * phase.samples_per_batch
        progress.train_seconds += time.monotonic() - clock
        self.close_epoch(phase, Score(float(loss) / samples, 100.0 * float(wrong) / samples, samples), factor)
        return not self.stopping() or progress.epoch == self.epochs

    def close_epoch(self, phase: Phase, train: Score, factor: float) -> None:
        """Statistics for testing, scores, one line of metrics, a checkpoint."""
        network, progress, clock = self.network, self.progress, time.monotonic()
        collect(network, self.train, phase.samples_per_batch, progress.epoch)
        scores = {name: evaluate(network, feed, phase.samples_per_batch) for name, feed in self.tests.items()}
        progress.epoch, progress.place, progress.loss, progress.wrong = progress.epoch + 1, 0, 0.0, 0.0
        progress.test_seconds += time.monotonic() - clock
        row = {
            "epoch": progress.epoch,
            "step": network.updates,
            "rate": self.rate(factor),
            "train": asdict(train),
            **{name: asdict(score) for name, score in scores.items()},
            "train_seconds": progress.train_seconds,
            "test_seconds": progress.test_seconds,
        }
        chosen = scores.get("validation", scores["test"])
        progress.last = {"epoch": progress.epoch, **{f"{name}_error": s.error for name, s in scores.items()}}
        if not progress.best or chosen.error < progress.best["selected_error"]:
            progress.best = {**progress.last, "selected_error": chosen.error}
        moment = self.moment(0)
        for listener in self.listeners:
            listener.epoch_ended(network, moment, row)
        self.commit(row)

    def look(self, loss: Array, wrong: Array, phase: Phase, factor: float, batches: int) -> None:
        """Reads the running loss: for the progress bar, and to see whether it is still a number."""
        value, samples = float(loss), max(self.progress.place, 1) * phase.samples_per_batch
        if not math.isfinite(value):
            raise Diverged
        for listener in self.listeners:
            listener.advanced(
                self.moment(batches), value / samples, 100.0 * float(wrong) / samples, self.rate(factor)
            )

    def check(self, batch: Any, loss: Array) -> None:
        """Raises NonFinite naming the first layer whose output or weights are not finite."""
        network = self.network
        if math.isfinite(float(loss)) and all(_finite(p.W) for p in network.parameters()):
            return
        name = network.first_nonfinite(batch)
        node = next((node for node in network.nodes if node.name == name), network.nodes[-1])
        site = next((site for site in network.norms if site.name == name), None)
        channel = type(node.channel).__name__
        norm = type(site.norm).__name__ if site else "none"
        raise NonFinite(
            f"layer {name!r}, step {network.updates}: output is not finite "
            f"(channel {channel}, norm {norm}, rate {node.weights.links[-1].rate:g}). Lower the rate, or add a norm."  # type: ignore[attr-defined]
        )

    def rate(self, factor: float) -> float:
        """The rate of the last layer that learns."""
        rates = [node.weights.links[-1].rate for node in self.network.nodes if node.plasticity]  # type: ignore[attr-defined]
        return rates[-1] * factor if rates else 0.0

    def moment(self, batches: int) -> Moment:
        """Where training stands."""
        return Moment(self.progress.epoch, self.progress.place, batches, self.network.updates, self.epochs)


def _finite(W: Array) -> bool:
    return math.isfinite(float((W * 0.0).sum()))
