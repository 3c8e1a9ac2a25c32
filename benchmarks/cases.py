"""What is measured: a network, a norm and a batch size, on our side and on PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import reference
from bioplaus import assemble, config
from bioplaus.backend.base import Backend
from bioplaus.network import Network
from bioplaus.parts import Batch

RATE, MOMENTUM = 1e-4, 0.9
CLASSES = 10
BATCHES = 8  # different ones, so that no network learns its one batch by heart and computes with tiny errors
CLOSE = 1e-9  # relative distance of two gradients in float64; in float32 a ReLU may open on one side only

Step = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """One row of the tables; ``norm`` is None, ``plain`` or ``affine`` (a gain and a bias are learned)."""

    title: str
    network: str
    samples: int
    norm: str | None
    model: Callable[[str | None], nn.Module]


CASES = (
    Case("LeNet", "lenet", 100, None, reference.lenet),
    Case("LeNet, BN", "lenet", 100, "affine", reference.lenet),
    Case("CIFAR net", "liao_cifar", 100, None, reference.cifar_net),
    Case("CIFAR net, BN without gain", "liao_cifar", 100, "plain", reference.cifar_net),
    Case("CIFAR net, BN", "liao_cifar", 100, "affine", reference.cifar_net),
    Case("ResNet-20, BN", "resnet20", 100, "affine", reference.resnet20),
    Case("MLP 784-512-256-10", "mlp", 32, None, reference.mlp),
    Case("MLP 784-512-256-10", "mlp", 1, None, reference.mlp),
)


def backend(device: str, dtype: str = "float32") -> Backend:
    """Torch, on one thread where it is the CPU."""
    return assemble.array_library("torch", device=device, dtype=dtype, threads=1)


def network(case: Case, xp: Backend, channel: str = "bp", plasticity: str = "error", **update: Any) -> Network:
    """Our side, from the shipped network; SGD with momentum unless ``update`` says otherwise."""
    norm: Any = {None: "none", "plain": "batch", "affine": {"recipe": "batch", "affine": True}}[case.norm]
    rule = {
        "rule": "benchmark",
        "defaults": {
            "channel": channel,
            "norm": norm,
            "update": update or {"recipe": "sgd", "rate": RATE, "momentum": MOMENTUM},
        },
        "layers": {"$hidden": {"plasticity": plasticity}},
        "training": {"reduction": "mean", "samples_per_batch": case.samples},
    }
    return assemble.assembled(config.load(rule, network=case.network), classes=CLASSES, xp=xp)


def batches(case: Case, xp: Backend) -> list[Batch]:
    """Noise and labels, on the device as floats."""
    draws = np.random.default_rng(0)
    shape = (case.samples, *config.load("sgd", network=case.network).network.input)
    return [
        Batch(xp.array(draws.normal(0.0, 1.0, shape)), xp.raw(draws.integers(0, CLASSES, case.samples)))
        for _ in range(BATCHES)
    ]


def step(net: Network, data: list[Batch]) -> Step:
    """One batch learned from, one update."""
    supply = cycle(data)

    def run() -> None:
        net.accumulate(next(supply))
        net.update()

    return run


def autograd_step(model: nn.Module, data: list[Batch], *, channels_last: bool, fused: bool) -> Step:
    """The same in eager PyTorch."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.to(memory_format=layout)
    supply = cycle([(batch.x.clone(memory_format=layout), batch.y) for batch in data])
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, fused=fused)

    def run() -> None:
        x, y = next(supply)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return run


def model_like(case: Case, net: Network) -> nn.Module:
    """PyTorch's side with the weights of ours."""
    model = case.model(case.norm).to(net.nodes[0].W.device, net.nodes[0].W.dtype).train()
    with torch.no_grad():
        for theirs, ours in pairs(model, net):
            theirs.copy_(ours.W.reshape(theirs.shape) if ours.W.dim() != 2 else _as_theirs(ours.W, theirs))
    return model


def check_equal_work(case: Case, device: str) -> float:
    """In float64 both sides have the same gradients from the same weights, and the same weights after a step.

    Returns the largest relative distance of two gradients.

    Raises
    ------
    AssertionError      they do not: the timing would compare different work
    """
    xp = backend(device, "float64")
    net = network(case, xp)
    model, data = model_like(case, net), batches(case, xp)[:1]
    net.accumulate(data[0])
    autograd_step(model, data, channels_last=False, fused=False)()
    furthest = max(_distance(theirs.grad, ours.dW) for theirs, ours in pairs(model, net))
    net.update()
    apart = max(_distance(theirs.detach(), ours.W) for theirs, ours in pairs(model, net))
    if not furthest < CLOSE or not apart < CLOSE:
        raise AssertionError(
            f"{case.title}: the two sides differ: gradients by {furthest:.1e}, weights by {apart:.1e}."
        )
    return furthest


def pairs(model: nn.Module, net: Network) -> list[tuple[Any, Any]]:
    """(their parameter, ours) of every weight, bias and gain, in the order of the layers."""
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    scaled = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) and m.affine]
    found: list[tuple[Any, Any]] = []
    for module, node in zip(weighted, net.nodes, strict=True):
        found.append((module.weight, node.weights))
        if (module.bias is None) != (node.bias is None):
            raise AssertionError(f"{node.name}: a bias on one side only.")
        if module.bias is not None:
            found.append((module.bias, node.bias))
    for norm, gain in zip(scaled, net.gains, strict=True):
        found += [(norm.weight, gain.gain), (norm.bias, gain.bias)]
    return found


def _as_theirs(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Dense weights are (in, out) here and (out, in) there."""
    return ours.t() if theirs.dim() == 2 else ours.reshape(theirs.shape)


def _distance(theirs: torch.Tensor, ours: torch.Tensor) -> float:
    ours = _as_theirs(ours, theirs) if ours.dim() == 2 else ours.reshape(theirs.shape)
    return float((theirs - ours).norm() / theirs.norm())
