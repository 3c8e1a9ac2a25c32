"""NormStats: which moments are taken of the reference, what is remembered of them, and what training normalizes with.

    mean = M x,   sigma = (M |x - c|^p + eps)^(1/p),   c by setting: A the mean now, B the mean used, C zero

M is the reference's averaging map. Three memories share these moments: none (``Sample``), the batch now and a moving
average for testing (``Batch``), long and short running averages (``Streaming``).

Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization: Lp normalization, settings A to C; eps is ours, placed
so that p = 2 and setting A give sqrt(var + eps).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Literal, Protocol

from bioplaus.backend.base import Array, Backend
from bioplaus.errors import RunError
from bioplaus.parts import At, State

Centre = Literal["A", "B", "C"]
Shapes = Mapping[str, tuple[int, ...]]  # of "mean" and "sigma", ready to broadcast against one sample
STATISTICS = ("mean", "sigma")
FIRST = 0.5  # the weight, in batches and times alpha_1, of the deviation a streaming memory begins with


class Memory(Protocol):
    """What is taken and remembered of a reference, by the names ``mean`` and ``sigma``; a part of kind ``norm_stats``.

    ``remembers``: testing uses what training left behind · ``collect``: training batches wanted after each epoch ·
    ``exact``: the error handed on is the derivative of what normalizes.
    """

    @property
    def p(self) -> float:
        """The power of the deviation."""

    @property
    def centre(self) -> Centre:
        """What the deviation is from."""

    @property
    def eps(self) -> float:
        """What is added to the mean power."""

    @property
    def remembers(self) -> bool:
        """See above."""

    @property
    def collect(self) -> int:
        """See above."""

    @property
    def exact(self) -> bool:
        """See above."""

    def init(self, xp: Backend, visits: int, shapes: Shapes) -> State:
        """What it keeps, a store for each of ``visits`` or one for all: (stores, *shape of the statistic)."""

    def taken(self, xp: Backend, state: State, name: str, now: Array, at: At) -> Array:
        """The statistic to normalize with in training, given the one now; called for mean, then for sigma."""

    def seen(self, xp: Backend, state: State, now: Mapping[str, Array], at: At) -> Any:
        """Both have been taken. Returns what ``error`` and ``returned`` are to be given of this visit."""

    def stored(self, state: State, name: str, at: At) -> Array:
        """The statistic to normalize with in testing; only of a memory that remembers."""

    def error(self, xp: Backend, state: State, name: str, now: Array, visit: Any) -> Array:
        """The error to hand on, given the one at the statistic now; called for mean, then for sigma."""

    def returned(self, state: State, visit: Any) -> None:
        """Both errors have been taken."""

    def begin_collecting(self, state: State) -> None:
        """The next ``collect`` batches settle the statistics for testing."""

    def updated(self, xp: Backend, state: State) -> None:
        """The weights have changed."""

    def looks(self, state: State) -> dict[str, Array]:
        """What of the state the log should show."""


@dataclass(frozen=True)
class Moments:
    """What every memory is given: p, the setting of the centre, and eps."""

    p: float = 2.0
    centre: Centre = "A"
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if not 1.0 <= self.p < inf:
            raise ValueError(f"p is {self.p}; wanted a number of at least 1")
        if not 0.0 <= self.eps < inf:
            raise ValueError(f"eps is {self.eps}; wanted 0 or more")


@dataclass(frozen=True)
class Sample(Moments):
    """Each sample's own moments, in training and in testing; nothing is remembered, but what the log shows.

    Source: Liao, Kawaguchi & Poggio (2016), sample normalization; layer normalization: Ba, Kiros & Hinton (2016).
    """

    remembers: ClassVar[bool] = False
    collect: ClassVar[int] = 0
    exact: ClassVar[bool] = True  # the error handed on is the derivative of what normalizes

    def init(self, xp: Backend, visits: int, shapes: Shapes) -> State:
        """Nothing."""
        return {}

    def taken(self, xp: Backend, state: State, name: str, now: Array, at: At) -> Array:
        """The statistic to normalize with: the one now."""
        return now

    def seen(self, xp: Backend, state: Any, now: Mapping[str, Array], at: At) -> None:
        """The latest batch is kept for the log, as it is: averages are taken only when somebody looks."""
        if at.track:
            state.latest[at.visit] = xp, now, at.together

    def error(self, xp: Backend, state: State, name: str, now: Array, visit: None) -> Array:
        """The error at the statistic now: as it is."""
        return now

    def returned(self, state: State, visit: None) -> None:
        """Nothing to count."""

    def begin_collecting(self, state: State) -> None:
        """Nothing to collect."""

    def updated(self, xp: Backend, state: State) -> None:
        """Nothing moves with the weights."""

    def looks(self, state: Any) -> dict[str, Array]:
        """Mean and sigma of the latest batch, averaged over its samples; not a number at a visit that was not made."""
        if not state.latest:
            return {}
        xp, _, together = next(iter(state.latest.values()))
        return {name: xp.stack(_means(state, name, 1 if together > 1 else state.visits)) for name in STATISTICS}

    def stored(self, state: State, name: str, at: At) -> Array:
        """Never asked for."""
        raise NotImplementedError("nothing is remembered")


@dataclass(frozen=True)
class Batch(Moments):
    """This batch's moments in training; a moving average of them in testing, one store per visit.

    The average is of mean and deviation (not variance), has weight ``ema`` on the newest batch and starts at the first
    of ``collect`` training batches that run without learning after each epoch. Batches learned from move it too: before
    an epoch is complete, testing has them to go by; before any batch, testing is an error. ``shared``: one store for
    all visits, as a control that should hurt.

    Source: Ioffe & Szegedy (2015); test statistics: Liao, Leibo & Poggio (2016); one store per time step: Liao &
    Poggio (2016), Bridging the gaps between residual learning, recurrent neural networks and visual cortex.
    """

    collect: int = 20
    ema: float = 0.05
    shared: bool = False

    remembers: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.collect < 1:
            raise ValueError(f"collect is {self.collect}; wanted 1 batch or more")
        if not 0.0 < self.ema <= 1.0:
            raise ValueError(f"ema is {self.ema}; wanted a number above 0, up to 1")

    def init(self, xp: Backend, visits: int, shapes: Shapes) -> State:
        """For testing ``mean`` and ``sigma``, the latest batch's beside them, and whether there has been a batch."""
        stores = 1 if self.shared else visits
        state = {name: xp.zeros((stores, *shapes[name])) for name in STATISTICS}
        state |= {f"batch_{name}": value + 0.0 for name, value in state.items()}
        return state | {"begun": _counter(xp, stores, shapes)}

    def taken(self, xp: Backend, state: State, name: str, now: Array, at: At) -> Array:
        """The statistic to normalize with: the one now."""
        return now

    def seen(self, xp: Backend, state: State, now: Mapping[str, Array], at: At) -> None:
        """One more batch of the moving average; the first one starts it."""
        if not at.track and not at.collect:
            return
        begun = _store(state["begun"], at.visit)
        share = 1.0 - (1.0 - self.ema) * begun
        for name, value in now.items():
            latest = _store(state[f"batch_{name}"], at.visit)
            if at.track:
                latest[...] = value.reshape(latest.shape)
            xp.approach(_store(state[name], at.visit), value.reshape(latest.shape), share)
        begun[...] = 1.0

    def seen_together(self, xp: Backend, state: State, now: Mapping[str, Array], at: At) -> None:
        """As ``seen`` at visits 0, 1, ... one after another: statistics (visits, ...) of one batch."""
        visits, stores = next(iter(now.values())).shape[0], state["begun"].shape[0]
        if stores < visits:
            for visit in range(visits):
                self.seen(xp, state, {name: value[visit] for name, value in now.items()}, at._replace(visit=visit))
            return
        begun = state["begun"][:visits]
        share = 1.0 - (1.0 - self.ema) * begun
        for name, value in now.items():
            stored = state[name][:visits]
            value = value.reshape(stored.shape)
            if at.track:
                state[f"batch_{name}"][:visits] = value
            xp.approach(stored, value, share)
        begun[...] = 1.0

    def stored(self, state: State, name: str, at: At) -> Array:
        """The statistic testing normalizes with; RunError where no batch has been seen at this visit."""
        return _store(state[name], _known(at.visit if _has_seen(state, ("begun",), at.visit) else None, at.visit))

    def error(self, xp: Backend, state: State, name: str, now: Array, visit: None) -> Array:
        """The error at the statistic now: as it is."""
        return now

    def returned(self, state: State, visit: None) -> None:
        """Nothing to count."""

    def begin_collecting(self, state: State) -> None:
        """The next batch starts the moving average anew, to the bit as if there had been none."""
        for name in (*STATISTICS, "begun"):
            state[name][...] = 0.0

    def updated(self, xp: Backend, state: State) -> None:
        """Nothing moves with the weights."""

    def looks(self, state: State) -> dict[str, Array]:
        """The latest batch's mean and sigma; not a number at a visit that no batch has made."""
        return {name: _once(state["begun"], state[f"batch_{name}"]) for name in STATISTICS}


