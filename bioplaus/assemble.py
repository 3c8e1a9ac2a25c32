"""Config + registry + backend -> network: the only place that resolves names."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from bioplaus import config as configs
from bioplaus import registry
from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.config.choices import matching
from bioplaus.construct import make
from bioplaus.errors import ConfigError, ShapeError, nearest
from bioplaus.layers.initial import Initial, drawn
from bioplaus.losses.terms import Term, Terms
from bioplaus.network import Network
from bioplaus.parts import Link, Map, Pass, State, Unit
from bioplaus.units import (
    Chain,
    GainBias,
    Node,
    NormSite,
    Numbers,
    Outlet,
    OverTime,
    Parameter,
    ScaledNorm,
    Survivors,
    Tap,
    can_render,
    walk,
)

Shape = tuple[int, ...]
_RENDERED = dict.fromkeys(("image", "reconstruction", "template"), " Write pass: generative in its file.")


def array_library(
    name: str = "auto", *, device: str = "auto", dtype: str = "float32", threads: int | None = None
) -> Backend:
    """The array library to compute with. ``auto`` takes torch where it is installed, and a GPU where there is one.

    Raises
    ------
    PartError       the library or the device is not there: nothing else is taken in its place
    """
    if name == "auto":
        name = "torch" if importlib.util.find_spec("torch") else "numpy"
    kind = registry.get("backend", name)
    where = kind.available_device() if device == "auto" else device
    return kind(dtype=dtype, device=where, threads=threads)  # type: ignore[no-any-return]


def assembled(config: configs.Config, *, classes: int, xp: Backend) -> Network:
    """The network a config describes, with fresh weights.

    Raises
    ------
    ConfigError, ShapeError, PartError      with the file and line of what does not fit
    """
    return _Builder(config, classes, xp).network()


def relink(network: Network, config: configs.Config, phase: int) -> None:
    """Give every layer the update of a training phase; what a link remembers stays where the link stays."""
    chosen = configs.choices(config, [node.name for node in network.nodes], phase=phase)
    for unit in network.learners:
        chain = make("update", chosen[unit.name]["update"], f"layer {unit.name!r}: update", allow_code=True)
        for parameter in unit.arrays():
            parameter.relink(network.xp, chain, at_once=network.updates_at_once)


def build(
    *,
    network: Any,
    rule: Any,
    classes: int = 10,
    backend: str = "auto",
    device: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    seed: int = 0,
    sets: Sequence[str] = (),
) -> Network:
    """The engine alone: a network with fresh weights, for your own loop.

    Parameters
    ----------
    network, rule : name, path or mapping       as in ``bioplaus run``
    sets : ("defaults.update.rate=1e-3", ...)

    Examples
    --------
    >>> import numpy as np
    >>> net = build(network="digits_net", rule="usf_bn_bm", backend="numpy")
    >>> x, y = np.random.default_rng(0).standard_normal((20, 1, 8, 8)), np.arange(20) % 10
    >>> loss, wrong = net.accumulate(net.batch(x, y))
    >>> net.update(rate=1e-3)
    >>> net.predict(net.batch(x, y).x).shape
    (20, 10)
    """
    settings = configs.load(rule, network=network, sets=sets, flags={"seed": seed})
    xp = array_library(backend, device=device, dtype=dtype, threads=threads)
    return assembled(settings, classes=classes, xp=xp)


class _Builder:
    def __init__(self, config: configs.Config, classes: int, xp: Backend) -> None:
        self.config, self.classes, self.xp = config, classes, xp
        self.stream = Stream(config.seed)
        self.weighted, self.states = configs.weighted(config.network.listed), configs.states(config.network.listed)
        self.choices = configs.choices(config, self.weighted)
        self.loss = self.terms()
        self.has_norm: set[str] = set()  # layers that a norm follows
        self.has_gain: set[str] = set()
        self.unnamed: Counter[str] = Counter()
        self.latest: Node | None = None
        self.visits = 1
        self.copy = ""
        self.steps = 0  # of time, where samples are sequences
        self.renders = False  # the pass goes down through every layer

    def network(self) -> Network:
        config, xp = self.config, self.xp
        order = make("pass", config.network.pass_, config.network.where("pass"), allow_code=True)
        self.renders = getattr(order, "renders", False)
        pass_ = order.place(_Site(self, configs.LayerItem("pass", "pass"), None), config.network)
        self.check_norms()
        units = list(walk(pass_))[1:]
        self.check_plasticities(units)
        for unit in units:
            if isinstance(unit, Node):
                stream = self.stream.at("feedback", unit.name, 0)
                unit.feedback = unit.channel.init(unit.map, unit.W, pass_.output[0], stream)
        memory = self.memory(pass_, units)
        training = config.training
        return Network(
            xp,
            units,
            pass_,
            self.loss,
            self.stream,
            reduction=training.reduction,
            batches_per_update=training.batches_per_update,
            clip=training.clip,
            output=pass_.output,
            memory=memory,
        )

    def terms(self) -> Terms:
        """The losses of the rule, or the one of the network."""
        config = self.config
        if not config.losses:
            where = configs.where(config, "network.loss")
            loss = make("loss", config.network.loss, where, allow_code=True)
            return Terms(Term("loss", loss, where=where, on=self.half(loss, None, where)))
        made = []
        for name, given in config.losses.items():
            where, spec = configs.where(config, f"losses.{name}"), {"recipe": name, **given}
            weight, on = spec.pop("weight", 1.0), spec.pop("on", None)
            loss = make("loss", spec, where, allow_code=True)
            on = self.half(loss, on, configs.where(config, f"losses.{name}.on"))
            made.append(Term(name, loss, weight, where, on))
        return Terms(*made)

    def half(self, loss: Any, on: Any, where: str) -> Any:
        """The samples a term is over: those with labels for one that looks at labels, else all."""
        supervised, some = getattr(loss, "supervised", False), self.config.data.labels is not None
        if on == "unlabelled" and not some:
            raise ConfigError(
                f"{where}: unlabelled given, and all samples have labels. Set data.labels, or leave it out."
            )
        if supervised and some and on not in (None, "labelled"):
            raise ConfigError(f"{where}: {on} given, and this loss looks at labels. Write labelled, or leave it out.")
        return on or ("labelled" if supervised else "both")

    def memory(self, pass_: Pass, units: Sequence[Any]) -> State:
        """What the loss remembers, once every signal it needs has been found."""
        shapes = {"output": pass_.output, **getattr(pass_, "shapes", {})}
        shapes |= {unit.signal: unit.shape for unit in units if isinstance(unit, Outlet)}
        known = pass_.provides | {f"{name}.{end}" for name in self.weighted for end in ("n", "y")}
        there = pass_.provides | shapes.keys()
        problems = []
        for term in self.loss.terms:
            missing = sorted(need for need in term.loss.needs if not any(fnmatchcase(name, need) for name in there))
            if missing:
                hint = "" if self.renders else _RENDERED.get(missing[0].rpartition(".")[2], "")
                name = self.config.network.name
                problems.append(
                    f"{term.where}: network {name!r} has no signal {missing[0]!r}{nearest(missing[0], known)}{hint}"
                )
        if problems:
            raise ConfigError("\n".join(problems))
        return self.loss.init(self.xp, shapes, self.stream.at("loss"))

    def check_plasticities(self, units: Sequence[Any]) -> None:
        """A rule that learns from what is rendered needs a pass that renders."""
        for unit in units if not self.renders else ():
            if isinstance(unit, Node) and unit.wants_rendering:
                name = self.choices[configs.original(unit.name)]["plasticity"]["recipe"]
                raise ConfigError(
                    f"{self.where('plasticity', unit.name)}: {name!r} learns from what is rendered, network "
                    f"{self.config.network.name!r} renders nothing. Write pass: generative in its file."
                )

    def check_norms(self) -> None:
        """A norm asked for by name stands nowhere if the network has no place for it."""
        for address, override in self.config.layers:
            names = matching(address, self.weighted, self.states)
            asked = [name for name in names if "norm" in override and self.choices[name]["norm"]["recipe"] != "none"]
            if asked and not {configs.original(name) for name in self.has_norm}.intersection(asked):
                where = configs.where(self.config, f"layers.{address}.norm")
                raise ConfigError(
                    f"{where}: network {self.config.network.name!r} has no norm after {', '.join(asked)}. "
                    "Put a `norm` there in its layers, or leave this out."
                )

    def chain(self, items: Sequence[configs.LayerItem], shape: Shape) -> tuple[Chain, Shape]:
        """Units one after another, with a tap where each weight layer ends."""
        units: list[Any] = []
        node: Node | None = None
        for place, item in enumerate(items):
            layer = self.layer(item)
            if node is not None and not getattr(layer, "in_layer", False):
                units += [Tap(node, node.neurons), *self.outlet(node, "y", shape)]
                node = None
            rest = items[place + 1 :]
            site = _Site(self, item, node, normalized=self.normalized(item, rest), following=self.next(rest))
            try:
                unit, shape = layer.place(site, shape)
                if self.renders and unit is not None and not can_render(unit):
                    raise ShapeError(
                        f"layer {item.name or site.name!r}: nothing can be rendered through {item.kind} here, and pass "
                        "generative goes down through every layer. Take another layer (pools: without pad, and as far "
                        "apart as they are wide), or another pass."
                    )
            except (ShapeError, ValueError) as error:
                if isinstance(error, ShapeError) and error.__cause__ is not None:  # it says where already
                    raise
                raise ShapeError(f"{item.where}: {error}" if item.where else str(error)) from error
            if unit is None:
                continue
            if hasattr(unit, "inplace"):
                unit.inplace = bool(units) and getattr(units[-1], "gives_fresh", False) and not _keeps_n(units[-1])
            units.append(unit)
            if isinstance(unit, Node):
                node = self.latest = unit
                units += self.outlet(node, "n", shape)
        if node is not None:
            units += [Tap(node, node.neurons), *self.outlet(node, "y", shape)]
        return Chain(units), shape

    def next(self, rest: Sequence[configs.LayerItem]) -> str:
        """The first weight layer of the rest of a chain."""
        return next((item.name for item in rest if item.name and item.name in self.weighted), "")

    def normalized(self, item: configs.LayerItem, rest: Sequence[configs.LayerItem]) -> str:
        """The layer whose norm stands right behind this one: its own, or that of the next."""
        if not rest or rest[0].kind != "norm":
            return ""
        return self.next(rest) if rest[0].params.get("of") == "next" else item.name or ""

    def outlet(self, node: Node, end: str, shape: Shape) -> list[Outlet]:
        """A place where the loss looks at a layer's n or y; none where it does not."""
        signal = f"{configs.original(node.name)}.{end}"
        wanted = any(fnmatchcase(signal, need) for need in self.loss.needs)
        return [Outlet(signal, shape)] if wanted else []

    def layer(self, item: configs.LayerItem) -> Any:
        params = configs.sized(item, self.classes)
        return make("layer", {"recipe": item.kind, **params}, item.where, allow_code=True)

    def numbered(self, kind: str) -> str:
        """A name for a layer that has none, with random numbers of its own: ``dropout``, ``dropout2``, ..."""
        self.unnamed[kind] += 1
        return kind if self.unnamed[kind] == 1 else f"{kind}{self.unnamed[kind]}"

    def part(self, kind: str, layer: str) -> Any:
        return make(kind, self.choices[configs.original(layer)][kind], self.where(kind, layer), allow_code=True)

    def where(self, kind: str, layer: str) -> str:
        """Where a layer's choice was written, for messages."""
        return configs.where(self.config, f"layers.{configs.original(layer)}.{kind}")

    def parameter(self, name: str, value: Array, role: str, chain: tuple[Link, ...]) -> Parameter:
        training = self.config.training
        parameter = Parameter(name, value, role)
        parameter.relink(self.xp, chain, at_once=training.batches_per_update == 1 and training.clip is None)
        return parameter


