"""What may be written in a rule file and in a network file, as frozen pydantic models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, PlainSerializer, WithJsonSchema

from bioplaus.config.layers import LayerItem, write_layers
from bioplaus.config.parts import ChannelPart, OptionalPart, Part, Spec, UpdatePart, Wrong, merged, written

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[^/\\:\x00-\x1f]+$", max_length=100)]  # it becomes part of a folder's name
Positive = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """Unknown keys refused, types as written, nothing changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


@dataclass(frozen=True)
class Every:
    """How often a table of the log gets a row: every ``count`` updates or epochs."""

    count: int
    unit: Literal["update", "epoch"]

    def __str__(self) -> str:
        """As YAML has it: ``50 updates``."""
        return f"{self.count} {self.unit}{'s' * (self.count > 1)}"


def _every(value: Any) -> Every | None:
    if value is None or isinstance(value, Every):
        return value
    match = re.fullmatch(r"(\d+) +(update|epoch)s?", value) if isinstance(value, str) else None
    if match and int(match[1]) > 0:
        return Every(int(match[1]), "update" if match[2] == "update" else "epoch")
    if value == "off":
        return None
    raise Wrong(f"given {written(value)}, wanted 'N updates', 'N epochs', or off")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Cadence = Annotated[
    Every | None,
    BeforeValidator(_every),
    PlainSerializer(lambda every: "off" if every is None else str(every)),
    WithJsonSchema({"type": "string", "pattern": r"^(off|[1-9]\d* +(update|epoch)s?)$"}),
]


def _share(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or (number and value > 0 and (isinstance(value, int) or value < 1)):
        return value
    raise Wrong(f"given {written(value)}, wanted a number of samples (such as 5000) or a share between 0 and 1 (0.1)")


def _classes(value: Any) -> Any:
    count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    names = isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value)
    if value is None or count or names:
        return list(value) if names else value
    raise Wrong(f"given {written(value)}, wanted a number of classes to draw, or a list of their names")


Classes = Annotated[
    Any,
    BeforeValidator(_classes),
    WithJsonSchema(
        {"type": ["integer", "array", "null"], "description": "image folders: how many classes to draw, or their names"}
    ),
]
Share = Annotated[
    Any,
    BeforeValidator(_share),
    WithJsonSchema({"type": ["number", "null"], "description": "samples, or a share of the training set"}),
]


class Record(Strict):
    """What the log keeps, and how often."""

    norm: Cadence = Every(50, "update")
    activity: Cadence = Every(1, "epoch")
    feedback: Cadence = Every(50, "update")
    update: Cadence = Every(50, "update")
    weights: Cadence = None
    batches: Cadence = None
    gradient: Cadence = Field(default=None, description="angle of dW to the true gradient")
    probe: int = Field(default=1, ge=0, description="samples of the fixed probe batch whose activities are kept")


class Phase(Strict):
    """A stretch of training that changes the batch, the update or the rate; what it leaves out stays."""

    epochs: Count | None = Field(default=None, description="the last phase may leave it out: all that remain")
    samples_per_batch: Count | None = None
    batches_per_update: Count | None = None
    update: UpdatePart = None
    rate: Part | None = None


class Training(Strict):
    """How long, in which batches, and how the rate goes."""

    reduction: Literal["sum", "mean"] = Field(default="sum", description="over the samples of a batch")
    samples_per_batch: Count = 100
    batches_per_update: Count = 1
    epochs: Count = 10
    rate: Part = Field(default={"recipe": "constant"}, description="a schedule: the factor on every update's own rate")
    clip: Positive | None = Field(default=None, description="largest global norm of dW")
    phases: Annotated[tuple[Phase, ...], BeforeValidator(_tuple)] = ()

    def timeline(self) -> tuple[Phase, ...]:
        """The phases with everything filled in; one of ``epochs`` where none are written.

        Only ``update`` may stay None: the layers keep theirs.
        """
        rest = self.epochs - sum(phase.epochs or 0 for phase in self.phases)
        return tuple(
            phase.model_copy(
                update={
                    "epochs": phase.epochs or rest,
                    "samples_per_batch": phase.samples_per_batch or self.samples_per_batch,
                    "batches_per_update": phase.batches_per_update or self.batches_per_update,
                    "rate": self.rate if phase.rate is None else merged(self.rate, phase.rate),
                }
            )
            for phase in self.phases or (Phase(),)
        )


