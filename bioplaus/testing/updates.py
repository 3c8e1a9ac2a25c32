"""The contract of links, updates and rate schedules."""

from __future__ import annotations

from typing import Any

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.backend.numpy import NumPy
from bioplaus.registry import get
from bioplaus.testing.claims import Claims, contract, named
from bioplaus.testing.trials import are_same, is_finite, normal


@contract("link")
def check_link(link: Any, claims: Claims) -> None:
    """One step of a chain: in dW's sign, finite, writing only into ``out`` and its own state."""
    claims.methods(link, "init", "step")
    xp = NumPy("float64")
    for shape, role in (((4, 3), "weights"), ((3, 2, 2, 2), "weights"), ((1, 3), "bias"), ((1, 3, 1, 1), "gain")):
        W, zero = normal(xp, "W", shape), xp.zeros(shape)
        d = normal(xp, "d", shape)
        d.reshape(-1)[0] = 0.0

        def first(d: Array, W: Array, out: Array, role: str = role) -> Array:
            return link.step(xp, d, W, link.init(xp, W), role, out)

        state = link.init(xp, W)
        claims(isinstance(state, dict), "init gives a dict of arrays")
        claims(all(tuple(s.shape) in (shape, (1,)) for s in state.values()), "state has W's shape, or one element")
        kept_W, kept_d = xp.host(W), xp.host(d)
        apart = first(d, W, xp.zeros(shape))
        claims(tuple(apart.shape) == shape, "step gives d in W's shape")
        claims(are_same(xp, W, kept_W), "step leaves W as it was")
        claims(are_same(xp, d, kept_d), "step leaves d as it was where out is another array")
        shared = d + 0.0
        claims(are_same(xp, first(shared, W, shared), apart), "step is the same where out is d itself")
        claims(not xp.host(first(zero + 0.0, zero, xp.zeros(shape))).any(), "no step where d and W are 0: sign(0) = 0")
        toward = float((first(d, zero, xp.zeros(shape)) * d).sum())
        claims(toward >= 0.0, "the first step is in dW's sign; only rate subtracts")
        if role != "weights":
            still = first(zero + 0.0, W, xp.zeros(shape))
            claims(not xp.host(still).any(), "biases and gains do not decay")
        keys = set(state)
        for k in range(5):
            step = link.step(xp, normal(xp, f"d{k}", shape), W, state, role, xp.zeros(shape))
            claims(is_finite(xp, step), "steps are finite")
        claims(set(state) == keys, "state keeps its arrays")


@contract("update")
def check_update(update: Any, claims: Claims) -> None:
    """A chain of links that keep their contract, in dW's sign to its end."""
    claims(isinstance(update, tuple) and len(update) > 0, "is a tuple of links")
    for link in update:
        for line in check_link(link):
            claims(True, f"{named(link)}: {line}")
    claims(isinstance(update[-1], get("link", "rate")), "ends with rate")
    xp = NumPy("float64")
    W, d = xp.zeros((4, 3)), normal(xp, "d", (4, 3))
    step = d + 0.0
    for link in update:
        step = link.step(xp, step, W, link.init(xp, W), "weights", d + 0.0)
    claims(float((step * d).sum()) >= 0.0, "the first step goes down what was accumulated")


@contract("schedule")
def check_schedule(schedule: Any, claims: Claims) -> None:
    """A factor for every epoch or update, and the same one when asked again."""
    claims.methods(schedule, "at")
    claims(getattr(schedule, "by", "epochs") in ("epochs", "updates"), "by is epochs or updates")
    for total in (1, 7):
        factors = [schedule.at(done, total) for done in range(total)]
        claims(
            all(isinstance(f, int | float) and np.isfinite(f) and f >= 0 for f in factors),
            "factors are finite, 0 or more",
        )
        claims(factors == [schedule.at(done, total) for done in range(total)], "the same factor when asked again")
