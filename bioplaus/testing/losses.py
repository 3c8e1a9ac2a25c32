"""The contract of losses."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from bioplaus.backend.base import Backend
from bioplaus.backend.numpy import NumPy
from bioplaus.backend.streams import Stream
from bioplaus.errors import ShapeError
from bioplaus.parts import LEARN, LOOK, Batch, State
from bioplaus.testing.claims import Claims, contract
from bioplaus.testing.trials import N, are_close, are_same, are_slopes, is_finite, normal


@contract("loss")
def check_loss(loss: Any, claims: Claims) -> None:
    """The error is the derivative of the loss; padded samples count for nothing; a memory moves in training alone."""
    claims.methods(loss, "error")
    needs = set(getattr(loss, "needs", ()))
    claims(needs and all(isinstance(need, str) for need in needs), "needs names signals")
    xp = NumPy("float64")
    shape, state = _remembered(xp, loss, needs, claims)
    signals = {need: normal(xp, need, (N, *shape)) for need in needs}
    weight = xp.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    y = xp.raw(np.arange(N) % 4)
    inputs = normal(xp, "x", (N, 4))
    for batch in (Batch(inputs, y), Batch(inputs, y, weight)):
        kept = copy.deepcopy((signals, state))
        _, errors = loss.error(xp, signals, batch, state, LOOK)
        claims(errors and set(errors) <= needs, "gives errors at signals it needs")
        claims(all(error is not signals[name] for name, error in errors.items()), "an error is an array of its own")
        for now, before in zip((signals, state), kept, strict=True):
            claims(all(are_same(xp, now[key], before[key]) for key in before), "a look leaves signals and memory alone")
        for name, error in errors.items():

            def scored(batch: Batch = batch) -> float:
                return float(loss.error(xp, signals, batch, state, LOOK)[0])

            claims(are_slopes(xp, scored, signals[name], error), f"the error at {name!r} is the derivative of the loss")
        if hasattr(loss, "wrong"):
            wrong = float(loss.wrong(xp, signals, batch))
            claims(0.0 <= wrong <= N and wrong == round(wrong), "wrong counts samples")
    real = np.flatnonzero(xp.host(weight))
    part = {name: xp.array(xp.host(signal)[real]) for name, signal in signals.items()}
    alone = Batch(xp.array(xp.host(inputs)[real]), xp.raw(xp.host(y)[real]))
    padded = Batch(inputs, y, weight)
    counts = [
        (loss.error(xp, s, b, state, LOOK)[0], loss.wrong(xp, s, b) if hasattr(loss, "wrong") else 0.0)
        for s, b in ((part, alone), (signals, padded))
    ]
    claims(
        are_close(xp, counts[0][0], counts[1][0]) and float(counts[0][1]) == float(counts[1][1]),
        "samples of weight 0 count for nothing",
    )
    loss.error(xp, signals, Batch(inputs, y), state, LEARN)
    claims(all(is_finite(xp, value) for value in state.values()), "the memory stays finite")


def _remembered(xp: Backend, loss: Any, needs: set[str], claims: Claims) -> tuple[tuple[int, ...], State]:
    """A shape of samples that the loss takes, and what it remembers after one epoch has begun and one batch learned."""
    if not hasattr(loss, "init"):
        return (4,), {}
    for shape in ((4,), (3, 4, 4)):
        try:
            state = loss.init(xp, dict.fromkeys(needs, shape), Stream(0).at("loss"))
        except ShapeError:
            continue
        claims(isinstance(state, dict), "init gives a dict of arrays")
        batch = Batch(normal(xp, "x", (N, 4)), xp.raw(np.arange(N) % 4))
        signals = {need: normal(xp, f"first {need}", (N, *shape)) for need in needs}
        if hasattr(loss, "begin_epoch"):
            loss.begin_epoch(xp, signals, batch, state, Stream(0).at("epoch"))
        loss.error(xp, signals, batch, state, LEARN)
        return shape, state
    claims(False, "takes signals of some shape: (4,) or (3, 4, 4)")
    return (), {}
