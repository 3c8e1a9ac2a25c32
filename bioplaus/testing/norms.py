"""The contract of norms, and of what they are made of."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.numpy import NumPy
from bioplaus.errors import ShapeError
from bioplaus.norms.composed import Remembered, composed
from bioplaus.norms.reference import sp1
from bioplaus.norms.stats import Sample
from bioplaus.parts import COLLECT, LEARN, LOOK, TEST, State
from bioplaus.testing.claims import Claims, contract
from bioplaus.testing.trials import N, are_close, are_same, are_slopes, is_finite, normal


@contract("norm")
def check_norm(norm: Any, claims: Claims) -> None:
    """The way back is the derivative of the way up; claims: ``removes_bias``, ``collects``, ``exact_gradient``.

    A norm whose way back is not a gradient by design says ``exact_gradient = False``. What it adds to the loss of each
    sample it shows as ``penalty`` among its ``looks``. A norm may refuse groups of channels, with a ShapeError.
    """
    claims.methods(norm, "init", "forward", "back", "begin_collecting", "updated")
    collects = getattr(norm, "collects", None)
    claims(isinstance(collects, int) and collects >= 0, "collects is a number of batches, 0 or more")
    claims(isinstance(getattr(norm, "removes_bias", None), bool), "removes_bias is true or false")
    xp, taken = NumPy("float64"), 0
    for shape in ((8,), (8, 4, 3)):
        for groups in (1, 2):
            try:
                state = norm.init(xp, shape, 2, groups)
            except ShapeError:  # a reference that such samples do not have
                continue
            taken += 1
            _check_both_ways(norm, xp, shape, state, claims)
            if groups > 1:
                _check_groups(norm, xp, shape, norm.init(xp, shape, 2, groups), claims)
            _check_memory(norm, xp, shape, state, claims)
    claims(taken, "takes samples of some shape: (8,) or (8, 4, 3)")


def _check_both_ways(norm: Any, xp: Backend, shape: tuple[int, ...], state: State, claims: Claims) -> None:
    """Forward and back from a fresh state, which stays fresh."""
    n, g = normal(xp, "n", (N, *shape)) + 0.5, normal(xp, "g", (N, *shape))
    claims(isinstance(state, dict), "init gives a dict of arrays")
    before = xp.host(n)
    z, cache = norm.forward(xp, n, copy.deepcopy(state), LEARN)
    claims(tuple(z.shape) == tuple(n.shape) and is_finite(xp, z), "forward gives finite numbers of n's shape")
    claims(are_same(xp, n, before), "forward leaves n as it was")

    def scored() -> float:
        trial = copy.deepcopy(state)
        score = (norm.forward(xp, n, trial, LEARN)[0] * g).sum()
        shown = norm.looks(trial) if hasattr(norm, "looks") else {}
        return float(score + N * np.sum(shown.get("penalty", 0.0)))

    given = g + 0.0
    dn = norm.back(xp, given, copy.deepcopy(state), cache)
    if getattr(norm, "spares_error", True):
        claims(are_same(xp, given, g) and dn is not given, "spares_error: back leaves the error as it was")
    claims(tuple(dn.shape) == tuple(n.shape) and is_finite(xp, dn), "back gives finite numbers of n's shape")
    if getattr(norm, "exact_gradient", True):
        claims(are_slopes(xp, scored, n, dn), "back is the derivative of forward")
    offset = normal(xp, "offset", (1, shape[0], *(1 for _ in shape[1:])))
    moved = norm.forward(xp, n + offset, copy.deepcopy(state), LEARN)[0]
    claims(
        are_close(xp, moved, z) == norm.removes_bias,
        "removes_bias: a constant per unit changes nothing" if norm.removes_bias else "no removes_bias: it matters",
    )


def _check_groups(norm: Any, xp: Backend, shape: tuple[int, ...], state: State, claims: Claims) -> None:
    n, half = normal(xp, "n", (N, *shape)), shape[0] // 2
    other = n + 0.0
    other[:, half:] = normal(xp, "other", tuple(other[:, half:].shape))
    one, two = (norm.forward(xp, each, copy.deepcopy(state), LEARN)[0][:, :half] for each in (n, other))
    claims(are_close(xp, one, two), "groups of channels never mix")


def _check_memory(norm: Any, xp: Backend, shape: tuple[int, ...], state: State, claims: Claims) -> None:
    """Three updates of two visits, a look, a collection; then testing."""
    kept = copy.deepcopy(state)
    for _ in range(3):
        for visit in range(2):
            z, cache = norm.forward(xp, normal(xp, "seen", (N, *shape)), state, LEARN._replace(visit=visit))
            norm.back(xp, z + 0.0, state, cache)
        norm.updated(xp, state)
    claims(set(state) == set(kept), "state keeps its arrays")
    claims(all(is_finite(xp, value) for value in state.values()), "state stays finite")
    kept = copy.deepcopy(state)
    z, cache = norm.forward(xp, normal(xp, "look", (N, *shape)), state, LOOK)
    norm.back(xp, z + 0.0, state, cache)
    claims(all(are_same(xp, state[key], kept[key]) for key in kept), "a look without tracking leaves no trace")
    norm.begin_collecting(state)
    for k in range(norm.collects):
        for visit in range(2):
            norm.forward(xp, normal(xp, f"batch{k}", (N, *shape)), state, COLLECT._replace(visit=visit))
    n, kept = normal(xp, "test", (N, *shape)), copy.deepcopy(state)
    z, beyond = (norm.forward(xp, n, state, TEST._replace(visit=visit))[0] for visit in (1, 7))
    claims(tuple(z.shape) == tuple(n.shape) and is_finite(xp, z), "testing after collecting gives finite numbers")
    claims(are_same(xp, z, beyond), "a visit beyond the stored ones is tested like the last")
    claims(all(are_same(xp, state[key], kept[key]) for key in kept), "testing leaves no trace")
    alone = norm.forward(xp, n[:1], state, TEST._replace(visit=1))[0]
    claims(are_close(xp, alone, z[:1]), "in testing a sample does not depend on its batch")


@contract("norm_ref")
def check_norm_ref(ref: Any, claims: Claims) -> None:
    """Its averaging map has an adjoint; claims: ``over_samples``, ``per_channel``."""
    claims.methods(ref, "fit")
    xp, taken = NumPy("float64"), 0
    for shape in ((8,), (8, 4, 3)):
        for groups in (1, 2):
            try:
                M = ref.fit(xp, shape, groups)
            except ShapeError:
                continue
            taken += 1
            x, g = (M.split(normal(xp, name, (N, *shape))) for name in ("x", "g"))
            mean, back = M.mean(x), M.spread(M.pool(g), N)
            up, down = ((mean + 0.0 * x) * g).sum(), ((back + 0.0 * g) * x).sum()
            claims(are_close(xp, up, down), "<M x, g> = <x, spread(pool(g))>")
            claims(are_same(xp, M.join(x), normal(xp, "x", (N, *shape))), "join undoes split")
            once = mean.shape[0] == 1
            claims(once == ref.over_samples, "over_samples: one statistic for the batch, or each sample's own")
            if ref.over_samples:
                claims(tuple(mean.shape[1:]) == tuple(M.stored), "stored is the shape of a statistic")
            offset = normal(xp, "offset", (1, shape[0], *(1 for _ in shape[1:])))
            moved = M.join(M.mean(x + M.split(offset + xp.zeros((N, *shape)))) - mean + 0.0 * x)
            claims(
                are_close(xp, moved, offset + xp.zeros((N, *shape))) == ref.per_channel,
                "per_channel: a constant per channel moves its mean by as much, and only then",
            )
    claims(taken, "fits samples of some shape: (8,) or (8, 4, 3)")


@contract("norm_stats")
def check_norm_stats(stats: Any, claims: Claims) -> None:
    """The same statistics again and again are what it hands on, sigma sooner or later, and what it remembers."""
    claims.methods(stats, "init", "taken", "seen", "error", "returned", "begin_collecting", "updated", "looks")
    said = stats.p >= 1.0 and stats.centre in ("A", "B", "C") and stats.eps >= 0.0
    claims(said, "p, centre and eps say what is taken")
    xp, shape = NumPy("float64"), (4, 1, 1)
    state = Remembered(stats.init(xp, 2, {"mean": shape, "sigma": shape}), visits=2)
    now = {"mean": normal(xp, "mean", (1, *shape)), "sigma": abs(normal(xp, "sigma", (1, *shape)))}
    away: dict[str, float] = {}  # of what is taken at first

    def nearer(found: Array, name: str) -> bool:
        return are_close(xp, found, now[name]) or float(abs(found - now[name]).max()) < 0.5 * away[name]

    for k in range(5):
        for visit in range(2):
            at = LEARN._replace(visit=visit)
            for name, value in now.items():
                taken = stats.taken(xp, state, name, value, at) + 0.0
                away.setdefault(name, float(abs(taken - value).max()))
                claims(name == "sigma" or are_close(xp, taken, value), f"takes a {name} that stays")
                claims(k < 4 or nearer(taken, name), f"comes to a {name} that stays")
            seen = stats.seen(xp, state, now, at)
            for name, value in now.items():
                claims(is_finite(xp, stats.error(xp, state, name, value, seen)), "errors stay finite")
            stats.returned(state, seen)
        stats.updated(xp, state)
    if stats.remembers:
        for name in now:
            claims(nearer(stats.stored(state, name, TEST), name), f"remembers a {name} that stays")
    if stats.remembers:
        claims(set(stats.looks(state)) <= set(state), "looks show some of what it keeps")
    else:
        shown = {name: value[:1] for name, value in stats.looks(state).items()}
        claims(all(are_close(xp, shown[name], now[name]) for name in shown), "looks show the latest statistics")


@contract("norm_op")
def check_norm_op(op: Any, claims: Claims) -> None:
    """Composed with each sample's own statistics: its way back, and the errors at the numbers it learns, are slopes."""
    claims.methods(op, "references", "constants", "shift", "learned")
    xp = NumPy("float64")
    for shape in ((4,), (4, 5, 4)):
        norm = composed(sp1(), Sample(), op)
        state = norm.init(xp, shape)
        x, g = normal(xp, "x", (N, *shape)), normal(xp, "g", (N, *shape))

        def scored(x: Array = x, g: Array = g, norm: Any = norm, state: Any = state) -> float:
            return float((norm.forward(xp, x, state, LEARN)[0] * g).sum())

        _, cache = norm.forward(xp, x, state, LEARN)
        assert cache is not None
        dx = norm.back(xp, g + 0.0, state, cache)
        claims(are_slopes(xp, scored, x, dx), "back is the derivative of forward")
        claims(set(state.errors) == set(op.learns), "gives an error at every number it learns")
        for name, number in state.learned.items():
            claims(
                are_slopes(xp, scored, number, state.errors[name].reshape((1,))), f"its error at {name} is the slope"
            )
