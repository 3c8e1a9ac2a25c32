"""From files, flags and ``--set`` to one frozen Config: read, check, merge in the order of precedence.

Later wins: data-set preset, network, rule (``from``, then the rule itself), flags, ``--set``. Defaults of parts
come before all of these and belong to the parts; layers and phases are resolved by ``choices``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bioplaus import registry
from bioplaus.config import documents, text
from bioplaus.config.files import find, shipped
from bioplaus.config.graph import read_edges
from bioplaus.config.layers import Reader
from bioplaus.config.messages import checked
from bioplaus.config.parts import KINDS, Wrong, merged, written
from bioplaus.config.schema import Config, Defaults, Network, NetworkFile, Origins, Override, RuleFile, Training
from bioplaus.config.text import Document, Keys
from bioplaus.errors import ConfigError, UserError

SECTIONS = ("layers", "prenet", "states", "edges", "postnet")  # of network files; a pass reads some of them

PARTS = (*KINDS, "rate")


def load(
    rule: str | Path | Mapping[str, Any],
    *,
    network: str | Path | Mapping[str, Any] | None = None,
    dataset: str | Path | None = None,
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    preset: Callable[[str], Mapping[str, Any]] = lambda name: {},
    allow_code: bool = False,
) -> Config:
    """Everything a run is a function of.

    Parameters
    ----------
    rule : path, shipped name, or the values of a rule file; also the ``config.yaml`` of an earlier run
    network : likewise; None takes the rule's, then the data set's own
    dataset : name or path
    sets : ``a.b=c`` each, c in YAML
    flags : backend, device, dtype, threads, seed, epochs; None counts as not given
    preset : what a data set brings, by its name, in the form of a rule file; its ``network`` is the default one
    allow_code : files may name code, as ``./my_rule.py:MyRule``; ``sets`` and values given in Python always may

    Raises
    ------
    ConfigError     all that is wrong with one file, flag or setting, a line each
    """
    flags = {"network": network, "dataset": dataset, **(flags or {})}
    said = [
        *documents.rule(rule, allow_code=allow_code),
        *(documents.flag(name, value) for name, value in flags.items() if value is not None),
        *(documents.setting(item) for item in sets),
    ]
    name = _data_set(said)
    if name is not None:
        said.insert(0, text.from_values(preset(name), label=f"data set {name!r}"))
    stack = _Stack(allow_code)
    for document in said:
        stack.add(document)
    return stack.config()


def check_file(path: str | Path, *, allow_code: bool = False) -> list[str]:
    """Everything wrong with a rule or network file, a line each; nothing where it is right."""
    try:
        document = text.read(Path(path))
        if _is_network(document.data):
            _read_network(documents.vetted(document, allow_code=allow_code))
        else:
            stack = _Stack(allow_code)
            for part in documents.with_parent(document, allow_code=allow_code):
                stack.add(part)
            stack.settled()
            if stack.network is not None:
                _read_network(stack.network)
    except ConfigError as error:
        return str(error).splitlines()
    return []


class _Stack:
    """Documents in the form of a rule file, laid on one another."""

    def __init__(self, allow_code: bool) -> None:
        self.allow_code = allow_code
        self.values: dict[str, Any] = {"defaults": Defaults().model_dump(), "training": {"rate": Training().rate}}
        self.layers: list[tuple[str, dict[str, Any]]] = []
        self.network: Document | None = None
        self.places: dict[Keys, str] = {}

    def add(self, document: Document) -> None:
        """Check one document, and write it over what stands."""
        values, layers = _checked_rule(document)
        network = values.pop("network", None)
        if network is not None:
            self.take_network(network, document)
        if values.get("dataset"):
            values["dataset"] = documents.data_path(values["dataset"], document.folder)
        try:
            self.values = merged(self.values, values)
        except Wrong as error:
            raise ConfigError(document.message(error.inside, f"{error.text}.")) from None
        self.layers += layers
        for path, value in _paths(document.data):
            in_list = path[0] == "layers" and len(path) > 1 and isinstance(path[1], int)
            path_here = ("layers", *path[2:]) if in_list else path
            place, before = document.at(path), self.places.get(path_here)
            merges = isinstance(value, Mapping) and "recipe" not in value and not document.lines
            if before is None or not merges:
                self.places[path_here] = place
            elif path[-1] in PARTS and not before.endswith(place):  # what is wrong with it may be said in either
                self.places[path_here] = f"{before} and {place}"

    def take_network(self, network: Any, document: Document) -> None:
        """A network by name, written out, or (from a setting) a change of the one that stands."""
        if isinstance(network, str):
            try:
                found = text.read(find("network", network, beside=document.folder))
                self.network = documents.vetted(found, allow_code=self.allow_code)
            except ConfigError as error:
                raise ConfigError(document.message(("network",), str(error))) from None
        elif not isinstance(network, Mapping):
            raise ConfigError(document.message(("network",), f"given {written(network)}, wanted a name or a network."))
        elif self.network is not None and isinstance(network.get("layers"), Mapping):
            problem = (
                "given a mapping, wanted the list of all layers. To change one of them, copy "
                f"{self.network.label}, change the copy, and name it: --network my_copy.yaml."
            )
            raise ConfigError(document.message(("network", "layers"), problem))
        elif self.network is None or "layers" in network or {"input", "states"} <= set(network):
            self.network = document.inside("network")
        else:
            data = merged(self.network.data, network)
            _, problems = checked(NetworkFile, data, document, ("network",))
            if problems:
                raise ConfigError("\n".join(problems))
            changes = {path: document.at(("network", *path)) for path, _ in _paths(network)}
            self.network = replace(self.network, data=data, changes={**self.network.changes, **changes})

    def settled(self) -> dict[str, Any]:
        """All values but the network, after the checks that need the whole."""
        training = dict(self.values["training"])
        phases = training.get("phases") or ()
        told = [phase.get("epochs") for phase in phases]
        if phases and "epochs" not in training and None not in told:
            training["epochs"] = sum(told)
        problem = _phase_problem(told, training.get("epochs")) if phases else None
        if problem:
            keys = ("training", "phases")
            raise ConfigError(f"{Origins(self.places).at(keys)}: {text.dotted(keys)}: {problem}")
        return {**self.values, "training": training}

    def config(self) -> Config:
        """The whole, with its network."""
        values = self.settled()
        if self.network is None:
            known = ", ".join(shipped("network"))
            raise ConfigError(
                f"no network is named. Give --dataset, which brings its own, or --network. Known: {known}."
            )
        network = _read_network(self.network)
        self.places |= {("network", *path): self.network.at(path) for path, _ in _paths(self.network.data)}
        rest = {"network": network, "layers": tuple(self.layers), "origins": Origins(self.places)}
        return Config.model_validate({**values, **rest})


def _checked_rule(document: Document) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """Values and layers of one document in their normal form."""
    problems = list(document.problems)
    data = dict(document.data)
    overrides = data.pop("layers", None)
    data.pop("from", None) if isinstance(data.get("from"), str) else None
    instance, wrong = checked(RuleFile, data, document)
    problems += wrong
    layers = []
    for path, address, choices in _overrides(overrides, document, problems):
        override, wrong = checked(Override, choices, document, path)
        problems += wrong
        if override is not None:
            layers.append((address, override.model_dump(exclude_unset=True)))
    if problems or instance is None:
        raise ConfigError("\n".join(document.by_line(problems)))
    return instance.model_dump(exclude_unset=True, by_alias=True), layers


def _overrides(layers: Any, document: Document, problems: list[str]) -> Iterator[tuple[Keys, str, Any]]:
    """(keys, address, choices) of ``layers``: a mapping, or a list of them where an address comes twice."""
    if layers is None:
        return
    listed = isinstance(layers, list)
    for place, mapping in enumerate(layers if listed else [layers]):
        path: Keys = ("layers", place) if listed else ("layers",)
        if isinstance(mapping, Mapping):
            yield from (((*path, address), address, choices) for address, choices in mapping.items())
        else:
            wanted = "wanted a mapping from layers to choices, such as {conv1: {norm: none}}"
            problems.append(document.message(path, f"given {written(mapping)}, {wanted}."))


def _read_network(document: Document) -> Network:
    """The network of a document.

    Raises
    ------
    ConfigError     everything that is wrong with it
    """
    if not isinstance(document.data, Mapping):
        raise ConfigError(document.message((), f"given {written(document.data)}, wanted keys and values."))
    instance, wrong = checked(NetworkFile, document.data, document)
    problems = [*document.problems, *wrong]

    problems += [document.message(keys, text) for keys, text in _misplaced(document)]
    reader = Reader(lambda keys: document.message(keys, "").removesuffix(": "), run_code=not document.problems)
    lists: dict[str, Any] = {
        key: reader.path(document.data[key], "", (key,)) for key in ("layers", "prenet") if key in document.data
    }
    if isinstance(instance, NetworkFile) and instance.states and instance.edges:
        lists["edges"] = read_edges(instance.states, instance.edges, reader)
    if "postnet" in document.data:
        lists["postnet"] = reader.path(document.data["postnet"], "", ("postnet",))
    problems += [document.message(error.inside, f"{error.text.removesuffix('.')}.") for error in reader.problems]
    if problems or not isinstance(instance, NetworkFile):
        raise ConfigError("\n".join(document.by_line(dict.fromkeys(problems))))
    name = instance.network or document.name or "unnamed"
    origins = Origins({path: document.at(path) for path, _ in _paths(document.data)})
    states = instance.states or {}
    return Network(name, instance.input, instance.pass_, instance.loss, states=states, origins=origins, **lists)


def _misplaced(document: Document) -> Iterator[tuple[Keys, str]]:
    """(keys, problem) of every section that the network's pass needs and is not there, or that it does not read."""
    spec = document.data.get("pass", "feedforward")
    name = spec.get("recipe") if isinstance(spec, Mapping) else spec
    if not isinstance(name, str) or (":" in name and document.problems):
        return
    try:
        wanted = getattr(registry.get("pass", name, allow_code=True), "sections", ("layers",))
    except UserError as error:
        yield ("pass",), str(error)
        return
    for key in wanted:
        if key not in document.data:
            yield (key,), "is missing."
        elif not document.data[key] and key not in ("prenet", "postnet"):
            kind = "list of layers" if key == "layers" else "mapping"
            yield (key,), f"is empty; wanted a {kind}."
    for key in SECTIONS:
        if key in document.data and key not in wanted:
            yield (key,), f"pass {name!r} reads no {key}, but {', '.join(wanted)}. Name another pass, or leave it out."


