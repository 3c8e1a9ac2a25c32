"""One training run, from what the user asked for: network, data, schedule, and the training itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bioplaus import assemble, config, data, registry
from bioplaus.backend.streams import Stream
from bioplaus.data import Dataset, Preprocess
from bioplaus.data.augment import Transform, transforms
from bioplaus.data.labels import Labels, drawn
from bioplaus.errors import (
    ConfigError,
    DataError,
    NonFinite,
    PartError,
    ShapeError,
)
from bioplaus.network import Network
from bioplaus.record import RunFolder
from bioplaus.train.feed import Feed, TextFeed
from bioplaus.train.listeners import Listener
from bioplaus.train.loop import LOOK_EVERY, Diverged, Progress, Trainer
from bioplaus.train.plan import Phase, phase_of, phases
from bioplaus.train.recorder import Recorder
from bioplaus.train.suspicious import Suspicious

LIBRARIES = ("numpy", "scipy", "h5py", "torch", "cupy")
MEAN, SCALE = "data.mean", "data.scale"  # names in a checkpoint
OWN_ARRAYS = "arrays"  # what a config calls data that were handed over in Python
LOG_BYTES = 1 << 28  # of rows that may wait for a checkpoint
REMEDY = "a norm, a channel of smaller weights (nusf for usf), or fewer time steps."
UNLEARNED = (
    "No rate has had a part in it yet: activities or errors grow from layer to layer, or from step to step. "
    f"Take {REMEDY}"
)
LOWER, GROWING = "Lower the rate.", f"If that changes nothing, errors grow on their way: take {REMEDY}"
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
    augment: Sequence[Transform] = ()  # what is done to the training images of a batch
    labels: Labels | None = None  # those that may be seen; None: all
    settled: bool = True  # whether what a checkpoint has for testing is of the times that testing comes to

    def __post_init__(self) -> None:
        xp = self.network.xp
        self.phases = phases(self.config)
        splits = {"train": self.dataset.train, "test": self.dataset.test, "validation": self.dataset.validation}
        self.feeds: dict[str, Feed | TextFeed] = {
            name: TextFeed.of(xp, split, self.network.steps)
            if self.dataset.is_text
            else Feed.of(xp, split, self.preprocess, *((self.augment, self.labels) if name == "train" else ()))
            for name, split in splits.items()
            if split is not None
        }

    def answered(self) -> dict[str, Feed | TextFeed]:
        """The feeds with all their labels, also those that the learner may not see."""
        if self.labels is None:
            return self.feeds
        return {**self.feeds, "train": Feed.of(self.network.xp, self.dataset.train, self.preprocess)}

    def check_batches(self) -> None:
        """Whether the training set has enough samples for a batch of every phase, and for one update at least.

        Raises
        ------
        ConfigError     with the key that asks for more
        """
        steps = max(1, self.network.steps)
        samples = len(self.dataset.train) // steps
        largest, last = max(self.phases, key=lambda phase: phase.samples_per_batch), self.phases[-1]
        if largest.samples_per_batch > samples:
            where, size = self._where(largest, "samples_per_batch"), largest.samples_per_batch
            what = f"samples of {steps} symbols each" if self.dataset.is_text else "samples"
            raise ConfigError(f"{where}: {size} given, the training set has {samples} {what}. Set it to at most that.")
        for phase in self.phases if self.labels else ():
            assert self.labels is not None
            try:
                self.labels.check(phase.samples_per_batch)
            except ConfigError as error:
                raise ConfigError(f"{config.where(self.config, 'data.labelled_share')}: {error}") from error
        batches = last.epochs * (len(self.dataset.train) // last.samples_per_batch // steps)
        if batches < last.batches_per_update:
            where, wanted = self._where(last, "batches_per_update"), last.batches_per_update
            what = "last phase" if last.place else "run"
            raise ConfigError(
                f"{where}: {wanted} given, the {what} has {batches} batches and would make no update. "
                "Set it to at most that, or train more epochs."
            )

    def check_pruning(self) -> None:
        """Whether something will be left of every layer, as far as that is known.

        Raises
        ------
        ConfigError     with the layer whose pruning takes too much
        """
        for survivors in (node.survivors for node in self.network.nodes if node.survivors):
            size = prod(survivors.mask.shape)
            left = survivors.pruning.left(size)
            if left is not None and left < 1:
                where = config.where(self.config, f"layers.{survivors.name.partition('@')[0]}.pruning")
                raise ConfigError(f"{where}: of {size} {survivors.pruning.of} none would be left. Prune less.")

    def _where(self, phase: Phase, key: str) -> str:
        """Where a phase's ``key`` was written: with the phase, or for all."""
        written = self.config.training.phases
        own = written and getattr(written[phase.place], key)
        return config.where(self.config, f"training.phases.{phase.place}.{key}" if own else f"training.{key}")

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
        probe = self.feeds["train"].probe(PROBE, network.stream.at("probes"))
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
            lambda: self.folder is not None and self.folder.log.waiting > LOG_BYTES,
            (recorder, *self.listeners, *more),
            self.progress,
            look_every,
            every.count if (every := self.config.training.evaluate) else None,
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
            before = network.updates - (found.batch is None)  # dW is looked at after the update it makes
            symmetric = self.choices()[name]["channel"]["recipe"] == "bp"
            advice = UNLEARNED if not before else LOWER if symmetric else f"{LOWER} {GROWING}"
            raise NonFinite(f"{where}: {found.what} is not finite ({self.said(name)}). {advice}") from None
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
            "versions": versions(),
            **({"symbols": list(self.dataset.names)} if self.dataset.is_text else {}),
        }

    def load(self, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Go back to a checkpoint."""
        self.progress = Progress(**meta["progress"])
        begun = self.progress.place > 0 or self.progress.epoch == 0  # else its links are still the last epoch's
        self.relink(phase_of(self.phases, self.progress.epoch - (not begun)))
        self.network.load(dict(state), dict(meta["counters"]))

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
            **{f"{name}_version": found for name, found in versions().items()},
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
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """Of the libraries that compute, those installed."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def prepare(
    settings: config.Config,
    source: Any,
    *,
    data_dir: Path | None = None,
    fitted: Preprocess | None = None,
    symbols: Sequence[str] | None = None,
) -> Session:
    """Data, backend and network of a config; nothing written.

    ``source`` is what ``data.find`` gave; ``fitted`` what was fitted to other data, which these are then seen through;
    ``symbols`` the vocabulary of another text, likewise.
    """
    xp = assemble.array_library(
        settings.backend, device=settings.device, dtype=settings.dtype, threads=settings.threads
    )
    dataset = data.load(
        source,
        data_dir=data_dir,
        size=tuple(settings.network.input),
        validation=_aside(settings.data.validation),
        seed=settings.seed,
        symbols=symbols,
        targets=any(getattr(loss, "takes_targets", False) for loss in _losses(settings)),
    )
    other = fitted is not None
    if fitted is None:
        dataset, fitted = data.fit(settings.data.preprocess, dataset)
    taken = {"backend": xp.name} if settings.backend == "auto" else {}
    settings = settings.model_copy(update={**taken, "device": xp.device, "threads": xp.threads})
    try:
        network = assemble.assembled(settings, classes=dataset.classes, xp=xp)
    except MemoryError:
        what = f"network {settings.network.name!r} with {dataset.classes:,} classes does not fit into memory."
        raise ShapeError(f"{what} Make it smaller.") from None
    _fits(settings, network, dataset)
    augment = transforms(
        settings.data.augment, dataset.shape, lambda place: config.where(settings, f"data.augment.{place}")
    )
    labels = None if other else _labels(settings, dataset)
    return Session(settings, dataset, fitted, network, augment=augment, labels=labels)


