"""One array that learns: what has been accumulated for it, and the chain that makes a step of that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bioplaus.backend.base import Array, Backend
from bioplaus.parts import Link, State


@dataclass
class Parameter:
    """One array that learns: what it is, what has been accumulated, and the chain that makes a step of it.

    Where every batch makes an update and the chain is a mere running sum, tau <- m tau + dW, what is new is accumulated
    right in tau: ``dW`` is tau then, and ``share`` is m.

    Attributes
    ----------
    W, dW : arrays of one shape          dW is overwritten by the update
    role : ``weights``, ``bias``, ``gain``
    links, states : the chain and what each link remembers; the last link is the rate
    share : what the first accumulation after an update leaves of dW
    straight : while what is learned goes straight into W, the factor on it (-rate); else None
    mask : ones and zeros, or None while every synapse exists
    nonnegative : whether W is cut off at 0
    """

    name: str
    W: Array
    role: str
    dW: Array = None
    links: Sequence[Link] = ()
    states: list[State] = field(default_factory=list)
    share: float = 0.0
    straight: float | None = None
    mask: Array = None
    nonnegative: bool = False
    _is_sum: bool = False  # dW is the memory of its one link
    _chain: list[tuple[Link, State]] = field(default_factory=list)  # links that do something else, and their memories

    def step(self, xp: Backend, rate: float | None, factor: float) -> None:
        """W <- W - rate * factor * (what the links make of dW)."""
        if self.straight is None:
            d = self.dW
            for link, state in self._chain:
                d = link.step(xp, d, self.W, state, self.role, self.dW)
            xp.add_scaled(self.W, d, -self.rate(rate) * factor, out=self.W)
        if self.mask is not None:
            xp.multiply(self.W, self.mask, out=self.W)
        if self.nonnegative:
            xp.relu(self.W, inplace=True)

    def silence(self, xp: Backend) -> None:
        """Nothing is left of synapses that do not exist: in W, in dW, in what the links remember."""
        memories = (value for state in self.states for value in state.values() if value.shape == self.W.shape)
        for array in (self.W, self.dW, *memories):
            xp.multiply(array, self.mask, out=array)

    def rate(self, given: float | None) -> float:
        """The rate given, or its own."""
        return self.links[-1].rate if given is None else given  # type: ignore[attr-defined]

    @property
    def is_plain(self) -> bool:
        """Whether an update is the rate and no more."""
        return not self._chain and not self._is_sum

    def relink(self, xp: Backend, links: Sequence[Link], at_once: bool = False) -> None:
        """Take another chain; a link of a kind there was before keeps what it remembers, if it is not idle now.

        ``at_once``: every batch makes an update, and nobody looks at dW between.
        """
        known = list(zip(self.links, self.states, strict=False))
        self.links, self.states = links, []
        for link in links[:-1]:
            place = next((i for i, (old, _) in enumerate(known) if type(old) is type(link)), None)
            kept = {} if place is None else known.pop(place)[1]
            self.states.append(link.init(xp, self.W) if _idle(link) or not kept else kept)
        pairs = zip(links[:-1], self.states, strict=True)
        self._chain = [(link, state) for link, state in pairs if not _idle(link)]
        sums = getattr(self._chain[0][0], "sums_in", None) if at_once and len(self._chain) == 1 else None
        if sums is None:
            self.dW, self.share = xp.zeros(self.W.shape) if self.dW is None or self._is_sum else self.dW, 0.0
        else:
            (link, state), self._chain = self._chain[0], []
            self.dW, self.share = state[sums], link.momentum  # type: ignore[attr-defined]
        self._is_sum = sums is not None

    def state(self) -> Iterator[tuple[str, Array]]:
        """Every array a checkpoint holds, by name."""
        yield self.name, self.W
        if not self._is_sum:
            yield f"{self.name}.dW", self.dW
        for i, state in enumerate(self.states):
            for key, value in state.items():
                yield f"{self.name}.update.{i}.{key}", value


def _idle(link: Link) -> bool:
    return getattr(link, "idle", False)
