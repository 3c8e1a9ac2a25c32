"""One training run, from what the user asked for to a run folder; and going on with one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from bioplaus import assemble, config, data
from bioplaus.data import Dataset, Preprocess
from bioplaus.errors import ConfigError, DataError, NonFinite, RunError, RunFailed, ShapeError, Stopped, UserError
from bioplaus.network import Network
from bioplaus.record import RunFolder, checkpoint, open_run
from bioplaus.train.feed import Feed
from bioplaus.train.listeners import Listener
from bioplaus.train.loop import LOOK_EVERY, Diverged, Progress, Trainer
from bioplaus.train.plan import Phase, phase_of, phases
from bioplaus.train.recorder import Recorder
from bioplaus.train.suspicious import Suspicious

LIBRARIES = ("numpy", "scipy", "h5py", "torch", "cupy")
MEAN, SCALE = "data.mean", "data.scale"  # names in a checkpoint
OWN_ARRAYS = "arrays"  # what a config calls data that were handed over in Python
PROBE = 100  # samples of the probe batch


@dataclass
class Session:
    """A network in training, its folder, and everything between the two."""

    config: config.Config
    dataset: Dataset
    preprocess: Preprocess
    network: Network
    folder: RunFolder | None = None
    listeners: Sequence[Listener] = ()
    stopping: Callable[[], bool] = lambda: False
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        xp = self.network.xp
        self.phases = phases(self.config)
        largest = max(self.phases, key=lambda phase: phase.samples_per_batch)
        if largest.samples_per_batch > len(self.dataset.train):
            written = self.config.training.phases
            own = written and written[largest.place].samples_per_batch
            key = f"training.phases.{largest.place}.samples_per_batch" if own else "training.samples_per_batch"
            raise ConfigError(
                f"{config.where(self.config, key)}: {largest.samples_per_batch} given, the training set has "
                f"{len(self.dataset.train)} samples. Set it to at most that."
            )
        splits = {"train": self.dataset.train, "test": self.dataset.test, "validation": self.dataset.validation}
        self.feeds = {name: Feed.of(xp, split, self.preprocess) for name, split in splits.items() if split is not None}

    def train(self) -> bool:
        """All epochs that are left. False where it was stopped, after a commit.

        Raises
        ------
        NonFinite       a value became NaN or infinite: the run went back to its last checkpoint to find out where
        """
        with np.errstate(all="ignore"):  # the loop itself looks for values that are not finite
            try:
                return self.trainer().run()
            except Diverged:
                return self.find_out()

    def trainer(self, *more: Listener, look_every: int = LOOK_EVERY) -> Trainer:
        """The loop over the network and the data."""
        assert self.folder is not None
        network = self.network
        probe = self.feeds["train"].batch(self._probe_index())
        recorder = Recorder(self.folder.log, self.config.record, probe, self.network.true_gradient)

        def commit(row: dict[str, Any] | None) -> None:
            assert self.folder is not None
            recorder.flush(network.xp)
            self.folder.commit(self.host_state(), self.meta(), row)

        return Trainer(
            network,
            self.feeds["train"],
            {name: feed for name, feed in self.feeds.items() if name != "train"},
            self.phases,
            self.relink,
            commit,
            self.stopping,
            (recorder, *self.listeners, *more),
            self.progress,
            look_every,
        )

    def relink(self, phase: Phase) -> None:
        """Batches and updates as a phase wants them."""
        self.network.batches_per_update = phase.batches_per_update
        assemble.relink(self.network, self.config, phase.place)

    def find_out(self) -> bool:
        """Trains again from the last checkpoint, looking at every batch and every update.

        Raises
        ------
        NonFinite       names the layer in which a value first stopped being finite
        """
        assert self.folder is not None
        self.load(*self.folder.restore())
        network = self.network
        try:
            if not self.trainer(Suspicious(), look_every=1).run():
                return False
        except Diverged as found:
            name = found.layer if found.batch is None else network.first_nonfinite(found.batch)
            where = f"layer {name!r}, step {network.updates}"
            raise NonFinite(f"{where}: {found.what} is not finite ({self.said(name)}). Lower the rate.") from None
        raise NonFinite("a value was not finite, and was when the same steps were made again. Check the machine.")

    def said(self, layer: str) -> str:
        """Channel, norm and rate of a layer, as a message names them."""
        node = next(node for node in self.network.nodes if node.name == layer)
        has_norm = any(site.name == layer for site in self.network.norms)
        chosen = self.choices()[layer]
        norm = chosen["norm"]["recipe"] if has_norm else "none"
        rate = node.weights.links[-1].rate  # type: ignore[attr-defined]
        return f"channel {chosen['channel']['recipe']}, norm {norm}, rate {rate:g}"

    def host_state(self) -> dict[str, Any]:
        """Every array a checkpoint holds: the network's, and what was fitted to the training samples."""
        arrays = {name: self.network.xp.host(value) for name, value in self.network.state.items()}
        return arrays | {MEAN: self.preprocess.mean, SCALE: np.array(self.preprocess.scale)}

    def meta(self) -> dict[str, Any]:
        """What a checkpoint holds beside the arrays."""
        return {
            "counters": self.network.counters,
            "progress": asdict(self.progress),
            "epochs": self.phases[-1].end,
            "threads": self.network.xp.threads,
            "versions": _versions(),
        }

    def load(self, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Go back to a checkpoint."""
        self.progress = Progress(**meta["progress"])
        begun = self.progress.place > 0 or self.progress.epoch == 0  # else its links are still the last epoch's
        self.relink(phase_of(self.phases, self.progress.epoch - (not begun)))
        self.network.load(dict(state), dict(meta["counters"]))

    def _probe_index(self) -> Any:
        n = len(self.dataset.train)
        return self.network.stream.at("probes").generator().permutation(n)[: min(PROBE, n)]

    def choices(self) -> dict[str, dict[str, Any]]:
        """The five choices of every weight layer, as they are written."""
        return config.choices(self.config, [node.name for node in self.network.nodes])

    def attributes(self) -> dict[str, Any]:
        """What the log's root says: what really runs."""
        xp = self.network.xp
        return {
            "rule": self.config.rule,
            "network": self.config.network.name,
            "dataset": self.dataset.name,
            "dataset_sha256": self.dataset.sha256,
            "seed": self.config.seed,
            "backend": xp.name,
            "device": xp.device,
            "dtype": xp.dtype,
            "threads": xp.threads,
            "parameters": self.network.count(),
            "bioplaus": version("bioplaus"),
            **{f"{name}_version": found for name, found in _versions().items()},
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def summary(self) -> dict[str, Any]:
        """What summary.json says."""
        progress = self.progress
        return {
            "rule": self.config.rule,
            "network": self.config.network.name,
            "dataset": self.dataset.name,
            "seed": self.config.seed,
            "epochs": progress.epoch,
            "updates": self.network.updates,
            "last": progress.last,
            "best": progress.best,
            "train_seconds": progress.train_seconds,
            "test_seconds": progress.test_seconds,
            "versions": _versions(),
        }


def _versions() -> dict[str, str]:
    """Of the libraries that compute, those installed."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def prepare(
    settings: config.Config, source: Any, *, data_dir: Path | None = None, fitted: Preprocess | None = None
) -> Session:
    """Data, backend and network of a config; nothing written.

    ``source`` is what ``data.find`` gave; ``fitted`` what was fitted to other data, which these are then seen through.
    """
    dataset = data.load(
        source,
        data_dir=data_dir,
        size=tuple(settings.network.input),
        validation=_aside(settings.data.validation),
        seed=settings.seed,
    )
    if fitted is None:
        dataset, fitted = data.fit(settings.data.preprocess, dataset)
    xp = assemble.array_library(
        settings.backend, device=settings.device, dtype=settings.dtype, threads=settings.threads
    )
    settings = settings.model_copy(update={"backend": xp.name, "device": xp.device, "threads": xp.threads})
    network = assemble.assembled(settings, classes=dataset.classes, xp=xp)
    _fits(settings, network, dataset.classes)
    return Session(settings, dataset, fitted, network)


def _fits(settings: config.Config, network: Network, classes: int) -> None:
    """Whether the network scores the data's classes, and has places for the norm the rule asks for."""
    name = settings.network.name
    if network.output != (classes,):
        raise ShapeError(
            f"network {name!r} ends in samples of shape {network.output}, the data set has {classes} classes. "
            "Let its last layer be {dense: classes}."
        )
    if settings.defaults.norm["recipe"] != "none" and not network.norms:
        raise ConfigError(
            f"{config.where(settings, 'defaults.norm')}: network {name!r} has no place for a norm. "
            "Put `norm` after its weight layers, or set defaults.norm to none."
        )


def _aside(validation: float | None) -> int | float | None:
    return int(validation) if validation is not None and validation >= 1 else validation


def configure(
    rule: Any,
    *,
    dataset: Any = None,
    network: Any = None,
    data_dir: Path | None = None,
    sets: Sequence[str] = (),
    allow_code: bool = False,
    **flags: Any,
) -> tuple[config.Config, Any]:
    """(config, data source): what the user asked for, resolved with the data set's own network and preset.

    Raises
    ------
    ConfigError     whatever is wrong in files, flags or settings, one line each
    """
    arrays = tuple(dataset) if isinstance(dataset, tuple | list) else None

    def preset(name: str) -> dict[str, Any]:
        if name == OWN_ARRAYS and arrays is None:
            return {}
        found = data.find(name if arrays is None else arrays, data_dir=data_dir, allow_code=allow_code)
        return {**({"network": found.network} if found.network else {}), **found.preset}

    settings = config.load(
        rule,
        network=network,
        dataset=dataset if arrays is None else OWN_ARRAYS,
        sets=sets,
        flags=flags,
        preset=preset,
        allow_code=allow_code,
    )
    if settings.dataset is None:
        raise ConfigError("no data set: name one, as in --dataset digits.")
    if settings.dataset == OWN_ARRAYS and arrays is None:
        raise DataError("the run used arrays from memory. Hand them over again: dataset=(X, y, X_test, y_test).")
    named = settings.dataset if arrays is None else arrays
    source = data.find(named, data_dir=data_dir, options=settings.data.options(), allow_code=allow_code)
    return settings, source


def free_folder(settings: config.Config, dataset: str) -> Path:
    """runs/<date>-<rule>-<network>-<dataset>-s<seed>, numbered where there is one from the same second."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{stamp}-{settings.rule}-{settings.network.name}-{dataset}-s{settings.seed}"
    names = (Path("runs", name if i == 1 else f"{name}-{i}") for i in count(1))
    return next(path for path in names if not path.exists())


def start(session: Session, out: str | Path | None) -> None:
    """Make the run folder, with fresh weights or those of the run the config starts from."""
    if session.config.initial is not None:
        take_weights(session.network, session.config.initial)
    session.relink(session.phases[0])
    session.folder = RunFolder.create(
        Path(out) if out else free_folder(session.config, session.dataset.name),
        config.dump(session.config),
        session.attributes(),
        session.host_state(),
        session.meta(),
    )


def take_weights(network: Network, run: str | Path) -> None:
    """Start from the weights, gains and statistics of another run; fresh momentum, feedback made anew.

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
        for node in network.nodes:
            node.channel.refresh(node.map, node.W, node.feedback, network.stream.at("feedback", node.name, 0))


def _is_taken(name: str) -> bool:
    return name not in (MEAN, SCALE) and not (".update." in name or ".feedback." in name or name.endswith(".dW"))


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
    then, now = meta["versions"], _versions()
    changed = [f"{name} {then[name]} (now {now.get(name, 'missing')})" for name in then if now.get(name) != then[name]]
    if changed:
        text = f"trained with {', '.join(changed)}: the bits may differ from those of an uninterrupted run."
        warnings.warn(f"{folder.path}: {text}", stacklevel=2)
    session.folder = folder
    session.load(*folder.restore())
    return session


def reread(run: str | Path, *, dataset: Any = None, data_dir: Path | None = None, allow_code: bool = False) -> Session:
    """A session with the network of a run's last checkpoint; the folder is only read."""
    folder = RunFolder.open(run)
    _, state, meta = checkpoint.load(folder.path / "checkpoint.h5")
    other = dataset is not None
    return _at(folder, state, meta, dataset=dataset, other=other, data_dir=data_dir, allow_code=allow_code)


def _at(
    folder: RunFolder,
    state: Mapping[str, Any],
    meta: Mapping[str, Any],
    *,
    dataset: Any = None,
    other: bool = False,
    epochs: int | None = None,
    data_dir: Path | None = None,
    allow_code: bool = False,
) -> Session:
    planned = meta.get("epochs") if epochs is None else epochs  # a run trained on has more than its config says
    settings, source = configure(
        folder.path / "config.yaml", dataset=dataset, data_dir=data_dir, allow_code=allow_code, epochs=planned
    )
    fitted = None
    if other and MEAN in state:  # other data are seen as the run saw its own
        if settings.data.preprocess == "whiten":
            raise DataError(f"{folder.path}: whitening was fitted to the run's own data; no other data can be scored.")
        fitted = Preprocess(state[MEAN], float(state[SCALE]))
    session = prepare(settings, source, data_dir=data_dir, fitted=fitted)
    session.load(state, meta)
    return session
