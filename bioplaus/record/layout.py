"""The documented tree of a log: which tables there are, and what each column means.

A new table or column is one entry here. What has no entry may be recorded all the same: it gets units "1"
and its own name, or the description handed to ``Log.describe``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

SCHEMA = "bioplaus-log/1"
ROW = "step"  # the row dimension of every table, and a column of each


@dataclass(frozen=True)
class Column:
    """What a column holds.

    units, long_name: as in the CF conventions, "1" where there is no unit · dims: names of the axes of one
    row, one tuple per number of axes it may have · dtype: of what is stored, None as it comes · fill: rows may
    differ in length, shorter ones end in this.
    """

    units: str = "1"
    long_name: str = ""
    dims: tuple[tuple[str, ...], ...] = ()
    dtype: str | None = None
    fill: int | None = None


_unit = (("unit",), ("time", "unit"))
_samples = (("sample", "unit"), ("time", "sample", "unit"), ("sample", "unit", "y", "x"))
_classes = (("class", "feature"), ("class", "channel", "y", "x"))
_weights = (("in", "out"), ("out", "in", "kh", "kw"))


def _per_unit(long_name: str) -> Column:
    return Column("1", long_name, _unit)


def _number(long_name: str, units: str = "1") -> Column:
    return Column(units, long_name, dtype="float64")


def _count(long_name: str) -> Column:
    return Column("1", long_name, dtype="int64")


EVERYWHERE: Mapping[str, Column] = {
    ROW: _count("updates made when the row was written"),
    "*_seconds": _number("* time by the clock on the wall", "s"),
}
TABLES: Mapping[str, Mapping[str, Column]] = {
    "metrics/*": {
        "epoch": _count("epochs completed"),
        "samples": _count("samples the scores are of"),
        "loss": _number("loss per sample"),
        "loss_*": _number("loss per sample, term * before its weight"),
        "error": _number("share of samples classified wrongly", "%"),
        "perplexity": _number("exponential of the loss per symbol of a text"),
        "rate": _number("learning rate"),
    },
    "batches": {
        "index": Column("1", "places of the batch's samples in the data set; -1 pads", (("sample",),), "int64", -1),
    },
    "layers/*/norm": {
        "mean": _per_unit("mean that normalization takes away"),
        "sigma": _per_unit("deviation that normalization divides by"),
        "long_mean": _per_unit("streamed over updates: mean"),
        "long_sigma": _per_unit("streamed over updates: deviation"),
        "short_mean": _per_unit("streamed since the last update: mean"),
        "short_sigma": _per_unit("streamed since the last update: deviation"),
        "long_dmean": _per_unit("streamed over updates: error at the mean"),
        "long_dsigma": _per_unit("streamed over updates: error at the deviation"),
        "short_dmean": _per_unit("streamed since the last update: error at the mean"),
        "short_dsigma": _per_unit("streamed since the last update: error at the deviation"),
        "penalty": Column("1", "what the norm adds to the loss of a sample, on average", (("time",),), "float64"),
    },
    "layers/*/activity": {
        "mean": _per_unit("mean activity"),
        "std": _per_unit("standard deviation of activity"),
        "sparsity": _per_unit("share of samples in which the unit is silent"),
        "kurtosis": _per_unit("kurtosis of activity"),
        "samples": Column("1", "activity in a fixed probe batch", _samples),
    },
    "layers/*/rendering": {
        "use": _per_unit("share of a probe batch and its places in which the unit's switch is on, pi_a"),
        "error": _number("mean square of the layer's input less what the layer renders of it"),
    },
    "templates": {
        "image": Column("1", "mean of what is rendered of a probe batch's images inferred as the class", _classes),
        "found": Column("1", "how many were inferred as the class", (("class",),)),
    },
    "layers/*/feedback": {
        "sign_agreement": _number("share of weights whose V and W have the same sign"),
        "angle": _number("angle between W and the V that was used", "degree"),
        "norm_ratio": _number("norm of V over norm of W"),
        "angle_to_gradient": _number("angle between dW and the true gradient", "degree"),
    },
    "layers/*/update": {
        "dW_norm": _number("norm of the accumulated dW"),
        "step_norm": _number("norm of the step on W"),
        "changed_sign": _number("share of weights that changed sign"),
    },
    "layers/*/weights": {
        "W": Column("1", "feedforward weights", _weights),
        "V": Column("1", "feedback weights", _weights),
        "dW": Column("1", "what the layer accumulated, to be subtracted", _weights),
    },
    "layers/*/pruning": {
        "alive": _number("share of synapses or neurons that exist"),
        "use": _per_unit("estimated use of what exists, mean of each unit's"),
    },
}


def column(table: str, name: str) -> Column:
    """What ``name`` means in ``table``; of an unknown one, units "1" and its name in words."""
    entries = {key: value for path, part in TABLES.items() if fnmatchcase(table, path) for key, value in part.items()}
    for pattern, found in (entries | dict(EVERYWHERE)).items():
        if fnmatchcase(name, pattern):
            head, _, tail = pattern.partition("*")
            matched = name.removeprefix(head).removesuffix(tail).replace("_", " ")
            return replace(found, long_name=found.long_name.replace("*", matched))
    return Column(long_name=name.replace("_", " "))


def numbered(axis: str) -> dict[str, str]:
    """Attributes of the coordinate of an axis other than the rows': 0, 1, 2, ..."""
    return {"units": "1", "long_name": f"number of the {axis.replace('_', ' ')}, from 0"}


def axes(name: str, what: Column, ndim: int) -> tuple[str, ...]:
    """Names of the axes of one row of column ``name``, without the row dimension itself."""
    return next((dims for dims in what.dims if len(dims) == ndim), tuple(f"{name}_{i}" for i in range(ndim)))
