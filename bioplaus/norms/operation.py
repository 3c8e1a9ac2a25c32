"""NormOp: what is done to the activity with its statistics.

    y = gamma (x - mean) / D + shift,    D = (k0 + k1 q)^(1/p),    q = M |x - c|^p + eps

Members differ in k0, k1, gamma and shift, in which of them are learned, and in how far the averages behind mean and q
reach. ``learns`` names the numbers an operation learns, with the values they start from; where there are any, they
are handed to ``constants`` and ``shift``, and the errors at k0, k1 and shift to ``learned``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from bioplaus.backend.base import Array
from bioplaus.norms.reference import Border, Neighbours, Reference

Numbers = Mapping[str, Array]  # what is learned, one element each
Constant = Any  # a number, or an array of one element


class Operation(Protocol):
    """What is done with mean and q; a part of kind ``norm_op``. ``bounded``: D stays above 0 whatever q and eps."""

    @property
    def learns(self) -> Mapping[str, float]:
        """The numbers it learns, and where they start."""

    @property
    def bounded(self) -> bool:
        """See above."""

    @property
    def gamma(self) -> float:
        """What multiplies the quotient."""

    def references(self, ref: Reference) -> tuple[Reference, Reference]:
        """What mean and q are averages over, given the norm's reference."""

    def constants(self, numbers: Numbers) -> tuple[Constant, Constant]:
        """(k0, k1)."""

    def shift(self, numbers: Numbers) -> Constant:
        """What is added to the quotient."""

    def learned(self, numbers: Numbers, dk0: Array, dk1: Array, dshift: Array) -> dict[str, Array]:
        """The error at each learned number."""


class Standardize:
    """y = (x - mean) / sigma: subtract and divide.

    Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, NormOP.
    """

    learns: ClassVar[Mapping[str, float]] = {}
    bounded: ClassVar[bool] = False  # D may come as close to 0 as eps lets it
    gamma: ClassVar[float] = 1.0

    def references(self, ref: Reference) -> tuple[Reference, Reference]:
        """What mean and q are averages over: the norm's reference, both."""
        return ref, ref

    def constants(self, numbers: Numbers) -> tuple[Constant, Constant]:
        """k0 = 0, k1 = 1."""
        return 0.0, 1.0

    def shift(self, numbers: Numbers) -> Constant:
        """None."""
        return 0.0

    def learned(self, numbers: Numbers, dk0: Array, dk1: Array, dshift: Array) -> dict[str, Array]:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class Divisive:
    """y = gamma v / (sigma^2 + M_B |v|^p)^(1/p), v = x - M_A x.

    Without windows, A and B are the norm's reference, all alike: batch or layer normalization with a constant sigma.
    ``sum`` gives A a window around each unit, ``suppression`` B (as A where left out); see the reference
    ``neighbours``. ``learn``: sigma learns, starting from ``sigma``.

    Source: NINAI report (2017), eq. 10 to 12; Ren, Liao, Urtasun, Sinz & Zemel (2017), Normalizing the normalizers.
    """

    sigma: float = 1.0
    sum: int | None = None
    suppression: int | None = None
    border: Border = "zero"
    gamma: float = 1.0
    learn: bool = False

    def __post_init__(self) -> None:
        if not self.sigma >= 0.0:
            raise ValueError(f"sigma is {self.sigma}; wanted 0 or more")
        for name in ("sum", "suppression"):
            window = getattr(self, name)
            if window is not None and window < 1:
                raise ValueError(f"{name} is {window}; wanted 1 or more")

    @property
    def bounded(self) -> bool:
        """sigma keeps D away from 0."""
        return self.sigma > 0.0 and not self.learn

    @property
    def learns(self) -> dict[str, float]:
        """Sigma, where asked for."""
        return {"sigma": self.sigma} if self.learn else {}

    def references(self, ref: Reference) -> tuple[Reference, Reference]:
        """The norm's reference, or windows."""
        if self.suppression is not None and self.sum is None and ref.over_samples:
            raise ValueError("suppression is given without sum; give both windows, or sum alone for both")
        A = ref if self.sum is None else Neighbours(self.sum, self.border)
        return A, A if self.suppression is None else Neighbours(self.suppression, self.border)

    def constants(self, numbers: Numbers) -> tuple[Constant, Constant]:
        """k0 = sigma^2, k1 = 1."""
        sigma = numbers["sigma"] if self.learn else self.sigma
        return sigma * sigma, 1.0

    def shift(self, numbers: Numbers) -> Constant:
        """None."""
        return 0.0

    def learned(self, numbers: Numbers, dk0: Array, dk1: Array, dshift: Array) -> dict[str, Array]:
        """The error at sigma."""
        return {"sigma": 2.0 * numbers["sigma"] * dk0} if self.learn else {}


@dataclass(frozen=True)
class GenerativeDivisive:
    """y = v / sqrt(s) + b,  s = (alpha + 1e-10 + M v^2 / (sigma + 1e-5)^2) / 2,  v = x - M x; alpha, sigma, b learned.

    ``window``: of the average around each place, over all channels: the size of the layer's filters; where left out 5,
    or the widest that fits. The divisor is the estimate of a local scale that is drawn from an inverse gamma
    distribution (NINAI report, appendix, with its beta = 1).

    Source: NINAI report (2017), divisive normalization in the DRMM; constants from its authors' code.
    """

    window: int | None = None
    alpha: float = 1.0
    sigma: float = 0.5
    b: float = 0.0

    bounded: ClassVar[bool] = True
    gamma: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if not self.alpha > 0.0 or not self.sigma > 0.0:
            raise ValueError(f"alpha is {self.alpha}, sigma {self.sigma}; wanted numbers above 0")
        Neighbours(self.window)

    @property
    def learns(self) -> dict[str, float]:
        """All three."""
        return {"alpha": self.alpha, "sigma": self.sigma, "b": self.b}

    def references(self, ref: Reference) -> tuple[Reference, Reference]:
        """A window, divided by its whole size at borders too."""
        return Neighbours(self.window), Neighbours(self.window)

    def constants(self, numbers: Numbers) -> tuple[Constant, Constant]:
        """k0 = (alpha + 1e-10) / 2, k1 = 1 / (2 (sigma + 1e-5)^2)."""
        width = numbers["sigma"] + 1e-5
        return (numbers["alpha"] + 1e-10) / 2.0, 0.5 / (width * width)

    def shift(self, numbers: Numbers) -> Constant:
        """B."""
        return numbers["b"]

    def learned(self, numbers: Numbers, dk0: Array, dk1: Array, dshift: Array) -> dict[str, Array]:
        """The errors at alpha, sigma and b."""
        width = numbers["sigma"] + 1e-5
        return {"alpha": dk0 / 2.0, "sigma": -dk1 / (width * width * width), "b": dshift}
