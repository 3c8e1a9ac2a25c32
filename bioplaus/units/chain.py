"""Units one after another, and what lies between layers: taps and outlets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bioplaus.backend.base import Array
from bioplaus.parts import At, Learn
from bioplaus.units.node import Node, Watch


@dataclass
class Tap:
    """The end of a layer, after its norm and activation: here y can be seen."""

    node: Node
    mask: Array = None  # of the neurons that exist
    watching: bool = False
    y: Array = None
    holds_weights = False

    def wire(self, below: bool) -> bool:
        """See Unit."""
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, None]:
        """Lets x through, of neurons that exist; hands it to whoever watches and to a rule that needs y."""
        if self.mask is not None:
            x = x * self.mask
        if self.watching:
            self.y = x
        if self.node.seen is not None:
            self.node.seen.y, self.node.seen = x, None
        return x, None

    def back(self, dy: Array, cache: None, top: Array, learn: Learn) -> Array:
        """Lets dy through, to neurons that exist."""
        return dy if self.mask is None else dy * self.mask

    @property
    def clear(self) -> bool:
        """Where all neurons exist."""
        return self.mask is None

    def render(self, z: Array, cache: None, watch: Watch | None) -> tuple[Array, None]:
        """z of the neurons that exist."""
        return z * self.mask, None

    def render_back(self, d: Array, trace: None, learn: Learn, errors: Mapping[str, Array]) -> Array:
        """d at the neurons that exist."""
        return d * self.mask

    def unmasked(self, z: Array) -> Array:
        """As it is."""
        return z

    unmasked_back = unmasked


@dataclass
class Outlet:
    """A signal inside the network that a loss looks at: lets x through, and adds the loss's error to what comes back.

    Attributes
    ----------
    signal : its name, ``conv2.n`` or ``conv2.y``
    shape : of one sample
    open : whether the values of this forward are kept
    values, errors : one for every visit of a forward, in their order; errors may be empty
    visits : how many there were while it was open
    """

    signal: str
    shape: tuple[int, ...]
    open: bool = False
    visits: int = 0
    values: list[Array] = field(default_factory=list)
    errors: list[Array] = field(default_factory=list)
    holds_weights = True  # `back` is called also where no error comes from above
    clear = True

    def wire(self, below: bool) -> bool:
        """See Unit."""
        self.listened = below
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, int]:
        """Lets x through; which visit it was."""
        if self.open:
            self.values.append(x)
        return x, len(self.values) - 1

    def close(self) -> list[Array]:
        """The values of all visits, in their order; nothing is kept."""
        values, self.values = self.values, []
        self.open, self.visits = False, len(values)
        return values

    def back(self, dy: Array | None, cache: int, top: Array, learn: Learn) -> Array | None:
        """The error from above and the loss's, where there is one and anybody listens."""
        if not self.listened:
            return None
        if not self.errors:
            return dy
        error = self.errors[cache]
        return error if dy is None else dy + error


@dataclass
class Chain:
    """Units one after another."""

    units: list[Any] = field(default_factory=list)
    listened: list[bool] = field(default_factory=list)
    weighted: list[bool] = field(default_factory=list)
    holds_weights = True

    @property
    def spares_error(self) -> bool:
        """Whether the error handed to ``back`` is left as it was, and what comes out is another array."""
        last = next((unit for unit in reversed(self.units) if not isinstance(unit, Tap)), None)
        return getattr(last, "spares_error", False)

    @property
    def by_sample(self) -> bool:
        """Whether no sample looks at another."""
        return all(getattr(unit, "by_sample", False) for unit in self.units)

    def wire(self, below: bool) -> bool:
        """Tells every unit whether anybody below it wants the error."""
        self.listened, self.weighted = [], []
        for unit in self.units:
            self.weighted.append(getattr(unit, "holds_weights", False))
            self.listened.append(below)
            below = unit.wire(below)
        return below

    def forward(self, x: Array, at: At) -> tuple[Array, list[Any]]:
        """Through all units; in testing nothing is kept, unless something is to be rendered."""
        tape = []
        for unit in self.units:
            x, cache = unit.forward(x, at)
            if at.train or at.render:
                tape.append(cache)
        return x, tape

    def back(self, dy: Array | None, cache: list[Any], top: Array, learn: Learn) -> Array | None:
        """Backwards through all units, freeing the tape; where nobody below listens the error stops."""
        way = zip(reversed(self.units), reversed(self.listened), reversed(self.weighted), strict=True)
        for unit, listened, weighted in way:
            visit = cache.pop()
            if weighted:
                dy = unit.back(dy, visit, top, learn)
            elif dy is not None:
                dy = unit.back(dy, visit, top, learn) if listened else None
        return dy

    @property
    def renders(self) -> bool:
        """Whether all units can be gone down through."""
        return all(can_render(unit) for unit in self.units)

    def wire_down(self, above: bool) -> bool:
        """As a Node, from the top unit to the bottom."""
        for unit in reversed(self.units):
            above = unit.wire_down(above) if hasattr(unit, "wire_down") else above
        return above

    def render(self, z: Array, cache: Sequence[Any], watch: Watch | None = None) -> tuple[Array, list[Any]]:
        """What the top unit is to render, down to the bottom; and every unit's trace, the bottom one's last."""
        template, trace = z, []
        for unit, seen in zip(reversed(self.units), reversed(cache), strict=True):
            if watch is not None:
                seen = watch(unit, seen, z, template)
            kept = None
            if not getattr(unit, "clear", False):
                z, kept = unit.render(z, seen, watch)
                if watch is not None:
                    template = unit.unmasked(template) if hasattr(unit, "unmasked") else z
            trace.append(kept)
        return z, trace

    def render_back(
        self, d: Array | None, trace: Sequence[Any], learn: Learn, errors: Mapping[str, Array]
    ) -> Array | None:
        """The error at what the top unit rendered; d: at what came out below, ``errors``: at templates, by layer."""
        e: Array | None = None  # at the template
        for unit, kept in zip(self.units, reversed(trace), strict=True):
            if getattr(unit, "clear", False):
                continue
            if hasattr(unit, "unmasked_back"):
                d = None if d is None else unit.render_back(d, kept, learn, errors)
                e = None if e is None else unit.unmasked_back(e)
            else:
                d = unit.render_back(total(d, e), kept, learn, errors)
                e = errors.get(unit.name) if isinstance(unit, Node) else None
        return total(d, e)


def can_render(unit: Any) -> bool:
    """Whether a generative pass can go down through a unit."""
    return getattr(unit, "clear", False) or (hasattr(unit, "render") and getattr(unit, "renders", True))


def total(a: Array | None, b: Array | None) -> Array | None:
    """The sum of what there is."""
    return b if a is None else a if b is None else a + b


def walk(unit: Any) -> Iterator[Any]:
    """Every unit inside ``unit``, itself included, in the order they run."""
    yield unit
    for inner in getattr(unit, "units", ()):
        yield from walk(inner)
