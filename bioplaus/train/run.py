"""Train, go on, score: the commands as Python calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bioplaus.record import Run, RunFolder, open_run
from bioplaus.train import evaluate as scoring
from bioplaus.train import lifetime, usage
from bioplaus.train.compact import Compact, compact
from bioplaus.train.evaluate import Score
from bioplaus.train.lines import Lines, Watching
from bioplaus.train.listeners import Listener
from bioplaus.train.pictures import Generated, Traced, generated, traced
from bioplaus.train.session import Session, configure, prepare


def run(
    rule: Any,
    *,
    dataset: Any = None,
    network: Any = None,
    out: str | Path | None = None,
    initial: str | Path | None = None,
    data_dir: str | Path | None = None,
    sets: Sequence[str] = (),
    listeners: Sequence[Listener] = (),
    begin: Callable[[Session], None] = lambda session: None,
    stopping: Callable[[], bool] = lambda: False,
    progress: bool = True,
    allow_code: bool = True,
    **flags: Any,
) -> Run:
    """Train a network by a rule on a data set, log everything, and open the run.

    Parameters
    ----------
    rule : name, path or mapping        as in ``bioplaus run RULE``
    dataset : name, path or (X, y, X_test, y_test)
    network : name, path or mapping     the data set's own where left out
    out : path                          the run folder; ``runs/<date>-...`` where left out
    initial : path of a run             start from its weights (``--from``)
    sets : ("training.samples_per_batch=32", ...)
    listeners, begin, stopping          who listens, what is called with the session before the first step, and
                                        what is asked at every batch
    progress                            print what runs, a line per epoch and about every minute, and how it ended
    allow_code                          files that the rule names may run code
    flags                               backend, device, dtype, threads, seed, epochs

    Raises
    ------
    UserError       wrong input; nothing has been written
    RunFailed       the run broke on the way; its folder holds all up to the last checkpoint
    Stopped         ``stopping`` said so; the folder can be resumed
    """
    directory = None if data_dir is None else Path(data_dir)
    settings, source = configure(
        rule,
        dataset=dataset,
        network=network,
        data_dir=directory,
        sets=sets,
        allow_code=allow_code,
        initial=None if initial is None else str(Path(initial).resolve()),
        **flags,
    )
    session = prepare(settings, source, data_dir=directory)
    lifetime.start(session, out)
    return _complete(session, listeners, begin, stopping, progress)


def resume(
    run: str | Path,
    *,
    dataset: Any = None,
    epochs: int | None = None,
    data_dir: str | Path | None = None,
    allow_code: bool = False,
    listeners: Sequence[Listener] = (),
    begin: Callable[[Session], None] = lambda session: None,
    stopping: Callable[[], bool] = lambda: False,
    progress: bool = True,
) -> Run:
    """Go on from the last checkpoint of a run, to the bit what an uninterrupted one gives.

    ``epochs`` trains on to so many epochs in all, which makes the last phase longer; a run that is complete without is
    opened as it is. ``dataset`` are the arrays of a run on arrays from memory. ``allow_code`` lets the run's config run
    the code files it names, ``progress`` prints what ``run`` prints.

    Raises
    ------
    As ``run``; RunError also where the run is damaged or its data have changed. Warns of changed libraries.
    """
    if complete(run, epochs):
        return open_run(run)
    directory = None if data_dir is None else Path(data_dir)
    session = lifetime.reopen(run, dataset=dataset, epochs=epochs, data_dir=directory, allow_code=allow_code)
    return _complete(session, listeners, begin, stopping, progress)


def complete(run: str | Path, epochs: int | None = None) -> bool:
    """Whether a run has been trained to its end, and that end is not before ``epochs``."""
    folder = RunFolder.open(run)
    return folder.status == "finished" and (epochs is None or open_run(run).summary["epochs"] >= epochs)


def evaluate(
    run: str | Path,
    *,
    dataset: Any = None,
    readout: int | None = None,
    data_dir: str | Path | None = None,
    backend: str | None = None,
    device: str | None = None,
    allow_code: bool = False,
    begin: Callable[[Session], None] = lambda session: None,
) -> dict[str, Score]:
    """Loss and error of a run's network at its last checkpoint, by split; on another data set where one is given.

    ``readout``: a graph is read out at this time, with statistics of its training data at all times up to it (those of
    the run where it is the time the run tests at).
    ``backend``, ``device``: what to compute with, where it is not what the run was trained with; so for all that looks.
    ``begin`` is called with the session before the first sample; ``session.dataset.notes`` says what was resized.
    """
    directory = None if data_dir is None else Path(data_dir)
    session = lifetime.reread(
        run,
        dataset=dataset,
        readout=readout,
        data_dir=directory,
        backend=backend,
        device=device,
        allow_code=allow_code,
    )
    begin(session)
    _settle(session)
    size = session.phases[-1].samples_per_batch
    return {name: scoring.evaluate(session.network, feed, size) for name, feed in session.answered().items()}


def prune(
    run: str | Path,
    *,
    out: str | Path | None = None,
    dataset: Any = None,
    data_dir: str | Path | None = None,
    backend: str | None = None,
    device: str | None = None,
    allow_code: bool = False,
) -> tuple[list[usage.Row], Compact | None]:
    """What is left of a run's network: a row for every weight layer and the total; and the smaller network it made.

    ``out`` is the run folder of a network without the dead units, which gives the same outputs; None writes nothing.

    Raises
    ------
    RunError        no run there; or its network cannot be made smaller, or has no dead unit
    """
    session = _settled(run, dataset, data_dir, allow_code, backend=backend, device=device)
    rows = usage.rows(session.network, session.feeds["test"], session.phases[-1].samples_per_batch)
    return rows, None if out is None else compact(session, out)


def generate(
    run: str | Path,
    *,
    dataset: Any = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
    backend: str | None = None,
    device: str | None = None,
    allow_code: bool = False,
) -> Generated:
    """What a run's generative network would draw: reconstructions, samples, templates, filters, as arrays.

    ``seed`` is of what is drawn at random: switches of the samples, and where the climb to what a class likes begins.

    Raises
    ------
    RunError        no run there, or its network renders nothing
    """
    return generated(
        _settled(run, dataset, data_dir, allow_code, backend=backend, device=device), RunFolder.open(run).path, seed
    )


def trace(
    run: str | Path,
    index: int,
    *,
    dataset: Any = None,
    data_dir: str | Path | None = None,
    backend: str | None = None,
    device: str | None = None,
    allow_code: bool = False,
) -> Traced:
    """The way of one test image up through a run's generative network, and of the class inferred down again.

    Raises
    ------
    RunError        no run there, or its network renders nothing
    DataError       there is no test image of that number
    """
    return traced(
        _settled(run, dataset, data_dir, allow_code, backend=backend, device=device), RunFolder.open(run).path, index
    )


def _settled(run: str | Path, dataset: Any, data_dir: str | Path | None, allow_code: bool, **flags: Any) -> Session:
    """A session at a run's last checkpoint, with the statistics for testing that belong to it."""
    directory = None if data_dir is None else Path(data_dir)
    session = lifetime.reread(run, dataset=dataset, data_dir=directory, allow_code=allow_code, **flags)
    _settle(session)
    return session


def _settle(session: Session) -> None:
    """Collect statistics for testing, unless those of the last epoch, or of the run it started from, still hold."""
    progress = session.progress
    has_some = progress.epoch or session.config.initial is not None
    if not session.settled or progress.place or not has_some:
        size = session.phases[-1].samples_per_batch
        scoring.collect(session.network, session.feeds["train"], size, progress.epoch)


def _complete(
    session: Session,
    listeners: Sequence[Listener],
    begin: Callable[[Session], None],
    stopping: Callable[[], bool],
    progress: bool,
) -> Run:
    watching = Lines() if progress else Watching()
    session.listeners, session.stopping = (watching, *listeners), stopping
    begin(session)
    watching.begin(session)
    lifetime.complete(session)
    assert session.folder is not None
    run = open_run(session.folder.path)
    watching.ended(run)
    return run
