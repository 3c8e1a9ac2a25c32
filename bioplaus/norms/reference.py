"""NormRef: whose activity counts for a statistic, as an averaging map M.

A reference is a choice; ``fit`` makes the map of it for samples of one shape. Axes go by their letters in (N, C, H, W);
a window limits how far a statistic reaches over space. The channels of a layer may be several groups that never mix,
such as the gates of a recurrent cell that one product computes.

Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2: BA1 to BA6 pool over the samples of a batch,
SP1 to SP5 within one. The figure alone defines them; what their text says of BA1, BA3, BA4, BA6 and layer
normalization leaves one reading: three extents in space, each per channel or over all channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal, Protocol

from bioplaus.backend.base import Array, Backend
from bioplaus.errors import ShapeError

Shape = tuple[int, ...]
Letter = Literal["N", "C", "H", "W"]
Border = Literal["zero", "valid_count"]

WINDOW = 5  # where none is given, or the widest that fits


class Reference(Protocol):
    """Whose activity counts. ``over_samples``: all samples of a batch; ``per_channel``: every channel by itself."""

    @property
    def over_samples(self) -> bool:
        """Whether a statistic is one of the batch, which testing has to remember."""

    @property
    def per_channel(self) -> bool:
        """Whether a constant added to one channel or unit moves the mean by as much."""

    def fit(self, xp: Backend, shape: Shape, groups: int = 1) -> Averaging:
        """The averaging map for samples of ``shape``; ShapeError where it would average a single number."""


@dataclass(frozen=True)
class Box:
    """A moving average over arrays (N, ..., rows, columns), in a window around each place, and its adjoint.

    ``size`` is (rows, columns). ``down[i, j]`` is the share that row j has in the average at row i, ``across`` the same
    of columns; None where a window is one element wide. A box is one after the other, as products: what processors do
    best, though most of a matrix is 0.
    """

    size: tuple[int, int]
    down: Array | None
    across: Array | None

    @classmethod
    def fit(cls, xp: Backend, size: tuple[int, int], reach: tuple[int, int], border: Border) -> Box:
        """Windows ``reach`` high and wide; an even one reaches one element further to the end than to the start."""
        down, across = (None if k == 1 else xp.array(_shares(n, k, border)) for n, k in zip(size, reach, strict=True))
        return cls(size, down, across)

    def mean(self, t: Array) -> Array:
        """The average in the window around each place."""
        return self._mixed(t, self.down, self.across)

    def adjoint(self, g: Array) -> Array:
        """<mean(t), g> = <t, adjoint(g)>."""
        return self._mixed(g, *(None if shares is None else shares.T for shares in (self.down, self.across)))

    def _mixed(self, t: Array, down: Array | None, across: Array | None) -> Array:
        N, (H, W) = len(t), self.size
        maps = t.reshape((N, -1, H, W)).swapaxes(1, 2).swapaxes(2, 3)  # channels last, as maps lie in memory
        if down is not None:
            maps = _along(maps.reshape((N, H, -1)), down).reshape(maps.shape)
        if across is not None:
            maps = _along(maps.reshape((N * H, W, -1)), across).reshape(maps.shape)
        return maps.swapaxes(2, 3).swapaxes(1, 2).reshape(t.shape)


@dataclass(frozen=True)
class Averaging:
    """M for samples of one shape: every element's statistic is an average over the elements its reference names.

    Attributes
    ----------
    shape : of one sample, (C, H, W) or (units,)
    groups : of channels that never mix; where there are several, arrays are split into (N, groups, C / groups, ...)
    axes : of a split array, averaged over entirely
    box : what limits the average in space, or along the units of a dense layer
    over_samples : whether N is among the axes
    """

    shape: Shape
    groups: int
    axes: tuple[int, ...]
    box: Box | None
    over_samples: bool

    @cached_property
    def stored(self) -> Shape:
        """A statistic of the batch, ready to broadcast against a split sample."""
        return tuple(1 if axis in self.axes else size for axis, size in enumerate(self._split_shape, start=1))

    @property
    def alone(self) -> bool:
        """Whether a statistic is over a single number of each sample."""
        return self.box is None and prod(self.stored) == prod(self.shape)

    @property
    def _split_shape(self) -> Shape:
        channels, *space = self.shape
        return self.shape if self.groups == 1 else (self.groups, channels // self.groups, *space)

    def split(self, x: Array) -> Array:
        """(N, C, ...) as (N, groups, C / groups, ...); as it is where there is one group."""
        return x if self.groups == 1 else x.reshape((len(x), *self._split_shape))

    def join(self, x: Array) -> Array:
        """Back to the shape the layers know."""
        return x if self.groups == 1 else x.reshape((len(x), *self.shape))

    def mean(self, x: Array) -> Array:
        """M x: the statistic at each place, ready to broadcast against x."""
        average = x.mean(self.axes, keepdims=True) if self.axes else x
        return average if self.box is None else self.box.mean(average)

    def pool(self, t: Array) -> Array:
        """R t: terms of the elements that share a place, summed; M's axes without its window."""
        return t.sum(self.axes, keepdims=True) if self.axes else t

    def spread(self, g: Array, samples: int) -> Array:
        """The adjoint of M: each element's share of g, ready to broadcast; <M x, g> = <x, spread(g)>."""
        sizes = (samples, *self._split_shape)
        share = g / float(prod(sizes[axis] for axis in self.axes))
        return share if self.box is None else self.box.adjoint(share)


