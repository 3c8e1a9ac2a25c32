"""YAML in, frozen plain values out: what a run is a function of."""

from bioplaus.config.choices import choices, original, where
from bioplaus.config.dump import dump
from bioplaus.config.files import find, shipped
from bioplaus.config.layers import LayerItem, size, sized, states, walk, weighted
from bioplaus.config.load import check_file, load
from bioplaus.config.schema import Config, Every, Network, Origins, Phase, Training, json_schema

__all__ = [
    "Config",
    "Every",
    "LayerItem",
    "Network",
    "Origins",
    "Phase",
    "Training",
    "check_file",
    "choices",
    "dump",
    "find",
    "json_schema",
    "load",
    "original",
    "shipped",
    "size",
    "sized",
    "states",
    "walk",
    "weighted",
    "where",
]
