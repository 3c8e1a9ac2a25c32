"""Fully connected: n = x W + b."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bioplaus.backend.base import Array, Backend
from bioplaus.construct import Size
from bioplaus.errors import ShapeError
from bioplaus.layers.initial import Initial
from bioplaus.parts import Site, Unit


@dataclass(frozen=True)
class DenseMap:
    """x (..., N, in) through W (in, out)."""

    xp: Backend
    input: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(in, out)."""
        return self.input + self.output

    @property
    def unit_shape(self) -> tuple[int, ...]:
        """(1, out)."""
        return (1, *self.output)

    @property
    def fan_in(self) -> int:
        """Inputs of one unit."""
        return self.input[0]

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """(1, out)."""
        return (1, *self.output)

    def up(self, x: Array, W: Array, b: Array | None = None) -> Array:
        """x W + b."""
        return self.xp.linear(x, W, b)

    def down(self, n: Array, V: Array) -> Array:
        """n V^T."""
        return self.xp.linear_down(n, V)

    def outer(
        self, x: Array, n: Array, out: Array, scale: float = 1.0, keep: float = 1.0, bias: Array | None = None
    ) -> None:
        """out <- keep out + scale x^T n."""
        self.xp.linear_outer(x, n, out, scale, keep, bias)

    input_axis: ClassVar[int] = 0  # of W

    def gram(self, u: Array, out: Array) -> None:
        """out (o, o) += sum over samples of u u: the normal matrix of ||x - down(u, W)||^2, one for all inputs."""
        self.xp.linear_outer(u, u, out, 1.0, 1.0)


@dataclass(frozen=True)
class Dense:
    """A fully connected layer of ``units``.

    Source: Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating errors.
    """

    has_weights: ClassVar[bool] = True
    units: Size
    init: Initial = None
    bias: bool = True

    def place(self, site: Site, shape: tuple[int, ...]) -> tuple[Unit, tuple[int, ...]]:
        """Takes flat samples."""
        if len(shape) != 1:
            given = "×".join(map(str, shape)) or "whole numbers"
            raise ShapeError(
                f"layer {site.name!r}: dense wants a flat input, given {given}. "
                "Put flatten or globalmeanpool before it."
            )
        return site.node(DenseMap(site.xp, shape, (self.units,)), self.init, self.bias), (self.units,)
