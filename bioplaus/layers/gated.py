"""Recurrent cells: one layer that runs over time, with its own way back through time.

A cell takes x (T, N, in), all time steps at once, and gives h (T, N, units). What it multiplies are weight layers of
their own, so a rule addresses them by name:

    rnn     .x  input to h                     .h  h to h
    gru     .x  input to r, z, candidate       .h  h to r, z            .n  h * r to candidate
    lstm    .x  input to i, f, o, candidate    .h  h to i, f, o, candidate

Products of one source are one matrix; a norm keeps the statistics of its gates apart. With ``placement: product``
every product is normalized by itself, Norm(x Wx) + Norm(h Wh); with ``sum`` what goes into each nonlinearity is,
Norm(x Wx + h Wh + b), as the norm of ``.h`` (and ``.n``) says. Errors travel through the V of each product at every
step; dW comes once, from all steps.

A batch may go on from the last state of the one before; errors stop there (truncated backpropagation through time).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from bioplaus.backend.base import Array, Backend
from bioplaus.construct import Size
from bioplaus.errors import ShapeError
from bioplaus.layers.dense import DenseMap
from bioplaus.layers.initial import Initial
from bioplaus.parts import At, Learn, Local, Site, Unit
from bioplaus.units import OverTime, Stepwise, Tap, Together

Placement = Literal["product", "sum"]
Activation = Literal["tanh", "relu"]
Arrays = tuple[Array, ...]


# -- one time step ---------------------------------------------------------------------------
@dataclass
class Product:
    """What a source s adds to a, what came from the input: a + Norm(s W), or Norm(a + s W) where ``sums``.

    ``columns``: of all that came from the input, those it adds to.
    """

    node: Any
    columns: slice
    norm: Any = None
    sums: bool = False

    @property
    def keeps_errors(self) -> bool:
        """Whether the error at s W is not the error at a."""
        return self.norm is not None and not self.sums

    def forward(self, a: Array, s: Array, at: At) -> tuple[Array, Any]:
        """(the sum, what the way back and a local rule need)."""
        n = self.node.map.up(s, self.node.W)
        kept = n if self.node.wants_n else None
        if self.norm is None:
            return a + n, (None, kept)
        z, visit = self.norm.forward(a + n if self.sums else n, at)
        return (z if self.sums else a + z), (visit, kept)

    def back(self, da: Array, cache: Any, top: Array, learn: Learn) -> tuple[Array, Array]:
        """(error at s, error at s W); da, given as the error at the sum, becomes the error at a."""
        dn = da
        if self.norm is not None:
            dn = self.norm.back(da + 0.0, cache[0], top, learn)  # in one piece, which kernels like
            if self.sums:
                da[...] = dn
        return self.node.channel.carry(self.node.map, dn, top, self.node.feedback), dn


class Formula(Protocol):
    """One time step of a cell, and back.

    states : names of what goes on from step to step, h first
    """

    states: ClassVar[tuple[str, ...]]

    @property
    def products(self) -> tuple[Product, ...]:
        """Of h, then of others; what belongs to them is listed in this order."""

    @property
    def norms(self) -> tuple[Any, ...]:
        """Of products, then of states; None where there is none."""

    def step(self, a: Array, state: Arrays, at: At) -> tuple[Arrays, Arrays, Any]:
        """(state, what products beyond the first multiplied, cache); a (N, .) is what came from the input.

        The first product is of h; the cache begins with those of the products.
        """

    def back(
        self, dstate: Arrays, ends: Arrays, cache: Any, da: Array, top: Array, learn: Learn
    ) -> tuple[Arrays, Arrays]:
        """(error at the state before, error at each product); the error at a is written into da. ends: h, then h'."""

    def outputs(self, h: Array, cache: Any) -> tuple[Arrays, ...]:
        """Of the input, then of each product: what its columns have become, after norms and nonlinearity. h: after."""


@dataclass(frozen=True)
class Nonlinearity:
    """y = tanh(n) or max(n, 0)."""

    xp: Backend
    kind: Activation

    def forward(self, n: Array) -> Array:
        """y."""
        return self.xp.tanh(n) if self.kind == "tanh" else self.xp.relu(n)

    def back(self, dy: Array, y: Array, out: Array) -> None:
        """out <- dn."""
        if self.kind == "tanh":
            self.xp.tanh_back(dy, y, out=out)
        else:
            out[...] = self.xp.relu_back(dy, y)


