"""Scores without learning, and the statistics testing needs."""

from __future__ import annotations

from dataclasses import dataclass

from bioplaus.network import Network
from bioplaus.train.feed import Feed


@dataclass(frozen=True)
class Score:
    """Mean loss per sample, and misclassified samples in percent."""

    loss: float
    error: float
    samples: int


def evaluate(network: Network, feed: Feed, size: int) -> Score:
    """Every sample of the feed once, with the stored statistics."""
    losses = wrongs = network.xp.zeros(())
    for batch in feed.testing(min(size, len(feed))):
        loss, wrong = network.evaluate(batch)
        losses, wrongs = losses + loss, wrongs + wrong
    n = len(feed)
    return Score(float(losses) / n, 100.0 * float(wrongs) / n, n)


def collect(network: Network, feed: Feed, size: int, epoch: int) -> None:
    """Settle the statistics for testing on the first training batches of a fresh order, without learning."""
    if not network.collects:
        return
    network.begin_collecting()
    order = feed.training(size, network.stream.at("collect"), epoch)
    for place, index in zip(range(network.collects), order, strict=False):
        network.collect(feed.batch(index), place)
