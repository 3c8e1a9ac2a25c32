"""What a rule costs: every channel, update and local plasticity against our own symmetric SGD step."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from typing import Any

from benchmarks.cases import CASES, MOMENTUM, Case, backend, batches, network, step
from benchmarks.markdown import quartiles, table
from benchmarks.timing import alternate
from bioplaus import registry
from bioplaus.network import Network

SYMMETRIC = "bp, sgd"
BM_RATE = 1e-6
MEASURED = ("CIFAR net", "LeNet", "MLP 784-512-256-10")
RENDERING = next(case for case in CASES if case.rule)
LABELS, RENDERS = "drmm_sup", ("drmm_sup", "drmm_hebb", "drmm_vi_nn")


def variants() -> dict[str, dict[str, Any]]:
    """Each channel with BM1, each update on uSF, BM1 on symmetric feedback, and Oja's rule in the hidden layers."""
    found: dict[str, dict[str, Any]] = {SYMMETRIC: {}}
    for channel in registry.names("channel"):
        found[f"{channel}, bm1"] = {"channel": channel, **_update("bm1")}
    for update in registry.names("update"):
        if update != "bm1":
            found[f"usf, {update}"] = {"channel": "usf", **_update(update)}
    return found | {"oja in hidden layers, sgd": {"plasticity": "oja"}}


def cases() -> list[Case]:
    """One batch size each, without a norm: its cost is the same under every rule."""
    return [next(c for c in CASES if c.title == title and c.norm is None) for title in MEASURED]


def report(*, rounds: int, device: str) -> str:
    """Two tables."""
    return f"{backwards(rounds, device)}\n\n{rendering(rounds, device)}"


def rendering(rounds: int, device: str) -> str:
    """What a rule of the rendering mixture model costs, over forward and back of the same network by labels alone."""
    xp = backend(device)
    data = batches(RENDERING, xp)

    def net(rule: str) -> Network:
        return network(replace(RENDERING, rule=rule), xp)

    labels, supply = net(LABELS), cycle(data)
    sides = {f"{LABELS}, forward and back": lambda: (labels.accumulate(next(supply)), None)[1]}
    sides |= {f"{rule}, step": step(net(rule), data) for rule in RENDERS}
    times, first = alternate(sides, rounds=rounds, device=device), next(iter(sides))
    rows = [[name, f"{times.milliseconds(name):.3g}", quartiles(times.ratio(name, first))] for name in sides]
    return table([f"{RENDERING.network}, batch {RENDERING.samples}", "ms", f"of {first}"], rows)


def backwards(rounds: int, device: str) -> str:
    """Time of a step over that of the symmetric one."""
    columns = []
    for case in cases():
        xp = backend(device)
        data = batches(case, xp)
        sides = {name: step(network(case, xp, **choice), data) for name, choice in variants().items()}
        columns.append(alternate(sides, rounds=rounds, device=device))
    rows = [
        [
            name,
            *(
                f"{t.milliseconds(name):.3g} ms" if name == SYMMETRIC else quartiles(t.ratio(name, SYMMETRIC))
                for t in columns
            ),
        ]
        for name in variants()
    ]
    return table(["channel, update", *(f"{case.title}, batch {case.samples}" for case in cases())], rows)


def _update(name: str) -> dict[str, Any]:
    momentum = {"momentum": MOMENTUM} if name not in ("rmsprop", "adam") else {}
    return {"recipe": name, "rate": BM_RATE, **momentum}