@dataclass(frozen=True)
class RnnStep:
    """h' = phi(a + h Wh)."""

    h: Product
    phi: Nonlinearity
    states: ClassVar[tuple[str, ...]] = ("h",)

    @property
    def products(self) -> tuple[Product, ...]:
        """See Formula."""
        return (self.h,)

    @property
    def norms(self) -> tuple[Any, ...]:
        """See Formula."""
        return (self.h.norm,)

    def step(self, a: Array, state: Arrays, at: At) -> tuple[Arrays, Arrays, Any]:
        """See Formula."""
        n, visit = self.h.forward(a, state[0], at)
        return (self.phi.forward(n),), (), (visit,)

    def back(
        self, dstate: Arrays, ends: Arrays, cache: Any, da: Array, top: Array, learn: Learn
    ) -> tuple[Arrays, Arrays]:
        """See Formula."""
        self.phi.back(dstate[0], ends[1], out=da)
        dh, dn = self.h.back(da, cache[0], top, learn)
        return (dh,), (dn,)

    def outputs(self, h: Array, cache: Any) -> tuple[Arrays, ...]:
        """See Formula."""
        return (h,), (h,)


@dataclass(frozen=True)
class GruStep:
    """r, z = sigma(a_rz + h Wh);  c = phi(a_c + (h * r) Wn);  h' = z * c + (1 - z) * h."""

    xp: Backend
    h: Product
    n: Product
    phi: Nonlinearity
    states: ClassVar[tuple[str, ...]] = ("h",)

    @property
    def products(self) -> tuple[Product, ...]:
        """See Formula."""
        return self.h, self.n

    @property
    def norms(self) -> tuple[Any, ...]:
        """See Formula."""
        return self.h.norm, self.n.norm

    def step(self, a: Array, state: Arrays, at: At) -> tuple[Arrays, Arrays, Any]:
        """See Formula."""
        (h,) = state
        gates, gate_visit = self.h.forward(a[:, self.h.columns], h, at)
        gates = self.xp.sigmoid(gates)
        r, z = gates[:, : h.shape[1]], gates[:, h.shape[1] :]
        s = h * r
        c, visit = self.n.forward(a[:, self.n.columns], s, at)
        c = self.phi.forward(c)
        rise = c - h
        return (h + z * rise,), (s,), (gate_visit, visit, gates, c, rise)

    def back(
        self, dstate: Arrays, ends: Arrays, cache: Any, da: Array, top: Array, learn: Learn
    ) -> tuple[Arrays, Arrays]:
        """See Formula."""
        gate_visit, visit, gates, c, rise = cache
        (dh,), (h, _), multiply, H = dstate, ends, self.xp.multiply, c.shape[1]
        r, z = gates[:, :H], gates[:, H:]
        dgates, dcandidate = da[:, self.h.columns], da[:, self.n.columns]
        dc = dh * z
        before = dh - dc
        self.phi.back(dc, c, out=dcandidate)
        ds, dn = self.n.back(dcandidate, visit, top, learn)
        multiply(ds, h, out=da[:, :H])
        multiply(dh, rise, out=da[:, H : 2 * H])
        self.xp.sigmoid_back(dgates, gates, out=dgates)
        dh_gates, dgate = self.h.back(dgates, gate_visit, top, learn)
        before += multiply(ds, r, out=ds)
        before += dh_gates
        return (before,), (dgate, dn)

    def outputs(self, h: Array, cache: Any) -> tuple[Arrays, ...]:
        """See Formula."""
        gates, c = cache[2:4]
        return (gates, c), (gates,), (c,)