@dataclass(frozen=True)
class Axes:
    """Any reference: the average over the axes named by letter, in space within a window where one is given.

    ``over`` holds letters of N C H W; those a dense layer does not have are left out there, and with them the window.
    ``shrinks``: a window larger than the map becomes the largest odd one that fits; without it that is an error.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, section "General normalization".
    """

    over: Sequence[Letter] = ("N", "H", "W")
    window: int | None = None
    shrinks: bool = False

    def __post_init__(self) -> None:
        if not self.over or len(set(self.over)) < len(self.over) or not set(self.over) <= set("NCHW"):
            raise ValueError(f"over is {list(self.over)}; wanted some of N, C, H, W, each once")
        if self.window is None:
            return
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError(f"window is {self.window}; wanted an odd number: it has a centre")
        if not {"H", "W"} <= set(self.over):
            raise ValueError(f"over is {list(self.over)}; a window is in H and W: name them too, or leave it out")

    @property
    def over_samples(self) -> bool:
        """N is among the letters."""
        return "N" in self.over

    @property
    def per_channel(self) -> bool:
        """C is not among the letters."""
        return "C" not in self.over

    def fit(self, xp: Backend, shape: Shape, groups: int = 1) -> Averaging:
        """See Reference; also ShapeError for a window larger than the map."""
        channels, space = _grouped(shape, groups), shape[1:]
        box, elements = None, channels if "C" in self.over else 1
        if space and self.window is not None:
            reach = _fitting(self.window, *_map(space), self.shrinks)
            box, elements = Box.fit(xp, (space[0], space[1]), (reach, reach), "valid_count"), elements * reach * reach
        elif space:
            elements *= prod(size for letter, size in zip("HW", space, strict=True) if letter in self.over)
        if elements == 1 and not self.over_samples:
            raise ShapeError(
                f"samples are {shape}: over {' '.join(self.over)} of one sample a statistic would be of one number. "
                "Take another norm reference here, such as SP1 or BA1, or norm: none."
            )
        whole = [letter for letter in self.over if box is None or letter in "NC"]
        places = "NGCHW" if groups > 1 else "NCHW"
        axes = sorted(places.index(letter) for letter in whole if letter in "NC" or space)
        return Averaging(shape, groups, tuple(axes), box, self.over_samples)