def _is_network(data: Any) -> bool:
    keys = set(data) if isinstance(data, Mapping) else set()
    listed = {"network", "layers"} <= keys and isinstance(data["layers"], list)
    return not {"rule", "from"} & keys and (listed or bool({"input", "pass", "loss"} & keys))


def _paths(data: Any, path: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every path into a document, and what is there."""
    for key, inner in data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ():
        yield (*path, key), inner
        yield from _paths(inner, (*path, key))


def _phase_problem(told: Sequence[int | None], epochs: int | None) -> str | None:
    total = sum(count or 0 for count in told)
    if None in told[:-1]:
        return "only the last phase may leave its epochs out, for all that remain."
    if epochs is None:
        return "the last phase takes the epochs that remain, but training.epochs is not given. Give it."
    if told[-1] is None and total >= epochs:
        return f"the first phases take {total} epochs, which leaves none of training.epochs {epochs} for the last."
    if told[-1] is not None and total != epochs:
        return f"the phases take {total} epochs, but training.epochs is {epochs}. Make them agree, or leave one out."
    return None


def _data_set(said: Sequence[Document]) -> str | None:
    """The data set that counts: the one named last."""
    for document in reversed(said):
        name = document.data.get("dataset")
        if isinstance(name, str) and name:
            return documents.data_path(name, document.folder)
    return None