@dataclass(frozen=True)
class LstmStep:
    """i, f, o = sigma(a + h Wh);  g = tanh(a + h Wh);  c' = f * c + i * g;  h' = o * tanh(Norm(c')).

    The columns are in the order i, f, o, g; a constant is added to what goes into f.
    """

    xp: Backend
    h: Product
    norm: Any
    forget_bias: float
    states: ClassVar[tuple[str, ...]] = ("h", "c")

    @property
    def products(self) -> tuple[Product, ...]:
        """See Formula."""
        return (self.h,)

    @property
    def norms(self) -> tuple[Any, ...]:
        """See Formula."""
        return self.h.norm, self.norm

    def step(self, a: Array, state: Arrays, at: At) -> tuple[Arrays, Arrays, Any]:
        """See Formula."""
        h, c = state
        H = h.shape[1]
        n, visit = self.h.forward(a, h, at)
        if self.forget_bias:
            n[:, H : 2 * H] += self.forget_bias
        gates, g = self.xp.sigmoid(n[:, : 3 * H]), self.xp.tanh(n[:, 3 * H :])
        i, f, o = gates[:, :H], gates[:, H : 2 * H], gates[:, 2 * H :]
        new = f * c + i * g
        shown, cell_visit = (new, None) if self.norm is None else self.norm.forward(new, at)
        shown = self.xp.tanh(shown)
        return (o * shown, new), (), (visit, cell_visit, gates, g, c, shown)

    def back(
        self, dstate: Arrays, ends: Arrays, cache: Any, da: Array, top: Array, learn: Learn
    ) -> tuple[Arrays, Arrays]:
        """See Formula."""
        visit, cell_visit, gates, g, c, shown = cache
        (dh, dc), multiply, H = dstate, self.xp.multiply, c.shape[1]
        i, f, o = gates[:, :H], gates[:, H : 2 * H], gates[:, 2 * H :]
        dshown = self.xp.tanh_back(dh * o, shown)
        dc = dc + (dshown if self.norm is None else self.norm.back(dshown, cell_visit, top, learn))
        multiply(dc, g, out=da[:, :H])
        multiply(dc, c, out=da[:, H : 2 * H])
        multiply(dh, shown, out=da[:, 2 * H : 3 * H])
        self.xp.sigmoid_back(da[:, : 3 * H], gates, out=da[:, : 3 * H])
        self.xp.tanh_back(dc * i, g, out=da[:, 3 * H :])
        dh, dn = self.h.back(da, visit, top, learn)
        return (dh, dc * f), (dn,)

    def outputs(self, h: Array, cache: Any) -> tuple[Arrays, ...]:
        """See Formula."""
        return cache[2:4], cache[2:4]


