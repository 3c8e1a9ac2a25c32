"""A run folder is whole whenever it is looked at: after a kill, a power cut or a full disk at any primitive step.

One story goes through every way a run can end: finished, trained on, stopped, failed, trained on, finished.
It is broken at each step, looked at, and gone on with; what is there must be what the rows' definition says.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bioplaus.errors import RunFailed
from bioplaus.record import Disk, RunFolder, open_run
from bioplaus.record.checkpoint import load

STEPS = 3  # per epoch
SESSIONS = [(1, "finished"), (2, "stopped"), (2, "failed"), (3, "finished")]  # train until this epoch, end so


def rows(epoch: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What one epoch records, a function of the epoch alone; the second table is ragged."""
    rng = np.random.default_rng(epoch)
    for step in range((epoch - 1) * STEPS + 1, epoch * STEPS + 1):
        yield "layers/conv1/norm", {"step": step, "mean": rng.normal(size=4).astype("float32"), "sigma": rng.random(4)}
        yield "batches", {"step": step, "index": rng.integers(0, 99, size=epoch)}
    yield "metrics/test", {"epoch": epoch, "step": epoch * STEPS, "error": rng.random()}


def weights(epoch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1000 + epoch)
    return {
        "conv1.W": rng.normal(size=(2, 3)),
        "conv1.update.1.tau": rng.integers(0, 9, size=5),
        "step": np.array(epoch),
    }


def recorded(epochs: int, *, width: int) -> dict[str, dict[str, np.ndarray]]:
    """The tables after so many epochs, from the definition; ``width``: how wide the ragged column is by then."""
    tables: dict[str, dict[str, list[Any]]] = {}
    for epoch in range(1, epochs + 1):
        for table, row in rows(epoch):
            for name, value in row.items():
                if name == "index":
                    value = np.concatenate([value, np.full(width - len(value), -1)])
                tables.setdefault(table, {}).setdefault(name, []).append(value)
    return {path: {name: np.stack(column) for name, column in table.items()} for path, table in tables.items()}


def line(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "loss": 1 / epoch}


def train(path: Path, disk: Disk, until: int, ending: str, commit: Callable[..., None] = RunFolder.commit) -> None:
    """What the training loop does: make or restore, commit every epoch, end."""
    if path.exists():
        folder = RunFolder.open(path, disk)
    else:
        folder = RunFolder.create(path, "rule: usf\n", {"seed": 3}, weights(0), {"epoch": 0}, disk)
        if isinstance(disk, Watched):
            disk.made = True
    with folder:
        state, meta = folder.restore()
        assert_same_state(state, meta["epoch"])
        if folder.status == "finished" and meta["epoch"] >= until:
            return
        for epoch in range(meta["epoch"] + 1, until + 1):
            for table, row in rows(epoch):
                folder.log.add(table, **row)
            commit(folder, weights(epoch), {"epoch": epoch}, line(epoch))
        if ending == "finished":
            folder.finish({"epochs": until})
            return
        if ending == "failed":
            for table, row in list(rows(until + 1))[:3]:
                folder.log.add(table, **row)
        folder.end(ending)


def assert_same_state(state: dict[str, np.ndarray], epoch: int) -> None:
    assert state.keys() == weights(epoch).keys()
    for name, array in weights(epoch).items():
        np.testing.assert_array_equal(state[name], array)
        assert state[name].dtype == array.dtype


