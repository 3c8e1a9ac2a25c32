"""NormStats: which moments are taken and what is remembered of them."""

from __future__ import annotations

from dataclasses import dataclass

from bioplaus.backend.base import Array, Backend
from bioplaus.parts import State


@dataclass(frozen=True)
class BatchMoments:
    """This batch's mean and deviation in training; their running mean over a few training batches in testing.

    After each epoch ``collect`` training batches run without learning; an exponential moving average with
    weight ``ema`` on the newest, started at the first of them, of mean and deviation (not variance) is what
    testing uses (Liao, Leibo & Poggio 2016).
    """

    collect: int = 20
    ema: float = 0.05

    def __post_init__(self) -> None:
        if self.collect < 1:
            raise ValueError(f"collect is {self.collect}; wanted 1 batch or more")
        if not 0.0 < self.ema <= 1.0:
            raise ValueError(f"ema is {self.ema}; wanted a number above 0, up to 1")

    def init(self, xp: Backend, shape: tuple[int, ...]) -> State:
        """mean 0 and sigma 1 for testing, the latest batch's beside them, and how many were collected."""
        return {
            "mean": xp.zeros(shape),
            "sigma": xp.zeros(shape) + 1.0,
            "batch_mean": xp.zeros(shape),
            "batch_sigma": xp.zeros(shape) + 1.0,
            "collected": xp.zeros((1,)),
        }

    def observe(self, state: State, mean: Array, sigma: Array) -> None:
        """The latest batch's statistics, for whoever looks."""
        state["batch_mean"][...] = mean
        state["batch_sigma"][...] = sigma

    def gather(self, state: State, mean: Array, sigma: Array) -> None:
        """One more batch of the running mean: the first one starts it."""
        weight = state["collected"] * self.ema + (1.0 - state["collected"])
        state["mean"][...] = state["mean"] + weight * (mean - state["mean"])
        state["sigma"][...] = state["sigma"] + weight * (sigma - state["sigma"])
        state["collected"][...] = 1.0
