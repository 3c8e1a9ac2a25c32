"""What many tests share: a local random generator, the data directory, every backend in turn."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from bioplaus.backend.base import Backend

# A law that holds does so on a busy machine too, and fails tomorrow on the example it failed on today.
settings.register_profile("bioplaus", deadline=None, derandomize=True, database=None)
settings.load_profile("bioplaus")

BACKENDS = {"numpy": "NumPy", "torch": "Torch", "cupy": "CuPy"}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The directory with real data sets, named by BIOPLAUS_DATA; without one the test is skipped."""
    named = os.environ.get("BIOPLAUS_DATA")
    if not named:
        pytest.skip("BIOPLAUS_DATA names no directory of real data sets")
    return Path(named)


@pytest.fixture(params=["numpy", "torch", pytest.param("cupy", marks=pytest.mark.gpu)])
def backends(request: pytest.FixtureRequest) -> Callable[..., Backend]:
    """Each backend in turn, as its class: ``xp = backends(dtype="float64")``."""
    pytest.importorskip(request.param)
    return getattr(importlib.import_module(f"bioplaus.backend.{request.param}"), BACKENDS[request.param])
