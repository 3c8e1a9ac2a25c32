"""A simulator for biologically plausible learning rules."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bioplaus.assemble import build
    from bioplaus.record import open_run
    from bioplaus.registry import register
    from bioplaus.train.listeners import Listener
    from bioplaus.train.run import evaluate, generate, prune, resume, run, trace

# Public name -> module; imported when asked for, so that `import bioplaus` and the command's help cost nothing.
_HOMES = {
    "Listener": "bioplaus.train.listeners",
    "build": "bioplaus.assemble",
    "evaluate": "bioplaus.train.run",
    "generate": "bioplaus.train.run",
    "open_run": "bioplaus.record",
    "prune": "bioplaus.train.run",
    "register": "bioplaus.registry",
    "resume": "bioplaus.train.run",
    "run": "bioplaus.train.run",
    "trace": "bioplaus.train.run",
}
__all__ = ["Listener", "build", "evaluate", "generate", "open_run", "prune", "register", "resume", "run", "trace"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("bioplaus")
    if name not in _HOMES:
        raise AttributeError(f"module 'bioplaus' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
