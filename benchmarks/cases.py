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
ADAM_RATE = 1e-3  # of the shipped rules of the rendering mixture model
CLASSES = 10
STEPS = 100  # of time, as the shipped networks of characters have them
BATCHES = 8  # different ones, so that no network learns its one batch by heart and computes with tiny errors
CLOSE = 1e-9  # relative distance of two gradients in float64; in float32 a ReLU may open on one side only

# A gain and a bias are learned in all but the plain one. Streaming as in figure 4-8 of Liao (2017), p = 2, setting A.
NORMS: dict[str | None, Any] = {
    None: "none",
    "plain": "batch",
    "affine": {"recipe": "batch", "affine": True},
    "layer": {"recipe": "layer", "affine": True},
    "streaming": {"recipe": "streaming", "alpha": [0.7, 0.3], "beta": [0.7, 0.0, 0.3], "affine": True},
}

Step = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """One row of the tables; ``norm`` is None or one of NORMS. ``symbols``: samples are texts of so many symbols.

    ``rule``: a shipped one in place of the symmetric one with SGD, on batches whose first half alone has labels.
    """

    title: str
    network: str
    samples: int
    norm: str | None
    model: Callable[[str | None], nn.Module]
    symbols: int = 0
    tuned: Callable[[str | None], nn.Module] | None = None  # the same network, written for speed
    rule: str | None = None

    @property
    def classes(self) -> int:
        """The network's outputs."""
        return self.symbols or CLASSES

    @property
    def labelled(self) -> int | None:
        """How many samples of a batch have labels; None for all."""
        return self.samples // 2 if self.rule else None


CASES = (
    Case("LeNet", "lenet", 100, None, reference.lenet),
    Case("LeNet, BN", "lenet", 100, "affine", reference.lenet),
    Case("CIFAR net", "liao_cifar", 100, None, reference.cifar_net),
    Case("CIFAR net, BN without gain", "liao_cifar", 100, "plain", reference.cifar_net),
    Case("CIFAR net, BN", "liao_cifar", 100, "affine", reference.cifar_net),
    Case("ResNet-20, BN", "resnet20", 100, "affine", reference.resnet20),
    Case("GRU 65-100-65, 100 steps", "char_gru", 32, None, reference.CharGru, 65, reference.TunedGru),
    Case("GRU 65-100-65, BN per step", "char_gru", 32, "affine", reference.CharGru, 65, reference.TunedGru),
    Case("GRU 65-100-65, LN", "char_gru", 32, "layer", reference.CharGru, 65, reference.TunedGru),
    Case("GRU 65-100-65, streaming", "char_gru", 32, "streaming", reference.CharGru, 65, reference.TunedGru),
    Case("MLP 784-512-256-10", "mlp", 32, None, reference.mlp),
    Case("MLP 784-512-256-10", "mlp", 1, None, reference.mlp),
    Case("DRMM of 5 layers, VI + NN", "drmm5", 200, "affine", reference.Drmm, 0, reference.TunedDrmm, "drmm_vi_nn"),
)


def backend(device: str, dtype: str = "float32") -> Backend:
    """Torch, on one thread where it is the CPU."""
    return assemble.array_library("torch", device=device, dtype=dtype, threads=1)


def network(case: Case, xp: Backend, channel: str = "bp", plasticity: str = "error", **update: Any) -> Network:
    """Our side, from the shipped network; SGD with momentum unless ``update`` or the case's rule say otherwise."""
    rule: Any = case.rule or {
        "rule": "benchmark",
        "defaults": {
            "channel": channel,
            "norm": NORMS[case.norm],
            "update": update or {"recipe": "sgd", "rate": RATE, "momentum": MOMENTUM},
        },
        "layers": {"$hidden": {"plasticity": plasticity}},
        "training": {"reduction": "mean", "samples_per_batch": case.samples},
    }
    return assemble.assembled(config.load(rule, network=case.network), classes=case.classes, xp=xp)


def batches(case: Case, xp: Backend) -> list[Batch]:
    """Noise and labels, on the device as floats; of a text random symbols, the first batch of one each time."""
    draws = np.random.default_rng(0)
    if case.symbols:
        shape = (STEPS, case.samples)
        return [
            Batch(*(xp.raw(draws.integers(0, case.symbols, shape)) for _ in range(2)), starts=True)
            for _ in range(BATCHES)
        ]
    shape = (case.samples, *config.load("sgd", network=case.network).network.input)
    return [
        Batch(
            xp.array(draws.normal(0.0, 1.0, shape)),
            xp.raw(draws.integers(0, CLASSES, case.samples)),
            labelled=case.labelled,
        )
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
    given = [batch.x.clone(memory_format=layout if batch.x.dim() == 4 else None) for batch in data]
    supply = cycle(zip(given, data, strict=True))
    streaming = [module for module in model.modules() if isinstance(module, reference.Streaming)]
    optimizer: torch.optim.Optimizer
    if isinstance(model, reference.Drmm):
        optimizer = torch.optim.Adam(model.parameters(), lr=ADAM_RATE, fused=fused)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, fused=fused)

    def run() -> None:
        x, batch = next(supply)
        optimizer.zero_grad()
        _loss(model, x, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for module in streaming:
            module.updated()

    return run


def _loss(model: nn.Module, x: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The mean over the samples, summed over time."""
    if isinstance(model, reference.Drmm):
        return model.loss(x, batch.y, batch.labelled)
    loss = nn.functional.cross_entropy(model(x), batch.y.flatten())
    return loss if batch.y.dim() == 1 else loss * len(batch.y)


def model_like(case: Case, net: Network, *, tuned: bool = False) -> nn.Module:
    """PyTorch's side with the weights of ours."""
    written = case.tuned if tuned and case.tuned else case.model
    model = written(case.norm).to(net.nodes[0].W.device, net.nodes[0].W.dtype).train()
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
    return max(_check(case, device, tuned) for tuned in ([False, True] if case.tuned else [False]))


def _check(case: Case, device: str, tuned: bool) -> float:
    xp = backend(device, "float64")
    net = network(case, xp)
    model, data = model_like(case, net, tuned=tuned), batches(case, xp)[:1]
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
