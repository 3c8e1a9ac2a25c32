"""Graphs in network files: the edges between states, and the modules they name.

A named module is short for a list of layers (Liao 2017, ch. 3): ``BRCx2`` is twice batch normalization, ReLU,
convolution; ``BRDx2`` the same with transposed convolutions, which make maps larger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bioplaus.config.layers import LayerItem, Reader
from bioplaus.config.parts import Wrong
from bioplaus.errors import nearest

Shape = tuple[int, ...]
MODULES = {"BRCx2": ("conv", 2), "BRDx2": ("conv_transposed", 2), "BRCx3": ("conv", 3), "BRDx3": ("conv_transposed", 3)}
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Edge:
    """What one state hands to another, one time step later.

    Attributes
    ----------
    name, source, target : str
    layers : tuple of LayerItem     its module; edges of one set have the same ones
    share : True (one module at all times), False (a copy at every time), or the name of a set of edges with one module
    open : (first, last) or None    time steps at which it is open, from 1, or back from the readout: -1 is the last one
    module, identity                the module as written, and whether the state itself is added to what it gives
    """

    name: str
    source: str
    target: str
    layers: tuple[LayerItem, ...] = field(compare=False)
    share: bool | str = True
    open: tuple[int, int] | None = None
    module: Any = field(default=None, repr=False)
    identity: bool = False

    def written(self) -> dict[str, Any]:
        """As a network file has it."""
        given = {"identity": self.identity, "share": self.share, "open": self.open}
        default = {"identity": False, "share": True, "open": None}
        changed = {key: value for key, value in given.items() if value != default[key]}
        return {"from": self.source, "to": self.target, "module": self.module, **changed}


def read_edges(states: Mapping[str, Shape], edges: Mapping[str, Any], reader: Reader) -> tuple[Edge, ...]:
    """The edges as read, their modules written out; what is wrong goes to the reader's problems.

    Parameters
    ----------
    states : name -> shape of one sample
    edges : name -> what its keys say: from_, to, module, identity, share, open
    """
    found: dict[str, Edge] = {}
    for name, given in edges.items():
        if flat := _flat(given, states):
            reader.problems += [_no_maps(states[state], state) for state in flat]
            continue
        try:
            found[name] = _edge(name, given, states, found, reader)
        except Wrong as error:
            reader.problems.append(Wrong(error.text, "edges", name, *error.inside))
    return tuple(found.values())


def _flat(edge: Any, states: Mapping[str, Shape]) -> list[str]:
    """The ends of an edge that are no maps, where it has a named module."""
    if not isinstance(edge.module, str) or edge.module not in MODULES:
        return []
    return [state for state in (edge.from_, edge.to) if state in states and len(states[state]) != 3]


def _no_maps(shape: Shape, state: str) -> Wrong:
    """The same words whichever edge asks, so that they are said once."""
    return Wrong(
        f"given {by(shape)}, wanted channels × height × width: a named module leads from maps to maps. "
        "Write [channels, height, width], or give its edges lists of layers",
        "states",
        state,
    )


def _edge(name: str, given: Any, states: Mapping[str, Shape], above: Mapping[str, Edge], reader: Reader) -> Edge:
    for key, state in (("from", given.from_), ("to", given.to)):
        if state not in states:
            raise Wrong(f"no state named {state!r}{nearest(state, states)}", key)
    source, target = states[given.from_], states[given.to]
    if given.identity and source != target:
        raise Wrong(
            f"{given.from_} is {by(source)}, {given.to} {by(target)}: one cannot be added to the other", "identity"
        )
    module = given.module
    listed = _written_out(module, source, target) if isinstance(module, str) else module
    tied = next((edge for edge in above.values() if isinstance(given.share, str) and edge.share == given.share), None)
    if tied is not None:
        _check_tied(given, tied, states)
        layers = tied.layers
    else:
        own = given.share if isinstance(given.share, str) else name
        layers = _layers(own, listed, given.identity, ("edges", name), reader)
    return Edge(name, given.from_, given.to, layers, given.share, given.open, module, given.identity)


def _layers(name: str, listed: Any, identity: bool, at: tuple[str | int, ...], reader: Reader) -> tuple[LayerItem, ...]:
    """A module's layers under a name; with the identity, as the one block whose path they are."""
    if not _NAME.fullmatch(name):
        raise Wrong(f"{name!r} is no name; wanted letters, digits and _, no digit first")
    if name in reader.names:
        raise Wrong(f"a layer or set named {name!r} stands above; every name is used once")
    reader.names.add(name)
    inside = reader.path(listed, f"{name}.", (*at, "module"))
    return (LayerItem("residual", name, {"path": inside}, reader.where(at)),) if identity else inside


def _check_tied(given: Any, tied: Edge, states: Mapping[str, Shape]) -> None:
    """Edges of one set have one module, and lead from one shape to another."""
    here, there = (
        [by(states[name]) for name in names] for names in ((given.from_, given.to), (tied.source, tied.target))
    )
    if here != there:
        raise Wrong(
            f"set {given.share!r} ties {' to '.join(here)} here and {' to '.join(there)} in {tied.name!r}; "
            "one module takes one shape",
            "share",
        )
    if (given.module, given.identity) != (tied.module, tied.identity):
        raise Wrong(f"set {given.share!r} has another module in {tied.name!r}; edges of one set have one", "share")


def _written_out(module: str, source: Shape, target: Shape) -> list[Any]:
    """The layers a named module stands for, between states of these shapes.

    Of n convolutions, 3 x 3, as many as the maps are halved have stride 2, the first ones; transposed ones double, the
    last ones. All but the last have round((C_source + C_target) / 2) channels.
    """
    if module not in MODULES:
        raise Wrong(f"no module named {module!r}{nearest(module, MODULES)} A list of layers is one too.", "module")
    kind, count = MODULES[module]
    strides = _strides(module, source, target)
    channels = [round((source[0] + target[0]) / 2)] * (count - 1) + [target[0]]
    layers: list[Any] = []
    for place, (filters, stride) in enumerate(zip(channels, strides, strict=True), 1):
        conv = {kind: filters, "kernel": 3, "stride": stride, "pad": "half", "bias": False}
        if kind == "conv_transposed":
            conv["extra"] = stride - 1
        layers += [{"norm": "next"}, "relu", {f"conv{place}": conv}]
    return layers


def _strides(module: str, source: Shape, target: Shape) -> list[int]:
    kind, count = MODULES[module]
    sides, wanted = source[1:], target[1:]
    for times in range(count + 1):
        ones, twos = [1] * (count - times), [2] * times
        if kind == "conv" and sides == tuple(side * 2**times for side in wanted):
            return twos + ones
        if kind == "conv_transposed" and wanted == tuple(side * 2**times for side in sides):
            return ones + twos
    does = "halves" if kind == "conv" else "doubles"
    raise Wrong(
        f"{module} {does} maps up to {count} times; it does not lead from {by(source)} to {by(target)}", "module"
    )


def by(shape: Shape) -> str:
    """A shape as one says it: ``64×32×32``."""
    return "×".join(map(str, shape))