def assert_whole(path: Path) -> int:
    """What can be read is exactly what the checkpoint counts; returns its epoch."""
    _, state, meta = load(path / "checkpoint.h5")
    epoch = meta["epoch"]
    assert_same_state(state, epoch)
    run = open_run(path)
    assert run.config == (path / "config.yaml").read_text() == "rule: usf\n"
    failed = run.status == "failed"
    expected = recorded(epoch + failed, width=max(epoch + failed, 1))
    if failed:  # only the first rows of the epoch in which it failed
        expected = {
            name: {c: v[: epoch * STEPS + {"layers/conv1/norm": 2, "batches": 1}[name]] for c, v in table.items()}
            if name != "metrics/test"
            else {c: v[:epoch] for c, v in table.items()}
            for name, table in expected.items()
        }
    assert run.tables == sorted(expected)
    for table, columns in expected.items():
        assert set(run.table(table)) == set(columns)
        for name, values in columns.items():
            np.testing.assert_array_equal(run.table(table)[name], values)
    if (path / "summary.json").exists():
        assert run.status == "finished"
        assert run.summary == {"epochs": epoch}
        assert epoch in (1, 3)
    assert run.status in ("running", "finished", "stopped", "failed")
    lines = [json.loads(text) for text in (path / "metrics.jsonl").read_bytes().splitlines()[:epoch]]
    assert lines == [line(e + 1) for e in range(epoch)]
    return epoch


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Killed(BaseException):
    """The process is gone: whatever it still tries changes nothing."""