@dataclass(frozen=True)
class Streaming(Moments):
    """Running averages normalize and carry the errors back: ``short`` since the last update, ``long`` over updates.

    Forward, per statistic s (mean, then sigma): short <- average of all s since the last update; what normalizes is
    alpha_1 long + alpha_2 short, short alone before the first update. Back, with g the error at s: the same two
    averages of g; what goes further back is beta_1 long + beta_2 short + beta_3 g. At every update: long <- kappa_1
    long + kappa_2 short (short, the first time), short starts anew; ``error_kappa`` (``kappa`` where left out) does so
    for the errors. Testing uses what normalized last in training. ``per_visit``: stores for each visit; otherwise all
    visits share one. A visit that training never makes is tested with the store of the last one before it.

    The source does not say what normalizes before the first update. Were it short alone, the very first sample of
    online learning would have deviation 0 and an error as large as 1 / eps; so the short deviation begins as that of a
    standardized unit, 1, with half the weight alpha_1 that long will have. The mean begins with the first one.

    ``gradient``: ``straight`` hands the mixed error on as it is; ``chain`` multiplies it by alpha_2 / n, the weight
    that the n-th statistic since the last update has in what normalized it (before the first, by its weight in short).

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, section "Streaming normalization" and algorithm.
    """

    alpha: tuple[float, float] = (0.5, 0.5)
    beta: tuple[float, float, float] = (0.5, 0.5, 0.0)
    kappa: tuple[float, float] | None = None  # as alpha where left out
    error_kappa: tuple[float, float] | None = None
    gradient: Literal["straight", "chain"] = "straight"
    per_visit: bool = False

    remembers: ClassVar[bool] = True
    collect: ClassVar[int] = 0

    @property
    def exact(self) -> bool:
        """Only where the error now goes back, through its share in what normalized."""
        return self.gradient == "chain" and self.beta == (0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "beta", "kappa", "error_kappa"):
            weights = getattr(self, name)
            if weights is not None and min(weights) < 0.0:
                raise ValueError(f"{name} is {list(weights)}; wanted weights of 0 or more")
            if weights is not None and name != "beta" and abs(sum(weights) - 1.0) > 1e-6:
                raise ValueError(f"{name} is {list(weights)}; wanted two weights that sum to 1")
        if sum(self.beta) > 1.0 + 1e-6:
            raise ValueError(f"beta is {list(self.beta)}; wanted three weights that sum to 1 or less")

    def init(self, xp: Backend, visits: int, shapes: Shapes) -> State:
        """What normalized last, ``mean`` and ``sigma``; of each and of its error (``d``) long, short and counters."""
        stores = visits if self.per_visit else 1
        state = {}
        for name in STATISTICS:
            for key in (name, f"long_{name}", f"short_{name}", f"long_d{name}", f"short_d{name}"):
                state[key] = xp.zeros((stores, *shapes[name]))
        for key in ("count", "dcount", "begun", "dbegun"):
            state[key] = _counter(xp, stores, shapes)
        state["short_sigma"] += 1.0
        return state

    def taken(self, xp: Backend, state: State, name: str, now: Array, at: At) -> Array:
        """The statistic to normalize with."""
        average = self._averaged(xp, state, "", name, now, at.visit, at.track)
        held, share, _ = self._held(state, "", name, at.visit)
        used = average * share + held
        if at.track:
            _store(state[name], at.visit)[...] = used
        return used

    def _averaged(self, xp: Backend, state: Any, d: str, name: str, now: Array, visit: int, track: bool) -> Array:
        """The average since the last update with one more, which ``short`` becomes where it is tracked."""
        short = _store(state[f"short_{d}{name}"], visit)
        if name == STATISTICS[0] or not d:  # of the newest; for all errors the same
            one = self._held(state, d, name, visit)[2]
            state.weights[d] = 1.0 / (_store(state[f"{d}count"], visit) + one)
        if not track:
            return short + (now - short) * state.weights[d]
        xp.approach(short, now, state.weights[d])
        return short

    def _held(self, state: Any, d: str, name: str, visit: int) -> tuple[Array, Array, Array | float]:
        """What does not change between updates: share of long times long, share of short, what short begins with + 1.

        Short begins with weight 0, but for the deviation before the first update.
        """
        place = min(visit, state["begun"].shape[0] - 1)
        if (d, name, place) not in state.held:
            long, begun = (_store(state[key], place) for key in (f"long_{d}{name}", f"{d}begun"))
            shares = self.beta if d else self.alpha
            share = shares[1] if d else begun * shares[1] + (1.0 - begun)
            one = 1.0 + (1.0 - begun) * (FIRST * shares[0]) if name == "sigma" and not d else 1.0
            state.held[d, name, place] = begun * long * shares[0], share, one
        return state.held[d, name, place]  # type: ignore[no-any-return]

    def seen(self, xp: Backend, state: State, now: Mapping[str, Array], at: At) -> tuple[int, bool, State]:
        """Count one more; what the way back needs: the visit, whether it is tracked, and the shares in ``chain``."""
        count, shares = _store(state["count"], at.visit), {}
        if self.gradient == "chain":
            for name in STATISTICS:
                _, share, one = self._held(state, "", name, at.visit)
                shares[name] = share / (count + one)
        if at.track:
            count += 1.0
        return at.visit, at.track, shares

    def stored(self, state: State, name: str, at: At) -> Array:
        """What normalized last in training, at this visit or the last one before it; RunError where nothing did."""
        last = min(at.visit, state["begun"].shape[0] - 1)
        places = (place for place in range(last, -1, -1) if _has_seen(state, ("begun", "count"), place))
        return _store(state[name], _known(next(places, None), at.visit))

    def error(self, xp: Backend, state: State, name: str, now: Array, visit: tuple[int, bool, State]) -> Array:
        """The error to hand on in place of the one now."""
        place, track, shares = visit
        average = self._averaged(xp, state, "d", name, now, place, track)
        mixed, *_ = self._held(state, "d", name, place)
        if self.beta[1]:
            mixed = mixed + average * self.beta[1]
        if self.beta[2]:
            mixed = mixed + now * self.beta[2]
        return mixed * shares[name] if shares else mixed

    def returned(self, state: State, visit: tuple[int, bool, State]) -> None:
        """Count one more way back."""
        place, track, _ = visit
        if track:
            count = _store(state["dcount"], place)
            count += 1.0

    def begin_collecting(self, state: State) -> None:
        """Nothing to collect."""

    def updated(self, xp: Backend, state: State) -> None:
        """Long takes up short, which starts anew."""
        state.held.clear()  # type: ignore[attr-defined]
        kappa = self.kappa or self.alpha
        self._take_up(xp, state, "", kappa)
        self._take_up(xp, state, "d", self.error_kappa or kappa)

    def _take_up(self, xp: Backend, state: State, d: str, kappa: tuple[float, float]) -> None:
        count, begun = state[f"{d}count"], state[f"{d}begun"]
        new = xp.floats(count > 0.0)  # where nothing was seen since the last update, nothing moves
        share = new * (1.0 - begun * (1.0 - kappa[1]))
        begun[...] = xp.maximum(begun, new)
        for name in STATISTICS:
            short = state[f"short_{d}{name}"]
            xp.approach(state[f"long_{d}{name}"], short, share)
            short[...] = 1.0 - begun if name == "sigma" and not d else 0.0
        count[...] = 0.0

    def looks(self, state: State) -> dict[str, Array]:
        """What normalized last, and long and short averages of the statistics and of their errors.

        Not a number at a visit that no batch has made.
        """
        seen = state["begun"] + state["count"]
        return {name: _once(seen, value) for name, value in state.items() if name.endswith(STATISTICS)}


