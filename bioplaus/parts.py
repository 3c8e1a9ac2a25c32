"""The interfaces everything is made of.

Two lists meet in one place. What a *network* is made of (maps, units, passes, losses) knows how to go
forward and how to carry an error back through *a* V; what a *rule* is made of (channels, norms,
plasticities, links) makes V, statistics, dW and steps. ``assemble`` pairs them once; inside a step
nothing is looked up by name.

Signs. ``dW`` is what the update *subtracts* (after its links): for the rule ``error`` an estimate of
the gradient. A plasticity that needs no error writes the change it wants, an increment; the Node
turns its sign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream

State = dict[str, Array]


class At(NamedTuple):
    """Where a visit stands; known on the host, so parts may branch on it."""

    visit: int = 0  # time step or branch; 0 in a feedforward net
    train: bool = True  # there will be a way back; statistics of this batch (True) or stored ones (False)
    track: bool = True  # may running memories move?
    collect: bool = False  # a pass that only gathers statistics for testing
    batch: int = 0  # how many batches have been learned from: whoever draws per batch draws at this number
    starts: bool = True  # the samples begin here; False: they go on from the batch before, and so do carried states
    watch: bool = True  # may pruning watch? not the labelled samples of a batch that has others too
    together: int = 1  # so many time steps of every sample are samples of this one visit
    render: bool = False  # a generative pass goes down too, and what forward hands back is kept for it, in testing too


LEARN = At()
COLLECT = At(train=False, track=False, collect=True)  # statistics of this batch, kept for testing; no way back
LOOK = At(track=False)  # as in training, leaving no trace
TEST = At(train=False, track=False)


@dataclass
class Local:
    """All that one weight array may see at one visit; what the pass does not offer is None.

    x (.., in) presynaptic input · n pre-activation · y output of the layer, after norm and activation ·
    dn error at n · u (.., out), x_hat (.., in) what a generative pass renders: through this layer's switches, and then
    through its weights · keep: 0 at the first visit since the last update, then 1: what ``out`` already holds is to be
    multiplied by it · db where the bias learns · going_down: seen on the way down, in which no bias has a part.
    """

    x: Array
    n: Array = None
    y: Array = None
    dn: Array = None
    u: Array = None
    x_hat: Array = None
    at: At = LEARN
    keep: float = 1.0
    db: Array = None
    going_down: bool = False


class Map(Protocol):
    """A linear map with weights of a fixed shape: dense, conv, transposed conv, embedding.

    The law every map is tested by: ``<up(x, W), n> == <x, down(n, W)> == <W, outer(x, n)>``.
    """

    @property
    def xp(self) -> Backend:
        """What it computes with."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of W, and so of V."""

    @property
    def unit_shape(self) -> tuple[int, ...]:
        """One number per postsynaptic unit, ready to broadcast against W."""

    @property
    def fan_in(self) -> int:
        """How many presynaptic inputs one unit has."""

    @property
    def input(self) -> tuple[int, ...]:
        """One sample going up."""

    @property
    def output(self) -> tuple[int, ...]:
        """One sample coming out."""

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """Ready to broadcast against the output."""

    def up(self, x: Array, W: Array, b: Array | None = None) -> Array:
        """x through W, plus b."""

    def down(self, n: Array, V: Array) -> Array:
        """The adjoint of ``up``: an error through V, or a rendering through W. None where x has no error."""

    def outer(
        self, x: Array, n: Array, out: Array, scale: float = 1.0, keep: float = 1.0, bias: Array | None = None
    ) -> None:
        """out <- keep * out + scale * d<up(x, W), n>/dW; with ``bias`` likewise for b."""


