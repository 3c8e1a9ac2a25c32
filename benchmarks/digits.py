"""From the command to the result on the embedded digits: seconds a user waits."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.markdown import table

BACKENDS = ("torch", "numpy")


def report() -> str:
    """The table."""
    rows = []
    for name in BACKENDS:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            command = f"run usf_bn_bm --dataset digits --backend {name} --device cpu --threads 1 --quiet --out {out}"
            began = time.monotonic()
            subprocess.run([sys.executable, "-m", "bioplaus", *command.split()], check=True)
            seconds = time.monotonic() - began
            summary = json.loads((out / "summary.json").read_text())
        rows.append([name, f"{seconds:.1f}", str(summary["epochs"]), f"{summary['last']['test_error']:.1f}"])
    return table(["backend", "seconds", "epochs", "test error, %"], rows)
