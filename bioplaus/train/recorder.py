"""What the log gets: every few updates or epochs, what each layer did.

Values wait on the device until the loss is looked at, and on the host until a commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import asin, degrees, nan
from typing import Any

import numpy as np

from bioplaus.backend.base import Array, Backend
from bioplaus.config import Every
from bioplaus.config.schema import Record
from bioplaus.network import Network
from bioplaus.ops.compare import chord, length, sign_disagreement
from bioplaus.parts import LOOK, Batch
from bioplaus.record import Log
from bioplaus.rendering import renders
from bioplaus.train.listeners import Listener, Moment
from bioplaus.units import Node

METRICS = ("train", "test", "validation")


class Recorder(Listener):
    """Listens to a training and fills the log, as often as the config's ``record`` says.

    Parameters
    ----------
    log : the rows since the last commit
    record : how often each table gets a row
    probe : a fixed batch whose activities are looked at
    true_gradient : fills a network's dW by plain backpropagation on a batch; for the angle to the gradient
    """

    def __init__(
        self, log: Log, record: Record, probe: Batch, true_gradient: Callable[[Batch], dict[str, Array]]
    ) -> None:
        self.log, self.record, self.probe, self.true_gradient = log, record, probe, true_gradient
        self.xp: Backend | None = None  # of the network listened to
        self.waiting: list[tuple[str, dict[str, Any]]] = []
        self.before: dict[str, tuple[Array, Array]] = {}
        self.new: dict[str, Array] = {}  # of a dW that is a running sum: first what is old of it, then what is new
        self.spare: dict[tuple[str, str], Array] = {}  # arrays to write into, kept from update to update

    def flush(self, xp: Backend) -> None:
        """Everything that waits on the device goes to the log."""
        for table, row in self.waiting:
            self.log.add(table, **{name: self._read(xp, name, value) for name, value in row.items()})
        self.waiting = []

    @staticmethod
    def _read(xp: Backend, name: str, value: Any) -> Any:
        if name.startswith("angle"):  # as its chord so far
            return degrees(2.0 * asin(min(1.0, float(value) / 2.0))) if value == value else nan
        return value if isinstance(value, int | float) or name == "index" else xp.host(value)

    # -- moments -----------------------------------------------------------------------------
    def accumulating(self, network: Network, moment: Moment) -> None:
        """Where dW goes on from the update before, what of it is not new."""
        record, step = self.record, network.updates + 1
        wanted = any(_due(every, step, moment) for every in (record.update, record.weights, record.gradient))
        with network.xp.scope():
            self.new = {
                node.name: self.copy(network.xp, "dW", node, node.weights.dW, node.weights.share)
                for node in (_learning(network) if wanted else ())
                if node.weights.share
            }

    def dW(self, node: Node) -> Array:
        """What has been accumulated since the last update; not to be changed."""
        return self.new.get(node.name, node.weights.dW)

    def copy(self, xp: Backend, what: str, node: Node, array: Array, times: float = 1.0) -> Array:
        """times * array, which lasts until the next update."""
        place = (node.name, what)
        if place not in self.spare:
            self.spare[place] = xp.zeros(array.shape)
        return xp.multiply(array, times, out=self.spare[place])

    def updating(self, network: Network, batch: Batch, moment: Moment) -> None:
        """Before W moves: the V that was used, the dW that came of it, the statistics of this batch."""
        self.xp = network.xp
        xp, record, step = network.xp, self.record, network.updates + 1
        with xp.scope():
            for node in network.nodes:
                if (old := self.new.get(node.name)) is not None:
                    xp.add_scaled(node.weights.dW, old, -1.0, out=old)
            if _due(record.norm, step, moment):
                for site in network.norms:
                    looks = getattr(site.norm, "looks", None)
                    if looks and (row := looks(site.stats)):
                        row = {name: value + 0.0 for name, value in row.items()}
                        self.wait(f"layers/{site.name}/norm", step, **row)
            gradient = _due(record.gradient, step, moment)
            if gradient or _due(record.feedback, step, moment):
                self.feedback(network, batch, step, gradient)
            if _due(record.update, step, moment):
                for node in _learning(network):
                    self.before[node.name] = (self.copy(xp, "W", node, node.W), length(xp, self.dW(node)))
            if _due(record.weights, step, moment):
                for node in network.nodes:
                    V = {} if node.V is None else {"V": node.V + 0.0}
                    self.wait(f"layers/{node.name}/weights", step, W=node.W + 0.0, **V, dW=self.dW(node) + 0.0)
            if _due(record.loss, step, moment):
                samples = network.samples(batch)
                values = {name: network.terms[name] / samples for name in network.loss.names}
                self.wait("metrics/batch", step, loss=network.loss.total(network.terms) / samples, **_terms(values))
        if _due(record.batches, step, moment):
            self.wait("batches", step, index=np.concatenate(moment.learned))

    def feedback(self, network: Network, batch: Batch, step: int, with_gradient: bool) -> None:
        """How V and W agree; where asked for, also how dW and the true gradient do."""
        xp = network.xp
        gradient = self.true_gradient(batch) if with_gradient else {}
        for node in network.nodes:
            V, W = node.V, node.W
            row: dict[str, Any] = {}
            if V is not None and V.shape == W.shape:
                row = {
                    "sign_agreement": 1.0 - sign_disagreement(xp, V, W),
                    "angle": chord(xp, V, W),
                    "norm_ratio": length(xp, V) / length(xp, W),
                }
            if self.record.gradient is not None:
                known = node.name in gradient and node.keep
                row["angle_to_gradient"] = chord(xp, self.dW(node), gradient[node.name]) if known else nan
            if row:
                self.wait(f"layers/{node.name}/feedback", step, **row)

    def updated(self, network: Network, batch: Batch, moment: Moment) -> None:
        """After W has moved: how far, and how many weights changed sign."""
        xp = network.xp
        with xp.scope():
            for node in _learning(network) if self.before else ():
                old, dW_norm = self.before[node.name]
                changed_sign = sign_disagreement(xp, node.W, old)
                step = xp.add_scaled(old, node.W, -1.0, out=old)
                self.wait(
                    f"layers/{node.name}/update",
                    network.updates,
                    dW_norm=dW_norm,
                    step_norm=length(xp, step),
                    changed_sign=changed_sign,
                )
        self.before = {}
        self.probed(network, lambda every: every.unit == "update" and network.updates % every.count == 0)

    def pruned(self, network: Network, moment: Moment, layers: Sequence[Node]) -> None:
        """What is left of them, and how much it is used."""
        with network.xp.scope():
            for node in layers:
                assert node.survivors is not None
                self.wait(f"layers/{node.name}/pruning", network.updates, **node.survivors.looks(node.W))

    def advanced(self, moment: Moment, loss: float, error: float, rate: float) -> None:
        """The device is being read anyway."""
        if self.xp is not None:
            self.flush(self.xp)

    def tested(self, network: Network, moment: Moment, row: dict[str, Any]) -> None:
        """Scores within an epoch."""
        self.scores(network.updates, row)

    def scores(self, step: int, row: dict[str, Any]) -> None:
        """A row for every split that was scored."""
        for name in METRICS:
            if name in row:
                rate = {"rate": row["rate"]} if name == "train" else {}
                seconds = "train_seconds" if name == "train" else "test_seconds"
                score = row[name]
                self.wait(
                    f"metrics/{name}",
                    step,
                    epoch=row["epoch"],
                    samples=score["samples"],
                    loss=score["loss"],
                    elapsed_seconds=row[seconds],
                    **{each: score[each] for each in ("error", "perplexity") if each in score},
                    **_terms(score.get("terms", {})),
                    **rate,
                )

    def epoch_ended(self, network: Network, moment: Moment, row: dict[str, Any]) -> None:
        """Scores, and what the probe batch gives by epochs: here, once the statistics for testing are settled."""
        self.scores(network.updates, row)
        self.probed(network, lambda every: every.unit == "epoch" and moment.epoch % every.count == 0)

    def probed(self, network: Network, due: Callable[[Every], bool]) -> None:
        """The tables that look at the probe batch, those that are due."""
        record = self.record
        if record.activity and due(record.activity):
            self.activity(network, network.updates)
        rendering, templates = (each is not None and due(each) for each in (record.rendering, record.templates))
        if (rendering or templates) and renders(network):
            self.rendering(network, network.updates, rendering, templates)

    def activity(self, network: Network, step: int) -> None:
        """Mean, deviation, silence and kurtosis of every unit over the probe batch, and some samples as they are."""
        xp = network.xp
        with network.watching() as seen, xp.scope():
            network.pass_.forward(self.probe, LOOK)
        with xp.scope():
            for name, y in seen.items():
                sequences = network.steps > 0
                axes = (0, 1) if sequences else (0, *range(2, y.ndim))
                some = y[:, : self.record.probe] if sequences else y[: self.record.probe]
                mean = y.mean(axes, keepdims=True)
                centred = y - mean
                square = centred * centred
                variance = square.mean(axes)
                self.wait(
                    f"layers/{name}/activity",
                    step,
                    mean=mean.reshape((-1,)),
                    std=xp.sqrt(variance),
                    sparsity=xp.floats(y == 0.0).mean(axes),
                    kurtosis=(square * square).mean(axes) / (variance * variance),
                    **({"samples": some + 0.0} if self.record.probe else {}),
                )

    def rendering(self, network: Network, step: int, layers: bool, templates: bool) -> None:
        """Of the probe batch, rendered from the class inferred: how each layer does; what each class renders."""
        xp, pass_, errors = network.xp, network.pass_, {}

        def predict(unit: Any, seen: Any, z: Array, template: Array) -> Any:
            if layers and isinstance(unit, Node):
                away = seen.x - unit.map.down(z, unit.W)
                errors[unit.name] = (away * away).mean()
            return seen

        with network.watching() as outputs, xp.scope():
            output, tape = pass_.infer(self.probe.x, LOOK._replace(render=True))  # type: ignore[attr-defined]
            classes = xp.one_hot(output.argmax(-1), network.output[0])
            image = pass_.render(classes, tape, predict)  # type: ignore[attr-defined]
        with xp.scope():
            for name, error in errors.items():
                y = outputs[name]
                use = xp.floats(y != 0.0).mean((0, *range(2, y.ndim)))
                self.wait(f"layers/{name}/rendering", step, use=use, error=error)
            if templates:
                found = classes.sum(0)
                total = xp.linear(classes.T, image.reshape((len(image), -1)), None)
                mean = total / xp.maximum(found, 1.0).reshape((-1, 1))
                self.wait("templates", step, image=mean.reshape((-1, *image.shape[1:])), found=found)

    def wait(self, table: str, step: int, **row: Any) -> None:
        """A row for the log, still on the device."""
        self.waiting.append((table, {"step": step, **row}))


def _due(every: Every | None, step: int, moment: Moment) -> bool:
    """Whether this update gets a row; by epochs, the last update of an epoch does."""
    if every is None:
        return False
    if every.unit == "update":
        return step % every.count == 0
    return moment.last and (moment.epoch + 1) % every.count == 0


def _terms(values: dict[str, Any]) -> dict[str, Any]:
    """Columns for the terms of a loss."""
    return {f"loss_{name}": value for name, value in values.items()}


def _learning(network: Network) -> Iterable[Node]:
    return (node for node in network.nodes if node.keep or node.plasticity is not None)
