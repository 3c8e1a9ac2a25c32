"""A norm: whose activity counts (ref) x what is remembered (stats) x what is done with it (op), and the way back.

Forward, with M_A and M_B the averaging maps of mean and power (one and the same unless the operation has windows):

    mean = M_A x,   q = M_B |x - c|^p + eps,   D = (k0 + k1 q)^(1/p),   y = gamma (x - mean') / D' + shift

where a memory makes mean' and D' of mean and D. Back, with R_A and R_B the sums over what M_A and M_B average over
entirely, h = |x - c|^(p-1) sign(x - c), and G what the memory makes of the errors g at mean and D:

    dv = gamma dy / D'      g_mean = -R_A dv      g_D = -R_B(dv (x - mean')) / D'
    dh = h M_B^T(G_D k1 D^(1-p))                  dx = dv + M_A^T(G_mean) + dh  [setting A: - M_A^T R_A dh]

Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization; NINAI report (2017), eq. 10 to 13; the way back is
our own derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, NamedTuple

from bioplaus.backend.base import Array, Backend
from bioplaus.norms.operation import Operation, Standardize
from bioplaus.norms.reference import Averaging, Axes, Reference
from bioplaus.norms.stats import STATISTICS, Batch, Memory, Sample
from bioplaus.ops import moments
from bioplaus.parts import At, State


class Remembered(dict[str, Array]):
    """A norm's State: what it remembers, by name; and beside it what ``init`` makes anew and no checkpoint holds.

    Attributes
    ----------
    mean_map, power_map : M_A and M_B, fitted to the samples
    learned, errors : the numbers the operation learns, and the errors at them of the latest way back
    visits : how many there may be
    known : those at which there is something to test with
    latest : by visit, what the norm of each sample saw last
    weights, held : what a streaming memory has worked out, of the latest visit and since the latest update
    """

    mean_map: Averaging
    power_map: Averaging
    learned: dict[str, Array]
    errors: dict[str, Array]
    visits: int
    known: set[int]
    latest: dict[int, Any]
    weights: dict[str, Array]
    held: dict[tuple[str, str, int], tuple[Array, Any, Any]]

    def __init__(self, arrays: State | None = None, visits: int = 1) -> None:
        super().__init__(arrays or {})
        self.visits = visits
        self.learned, self.errors, self.known, self.latest, self.weights, self.held = {}, {}, set(), {}, {}, {}


class Seen(NamedTuple):
    """What the way back needs of one visit."""

    x: Array
    now: dict[str, Array]  # mean and D of this batch
    used: dict[str, Array]  # mean and D that normalized
    power: Array  # q
    visit: Any  # the memory's own


@dataclass(frozen=True)
class Normalization:
    """Any reference x statistics x operation; see ``bioplaus show norm norm``.

    ``affine``: a gain and a bias are learned behind it. ``l1``: the loss of each sample grows by l1 times the mean of
    |x - mean| over the layer's units, so that activity is sparse around its mean; where the gates of a cell are
    normalized by themselves, by that mean of every gate.
    """

    ref: Reference
    stats: Memory
    op: Operation
    affine: bool = False
    l1: float = 0.0

    def __post_init__(self) -> None:
        if not self.l1 >= 0.0:
            raise ValueError(f"l1 is {self.l1}; wanted 0 or more")
        if not self.op.bounded and not self.stats.eps > 0.0:
            raise ValueError(f"eps is {self.stats.eps}; wanted a number above 0, or a sigma that stays above 0")
        for ref in self.op.references(self.ref):
            if self.stats.remembers and not ref.over_samples:
                raise ValueError(
                    "the reference has a statistic for every sample, which nothing can remember; take stats: sample, "
                    "or a reference over N"
                )
            if ref.over_samples and not self.stats.remembers:
                raise ValueError(
                    "the reference is over the samples of a batch, which testing has to remember; take stats: batch "
                    "or streaming, or a reference without N"
                )

    @property
    def removes_bias(self) -> bool:
        """A constant per channel or unit is taken away with the mean, and leaves the deviation as it is."""
        return self.stats.centre != "C" and self.op.references(self.ref)[0].per_channel

    @property
    def by_sample(self) -> bool:
        """No sample looks at another."""
        return not self.stats.remembers

    @property
    def exact_gradient(self) -> bool:
        """Whether the way back is the derivative of forward: not through B's centre, nor a streamed error."""
        return self.stats.exact and self.stats.centre != "B"

    @property
    def collects(self) -> int:
        """Training batches wanted after each epoch."""
        return self.stats.collect

    def sees_no_deviation(self, state: Remembered, samples: int) -> bool:
        """Whether batches of so many samples never differ from their mean: one number is its own."""
        return samples == 1 and self.stats.centre == "A" and state.mean_map.alone

    def init(self, xp: Backend, shape: tuple[int, ...], visits: int = 1, groups: int = 1) -> Remembered:
        """For samples of ``shape`` (C, H, W) or (units,), whose channels are ``groups`` that never mix.

        Raises
        ------
        ShapeError      the reference cannot be had from such samples
        """
        state = Remembered(visits=visits)
        state.mean_map, state.power_map = (ref.fit(xp, shape, groups) for ref in self.op.references(self.ref))
        state |= self.stats.init(xp, visits, {"mean": state.mean_map.stored, "sigma": state.power_map.stored})
        if self.l1:
            state["penalty"] = xp.zeros((visits,))
        state.learned = {name: xp.zeros((1,)) + value for name, value in self.op.learns.items()}
        return state

    def forward(self, xp: Backend, n: Array, state: Remembered, at: At) -> tuple[Array, Seen | None]:
        """Y; in testing with the stored statistics."""
        stats, x = self.stats, state.mean_map.split(n)
        if stats.remembers and not (at.train or (at.collect and stats.collect)):
            mean, D = (stats.stored(state, name, at) for name in STATISTICS)
            return self._quotient(x - mean, D, state), None
        mean = state.mean_map.mean(x)
        used_mean = stats.taken(xp, state, "mean", mean, at)
        v, d = self._centred(x, mean, used_mean)
        q = state.power_map.mean(moments.power(xp, d, stats.p)) + stats.eps
        k0, k1 = self.op.constants(state.learned)
        D = moments.root(xp, q * k1 + k0, stats.p)
        used_D = stats.taken(xp, state, "sigma", D, at)
        now = {"mean": mean, "sigma": D}
        visit = stats.seen(xp, state, now, at)
        if self.l1 and at.track:
            penalty = state["penalty"]
            penalty[min(at.visit, len(penalty) - 1)] = self._price(state) * xp.abs(v).mean()
        return self._quotient(v, used_D, state), Seen(n, now, {"mean": used_mean, "sigma": used_D}, q, visit)

    def back(self, xp: Backend, dz: Array, state: Remembered, cache: Seen) -> Array:
        """The error at n, through all statistics."""
        A, B, stats = state.mean_map, state.power_map, self.stats
        x, dy, samples = A.split(cache.x), A.split(dz), len(dz)
        v, d = self._centred(x, cache.now["mean"], cache.used["mean"])
        D, used_D = cache.now["sigma"], cache.used["sigma"]
        dv = dy * (self.op.gamma / used_D)
        g_D = -B.pool(dv * v) / used_D
        if self.l1:
            dv = dv + xp.sign(v) * (self._price(state) / prod(A.shape))
        G_mean = stats.error(xp, state, "mean", -A.pool(dv), cache.visit)
        G_D = stats.error(xp, state, "sigma", g_D, cache.visit)
        stats.returned(state, cache.visit)
        dq = moments.root_back(G_D, D, stats.p)  # p times the error at k0 + k1 q
        if state.learned:
            dk0, dk1 = dq.sum() / stats.p, (dq * cache.power).sum() / stats.p
            state.errors = self.op.learned(state.learned, dk0, dk1, dy.sum())
        _, k1 = self.op.constants(state.learned)
        dh = moments.power_back(xp, B.spread(dq * k1, samples), d, stats.p)
        if stats.centre == "A":
            G_mean = G_mean - A.pool(dh)
        return A.join(dv + dh + A.spread(G_mean, samples))

    def begin_collecting(self, state: Remembered) -> None:
        """The next batches settle the statistics for testing."""
        self.stats.begin_collecting(state)

    def loaded(self, state: Remembered) -> None:
        """A checkpoint has overwritten the arrays: nothing worked out of the old ones holds."""
        state.known.clear()
        state.latest.clear()
        state.held.clear()

    def updated(self, xp: Backend, state: Remembered) -> None:
        """The weights have changed: streaming memories move."""
        self.stats.updated(xp, state)

    def looks(self, state: State) -> dict[str, Array]:
        """For the log: each statistic as (units,), led by an axis of visits where there are several; the penalty."""
        found = {name: value.reshape((len(value), -1)) for name, value in self.stats.looks(state).items()}
        if self.l1:
            found["penalty"] = state["penalty"]
        return {name: value[0] if len(value) == 1 else value for name, value in found.items()}

    def _price(self, state: Remembered) -> float:
        """Of the mean over all units: groups whose channels share a statistic are layers of their own."""
        return self.l1 * (1 if self.op.references(self.ref)[0].per_channel else state.mean_map.groups)

    def _centred(self, x: Array, mean: Array, used: Array) -> tuple[Array, Array]:
        """(v, d): x less the mean that normalizes, and less the centre of the deviation; one array where they agree."""
        v = x - used
        if self.stats.centre == "C":
            return v, x
        return v, v if self.stats.centre == "B" or used is mean else x - mean

    def _quotient(self, v: Array, D: Array, state: Remembered) -> Array:
        y = v * (self.op.gamma / D)
        if state.learned:
            y = y + self.op.shift(state.learned)
        return state.mean_map.join(y)


