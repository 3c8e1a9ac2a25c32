"""Options and manners that several verbs share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DATA_DIR = click.option(
    "--data-dir", metavar="DIR", help="Where data sets lie, as DIR/ or DIR/<dataset>/ (else BIOPLAUS_DATA)."
)


def OUTPUT(function: F) -> F:
    """--quiet and --json."""
    function = click.option("--json", "as_json", is_flag=True, help="One JSON object per epoch.")(function)
    return click.option("--quiet", is_flag=True, help="Print nothing.")(function)


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask for a checkpoint and an end; a second one ends at once."""
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