class Watched(Disk):
    """A disk that counts primitive steps and lets a test break one of them."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.made = False  # a run folder was created, and the caller told so

    def before(self, name: str, *where: Any) -> None:
        self.steps.append(name)


def _watched(name: str) -> Callable[..., Any]:
    def step(self: Watched, *where: Any) -> Any:
        self.before(name, *where)
        return getattr(Disk, name)(self, *where)

    return step


for _name in [n for n in vars(Disk) if not n.startswith("_")]:
    setattr(Watched, _name, _watched(_name))


class Dies(Watched):
    """Killed before step ``at``; of a write, half may have happened."""

    def __init__(self, at: int, half: bool = False) -> None:
        super().__init__()
        self.at, self.half = at, half

    def before(self, name: str, *where: Any) -> None:
        super().before(name, *where)
        if len(self.steps) == self.at + 1 and self.half and name == "write":
            Disk.write(self, where[0], bytes(where[1])[: max(1, len(where[1]) // 2)])
        if len(self.steps) > self.at:
            self.die()
            raise Killed

    def die(self) -> None:
        pass


class PowerCut(Dies):
    """Killed, and what was not synced is lost: contents of files, and names in one folder.

    Names in other folders may have reached the disk by themselves, so those are kept.
    """

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.contents: dict[Path, bytes] = {}
        self.names: list[tuple[Path, Callable[[], object]]] = []

    def before(self, name: str, *where: Any) -> None:
        super().before(name, *where)
        if name in ("write", "truncate"):
            path = Path(where[0].name)
            self.contents.setdefault(path, path.read_bytes())
        elif name == "sync":
            self.contents.pop(Path(where[0].name), None)
        elif name == "sync_folder":
            self.names = [(folder, undo) for folder, undo in self.names if folder != where[0]]
        elif name == "rename":
            source, target = where
            assert source not in self.contents, "renamed before its contents were on the disk"
            old = target.read_bytes() if target.is_file() else None

            def undo() -> None:
                target.replace(source)
                if old is not None:
                    target.write_bytes(old)

            self.names.append((target.parent, undo))
        elif name == "remove" and where[0] not in self.contents:
            path, old = where[0], where[0].read_bytes()
            self.names.append((path.parent, lambda: path.write_bytes(old)))
        elif name == "remove":
            self.contents.pop(where[0])

    def die(self) -> None:
        for folder, undo in reversed(self.names):
            if folder != self.names[0][0]:
                continue
            try:
                undo()
            except FileNotFoundError:  # its folder has gone for good
                continue
        for path, old in self.contents.items():
            if path.exists():
                path.write_bytes(old)
        self.names, self.contents = [], {}


class Full(Watched):
    """No space left at step ``at``; and none from then on, unless it was only ``once``."""

    def __init__(self, at: int, once: bool = False) -> None:
        super().__init__()
        self.at, self.once = at, once

    def before(self, name: str, *where: Any) -> None:
        super().before(name, *where)
        now = len(self.steps) - 1
        if now == self.at or (now > self.at and not self.once and name in ("create", "write", "folder")):
            if name == "write":
                Disk.write(self, where[0], bytes(where[1])[: max(1, len(where[1]) // 2)])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass
class Stage:
    """A session of the story: the folder as it stands before it (None: not there) and after it, and its steps."""

    before: Path | None
    after: Path
    until: int
    ending: str
    steps: list[str]

    def to_break(self, every: int) -> list[int]:
        """Steps by number; of writes in a row only the first and the last, and of all these one in ``every``."""
        names = self.steps
        ends = [i for i, n in enumerate(names) if n != "write" or not names[i - 1] == n == (*names, "")[i + 1]]
        return ends[len(names) % every :: every]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[Stage]:
    """The story unbroken; and once more its last session, begun where a kill has left as much behind as it can."""
    folder = tmp_path_factory.mktemp("stages")
    found: list[Stage] = []
    before: Path | None = None
    for i, (until, ending) in enumerate(SESSIONS):
        found.append(session(folder / str(i), before, until, ending))
        before = found[-1].after
    littered = folder / "littered"
    shutil.copytree(found[-1].before, littered)
    renames = [i for i, name in enumerate(found[-1].steps) if name == "rename"]
    at = renames[2]  # after those of the failed log and the segment: the checkpoint's
    with pytest.raises(Killed):
        train(littered, Dies(at), 3, "finished")
    assert list(littered.glob("log/*.h5")) and list(littered.glob(".*.new"))
    assert len((littered / "metrics.jsonl").read_text().splitlines()) == 3 > assert_whole(littered)
    tidied = folder / "tidied"
    shutil.copytree(littered, tidied)
    with RunFolder.open(tidied) as run:
        run.restore()
    assert not list(tidied.rglob(".*.new")) and not list(tidied.glob("log/*.h5"))
    assert len((tidied / "metrics.jsonl").read_text().splitlines()) == 2
    return [*found, session(folder / "last", littered, 3, "finished")]


def session(home: Path, before: Path | None, until: int, ending: str) -> Stage:
    after = home / "run"
    home.mkdir()
    if before:
        shutil.copytree(before, after)
    disk = Watched()
    train(after, disk, until, ending)
    assert assert_whole(after) == until
    assert open_run(after).status == ending
    return Stage(before, after, until, ending, disk.steps)


def broken(stages: list[Stage], every: int, home: Path) -> Iterator[tuple[Stage, int, Path]]:
    """(stage, step, path of a fresh run folder) for every step to break."""
    home.mkdir()
    for stage in stages:
        for at in stage.to_break(every):
            if stage.before:
                shutil.copytree(stage.before, home / "run")
            yield stage, at, home / "run"
            train(home / "run", Disk(), stage.until, stage.ending)
            assert_whole(home / "run")
            assert contents(home) == contents(stage.after.parent), "not to the bit what an unbroken run leaves"
            shutil.rmtree(home / "run")


some_steps = pytest.mark.parametrize(
    "every", [8, pytest.param(1, marks=pytest.mark.slow)], ids=["some steps", "all steps"]
)


@some_steps
@pytest.mark.parametrize("kind", [Dies, lambda at: Dies(at, half=True), PowerCut], ids=["killed", "half", "power cut"])
def test_killed_at_any_step_nothing_is_lost_or_doubled(
    stages: list[Stage], kind: Callable[[int], Dies], every: int, tmp_path: Path
) -> None:
    for stage, at, path in broken(stages, every, tmp_path / "runs"):
        with pytest.raises(Killed):
            train(path, disk := kind(at), stage.until, stage.ending)
        if path.exists():
            assert stage.until - 1 <= assert_whole(path) <= stage.until
        else:
            assert stage.before is None
            assert not disk.made


@some_steps
def test_a_full_disk_ends_in_one_line_and_the_old_state_stands(stages: list[Stage], every: int, tmp_path: Path) -> None:
    for stage, at, path in broken(stages, every, tmp_path / "runs"):
        left = set(stage.before.rglob(".*.new")) if stage.before else set()
        with pytest.raises(RunFailed, match="cannot be written") as error:
            train(path, Full(at), stage.until, stage.ending)
        assert "\n" not in str(error.value)
        if path.exists():
            assert_whole(path)
        assert len(list(path.parent.rglob(".*.new"))) <= len(left), "temporary files stayed behind"


@some_steps
def test_a_commit_that_was_refused_can_be_made_again(stages: list[Stage], every: int, tmp_path: Path) -> None:
    """Room was made in the meantime: the same process commits again, and nothing is there twice."""

    def twice(folder: RunFolder, *what: Any) -> None:
        try:
            folder.commit(*what)
        except RunFailed:
            refused.append(what)
            folder.commit(*what)

    refused: list[Any] = []
    for stage, at, path in broken(stages, every, tmp_path / "runs"):
        with suppress(RunFailed):  # refused somewhere else
            train(path, Full(at, once=True), stage.until, stage.ending, commit=twice)
    assert refused


def test_the_tests_above_break_every_kind_of_step(stages: list[Stage]) -> None:
    assert {name for stage in stages for name in stage.steps} == {n for n in vars(Disk) if not n.startswith("_")}


TRAIN = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_record_crash as crash
crash.SESSIONS = [(12, "finished")]
if len(sys.argv) > 3:
    import os
    class Exits(crash.Watched):
        def before(self, name, *where):
            super().before(name, *where)
            if len(self.steps) > int(sys.argv[3]):
                os._exit(77)
    disk = Exits()
else:
    disk = crash.Disk()
crash.train(Path(sys.argv[2]), disk, 12, "finished")
"""