@dataclass(frozen=True)
class FusedBatch(Normalization):
    """Batch normalization itself (BA1, batch, p = 2, setting A, standardize) by the backend's own kernels."""

    def remember(self, xp: Backend, state: Remembered, caches: Sequence[Any], at: At) -> None:
        """What ``forward`` leaves at visits 0, 1, ... of one batch, from their caches: they were not to track."""
        means, sigmas = ([cache[k] for cache in caches] for k in (1, 2))
        self.stats.seen_together(xp, state, {"mean": xp.stack(means), "sigma": xp.stack(sigmas)}, at)  # type: ignore[attr-defined]

    def forward(self, xp: Backend, n: Array, state: Remembered, at: At) -> tuple[Array, Any]:
        """Y; in testing with the stored statistics."""
        if not at.train and not at.collect:
            return super().forward(xp, n, state, at)
        y, mean, sigma = xp.standardize(n, self.stats.eps)
        self.stats.seen(xp, state, {"mean": mean, "sigma": sigma}, at)
        return y, (n, mean, sigma)

    def back(self, xp: Backend, dz: Array, state: Remembered, cache: Any) -> Array:
        """Through both statistics."""
        return xp.standardize_back(dz, *cache)

    def forward_scaled(
        self, xp: Backend, n: Array, state: Remembered, at: At, gain: Array, bias: Array
    ) -> tuple[Array, Any]:
        """gain y + bias, in one go where the backend can."""
        if not at.train and not at.collect:
            return super().forward(xp, n, state, at)[0] * gain + bias, None
        y, mean, sigma = xp.standardize_scaled(n, self.stats.eps, gain, bias)
        self.stats.seen(xp, state, {"mean": mean, "sigma": sigma}, at)
        return y, (n, mean, sigma)

    def back_scaled(
        self, xp: Backend, dy: Array, state: Remembered, cache: Any, gain: Array
    ) -> tuple[Array, Array, Array]:
        """dn through gain and both statistics, dgain, dbias."""
        n, mean, sigma = cache
        return xp.standardize_scaled_back(dy, n, mean, sigma, gain)


