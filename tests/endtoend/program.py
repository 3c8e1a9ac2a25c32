"""The command line, run again and again in processes that can be made to die, to stop, or to find the disk full.

One server process imports everything once; each command runs in a child forked from it, which is as good as a
fresh process and takes a fraction of the time. It has one thread, so that a fork copies all of it.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

KILLED = -signal.SIGKILL


class Done(NamedTuple):
    """How a command ended: its exit code (negative: the signal that killed it) and what it printed."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """What it said on stderr, which is one line."""
        assert self.err.startswith("bioplaus: ") and self.err.count("\n") == 1 and self.err.endswith("\n"), self.err
        return self.err.removeprefix("bioplaus: ").rstrip("\n")


@dataclass
class Program:
    """``bioplaus``, in ``folder``."""

    server: subprocess.Popen[str]
    folder: Path

    def __call__(self, *args: object, **broken: Any) -> Done:
        """One command line. ``terminal=path`` prints there; else ``broken`` is one of

        disk=n            killed before its n-th step on the disk (from 0)
        full=n            no space left on the disk from that step on
        batch=n, by=s     signal s comes while the n-th batch is learned from (from 1)
        after=t           killed after t seconds
        """
        job = {"args": [str(arg) for arg in args], "folder": str(self.folder), **broken}
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        answer = self.server.stdout.readline()
        assert answer, "the server is gone"
        return Done(*json.loads(answer))

    def steps(self, *args: object) -> list[str]:
        """The command's steps on the disk, by name."""
        log = self.folder / "steps.txt"
        done = self(*args, list=str(log))
        assert done.code == 0, done.err
        found = log.read_text().split()
        log.unlink()
        return found


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Program]:
    """A Program; ends with the block."""
    single = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = os.environ | single | {"COLUMNS": "80"}
    environment.pop("BIOPLAUS_DATA", None)  # so that no test needs what not everybody has
    command = [sys.executable, __file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as server:  # type: ignore[call-overload]
        yield Program(server, folder)


def ends(steps: list[str]) -> list[int]:
    """Steps by number; of writes in a row only the first and the last."""
    around = ["", *steps, ""]
    return [i for i, name in enumerate(steps) if name != "write" or not around[i] == name == around[i + 2]]


def everything(run: Path) -> dict[str, Any]:
    """All that a run has left, but for what clocks said: arrays as bytes, so that equal means to the bit."""
    from bioplaus.record import open_run
    from bioplaus.record.checkpoint import load

    _, state, meta = load(run / "checkpoint.h5")
    found = open_run(run)
    tables = {
        f"{table}/{column}": _bits(found.table(table)[column])
        for table in found.tables
        for column in found.table(table)
        if not column.endswith("_seconds")
    }
    return {
        "files": sorted(str(path.relative_to(run)) for path in run.rglob("*")),
        "config": found.config,
        "status": found.status,
        "attributes": {name: value for name, value in found.attributes.items() if name != "started"},
        "state": {name: _bits(array) for name, array in state.items()},
        "meta": _timeless(meta),
        "log": tables,
        "metrics": [_timeless(json.loads(line)) for line in (run / "metrics.jsonl").read_text().splitlines()],
        "summary": _timeless(found.summary),
    }


def assert_same(run: Path, expected: dict[str, Any]) -> None:
    found = everything(run)
    for part, values in expected.items():
        if isinstance(values, dict):
            assert found[part].keys() == values.keys(), part
            differing = [name for name in values if found[part][name] != values[name]]
            assert not differing, f"{part}: {differing}"
        else:
            assert found[part] == values, part


def _bits(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, array.tobytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if not key.endswith("_seconds")}
    return value


# -- the server ----------------------------------------------------------------------------------


def _serve() -> None:
    for name in ("cli.run", "cli.resume", "cli.evaluate", "cli.inspect", "cli.progress", "train.run"):
        importlib.import_module(f"bioplaus.{name}")
    with contextlib.suppress(ImportError):
        importlib.import_module("torch").set_num_threads(1)
    said = tempfile.TemporaryDirectory()
    out, err = Path(said.name) / "out", Path(said.name) / "err"
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            _child(job, out, err)
        timer = threading.Timer(job["after"], os.kill, (child, signal.SIGKILL)) if "after" in job else None
        if timer:
            timer.start()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if timer:
            timer.cancel()
            timer.join()
        print(json.dumps([code, out.read_text(), err.read_text()]), flush=True)
    said.cleanup()


def _child(job: dict[str, Any], out: Path, err: Path) -> None:
    from bioplaus.cli import main

    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if "terminal" in job:
        os.dup2(os.open(job["terminal"], os.O_WRONLY | os.O_NOCTTY), 1)
        os.environ |= {"TERM": "xterm"}
    os.chdir(job["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 99
    try:
        steps = _break_disk(job)
        if "batch" in job:
            _break_batch(job["batch"], job["by"])
        code = main(job["args"])
        if "list" in job:
            Path(job["list"]).write_text("\n".join(steps))
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _break_disk(job: dict[str, Any]) -> list[str]:
    from bioplaus.record import Disk

    steps: list[str] = []

    def broken(name: str, real: Any) -> Any:
        def step(disk: Disk, *where: Any) -> Any:
            steps.append(name)
            at = len(steps) - 1
            if at == job.get("disk"):
                os.kill(os.getpid(), signal.SIGKILL)
            if at >= job.get("full", at + 1) and name in ("create", "write", "folder", "truncate"):
                if name == "write":
                    real(disk, where[0], bytes(where[1])[: len(where[1]) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(disk, *where)

        return step

    for name in [name for name in vars(Disk) if not name.startswith("_")]:
        setattr(Disk, name, broken(name, getattr(Disk, name)))
    return steps


def _break_batch(at: int, by: int) -> None:
    from bioplaus.network import Network

    real, count = Network.accumulate, 0

    def accumulate(network: Network, batch: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), by)
        return real(network, batch)

    Network.accumulate = accumulate  # type: ignore[method-assign]


if __name__ == "__main__":
    _serve()