@pytest.mark.slow
def test_sigkill_at_random_moments(tmp_path: Path, rng: np.random.Generator) -> None:
    path, kills = tmp_path / "runs" / "run", 0
    command = [sys.executable, "-c", TRAIN, str(Path(__file__).parent), str(path)]
    start = time.monotonic()
    subprocess.run(command, check=True)
    span = time.monotonic() - start
    shutil.rmtree(path)
    for _ in range(60):
        process = subprocess.Popen(command)
        time.sleep(span * rng.uniform(0.6, 1.0))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
        if path.exists():
            RunFolder.open(path)
            open_run(path).tables  # noqa: B018
    subprocess.run(command, check=True)
    assert kills > 0
    assert load(path / "checkpoint.h5")[2] == {"epoch": 12}
    run = open_run(path)
    for table, columns in recorded(12, width=12).items():
        for name, values in columns.items():
            np.testing.assert_array_equal(run.table(table)[name], values)
    assert [json.loads(text) for text in (path / "metrics.jsonl").read_text().splitlines()] == [
        line(e) for e in range(1, 13)
    ]


@pytest.mark.slow
def test_a_process_that_is_gone_at_a_step_can_be_resumed(tmp_path: Path) -> None:
    """The same as the kills above, with a real process and all its buffers."""
    path = tmp_path / "runs" / "run"
    command = [sys.executable, "-c", TRAIN, str(Path(__file__).parent), str(path)]
    for at in [9, 31, 64, 131, 212, 99, 47, 58]:
        assert subprocess.run([*command, str(at)], check=False).returncode in (0, 77)
    subprocess.run(command, check=True)
    run = open_run(path)
    assert run.status == "finished"
    for table, columns in recorded(12, width=12).items():
        for name, values in columns.items():
            np.testing.assert_array_equal(run.table(table)[name], values)


@pytest.mark.slow
def test_a_really_full_file_system(tmp_path: Path) -> None:
    """A small tmpfs with ballast in it: one line; without the ballast, the run goes on to the same end."""
    home = tmp_path / "small"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(home)]
    if not sys.platform.startswith("linux") or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a tmpfs")
    try:
        ballast = home / "ballast"
        for size in range(280, 20, -12):
            ballast.write_bytes(bytes(size * 1024))
            for session in range(4):
                try:
                    train(home / "run", Disk(), *SESSIONS[session])
                except RunFailed as error:
                    assert "No space left" in str(error)
                    ballast.write_bytes(b"")
                    if (home / "run").exists():
                        assert_whole(home / "run")
                    break
            ballast.unlink()
            for ending in SESSIONS[session:]:
                train(home / "run", Disk(), *ending)
            assert assert_whole(home / "run") == 3
            shutil.rmtree(home / "run")
    finally:
        subprocess.run(["umount", str(home)], check=True)
