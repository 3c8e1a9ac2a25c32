"""A Config as YAML that ``load`` reads back to the same Config."""

from __future__ import annotations

from io import StringIO
from typing import Any

from ruamel.yaml import YAML

from bioplaus.config.schema import Config


def dump(config: Config) -> str:
    """The text of ``config.yaml``: everything resolved; running it again repeats the run."""
    values = config.model_dump(by_alias=True, exclude={"rule", "network", "layers"})
    values["training"]["phases"] = [phase.model_dump(exclude_none=True) for phase in config.training.phases]
    values["network"] = config.network.written()
    values["layers"] = _layers(config)
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False
    yaml.allow_unicode = True
    yaml.width = 4096
    stream = StringIO()
    yaml.dump({"rule": config.rule, **_plain(values)}, stream)
    return f"# Everything this run was a function of; `bioplaus run` with this file repeats it.\n{stream.getvalue()}"


def _layers(config: Config) -> Any:
    """A mapping; a list of mappings where one address comes twice."""
    if len(dict(config.layers)) == len(config.layers):
        return dict(config.layers)
    return [{address: override} for address, override in config.layers]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
