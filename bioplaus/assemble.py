"""Config + registry + backend -> network: the only place that resolves names."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from bioplaus import config as configs
from bioplaus import registry
from bioplaus.backend.base import Array, Backend
from bioplaus.backend.streams import Stream
from bioplaus.config.choices import matching
from bioplaus.construct import make
from bioplaus.errors import ConfigError, ShapeError
from bioplaus.network import Network
from bioplaus.parts import Link, Map, Unit
from bioplaus.units import Chain, GainBias, Node, NormSite, Parameter, ScaledNorm, Tap, walk

Shape = tuple[int, ...]


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
            parameter.relink(network.xp, chain)


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
        items = list(configs.walk(config.network.layers))
        self.weighted = [item.name for item in items if self.is_weighted(item.kind) and item.name]
        self.choices = configs.choices(config, self.weighted)
        self.has_norm: set[str] = set()  # layers that a norm follows
        self.has_gain: set[str] = set()
        self.unnamed: Counter[str] = Counter()
        self.latest: Node | None = None
        self.visits = 1
        self.copy = ""

    def network(self) -> Network:
        config, xp = self.config, self.xp
        order = make("pass", config.network.pass_, "pass", allow_code=True)
        pass_ = order.place(_Site(self, configs.LayerItem("pass", "pass"), None, normalized=False), config.network)
        self.check_norms()
        units = list(walk(pass_))[1:]
        for unit in units:
            if isinstance(unit, Node):
                stream = self.stream.at("feedback", unit.name, 0)
                unit.feedback = unit.channel.init(unit.map, unit.W, pass_.output[0], stream)
        loss = make("loss", config.network.loss, "loss", allow_code=True)
        training = config.training
        return Network(
            xp,
            units,
            pass_,
            loss,
            self.stream,
            reduction=training.reduction,
            batches_per_update=training.batches_per_update,
            clip=training.clip,
            output=pass_.output,
        )

    def check_norms(self) -> None:
        """A norm asked for by name stands nowhere if the network has no place for it."""
        for address, override in self.config.layers:
            names = matching(address, self.weighted)
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
                units.append(Tap(node))
                node = None
            following = items[place + 1].kind if place + 1 < len(items) else None
            site = _Site(self, item, node, normalized=following == "norm")
            try:
                unit, shape = layer.place(site, shape)
            except (ShapeError, ValueError) as error:
                raise ShapeError(f"{item.where}: {error}" if item.where else str(error)) from error
            if unit is None:
                continue
            if hasattr(unit, "inplace"):
                unit.inplace = bool(units) and getattr(units[-1], "gives_fresh", False) and not _keeps_n(units[-1])
            units.append(unit)
            if isinstance(unit, Node):
                node = self.latest = unit
        if node is not None:
            units.append(Tap(node))
        return Chain(units), shape

    def layer(self, item: configs.LayerItem) -> Any:
        params = {key: self.sized(value, item) for key, value in item.params.items()}
        if item.kind == "residual":
            params |= {"path": list(item.layers), "shortcut": list(item.shortcut)}
        return make("layer", {"recipe": item.kind, **params}, item.where, allow_code=True)

    def sized(self, value: Any, item: configs.LayerItem) -> Any:
        """A size that speaks of ``classes`` as a number; anything else as it is."""
        return configs.size(value, self.classes) if isinstance(value, str) and "classes" in value else value

    def is_weighted(self, kind: str) -> bool:
        return getattr(registry.get("layer", kind, allow_code=True), "has_weights", False)

    def numbered(self, kind: str) -> str:
        """A name for a layer that has none, with random numbers of its own: ``dropout``, ``dropout2``, ..."""
        self.unnamed[kind] += 1
        return kind if self.unnamed[kind] == 1 else f"{kind}{self.unnamed[kind]}"

    def part(self, kind: str, layer: str) -> Any:
        name = configs.original(layer)
        where = configs.where(self.config, f"layers.{name}.{kind}")
        return make(kind, self.choices[name][kind], where, allow_code=True)

    def parameter(self, name: str, value: Array, role: str, chain: tuple[Link, ...]) -> Parameter:
        states = [link.init(self.xp, value) for link in chain[:-1]]
        return Parameter(name, value, self.xp.zeros(value.shape), role, chain, states)


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
    normalized: bool  # a norm follows
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.xp = self.builder.xp
        copy = f"@{self.builder.copy}" if self.builder.copy else ""
        own = f"{self.item.name}{copy}" if self.item.name else ""
        self.name = own or (self.open.name if self.open else self.builder.numbered(self.item.kind))

    def node(self, map: Map) -> Unit:
        builder, xp, name = self.builder, self.xp, self.name
        chain = builder.part("update", name)
        draws = builder.stream.at("init", name).generator()
        W = xp.array(draws.normal(0.0, sqrt(2.0 / map.fan_in), map.shape))
        norm = builder.part("norm", name) if self.normalized else None
        bias = None
        if norm is None or not norm.removes_bias:
            bias = builder.parameter(f"{name}.b", xp.zeros(map.bias_shape), "bias", chain)
        return Node(
            name,
            xp,
            map,
            builder.parameter(f"{name}.W", W, "weights", chain),
            bias,
            builder.part("channel", name),
            {},
            builder.part("plasticity", name),
            builder.part("pruning", name),
        )

    def norm(self, shape: Shape) -> Unit | None:
        builder = self.builder
        if self.open is None:
            raise ConfigError(
                f"{self.item.where}: norm follows no weight layer. Put it after the layer whose norm it is."
            )
        _once(builder.has_norm, self.open.name, self.item.where, "norm")
        norm = builder.part("norm", self.open.name)
        if norm is None:
            return None
        site = NormSite(self.open.name, self.xp, norm, norm.init(self.xp, shape, builder.visits))
        if not getattr(norm, "affine", False):
            return site
        gain = self.gain_bias(shape)
        return ScaledNorm(site, gain) if hasattr(norm, "forward_scaled") else Chain([site, gain])

    def gain_bias(self, shape: Shape) -> GainBias:
        builder, xp = self.builder, self.xp
        layer = self.open or builder.latest
        if layer is None:
            raise ConfigError(
                f"{self.item.where}: affine follows no weight layer. Put it after the layer it belongs to."
            )
        name = layer.name
        _once(builder.has_gain, name, self.item.where, "gain and bias")
        chain = builder.part("update", name)
        ready = (1, shape[0], *([1] * (len(shape) - 1)))
        gain = builder.parameter(f"{name}.gain", xp.zeros(ready) + 1.0, "gain", chain)
        bias = builder.parameter(f"{name}.bias", xp.zeros(ready), "bias", chain)
        return GainBias(name, xp, gain, bias, frozen=layer.plasticity is None)

    def chain(self, items: Sequence[Any], shape: Shape, visits: int = 1, copy: str = "") -> tuple[Unit, Shape]:
        builder = self.builder
        around = builder.visits, builder.copy
        builder.visits, builder.copy = max(visits, builder.visits), copy or builder.copy
        try:
            return builder.chain(items, shape)
        finally:
            builder.visits, builder.copy = around

    def stream(self, name: str) -> Stream:
        return self.builder.stream.at(name, self.name)
