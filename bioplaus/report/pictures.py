"""What a generative network would draw, on one page each: reconstructions, samples, filters, the way of an image."""

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
from bioplaus.report.page import Page, Way, about_zero, title

FILTERS = 96  # drawn at most
LAYERS = 8
CLASSES = 10  # bars of a posterior
NAMED = 20  # classes of a strip
NAME = 12  # letters of a class
CARRIED = 0.9  # of the contribution, by the units that are drawn
RIGHT, WRONG = "#1b7837", "#c51b4a"
NEVER = "never\ninferred"
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
    title(page.figure, "Test images and their reconstructions", f"below each pair the class inferred{note}")
    for row, column, text, colour in captions:
        page.caption(row, column, text, colour)
    return page.figure


def samples(x: Array, found: Array, names: Sequence[str], span: tuple[float, float], note: str = "") -> Any:
    """Images drawn from the model: x (classes, k, C, H, W) or (classes, k, features), a column per class.

    They are faint where independent switches seldom agree, so they have their own contrast, and the page says which.

    Parameters
    ----------
    found (classes,) : how many images were inferred as each class; one that never was has no chances to draw by
    """
    x = _inferred(x, found)
    classes, k = x.shape[:2]
    tiles = images(x.reshape((classes * k, *x.shape[2:])))
    low, high = span
    brightest = float(x.max(initial=low, where=np.isfinite(x)))
    own = about_zero(x) if low < 0.0 else (low, brightest if brightest > low else high)
    contrast = (
        ""
        if low < 0.0
        else f"; white is {100.0 * (own[1] - low) / ((high - low) or 1.0):.0f} % of a test image's white"
    )
    tiles = tiles.reshape((classes, k, *tiles.shape[1:])).swapaxes(0, 1)
    page = Page(tiles, own, [_short(name) for name in names])
    title(
        page.figure,
        "Samples from the model",
        f"independent switches, with their chances given the class{contrast}{note}",
    )
    _say_never(page, found, k)
    return page.figure


def templates(x: Array, found: Array, names: Sequence[str], span: tuple[float, float], note: str = "") -> Any:
    """The template of each class, x (classes, ...), with the number of images it is the mean of."""
    page = Page(images(_inferred(x, found))[None], span, [_short(name) for name in names], room=0.3)
    title(
        page.figure,
        "Class templates",
        f"mean reconstruction of the images inferred as each class; below, their number{note}",
    )
    for column, number in enumerate(found):
        page.caption(0, column, f"{int(number):,}")
    _say_never(page, found, 1)
    return page.figure


def liked(x: Array, starts: Array, templates: Array, found: Array, names: Sequence[str], note: str = "") -> Any:
    """The image that each class likes best, between where the climb began and the class's template.

    Parameters
    ----------
    x, starts, templates : arrays (classes, ...); templates are drawn as long as x
    found (classes,) : how many images were inferred as each class
    """
    as_long = templates * _each(_norm(x) / np.maximum(_norm(templates), 1e-30), x)
    tiles = np.stack([images(_inferred(each, found)) for each in (starts, x, as_long)])
    page = Page(tiles, about_zero(tiles), [_short(name) for name in names])
    ascent = "ascent of each class's output at fixed norm, from the test image where it ends highest"
    title(page.figure, "Activation maximization", f"{ascent}{_grey(x)}{note}")
    for row, name in enumerate(("start", "maximum", "template")):
        page.side(row, name)
    still = np.abs(x - starts).reshape(len(x), -1).max(1) <= 1e-4 * np.abs(starts).reshape(len(x), -1).max(1)
    for column in np.flatnonzero(still & (found > 0)):  # norms may let every turn go down
        page.bare(1, int(column), "no ascent:\nthe start")
    _say_never(page, found, 3)
    return page.figure


def filters(x: Array, layer: str) -> Any:
    """What the units of a layer draw, x (units, ...), the ``FILTERS`` of largest norm, each in its own scale."""
    norms = _norm(x)
    order = np.argsort(-norms, kind="stable")[:FILTERS]
    largest = np.array([about_zero(x[unit])[1] for unit in order])
    tiles = images(x[order] / _each(largest, x))
    columns = max(1, min(len(tiles), round((1.8 * len(tiles)) ** 0.5)))
    page = Page(rows(tiles, columns), (-1.0, 1.0), room=0.2)
    some = f"{FILTERS} of {len(x)} units" if len(x) > FILTERS else f"{len(x)} units"
    title(
        page.figure,
        f"Filters of {layer}",
        f"{some} by norm (below, relative to the largest), each in its own scale{_grey(x)}",
    )
    for place, unit in enumerate(order):
        row, column = divmod(place, columns)
        page.caption(row, column, f"{norms[unit] / (norms.max() or 1.0):.2f}")
    return page.figure


