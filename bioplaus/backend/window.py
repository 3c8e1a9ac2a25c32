"""Where the windows of a convolution or a pooling lie on a map."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """k x k windows moved over a padded map.

    Attributes
    ----------
    kernel, stride : (height, width)
    pad : (top, bottom, left, right)     rows and columns added on each side
    size : (height, width)               of the map the windows lie on
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int, int, int]
    size: tuple[int, int]

    @property
    def output(self) -> tuple[int, int]:
        """How many windows fit: (rows, columns)."""
        (kh, kw), (sh, sw), (top, bottom, left, right), (h, w) = self.kernel, self.stride, self.pad, self.size
        return (h + top + bottom - kh) // sh + 1, (w + left + right - kw) // sw + 1

    @property
    def is_symmetric(self) -> bool:
        """Whether the same padding lies on opposite sides."""
        top, bottom, left, right = self.pad
        return top == bottom and left == right
