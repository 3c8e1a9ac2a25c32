"""Cuts: at the end of which epochs something goes, and what: the least used, or whatever is used too little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

from pydantic import PositiveInt

from bioplaus.backend.base import Array
from bioplaus.construct import Wanted

Epochs = Annotated[
    PositiveInt | tuple[PositiveInt, ...], Wanted("an epoch, or a list of them: whole numbers above 0, ascending")
]
Amount = Annotated[float | tuple[float, ...], Wanted("a number, or a list with one for every epoch of at")]
CORTEX = (0.27, 0.15, 0.039, 0.006)  # of what was left: postnatal days 19-23, 23-27, 27-31, 31-35
Z = 1.959963984540054  # the standard normal lies within plus and minus this 95 times in 100


class Seen(NamedTuple):
    """What a cut judges, on the host.

    use (of the mask's shape): how much each synapse or neuron is used · alive: the mask, boolean · W: the weights, for
    synapses · samples: how many independent samples the use is as good as an average of, where it is one, else 0.
    """

    use: Array
    alive: Array
    W: Array | None = None
    samples: float = 0.0


class Cut(Protocol):
    """What goes, and when.

    ``judges``, where not empty: ``averages`` (use between 0 and 1, of known samples) or ``weights``, and nothing else.
    """

    judges: ClassVar[str]

    def due(self, epoch: int) -> bool:
        """Whether something goes when so many epochs are complete."""

    def left(self, size: int) -> int | None:
        """How many of ``size`` are left after all epochs, where that can be known."""

    def survivors(self, seen: Seen, epoch: int) -> Array:
        """Who stays, boolean, of the mask's shape; none that was not alive."""


def most_used(seen: Seen, count: int) -> Array:
    """The ``count`` most used of those alive; of equally used ones the larger weights stay, else the later in order."""
    use, alive = seen.use.reshape(-1), seen.alive.reshape(-1)
    order = (use if seen.W is None else abs(seen.W).reshape(-1)).argsort(kind="stable")
    order = order[use[order].argsort(kind="stable")]
    order = order[alive[order]]
    stays = alive & False
    stays[order[max(len(order) - count, 0) :]] = True
    return stays.reshape(seen.alive.shape)


def wilson(share: Array, samples: float) -> Array:
    """The upper end of Wilson's 95 % interval for a probability, of which ``share`` was seen in so many samples.

    (p + z^2/2n + z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    n = samples
    return (share + Z * Z / (2 * n) + Z * (share * (1 - share) / n + Z * Z / (4 * n * n)) ** 0.5) / (1 + Z * Z / n)


@dataclass(frozen=True)
class _AtEpochs:
    """Something goes at the end of each of the epochs ``at``; what is given for a cut holds for all, or is a list."""

    at: Epochs = 1
    judges: ClassVar[str] = ""

    def due(self, epoch: int) -> bool:
        """See Cut."""
        return epoch in _listed(self.at)

    def left(self, size: int) -> int | None:
        """See Cut."""
        return None

    def now(self, given: Amount, epoch: int) -> float:
        """What is given for this epoch."""
        values: tuple[float, ...] = _listed(given)
        return values[_listed(self.at).index(epoch)] if len(values) > 1 else values[0]

    def check(self, name: str, given: Amount, holds: Callable[[float], bool], wanted: str) -> None:
        """ValueError where the epochs do not ascend, or where what is given does not hold, or not for each of them."""
        epochs, values = _listed(self.at), _listed(given)
        if not epochs or list(epochs) != sorted(set(epochs)):
            raise ValueError(f"at is {list(epochs)}; wanted ascending epochs, each once")
        if isinstance(given, tuple) and len(values) != len(epochs):
            raise ValueError(f"{name} has {len(values)} numbers for {len(epochs)} epochs; wanted one for each, or one")
        _check_each(name, values, holds, wanted)


@dataclass(frozen=True)
class Prune(_AtEpochs):
    """A share of those that are left goes, the least used: ``share`` at each of the epochs ``at``.

    Source: NINAI report (2017), use-it-or-lose-it pruning.
    """

    share: Amount = 0.5

    def __post_init__(self) -> None:
        self.check("share", self.share, lambda share: 0.0 <= share < 1.0, "a share of what is left, from 0 to below 1")

    def left(self, size: int) -> int:
        """See Cut."""
        for epoch in _listed(self.at):
            size = _rest(size, self.now(self.share, epoch))
        return size

    def survivors(self, seen: Seen, epoch: int) -> Array:
        """See Cut."""
        return most_used(seen, _rest(int(seen.alive.sum()), self.now(self.share, epoch)))


@dataclass(frozen=True)
class Keep(_AtEpochs):
    """A share of all there ever were stays, the most used: ``share`` at each of the epochs ``at``.

    Source: NINAI report (2017), tables 16 and 17, which state what is left of each layer.
    """

    share: Amount = 0.5

    def __post_init__(self) -> None:
        self.check("share", self.share, lambda share: 0.0 < share <= 1.0, "a share of all, above 0 up to 1")

    def left(self, size: int) -> int:
        """See Cut."""
        shares: tuple[float, ...] = _listed(self.share)
        return min(round(size * share) for share in shares)

    def survivors(self, seen: Seen, epoch: int) -> Array:
        """See Cut."""
        return most_used(seen, round(seen.alive.size * self.now(self.share, epoch)))


@dataclass(frozen=True)
class Below(_AtEpochs):
    """Whatever is used no more than ``use`` goes: ``use`` at each of the epochs ``at``; below 1 where it is a share.

    Source: NINAI report (2017), use-it-or-lose-it: keep where the use is above alpha.
    """

    use: Amount = 0.01

    def __post_init__(self) -> None:
        self.check("use", self.use, lambda use: use >= 0.0, "0 or more")

    def survivors(self, seen: Seen, epoch: int) -> Array:
        """See Cut."""
        return seen.alive & (seen.use > self.now(self.use, epoch))


@dataclass(frozen=True)
class Wilson(_AtEpochs):
    """Whatever is used less than ``use`` beyond doubt goes: where the upper end of Wilson's 95 % interval lies below.

    Source: Wilson (1927); the test is ours, beside the report's plain threshold.
    """

    use: Amount = 0.01
    judges: ClassVar[str] = "averages"

    def __post_init__(self) -> None:
        self.check("use", self.use, lambda use: 0.0 < use < 1.0, "a number between 0 and 1")

    def survivors(self, seen: Seen, epoch: int) -> Array:
        """See Cut."""
        return seen.alive & (wilson(seen.use, seen.samples) >= self.now(self.use, epoch))


@dataclass(frozen=True)
class Quality(_AtEpochs):
    """Weights go whose size is no more than ``quality`` standard deviations of the layer's weights that are left.

    Source: Han, Pool, Tran & Dally (2015), Learning both weights and connections for efficient neural networks.
    """

    quality: Amount = 1.0
    judges: ClassVar[str] = "weights"

    def __post_init__(self) -> None:
        self.check("quality", self.quality, lambda quality: quality >= 0.0, "0 or more")

    def survivors(self, seen: Seen, epoch: int) -> Array:
        """See Cut."""
        assert seen.W is not None
        return seen.alive & (abs(seen.W) > self.now(self.quality, epoch) * seen.W[seen.alive].std())


@dataclass(frozen=True)
class RatNeocortex:
    """Pruning as in the neocortex of a growing rat: four times a share of the synapses that are left, ever smaller.

    Every ``period`` epochs the next of ``rates`` goes; with several ``phases`` all begins again every ``phase_epochs``,
    what is left of which is for learning alone. The rates leave 59.3 % after one phase, 35.1 % after two. The report's
    periods are 5 epochs for the first layer of a net, 4 for layers 2 and 3, 3 for 4 to 6, 2 for 7 to 9.

    Source: NINAI report (2017), tables 6 and 8.
    """

    period: PositiveInt = 4
    phases: PositiveInt = 1
    phase_epochs: PositiveInt = 25
    rates: tuple[float, ...] = CORTEX
    judges: ClassVar[str] = ""

    def __post_init__(self) -> None:
        wanted = "shares of what is left, from 0 to below 1"
        if not self.rates:
            raise ValueError(f"rates is []; wanted {wanted}")
        _check_each("rates", self.rates, lambda rate: 0.0 <= rate < 1.0, wanted)
        needed = self.period * len(self.rates)
        if self.phases > 1 and self.phase_epochs < needed:
            raise ValueError(f"phase_epochs is {self.phase_epochs}, the cuts of a phase take {needed}")

    def rate(self, epoch: int) -> float | None:
        """What goes when so many epochs are complete; None where nothing is due."""
        phase = min((epoch - 1) // self.phase_epochs, self.phases - 1)
        place, between = divmod(epoch - phase * self.phase_epochs, self.period)
        return self.rates[place - 1] if 0 < place <= len(self.rates) and not between else None

    def due(self, epoch: int) -> bool:
        """See Cut."""
        return self.rate(epoch) is not None

    def left(self, size: int) -> int:
        """See Cut."""
        for rate in self.rates * self.phases:
            size = _rest(size, rate)
        return size

    def survivors(self, seen: Seen, epoch: int) -> Array:
        """See Cut."""
        return most_used(seen, _rest(int(seen.alive.sum()), self.rate(epoch) or 0.0))


def _listed(one: Any) -> tuple[Any, ...]:
    return one if isinstance(one, tuple) else (one,)


def _rest(count: int, share: float) -> int:
    return count - round(count * share)


def _check_each(name: str, values: Sequence[float], holds: Callable[[float], bool], wanted: str) -> None:
    for value in values:
        if not holds(value):
            raise ValueError(f"{name} is {value}; wanted {wanted}")