# -- all of them -----------------------------------------------------------------------------
@dataclass
class CellUnit:
    """A formula over time: x (T, N, in) -> h (T, N, units).

    Training goes on from ``carried``, the state in which the latest batch learned from ended; whoever looks at that
    batch again begins ``before`` it, as it did. Testing carries a state of its own. All begin at zero where the
    samples do (``At.starts``).
    """

    name: str
    xp: Backend
    size: int
    x: Any
    x_norm: OverTime | None
    formula: Formula
    carried: Arrays | None = None
    before: Arrays | None = None
    tested: Arrays | None = None
    seen: None = None
    tap: Tap = field(init=False)
    holds_weights = True

    def __post_init__(self) -> None:
        self.tap = Tap(self)  # type: ignore[arg-type]
        self.nodes = [self.x, *(product.node for product in self.formula.products)]
        self.norms = [norm for norm in self.formula.norms if norm is not None]

    @property
    def units(self) -> tuple[Any, ...]:
        """For whoever walks."""
        first = (self.x,) if self.x_norm is None else (self.x, self.x_norm)
        return *first, *self.nodes[1:], *self.norms, self.tap

    def wire(self, below: bool) -> bool:
        """See Unit."""
        below = self.x.wire(below)
        wants = [below if self.x_norm is None else self.x_norm.wire(below)]
        wants += [unit.wire(False) for unit in (*self.nodes[1:], *self.norms)]
        for norm in self.norms:  # the step before listens
            norm.wire(True)
        return any(wants)

    def forward(self, x: Array, at: At) -> tuple[Array, Any]:
        """h at every step, and what the way back needs."""
        a, seen = self.x.forward(x, at)
        first = state = self.begin(at, a.shape[1])
        visits = None
        if self.x_norm is not None:
            a, visits = self.x_norm.each(a, at)
        elif self.x.wants_n:
            a = a + 0.0  # errors will take its place
        h, sources, caches = [state[0]], [], []
        for t, now in enumerate(a):
            state, more, cache = self.formula.step(now, state, at._replace(visit=t))
            h.append(state[0])
            if at.train:
                sources.append(more)
                caches.append(cache)
        for norm in self.norms:
            norm.close(at)
        self.end(at, first, state)
        h = self.xp.stack(h)
        y, _ = self.tap.forward(h[1:], at)
        locals = self.locals(h, sources, caches, at) if at.train else []
        self.x.seen = None
        return y, (seen, visits, None if isinstance(a, list) else a, h, caches, locals)

    def back(self, dy: Array | None, cache: Any, top: Array, learn: Learn) -> Array | None:
        """Back through time: the error at x, or None where nobody below listens."""
        seen, visits, a, h, caches, locals = cache
        if dy is None:
            errors: Any = [None] * len(locals)
            da = None
        else:
            da, errors = self.through_time(dy, a, h, caches, top, learn)
        for node, local, dn in zip(self.nodes[1:], locals, errors, strict=True):
            node.back(dn, local, top, learn)
        if self.x_norm is not None:
            da = self.x_norm.back(da, visits, top, learn)
        return self.x.back(da, seen, top, learn)

    def through_time(
        self, dy: Array, a: Array | None, h: Array, caches: list[Any], top: Array, learn: Learn
    ) -> tuple[Any, list[Array]]:
        """(errors at what came from the input, errors at the products), of all steps; frees the caches.

        The first take the place of a, what came from the input; where that was no one array they are a list.
        """
        together, N = Together(self.xp, learn), dy.shape[1]
        dys, hs, tops = (list(each) for each in (dy, h, top))
        das: list[Any] = [None] * len(dys) if a is None else list(a)
        dstate = (dys[0] * 0.0, *self.zeros(N)[1:])
        kept: list[list[Array]] = [[] for _ in self.formula.products]
        for t in reversed(range(len(dys))):
            dstate = (dstate[0] + dys[t], *dstate[1:])
            if a is None:
                das[t] = self.xp.zeros((N, *self.x.map.output))
            dstate, dn = self.formula.back(dstate, (hs[t], hs[t + 1]), caches.pop(), das[t], tops[t], together)
            for errors, error in zip(kept, dn, strict=True):
                errors.append(error)
        together.close()
        return das if a is None else a, [
            self.xp.stack(errors[::-1]) if product.keeps_errors or a is None else a[..., product.columns]
            for product, errors in zip(self.formula.products, kept, strict=True)
        ]

    def locals(self, h: Array, sources: list[Arrays], caches: list[Any], at: At) -> list[Local]:
        """What the weights of each product may see, of all steps together; the input's y is filled in."""
        stack, formula = self.xp.stack, self.formula
        found = [Local(x=x, at=at) for x in (h[:-1], *(stack(each) for each in zip(*sources, strict=True)))]
        for k, (node, local) in enumerate(zip(self.nodes, [self.x.seen, *found], strict=True)):
            if node.wants_y:
                each = zip(h[1:], caches, strict=True)
                columns = zip(*(formula.outputs(*step)[k] for step in each), strict=True)
                local.y = _beside(self.xp, [stack(column) for column in columns])
            if node.wants_n and k:
                local.n = stack([cache[k - 1][1] for cache in caches])
        return found

    # -- what is carried from batch to batch -------------------------------------------------
    def begin(self, at: At, N: int) -> Arrays:
        """The state the first step starts from."""
        known = (self.carried if at.track else self.before) if at.train else self.tested
        return self.zeros(N) if at.starts or known is None else known

    def end(self, at: At, first: Arrays, last: Arrays) -> None:
        """Remember where this batch began and ended; looking leaves no trace."""
        if not at.train:
            self.tested = last
        elif at.track:
            self.before, self.carried = first, last

    def zeros(self, N: int) -> Arrays:
        """Of every state."""
        return tuple(self.xp.zeros((N, self.size)) for _ in self.formula.states)

    def state(self) -> Iterator[tuple[str, Array]]:
        """What a checkpoint holds beside the weights: where the next batch goes on."""
        yield from zip(self._carried_names(), self.carried or (), strict=False)

    def adopt(self, state: Mapping[str, Any]) -> None:
        """Take what is carried from a checkpoint, whatever batch size it had."""
        known = [self.xp.array(state[name]) for name in self._carried_names() if name in state]
        self.carried = tuple(known) or None

    def _carried_names(self) -> list[str]:
        return [f"{self.name}.carried.{name}" for name in self.formula.states]


def _beside(xp: Backend, columns: list[Array]) -> Array:
    """Arrays (T, N, .) as one, side by side."""
    if len(columns) == 1:
        return columns[0]
    whole, start = xp.zeros((*columns[0].shape[:2], sum(each.shape[2] for each in columns))), 0
    for each in columns:
        whole[..., start : start + each.shape[2]] = each
        start += each.shape[2]
    return whole


# -- how they are written --------------------------------------------------------------------
@dataclass(frozen=True)
class _Cell:
    """What placing a cell of any kind takes: its sites, its products, its norms."""

    site: Site
    size: int
    placement: Placement
    init: Initial

    @property
    def sums(self) -> bool:
        return self.placement == "sum"

    def input(self, inputs: int, gates: int, *recurrent: str) -> tuple[Any, OverTime | None]:
        """The product of the input with all gates and its norm; it alone has a bias, where no norm takes that away."""
        site, xp = self.site.inside("x"), self.site.xp
        width = gates * self.size
        normalized = [self.site.inside(part) for part in recurrent] if self.sums else [site]
        bias = not all(each.removes_bias for each in normalized)
        node = site.node(DenseMap(xp, (inputs,), (width,)), init=self.init, bias=bias)
        norm = None if self.sums else site.norm((width,), groups=gates)
        return node, None if norm is None else OverTime(xp, norm)

    def product(self, part: str, gates: int, after: int = 0) -> Product:
        """A recurrent product with so many gates, behind others."""
        site, width = self.site.inside(part), gates * self.size
        columns = slice(after * self.size, after * self.size + width)
        node = site.node(DenseMap(site.xp, (self.size,), (width,)), init=self.init, bias=False)
        return Product(node, columns, _stepwise(site.norm((width,), groups=gates)), self.sums)

    def state(self, name: str) -> Stepwise | None:
        """The norm of a state."""
        return _stepwise(self.site.inside(name).norm((self.size,)))

    def unit(self, x: tuple[Any, OverTime | None], formula: Formula) -> tuple[Unit, tuple[int, ...]]:
        """All of it, running over time."""
        return CellUnit(self.site.name, self.site.xp, self.size, *x, formula), (self.size,)