@dataclass(frozen=True)
class Neighbours:
    """A window around each unit within its sample: a box in space over all channels; in dense layers over unit index.

    ``window``, where left out, is 5, or the widest that fits. With the ``border`` ``zero`` the sum is divided by the
    size of the whole window, also where it leaves the map, and a window larger than the map is an error; with
    ``valid_count`` by how many elements are inside, up to all there are. On maps a window is odd; along the units of a
    dense layer an even one reaches one unit further to the end.

    Source: Ren, Liao, Urtasun, Sinz & Zemel (2017), Normalizing the normalizers; NINAI report (2017), eq. 10 to 12.
    """

    window: int | None = None
    border: Border = "zero"

    over_samples = False
    per_channel = False

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ValueError(f"window is {self.window}; wanted 1 or more")

    def fit(self, xp: Backend, shape: Shape, groups: int = 1) -> Averaging:
        """See Reference; also ShapeError for a window that does not fit, or has no centre on a map."""
        channels, space = _grouped(shape, groups), shape[1:]
        widest, place = _map(space) if space else (channels, f"the layer, {channels} units")
        k = WINDOW if self.window is None else self.window
        if space and k % 2 == 0:
            raise ShapeError(f"a window of {k} has no centre on a map. Take an odd one.")
        if self.window is None or self.border == "zero":
            k = _fitting(k, widest, place, shrinks=self.window is None)
        axes: tuple[int, ...] = ()
        if space:
            box, axes = Box.fit(xp, (space[0], space[1]), (k, k), self.border), (2 if groups > 1 else 1,)
            elements = channels * min(k, space[0]) * min(k, space[1])
        else:
            box, elements = Box.fit(xp, (1, channels), (1, k), self.border), min(k, channels)
        if elements == 1:
            raise ShapeError(f"samples are {shape}: a window of {k} holds a single number. Take a wider one.")
        return Averaging(shape, groups, axes, box, False)


def sp1() -> Axes:
    """One statistic per sample, over all its channels and places: the reference of layer normalization.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2, SP1.
    """
    return Axes(("C", "H", "W"))


def sp2() -> Axes:
    """One per sample and channel, over its places: the reference of instance normalization.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2, SP2.
    """
    return Axes(("H", "W"))


def sp3(window: int | None = None) -> Axes:
    """One per place of each sample, over a window and all channels.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2, SP3.
    """
    return _windowed("CHW", window)


def sp4(window: int | None = None) -> Axes:
    """One per place and channel of each sample, over a window.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2, SP4.
    """
    return _windowed("HW", window)


def sp5() -> Axes:
    """One per place of each sample, over all channels there.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2, SP5.
    """
    return Axes(("C",))


def ba1() -> Axes:
    """One per channel, over samples and places: the reference of batch normalization.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2, BA1.
    """
    return Axes(("N", "H", "W"))


def ba2() -> Axes:
    """One for the layer, over samples, channels and places.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2, BA2.
    """
    return Axes(("N", "C", "H", "W"))


def ba3(window: int | None = None) -> Axes:
    """One per place, over samples, a window and all channels.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2, BA3.
    """
    return _windowed("NCHW", window)


def ba4(window: int | None = None) -> Axes:
    """One per place and channel, over samples and a window.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2, BA4.
    """
    return _windowed("NHW", window)


def ba5() -> Axes:
    """One per place, over samples and all channels.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2, BA5.
    """
    return Axes(("N", "C"))


def ba6() -> Axes:
    """One per neuron, over samples: neuron-wise normalization.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2, BA6.
    """
    return Axes(("N",))


def _windowed(letters: str, window: int | None) -> Axes:
    over: list[Letter] = [letter for letter in ("N", "C", "H", "W") if letter in letters]
    return Axes(over, WINDOW, shrinks=True) if window is None else Axes(over, window)


def _map(space: Shape) -> tuple[int, str]:
    """How wide a window with a centre can be on a map, and the map in words."""
    least = min(space)
    return least - (least % 2 == 0), f"the map, {space[0]} x {space[1]}"


def _fitting(window: int, widest: int, place: str, shrinks: bool) -> int:
    """The window, or the widest that fits, where it may shrink."""
    if window > widest and not shrinks:
        raise ShapeError(f"a window of {window} is larger than {place}. Take one of at most {widest}.")
    return min(window, widest)


def _grouped(shape: Shape, groups: int) -> int:
    """Channels of one group."""
    if groups < 1 or shape[0] % groups:
        raise ShapeError(
            f"{shape[0]} channels cannot be {groups} groups of equal size. Take a number that divides them."
        )
    return shape[0] // groups


def _shares(size: int, window: int, border: Border) -> list[list[float]]:
    """What each of ``size`` elements has of the average around each: (place, element)."""
    before, after = (window - 1) // 2, window // 2
    held = [[float(i - before <= j <= i + after) for j in range(size)] for i in range(size)]
    return [[one / (window if border == "zero" else sum(row)) for one in row] for row in held]


def _along(x: Array, shares: Array) -> Array:
    """shares @ x of (N, places, numbers), as one product where there is one number at a place."""
    return (x[..., 0] @ shares.T)[..., None] if x.shape[-1] == 1 else shares @ x