class Channel(Protocol):
    """How errors come back: makes V from W, and carries an error through it.

    Claims, as class attributes, that the contract checks: ``exact_gradient`` (V is W), ``signs_agree``
    (sign V = sign W wherever V is not 0), ``fixed`` (V never changes). ``redraws``: V changes at every update, also
    where the layer is clamped.
    """

    def init(self, map: Map, W: Array, top: int, stream: Stream) -> State:
        """The arrays this channel keeps: V and what V is made of. ``top``: number of network outputs."""

    def refresh(self, map: Map, W: Array, state: State, stream: Stream) -> None:
        """W has changed: rewrite V in place. The stream is another one after every update."""

    def carry(self, map: Map, dn: Array, top: Array, state: State) -> Array:
        """The error for the layer below: usually ``map.down(dn, V)``. ``top`` is the error at the output."""


class Plasticity(Protocol):
    """Where dW comes from.

    ``needs`` names the fields of Local it reads. With ``"dn"`` among them dW is a gradient, which updates
    subtract; without, it is the change wanted, and the layer works without errors from above.

    Claims, absent meaning no: ``unit_norm`` (activity goes up through W with every unit's weights at length one, down
    through W as it is) · ``nonnegative`` (after an update W is cut off at 0). One that can tell the change it wants
    only from all that was seen since the last update has ``init(map) -> State``, ``gather(local, map, W, state)`` in
    place of ``dW``, and ``settle(map, W, state) -> Array``: that change, as an array of its own; what it gathers in
    begins anew.
    """

    needs: set[str]

    def dW(self, local: Local, map: Map, W: Array, out: Array, scale: float) -> None:
        """out += scale * this visit's dW. A class with ``overwrites = True`` multiplies out by local.keep first."""


class Link(Protocol):
    """One step of the chain from accumulated dW to a step on W. ``rate`` ends the chain and subtracts.

    Claims, absent meaning no: ``idle`` (``step`` gives d back as it came) · ``sums_in`` (name of the memory in which
    ``step`` does no more than memory <- ``momentum`` * memory + d, so that d may be accumulated there).
    """

    def init(self, xp: Backend, W: Array) -> State:
        """What it remembers of one array."""

    def step(self, xp: Backend, d: Array, W: Array, state: State, role: str, out: Array) -> Array:
        """The next d: written into ``out`` (free to use, may be d itself) or into its own state.

        ``role`` is ``weights``, ``bias`` or ``gain``: decay touches weights only.
        """


class Norm(Protocol):
    """How activities are normalized, and the explicit way back through the statistics.

    A norm with ``affine = True`` is given a gain and a bias behind it; one that computes with them in one go has
    ``forward_scaled`` and ``back_scaled`` besides. Numbers it learns itself are in ``state.learned``, the errors at
    them in ``state.errors`` after each ``back``. ``looks(state)``, where there is one, gives columns for the log, by
    name: arrays (units,) or (visits, units); ``penalty`` is what the norm adds to the loss of a sample.

    ``loaded(state)``, where there is one, is told when a checkpoint has overwritten the arrays.

    Over time: ``by_sample = True`` where no sample looks at another, so that steps may be more samples;
    ``remember(xp, state, caches, at)``, where there is one, takes up at once what ``forward`` would have left at visits
    0, 1, ..., and is given their caches.
    """

    @property
    def removes_bias(self) -> bool:
        """Takes away the per-unit mean, so a bias before it would do nothing."""

    @property
    def collects(self) -> int:
        """Training batches wanted after each epoch to settle the statistics for testing."""

    def init(self, xp: Backend, shape: tuple[int, ...], visits: int = 1, groups: int = 1) -> State:
        """Statistics for samples of ``shape``; one store per visit where the norm wants them apart.

        The channels are ``groups`` of equal size that never mix: the gates of a cell. ShapeError where samples of this
        shape cannot be normalized so.
        """

    def forward(self, xp: Backend, n: Array, state: State, at: At) -> tuple[Array, Any]:
        """(z, cache); z is an array of its own. A visit beyond the stored ones uses the last one."""

    def back(self, xp: Backend, dz: Array, state: State, cache: Any) -> Array:
        """The error at n."""

    def begin_collecting(self, state: State) -> None:
        """The next ``collects`` batches settle the statistics for testing."""

    def updated(self, xp: Backend, state: State) -> None:
        """The weights have changed (streaming memories move here)."""


