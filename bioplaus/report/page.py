"""A page of tiles, and what is painted on it: where everything lies, in inches.

Values of at least 0 are grey, signed ones blue to red about 0. Figures know nothing of pyplot and its state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.report.mosaic import mosaic

FAINT, BARE = "#666666", "#f0f0f0"
SIGNED, GREY = "RdBu_r", "gray"
WIDE, LARGEST, TALLEST = 10.0, 1.1, 2.75  # inches: a page's width, a tile's width and height at most
MARGIN, HEAD = 0.3, 0.75  # inches
WIDEST, WAY, BETWEEN = 15.0, 2.0, 0.25  # inches: a way's width, and a tile's, at most; between two tiles
FINE = 40  # pixels of a tile at least


class Page:
    """Rows and columns of tiles of one size, with a title, names over columns and room for a line below each tile.

    Parameters
    ----------
    tiles : array (rows, columns, 1 or 3, H, W)
    span : least and greatest value drawn; with a colour bar where they are signed
    heads : over the columns
    room : of the line below each tile, in inches
    """

    def __init__(self, tiles: Array, span: tuple[float, float], heads: Sequence[str] = (), room: float = 0.06) -> None:
        fine = -(-FINE // tiles.shape[-1])  # small tiles in more pixels, for gaps that are narrower than one of theirs
        tiles = tiles.repeat(fine, -1).repeat(fine, -2)
        across = tiles.shape[1]
        self.height, self.width = map(int, tiles.shape[3:])
        across_at_most = min(LARGEST, (WIDE - 2 * MARGIN) / across - 0.06, TALLEST * self.width / self.height)
        inch = self.width / across_at_most  # in pixels
        self.gaps = max(1, round(room * inch)), max(1, round(0.06 * inch))
        whole = mosaic(tiles, self.gaps)
        wide, high = whole.shape[2] / inch, whole.shape[1] / inch
        bar = 0.9 if span[0] < 0.0 and len(whole) == 1 else 0.0
        self.size = max(wide + 2 * MARGIN + bar, 6.5), high + HEAD + (0.25 if heads else 0.0) + room + MARGIN / 2
        self.wide = wide
        self.figure = new_figure(*self.size)
        self.axes = axes_at(self.figure, MARGIN, room + MARGIN / 2, wide, high)
        drawn = paint(self.axes, whole, span)
        if bar:
            tall = min(high, 2.0)
            axes = axes_at(self.figure, MARGIN + wide + 0.15, room + MARGIN / 2 + high - tall, 0.12, tall)
            self.figure.colorbar(drawn, cax=axes).ax.tick_params(labelsize=8)
            axes.locator_params(nbins=5)
        for column, head in enumerate(heads):
            at = self._middle(column), -0.5 - 0.06 * inch
            self.axes.text(*at, head, ha="center", va="bottom", weight="bold", fontsize=9, parse_math=False)

    def caption(self, row: int, column: int, text: str, colour: str = FAINT) -> None:
        """A line below a tile."""
        y = self._top(row) + self.height - 0.5 + 0.1 * self.gaps[0]
        self.axes.text(self._middle(column), y, text, ha="center", va="top", fontsize=8, color=colour, parse_math=False)

    def side(self, row: int, text: str) -> None:
        """A name left of a row."""
        y = self._top(row) + (self.height - 1) / 2
        at = {"ha": "center", "va": "center", "rotation": 90, "transform": self.axes.get_yaxis_transform()}
        self.axes.text(-0.5 * MARGIN / self.wide, y, text, fontsize=9, weight="bold", parse_math=False, **at)

    def bare(self, row: int, column: int, text: str) -> None:
        """Words in the place of a tile."""
        from matplotlib.patches import Rectangle

        corner = self._middle(column) - self.width / 2, self._top(row) - 0.5
        self.axes.add_patch(Rectangle(corner, self.width, self.height, facecolor=BARE))
        y = self._top(row) + (self.height - 1) / 2
        self.axes.text(self._middle(column), y, text, ha="center", va="center", fontsize=8, color=FAINT)

    def _top(self, row: int) -> float:
        return float(row * (self.height + self.gaps[0]))

    def _middle(self, column: int) -> float:
        return float(column * (self.width + self.gaps[1]) + (self.width - 1) / 2)


class Way:
    """Two rows of large tiles, so many columns; room for a title over each, and for a line or a bar below."""

    def __init__(self, columns: int) -> None:
        self.side = min(WAY, (WIDEST - 2 * MARGIN) / columns - BETWEEN)
        self.figure = new_figure(2 * MARGIN + columns * (self.side + BETWEEN) - BETWEEN, 2 * self.side + 2.05)

    def place(self, row: int, column: int) -> Any:
        """Axes of a tile."""
        left, bottom = MARGIN + column * (self.side + BETWEEN), 0.4 + (1 - row) * (self.side + 0.65)
        return axes_at(self.figure, left, bottom, self.side, self.side)

    def tile(self, row: int, column: int, image: Array, span: tuple[float, float], name: str) -> Any:
        """The axes of an image, (1 or 3, H, W)."""
        axes = self.place(row, column)
        paint(axes, image, span)
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("#cccccc")
        axes.set_title(name, fontsize=10, parse_math=False)
        return axes

    def signed(self, column: int, image: Array, name: str) -> Any:
        """An image of signed values below, (1, H, W), with a bar of its own."""
        low, high = about_zero(image)
        axes = self.tile(1, column, image, (low, high), name)
        beneath = axes_at(self.figure, MARGIN + column * (self.side + BETWEEN), 0.28, self.side, 0.06)
        bar = self.figure.colorbar(axes.images[0], cax=beneath, orientation="horizontal")
        bar.set_ticks([low, 0.0, high], labels=[f"−{high:.3g}", "0", f"{high:.3g}"])
        bar.ax.tick_params(labelsize=7, length=2)
        for text, end in zip(bar.ax.get_xticklabels(), ("left", "center", "right"), strict=True):
            text.set_ha(end)
        return axes


def new_figure(width: float, height: float) -> Any:
    """In inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white")


def axes_at(figure: Any, left: float, bottom: float, wide: float, high: float) -> Any:
    """Axes on a figure, in inches."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, wide / width, high / height))


def title(figure: Any, what: str, more: str, colour: str = "black") -> None:
    """What a figure shows, and in smaller letters what else to know."""
    width, height = figure.get_size_inches()
    x = MARGIN / width
    figure.text(x, 1 - 0.15 / height, what, va="top", weight="bold", fontsize=13, color=colour, parse_math=False)
    figure.text(x, 1 - 0.42 / height, more, va="top", fontsize=9, color=FAINT, parse_math=False)


def paint(axes: Any, image: Array, span: tuple[float, float]) -> Any:
    """(1 or 3, H, W) on the axes; white where it is not a number. What a colour bar needs, None for colours."""
    axes.set_axis_off()
    low, high = span if span[0] >= 0.0 else about_zero(np.array(span))
    if len(image) == 1:
        return axes.imshow(image[0], cmap=SIGNED if low < 0 else GREY, vmin=low, vmax=high, interpolation="nearest")
    there = np.isfinite(image[0])
    seen = np.clip((image - low) / ((high - low) or 1.0), 0.0, 1.0)
    axes.imshow(np.where(there, np.concatenate([seen, there[None]]), 0.0).transpose(1, 2, 0), interpolation="nearest")
    return None


def about_zero(x: Array) -> tuple[float, float]:
    """As far below 0 as above; of the finite ones."""
    most = float(np.abs(x).max(initial=0.0, where=np.isfinite(x))) or 1.0
    return -most, most