def _means(state: Any, name: str, visits: int) -> list[Array]:
    """By time step: where several are one visit, all of its."""
    made = {
        visit: now[name].reshape((steps, -1, *now[name].shape[1:])).mean(1)
        for visit, (_, now, steps) in state.latest.items()
    }
    absent = next(iter(made.values())) * float("nan")
    return [row for visit in range(visits) for row in made.get(visit, absent)]


def _once(seen: Array, value: Array) -> Array:
    """The value where ``seen`` is above 0, elsewhere not a number."""
    return value * (seen / seen)


def _counter(xp: Backend, stores: int, shapes: Shapes) -> Array:
    return xp.zeros((stores, *(1 for _ in shapes["mean"])))


def _store(array: Array, visit: int) -> Array:
    """The store of a visit, (1, ...); a visit beyond the stored ones uses the last one."""
    stores = array.shape[0]
    place = min(visit, stores - 1)
    return array if stores == 1 else array[place : place + 1]


def _has_seen(state: Any, counters: tuple[str, ...], visit: int) -> bool:
    """Whether some counter of a visit is above 0; once it is, the device is not asked again."""
    known: set[int] = getattr(state, "known", set())
    if visit not in known and any(float(_store(state[key], visit).reshape(-1)[0]) for key in counters):
        known.add(visit)
    return visit in known


def _known(place: int | None, visit: int) -> int:
    """The visit whose store is to be used; RunError where there is none."""
    if place is None:
        raise RunError(
            f"normalization has no statistics for testing yet (visit {visit}): learn from a batch first, or collect."
        )
    return place
