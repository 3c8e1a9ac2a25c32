"""A symmetric step of ours against the same step in eager autograd."""

from __future__ import annotations

from benchmarks.cases import CASES, Case, autograd_step, backend, batches, check_equal_work, model_like, network, step
from benchmarks.markdown import quartiles, table
from benchmarks.timing import Times, alternate

OURS, DEFAULT, LAST = "ours", "autograd, default layout, SGD", "autograd, channels-last, fused SGD"


def measure(case: Case, *, rounds: int, device: str) -> tuple[Times, float]:
    """Times of the three sides, and how far their gradients were apart before anything was timed."""
    apart = check_equal_work(case, device)
    xp = backend(device)
    data, net = batches(case, xp), network(case, xp)
    sides = {
        OURS: step(net, data),
        DEFAULT: autograd_step(model_like(case, net), data, channels_last=False, fused=False),
        LAST: autograd_step(model_like(case, net, tuned=True), data, channels_last=True, fused=True),
    }
    return alternate(sides, rounds=rounds, device=device), apart


def report(*, rounds: int, device: str) -> str:
    """The table."""
    rows = []
    for case in CASES:
        times, apart = measure(case, rounds=rounds, device=device)
        rows.append(
            [
                case.title,
                str(case.samples),
                *(f"{times.milliseconds(side):.3g}" for side in (OURS, DEFAULT, LAST)),
                quartiles(times.ratio(OURS, DEFAULT)),
                quartiles(times.ratio(OURS, LAST)),
                f"{apart:.0e}",
            ]
        )
    head = ["network", "batch", "ours, ms", "(a), ms", "(b), ms", "ours / (a)", "ours / (b)", "gradients apart"]
    return table(head, rows)
