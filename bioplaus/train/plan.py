"""Which epochs there are: batch sizes, update and rate of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bioplaus.config import Config
from bioplaus.construct import make


class Schedule(Protocol):
    """How the rate falls."""

    by: str

    def at(self, done: int, total: int) -> float:
        """The factor after ``done`` of ``total`` epochs or updates."""


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs trained alike; ``place`` among the phases and ``first`` epoch count from 0."""

    place: int
    first: int
    epochs: int
    samples_per_batch: int
    batches_per_update: int
    schedule: Schedule

    def factor(self, epoch: int, place: int, batches: int) -> float:
        """The schedule's factor at a batch of an epoch; the phase's own epochs and updates count."""
        done, total = epoch - self.first, self.epochs
        if self.schedule.by == "updates":
            done, total = (done * batches + place) // self.batches_per_update, total * batches // self.batches_per_update
        return self.schedule.at(done, total)


def phases(config: Config) -> list[Phase]:
    """The phases of a training, one after another; what a phase leaves out is as ``training`` says."""
    training, made, first = config.training, [], 0
    written = training.phases or (None,)
    rest = training.epochs - sum(phase.epochs or 0 for phase in training.phases)
    for place, phase in enumerate(written):
        epochs = (phase and phase.epochs) or rest
        rate = (phase and phase.rate) or training.rate
        made.append(
            Phase(
                place=place,
                first=first,
                epochs=epochs,
                samples_per_batch=(phase and phase.samples_per_batch) or training.samples_per_batch,
                batches_per_update=(phase and phase.batches_per_update) or training.batches_per_update,
                schedule=make("schedule", rate, "training.rate", allow_code=True),
            )
        )
        first += epochs
    return made