def _stepwise(norm: Unit | None) -> Stepwise | None:
    return None if norm is None else Stepwise(norm)


def _cell(site: Site, shape: tuple[int, ...], kind: str, layer: Any) -> _Cell:
    if not site.steps:
        raise ShapeError(
            f"layer {site.name!r}: {kind} runs over time, this network does not. "
            "Give the network pass: {recipe: recurrent, steps: ...}."
        )
    if len(shape) != 1:
        given = "×".join(map(str, shape)) or "whole numbers"
        raise ShapeError(
            f"layer {site.name!r}: {kind} wants a vector at each step, given {given}. "
            "Put onehot, embedding or flatten before it."
        )
    return _Cell(site, layer.units, layer.placement, layer.init)


@dataclass(frozen=True)
class Rnn:
    """A plain recurrent layer: h' = phi(Norm(x Wx) + Norm(h Wh)), or phi(Norm(x Wx + h Wh + b)).

    Source: Liao (2017), ch. 4 (placement product); NINAI report (2017), table 11 (placement sum).
    """

    has_weights: ClassVar[bool] = True
    over_time: ClassVar[bool] = True
    products: ClassVar[tuple[str, ...]] = ("x", "h")
    units: Size
    activation: Activation = "tanh"
    placement: Placement = "product"
    init: Initial = None

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes a vector at each step."""
        cell = _cell(site, shape, "rnn", self)
        x, h = cell.input(shape[0], 1, "h"), cell.product("h", 1)
        return cell.unit(x, RnnStep(h, Nonlinearity(site.xp, self.activation)))


@dataclass(frozen=True)
class Gru:
    """A gated recurrent unit, whose update gate z lets the candidate in: h' = z * c + (1 - z) * h.

    r, z = sigma(Norm(x Wx) + Norm(h Wh)); c = phi(Norm(x Wc) + Norm((h * r) Wn)).

    Source: Cho et al. (2014); norms as Liao (2017), ch. 4, equations 4.4 to 4.7.
    """

    has_weights: ClassVar[bool] = True
    over_time: ClassVar[bool] = True
    products: ClassVar[tuple[str, ...]] = ("x", "h", "n")
    units: Size
    activation: Activation = "tanh"
    placement: Placement = "product"
    init: Initial = None

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes a vector at each step."""
        cell = _cell(site, shape, "gru", self)
        x, h, n = cell.input(shape[0], 3, "h", "n"), cell.product("h", 2), cell.product("n", 1, after=2)
        return cell.unit(x, GruStep(site.xp, h, n, Nonlinearity(site.xp, self.activation)))


@dataclass(frozen=True)
class Lstm:
    """Long short-term memory: c' = f * c + i * g, h' = o * tanh(Norm(c')), with i, f, o = sigma(.) and g = tanh(.).

    What goes in is Norm(x Wx) + Norm(h Wh), or Norm(x Wx + h Wh + b); ``forget_bias`` is added to f's. The norm of c
    is the choice of ``.c`` (``layers: {lstm1.c: {norm: none}}``); what is carried on is c as it is.

    Source: Hochreiter & Schmidhuber (1997), with forget gates; norms as NINAI report (2017), table 11.
    """

    has_weights: ClassVar[bool] = True
    over_time: ClassVar[bool] = True
    products: ClassVar[tuple[str, ...]] = ("x", "h")
    states: ClassVar[tuple[str, ...]] = ("c",)
    units: Size
    placement: Placement = "product"
    forget_bias: float = 0.0
    init: Initial = None

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes a vector at each step."""
        cell = _cell(site, shape, "lstm", self)
        x, h, norm = cell.input(shape[0], 4, "h"), cell.product("h", 4), cell.state("c")
        return cell.unit(x, LstmStep(site.xp, h, norm, self.forget_bias))
