"""What each weight layer gets: the defaults, then every override whose address matches, then the phase."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from bioplaus.config.layers import states, weighted
from bioplaus.config.parts import KINDS, Wrong, merged
from bioplaus.config.schema import Config
from bioplaus.errors import ConfigError, nearest


def choices(config: Config, layer_names: Sequence[str], *, phase: int | None = None) -> dict[str, dict[str, Any]]:
    """The five choices of every weight layer, and of every state that a norm may stand on.

    Parameters
    ----------
    layer_names : weight layers in the order they run; names are dotted inside blocks
    phase : place in ``training.phases``, whose update comes on top

    Returns
    -------
    dict        layer -> {channel, norm, update, plasticity, pruning} -> spec (update may be a list of links)

    Raises
    ------
    ConfigError     an address that matches no layer, or a change of something that cannot be changed
    """
    defaults = {kind: getattr(config.defaults, kind) for kind in KINDS}
    also = states(config.network.listed)
    result = {name: dict(defaults) for name in (*layer_names, *also)}
    problems: list[str] = []
    for address, override in config.layers:
        names = matching(address, layer_names, also)
        if not names:
            known = nearest(address, {*map(original, layer_names), *also})
            text = f"matches no layer{known} Globs, $first, $last and $hidden also match."
            problems.append(f"{where(config, f'layers.{address}')}: {text}")
        elif set(names) <= set(also):
            problems += [
                f"{where(config, f'layers.{address}.{kind}')}: {address!r} is a state, which has a norm, no weights. "
                "Give it a norm, an update or a plasticity of its gain and bias, or leave this out."
                for kind in override.keys() & {"channel", "pruning"}
            ]
        for name in names:
            for kind, over in override.items():
                _write(result[name], kind, over, where(config, f"layers.{address}.{kind}"))
    change = config.training.phases[phase].update if phase is not None and config.training.phases else None
    for chosen in result.values() if change is not None else ():
        _write(chosen, "update", change, where(config, f"training.phases.{phase}.update"))
    if problems:
        raise ConfigError("\n".join(problems))
    return result


def matching(address: str, layer_names: Sequence[str], states: Sequence[str] = ()) -> list[str]:
    """The layers an address means: a name, a glob, a dotted path, ``$first``, ``$last`` or ``$hidden``.

    The name of a cell, a block or an edge means all in it: ``lstm1`` is ``lstm1.x``, ``lstm1.h`` and ``lstm1.c``.
    States are no layers, so neither the first nor the last one; all of them are hidden.
    """
    names = list(layer_names)
    ends = {"$first": names[:1], "$last": names[-1:], "$hidden": [*names[:-1], *states]}
    if address in ends:
        return ends[address]
    meant = (address, f"{address}.*")
    return [name for name in (*names, *states) if any(fnmatchcase(original(name), each) for each in meant)]


def original(name: str) -> str:
    """The layer as the network file names it, of a copy of it: ``h1_h1.conv1`` of ``h1_h1.conv1@3``."""
    return name.partition("@")[0]


def where(config: Config, path: str) -> str:
    """Where a key was written, for messages: ``rules/usf.yaml:7: layers.conv2.channel``.

    For a choice of one layer (``layers.conv2.channel``) that is the override that decided it, else the default.
    """
    keys = tuple(int(key) if key.isdigit() else key for key in path.split("."))
    if keys[0] == "layers" and len(keys) > 1:
        return _where_chosen(config, path)
    place = config.origins.at(keys)
    return f"{place}: {path}" if place else path


def _where_chosen(config: Config, path: str) -> str:
    kinds = [key for key in path.split(".")[2:] if key in KINDS]
    name = path.removeprefix("layers.")
    if kinds:
        name = name.rpartition(f".{kinds[0]}")[0]
    weights, also = weighted(config.network.listed), states(config.network.listed)
    for address, override in reversed(config.layers):
        if (not kinds or kinds[0] in override) and (address == name or name in matching(address, weights, also)):
            place = config.origins.at(("layers", address, *kinds[:1]))
            return f"{place}: {path}" if place else path
    place = config.origins.at(("defaults", *kinds[:1]))
    return f"{place}: {path}" if place else path


def _write(chosen: dict[str, Any], kind: str, over: Any, place: str) -> None:
    try:
        chosen[kind] = merged(chosen[kind], over)
    except Wrong as error:
        inside = "".join(f".{key}" for key in error.inside)
        raise ConfigError(f"{place}{inside}: {error.text}.") from None
