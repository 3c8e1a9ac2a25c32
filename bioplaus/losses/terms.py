"""Several losses as one: their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.errors import ShapeError
from bioplaus.parts import LOOK, At, Batch, State

Half = Literal["labelled", "unlabelled", "both"]
Shares = Mapping[Half, float]  # what a sample of some batch counts in terms on these; in all others nothing
WHOLE: Shares = {"labelled": 1.0, "unlabelled": 1.0, "both": 1.0}


@dataclass(frozen=True)
class Term:
    """One loss of a sum (``parts.Loss``), under a name of its own.

    ``on``: which samples of a batch it is the mean over, the labelled, the unlabelled, or both; where a batch has no
    such halves, as in testing, it is over all samples.
    """

    name: str
    loss: Any
    weight: float = 1.0
    where: str = ""  # what messages begin with
    on: Half = "both"


class Terms:
    """L = sum of weight * loss over the terms; a loss itself, whose memory holds ``term.key`` for a term's ``key``.

    Attributes
    ----------
    needs : every signal that a term looks at
    names : of the terms, where there is more than one
    begins_epochs : whether a term acts at the beginning of an epoch
    """

    def __init__(self, *terms: Term) -> None:
        self.terms = terms
        self.needs = {signal for term in terms for signal in term.loss.needs}
        self.names = tuple(term.name for term in terms) if len(terms) > 1 else ()
        self.begins_epochs = any(hasattr(term.loss, "begin_epoch") for term in terms)
        self._counting = next((term.loss for term in terms if hasattr(term.loss, "wrong")), None)

    def init(self, xp: Backend, shapes: Mapping[str, tuple[int, ...]], stream: Stream) -> State:
        """The memories of all terms; ``shapes`` are of one sample of every signal."""
        memory: State = {}
        for term in self.terms:
            if hasattr(term.loss, "init"):
                try:
                    own = term.loss.init(xp, shapes, stream.at(term.name))
                except (ShapeError, ValueError) as error:
                    raise ShapeError(f"{term.where}: {error}" if term.where else str(error)) from error
                memory |= {f"{term.name}.{key}": array for key, array in own.items()}
        return memory

    def scores(
        self,
        xp: Backend,
        signals: Mapping[str, Array],
        batch: Batch,
        state: State,
        at: At,
        shares: Shares = WHOLE,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """({term: its loss before the weight}, {signal: error of the sum})."""
        values: dict[str, Array] = {}
        errors: dict[str, Array] = {}
        for term in self.terms:
            counts = shares.get(term.on, 0.0)
            if not counts:
                values[term.name] = xp.zeros(())
                continue
            value, found = term.loss.error(xp, signals, batch, _memory(state, term.name), at)
            values[term.name] = value if counts == 1.0 else value * counts
            weight = term.weight * counts
            for signal, error in found.items() if weight else ():
                share = error if weight == 1.0 else xp.multiply(error, weight, out=error)
                errors[signal] = errors[signal] + share if signal in errors else share
        return values, errors

    def total(self, values: Mapping[str, Array]) -> Array:
        """The weighted sum of what ``scores`` gave."""
        (value, weight), *rest = ((values[term.name], term.weight) for term in self.terms)
        total = value if weight == 1.0 else value * weight
        for value, weight in rest:
            total = total + value * weight
        return total

    def error(
        self, xp: Backend, signals: Mapping[str, Array], batch: Batch, state: State | None = None, at: At = LOOK
    ) -> tuple[Array, dict[str, Array]]:
        """(L summed over the samples, {signal: error})."""
        values, errors = self.scores(xp, signals, batch, state or {}, at)
        return self.total(values), errors

    def wrong(self, xp: Backend, signals: Mapping[str, Array], batch: Batch, shares: Shares = WHOLE) -> Array:
        """How many samples are wrong, as the first term says that counts them.

        Where not all samples have labels: as many as if the others were wrong as often as those that have.
        """
        if self._counting is None:
            return xp.zeros(()) + float("nan")
        counts = shares.get("labelled", 0.0)
        return self._counting.wrong(xp, signals, batch) * counts if counts else xp.zeros(())

    def begin_epoch(
        self, xp: Backend, signals: Mapping[str, Array], batch: Batch, state: State, stream: Stream
    ) -> None:
        """An epoch begins with this batch."""
        for term in self.terms:
            if hasattr(term.loss, "begin_epoch"):
                memory = _memory(state, term.name)
                term.loss.begin_epoch(xp, signals, batch, memory, stream.at(term.name))


def halves(batch: Batch) -> list[tuple[Batch, Shares]]:
    """The labelled and the unlabelled samples of a batch apart, with what a sample counts in a term on either or both.

    A term on one half is N times the mean over it, with N the samples of the batch; one on both is the sum over all.
    """
    if batch.labelled is None:
        return [(batch, WHOLE)]
    n, k = len(batch.x), batch.labelled
    shares: tuple[Shares, Shares] = {"labelled": n / k, "both": 1.0}, {"unlabelled": n / (n - k), "both": 1.0}
    return [(_cut(batch, slice(k), None), shares[0]), (_cut(batch, slice(k, n), 0), shares[1])]


def _cut(batch: Batch, part: slice, labelled: int | None) -> Batch:
    given = {"x": batch.x, "y": batch.y, "weight": batch.weight, "index": batch.index}
    cut = {name: array[part] for name, array in given.items() if array is not None}
    return replace(batch, **cut, labelled=labelled)


def _memory(state: State, term: str) -> State:
    """The part of the memory that belongs to a term; the arrays themselves."""
    head = f"{term}."
    return {name.removeprefix(head): array for name, array in state.items() if name.startswith(head)}
