"""One server of command lines for all end-to-end tests, which find its module as ``program``."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location("program", Path(__file__).with_name("program.py"))
assert _spec and _spec.loader
programs: Any = importlib.util.module_from_spec(_spec)
sys.modules["program"] = programs
_spec.loader.exec_module(programs)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    with programs.serving(tmp_path_factory.mktemp("endtoend")) as found:
        yield found


@pytest.fixture
def program(server: Any, tmp_path: Path) -> Any:
    """``bioplaus``, in the test's own empty folder."""
    return replace(server, folder=tmp_path)
