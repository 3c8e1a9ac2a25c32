"""The run folder of a session: made, trained in to the end, and come back to."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from bioplaus import config
from bioplaus.data import Preprocess
from bioplaus.errors import (
    DataError,
    RunError,
    RunFailed,
    Stopped,
    UserError,
)
from bioplaus.network import Network
from bioplaus.record import RunFolder, checkpoint, open_run
from bioplaus.train.plan import trained_on
from bioplaus.train.session import MEAN, SCALE, Session, configure, prepare, versions

MASK = ".pruning.mask"  # how those of masks end


def free_folder(settings: config.Config, dataset: str) -> Path:
    """runs/<date>-<rule>-<network>-<dataset>-s<seed>, numbered where there is one from the same second."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{stamp}-{settings.rule}-{settings.network.name}-{dataset}-s{settings.seed}"
    names = (Path("runs", name if i == 1 else f"{name}-{i}") for i in count(1))
    return next(path for path in names if not path.exists())


def start(session: Session, out: str | Path | None) -> None:
    """Make the run folder, with fresh weights or those of the run the config starts from.

    Raises
    ------
    UserError       wrong input; nothing has been written
    """
    session.check_batches()
    session.check_pruning()
    if session.config.initial is not None:
        take_weights(session.network, session.config.initial)
    for phase in reversed(session.phases):  # down to the first; what is wrong with a later one is said now
        session.relink(phase)
    session.folder = RunFolder.create(
        Path(out) if out else free_folder(session.config, session.dataset.name),
        config.dump(session.config),
        session.attributes(),
        session.host_state(),
        session.meta(),
    )


def take_weights(network: Network, run: str | Path) -> None:
    """Start from the weights, gains and statistics of another run; fresh momentum, feedback made anew.

    What was pruned there stays pruned where the layer is pruned here in the same way; its use is estimated anew.

    Raises
    ------
    RunError        no run there, or one whose network has others
    """
    folder = RunFolder.open(run)
    _, state, _ = checkpoint.load(folder.path / "checkpoint.h5")
    own = network.state
    there, here = ({name: tuple(a.shape) for name, a in of.items() if _is_taken(name)} for of in (state, own))
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            raise RunError(
                f"{folder.path}: {name!r} is {_shape(there.get(name))} there and {_shape(here.get(name))} here. "
                "Start from a run of the same network with the same norms."
            )
    with network.xp.scope():
        for name in here:
            own[name][...] = network.xp.array(state[name])
        for name in own:
            if name.endswith(MASK) and name in state and state[name].shape == tuple(own[name].shape):
                own[name][...] = network.xp.array(state[name])
        for node in network.nodes:
            node.refresh(network.stream.at("feedback", node.name, 0))


def _is_taken(name: str) -> bool:
    of_loss = name.startswith("loss.") and name.count(".") == 2
    apart = any(f".{part}." in name for part in ("update", "feedback", "carried", "plasticity", "pruning"))
    return name not in (MEAN, SCALE) and not (apart or of_loss or name.endswith(".dW"))


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "×".join(map(str, shape))


def complete(session: Session) -> None:
    """Train to the end, and close the folder whatever happens.

    Raises
    ------
    Stopped, NonFinite, RunFailed
    """
    folder = session.folder
    assert folder is not None
    with folder:
        try:
            done = session.train()
        except RunFailed as error:
            with suppress(RunFailed):  # the disk may be why it failed
                folder.end("failed")
            raise type(error)(f"{error} Log: {folder.path}") from error
        except UserError:
            raise
        except Exception:  # a part of the user's own broke: the run has failed, and its traceback is theirs to see
            with suppress(RunFailed):
                folder.end("failed")
            raise
        if not done:
            folder.end("stopped")
            raise Stopped(f"stopped after update {session.network.updates}. Go on with: bioplaus resume {folder.path}")
        folder.finish(session.summary())


