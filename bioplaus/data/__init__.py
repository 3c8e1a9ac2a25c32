"""Data sets: found by name or path, verified, and given as arrays on the host."""

from bioplaus.data.dataset import Dataset, Source, Split
from bioplaus.data.loading import find, load
from bioplaus.data.preprocess import Preprocess, fit

__all__ = ["Dataset", "Preprocess", "Source", "Split", "find", "fit", "load"]
