"""Which epochs there are: batch sizes, update and rate of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bioplaus.config import Config, Training, where
from bioplaus.construct import make
from bioplaus.errors import ConfigError


class Schedule(Protocol):
    """How the rate falls."""

    by: str

    def at(self, done: int, total: int) -> float:
        """The factor after ``done`` of ``total`` epochs or updates."""


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs trained alike; ``place`` among the phases and ``first`` epoch count from 0.

    It ends with an update, for which there may be fewer batches; the ``final`` one leaves them to whoever trains on.
    Its rate falls as if ``lasting`` epochs had begun at ``since``: its own, or with the phases before it whose schedule
    it goes on with.
    """

    place: int
    first: int
    epochs: int
    samples_per_batch: int
    batches_per_update: int
    schedule: Schedule
    since: int
    lasting: int
    final: bool

    @property
    def end(self) -> int:
        """Epochs that are complete when it ends."""
        return self.first + self.epochs

    def factor(self, epoch: int, place: int, batches: int) -> float:
        """The schedule's factor at a batch of an epoch; counted from where its schedule began."""
        done, total = epoch - self.since, self.lasting
        if self.schedule.by == "updates":
            early = 0 if self.final else self.batches_per_update - 1  # fewer batches make an update too
            done, total = (
                (done * batches + place) // self.batches_per_update,
                (total * batches + early) // self.batches_per_update,
            )
        return self.schedule.at(done, total)


def phases(config: Config) -> list[Phase]:
    """The phases of a training, one after another."""
    made: list[Phase] = []
    training = config.training
    spans, timeline = schedule_spans(training), training.timeline()
    for place, phase in enumerate(timeline):
        own = training.phases and training.phases[place].rate is not None
        written = where(config, f"training.phases.{place}.rate" if own else "training.rate")
        assert phase.epochs and phase.samples_per_batch and phase.batches_per_update  # timeline fills them in
        made.append(
            Phase(
                place=place,
                first=made[-1].end if made else 0,
                epochs=phase.epochs,
                samples_per_batch=phase.samples_per_batch,
                batches_per_update=phase.batches_per_update,
                schedule=make("schedule", phase.rate, written, allow_code=True),
                since=spans[place][0],
                lasting=spans[place][1],
                final=place == len(timeline) - 1,
            )
        )
    return made


def trained_on(config: Config, epochs: int) -> Config:
    """The configuration with so many epochs in all: its last phase becomes longer, or shorter.

    Raises
    ------
    ConfigError     the phases before the last take as many already
    """
    training = config.training
    before = training.timeline()[:-1]
    rest = epochs - sum(phase.epochs or 0 for phase in before)
    if rest < 1:
        raise ConfigError(
            f"--epochs: given {epochs}, wanted at least {epochs - rest + 1}: "
            f"the phases before the last take {epochs - rest}."
        )
    written = training.phases[:-1] + tuple(phase.model_copy(update={"epochs": rest}) for phase in training.phases[-1:])
    changed = training.model_copy(update={"epochs": epochs, "phases": written})
    return config.model_copy(update={"training": changed})


def schedule_spans(training: Training) -> list[tuple[int, int]]:
    """(first epoch, epochs) of the schedule each phase follows: one that writes no rate goes on with the last one."""
    timeline = training.timeline()
    starts: list[int] = []
    at = 0
    for phase, written in zip(timeline, training.phases or timeline, strict=True):
        starts.append(at if not starts or written.rate is not None else starts[-1])
        at += phase.epochs or 0
    ends = [next((later for later in starts[i:] if later > start), at) for i, start in enumerate(starts)]
    return [(start, end - start) for start, end in zip(starts, ends, strict=True)]


def phase_of(phases: Sequence[Phase], epoch: int) -> Phase:
    """The phase that the epoch after ``epoch`` completed ones belongs to; the last one where all are completed."""
    return next((phase for phase in phases if epoch < phase.end), phases[-1])
