"""What many tests share: a local random generator, the data directory, every backend in turn."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from bioplaus import assemble, config
from bioplaus.backend.base import Backend
from bioplaus.parts import Batch

# A law that holds does so on a busy machine too, and fails tomorrow on the example it failed on today.
settings.register_profile("bioplaus", deadline=None, derandomize=True, database=None)
settings.load_profile("bioplaus")

BACKENDS = {"numpy": "NumPy", "torch": "Torch", "cupy": "CuPy"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is tested on PyTorch is skipped where that is not installed, whatever the parameter is called."""
    if importlib.util.find_spec("torch") is not None:
        return
    for item in items:
        given = getattr(item, "callspec", None)
        if given is not None and any(isinstance(value, str) and value == "torch" for value in given.params.values()):
            item.add_marker(pytest.mark.skip(reason="PyTorch is not installed"))


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


class Engine:
    """Networks built as a run builds them, from a network and a rule written as mappings."""

    @staticmethod
    def net(
        stack: Any,
        input: Any,
        *,
        on: str = "numpy",
        dtype: str = "float64",
        device: str = "cpu",
        classes: int = 3,
        over: int = 0,
        **rule: Any,
    ) -> Any:
        """``stack``: layers as in a network file; ``rule``: what a rule file may hold, and the network's ``loss``.

        ``over``: samples are sequences of so many steps. An empty ``input``: they are symbols.

        In its place, ``shipped`` names a rule file of the package, changed by ``sets`` as on the command line.
        """
        pytest.importorskip(on)
        loss = rule.pop("loss", "softmax_cross_entropy")
        defaults = {"update": {"recipe": "sgd", "rate": 0.1, "momentum": 0.0}, **rule.pop("defaults", {})}
        network = {"network": "tested", "input": list(input) or "symbols", "layers": stack, "loss": loss}
        if over:
            network["pass"] = {"recipe": "recurrent", "steps": over}
        shipped, sets = rule.pop("shipped", None), rule.pop("sets", ())
        settings = config.load(shipped or {"rule": "tested", "defaults": defaults, **rule}, network=network, sets=sets)
        return assemble.assembled(
            settings, classes=classes, xp=assemble.array_library(on, dtype=dtype, device=device, threads=1)
        )

    @staticmethod
    def batch(net: Any, x: Any, y: Any, weight: Any = None) -> Batch:
        """Host arrays as a batch: whole numbers stay whole."""
        xp = net.xp
        x, y = (xp.raw(a) if np.asarray(a).dtype.kind == "i" else xp.array(a) for a in (x, y))
        return Batch(x, y, None if weight is None else xp.array(weight))

    @staticmethod
    def dW(net: Any) -> dict[str, np.ndarray]:
        """What every parameter has accumulated, by its name."""
        return {p.name: net.xp.host(p.dW) for p in net.parameters()}

    @staticmethod
    def W(net: Any) -> dict[str, np.ndarray]:
        """Every weight, bias and gain, learning or not, by its name."""
        return {p.name: net.xp.host(p.W) for unit in (*net.nodes, *net.gains) for p in unit.arrays()}

    @staticmethod
    def state(net: Any) -> dict[str, np.ndarray]:
        """Everything a checkpoint holds, on the host."""
        return {name: net.xp.host(value) for name, value in net.state.items()}

    @staticmethod
    def shake(net: Any, seed: int = 1) -> None:
        """Biases and gains away from 0 and 1, where a forgotten one would not show."""
        rng = np.random.default_rng(seed)
        for unit in (*net.nodes, *net.gains):
            for parameter in unit.arrays():
                if parameter.role != "weights":
                    parameter.W[...] += net.xp.array(0.3 * rng.standard_normal(tuple(parameter.W.shape)))


@pytest.fixture(scope="session")
def engine() -> type[Engine]:
    """Builds small networks on any backend, and reads them."""
    return Engine


@pytest.fixture(scope="session")
def plain() -> Any:
    """The same networks in plain PyTorch, for autograd."""
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("plain_torch", Path(__file__).with_name("plain_torch.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
