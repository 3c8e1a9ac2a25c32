"""Training: epochs as a page of straight code."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bioplaus.backend.base import Array
from bioplaus.network import Network
from bioplaus.parts import Batch
from bioplaus.train.evaluate import Score, collect, evaluate
from bioplaus.train.feed import Feed
from bioplaus.train.listeners import Listener, Moment
from bioplaus.train.plan import Phase, phase_of

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
    train: Feed
    tests: Mapping[str, Feed]
    phases: Sequence[Phase]
    relink: Callable[[Phase], None]
    commit: Callable[[dict[str, Any] | None], None]
    stopping: Callable[[], bool] = lambda: False
    listeners: Sequence[Listener] = ()
    progress: Progress = field(default_factory=Progress)
    look_every: int = LOOK_EVERY

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
            self.relink(phase)
            while self.progress.epoch < phase.end:
                if not self.epoch(phase):
                    return False
        return True

    def epoch(self, phase: Phase) -> bool:
        """One epoch, from where it was left: learn, settle statistics, score, commit."""
        network, progress, clock = self.network, self.progress, time.monotonic()
        order = self.order(progress.epoch)
        learned = self.pending()
        loss, wrong = network.xp.array(progress.loss), network.xp.array(progress.wrong)
        for index in order[progress.place :]:
            batch = self.train.batch(index)
            batch_loss, batch_wrong = network.accumulate(batch)
            loss, wrong = loss + batch_loss, wrong + batch_wrong
            learned.append(index)
            progress.place += 1
            if network.batches % self.look_every == 0 or progress.place == len(order):
                self.look(loss, wrong, batch, phase, len(order))
            if network.pending >= network.batches_per_update:
                self.update(batch, learned, phase, len(order))
                learned = []
            if self.stopping():
                progress.loss, progress.wrong = float(loss), float(wrong)
                progress.train_seconds += time.monotonic() - clock
                self.commit(None)
                return False
        samples = len(order) * phase.samples_per_batch
        progress.train_seconds += time.monotonic() - clock
        self.close_epoch(phase, Score(float(loss) / samples, 100.0 * float(wrong) / samples, samples), len(order))
        return not self.stopping() or progress.epoch == self.epochs

    def update(self, batch: Batch, learned: Sequence[Any], phase: Phase, batches: int) -> None:
        """One update, and everyone who listens to it."""
        network, place = self.network, self.progress.place
        moment = self.moment(batches, learned, last=place + network.batches_per_update > batches)
        for listener in self.listeners:
            listener.updating(network, batch, moment)
        network.update(factor=phase.factor(self.progress.epoch, place - 1, batches))
        for listener in self.listeners:
            listener.updated(network, batch, moment)

    def close_epoch(self, phase: Phase, train: Score, batches: int) -> None:
        """Statistics for testing, scores, one line of metrics, a checkpoint."""
        network, progress, clock = self.network, self.progress, time.monotonic()
        rate = self.rate(phase, batches)
        collect(network, self.train, phase.samples_per_batch, progress.epoch)
        scores = {name: evaluate(network, feed, phase.samples_per_batch) for name, feed in self.tests.items()}
        for name, score in scores.items():
            if not math.isfinite(score.loss):
                raise Diverged(layer=network.nodes[-1].name, what=f"{name} output")
        progress.epoch, progress.place, progress.loss, progress.wrong = progress.epoch + 1, 0, 0.0, 0.0
        progress.test_seconds += time.monotonic() - clock
        row = {
            "epoch": progress.epoch,
            "step": network.updates,
            "rate": rate,
            "train": asdict(train),
            **{name: asdict(score) for name, score in scores.items()},
            "train_seconds": progress.train_seconds,
            "test_seconds": progress.test_seconds,
        }
        chosen = scores.get("validation", scores["test"])
        progress.last = {"epoch": progress.epoch, **{f"{name}_error": s.error for name, s in scores.items()}}
        if not progress.best or chosen.error < progress.best["selected_error"]:
            progress.best = {**progress.last, "selected_error": chosen.error}
        moment = self.moment(batches)
        for listener in self.listeners:
            listener.epoch_ended(network, moment, row)
        self.commit(row)

    def look(self, loss: Array, wrong: Array, batch: Batch, phase: Phase, batches: int) -> None:
        """Reads the running loss: for the progress bar, and to see whether it is still a number."""
        value, samples = float(loss), self.progress.place * phase.samples_per_batch
        if not math.isfinite(value):
            raise Diverged(batch)
        if not math.isfinite(float(self.network.watched)):
            raise Diverged(layer=self.network.nodes[-1].name, what="dW")
        error, rate = 100.0 * float(wrong) / samples, self.rate(phase, batches)
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
