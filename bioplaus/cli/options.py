"""Options and manners that several verbs share."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from bioplaus.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])

DATA_DIR = click.option(
    "--data-dir", metavar="DIR", help="Where data sets lie, as DIR/ or DIR/<dataset>/ (else BIOPLAUS_DATA)."
)


ALLOW_CODE = click.option("--allow-code", is_flag=True, help="Let files name code, as ./my_rule.py:MyRule.")
PICTURES = click.option("--out", metavar="DIR", help="Where pictures go; RUN/pictures where left out.")


def ELSEWHERE(function: F) -> F:
    """--backend and --device of verbs that look at a run."""
    function = click.option("--device", metavar="D", help="Compute on another device than the run did.")(function)
    return click.option("--backend", metavar="B", help="Compute with another backend than the run did.")(function)


def pictures_of(run: str, out: str | None) -> Path:
    """Where they go: into the run's folder, which nothing else reads there, unless told where."""
    from bioplaus.record.folder import root

    return root(run) / "pictures" if out is None else Path(out)


def OUTPUT(function: F) -> F:
    """--quiet and --json."""
    function = click.option("--json", "as_json", is_flag=True, help="One JSON object per epoch.")(function)
    return click.option("--quiet", is_flag=True, help="Print nothing.")(function)


def limit_threads(threads: int | None = None, *, written_in: Path) -> None:
    """Tell the libraries that read their number of threads when they are imported.

    ``written_in`` is a run's config.yaml, which knows the number where none is given; any other file has none.
    """
    if threads is None and written_in.is_file():
        from bioplaus.config import text

        with suppress(UserError):  # whoever reads the file for its content says what is wrong with it
            written = text.read(written_in).data
            threads = written.get("threads") if isinstance(written, dict) else None
    if isinstance(threads, int):
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)


@contextmanager
def warnings_on_one_line() -> Iterator[None]:
    """What the library warns of, as one line on stderr each."""

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        click.echo(f"bioplaus: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


HEARD = b"\nStopping after this batch, or after the scores of this epoch. Once more ends at once.\n"


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask for a checkpoint and an end; a second one ends at once. A terminal is told so."""
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), HEARD)  # print might be what was interrupted

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
