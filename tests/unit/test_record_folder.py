"""Run folders: made, refused, restored, claimed by one process; damaged and foreign files named in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bioplaus.errors import RunError, RunFailed
from bioplaus.record import RunFolder, open_run

STATE = {"fc.W": np.arange(6.0).reshape(2, 3)}


def create(path: Path, **attributes: Any) -> RunFolder:
    return RunFolder.create(path, "rule: usf\n", attributes, STATE, {"epoch": 0})


def commit(folder: RunFolder, step: int) -> None:
    folder.log.add("metrics/test", step=step, error=step / 2)
    folder.commit({"fc.W": STATE["fc.W"] + step}, {"epoch": step}, {"epoch": step, "loss": float("nan")})


def test_a_new_folder_holds_all_that_resuming_needs(tmp_path: Path) -> None:
    with create(tmp_path / "runs" / "a", seed=3):
        pass
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    names = ["checkpoint.h5", "config.yaml", "log", "metrics.jsonl"]
    assert found == ["runs", "runs/a", *(f"runs/a/{name}" for name in names)]
    with RunFolder.open(tmp_path / "runs" / "a") as folder:
        state, meta = folder.restore()
        assert meta == {"epoch": 0}
        np.testing.assert_array_equal(state["fc.W"], STATE["fc.W"])
        assert folder.status == "running"


def test_an_existing_folder_or_file_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "file").write_text("y")
    (tmp_path / "empty").mkdir()
    for name in ("full", "file"):
        with pytest.raises(RunError, match=f"{name}: exists already"):
            create(tmp_path / name)
    with pytest.raises(RunError, match="no folder can be made here"):
        create(tmp_path / "file" / "below")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["empty", "file", "full", "mine"]
    create(tmp_path / "empty").close()
    assert (tmp_path / "empty" / "checkpoint.h5").is_file()


def test_what_a_killed_process_left_beside_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".a.new" / "log").mkdir(parents=True)
    (tmp_path / ".a.new" / "log" / "x").write_text("x")
    create(tmp_path / "a").close()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert not list((tmp_path / "a" / "log").iterdir())


def test_two_writers_are_refused_also_between_processes(tmp_path: Path) -> None:
    folder = create(tmp_path / "a")
    with pytest.raises(RunError, match="another process is writing"):
        RunFolder.open(tmp_path / "a").restore()
    script = "import sys; from bioplaus.record import RunFolder; RunFolder.open(sys.argv[1]).restore()"
    other = subprocess.run([sys.executable, "-c", script, tmp_path / "a"], capture_output=True, text=True, check=False)
    assert "another process is writing" in other.stderr
    folder.close()
    RunFolder.open(tmp_path / "a").restore()


def test_metrics_lines_are_strict_json(tmp_path: Path) -> None:
    with create(tmp_path / "a") as folder:
        commit(folder, 1)
        commit(folder, 2)
    lines = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(text) for text in lines] == [{"epoch": 1, "loss": None}, {"epoch": 2, "loss": None}]


def test_restoring_in_the_same_process_drops_uncommitted_rows(tmp_path: Path) -> None:
    with create(tmp_path / "a") as folder:
        log = folder.log
        commit(folder, 1)
        log.add("metrics/test", step=2, error=9.0)
        log.add("layers/fc/norm", step=2, mean=np.zeros(2), sigma=np.zeros(2))
        folder.restore()
        assert folder.log is log
        commit(folder, 2)
        folder.finish({})
    run = open_run(tmp_path / "a")
    assert run.tables == ["metrics/test"]
    np.testing.assert_array_equal(run.metrics.test.error, [0.5, 1.0])


def test_a_run_stopped_at_its_very_end_can_be_finished(tmp_path: Path) -> None:
    with create(tmp_path / "a") as folder:
        commit(folder, 1)
        commit(folder, 2)
        folder.end("stopped")
    with RunFolder.open(tmp_path / "a") as folder:
        assert folder.status == "stopped"
        folder.restore()
        folder.finish({"epochs": 2})
        assert folder.status == "finished"
    np.testing.assert_array_equal(open_run(tmp_path / "a").metrics.test.error, [0.5, 1.0])


def test_after_resuming_a_table_keeps_its_columns(tmp_path: Path) -> None:
    with create(tmp_path / "a") as folder:
        commit(folder, 1)
    with RunFolder.open(tmp_path / "a") as folder:
        folder.restore()
        with pytest.raises(RunFailed, match="missing: error"):
            folder.log.add("metrics/test", step=2)


def test_any_array_comes_back_to_the_bit(tmp_path: Path) -> None:
    nan = np.array([0x7FF8000000000123, 0x8000000000000000], "uint64").view("float64")
    state = {
        "a.half": np.array([1.5, -0.0], "float16"),
        "a.count": np.array(2**63, "uint64"),
        "a.mask": np.array([[True], [False]]),
        "a.none": np.zeros((0, 3), "float32"),
        "a.nan": nan,
        "a.turned": np.arange(6.0).reshape(2, 3).T,
        "a.big": np.arange(3, dtype=">i4"),
    }
    with RunFolder.create(tmp_path / "a", "", {}, state, {"rng": {"x": 2**100}, "é": [1, None, 0.1]}) as folder:
        found, meta = folder.restore()
    assert meta == {"rng": {"x": 2**100}, "é": [1, None, 0.1]}
    assert found.keys() == state.keys()
    for name, array in state.items():
        assert (found[name].dtype, found[name].shape, found[name].tobytes()) == (
            array.dtype,
            array.shape,
            array.tobytes(),
        )


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = 1


def other_text(path: Path) -> None:
    path.write_text("no HDF5 at all\n" * 100)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(STATE["fc.W"].tobytes()[8:])
    data[at + 6] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, empty, foreign, other_text, flip])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    create(tmp_path / "a").close()
    damage(tmp_path / "a" / "checkpoint.h5")
    before = {p: p.read_bytes() for p in (tmp_path / "a").iterdir() if p.is_file()}
    with pytest.raises(RunError, match=r"checkpoint\.h5: ") as error:
        RunFolder.open(tmp_path / "a").restore()
    assert "\n" not in str(error.value)
    assert before == {p: p.read_bytes() for p in (tmp_path / "a").iterdir() if p.is_file()}


@pytest.mark.parametrize("damage", [cut, empty, foreign, other_text, Path.unlink])
def test_a_damaged_segment_is_named_before_training_goes_on(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with create(tmp_path / "a") as folder:
        commit(folder, 1)
        commit(folder, 2)
    damage(tmp_path / "a" / "log" / "000001.h5")
    for attempt in (open_run, lambda path: RunFolder.open(path).restore()):
        with pytest.raises(RunError, match=r"000001\.h5: ") as error:
            attempt(tmp_path / "a")
        assert "\n" not in str(error.value)


def test_shortened_metrics_are_named(tmp_path: Path) -> None:
    with create(tmp_path / "a") as folder:
        commit(folder, 1)
    empty(tmp_path / "a" / "metrics.jsonl")
    with pytest.raises(RunError, match=r"metrics\.jsonl: 0 lines, its checkpoint counts 1"):
        RunFolder.open(tmp_path / "a").restore()


@pytest.mark.parametrize("name", ["nowhere", "plain"])
def test_what_is_no_run_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "plain").mkdir()
    for attempt in (open_run, RunFolder.open):
        with pytest.raises(RunError, match=f"{name}: (does not exist|no run folder)"):
            attempt(tmp_path / name)


def test_a_commit_is_cheap(tmp_path: Path) -> None:
    """Some hundred rows and 2 MB of state: well under the time of one progress bar's refresh."""
    state = {f"l{i}.W": np.zeros(5000) for i in range(50)}
    spans = []
    with RunFolder.create(tmp_path / "a", "", {}, state, {}) as folder:
        for _ in range(5):
            for step in range(20):
                for layer in range(10):
                    folder.log.add(f"layers/l{layer}/norm", step=step, mean=np.zeros(64), sigma=np.ones(64))
            start = time.process_time()
            folder.commit(state, {})
            spans.append(time.process_time() - start)
    assert min(spans) < 0.05
