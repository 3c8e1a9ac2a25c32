"""What stands beside a step: reading a batch from uint8 images, and logging every update."""

from __future__ import annotations

from itertools import cycle

import numpy as np

from benchmarks.cases import CASES, Case, Step, backend, batches, network, step
from benchmarks.markdown import quartiles, table
from benchmarks.timing import alternate
from bioplaus.backend.base import Backend
from bioplaus.config import Every
from bioplaus.config.schema import Record
from bioplaus.record import Log
from bioplaus.train.feed import Feed
from bioplaus.train.listeners import Moment
from bioplaus.train.recorder import Recorder

CASE = next(case for case in CASES if case.title == "CIFAR net, BN without gain")
IMAGES = 5000
FLUSH_EVERY = 50  # updates; a run hands its rows over at every checkpoint
BARE, READING, LOGGED = (
    "step",
    "reading a batch of 100 from uint8",
    "step, norm + update + feedback logged every update",
)


def report(*, rounds: int, device: str) -> str:
    """The table, on the CIFAR net with BN."""
    xp = backend(device)
    data = batches(CASE, xp)
    sides = {BARE: step(network(CASE, xp, channel="usf"), data), READING: _reading(xp), LOGGED: _logged(CASE, xp)}
    times = alternate(sides, rounds=rounds, device=device)
    rows = [[name, f"{times.milliseconds(name):.3g}", quartiles(times.ratio(name, BARE))] for name in sides]
    return table([f"{CASE.title}, batch {CASE.samples}", "ms", "of a step"], rows)


def _reading(xp: Backend) -> Step:
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8)
    labels = draws.integers(0, 10, IMAGES)
    feed = Feed(xp, xp.raw(images), xp.raw(labels), xp.array(images[:100].mean(0)[None]), 1 / 64)
    order = cycle(draws.permutation(IMAGES).reshape(-1, CASE.samples))
    return lambda: (feed.batch(next(order)), None)[1]


def _logged(case: Case, xp: Backend) -> Step:
    often = Every(1, "update")
    net, data = network(case, xp, channel="usf"), batches(case, xp)
    log = Log()
    recorder = Recorder(
        log, Record(norm=often, update=often, feedback=often, activity=None), data[0], net.true_gradient
    )
    supply, nowhere = cycle(data), Moment(0, 0, 0, 0, 1)

    def run() -> None:
        batch = next(supply)
        recorder.accumulating(net, nowhere)
        net.accumulate(batch)
        recorder.updating(net, batch, nowhere)
        net.update()
        recorder.updated(net, batch, nowhere)
        if net.updates % FLUSH_EVERY == 0:
            recorder.flush(xp)
            log.committed()

    return run