def _labels(settings: config.Config, dataset: Dataset) -> Labels | None:
    """The labels that may be seen; None where all may be."""
    wanted, where = settings.data, config.where(settings, "data.labels")
    if wanted.labels is None:
        return None
    y = dataset.train.y
    if dataset.is_text or y.dtype.kind == "f":
        what = "a text" if dataset.is_text else "targets"
        raise ConfigError(
            f"{where}: {wanted.labels} given, and data set {dataset.name!r} has {what}, no labels. Leave it out."
        )
    stream = Stream(settings.seed).at("labels")
    try:
        index = drawn(y, dataset.classes, wanted.labels, wanted.balanced, stream)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return Labels(index, wanted.labelled_share, wanted.statistics)


def _losses(settings: config.Config) -> list[Any]:
    """The classes of the losses that will be scored."""
    named = {f"losses.{name}": spec.get("recipe", name) for name, spec in settings.losses.items()}
    classes = []
    for key, recipe in (named or {"network.loss": settings.network.loss["recipe"]}).items():
        try:
            classes.append(registry.get("loss", recipe, allow_code=True))
        except PartError as error:
            raise PartError(f"{config.where(settings, key)}: {error}") from error
    return classes


def _fits(settings: config.Config, network: Network, dataset: Dataset) -> None:
    """Whether the network scores the data's classes, and has places for the norm the rule asks for."""
    name, classes = settings.network.name, dataset.classes
    if dataset.is_text != bool(network.steps):
        what, wanted = ("a text", "") if dataset.is_text else ("no text", "no ")
        raise ShapeError(
            f"data set {dataset.name!r} is {what}, for which network {name!r} would need {wanted}"
            "pass: {recipe: recurrent, steps: ...}. Choose another network."
        )
    if network.output != (classes,):
        has = f"{classes} target{'s' * (classes > 1)} a sample" if dataset.has_targets else f"{classes} classes"
        raise ShapeError(
            f"network {name!r} ends in samples of shape {network.output}, the data set has {has}. "
            "Let its last layer be {dense: classes}."
        )
    chosen_by_layer = any("norm" in choices for _, choices in settings.layers)
    if settings.defaults.norm["recipe"] != "none" and not network.norms and not chosen_by_layer:
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
