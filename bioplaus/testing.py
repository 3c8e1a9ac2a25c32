"""The contract of each kind of part, as checks anyone can run.

``check_channel(Mirror())`` puts the part to work on small real maps, dense and convolutional, in float64 and
compares what it does with what its interface asks and what the part itself claims. A check returns the claims
that held, as lines to print, and raises ``PartError`` naming the first that did not. Claims are optional class
attributes: a claim that is absent is not checked, one that is made must hold.
"""

from __future__ import annotations

import copy
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from math import prod
from typing import Any

import numpy as np

from bioplaus.backend.base import Array, Backend
from bioplaus.backend.numpy import NumPy
from bioplaus.backend.streams import Stream
from bioplaus.backend.window import Window
from bioplaus.config.graph import Edge
from bioplaus.construct import make, parameters
from bioplaus.errors import BioplausError, DataError, PartError, ShapeError
from bioplaus.layers.conv import ConvMap
from bioplaus.layers.dense import DenseMap
from bioplaus.norms.composed import Remembered, composed
from bioplaus.norms.reference import sp1
from bioplaus.norms.stats import Sample
from bioplaus.parts import COLLECT, LEARN, LOOK, TEST, Batch, Local, Map, State
from bioplaus.pruning.cut import Seen
from bioplaus.registry import get
from bioplaus.units import Chain, GainBias, Node, NormSite, Parameter, can_render

N = 6  # samples
STEPS = 3  # of time, where samples are sequences
OUTPUTS = 7  # of the network, where a channel wants to know; no size of the maps
CLOSE = 1e-6  # relative; central differences in float64 are good to 1e-9 or so


@dataclass
class Claims:
    """What was asked of one part: the claims that held; the first that does not ends the check."""

    title: str
    held: list[str] = field(default_factory=list)

    def __call__(self, holds: Any, claim: str) -> None:
        """Note the claim, or raise."""
        if not holds:
            raise PartError(f"{self.title} breaks its contract: wanted '{claim}'. Repair it, or withdraw the claim.")
        if claim not in self.held:
            self.held.append(claim)

    def methods(self, part: Any, *names: str) -> None:
        """The interface is there."""
        for name in names:
            self(callable(getattr(part, name, None)), f"has the method {name}")


Check = Callable[[Any], list[str]]


def _contract(kind: str) -> Callable[[Callable[[Any, Claims], None]], Check]:
    """A check: runs the body, returns what held; whatever the part raises is the part's fault, and is named."""

    def deciding(body: Callable[[Any, Claims], None]) -> Check:
        @wraps(body)
        def checking(part: Any) -> list[str]:
            claims = Claims(f"{kind} {_name(part)!r}")
            try:
                with np.errstate(all="ignore"):
                    body(part, claims)
            except BioplausError:
                raise
            except Exception as cause:
                done = f" after {claims.held[-1]!r}" if claims.held else ""
                said = " ".join(f"{type(cause).__name__}: {cause}".split())
                raise PartError(f"{claims.title} breaks its contract: it raised {said}{done}.") from cause
            return claims.held

        CHECKS[kind] = checking
        return checking

    return deciding


CHECKS: dict[str, Check] = {}


def check(kind: str, part: Any) -> list[str]:
    """Run the contract of a kind on a part; returns the claims that held.

    Parameters
    ----------
    kind : str      ``channel``, ``norm``, ...
    part : object   a made part: ``Mirror()``, not ``Mirror``

    Raises
    ------
    PartError       a claim does not hold, or there is no contract for this kind
    """
    if kind not in CHECKS:
        raise PartError(f"there is no contract for the kind {kind!r}. There is one for: {', '.join(sorted(CHECKS))}.")
    if isinstance(part, type):
        raise PartError(f"{kind} {part.__name__!r} is a class; the contract is for a part. Give {part.__name__}().")
    return CHECKS[kind](part)


def sample(kind: str, name: str, *, allow_code: bool = False) -> Any:
    """The part of that name, made to be tried: small values from the type hints for parameters it requires.

    Raises
    ------
    PartError       as ``registry.get``; or a required parameter whose hint tells no small value
    """
    part = get(kind, name, allow_code=allow_code)
    needed = [p for p in parameters(part).values() if p.is_required]
    values = {p.name: _small(p.type, f"{kind} {name!r}: {p.name}") for p in needed}
    if kind == "backend":
        values["dtype"] = "float64"
    return make(kind, {"recipe": name, **values}, allow_code=allow_code)


