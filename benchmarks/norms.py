"""A norm and the ReLU behind it, forward and back, against PyTorch's batch normalization and ReLU under autograd."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.cases import CLOSE, Step, backend
from benchmarks.markdown import quartiles, table
from benchmarks.timing import alternate
from bioplaus.backend.base import Backend
from bioplaus.construct import make
from bioplaus.parts import LEARN

SHAPES = ((100, 64, 32, 32), (100, 32, 16, 16))
NORMS: dict[str, Any] = {
    "batch (p = 2)": "batch",
    "lp, p = 1": {"recipe": "lp", "p": 1.0},
    "streaming, p = 2": "streaming",
    "streaming_l1": "streaming_l1",
    "layer": "layer",
    "divisive, window 5": "divisive",
}
NATIVE = "autograd, channels-last"
COPIES = 8


def errors(dy: torch.Tensor) -> Iterator[torch.Tensor]:
    """Copies of one error, again and again: a step may write into what it is given, as it may in a network."""
    return cycle([dy.clone() for _ in range(COPIES)])


def autograd_step(x: torch.Tensor, dy: torch.Tensor) -> Step:
    """Batch statistics, running ones too, ReLU in place."""
    x, supply = x.clone(memory_format=torch.channels_last).requires_grad_(), errors(dy)
    mean, var = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])

    def run() -> None:
        x.grad = None
        F.relu(F.batch_norm(x, mean, var, training=True), inplace=True).backward(next(supply))

    return run


def step(norm: Any, xp: Backend, x: torch.Tensor, dy: torch.Tensor) -> Step:
    """Ours."""
    part, supply = make("norm", norm), errors(dy)
    state = part.init(xp, tuple(x.shape[1:]))

    def run() -> None:
        with xp.scope():
            z, cache = part.forward(xp, x, state, LEARN)
            y = xp.relu(z, inplace=True)
            part.back(xp, xp.relu_back(next(supply), y), state, cache)

    return run


def check_equal_work(p: float, device: str) -> float:
    """In float64 batch normalization with this p has the gradient autograd finds; returns the relative distance.

    Raises
    ------
    AssertionError      it does not: the timing would compare different work
    """
    xp = backend(device, "float64")
    draws = torch.Generator(device).manual_seed(0)
    x, dy = (torch.randn((8, 6, 5, 5), generator=draws, device=device, dtype=torch.float64) for _ in range(2))
    leaf = x.clone().requires_grad_()
    centred = leaf - leaf.mean((0, 2, 3), keepdim=True)
    sigma = ((centred.abs() ** p).mean((0, 2, 3), keepdim=True) + 1e-5) ** (1 / p)
    F.relu(centred / sigma).backward(dy)
    norm = make("norm", "batch" if p == 2.0 else {"recipe": "lp", "p": p})
    state = norm.init(xp, (6, 5, 5))
    with xp.scope():
        z, cache = norm.forward(xp, xp.image(x), state, LEARN)
        dx = norm.back(xp, xp.relu_back(xp.image(dy.clone()), xp.relu(z)), state, cache)
    assert leaf.grad is not None
    apart = float((leaf.grad - dx).norm() / leaf.grad.norm())
    if not apart < CLOSE:
        raise AssertionError(f"p = {p}: the two gradients differ by {apart:.1e}.")
    return apart


def report(*, rounds: int, device: str) -> str:
    """The table."""
    for p in (1.0, 2.0):
        check_equal_work(p, device)
    xp = backend(device)
    columns = []
    for shape in SHAPES:
        x, dy = (xp.image(torch.randn(shape, device=device)) for _ in range(2))
        sides = {NATIVE: autograd_step(x, dy)} | {name: step(norm, xp, x, dy) for name, norm in NORMS.items()}
        columns.append(alternate(sides, rounds=rounds, device=device))
    rows = [
        [name, *(cell for t in columns for cell in (f"{t.milliseconds(name):.3g}", quartiles(t.ratio(name, NATIVE))))]
        for name in (NATIVE, *NORMS)
    ]
    head = [cell for shape in SHAPES for cell in ("×".join(map(str, shape)) + ", ms", "of autograd")]
    return table(["norm and ReLU, forward and back", *head], rows)