def trace(
    index: int,
    label: int,
    inferred: int,
    posterior: Array,
    names: Sequence[str],
    image: Array,
    reconstruction: Array,
    saliency: Array,
    layers: Sequence[tuple[str, Array, Array]],
) -> Any:
    """The way of one image up through a network and down again, a column per layer; in red where it ends wrong.

    Parameters
    ----------
    label, inferred : whole numbers
    posterior (classes,) : q(c | image)
    image, reconstruction, saliency : arrays (C, H, W) or (features,)
    layers : name, contribution of every unit, which units carry ``CARRIED`` of it; both (C, H, W) or (units,)
    """
    shown = [layers[i] for i in np.linspace(0, len(layers) - 1, min(len(layers), LAYERS)).round().astype(int)]
    way = Way(2 + len(shown))
    many = f"; {len(shown)} of {len(layers)} layers" if len(shown) < len(layers) else ""
    about = (
        f"layers: above, how many units carry {100 * CARRIED:.0f} % of the contribution; below, the contribution{many}"
    )
    verdict = f"Test image {index}, class {names[label]}, inferred as {names[inferred]}"
    title(way.figure, verdict, about, "black" if label == inferred else WRONG)
    span = float(image.min()), float(image.max())
    way.tile(0, 0, images(image[None])[0], span, "image")
    way.tile(1, 0, images(reconstruction[None])[0], span, "reconstruction")
    _bars(way, posterior, names)
    way.signed(1, images(saliency[None])[0].sum(0, keepdims=True), "pixel contribution")
    for column, (name, contribution, carrying) in enumerate(shown, 2):
        on = _map(carrying.astype(float))
        above = way.tile(0, column, on, (0.0, float(on.max()) or 1.0), name)
        most = f"\nat most {on.max():.0f} at a place" if carrying.ndim == 3 else ""
        above.set_xlabel(f"{carrying.sum():,} of {carrying.size:,}{most}", fontsize=8)
        below = way.signed(column, _map(contribution), "contribution")
        if column == 1 + len(shown) and contribution.shape == (len(names),):
            named = range(len(names)) if len(names) <= NAMED else [inferred]
            for axes in (above, below):
                axes.set_yticks(named, [_short(names[c]) for c in named], fontsize=7, parse_math=False)
                axes.tick_params(length=0)
    return way.figure


def _unwritten(folder: Path, why: str | None) -> str:
    return f"{folder}: cannot be written ({why}). Name another folder with --out."


def _grey(x: Array) -> str:
    """What a page in colours says of signed values, in the place of a bar."""
    return "; grey is 0" if images(x).shape[1] == 3 else ""


def _norm(x: Array) -> Array:
    """(n, ...) -> (n,)."""
    return np.sqrt(np.square(x).reshape((len(x), -1)).sum(1))


def _each(values: Array, x: Array) -> Array:
    """(n,) -> (n, 1, ...), a number for each of x (n, ...)."""
    return values.reshape((-1, *(1 for _ in x.shape[1:])))


def _inferred(x: Array, found: Array) -> Array:
    """Of (classes, ...), not a number where a class was never inferred."""
    return np.where(_each(found, x) > 0, x, np.nan)


def _say_never(page: Page, found: Array, deep: int) -> None:
    """In every tile of a class that was never inferred."""
    for column in np.flatnonzero(found == 0):
        for row in range(deep):
            page.bare(row, int(column), NEVER)


def _map(x: Array) -> Array:
    """(C, H, W) or (units,) -> (1, H, W): summed over channels; a vector is an upright strip."""
    return x.sum(0, keepdims=True) if x.ndim == 3 else images(x[None])[0].swapaxes(1, 2)


def _bars(way: Way, posterior: Array, names: Sequence[str]) -> None:
    """The largest first, and darker; names in long bars, and behind short ones."""
    order = np.argsort(-posterior, kind="stable")[:CLASSES]
    axes = way.place(0, 1)
    axes.barh(range(len(order)), posterior[order], color=["#4d4d4d", *["#bbbbbb"] * (len(order) - 1)])
    for row, c in enumerate(order):
        inside, colour = ("right", "white") if posterior[c] > 0.5 else ("left", "black")
        x = posterior[c] + (-0.03 if posterior[c] > 0.5 else 0.03)
        axes.text(x, row, _short(names[c]), ha=inside, va="center", fontsize=8, color=colour, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xticks=[0, 1], yticks=[])
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("q(class | image)", fontsize=10)


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
