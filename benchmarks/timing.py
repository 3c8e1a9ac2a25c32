"""Time per step of several sides, taken in turn in one process."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch

LEAST = 0.1  # seconds one side runs in one round
WARM_UP = 3

Step = Callable[[], None]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over the rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(*np.quantile(values, (0.25, 0.5, 0.75)).tolist())


@dataclass(frozen=True)
class Times:
    """Seconds per step of every side in every round."""

    seconds: Mapping[str, list[float]]

    def milliseconds(self, side: str) -> float:
        """Median."""
        return 1e3 * Spread.of(self.seconds[side]).median

    def ratio(self, side: str, to: str) -> Spread:
        """``side`` over ``to``, round by round: what disturbs the machine disturbs both."""
        return Spread.of([a / b for a, b in zip(self.seconds[side], self.seconds[to], strict=True)])


def alternate(sides: Mapping[str, Step], *, rounds: int, device: str = "cpu") -> Times:
    """Every side in every round, the order turned by one each time; as many steps as fill ``LEAST`` seconds."""
    measure = _cuda_seconds if device.startswith("cuda") else _cpu_seconds
    slowest = max(min(measure(step, 1) for _ in range(WARM_UP)) for step in sides.values())
    steps = ceil(LEAST / slowest)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    gc.collect()
    gc.disable()
    try:
        for turn in range(-1, rounds):  # round -1 warms up
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                taken = measure(sides[name], steps) / steps
                if turn >= 0:
                    seconds[name].append(taken)
            gc.collect()
    finally:
        gc.enable()
    return Times(seconds)


def _cpu_seconds(step: Step, steps: int) -> float:
    began = time.process_time()
    for _ in range(steps):
        step()
    return time.process_time() - began


def _cuda_seconds(step: Step, steps: int) -> float:
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    for _ in range(steps):
        step()
    last.record()
    torch.cuda.synchronize()
    return 1e-3 * float(first.elapsed_time(last))