class Pruning(Protocol):
    """Which synapses or neurons of a layer exist: at the end of some epochs some go, and none comes back.

    ``of`` says which. A mask of synapses has W's shape; one of neurons (1, ...) that of one sample of y, the layer's
    output after norm and activation. ``needs`` names the fields of Local that it watches.
    """

    @property
    def of(self) -> Literal["synapses", "neurons"]:
        """What goes."""

    @property
    def needs(self) -> set[str]:
        """Empty where W tells all."""

    def init(self, map: Map, shape: tuple[int, ...]) -> State:
        """What it remembers of a layer whose mask has this shape."""

    def observe(self, map: Map, local: Local, W: Array, state: State) -> None:
        """Watch one visit of a batch that is learned from; nothing is read from the device."""

    def due(self, epoch: int) -> bool:
        """Whether something goes when so many epochs are complete."""

    def left(self, size: int) -> int | None:
        """How many of ``size`` will be left in the end, where that is known beforehand."""

    def use(self, map: Map, W: Array, state: State) -> Array:
        """How much each is used, in the mask's shape."""

    def mask(self, map: Map, W: Array, mask: Array, state: State, epoch: int) -> Array:
        """The next mask of ones and zeros, 0 wherever ``mask`` is; may read from the device."""


@dataclass
class Batch:
    """x (N, ...) floats ready for the network, y (N,) labels or (N, ...) targets.

    weight (N,) is 1, or 0 for the padding of a last test batch; index the samples' places in the data set; labelled:
    how many samples have labels, the first ones, or None for all; of the others y means nothing.
    Of sequences, x is (T, N, ...) or (T, N) whole numbers, y and weight (T, N); ``starts`` is False where they go on
    from the batch before.
    """

    x: Array
    y: Array
    weight: Array = None
    index: Any = None
    starts: bool = True
    labelled: int | None = None


class Loss(Protocol):
    """What is scored, and the error it starts.

    A loss that counts wrong answers also has ``wrong(xp, signals, batch) -> Array``: how many samples (by weight) are
    wrong, which is what the error in percent counts. One with a memory has ``init(xp, shapes, stream) -> State``, with
    the shapes of one sample of every signal it needs; its arrays are changed in place and kept in checkpoints. One that
    acts once per epoch has ``begin_epoch(xp, signals, batch, state, stream)``, called before the epoch's first batch
    with the signals of that batch; it may read from the device.
    """

    # signals: "output", "conv2.n" before norm and activation, "conv2.y" at the end of the layer, "reconstruction", ...;
    # also globs, as "*.template"
    needs: set[str]

    def error(
        self, xp: Backend, signals: Mapping[str, Array], batch: Batch, state: State, at: At
    ) -> tuple[Array, dict[str, Array]]:
        """(loss summed over the samples, {signal: error per sample, an array of its own}).

        The memory moves where ``at.track`` says so: once for every training batch, and never in testing.
        """


Learn = Callable[[Any, Local], None]  # (the unit that saw it, what it saw)


class Unit(Protocol):
    """One stop of a pass: a Node, a norm site, an activation, a pool, or a block walking its own units.

    Claims, as class attributes, absent meaning no: ``holds_weights`` (there are weights inside: ``back`` is called even
    where no error arrives, with None) · ``gives_fresh`` (what ``forward`` returns is nobody else's, so the next unit
    may write into it) · ``spares_error`` (``back`` leaves dy as it was; any other unit may write into it) · ``clear``
    (what is rendered passes it as it is).

    A unit that a generative pass can go down through is ``clear``, or has

        render(z, cache) -> (x_hat, trace)              through the switches that ``forward`` left in the cache
        render_back(d, trace, learn) -> Array | None    the error at z; switches are constants

    and, unless it begins another layer, ``unmasked(z)`` and ``unmasked_back(d)``: the same with all switches open, so
    that a unit and its template keep one shape. Where all depends on sizes, ``renders`` says whether it can.
    """

    def wire(self, below: bool) -> bool:
        """Told at build whether anybody below wants the error; says whether anybody here or below does."""

    def forward(self, x: Array, at: At) -> tuple[Array, Any]:
        """(y, cache)."""

    def back(self, dy: Array | None, cache: Any, top: Array, learn: Learn) -> Array | None:
        """The error at x, or None where nobody below wants it. Nodes learn on the way."""


