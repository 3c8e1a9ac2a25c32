"""Training: epochs as a page of straight code."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bioplaus.network import Network
from bioplaus.parts import Batch
from bioplaus.train.evaluate import Score, Tally, collect, evaluate
from bioplaus.train.feed import Feed, TextFeed
from bioplaus.train.listeners import Listener, Moment
from bioplaus.train.plan import Phase, phase_of

LOOK_EVERY = 50  # updates between reads of the running loss from the device


@dataclass
class Progress:
    """Where training stands, beside the network: what a checkpoint's meta holds.

    ``epoch`` epochs are complete; of the next one ``place`` batches, whose ``loss``, ``wrong`` and ``terms`` are sums.
    """

    epoch: int = 0
    place: int = 0
    loss: float = 0.0
    wrong: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    train_seconds: float = 0.0
    test_seconds: float = 0.0


class Diverged(Exception):
    """A value is not finite: in the forward pass of ``batch``, else in ``what`` of ``layer``."""

    def __init__(self, batch: Batch | None = None, layer: str = "", what: str = "output") -> None:
        super().__init__(layer, what)
        self.batch, self.layer, self.what = batch, layer, what


@dataclass
class Trainer:
    """A network, its data, and the plan it is trained by."""

    network: Network
    train: Feed | TextFeed
    tests: Mapping[str, Feed | TextFeed]
    phases: Sequence[Phase]
    relink: Callable[[Phase], None]
    commit: Callable[[dict[str, Any] | None], None]
    stopping: Callable[[], bool] = lambda: False
    full: Callable[[], bool] = lambda: False  # whether too much waits for a commit
    listeners: Sequence[Listener] = ()
    progress: Progress = field(default_factory=Progress)
    look_every: int = LOOK_EVERY
    test_every: int | None = None  # updates between scores within an epoch

    @property
    def epochs(self) -> int:
        """All of them, the completed ones included."""
        return self.phases[-1].end

    def run(self) -> bool:
        """Trains all epochs that are left. False where it was asked to stop, which it does after a commit.

        Raises
        ------
        Diverged        a value is not finite
        """
        for phase in self.phases:
            if self.progress.epoch >= phase.end:
                continue
            if self.progress.epoch == phase.first and not self.progress.place:  # nothing waits in dW
                self.relink(phase)
            while self.progress.epoch < phase.end:
                if not self.epoch(phase):
                    return False
        return True

    def epoch(self, phase: Phase) -> bool:
        """One epoch, from where it was left: learn, settle statistics, score, commit."""
        network, progress, clock = self.network, self.progress, time.monotonic()
        clock -= progress.test_seconds  # what testing takes within the epoch is no training
        order = self.order(progress.epoch)
        learned = self.pending()
        tally = Tally.of(network, progress.loss, progress.wrong, progress.terms)
        if network.loss.begins_epochs and not progress.place:
            network.begin_epoch(self.batch(order[0]), progress.epoch)
        for index in order[progress.place :]:
            batch = self.batch(index)
            if network.pending == 0:
                self.accumulating(len(order))
            tally.add(network, *network.accumulate(batch))
            learned.append(index)
            progress.place += 1
            if network.batches % self.look_every == 0 or progress.place == len(order):
                self.look(tally, batch, phase, len(order))
            early = self.ends_early(phase, progress.place, len(order))
            if early or network.pending >= network.batches_per_update:
                self.update(batch, learned, phase, len(order))
                learned = []
            stopped = self.stopping()
            if stopped or self.full():
                clock = self.keep_place(tally, clock)
            if stopped:
                return False
        samples = len(order) * phase.samples_per_batch * self.train.steps
        progress.train_seconds += time.monotonic() - clock - progress.test_seconds
        self.close_epoch(phase, tally.score(samples), len(order))
        return not self.stopping() or progress.epoch == self.epochs

    def keep_place(self, tally: Tally, clock: float) -> float:
        """A checkpoint within the epoch; the clock goes on when it is written."""
        progress = self.progress
        progress.loss, progress.wrong = float(tally.loss), float(tally.wrong)
        progress.terms = {name: float(total) for name, total in tally.terms.items()}
        progress.train_seconds += time.monotonic() - clock - progress.test_seconds
        self.commit(None)
        return time.monotonic() - progress.test_seconds

    def accumulating(self, batches: int) -> None:
        """Another update begins."""
        network = self.network
        moment = self.moment(batches, last=self.progress.place + 2 * network.batches_per_update > batches)
        for listener in self.listeners:
            listener.accumulating(network, moment)

    def update(self, batch: Batch, learned: Sequence[Any], phase: Phase, batches: int) -> None:
        """One update, and everyone who listens to it."""
        network, place = self.network, self.progress.place
        if network.pending < network.batches_per_update:
            network.cut_short()
        network.settle()
        following = place + network.batches_per_update <= batches or self.ends_early(phase, batches, batches)
        moment = self.moment(batches, learned, last=place == batches or not following)
        for listener in self.listeners:
            listener.updating(network, batch, moment)
        network.update(factor=phase.factor(self.progress.epoch, place - 1, batches))
        for listener in self.listeners:
            listener.updated(network, batch, moment)
        if self.test_every and network.updates % self.test_every == 0 and not moment.last:
            row = {"epoch": self.progress.epoch} | {name: score.row() for name, score in self.test(phase).items()}
            for listener in self.listeners:
                listener.tested(network, moment, {**row, "test_seconds": self.progress.test_seconds})

    def batch(self, index: Any) -> Batch:
        """The next batch to learn from."""
        progress = self.progress
        return self.train.batch(index, stream=self.network.stream.at("augment", progress.epoch, progress.place))

    def ends_early(self, phase: Phase, place: int, batches: int) -> bool:
        """Whether what waits after ``place`` batches is all there will be for an update: another phase follows."""
        return place == batches and self.progress.epoch + 1 == phase.end and not phase.final

    def close_epoch(self, phase: Phase, train: Score, batches: int) -> None:
        """Statistics for testing, scores, one line of metrics, a checkpoint."""
        network, progress = self.network, self.progress
        rate = self.rate(phase, batches)
        if layers := network.prune(progress.epoch + 1):
            for listener in self.listeners:
                listener.pruned(network, self.moment(batches), layers)
        scores = self.test(phase)
        progress.epoch, progress.place = progress.epoch + 1, 0
        progress.loss, progress.wrong, progress.terms = 0.0, 0.0, {}
        row = {
            "epoch": progress.epoch,
            "step": network.updates,
            "rate": rate,
            "train": train.row(),
            **{name: score.row() for name, score in scores.items()},
            "train_seconds": progress.train_seconds,
            "test_seconds": progress.test_seconds,
        }
        chosen = scores.get("validation", scores["test"])
        selected = f"selected_{chosen.measures[0]}"
        errors = {f"{name}_{each}": getattr(score, each) for each in chosen.measures for name, score in scores.items()}
        terms = {f"{name}_loss_{term}": loss for name, score in scores.items() for term, loss in score.terms.items()}
        progress.last = {"epoch": progress.epoch, **errors, **terms}
        value = getattr(chosen, chosen.measures[0])
        if not progress.best or value < progress.best[selected]:
            progress.best = {**progress.last, selected: value}
        moment = self.moment(batches)
        for listener in self.listeners:
            listener.epoch_ended(network, moment, row)
        self.commit(row)

    def test(self, phase: Phase) -> dict[str, Score]:
        """Settles the statistics for testing, and scores what is held out."""
        network, clock = self.network, time.monotonic()
        collect(network, self.train, phase.samples_per_batch, self.progress.epoch)
        scores = {name: evaluate(network, feed, phase.samples_per_batch) for name, feed in self.tests.items()}
        for name, score in scores.items():
            if not math.isfinite(score.loss):
                raise Diverged(layer=network.nodes[-1].name, what=f"{name} output")
        self.progress.test_seconds += time.monotonic() - clock
        return scores

    def look(self, tally: Tally, batch: Batch, phase: Phase, batches: int) -> None:
        """Reads the running loss: for the progress bar, and to see whether it is still a number."""
        value, samples = float(tally.loss), self.progress.place * phase.samples_per_batch * self.train.steps
        if not math.isfinite(value):
            raise Diverged(batch)
        if not math.isfinite(float(self.network.watched)):
            raise Diverged(layer=self.network.nodes[-1].name, what="dW")
        error, rate = 100.0 * float(tally.wrong) / samples, self.rate(phase, batches)
        for listener in self.listeners:
            listener.advanced(self.moment(batches), value / samples, error, rate)

    def order(self, epoch: int) -> list[Any]:
        """Indices of the training batches of an epoch."""
        size = phase_of(self.phases, epoch).samples_per_batch
        return list(self.train.training(size, self.network.stream, epoch))

    def pending(self) -> list[Any]:
        """Indices of the batches that dW holds and no update has used, the newest last."""
        epoch, pending = self.progress.epoch, self.network.pending
        done = self.order(epoch)[: self.progress.place]
        while len(done) < pending:  # some are from earlier epochs
            epoch -= 1
            done = self.order(epoch) + done
        return done[len(done) - pending :]

    def rate(self, phase: Phase, batches: int) -> float:
        """The rate, at the latest batch, of the last layer that learns."""
        rates = [node.weights.links[-1].rate for node in self.network.nodes if node.plasticity]  # type: ignore[attr-defined]
        factor = phase.factor(self.progress.epoch, max(self.progress.place - 1, 0), batches)
        return rates[-1] * factor if rates else 0.0

    def moment(self, batches: int, learned: Sequence[Any] = (), last: bool = False) -> Moment:
        """Where training stands."""
        progress = self.progress
        return Moment(progress.epoch, progress.place, batches, self.network.updates, self.epochs, learned, last)