def _once(taken: set[str], layer: str, where: str, what: str) -> None:
    """Arrays are known by their layer's name, so a layer has one of each."""
    if layer in taken:
        raise ConfigError(f"{where}: layer {layer!r} has a {what} already. Leave one of them out.")
    taken.add(layer)


def _keeps_n(unit: Any) -> bool:
    return isinstance(unit, Node) and unit.wants_n


@dataclass
class _Site:
    """What one layer may ask for; see ``parts.Site``."""

    builder: _Builder
    item: configs.LayerItem
    open: Node | None  # the weight layer this one belongs to
    normalized: str = ""  # the layer whose norm stands right behind this one
    following: str = ""  # the next weight layer of the chain
    bare: bool = False  # a part of a cell, which runs over time itself
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.xp = self.builder.xp
        own = self.copied(self.item.name or "")
        self.name = own or (self.open.name if self.open else self.builder.numbered(self.item.kind))

    def copied(self, layer: str) -> str:
        """A layer's name, as its copy here has it."""
        return f"{layer}@{self.builder.copy}" if layer and self.builder.copy else layer

    @property
    def signals(self) -> set[str]:
        return self.builder.loss.needs

    @property
    def steps(self) -> int:
        return self.builder.steps

    @property
    def removes_bias(self) -> bool:
        norm = self.builder.part("norm", self.normalized or self.name)
        return norm is not None and norm.removes_bias

    def inside(self, part: str) -> _Site:
        return _Site(self.builder, replace(self.item, name=f"{self.item.name}.{part}"), None, bare=True)

    def node(self, map: Map, init: Initial = None, bias: bool = True) -> Unit:
        builder, xp, name = self.builder, self.xp, self.name
        chain = builder.part("update", name)
        W = xp.array(drawn(map, init, builder.stream.at("init", name).generator()))
        b = None
        if bias and not (self.normalized and self.removes_bias):
            b = builder.parameter(f"{name}.b", xp.zeros(map.bias_shape), "bias", chain)
        self.open = Node(
            name,
            xp,
            map,
            builder.parameter(f"{name}.W", W, "weights", chain),
            b,
            builder.part("channel", name),
            {},
            builder.part("plasticity", name),
            self.survivors(map),
        )
        return self.open

    def survivors(self, map: Map) -> Survivors | None:
        """All synapses or neurons of a weight layer whose pruning may take some."""
        pruning = self.builder.part("pruning", self.name)
        if pruning is not None and pruning.of == "neurons" and self.bare:
            where = self.builder.where("pruning", self.name)
            raise ConfigError(f"{where}: neurons of a cell share their products. Prune its synapses, or set none here.")
        return Survivors.of(self.name, map, pruning)

    def norm(self, shape: Shape, groups: int = 1) -> Unit | None:
        builder = self.builder
        layer = self.name if self.bare else self.open.name if self.open else self.copied(self.following)
        if not layer:
            raise ConfigError(
                f"{self.item.where}: no weight layer stands before this norm or after it. Put it where one does."
            )
        _once(builder.has_norm, layer, self.item.where, "norm")
        norm = builder.part("norm", layer)
        if norm is None:
            return None
        try:
            state = norm.init(self.xp, shape, builder.visits, groups)
        except (ShapeError, ValueError) as error:
            raise ShapeError(f"{builder.where('norm', layer)}: {error}") from error
        unit: Any = NormSite(layer, self.xp, norm, state)
        chain, frozen = builder.part("update", layer), builder.part("plasticity", layer) is None
        unit.numbers = Numbers.of(
            layer,
            self.xp,
            unit.stats,
            lambda key, value: builder.parameter(f"{layer}.op.{key}", value, "gain", chain),
            frozen,
        )
        if getattr(norm, "affine", False):
            gain = self.scale(shape, layer)
            unit = ScaledNorm(unit, gain) if hasattr(norm, "forward_scaled") else Chain([unit, gain])
        return self.over_time(unit)

    def over_time(self, unit: Unit) -> Unit:
        """The unit, one step at a time where the layer is given all of them together."""
        return OverTime(self.xp, unit) if self.steps and not self.bare else unit

    def gain_bias(self, shape: Shape) -> Unit:
        layer = self.open or self.builder.latest
        if layer is None:
            raise ConfigError(
                f"{self.item.where}: affine follows no weight layer. Put it after the layer it belongs to."
            )
        return self.over_time(self.scale(shape, layer.name))

    def scale(self, shape: Shape, layer: str) -> GainBias:
        """A gain and a bias with a layer's choices, named after it."""
        builder, xp = self.builder, self.xp
        _once(builder.has_gain, layer, self.item.where, "gain and bias")
        chain = builder.part("update", layer)
        ready = (1, shape[0], *([1] * (len(shape) - 1)))
        gain = builder.parameter(f"{layer}.gain", xp.zeros(ready) + 1.0, "gain", chain)
        bias = builder.parameter(f"{layer}.bias", xp.zeros(ready), "bias", chain)
        return GainBias(layer, xp, gain, bias, frozen=builder.part("plasticity", layer) is None)

    def chain(
        self, items: Sequence[Any], shape: Shape, visits: int = 1, copy: str = "", steps: int = 0
    ) -> tuple[Unit, Shape]:
        builder = self.builder
        around = builder.visits, builder.copy, builder.steps
        builder.visits = max(visits, steps, builder.visits)
        builder.copy, builder.steps = copy or builder.copy, steps or builder.steps
        try:
            return builder.chain(items, shape)
        finally:
            builder.visits, builder.copy, builder.steps = around

    def stream(self, name: str) -> Stream:
        return self.builder.stream.at(name, self.name)