class Data(Strict):
    """What is learned from, and how it is prepared."""

    preprocess: str = "standard"
    validation: Share = None
    train_per_class: Count | None = Field(default=None, description="image folders: training images of a class")
    test_per_class: Count | None = Field(
        default=None, description="image folders: at most so many test images of a class"
    )
    classes: Classes = None
    split_seed: Seed | None = Field(default=None, description="image folders: seed of the split")

    def options(self) -> dict[str, Any]:
        """The settings of image folders, those given."""
        names = ("train_per_class", "test_per_class", "classes", "split_seed")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class Defaults(Strict):
    """The five choices every weight layer starts from."""

    channel: ChannelPart = {"recipe": "bp"}
    norm: OptionalPart = {"recipe": "none"}
    update: UpdatePart = {"recipe": "sgd"}
    plasticity: OptionalPart = {"recipe": "error"}
    pruning: OptionalPart = {"recipe": "none"}


class Override(Strict):
    """Choices for the layers of one address; what it leaves out stays."""

    channel: ChannelPart = {}
    norm: OptionalPart = {}
    update: UpdatePart = {}
    plasticity: OptionalPart = {}
    pruning: OptionalPart = {}


class Settings(Strict):
    """What a rule file and a whole configuration share."""

    dataset: str | None = Field(default=None, description="a name or a path")
    data: Data = Data()
    backend: str = "auto"
    device: str = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    threads: Count | None = None
    initial: str | None = Field(default=None, description="a run whose weights to start from")
    seed: Seed = 0
    defaults: Defaults = Defaults()
    training: Training = Training()
    record: Record = Record()


class RuleFile(Settings):
    """A rule file, or the ``config.yaml`` of an earlier run."""

    rule: Name = "unnamed"
    from_: str | None = Field(default=None, alias="from", description="the rule this one is a variant of")
    network: Any = Field(default=None, description="a name, a path, or a network written out")
    layers: dict[str, Override] = Field(default={}, description="name, glob, dotted path, $first, $last or $hidden")


class NetworkFile(Strict):
    """A network file."""

    network: Name | None = None
    input: Annotated[tuple[Count, ...], BeforeValidator(_tuple), Field(min_length=1, max_length=3)]
    pass_: Part = Field(default={"recipe": "feedforward"}, alias="pass", description="in which order layers run")
    layers: list[Any] = Field(description="a kind, {kind: value}, or {name: {kind: value, parameter: value}}")
    loss: Part = {"recipe": "softmax_cross_entropy"}


@dataclass(frozen=True)
class Network:
    """A network as read: shapes of its input, its pass, its layers, its loss."""

    name: str
    input: tuple[int, ...]
    pass_: Spec
    layers: tuple[LayerItem, ...]
    loss: Spec

    def written(self) -> dict[str, Any]:
        """As a network file has it."""
        return {
            "network": self.name,
            "input": list(self.input),
            "pass": self.pass_,
            "layers": write_layers(self.layers),
            "loss": self.loss,
        }


@dataclass(frozen=True)
class Origins:
    """Where every key of a configuration came from: ``file:line`` by path. Equal to any other."""

    places: Mapping[tuple[str | int, ...], str] = field(default_factory=dict, compare=False)

    def at(self, path: tuple[str | int, ...]) -> str | None:
        """The place of the deepest key on this path that somebody wrote."""
        return next((self.places[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.places), None)


class Config(Settings):
    """Everything a run is a function of, resolved; nothing here changes any more.

    ``layers`` holds (address, {kind: spec or change}) in the order they apply; ``choices`` resolves them.
    """

    rule: Name
    network: InstanceOf[Network]
    layers: tuple[tuple[str, dict[str, Any]], ...] = ()
    origins: InstanceOf[Origins] = Field(default=Origins(), exclude=True, repr=False)


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of rule or network files, for editors.

    Parameters
    ----------
    kind : str      ``rule`` or ``network``
    """
    models: dict[str, type[BaseModel]] = {"rule": RuleFile, "network": NetworkFile}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **models[kind].model_json_schema(by_alias=True)}
