"""Named prunings: what use is estimated, and the cut that judges it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from bioplaus.backend.base import Array
from bioplaus.construct import Wanted, make
from bioplaus.errors import UserError
from bioplaus.parts import Local, Map, State
from bioplaus.pruning.cut import Below, Cut, Seen
from bioplaus.pruning.estimate import Activity, Coincidence, Contribution, Estimate, Of, Size, samples

Memory = Annotated[float, Field(ge=0.0, lt=1.0), Wanted("a share, from 0 to below 1")]


@dataclass(frozen=True)
class Losing:
    """Use it or lose it: an estimate, kept as a running average where it has to be watched, and a cut.

    momentum : share of the old average that a visit leaves · every : only every so many batches are watched
    """

    estimate: Estimate
    cut: Cut
    momentum: float = 0.0
    every: int = 1

    def __post_init__(self) -> None:
        wanted, judged = self.cut.judges, self.estimate.judged
        if wanted not in ("", judged):
            raise ValueError(f"cut: {type(self.cut).__name__.lower()} judges {wanted}, here are {judged}")
        if judged == "averages" and isinstance(self.cut, Below):
            self.cut.check("cut: use", self.cut.use, lambda use: use < 1.0, "a share of the samples, from 0 to below 1")

    @property
    def of(self) -> Of:
        """See Pruning."""
        return self.estimate.of

    @property
    def needs(self) -> set[str]:
        """See Pruning."""
        return self.estimate.needs

    def init(self, map: Map, shape: tuple[int, ...]) -> State:
        """See Pruning; ``use`` starts at 1, ``samples`` is the size of the batch watched last."""
        return {"use": map.xp.zeros(shape) + 1.0, "samples": map.xp.zeros((1,))} if self.needs else {}

    def observe(self, map: Map, local: Local, W: Array, state: State) -> None:
        """use <- momentum * use + (1 - momentum) * use at this visit."""
        if self.needs and local.at.batch % self.every == 0:
            map.xp.approach(state["use"], self.estimate.now(map, local, W), 1.0 - self.momentum)
            state["samples"][...] = float(samples(map, local.y))

    def due(self, epoch: int) -> bool:
        """See Pruning."""
        return self.cut.due(epoch)

    def left(self, size: int) -> int | None:
        """See Pruning."""
        return self.cut.left(size)

    def use(self, map: Map, W: Array, state: State) -> Array:
        """See Pruning."""
        return state["use"] if self.needs else self.estimate.now(map, Local(None), W)

    def mask(self, map: Map, W: Array, mask: Array, state: State, epoch: int) -> Array:
        """See Pruning; decided on the host."""
        xp = map.xp
        use, alive = xp.host(self.use(map, W, state)), xp.host(mask) > 0.0
        weights = xp.host(W) if self.of == "synapses" else None
        return xp.array(self.cut.survivors(Seen(use, alive, weights, self.samples(map, state)), epoch))

    def samples(self, map: Map, state: State) -> float:
        """(1 + momentum) / (1 - momentum) batches: a mean over so many has the variance of the running average."""
        known = float(map.xp.host(state["samples"])[0]) if self.needs else 0.0
        return known * (1.0 + self.momentum) / (1.0 - self.momentum)


def uili_sp(
    cut: Any = "rat_neocortex",
    by: Literal["coincidence", "contribution"] = "coincidence",
    momentum: Memory = 0.99,
    every: PositiveInt = 1,
) -> Losing:
    """Use-it-or-lose-it, synapses: those go whose two ends were least often active together.

    A running average over batches, from 1 on, of the share of samples and places with presynaptic and postsynaptic
    activity above zero (after norm and activation, before pooling); or, by ``contribution``, of |w x| where the
    postsynaptic unit is active. Where only some samples have labels, the others are watched. Watching costs one more
    product per layer, as dear as its dW: half a step of LeNet-5 on a CPU, and with ``every: 10`` a twentieth; the
    average then moves as much more slowly.

    Source: NINAI report (2017), use-it-or-lose-it synapse pruning (UILI-SP).
    """
    return Losing(Coincidence() if by == "coincidence" else Contribution(), _cut(cut), momentum, every)


def uili_np(cut: Any = "rat_neocortex", momentum: Memory = 0.99, every: PositiveInt = 1) -> Losing:
    """Use-it-or-lose-it, neurons: those go that were least often active, each unit of a map at each place by itself.

    A neuron that is gone is silent: its activity after norm and activation is zero, and so is its error. The running
    average over batches of the share of samples in which it was active starts at 1.

    Source: NINAI report (2017), use-it-or-lose-it neuron pruning (UILI-NP).
    """
    return Losing(Activity(), _cut(cut), momentum, every)


def magnitude(cut: Any = "quality") -> Losing:
    """The smallest weights go: what use-it-or-lose-it is compared with.

    Source: Han, Mao & Dally (2016), Deep compression, section "Network pruning"; Han, Pool, Tran & Dally (2015).
    """
    return Losing(Size(), _cut(cut))


def _cut(given: Any) -> Cut:
    try:
        return make("cut", given, "cut", allow_code=True)  # type: ignore[no-any-return]
    except UserError as error:  # said again with the place in the file
        raise ValueError(str(error)) from None