class Pass(Protocol):
    """In which order units run, and back again.

    A pass with more to show than its layers has ``about``: a line, and the heads and rows of a table.
    """

    provides: set[str]
    units: Sequence[Any]  # everything it runs, for whoever walks
    output: tuple[int, ...]  # one sample coming out

    def forward(self, batch: Batch, at: At) -> tuple[dict[str, Array], Any]:
        """(signals, tape)."""

    def back(self, errors: Mapping[str, Array], tape: Any, learn: Learn) -> None:
        """Walk back; freed as it goes."""


class Site(Protocol):
    """What a layer may ask for when it takes its place in a network; offered by ``assemble``."""

    xp: Backend
    name: str

    @property
    def signals(self) -> set[str]:
        """What the loss looks at; some may be globs."""

    @property
    def steps(self) -> int:
        """Time steps, where samples are sequences and arrive as (T, N, ...); otherwise 0."""

    @property
    def removes_bias(self) -> bool:
        """Whether the rule's norm for this layer takes away a bias before it."""

    def inside(self, part: str) -> Site:
        """Of one product of a cell: ``gru1.x`` of ``gru1``, with choices of its own; sees one time step at a time."""

    def node(self, map: Map, init: Any = None, bias: bool = True) -> Any:
        """A weight array behind ``map`` with this layer's four choices, drawn as ``init`` says (None: He-normal)."""

    def gain_bias(self, shape: tuple[int, ...]) -> Unit:
        """A learned gain and bias per channel or unit for samples of ``shape``."""

    def norm(self, shape: tuple[int, ...], groups: int = 1) -> Unit | None:
        """This layer's norm site, or None where the rule has none here.

        ``groups`` of equal size along the channel axis never mix.
        """

    def chain(
        self, items: Sequence[Any], shape: tuple[int, ...], visits: int = 1, copy: str = "", steps: int = 0
    ) -> tuple[Unit, tuple[int, ...]]:
        """Units one after another, for a block or a pass; and the shape that comes out.

        ``visits``: norms inside keep statistics for so many. ``copy`` tells copies of one layer apart: their names
        become ``conv1@copy``, and all of them have the choices of ``conv1``. ``steps``: samples are sequences.
        """

    def stream(self, name: str) -> Stream:
        """Random numbers of this layer's own."""


class Layer(Protocol):
    """What ``networks/*.yaml`` names: parameters, and how they become a unit for samples of a shape.

    Claims, as class attributes, absent meaning no: ``has_weights`` · ``products`` (names of several weight arrays, each
    with choices of its own) · ``states`` (names of what a norm may stand on beside them, with a choice of its own) ·
    ``over_time`` (takes sequences only, (T, N, ...)) · ``in_layer`` (belongs to the weight
    layer before it).
    """

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit | None, tuple[int, ...]]:
        """(unit, shape of one sample coming out); ShapeError where the shape does not fit."""


class Order(Protocol):
    """What ``pass:`` of a network names: parameters, and how the network's layers become a running pass.

    ``sections``, a class attribute, names what it reads of a network file: ("layers",) where it is absent; of a graph
    prenet, states, edges and postnet.
    """

    def place(self, site: Site, network: Any) -> Pass:
        """Everything placed and wired; ``network`` has ``input`` and the sections as read from its file."""