def _small(hint: Any, where: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return inner[0]
    if origin in (typing.Union, types.UnionType):
        return _small(inner[0], where)
    if origin is typing.Annotated:
        return _small(inner[0], where)
    if origin in (list, Sequence):
        return [1, 2] if inner and inner[0] in (int, float) else []
    if origin is tuple:
        return [_small(each, where) for each in inner if each is not ...]
    small = {int: 3, float: 0.5, bool: False, str: "", list: []}
    if hint not in small:
        raise PartError(f"{where} is required and its hint, {hint}, tells no example. Give it a default.")
    return small[hint]


# -- maps and layers -------------------------------------------------------------------------
@_contract("map")
def check_map(map: Map, claims: Claims) -> None:
    """The adjoint law, and ``out``, ``keep``, ``scale`` and ``bias`` as Map states them."""
    xp = map.xp
    claims.methods(map, "up", "down", "outer")
    claims(map.fan_in >= 1, "fan_in is 1 or more")
    W, b = _normal(xp, "W", map.shape), _normal(xp, "b", map.bias_shape)
    counts = map.input == ()  # an embedding: samples are numbers of words
    x = xp.raw(np.arange(N) % map.shape[0]) if counts else _normal(xp, "x", (N, *map.input))
    n = _normal(xp, "n", (N, *map.output))
    up = map.up(x, W)
    claims(tuple(up.shape) == (N, *map.output), "up gives the output's shape")
    claims(_close(xp, map.up(x, W, b), up + b), "up adds b")
    dW, db = xp.zeros(map.shape), xp.zeros(map.bias_shape)
    map.outer(x, n, dW, bias=db)
    claims(_close(xp, (up * n).sum(), (W * dW).sum()), "<up(x, W), n> = <W, outer(x, n)>")
    claims(_close(xp, (n * b).sum(), (db * b).sum()), "outer gives the bias its sum of n")
    back = map.down(n, W)
    if counts:
        claims(back is None, "down is None where x has no error")
    else:
        claims(tuple(back.shape) == (N, *map.input), "down gives the input's shape")
        claims(_close(xp, (up * n).sum(), (x * back).sum()), "<up(x, W), n> = <x, down(n, W)>")
    out, bias = xp.zeros(map.shape) + float("nan"), xp.zeros(map.bias_shape) + float("nan")
    map.outer(x, n, out, 2.0, 0.0, bias=bias)
    claims(_close(xp, out, 2.0 * dW) and _close(xp, bias, 2.0 * db), "outer with keep 0 ignores what out held")
    map.outer(x, n, out, 1.0, 0.5, bias=bias)
    claims(_close(xp, out, 2.0 * dW) and _close(xp, bias, 2.0 * db), "outer gives keep * out + scale * dW")


@dataclass
class Bench:
    """A Site to try one layer on: backpropagation everywhere, batch normalization where a norm may stand."""

    xp: Backend
    name: str = "layer"
    maps: list[Map] = field(default_factory=list)
    within: list[Map] = field(default_factory=list)  # maps of layers within this one
    steps: int = 0
    removes_bias: bool = False
    signals: frozenset[str] = frozenset({"*.template", "reconstruction"})  # looked at where a pass renders

    def inside(self, part: str) -> Bench:
        """The same bench, for one product of a cell."""
        return replace(self, name=f"{self.name}.{part}")

    def node(self, map: Map, init: Any = None, bias: bool = True) -> Node:
        """A weight array behind the map, and a bias where the layer wants one."""
        self.maps.append(map)
        channel, plasticity = get("channel", "bp")(), get("plasticity", "error")()
        weights = self._parameter("W", map.shape, "weights")
        feedback = channel.init(map, weights.W, OUTPUTS, Stream(0).at("V"))
        b = self._parameter("b", map.bias_shape, "bias") if bias else None
        return Node(self.name, self.xp, map, weights, b, channel, feedback, plasticity)

    def gain_bias(self, shape: tuple[int, ...]) -> GainBias:
        """A gain and a bias per channel or unit."""
        ready = (1, shape[0], *(1 for _ in shape[1:]))
        gain, bias = self._parameter("gain", ready, "gain"), self._parameter("bias", ready, "bias")
        return GainBias(self.name, self.xp, gain, bias, frozen=False)

    def norm(self, shape: tuple[int, ...], groups: int = 1, name: str = "") -> NormSite:
        """Batch normalization."""
        norm = get("norm", "batch")()
        return NormSite(name or self.name, self.xp, norm, norm.init(self.xp, shape, max(1, self.steps), groups))

    def chain(
        self, items: Sequence[Any], shape: tuple[int, ...], visits: int = 1, copy: str = "", steps: int = 0
    ) -> tuple[Chain, tuple[int, ...]]:
        """Layers one after another."""
        inner, units = Bench(self.xp, self.name, steps=steps or self.steps), []
        for place, item in enumerate(items):
            unit, shape = item.place(replace(inner, name=f"{self.name}.{place}"), shape)
            units += [unit] if unit is not None else []
        self.within += inner.maps + inner.within
        return Chain(units), shape

    def stream(self, name: str) -> Stream:
        """Random numbers of this layer's own."""
        return Stream(0).at(self.name, name)

    def _parameter(self, name: str, shape: tuple[int, ...], role: str) -> Parameter:
        W = _normal(self.xp, name, shape)
        return Parameter(f"{self.name}.{name}", W, role, self.xp.zeros(shape))


@_contract("layer")
def check_layer(layer: Any, claims: Claims) -> None:
    """It takes flat samples, maps or word numbers; what it hands down and what its weights learn are gradients."""
    claims.methods(layer, "place")
    taken = 0
    for shape in ((6,), (2, 6, 6), ()):
        if shape == () and taken:
            break  # numbers of words are for those who take nothing else
        bench = Bench(NumPy("float64"), steps=STEPS if getattr(layer, "over_time", False) else 0)
        try:
            unit, out = layer.place(bench, shape)
        except ShapeError:
            continue
        taken += 1
        weighted = getattr(layer, "has_weights", False)
        claims(
            weighted == bool(bench.maps),
            "has_weights: asks its site for a node" if weighted else "without has_weights it asks for no node",
        )
        if unit is None:
            claims(tuple(out) == shape, "without a unit the shape stays")
            continue
        for map in bench.maps + bench.within:
            for line in check_map(map):
                claims(True, f"its map: {line}")
        _check_unit(unit, bench, shape, out, claims)
    claims(taken, "takes samples of some shape: (6,), (2, 6, 6) or ()")


def _check_unit(unit: Any, bench: Bench, shape: tuple[int, ...], out: tuple[int, ...], claims: Claims) -> None:
    claims.methods(unit, "wire", "forward", "back")
    xp = bench.xp
    unit.wire(True)
    lead = (bench.steps, N) if bench.steps else (N,)
    x = xp.raw(np.arange(N) % 3) if shape == () else _normal(xp, "x", (*lead, *shape))
    g = _normal(xp, "g", (*lead, *out))
    before = xp.host(x)
    y, cache = unit.forward(x, LEARN)
    claims(tuple(y.shape) == (*lead, *out), "forward gives the shape that place announced")
    claims(_finite(xp, y), "forward gives finite numbers")
    claims(np.array_equal(xp.host(x), before), "forward leaves x as it was")

    def scored() -> float:
        return float((unit.forward(x, LEARN)[0] * g).sum())

    dx = unit.back(g + 0.0, cache, g, lambda learner, local: learner.learn(local, 1.0))
    if shape != ():
        claims(dx is not None and tuple(dx.shape) == (*lead, *shape), "back gives the error in the shape of x")
        claims(_slopes(xp, scored, x, dx), "back is the derivative of forward in x")
    for learner in _learners(unit):
        for parameter in learner.parameters():
            claims(
                _slopes(xp, scored, parameter.W, parameter.dW),
                f"dW is the derivative of forward in its {parameter.role}",
            )
    tested = unit.forward(x, TEST)[0]
    claims(tuple(tested.shape) == (*lead, *out) and _finite(xp, tested), "testing gives finite numbers of that shape")
    if can_render(unit) and not getattr(unit, "clear", False):
        _check_rendering(xp, unit, x, g, claims)


def _check_rendering(xp: Backend, unit: Any, x: Array, z: Array, claims: Claims) -> None:
    """Down through the switches of a forward: linear, its way back the adjoint; with all switches open likewise."""
    claims.methods(unit, "render", "render_back")
    cache = unit.forward(x, LEARN._replace(render=True))[1]
    if hasattr(unit, "wire_down"):
        unit.wire_down(True)
    kept, d = xp.host(z), _normal(xp, "d", tuple(x.shape))
    x_hat, trace = unit.render(z, cache, None)
    claims(tuple(x_hat.shape) == tuple(x.shape), "render gives the shape of x")
    claims(_same(xp, z, kept), "render leaves z as it was")
    back = unit.render_back(d + 0.0, trace, lambda learner, local: None, {})
    claims(_close(xp, (x_hat * d).sum(), (z * back).sum()), "render_back is the adjoint of render")
    if hasattr(unit, "unmasked"):
        wide = unit.unmasked(z)
        claims(tuple(wide.shape) == tuple(x.shape), "unmasked gives the shape of x")
        claims(_close(xp, (wide * d).sum(), (z * unit.unmasked_back(d)).sum()), "unmasked_back is its adjoint")


def _learners(unit: Any) -> list[Any]:
    inner = [each for part in getattr(unit, "units", ()) for each in _learners(part)]
    return [unit, *inner] if hasattr(unit, "parameters") else inner


# -- what a rule is made of ------------------------------------------------------------------
@_contract("channel")
def check_channel(channel: Any, claims: Claims) -> None:
    """V is made of W and rewritten in place; claims: ``exact_gradient``, ``signs_agree``, ``fixed``."""
    claims.methods(channel, "init", "refresh", "carry")
    for map in _maps():
        xp = map.xp
        W, later = _normal(xp, "W", map.shape), _normal(xp, "W later", map.shape)
        for weights in (W, later):
            weights[0, 0] = 0.0  # a silenced synapse: sign(0) = 0
        stream = Stream(0).at("V")
        state = channel.init(map, W, OUTPUTS, stream)
        claims(isinstance(state, dict), "init gives a dict of arrays")
        claims(_same(xp, W, _zeroed(xp, "W", map.shape)), "init leaves W as it was")
        V = state.get("V")
        if V is not None:
            direct = (OUTPUTS, prod(map.input))
            claims(
                tuple(V.shape) in (tuple(W.shape), direct),
                "V has W's shape, or (outputs, inputs) where the output's error comes directly",
            )
        _check_claims(channel, map, W, state, claims)
        again = channel.init(map, W, OUTPUTS, stream)
        claims(all(_same(xp, state[key], again[key]) for key in state), "the same stream gives the same V")

        old = {key: xp.host(value) for key, value in state.items() if value is not W}
        W[...] = later
        channel.refresh(map, W, state, stream.at(1))
        channel.refresh(map, W, again, stream.at(1))
        claims(_same(xp, W, later), "refresh leaves W as it was")
        claims(set(state) == set(again) and state.get("V") is V, "refresh rewrites V in place")
        claims(all(_same(xp, state[key], again[key]) for key in state), "the same stream gives the same V again")
        _check_claims(channel, map, W, state, claims)
        fixed = getattr(channel, "fixed", None)
        if fixed is not None and "V" in old:
            same = np.array_equal(old["V"], xp.host(V))
            claims(same == fixed, "fixed: V never changes" if fixed else "not fixed: V changes with W")


def _check_claims(channel: Any, map: Map, W: Array, state: State, claims: Claims) -> None:
    """What can be said of V and of the error it hands down, before and after W has changed."""
    xp = map.xp
    dn, top = _normal(xp, "dn", (N, *map.output)), _normal(xp, "top", (N, OUTPUTS))
    kept = [xp.host(a) for a in (dn, top, W)]
    dx = channel.carry(map, dn, top, state)
    claims(dx is not None and tuple(dx.shape) == (N, *map.input), "carry gives the error in the shape of x")
    claims(_finite(xp, dx), "carry gives finite numbers")
    changed = [name for name, a, b in zip(("dn", "top", "W"), (dn, top, W), kept, strict=True) if not _same(xp, a, b)]
    claims(not changed, "carry leaves dn, top and W as they were")
    claims(_same(xp, dx, channel.carry(map, dn, top, state)), "carry gives the same error when asked again")
    exact = getattr(channel, "exact_gradient", None)
    if exact is not None:
        equal = _close(xp, dx, map.down(dn, W))
        claims(equal == exact, "exact_gradient: carry is down(dn, W)" if exact else "no exact_gradient: carry differs")
    if getattr(channel, "signs_agree", False):
        V, w = xp.host(state["V"]), xp.host(W)
        claims(V.shape == w.shape and bool((np.sign(V) == np.sign(w))[V != 0].all()), "signs_agree: sign V = sign W")
        claims(bool(V.any()), "signs_agree: V is not zero everywhere")


@_contract("plasticity")
def check_plasticity(plasticity: Any, claims: Claims) -> None:
    """dW reads what ``needs`` names, adds to ``out`` in proportion to ``scale``, and changes nothing else.

    One that gathers instead settles what it has gathered, of all visits together, and begins anew.
    """
    needs = set(getattr(plasticity, "needs", ()))
    known = {f.name for f in fields(Local)} - {"at", "keep", "db", "going_down"}
    claims(needs and needs <= known, f"needs names fields of Local ({', '.join(sorted(known))})")
    if getattr(plasticity, "local", False):
        claims("dn" not in needs, "local: needs no error")
    if hasattr(plasticity, "gather"):
        _check_gathering(plasticity, needs, claims)
        return
    claims.methods(plasticity, "dW")
    overwrites = getattr(plasticity, "overwrites", False)
    for map in _maps():
        xp = map.xp
        W = _normal(xp, "W", map.shape)
        below = {key: _normal(xp, key, (N, *map.input)) for key in ("x", "x_hat")}
        above = {key: _normal(xp, key, (N, *map.output)) for key in ("n", "y", "dn", "u")}
        seen = {key: value for key, value in {**below, **above}.items() if key in needs or key == "x"}

        def grown(out: Array, scale: float, keep: float, map: Map = map, W: Array = W, seen: Any = seen) -> Array:
            bias = map.xp.zeros(map.bias_shape) if "dn" in needs else None
            plasticity.dW(Local(**seen, keep=keep, db=bias), map, W, out, scale)
            return out

        before = {key: xp.host(value) for key, value in {**seen, "W": W}.items()}
        dW = grown(xp.zeros(map.shape), 1.0, 1.0)
        claims(
            _finite(xp, dW) and bool(xp.host(dW).any()), "dW writes finite numbers into out, with no more than it needs"
        )
        after = {**seen, "W": W}
        claims(all(_same(xp, after[key], before[key]) for key in before), "dW leaves W and what it saw as they were")
        claims(_close(xp, grown(xp.zeros(map.shape), -2.0, 1.0), -2.0 * dW), "dW is linear in scale")
        start = _normal(xp, "start", map.shape)
        claims(_close(xp, grown(start + 0.0, 1.0, 1.0), start + dW), "dW adds to what out holds")
        if overwrites:
            nan = xp.zeros(map.shape) + float("nan")
            claims(_close(xp, grown(nan, 1.0, 0.0), dW), "overwrites: with keep 0 it ignores what out held")


def _check_gathering(plasticity: Any, needs: set[str], claims: Claims) -> None:
    claims.methods(plasticity, "init", "gather", "settle")
    for map in _maps():
        xp, W = map.xp, _normal(map.xp, "W", map.shape)
        state = plasticity.init(map)
        claims(isinstance(state, dict), "init gives a dict of arrays")
        fresh = copy.deepcopy(state)
        visits = []
        for name in ("first", "second"):
            below = {key: _normal(xp, f"{name} {key}", (N, *map.input)) for key in ("x", "x_hat")}
            above = {key: _normal(xp, f"{name} {key}", (N, *map.output)) for key in ("n", "y", "dn", "u")}
            visits.append({key: value for key, value in {**below, **above}.items() if key in needs})
        for seen in visits:
            before = {key: xp.host(value) for key, value in {**seen, "W": W}.items()}
            plasticity.gather(Local(**seen), map, W, state)
            after = {**seen, "W": W}
            claims(all(_same(xp, after[key], before[key]) for key in before), "gather leaves W and what it saw alone")
        change = plasticity.settle(map, W, state)
        claims(tuple(change.shape) == tuple(map.shape) and _finite(xp, change), "settle gives finite numbers like W")
        claims(bool(xp.host(change).any()) and change is not W, "settle gives a change, in an array of its own")
        claims(all(_same(xp, state[key], fresh[key]) for key in fresh), "after it what is gathered begins anew")
        together = {key: np.concatenate([seen[key] for seen in visits]) for key in visits[0]}
        plasticity.gather(Local(**{key: xp.array(value) for key, value in together.items()}), map, W, state)
        claims(_close(xp, plasticity.settle(map, W, state), change), "two visits count as one of all their samples")


@_contract("link")
def check_link(link: Any, claims: Claims) -> None:
    """One step of a chain: in dW's sign, finite, writing only into ``out`` and its own state."""
    claims.methods(link, "init", "step")
    xp = NumPy("float64")
    for shape, role in (((4, 3), "weights"), ((3, 2, 2, 2), "weights"), ((1, 3), "bias"), ((1, 3, 1, 1), "gain")):
        W, zero = _normal(xp, "W", shape), xp.zeros(shape)
        d = _normal(xp, "d", shape)
        d.reshape(-1)[0] = 0.0

        def first(d: Array, W: Array, out: Array, role: str = role) -> Array:
            return link.step(xp, d, W, link.init(xp, W), role, out)

        state = link.init(xp, W)
        claims(isinstance(state, dict), "init gives a dict of arrays")
        claims(all(tuple(s.shape) in (shape, (1,)) for s in state.values()), "state has W's shape, or one element")
        kept_W, kept_d = xp.host(W), xp.host(d)
        apart = first(d, W, xp.zeros(shape))
        claims(tuple(apart.shape) == shape, "step gives d in W's shape")
        claims(_same(xp, W, kept_W), "step leaves W as it was")
        claims(_same(xp, d, kept_d), "step leaves d as it was where out is another array")
        shared = d + 0.0
        claims(_same(xp, first(shared, W, shared), apart), "step is the same where out is d itself")
        claims(not xp.host(first(zero + 0.0, zero, xp.zeros(shape))).any(), "no step where d and W are 0: sign(0) = 0")
        toward = float((first(d, zero, xp.zeros(shape)) * d).sum())
        claims(toward >= 0.0, "the first step is in dW's sign; only rate subtracts")
        if role != "weights":
            still = first(zero + 0.0, W, xp.zeros(shape))
            claims(not xp.host(still).any(), "biases and gains do not decay")
        keys = set(state)
        for k in range(5):
            step = link.step(xp, _normal(xp, f"d{k}", shape), W, state, role, xp.zeros(shape))
            claims(_finite(xp, step), "steps are finite")
        claims(set(state) == keys, "state keeps its arrays")


@_contract("update")
def check_update(update: Any, claims: Claims) -> None:
    """A chain of links that keep their contract, in dW's sign to its end."""
    claims(isinstance(update, tuple) and len(update) > 0, "is a tuple of links")
    for link in update:
        for line in check_link(link):
            claims(True, f"{_name(link)}: {line}")
    claims(isinstance(update[-1], get("link", "rate")), "ends with rate")
    xp = NumPy("float64")
    W, d = xp.zeros((4, 3)), _normal(xp, "d", (4, 3))
    step = d + 0.0
    for link in update:
        step = link.step(xp, step, W, link.init(xp, W), "weights", d + 0.0)
    claims(float((step * d).sum()) >= 0.0, "the first step goes down what was accumulated")


@_contract("norm")
def check_norm(norm: Any, claims: Claims) -> None:
    """The way back is the derivative of the way up; claims: ``removes_bias``, ``collects``, ``exact_gradient``.

    A norm whose way back is not a gradient by design says ``exact_gradient = False``. What it adds to the loss of each
    sample it shows as ``penalty`` among its ``looks``. Groups of channels are tried where ``init`` takes them.
    """
    claims.methods(norm, "init", "forward", "back", "begin_collecting", "updated")
    collects = getattr(norm, "collects", None)
    claims(isinstance(collects, int) and collects >= 0, "collects is a number of batches, 0 or more")
    claims(isinstance(getattr(norm, "removes_bias", None), bool), "removes_bias is true or false")
    xp, taken = NumPy("float64"), 0
    for shape in ((8,), (8, 4, 3)):
        for groups in (1, 2) if "groups" in inspect.signature(norm.init).parameters else (1,):
            more = {"groups": groups} if groups > 1 else {}
            try:
                state = norm.init(xp, shape, 2, **more)
            except ShapeError:  # a reference that such samples do not have
                continue
            taken += 1
            _check_both_ways(norm, xp, shape, state, claims)
            if groups > 1:
                _check_groups(norm, xp, shape, norm.init(xp, shape, 2, **more), claims)
            _check_memory(norm, xp, shape, state, claims)
    claims(taken, "takes samples of some shape: (8,) or (8, 4, 3)")


def _check_both_ways(norm: Any, xp: Backend, shape: tuple[int, ...], state: State, claims: Claims) -> None:
    """Forward and back from a fresh state, which stays fresh."""
    n, g = _normal(xp, "n", (N, *shape)) + 0.5, _normal(xp, "g", (N, *shape))
    claims(isinstance(state, dict), "init gives a dict of arrays")
    before = xp.host(n)
    z, cache = norm.forward(xp, n, copy.deepcopy(state), LEARN)
    claims(tuple(z.shape) == tuple(n.shape) and _finite(xp, z), "forward gives finite numbers of n's shape")
    claims(_same(xp, n, before), "forward leaves n as it was")

    def scored() -> float:
        trial = copy.deepcopy(state)
        score = (norm.forward(xp, n, trial, LEARN)[0] * g).sum()
        shown = norm.looks(trial) if hasattr(norm, "looks") else {}
        return float(score + N * np.sum(shown.get("penalty", 0.0)))

    dn = norm.back(xp, g + 0.0, copy.deepcopy(state), cache)
    claims(tuple(dn.shape) == tuple(n.shape) and _finite(xp, dn), "back gives finite numbers of n's shape")
    if getattr(norm, "exact_gradient", True):
        claims(_slopes(xp, scored, n, dn), "back is the derivative of forward")
    offset = _normal(xp, "offset", (1, shape[0], *(1 for _ in shape[1:])))
    moved = norm.forward(xp, n + offset, copy.deepcopy(state), LEARN)[0]
    claims(
        _close(xp, moved, z) == norm.removes_bias,
        "removes_bias: a constant per unit changes nothing" if norm.removes_bias else "no removes_bias: it matters",
    )


def _check_groups(norm: Any, xp: Backend, shape: tuple[int, ...], state: State, claims: Claims) -> None:
    n, half = _normal(xp, "n", (N, *shape)), shape[0] // 2
    other = n + 0.0
    other[:, half:] = _normal(xp, "other", tuple(other[:, half:].shape))
    one, two = (norm.forward(xp, each, copy.deepcopy(state), LEARN)[0][:, :half] for each in (n, other))
    claims(_close(xp, one, two), "groups of channels never mix")


def _check_memory(norm: Any, xp: Backend, shape: tuple[int, ...], state: State, claims: Claims) -> None:
    """Three updates of two visits, a look, a collection; then testing."""
    kept = copy.deepcopy(state)
    for _ in range(3):
        for visit in range(2):
            z, cache = norm.forward(xp, _normal(xp, "seen", (N, *shape)), state, LEARN._replace(visit=visit))
            norm.back(xp, z + 0.0, state, cache)
        norm.updated(xp, state)
    claims(set(state) == set(kept), "state keeps its arrays")
    claims(all(_finite(xp, value) for value in state.values()), "state stays finite")
    kept = copy.deepcopy(state)
    z, cache = norm.forward(xp, _normal(xp, "look", (N, *shape)), state, LOOK)
    norm.back(xp, z + 0.0, state, cache)
    claims(all(_same(xp, state[key], kept[key]) for key in kept), "a look without tracking leaves no trace")
    norm.begin_collecting(state)
    for k in range(norm.collects):
        for visit in range(2):
            norm.forward(xp, _normal(xp, f"batch{k}", (N, *shape)), state, COLLECT._replace(visit=visit))
    n, kept = _normal(xp, "test", (N, *shape)), copy.deepcopy(state)
    z, beyond = (norm.forward(xp, n, state, TEST._replace(visit=visit))[0] for visit in (1, 7))
    claims(tuple(z.shape) == tuple(n.shape) and _finite(xp, z), "testing after collecting gives finite numbers")
    claims(_same(xp, z, beyond), "a visit beyond the stored ones is tested like the last")
    claims(all(_same(xp, state[key], kept[key]) for key in kept), "testing leaves no trace")
    alone = norm.forward(xp, n[:1], state, TEST._replace(visit=1))[0]
    claims(_close(xp, alone, z[:1]), "in testing a sample does not depend on its batch")


@_contract("norm_ref")
def check_norm_ref(ref: Any, claims: Claims) -> None:
    """Its averaging map has an adjoint; claims: ``over_samples``, ``per_channel``."""
    claims.methods(ref, "fit")
    xp, taken = NumPy("float64"), 0
    for shape in ((8,), (8, 4, 3)):
        for groups in (1, 2):
            try:
                M = ref.fit(xp, shape, groups)
            except ShapeError:
                continue
            taken += 1
            x, g = (M.split(_normal(xp, name, (N, *shape))) for name in ("x", "g"))
            mean, back = M.mean(xp, x), M.spread(xp, M.pool(g), N)
            up, down = ((mean + 0.0 * x) * g).sum(), ((back + 0.0 * g) * x).sum()
            claims(_close(xp, up, down), "<M x, g> = <x, spread(pool(g))>")
            claims(_same(xp, M.join(x), _normal(xp, "x", (N, *shape))), "join undoes split")
            once = mean.shape[0] == 1
            claims(once == ref.over_samples, "over_samples: one statistic for the batch, or each sample's own")
            if ref.over_samples:
                claims(tuple(mean.shape[1:]) == tuple(M.stored), "stored is the shape of a statistic")
            offset = _normal(xp, "offset", (1, shape[0], *(1 for _ in shape[1:])))
            moved = M.join(M.mean(xp, x + M.split(offset + xp.zeros((N, *shape)))) - mean + 0.0 * x)
            claims(
                _close(xp, moved, offset + xp.zeros((N, *shape))) == ref.per_channel,
                "per_channel: a constant per channel moves its mean by as much, and only then",
            )
    claims(taken, "fits samples of some shape: (8,) or (8, 4, 3)")


@_contract("norm_stats")
def check_norm_stats(stats: Any, claims: Claims) -> None:
    """The same statistics again and again are what it hands on, and what it remembers."""
    claims.methods(stats, "init", "taken", "seen", "error", "returned", "begin_collecting", "updated", "looks")
    said = stats.p >= 1.0 and stats.centre in ("A", "B", "C") and stats.eps >= 0.0
    claims(said, "p, centre and eps say what is taken")
    xp, shape = NumPy("float64"), (4, 1, 1)
    state = Remembered(stats.init(xp, 2, {"mean": shape, "sigma": shape}))
    now = {"mean": _normal(xp, "mean", (1, *shape)), "sigma": abs(_normal(xp, "sigma", (1, *shape)))}
    for _ in range(5):
        for visit in range(2):
            at = LEARN._replace(visit=visit)
            for name, value in now.items():
                claims(_close(xp, stats.taken(xp, state, name, value, at), value), f"takes a {name} that stays")
            seen = stats.seen(xp, state, now, at)
            for name, value in now.items():
                claims(_finite(xp, stats.error(xp, state, name, value, seen)), "errors stay finite")
            stats.returned(state, seen)
        stats.updated(xp, state)
    if stats.remembers:
        for name, value in now.items():
            claims(_close(xp, stats.stored(state, name, TEST), value), f"remembers a {name} that stays")
    claims(set(stats.looks(state)) <= set(state), "looks show some of what it keeps")


@_contract("norm_op")
def check_norm_op(op: Any, claims: Claims) -> None:
    """Composed with each sample's own statistics: its way back, and the errors at the numbers it learns, are slopes."""
    claims.methods(op, "references", "constants", "shift", "learned")
    xp = NumPy("float64")
    for shape in ((4,), (4, 5, 4)):
        norm = composed(sp1(), Sample(), op)
        state = norm.init(xp, shape)
        x, g = _normal(xp, "x", (N, *shape)), _normal(xp, "g", (N, *shape))

        def scored(x: Array = x, g: Array = g, norm: Any = norm, state: Any = state) -> float:
            return float((norm.forward(xp, x, state, LEARN)[0] * g).sum())

        _, cache = norm.forward(xp, x, state, LEARN)
        assert cache is not None
        dx = norm.back(xp, g + 0.0, state, cache)
        claims(_slopes(xp, scored, x, dx), "back is the derivative of forward")
        claims(set(state.errors) == set(op.learns), "gives an error at every number it learns")
        for name, number in state.learned.items():
            claims(_slopes(xp, scored, number, state.errors[name].reshape((1,))), f"its error at {name} is the slope")


@_contract("pruning")
def check_pruning(pruning: Any, claims: Claims) -> None:
    """A mask of ones and zeros, of W's shape or of one sample's output, in which nothing that is gone comes back."""
    claims.methods(pruning, "init", "observe", "due", "use", "mask")
    claims(pruning.of in ("synapses", "neurons"), "of is synapses or neurons")
    needs, known = set(pruning.needs), {f.name for f in fields(Local)} - {"at", "keep", "db"}
    claims(needs <= known, f"needs names fields of Local ({', '.join(sorted(known))})")
    for map in _maps():
        xp, W = map.xp, _normal(map.xp, "W", map.shape)
        shape = map.shape if pruning.of == "synapses" else (1, *map.output)
        mask, state = xp.zeros(shape) + 1.0, pruning.init(map, shape)
        claims(isinstance(state, dict), "init gives a dict of arrays")
        for epoch in range(1, 13):
            local = Local(x=_normal(xp, f"x{epoch}", (N, *map.input)), y=_normal(xp, f"y{epoch}", (N, *map.output)))
            pruning.observe(map, local, W, state)
            claims(all(_finite(xp, value) for value in state.values()), "what it remembers stays finite")
            use = pruning.use(map, W, state)
            claims(tuple(use.shape) == shape and _finite(xp, use), "use is finite, of the mask's shape")
            if not pruning.due(epoch):
                continue
            before, found = xp.host(mask), pruning.mask(map, W, mask, state, epoch)
            claims(tuple(found.shape) == shape, f"a mask of {pruning.of} has their shape")
            claims(bool(np.isin(xp.host(found), (0.0, 1.0)).all()), "a mask holds ones and zeros")
            claims(bool((xp.host(found) <= before).all()), "nothing that is gone comes back")
            claims(_same(xp, mask, before), "mask leaves the mask before as it was")
            mask = found
        claims(_same(xp, W, _normal(xp, "W", map.shape)), "W is left as it was")


@_contract("cut")
def check_cut(cut: Any, claims: Claims) -> None:
    """Says when, and who survives: none that was gone, and as many as it says beforehand."""
    claims.methods(cut, "due", "left", "survivors")
    claims(cut.judges in ("", "averages", "weights"), "judges is empty, averages or weights")
    xp, shape = NumPy("float64"), (20, 30)
    W, alive = _normal(xp, "W", shape), np.ones(shape, bool)
    for epoch in range(1, 101):
        if cut.due(epoch):
            use = abs(W) if cut.judges == "weights" else np.exp(-abs(_normal(xp, f"use{epoch}", shape)))
            stays = cut.survivors(Seen(use, alive, W, samples=1000.0), epoch)
            claims(stays.shape == shape and stays.dtype == bool, "survivors are true or false, of the mask's shape")
            claims(not (stays & ~alive).any(), "none survives that was gone")
            claims(stays.any(), "something survives")
            alive = stays
    claims(not cut.due(0), "nothing goes before the first epoch")
    left = cut.left(alive.size)
    claims(left is None or left == alive.sum(), "left says beforehand how many there will be")


# -- what is scored, walked, scheduled -------------------------------------------------------
@_contract("loss")
def check_loss(loss: Any, claims: Claims) -> None:
    """The error is the derivative of the loss; padded samples count for nothing; a memory moves in training alone."""
    claims.methods(loss, "error")
    needs = set(getattr(loss, "needs", ()))
    claims(needs and all(isinstance(need, str) for need in needs), "needs names signals")
    xp = NumPy("float64")
    shape, state = _remembered(xp, loss, needs, claims)
    signals = {need: _normal(xp, need, (N, *shape)) for need in needs}
    weight = xp.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    y = xp.raw(np.arange(N) % 4)
    inputs = _normal(xp, "x", (N, 4))
    for batch in (Batch(inputs, y), Batch(inputs, y, weight)):
        kept = copy.deepcopy((signals, state))
        _, errors = loss.error(xp, signals, batch, state, LOOK)
        claims(errors and set(errors) <= needs, "gives errors at signals it needs")
        claims(all(error is not signals[name] for name, error in errors.items()), "an error is an array of its own")
        for now, before in zip((signals, state), kept, strict=True):
            claims(all(_same(xp, now[key], before[key]) for key in before), "a look leaves signals and memory alone")
        for name, error in errors.items():

            def scored(batch: Batch = batch) -> float:
                return float(loss.error(xp, signals, batch, state, LOOK)[0])

            claims(_slopes(xp, scored, signals[name], error), f"the error at {name!r} is the derivative of the loss")
        if hasattr(loss, "wrong"):
            wrong = float(loss.wrong(xp, signals, batch))
            claims(0.0 <= wrong <= N and wrong == round(wrong), "wrong counts samples")
    real = np.flatnonzero(xp.host(weight))
    part = {name: xp.array(xp.host(signal)[real]) for name, signal in signals.items()}
    alone = Batch(xp.array(xp.host(inputs)[real]), xp.raw(xp.host(y)[real]))
    padded = Batch(inputs, y, weight)
    counts = [
        (loss.error(xp, s, b, state, LOOK)[0], loss.wrong(xp, s, b) if hasattr(loss, "wrong") else 0.0)
        for s, b in ((part, alone), (signals, padded))
    ]
    claims(
        _close(xp, counts[0][0], counts[1][0]) and float(counts[0][1]) == float(counts[1][1]),
        "samples of weight 0 count for nothing",
    )
    loss.error(xp, signals, Batch(inputs, y), state, LEARN)
    claims(all(_finite(xp, value) for value in state.values()), "the memory stays finite")


def _remembered(xp: Backend, loss: Any, needs: set[str], claims: Claims) -> tuple[tuple[int, ...], State]:
    """A shape of samples that the loss takes, and what it remembers after one epoch has begun and one batch learned."""
    if not hasattr(loss, "init"):
        return (4,), {}
    for shape in ((4,), (3, 4, 4)):
        try:
            state = loss.init(xp, dict.fromkeys(needs, shape), Stream(0).at("loss"))
        except ShapeError:
            continue
        claims(isinstance(state, dict), "init gives a dict of arrays")
        batch = Batch(_normal(xp, "x", (N, 4)), xp.raw(np.arange(N) % 4))
        signals = {need: _normal(xp, f"first {need}", (N, *shape)) for need in needs}
        if hasattr(loss, "begin_epoch"):
            loss.begin_epoch(xp, signals, batch, state, Stream(0).at("epoch"))
        loss.error(xp, signals, batch, state, LEARN)
        return shape, state
    claims(False, "takes signals of some shape: (4,) or (3, 4, 4)")
    return (), {}


@_contract("pass")
def check_pass(order: Any, claims: Claims) -> None:
    """Placed, it gives the signals it provides, and walks back to the gradient of every weight on its way."""
    claims.methods(order, "place")
    pass_ = order.place(Bench(NumPy("float64")), small_network())
    claims.methods(pass_, "forward", "back")
    provides = set(getattr(pass_, "provides", ()))
    claims(provides, "provides names signals")
    xp = NumPy("float64")
    lead = (STEPS, N) if getattr(pass_, "steps", 0) else (N,)  # sequences
    batch, at = Batch(_normal(xp, "x", (*lead, 6)), xp.raw(np.arange(N) % 4)), LEARN._replace(render=True)
    with xp.scope():
        signals, tape = pass_.forward(batch, at)
        claims(provides <= set(signals), "forward gives what it provides")
        errors = {name: _normal(xp, f"error at {name}", tuple(signals[name].shape)) for name in provides}

        def scored() -> float:
            found = pass_.forward(batch, at)[0]
            return sum(float((found[name] * error).sum()) for name, error in errors.items())

        pass_.back(
            {name: error + 0.0 for name, error in errors.items()}, tape, lambda unit, local: unit.learn(local, 1.0)
        )
        learners = [each for each in _learners(pass_) if each.keep]
        claims(learners, "back lets the nodes learn")
        for learner in learners:
            for parameter in learner.parameters():
                claims(_slopes(xp, scored, parameter.W, parameter.dW), "back gives every weight the derivative")


def small_network() -> Any:
    """Something a pass can place, for samples of 6 numbers: two dense layers with rectification between them; or, for
    those that walk graphs, two states that hand on through dense layers.
    """
    dense, relu = get("layer", "dense"), get("layer", "relu")()
    ends = (("h1", "h1", True), ("h1", "h2", True), ("h2", "h2", False))
    return types.SimpleNamespace(
        input=(6,),
        layers=[dense(5), relu, dense(4)],
        prenet=[dense(5)],
        states={"h1": (5,), "h2": (5,)},
        edges=[Edge(f"{a}_{b}", a, b, (dense(5), relu), share=share) for a, b, share in ends],
        postnet=[dense(4)],
        where=lambda *keys: "small network: " + ".".join(map(str, keys)),
    )


@_contract("schedule")
def check_schedule(schedule: Any, claims: Claims) -> None:
    """A factor for every epoch or update, and the same one when asked again."""
    claims.methods(schedule, "at")
    claims(getattr(schedule, "by", "epochs") in ("epochs", "updates"), "by is epochs or updates")
    for total in (1, 7):
        factors = [schedule.at(done, total) for done in range(total)]
        claims(
            all(isinstance(f, int | float) and np.isfinite(f) and f >= 0 for f in factors),
            "factors are finite, 0 or more",
        )
        claims(factors == [schedule.at(done, total) for done in range(total)], "the same factor when asked again")


@_contract("transform")
def check_transform(transform: Any, claims: Claims) -> None:
    """Samples keep their shape, x stays as it was, and all that is drawn comes from the stream."""
    claims.methods(transform, "fits", "__call__")
    xp = NumPy("float64")
    taken = 0
    for shape in ((6,), (3, 8, 8)):
        try:
            transform.fits(shape)
        except ShapeError:
            continue
        taken += 1
        x = _normal(xp, "x", (N, *shape))
        before, stream = xp.host(x), Stream(0).at("augment")
        y = transform(xp, x, stream)
        claims(tuple(y.shape) == (N, *shape), "samples keep their shape")
        claims(_finite(xp, y), "gives finite numbers")
        claims(_same(xp, x, before), "leaves x as it was")
        claims(_same(xp, y, transform(xp, x, stream)), "the same stream gives the same samples")
    claims(taken, "fits samples of some shape: (6,) or (3, 8, 8)")


# -- where it runs and what it learns from ---------------------------------------------------
@_contract("backend")
def check_backend(xp: Any, claims: Claims) -> None:
    """Arrays, in-place arithmetic, maps and their adjoints, pools, statistics and streams, against NumPy."""
    claims(isinstance(xp, Backend), "is a bioplaus.backend.base.Backend")
    with xp.scope():
        host = _normal(NumPy("float64"), "a", (N, 3, 4, 5))
        a = xp.array(host)
        claims(_close(xp, a, host), "host(array(x)) is x")
        claims(xp.host(a).flags.c_contiguous, "host gives C order")
        claims(_same(xp, xp.sign(xp.array([-2.0, 0.0, 3.0])), np.array([-1.0, 0.0, 1.0])), "sign(0) = 0")
        b = a + 0.0
        claims(xp.add_scaled(b, a, -1.0, out=b) is b and not xp.host(b).any(), "add_scaled writes into out")
        kinked = xp.relu(xp.array([-1.0, 2.0, float("nan")]))
        claims(_same(xp, kinked, np.array([0.0, 2.0, np.nan])), "relu is max(x, 0); NaN stays NaN")
        rows = xp.exp(xp.log_softmax(xp.array([[1e4, 0.0], [-1e4, 0.0]]))).sum(-1)
        claims(_close(xp, rows, np.ones(2)), "log_softmax is stable at 1e4")
        _check_backend_maps(xp, claims)
        z, mean, sigma = xp.standardize(a, 1e-5)
        axes = (0, 2, 3)
        claims(_close(xp, mean, host.mean(axes)), "standardize takes means per channel")
        claims(_close(xp, sigma, np.sqrt(host.var(axes) + 1e-5)), "standardize takes sqrt(var + eps) per channel")
        g = xp.array(_normal(NumPy("float64"), "g", (N, 3, 4, 5)))
        dx = xp.standardize_back(g + 0.0, a, mean, sigma)
        claims(_close(xp, dx.sum(axes), np.zeros(3), 1.0), "standardize_back takes the mean of the error away")
        claims(_close(xp, (dx * z).sum(axes), 1e-5 * xp.host((g * z).sum(axes)), 60.0), "and its share along z")
        draws = [xp.zeros((50, 40)) for _ in range(2)]
        for out in draws:
            xp.uniform(Stream(3).at("u"), out)
        u = xp.host(draws[0])
        claims(_same(xp, draws[0], draws[1]), "uniform is a function of the stream")
        claims(u.min() >= 0.0 and u.max() < 1.0 and abs(u.mean() - 0.5) < 0.05, "uniform draws from [0, 1)")


def _check_backend_maps(xp: Backend, claims: Claims) -> None:
    for map in _maps(xp):
        for line in check_map(map):
            claims(True, f"{type(map).__name__}: {line}")
    window = Window((3, 3), (2, 2), (0, 1, 0, 1), (4, 4))
    x = xp.array(_normal(NumPy("float64"), "x", (2, 3, 4, 4)))
    y, which = xp.maxpool(x, window)
    dy = xp.array(_normal(NumPy("float64"), "dy", (2, 3, *window.output)))
    claims(
        _close(xp, (xp.maxpool_back(dy + 0.0, x, which, window) * x).sum(), xp.host((y * dy).sum())),
        "maxpool_back sends errors to the winners",
    )
    mean = xp.avgpool(x, window)
    claims(_close(xp, mean[0, 0, 1, 1], xp.host(x)[0, 0, 2:, 2:].mean()), "avgpool divides by in-image elements")
    claims(
        _close(xp, (xp.avgpool_back(dy + 0.0, x, window) * x).sum(), xp.host((mean * dy).sum())),
        "avgpool_back is its adjoint",
    )


@_contract("dataset")
def check_dataset(dataset: Any, claims: Claims) -> None:
    """It says what its samples are; where it needs no files it is loaded and compared with that."""
    claims.methods(dataset, "load")
    network, shape, classes = (getattr(dataset, key, None) for key in ("network", "shape", "classes"))
    claims(network is None or isinstance(network, str), "network is a name, or None")
    claims(isinstance(shape, tuple) and all(isinstance(k, int) and k > 0 for k in shape), "shape is of one sample")
    claims(isinstance(classes, int) and int(classes) > 1, "classes is 2 or more")
    claims(isinstance(getattr(dataset, "preset", None), Mapping), "preset is a mapping")
    if getattr(dataset, "files", ()):
        return
    try:
        x, y, x_test, y_test = dataset.load(None)
    except DataError:  # it looks for something after all, and says so
        return
    for samples, labels in ((x, y), (x_test, y_test)):
        claims(len(samples) == len(labels) > 0, "every sample has a label")
        grey = (1,) if samples.ndim == 3 else ()  # (N, H, W) stands for one channel
        own = (*grey, *samples.shape[1:])
        claims(own == shape, "samples have the shape it says")
        claims(int(np.min(labels)) >= 0 and int(np.max(labels)) < int(classes or 0), "labels are 0 up to classes - 1")


# -- small things to measure with ------------------------------------------------------------
def _maps(xp: Backend | None = None) -> list[Any]:
    """A dense map and a strided convolution padded on one side more than on the other."""
    xp = xp or NumPy("float64")
    return [DenseMap(xp, (5,), (4,)), ConvMap(xp, Window((3, 2), (2, 1), (1, 0, 1, 1), (5, 4)), (2, 3))]


def _normal(xp: Backend, name: str, shape: tuple[int, ...]) -> Array:
    return xp.array(Stream(0).at("contract", name).generator().normal(size=shape))


def _zeroed(xp: Backend, name: str, shape: tuple[int, ...]) -> Array:
    W = _normal(xp, name, shape)
    W[0, 0] = 0.0
    return W


def _host(xp: Backend, x: Any) -> Any:
    return x if isinstance(x, np.ndarray | float | int | np.generic) else xp.host(x)


def _same(xp: Backend, a: Any, b: Any) -> bool:
    return bool(np.array_equal(_host(xp, a), _host(xp, b), equal_nan=True))


def _close(xp: Backend, a: Any, b: Any, size: float | None = None) -> bool:
    """Equal to ``CLOSE`` of the size of b (float32 backends: 1e-3)."""
    a, b = np.asarray(_host(xp, a)), np.asarray(_host(xp, b))
    size = float(np.max(np.abs(b), initial=1e-12)) if size is None else size
    tolerance = (CLOSE if xp.dtype == "float64" else 1e-3) * size
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tolerance))


def _finite(xp: Backend, x: Any) -> bool:
    return bool(np.isfinite(_host(xp, x)).all())


def _slopes(xp: Backend, f: Callable[[], float], x: Array, gradient: Array) -> bool:
    """Whether ``gradient`` is df/dx: central differences along random directions, x changed in place and back."""
    kept, gradient, h = x + 0.0, gradient + 0.0, 1e-5  # a gradient may be x itself
    found, wanted = [], []
    for k in range(6):
        direction = _normal(xp, f"direction {k}", tuple(x.shape))
        x[...] = kept + h * direction
        ahead = f()
        x[...] = kept - h * direction
        found.append((ahead - f()) / (2 * h))
        wanted.append(float((gradient * direction).sum()))
    x[...] = kept
    return _close(xp, np.array(found), np.array(wanted), max(1e-3, float(np.max(np.abs(found)))))


def _name(part: Any) -> str:
    return str(getattr(part, "__name__", type(part).__name__))
