"""What may be written in a rule file and in a network file, as frozen pydantic models."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, PlainSerializer, WithJsonSchema

from bioplaus.config.graph import Edge
from bioplaus.config.layers import LayerItem, write_layers
from bioplaus.config.parts import ChannelPart, OptionalPart, Part, Spec, UpdatePart, Wrong, merged, part, written

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[^/\\:\x00-\x1f]+$", max_length=100)]  # it becomes part of a folder's name
Positive = Annotated[float, Field(gt=0)]
Inner = Annotated[float, Field(gt=0, lt=1)]
HALVES = ("labelled", "unlabelled", "both")


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


def _updates(value: Any) -> Every | None:
    every = _every(value)
    if every is not None and every.unit == "epoch":
        raise Wrong(f"given {written(value)}, wanted 'N updates', or off: every epoch is scored at its end anyway")
    return every


Between = Annotated[
    Every | None,
    BeforeValidator(_updates),
    PlainSerializer(lambda every: "off" if every is None else str(every)),
    WithJsonSchema({"type": "string", "pattern": r"^(off|[1-9]\d* +updates?)$"}),
]


def _augment(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise Wrong(f"given {written(value)}, wanted a list of transforms, such as [mirror, {{shift: 4}}]")
    for place, item in enumerate(value):
        if not item or not isinstance(item, str | Mapping):
            raise Wrong(f"given {written(item)}, wanted a transform such as mirror or {{shift: 4}}", place)
        try:
            part(item)
        except Wrong as error:
            raise Wrong(error.text, place, *error.inside) from None
    return tuple(value)


Transforms = Annotated[
    tuple[Any, ...],
    BeforeValidator(_augment),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": ["string", "object"]},
            "description": "what is done to the images of every training batch: names, or {name: value}",
        }
    ),
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
    rendering: Cadence = Field(
        default=Every(1, "epoch"),
        description="of generative networks: use of switches, error of each layer's prediction",
    )
    templates: Cadence = Field(default=Every(1, "epoch"), description="of generative networks: what each class renders")
    weights: Cadence = None
    batches: Cadence = None
    loss: Cadence = Field(default=None, description="loss of the last batch before an update")
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
    evaluate: Between = Field(default=None, description="scores within an epoch too, every N updates")
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
    augment: Transforms = ()
    validation: Share = None
    labels: Count | None = Field(default=None, description="training samples whose labels may be seen; all if left out")
    balanced: bool = Field(default=True, description="as many labels of every class")
    labelled_share: Inner = Field(default=0.5, description="of every batch: samples that have labels")
    statistics: Literal["labelled", "unlabelled", "both"] = Field(
        default="both", description="which samples of a batch settle the norms' statistics for testing"
    )
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


def _losses(value: Any) -> Any:
    """Every term as a mapping; its recipe is its name where it gives none."""
    if not isinstance(value, Mapping):
        raise Wrong(f"given {written(value)}, wanted terms, such as {{softmax_cross_entropy: {{weight: 1.0}}}}")
    terms = {}
    for name, given in value.items():
        if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z_]\w*", name)):
            raise Wrong(f"{name!r} is no name of a term; wanted letters, digits and _, no digit first", name)
        try:
            terms[name] = part(given) if given else {}
        except Wrong as error:
            raise Wrong(error.text, name, *error.inside) from None
        weight = terms[name].get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise Wrong(f"given {written(weight)}, wanted a number of at least 0", name, "weight")
        on = terms[name].get("on", "both")
        if on not in HALVES:
            raise Wrong(f"given {written(on)}, wanted {' or '.join(HALVES)}", name, "on")
    return terms


Losses = Annotated[
    dict[str, Spec],
    BeforeValidator(_losses),
    WithJsonSchema(
        {
            "type": "object",
            "description": "terms whose weighted sum replaces the network's loss: name: {recipe, weight, ...}",
            "additionalProperties": {
                "type": ["object", "string", "null"],
                "properties": {
                    "recipe": {"type": "string"},
                    "weight": {"type": "number", "minimum": 0},
                    "on": {"enum": list(HALVES)},
                },
            },
        }
    ),
]


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
    losses: Losses = {}
    training: Training = Training()
    record: Record = Record()


class RuleFile(Settings):
    """A rule file, or the ``config.yaml`` of an earlier run."""

    rule: Name = "unnamed"
    from_: str | None = Field(default=None, alias="from", description="the rule this one is a variant of")
    network: Any = Field(default=None, description="a name, a path, or a network written out")
    layers: dict[str, Override] = Field(
        default={}, description="name (of a block: all in it), glob, dotted path, $first, $last or $hidden"
    )


def _input(value: Any) -> Any:
    """``symbols`` are whole numbers: samples without axes."""
    if value == "symbols":
        return ()
    if isinstance(value, list | tuple) and not 1 <= len(value) <= 3:
        raise Wrong(f"given {written(value)}, wanted [features], [channels, height, width] or symbols")
    return _tuple(value)


Input = Annotated[
    tuple[Count, ...],
    BeforeValidator(_input),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 3},
                {"const": "symbols"},
            ]
        }
    ),
]


Shape = Annotated[tuple[Count, ...], BeforeValidator(_tuple), Field(min_length=1, max_length=3)]
_LAYERS = "a kind, {kind: value}, or {name: {kind: value, parameter: value}}"


def _sharing(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and value):
        return value
    raise Wrong(f"given {written(value)}, wanted true, false, or the name of a set of edges")


def _window(value: Any) -> Any:
    whole = isinstance(value, list | tuple) and all(isinstance(t, int) and not isinstance(t, bool) for t in value)
    if value is None or (whole and len(value) == 2):
        return value and tuple(value)
    raise Wrong(f"given {written(value)}, wanted [first, last]: two time steps")


class EdgeFile(Strict):
    """What one state of a graph hands to another, one time step later."""

    from_: str = Field(alias="from", description="a state")
    to: str = Field(description="a state")
    module: Any = Field(description="BRCx2, BRDx2, BRCx3, BRDx3, or a list of layers")
    identity: bool = Field(default=False, description="adds the state itself to what the module gives")
    share: Annotated[bool | str, BeforeValidator(_sharing)] = Field(
        default=True, description="one module at all times, a copy at every time, or the set of edges that share one"
    )
    open: Annotated[tuple[int, int] | None, BeforeValidator(_window)] = Field(
        default=None, description="first and last time step; negative ones count back from the readout"
    )


class NetworkFile(Strict):
    """A network file."""

    network: Name | None = None
    input: Input
    pass_: Part = Field(default={"recipe": "feedforward"}, alias="pass", description="in which order layers run")
    layers: list[Any] | None = Field(default=None, description=_LAYERS)
    prenet: list[Any] | None = Field(default=None, description="of a graph: layers from the input to the first state")
    states: dict[str, Shape] | None = Field(default=None, description="of a graph: name -> shape of one sample")
    edges: dict[str, EdgeFile] | None = Field(default=None, description="of a graph: what a state hands to another")
    postnet: list[Any] | None = Field(default=None, description="of a graph: layers from the last state to the output")
    loss: Part = {"recipe": "softmax_cross_entropy"}


@dataclass(frozen=True)
class Origins:
    """Where every key of a configuration came from: ``file:line`` by path. Equal to any other."""

    places: Mapping[tuple[str | int, ...], str] = field(default_factory=dict, compare=False)

    def at(self, path: tuple[str | int, ...]) -> str | None:
        """The place of the deepest key on this path that somebody wrote."""
        return next((self.places[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.places), None)


@dataclass(frozen=True)
class Network:
    """A network as read: shapes of its input, its pass, its loss; and either its layers, or the parts of a graph."""

    name: str
    input: tuple[int, ...]
    pass_: Spec
    loss: Spec
    layers: tuple[LayerItem, ...] = ()
    prenet: tuple[LayerItem, ...] = ()
    states: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    postnet: tuple[LayerItem, ...] = ()
    origins: Origins = field(default=Origins(), repr=False)

    @property
    def listed(self) -> tuple[LayerItem, ...]:
        """All it is made of, in the order of its file; a module that edges share once."""
        modules = {id(edge.layers): edge.layers for edge in self.edges}
        return (*self.layers, *self.prenet, *(item for module in modules.values() for item in module), *self.postnet)

    def where(self, *keys: str | int) -> str:
        """What messages about a key of its file begin with: ``networks/frnn3.yaml:7: edges.h1_h2.open``."""
        place, path = self.origins.at(keys), ".".join(map(str, keys))
        return f"{place}: {path}" if place else f"network {self.name!r}: {path}"

    def written(self) -> dict[str, Any]:
        """As a network file has it."""
        graph = {
            "prenet": write_layers(self.prenet),
            "states": {name: list(shape) for name, shape in self.states.items()},
            "edges": {edge.name: edge.written() for edge in self.edges},
            "postnet": write_layers(self.postnet),
        }
        return {
            "network": self.name,
            "input": list(self.input) or "symbols",
            "pass": self.pass_,
            **(graph if self.states else {"layers": write_layers(self.layers)}),
            "loss": self.loss,
        }


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