def reopen(
    run: str | Path,
    *,
    dataset: Any = None,
    epochs: int | None = None,
    data_dir: Path | None = None,
    allow_code: bool = False,
) -> Session:
    """A session at the last checkpoint of a run, ready to go on. Warns where libraries have changed since.

    Raises
    ------
    RunError        no run there, damaged, its data have changed, or more than ``epochs`` have been trained already
    """
    folder = RunFolder.open(run)
    _, state, meta = checkpoint.load(folder.path / "checkpoint.h5")
    session = _at(folder, state, meta, dataset=dataset, epochs=epochs, data_dir=data_dir, allow_code=allow_code)
    done = session.progress.epoch
    if epochs is not None and epochs < done:
        raise RunError(f"{folder.path}: {done} epochs are done, {epochs} asked. Give a larger --epochs.")
    recorded = open_run(folder.path).attributes.get("dataset_sha256")
    if recorded and recorded != session.dataset.sha256:
        raise RunError(
            f"{folder.path}: data set {session.dataset.name!r} is not the one the run began with (SHA-256 differs). "
            "Put the old files back, or start a new run."
        )
    then, now = meta["versions"], versions()
    changed = [f"{name} {then[name]} (now {now.get(name, 'missing')})" for name in then if now.get(name) != then[name]]
    if changed:
        text = f"trained with {', '.join(changed)}: the bits may differ from those of an uninterrupted run."
        warnings.warn(f"{folder.path}: {text}", stacklevel=2)
    session.folder = folder
    session.load(*folder.restore())
    return session


def reread(
    run: str | Path,
    *,
    dataset: Any = None,
    readout: int | None = None,
    data_dir: Path | None = None,
    allow_code: bool = False,
    **flags: Any,
) -> Session:
    """A session with the network of a run's last checkpoint; the folder is only read.

    ``readout``: testing reads a graph out at this time; if that is not the run's, statistics are to be settled anew.
    ``flags``: the backend and the device to look with, where they are not the run's.
    """
    folder = RunFolder.open(run)
    _, state, meta = checkpoint.load(folder.path / "checkpoint.h5")
    other = dataset is not None
    return _at(
        folder,
        state,
        meta,
        dataset=dataset,
        other=other,
        readout=readout,
        data_dir=data_dir,
        allow_code=allow_code,
        **flags,
    )


def _at(
    folder: RunFolder,
    state: Mapping[str, Any],
    meta: Mapping[str, Any],
    *,
    dataset: Any = None,
    other: bool = False,
    epochs: int | None = None,
    readout: int | None = None,
    data_dir: Path | None = None,
    allow_code: bool = False,
    **flags: Any,
) -> Session:
    path = folder.path / "config.yaml"
    if not path.is_file():
        text = f"open_run({str(folder.path)!r}).config"
        raise RunError(f"{path}: is not there. Put it back; {text} is its text.")
    settings, source = configure(path, dataset=dataset, data_dir=data_dir, allow_code=allow_code, **flags)
    if readout is not None and readout == _tested_at(settings, folder.path):
        readout = None  # there is nothing to change
    if readout is not None:
        settings = _read_out_at(settings, readout)
    planned = meta["epochs"] if epochs is None else epochs  # a run trained on has more than its config says
    settings = trained_on(settings, planned)
    fitted = None
    if other and MEAN in state:  # other data are seen as the run saw its own
        if settings.data.preprocess == "whiten":
            raise DataError(f"{folder.path}: whitening was fitted to the run's own data; no other data can be scored.")
        fitted = Preprocess(state[MEAN], float(state[SCALE]))
    symbols = meta.get("symbols") if other else None
    session = prepare(settings, source, data_dir=data_dir, fitted=fitted, symbols=symbols)
    session.load(state if readout is None else _for_other_times(state, session.network), meta)
    session.settled = readout is None
    return session


def _tested_at(settings: config.Config, path: Path) -> int:
    """The time at which testing reads a run's graph out."""
    network = settings.network
    if "readout" not in network.pass_:
        recipe = network.pass_["recipe"]
        raise RunError(f"{path}: network {network.name!r} runs as {recipe}; only a graph is read out at a time.")
    return int(network.pass_.get("test_readout") or network.pass_["readout"])


def _read_out_at(settings: config.Config, readout: int) -> config.Config:
    """Tested at another time than the run was, which messages call ``--readout``."""
    network = settings.network
    places = {**network.origins.places, ("pass", "test_readout"): "--readout"}
    changed = replace(network, pass_=network.pass_ | {"test_readout": readout}, origins=config.Origins(places))
    return settings.model_copy(update={"network": changed})


def _for_other_times(state: Mapping[str, Any], network: Network) -> dict[str, Any]:
    """A checkpoint's arrays; where the network visits a norm more or less often, those of the visits in both."""
    found = dict(state)
    for name, value in (pair for site in network.norms for pair in site.state()):
        if name in state and state[name].shape != value.shape:
            found[name] = network.xp.host(value).copy()
            both = min(len(value), len(state[name]))
            found[name][:both] = state[name][:both]
    return found
