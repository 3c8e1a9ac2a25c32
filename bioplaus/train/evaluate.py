"""Scores without learning, and the statistics testing needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import exp, inf, isnan
from typing import Any

from bioplaus.backend.base import Array
from bioplaus.network import Network
from bioplaus.train.feed import Feed, TextFeed

OVERFLOWS = 700.0


@dataclass(frozen=True)
class Score:
    """Mean loss per sample, and misclassified samples in percent; a sample of a text is a symbol.

    ``error``: None where nothing is classified.
    ``terms``: each term of the loss before its weight, where there is more than one; ``perplexity``: of a text.
    """

    loss: float
    error: float | None
    samples: int
    terms: dict[str, float] = field(default_factory=dict)
    perplexity: float | None = None

    @property
    def measures(self) -> tuple[str, ...]:
        """What says how good it is; the first one selects the best."""
        if self.perplexity is not None:
            return ("perplexity", "error")
        return ("loss",) if self.error is None else ("error",)

    def row(self) -> dict[str, Any]:
        """As metrics have it: only what there is."""
        return {key: value for key, value in asdict(self).items() if value is not None and value != {}}


@dataclass
class Tally:
    """What batches scored so far add up to, on the device."""

    loss: Array
    wrong: Array
    terms: dict[str, Array]
    is_text: bool = False

    @classmethod
    def of(
        cls, network: Network, loss: float = 0.0, wrong: float = 0.0, terms: dict[str, float] | None = None
    ) -> Tally:
        """From these sums on."""
        xp, sums = network.xp, terms or {}
        each = {name: xp.array(sums.get(name, 0.0)) for name in network.loss.names}
        return cls(xp.array(loss), xp.array(wrong), each, bool(network.steps))

    def add(self, network: Network, loss: Array, wrong: Array) -> None:
        """One more batch, which the network has just scored."""
        self.loss, self.wrong = self.loss + loss, self.wrong + wrong
        self.terms = {name: total + network.terms[name] for name, total in self.terms.items()}

    def score(self, samples: int) -> Score:
        """Read from the device, over so many samples."""
        terms = {name: float(total) / samples for name, total in self.terms.items()}
        loss, error = float(self.loss) / samples, 100.0 * float(self.wrong) / samples
        error_if_any = None if isnan(error) else error
        return Score(loss, error_if_any, samples, terms, perplexity(loss) if self.is_text else None)


def perplexity(loss: float) -> float:
    """e^loss, the loss being the mean negative log likelihood of a symbol."""
    return exp(loss) if loss < OVERFLOWS else inf


def evaluate(network: Network, feed: Feed | TextFeed, size: int) -> Score:
    """Every sample of the feed once, with the stored statistics."""
    tally = Tally.of(network)
    for batch in feed.testing(min(size, len(feed))):
        tally.add(network, *network.evaluate(batch))
    return tally.score(len(feed))


def collect(network: Network, feed: Feed | TextFeed, size: int, epoch: int) -> None:
    """Settle the statistics for testing on the first training batches of a fresh order, without learning.

    They are changed (mirrored, shifted) as those learned from are.
    """
    if not network.collects:
        return
    network.begin_collecting()
    stream = network.stream.at("collect")
    for place, index in zip(range(network.collects), feed.settling(size, stream, epoch), strict=False):
        network.collect(feed.batch(index, stream=stream.at("augment", epoch, place)), place)
