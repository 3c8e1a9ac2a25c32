"""Peak memory of training, one side per fresh process: by the allocator's own account, and resident.

``allocated`` follows every allocation and release that PyTorch's allocator reports to its profiler, from before the
network exists until after three steps: weights, momentum, batch, activities, everything. What oneDNN allocates for
itself inside a kernel is not in it. ``resident`` is the peak resident set (VmHWM) of the same work without the
profiler, less what the process held before; the kernels' own memory and fragmentation are in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.cases import CASES, Case, autograd_step, backend, batches, model_like, network, step
from benchmarks.markdown import table

SIDES = ("ours", "default", "last")
STEPS = 3
MIB = 2**20


def report(*, device: str) -> str:
    """The table, in MiB."""
    rows = []
    for place, case in enumerate(CASES):
        peaks = [_measured(place, side, device) for side in SIDES]
        allocated, resident = ([peak[kind] for peak in peaks] for kind in ("allocated", "resident"))
        rows.append(
            [
                case.title,
                str(case.samples),
                *(f"{value / MIB:.1f}" for value in allocated),
                *(f"{allocated[0] / other:.2f}" for other in allocated[1:]),
                " / ".join(f"{value / MIB:.0f}" for value in resident) if resident[0] else "",
            ]
        )
    head = ["network", "batch", "ours", "(a)", "(b)", "ours / (a)", "ours / (b)", "resident: ours / (a) / (b)"]
    return table(head, rows)


def _measured(place: int, side: str, device: str) -> dict[str, float]:
    """In fresh processes; a GPU knows its own peak."""
    found: dict[str, float] = {}
    for kind in ("allocated", "resident"):
        command = [sys.executable, "-m", "benchmarks.memory", str(place), side, device, kind]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        found[kind] = json.loads(done.stdout.splitlines()[-1])
    return found


def _train(case: Case, side: str, device: str) -> None:
    xp = backend(device)
    data = batches(case, xp)[:1]
    net = network(case, xp)
    if side == "ours":
        run = step(net, data)
    else:
        model = model_like(case, net, tuned=side == "last")
        del net
        run = autograd_step(model, data, channels_last=side == "last", fused=side == "last")
        if side == "default":
            del data
    for _ in range(STEPS):
        run()


def _allocated(case: Case, side: str, device: str) -> float:
    if device.startswith("cuda"):
        _train(case, side, device)
        return float(torch.cuda.max_memory_allocated())
    with torch.autograd.profiler.profile(use_cpu=True, profile_memory=True) as profile:
        _train(case, side, device)
    events = [e for e in profile.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return float(peak)


def _resident(case: Case, side: str, device: str) -> float:
    if device.startswith("cuda"):
        return 0.0
    _train(CASES[-1], side, device)  # libraries loaded and threads started before counting begins
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    _train(case, side, device)
    return _status("VmHWM") - before


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * float(next(line for line in lines if line.startswith(name)).split()[1])


if __name__ == "__main__":
    place, side, device, kind = sys.argv[1:]
    measured = {"allocated": _allocated, "resident": _resident}[kind](CASES[int(place)], side, device)
    sys.stdout.write(f"{json.dumps(measured)}\n")
