"""One sample at a time through the MLP: a step with momentum and without, and the least PyTorch takes for it."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import torch
from torch import nn

from benchmarks.cases import CASES, CLOSE, MOMENTUM, RATE, Step, backend, batches, model_like, network, pairs
from benchmarks.markdown import quartiles, table
from benchmarks.timing import alternate
from bioplaus.network import Network
from bioplaus.parts import Batch

CASE = next(case for case in CASES if case.network == "mlp" and case.samples == 1)
THEIRS = {"autograd, SGD with momentum": MOMENTUM, "autograd, plain SGD": 0.0}
OURS = {"ours, SGD with momentum": MOMENTUM, "ours, plain SGD": 0.0}
LEAST = "its operations one after another, plain SGD"


def report(*, rounds: int, device: str) -> str:
    """The table."""
    check_equal_work(device)
    xp = backend(device)
    data = batches(CASE, xp)
    sides = {name: autograd_step(_network(xp, m), data, m) for name, m in THEIRS.items()}
    sides |= {name: step(_network(xp, m), data) for name, m in OURS.items()}
    sides[LEAST] = bare_step(_network(xp, 0.0), data)
    times = alternate(sides, rounds=rounds, device=device)
    rows = [
        [name, f"{1e3 * times.milliseconds(name):.0f}", *(quartiles(times.ratio(name, one)) for one in THEIRS)]
        for name in sides
    ]
    return table(["MLP 784-512-256-10, one sample", "µs", *(f"of {name}" for name in THEIRS)], rows)


def step(net: Network, data: list[Batch]) -> Step:
    """Ours, in one act."""
    supply = cycle(data)
    return lambda: (net.step(next(supply)), None)[1]


def autograd_step(net: Network, data: list[Batch], momentum: float) -> Step:
    """Eager PyTorch."""
    return _trained(model_like(CASE, net), data, momentum)


def _trained(model: nn.Module, data: list[Batch], momentum: float) -> Step:
    optimizer, supply = torch.optim.SGD(model.parameters(), lr=RATE, momentum=momentum), cycle(data)
    given = {id(batch): batch.x.clone() for batch in data}  # inference tensors are not for autograd

    def run() -> None:
        batch = next(supply)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(given[id(batch)]), batch.y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return run


def bare_step(net: Network, data: list[Batch]) -> Step:
    """The products, sums and signs themselves, on the weights of ours; no loss, no count of wrong answers."""
    supply, back = cycle(data), torch.ops.aten.threshold_backward
    (W1, b1), (W2, b2), (W3, b3) = ((node.W, node.bias.W) for node in net.nodes if node.bias is not None)

    def learn(W: Any, b: Any, x: Any, d: Any) -> None:
        W.addcmul_(x.t(), d, value=-RATE)
        b.add_(d, alpha=-RATE)

    def run() -> None:
        batch = next(supply)
        with torch.inference_mode():
            x = batch.x.flatten(1)
            h1 = torch.addmm(b1, x, W1).relu_()
            h2 = torch.addmm(b2, h1, W2).relu_()
            d3 = torch.softmax(torch.addmm(b3, h2, W3), -1)
            d3[torch.arange(len(d3)), batch.y] -= 1.0
            d2 = back(torch.matmul(d3, W3.t()), h2, 0)
            d1 = back(torch.matmul(d2, W2.t()), h1, 0)
            for W, b, seen, d in ((W3, b3, h2, d3), (W2, b2, h1, d2), (W1, b1, x, d1)):
                learn(W, b, seen, d)

    return run


def check_equal_work(device: str) -> None:
    """In float64 all sides of plain SGD have the same weights after two steps from the same ones.

    Raises
    ------
    AssertionError      they do not: the timing would compare different work
    """
    xp = backend(device, "float64")
    ours, bare, data = _network(xp, 0.0), _network(xp, 0.0), batches(CASE, xp)
    model = model_like(CASE, ours)
    for one in (step(ours, data), bare_step(bare, data), _trained(model, data, 0.0)):
        one()
        one()
    for (theirs, W), (_, same) in zip(pairs(model, ours), pairs(model, bare), strict=True):
        wanted = theirs.detach().t() if theirs.dim() == 2 else theirs.detach()[None]
        for found in (W.W, same.W):
            if not float((found - wanted).abs().max()) < CLOSE:
                raise AssertionError(f"{W.name}: the sides differ.")


def _network(xp: Any, momentum: float) -> Network:
    return network(CASE, xp, recipe="sgd", rate=RATE, momentum=momentum)
