"""What a generative network would draw, on one page each: reconstructions, samples, templates, filters, the way of one.

Values of at least 0 are grey, signed ones blue to red about 0. Figures know nothing of pyplot and its state.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.errors import PartError, UserError
from bioplaus.report.mosaic import images, mosaic, rows

FILTERS = 96  # drawn at most
LAYERS = 8
CLASSES = 10  # bars of a posterior
NAME = 12  # letters of a class
RIGHT, WRONG, FAINT = "#1b7837", "#c51b4a", "#666666"
SIGNED, GREY = "RdBu_r", "gray"
WIDE, LARGEST, TALLEST = 10.0, 1.1, 2.75  # inches: a page's width, a tile's width and height at most
MARGIN, HEAD = 0.3, 0.75  # inches
FINE = 40  # pixels of a tile at least
DPI = 150


def check(folder: Path) -> None:
    """Whether pictures can be made, and written there; makes nothing.

    Raises
    ------
    PartError       matplotlib is not installed
    UserError       the folder, or the one it would be made in, is a file or not to be written in
    """
    if find_spec("matplotlib") is None:
        raise PartError("pictures need matplotlib, which is not installed. Install bioplaus[plot].")
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists() or place.is_symlink())
    if not there.is_dir():
        raise UserError(_unwritten(folder, f"{there} is no folder"))
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(_unwritten(folder, f"{there} does not let you"))


def save(figures: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Every figure as ``folder/<name>.png``; the folder is made where there is none.

    Raises
    ------
    UserError       nothing can be written there
    """
    drawn = {f"{name}.png": _png(figure) for name, figure in figures.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in drawn.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise UserError(_unwritten(folder, error.strerror)) from error
    return {name.removesuffix(".png"): folder / name for name in drawn}


def reconstructions(
    x: Array,
    rendered: Array,
    labels: Array,
    inferred: Array,
    names: Sequence[str],
    span: tuple[float, float],
    note: str = "",
) -> Any:
    """Images above what is rendered of them, a column per class; below each pair the class inferred.

    Parameters
    ----------
    x, rendered : arrays (n, C, H, W) or (n, features)
    labels, inferred : whole numbers (n,)
    names : of all classes
    span : least and greatest value drawn; what lies outside is drawn as these
    """
    kinds = sorted(set(labels.tolist()))
    places = [np.flatnonzero(labels == kind) for kind in kinds]
    deep = max(map(len, places))
    pairs = np.stack([images(x), images(rendered)], axis=1)[:, :, None]  # (n, 2, 1, C, H, W)
    tall = np.stack([mosaic(pair, (1, 0)) for pair in pairs])
    tiles = np.full((deep, len(kinds), *tall.shape[1:]), np.nan)
    captions = []
    for column, place in enumerate(places):
        tiles[: len(place), column] = tall[place]
        captions += [(row, column, *_verdict(inferred[i], labels[i], names)) for row, i in enumerate(place)]
    page = Page(tiles, span, [_short(names[kind]) for kind in kinds], room=0.3)
    page.title("Test images and what the network renders of them", f"below each pair the class inferred{note}")
    for row, column, text, colour in captions:
        page.caption(row, column, text, colour)
    return page.figure


def samples(x: Array, names: Sequence[str], span: tuple[float, float], note: str = "") -> Any:
    """Images drawn from the model: x (classes, k, C, H, W) or (classes, k, features), a column per class.

    They are faint where independent switches seldom agree, so they have their own contrast, and the page says which.
    """
    classes, k = x.shape[:2]
    tiles = images(x.reshape((classes * k, *x.shape[2:])))
    low, high = span
    brightest = float(x.max())
    own = _about_zero(x) if low < 0.0 else (low, brightest if brightest > low else high)
    contrast = "" if low < 0.0 else f"; white is {(own[1] - low) / ((high - low) or 1.0):.0%} of a test image's white"
    tiles = tiles.reshape((classes, k, *tiles.shape[1:])).swapaxes(0, 1)
    page = Page(tiles, own, [_short(name) for name in names])
    page.title("Images sampled from the model", f"every switch by its chance in the test set{contrast}{note}")
    return page.figure


def templates(x: Array, found: Array, names: Sequence[str], span: tuple[float, float], note: str = "") -> Any:
    """The template of each class, x (classes, ...), with the number of images it is the mean of."""
    page = Page(images(x)[None], span, [_short(name) for name in names], room=0.3)
    page.title("Templates", f"mean of what is rendered of the images inferred as each class; below, their number{note}")
    for column, number in enumerate(found):
        page.caption(0, column, f"{int(number):,}")
    return page.figure


def liked(x: Array, names: Sequence[str], note: str = "") -> Any:
    """The image that each class likes best, x (classes, ...)."""
    page = Page(images(x)[None], _about_zero(x), [_short(name) for name in names])
    page.title(
        "What each class likes best", f"where climbing its output ends, from test images; all of one length{note}"
    )
    return page.figure


def filters(x: Array, layer: str) -> Any:
    """What the units of a layer draw, x (units, ...), the first ``FILTERS``."""
    tiles = images(x[:FILTERS])
    columns = max(1, min(len(tiles), round((1.8 * len(tiles)) ** 0.5)))
    page = Page(rows(tiles, columns), _about_zero(x))
    some = f"the first {FILTERS} of {len(x)} units" if len(x) > FILTERS else f"{len(x)} units"
    page.title(f"What layer {layer} draws", f"{some}, each as it is added to the image{_grey(x)}")
    return page.figure


def trace(
    index: int,
    label: str,
    posterior: Sequence[tuple[str, float]],
    inferred: str,
    image: Array,
    reconstruction: Array,
    saliency: Array,
    layers: Sequence[tuple[str, Array, Array]],
) -> Any:
    """The way of one image up through a network and down again.

    Parameters
    ----------
    posterior : (class, q(c | image)), the largest first
    image, reconstruction, saliency : arrays (C, H, W) or (features,)
    layers : name, contribution of every unit, which units are active; both (C, H, W) or (units,)
    """
    shown = [layers[i] for i in np.linspace(0, len(layers) - 1, min(len(layers), LAYERS)).round().astype(int)]
    figure = _figure(12.0, 7.0, layout="constrained")
    top, below = figure.subfigures(2, 1, height_ratios=[1.0, 1.6])
    verdict = f"Test image {index}, class {label}, inferred as {inferred}"
    top.suptitle(verdict, x=0.01, ha="left", weight="bold", parse_math=False)
    axes = top.subplots(1, 4)
    span = float(image.min()), float(image.max())
    _framed(axes[0], images(image[None])[0], span, "image")
    _framed(axes[1], images(reconstruction[None])[0], span, "reconstruction")
    pixels = images(saliency[None])[0].sum(0, keepdims=True)
    drawn = _framed(axes[2], pixels, _about_zero(pixels), "contribution of the pixels")
    top.colorbar(drawn, ax=axes[2], shrink=0.8).ax.tick_params(labelsize=8)
    _bars(axes[3], posterior[:CLASSES], "q(class | image)")
    many = f", {len(shown)} of {len(layers)} layers" if len(shown) < len(layers) else ""
    about = "above, how many units are on an active path; below, what they contribute"
    below.suptitle(f"Layer by layer{many}: {about}", x=0.01, ha="left", fontsize=10, color=FAINT)
    grid = below.subplots(2, len(shown), squeeze=False)
    for column, (name, contribution, active) in enumerate(shown):
        on, summed = _map(active.astype(float)), _map(contribution)
        _framed(grid[0, column], on, (0.0, float(on.max()) or 1.0), name)
        _framed(grid[1, column], summed, _about_zero(summed), "")
        grid[0, column].set_xlabel(f"{active.sum():,} of {active.size:,} ({active.mean():.0%})", fontsize=8)
    return figure


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
        self.figure = _figure(*self.size)
        self.axes = self._axes(MARGIN, room + MARGIN / 2, wide, high)
        drawn = _paint(self.axes, whole, span)
        if bar:
            tall = min(high, 2.0)
            axes = self._axes(MARGIN + wide + 0.15, room + MARGIN / 2 + high - tall, 0.12, tall)
            self.figure.colorbar(drawn, cax=axes).ax.tick_params(labelsize=8)
        for column, head in enumerate(heads):
            at = self._middle(column), -0.5 - 0.06 * inch
            self.axes.text(*at, head, ha="center", va="bottom", weight="bold", fontsize=9, parse_math=False)

    def title(self, what: str, more: str) -> None:
        """What the page shows, and in smaller letters what else to know."""
        x, high = MARGIN / self.size[0], self.size[1]
        self.figure.text(x, 1 - 0.15 / high, what, va="top", weight="bold", fontsize=13, parse_math=False)
        self.figure.text(x, 1 - 0.42 / high, more, va="top", fontsize=9, color=FAINT, parse_math=False)

    def caption(self, row: int, column: int, text: str, colour: str = FAINT) -> None:
        """A line below a tile."""
        y = row * (self.height + self.gaps[0]) + self.height - 0.5 + 0.1 * self.gaps[0]
        self.axes.text(self._middle(column), y, text, ha="center", va="top", fontsize=8, color=colour, parse_math=False)

    def _axes(self, left: float, bottom: float, wide: float, high: float) -> Any:
        """In inches."""
        return self.figure.add_axes(
            (left / self.size[0], bottom / self.size[1], wide / self.size[0], high / self.size[1])
        )

    def _middle(self, column: int) -> float:
        return float(column * (self.width + self.gaps[1]) + (self.width - 1) / 2)


def _unwritten(folder: Path, why: str | None) -> str:
    return f"{folder}: cannot be written ({why}). Name another folder with --out."


def _figure(width: float, height: float, **how: Any) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white", **how)


def _paint(axes: Any, image: Array, span: tuple[float, float]) -> Any:
    """(1 or 3, H, W) on the axes; white where it is not a number. What a colour bar needs, None for colours."""
    axes.set_axis_off()
    low, high = span if span[0] >= 0.0 else _about_zero(np.array(span))
    if len(image) == 1:
        return axes.imshow(image[0], cmap=SIGNED if low < 0 else GREY, vmin=low, vmax=high, interpolation="nearest")
    there = np.isfinite(image[0])
    seen = np.clip((image - low) / ((high - low) or 1.0), 0.0, 1.0)
    axes.imshow(np.where(there, np.concatenate([seen, there[None]]), 0.0).transpose(1, 2, 0), interpolation="nearest")
    return None


def _about_zero(x: Array) -> tuple[float, float]:
    """As far below 0 as above."""
    most = float(np.abs(x).max()) or 1.0
    return -most, most


def _grey(x: Array) -> str:
    """What a page in colours says of signed values, in the place of a bar."""
    return "; grey is 0" if images(x).shape[1] == 3 else ""


def _map(x: Array) -> Array:
    """(C, H, W) or (units,) -> (1, H, W): summed over channels; a vector is a strip."""
    return x.sum(0, keepdims=True) if x.ndim == 3 else images(x[None])[0]


def _framed(axes: Any, image: Array, span: tuple[float, float], title: str) -> Any:
    drawn = _paint(axes, image, span)
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#cccccc")
    axes.set_title(title, fontsize=10, parse_math=False)
    return drawn


def _bars(axes: Any, shares: Sequence[tuple[str, float]], title: str) -> None:
    """The first one darker."""
    names, long = zip(*shares, strict=True)
    axes.barh(range(len(long)), long, color=["#4d4d4d", *["#bbbbbb"] * (len(long) - 1)])
    axes.set_yticks(range(len(long)), [_short(name) for name in names], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=10)


def _verdict(inferred: int, label: int, names: Sequence[str]) -> tuple[str, str]:
    right = inferred == label
    return f"{'✓' if right else '✗'} {_short(names[inferred])}", RIGHT if right else WRONG


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters the font has not
        figure.savefig(out, format="png", dpi=DPI)
    return out.getvalue()