@dataclass(frozen=True)
class FusedLayer(Normalization):
    """Layer normalization of vectors (SP1, sample, p = 2, setting A, standardize) by the backend's own kernel."""

    def forward(self, xp: Backend, n: Array, state: Remembered, at: At) -> tuple[Array, Any]:
        """Y."""
        if n.ndim != 2:
            return super().forward(xp, n, state, at)
        rows = n.reshape((-1, n.shape[1] // state.mean_map.groups))  # every gate of a sample by itself
        z, mean, inverse = xp.standardize_rows(rows, self.stats.eps)
        if at.track:
            now = {"mean": mean.reshape((len(n), -1)), "sigma": 1.0 / inverse.reshape((len(n), -1))}
            self.stats.seen(xp, state, now, at)
        return z.reshape(n.shape), (rows, mean, inverse)

    def back(self, xp: Backend, dz: Array, state: Remembered, cache: Any) -> Array:
        """Through both statistics."""
        if isinstance(cache, Seen):
            return super().back(xp, dz, state, cache)
        rows, mean, inverse = cache
        return xp.standardize_rows_back(dz.reshape(rows.shape), rows, mean, inverse).reshape(dz.shape)

    def forward_scaled(
        self, xp: Backend, n: Array, state: Remembered, at: At, gain: Array, bias: Array
    ) -> tuple[Array, Any]:
        """gain y + bias."""
        z, cache = self.forward(xp, n, state, at)
        y = z * gain
        y += bias
        return y, (z, cache)

    def back_scaled(
        self, xp: Backend, dy: Array, state: Remembered, cache: Any, gain: Array
    ) -> tuple[Array, Array, Array]:
        """dn through gain and both statistics, dgain, dbias."""
        z, visit = cache
        axes = (0, *range(2, dy.ndim))
        return self.back(xp, dy * gain, state, visit), (dy * z).sum(axes), dy.sum(axes)


@dataclass(frozen=True)
class PerChannel(Normalization):
    """One statistic per channel of the batch (BA1), p = 1 or 2, standardize, any memory: few passes over its input."""

    spares_error: ClassVar[bool] = False  # the way back may write into the error it is given

    def forward(self, xp: Backend, n: Array, state: Remembered, at: At) -> tuple[Array, Any]:
        """Y; in testing with the stored statistics."""
        return self.forward_scaled(xp, n, state, at, None, None)

    def back(self, xp: Backend, dz: Array, state: Remembered, cache: Any) -> Array:
        """The error at n, through all statistics."""
        return self.back_scaled(xp, dz, state, cache, None)[0]

    def forward_scaled(
        self, xp: Backend, n: Array, state: Remembered, at: At, gain: Array | None, bias: Array | None
    ) -> tuple[Array, Any]:
        """gain y + bias."""
        stats, ready = self.stats, (1, -1, *(1 for _ in n.shape[2:]))

        def taken(name: str, now: Array) -> Array:
            return stats.taken(xp, state, name, now.reshape((1, *state.mean_map.stored)), at).reshape(ready)

        def scaled(mean: Array, D: Array) -> Array:
            return xp.channel_scaled(n, mean, (1.0 if gain is None else gain) / D, bias)

        if not (at.train or (at.collect and stats.collect)):
            return scaled(*(stats.stored(state, name, at).reshape(ready) for name in STATISTICS)), None
        around_mean = stats.centre == "A" or stats.p == 2.0  # of squares those around another centre follow
        if around_mean:
            mean, q, tilt = xp.channel_moments(n, stats.p)
        else:
            mean, tilt = n.mean((0, *range(2, n.ndim)), keepdims=True), 0.0
        used_mean = taken("mean", mean)
        centre = {"A": mean, "B": used_mean, "C": 0.0}[stats.centre]
        if not around_mean:
            q = xp.channel_deviation(n, centre)
        elif stats.centre != "A":
            q = q + (mean - centre) ** 2
        D = moments.root(xp, q + stats.eps, stats.p)
        used_D = taken("sigma", D)
        visit = stats.seen(xp, state, {"mean": mean, "sigma": D}, at)
        return scaled(used_mean, used_D), (n, used_mean, used_D, centre, D, tilt, visit)

    def back_scaled(
        self, xp: Backend, dy: Array, state: Remembered, cache: Any, gain: Array | None
    ) -> tuple[Array, Array, Array]:
        """(dn through gain and all statistics, dgain, dbias)."""
        n, mean, used_D, centre, D, tilt, visit = cache
        stats, m = self.stats, float(n.shape[0] * prod(n.shape[2:]))

        def handed(name: str, g: Array) -> Array:
            stored = (1, *state.mean_map.stored)
            return stats.error(xp, state, name, g.reshape(stored), visit).reshape(g.shape)

        dbias, along = xp.channel_sums(dy, n, mean)
        dgain, scale = along / used_D, (1.0 if gain is None else gain) / used_D
        G_mean, G_D = handed("mean", -dbias * scale), handed("sigma", -dgain * scale)
        stats.returned(state, visit)
        slope = moments.root_back(G_D, D, stats.p) / m
        shift = G_mean / m
        if stats.centre == "A":
            shift = shift - slope * tilt
        return xp.channel_mix(dy, scale, n, centre, slope, shift, stats.p), dgain, dbias


def composed(ref: Reference, stats: Memory, op: Operation, affine: bool = False, l1: float = 0.0) -> Normalization:
    """The norm of three choices: with few passes, or by the backend's own kernels, where one of those fits."""
    over = set(ref.over) if isinstance(ref, Axes) and ref.window is None else set()
    kind, usual = Normalization, (stats.p, stats.centre) == (2.0, "A")
    if isinstance(op, Standardize) and not l1:
        if over == {"N", "H", "W"} and stats.p in (1.0, 2.0):
            kind = FusedBatch if isinstance(stats, Batch) and usual else PerChannel
        elif over == {"C", "H", "W"} and isinstance(stats, Sample) and usual:
            kind = FusedLayer
    return kind(ref, stats, op, affine, l1)


@dataclass(frozen=True)
class Sparse:
    """No normalization, but a price on activity: the loss of each sample grows by l1 times the mean of |n|."""

    l1: float
    removes_bias = False
    collects = 0
    affine = False

    def __post_init__(self) -> None:
        if not self.l1 >= 0.0:
            raise ValueError(f"l1 is {self.l1}; wanted 0 or more")

    def init(self, xp: Backend, shape: tuple[int, ...], visits: int = 1, groups: int = 1) -> State:
        """The latest batch's penalty, per visit."""
        return {"penalty": xp.zeros((visits,))}

    def forward(self, xp: Backend, n: Array, state: State, at: At) -> tuple[Array, Array]:
        """n as it is."""
        if at.track:
            penalty = state["penalty"]
            penalty[min(at.visit, len(penalty) - 1)] = self.l1 * xp.abs(n).mean()
        return n + 0.0, n

    def back(self, xp: Backend, dz: Array, state: State, cache: Array) -> Array:
        """Dz + l1 sign(n) / units."""
        return dz + xp.sign(cache) * (self.l1 / prod(cache.shape[1:]))

    def begin_collecting(self, state: State) -> None:
        """Nothing to collect."""

    def updated(self, xp: Backend, state: State) -> None:
        """Nothing moves with the weights."""

    def looks(self, state: State) -> dict[str, Array]:
        """The latest batch's penalty, per visit where there are several."""
        penalty = state["penalty"]
        return {"penalty": penalty[0] if len(penalty) == 1 else penalty}
