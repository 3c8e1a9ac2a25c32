"""A run that is killed, stopped or finds the disk full, and goes on, ends to the bit like one that never was.

The training is small but has everything that could forget its place: redrawn feedback, dropout, momentum, dW that
waits over the end of an epoch, a phase that ends with fewer batches and changes the update, a schedule, a validation
split, and a full log.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from program import KILLED, Program, assert_same, ends, everything

RULE = """
rule: eventful
from: usf_bn_bm
defaults: {channel: {recipe: brsf_p, p: 0.3}, update: {rate: 1.0e-3}}
data: {validation: 238}
training:
  epochs: 3
  samples_per_batch: 200
  batches_per_update: 5
  rate: {recipe: exponential, factor: 0.9, by: updates}
  phases: [{epochs: 1}, {update: {recipe: rmsprop, rate: 1.0e-4}}]
record: {norm: 1 update, activity: 1 epoch, feedback: 1 update, update: 2 updates, weights: 1 update,
  batches: 1 update, gradient: 2 updates, probe: 2}
"""
NETWORK = """
network: tiny
input: [1, 8, 8]
layers:
- conv1: {conv: 3, kernel: 3, stride: 2}
- norm
- relu
- flatten
- dropout: 0.2
- fc1: {dense: 12}
- norm
- relu
- fc2: {dense: classes}
loss: softmax_cross_entropy
"""
EPOCHS, BATCHES = 3, 6  # of 200 samples each; every 5 make an update, so one waits over the end of an epoch
Case = tuple[str, dict[str, Any], list[str]]


def command(home: Path, backend: str) -> list[str]:
    (home / "rule.yaml").write_text(RULE)
    (home / "net.yaml").write_text(NETWORK)
    about = ["--dataset", "digits", "--network", "net.yaml", "--backend", backend, "--threads", "1", "--quiet"]
    return ["run", "rule.yaml", *about, "--out", "run"]


@pytest.fixture(scope="module", params=["numpy", "torch"])
def case(request: pytest.FixtureRequest, server: Program, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """(backend, what an uninterrupted run leaves, its steps on the disk)."""
    pytest.importorskip(request.param)
    home = tmp_path_factory.mktemp(request.param)
    steps = replace(server, folder=home).steps(*command(home, request.param))
    found = everything(home / "run")
    assert found["status"] == "finished" and found["summary"]["epochs"] == EPOCHS
    assert found["meta"]["counters"]["pending"] > 0 == found["meta"]["progress"]["place"]
    return request.param, found, steps


def start(program: Program, case: Case, **broken: Any) -> Any:
    return program(*command(program.folder, case[0]), **broken)


def go_on(program: Program, case: Case, **broken: Any) -> Any:
    """Resume; or begin again where there is no run folder yet."""
    if (program.folder / "run").exists():
        return program("resume", "run", "--quiet", **broken)
    assert not list(program.folder.glob("run*"))
    return start(program, case, **broken)


def test_a_run_is_a_function_of_config_and_seed(program, case):
    assert start(program, case).code == 0
    assert_same(program.folder / "run", case[1])
    repeated = program("run", "run/config.yaml", "--out", "again", "--quiet")
    assert repeated == (0, "", "")
    assert_same(program.folder / "again", case[1])


def test_the_rates_are_those_of_the_schedule(case):
    """rate * factor^n at the last batch of each epoch, after n = batches so far // 5 updates, whatever the phase."""
    expected = [1e-3 * 0.9 ** (5 // 5), 1e-4 * 0.9 ** ((BATCHES + 5) // 5), 1e-4 * 0.9 ** ((2 * BATCHES + 5) // 5)]
    np.testing.assert_allclose([row["rate"] for row in case[1]["metrics"]], expected, rtol=1e-12)


some_steps = pytest.mark.parametrize(
    "every", [27, pytest.param(1, marks=pytest.mark.slow)], ids=["some steps", "all steps"]
)


@some_steps
def test_killed_before_or_after_any_step_on_the_disk(program, case, every):
    whole = case[2]
    for at in ends(whole)[every // 2 :: every]:
        assert start(program, case, disk=at).code == KILLED
        if (program.folder / "run").exists():
            assert program("inspect", "run").code == 0
        done = go_on(program, case)
        assert done == (0, "", ""), (at, done)
        assert_same(program.folder / "run", case[1])
        shutil.rmtree(program.folder / "run")


def test_killed_at_a_batch_again_and_again(program, case):
    """The last of these lies before a checkpoint, so nothing is gained there."""
    assert start(program, case, batch=9, by=signal.SIGKILL).code == KILLED
    assert everything(program.folder / "run")["meta"]["progress"]["epoch"] == 1
    for at in (6, 2, 1):
        assert go_on(program, case, batch=at, by=signal.SIGKILL).code == KILLED
    assert go_on(program, case, batch=BATCHES + 1, by=signal.SIGKILL).code == KILLED
    assert everything(program.folder / "run")["meta"]["progress"]["epoch"] == 2
    assert go_on(program, case).code == 0
    assert_same(program.folder / "run", case[1])


def test_asked_to_stop_it_keeps_its_place_within_the_epoch(program, case):
    """At the first batch, at the last ones of an epoch and of all, with dW waiting and without."""
    at, batches = 0, EPOCHS * BATCHES
    for i, further in enumerate((1, 3, 2, 1, 10, 1)):
        done = go_on(program, case, batch=further, by=(signal.SIGINT, signal.SIGTERM)[i % 2])
        at += further
        assert (done.code, done.out) == (130, "")
        assert done.line.startswith("stopped after update ") and "bioplaus resume" in done.line
        found = everything(program.folder / "run")
        assert found["status"] == "stopped"
        assert found["meta"]["counters"]["batches"] == at
        assert found["meta"]["progress"]["place"] == (at - 1) % BATCHES + 1
    assert at == batches
    assert go_on(program, case) == (0, "", "")
    assert_same(program.folder / "run", case[1])


@some_steps
def test_a_full_disk(program, case, every):
    """One line; the old checkpoint stands; once there is room, the run goes on."""
    for at in ends(case[2])[every // 3 :: every]:
        done = start(program, case, full=at)
        if done.code == 0:  # nothing more was to be written
            assert case[2][at:].count("write") == 0
        else:
            assert done.code == 1
            assert "cannot be written (No space left on device" in done.line
        if (program.folder / "run").exists():
            assert program("inspect", "run").code == 0
        assert go_on(program, case) == (0, "", "")
        assert_same(program.folder / "run", case[1])
        shutil.rmtree(program.folder / "run")


@pytest.mark.slow
def test_a_file_system_that_really_is_full(program, case):
    """A small tmpfs, with ballast that is thrown out when the disk is full."""
    home = program.folder / "small"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(home)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs")
    try:
        inside = replace(program, folder=home)
        refused = 0
        for size in range(20, 1000, 40):
            (home / "ballast").write_bytes(bytes((1000 - size) * 1000))
            done = start(inside, case)
            (home / "ballast").unlink()
            if done.code:
                assert done.code == 1 and "No space left" in done.line
                refused += 1
                assert go_on(inside, case) == (0, "", "")
            assert_same(home / "run", case[1])
            shutil.rmtree(home / "run")
        assert refused > 3
    finally:
        subprocess.run(["umount", str(home)], check=True)


@pytest.mark.slow
def test_killed_at_random_moments(program, case, rng):
    """Many times over, each time until the run has got through."""
    kills, span = 0, 0.0
    for _ in range(12):
        begun = time.monotonic()
        while (done := go_on(program, case, after=0.02 + 0.7 * span * rng.random() if span else 60)).code == KILLED:
            kills, span = kills + 1, span * 1.05
        assert done == (0, "", "")
        assert_same(program.folder / "run", case[1])
        shutil.rmtree(program.folder / "run")
        span = span or time.monotonic() - begun
    assert kills > 3


@pytest.mark.slow
def test_fresh_processes_killed_at_random_moments(program, case, rng):
    """As above with the command as a user runs it, from the first import on."""
    bioplaus = [sys.executable, "-m", "bioplaus"]
    begun = time.monotonic()
    subprocess.run([*bioplaus, *command(program.folder, case[0])], cwd=program.folder, check=True)
    span, kills, code = time.monotonic() - begun, 0, -1
    shutil.rmtree(program.folder / "run")
    while code != 0:
        exists = (program.folder / "run").exists()
        args = ["resume", "run", "--quiet"] if exists else command(program.folder, case[0])
        with subprocess.Popen([*bioplaus, *args], cwd=program.folder) as process:
            try:
                code = process.wait(span * rng.uniform(0.5, 1.0))
            except subprocess.TimeoutExpired:
                process.kill()
                assert process.wait() == KILLED
                kills, span = kills + 1, span * 1.05
    assert kills > 0
    assert_same(program.folder / "run", case[1])


# -- going on ------------------------------------------------------------------------------------

PLAIN = [
    "--dataset",
    "digits",
    "--backend",
    "numpy",
    "--threads",
    "1",
    "--quiet",
    "--set",
    "training.samples_per_batch=400",
]


def test_a_complete_run_says_so_and_is_left_alone(program):
    program("run", "usf_bn_bm", *PLAIN, "--epochs", 2, "--out", "run")
    before = {path: path.read_bytes() for path in (program.folder / "run").iterdir()}
    for more in ([], ["--epochs", 2], ["--epochs", 1]):
        done = program("resume", "run", *more)
        assert (done.code, done.err) == (0, "")
        assert done.out == "run: complete. Train on with a larger --epochs.\n"
    assert program("resume", "run/log.h5").out.startswith("run/log.h5: complete.")
    assert before == {path: path.read_bytes() for path in (program.folder / "run").iterdir()}


def test_trained_on_it_equals_a_run_of_that_many_epochs(program):
    """Also when that is interrupted: the larger number is remembered from its first checkpoint on."""
    assert program("run", "usf_bn_bm", *PLAIN, "--epochs", 4, "--out", "whole").code == 0
    assert program("run", "usf_bn_bm", *PLAIN, "--epochs", 1, "--out", "run").code == 0
    assert program("resume", "run", "--epochs", 4, "--quiet", batch=5, by=signal.SIGKILL).code == KILLED
    assert program("resume", "run", "--quiet", batch=2, by=signal.SIGINT).code == 130
    assert program("resume", "run", "--quiet") == (0, "", "")
    expected = everything(program.folder / "whole")
    found = everything(program.folder / "run")
    assert found.pop("config") != expected.pop("config")  # it says with how many epochs the run began
    assert found["attributes"].pop("config") != expected["attributes"].pop("config")
    assert found == expected


def test_more_epochs_make_the_last_phase_longer(program):
    """Also where every phase says how long it is, and when interrupted."""
    phases = "[{{epochs: 1}}, {{epochs: {}, samples_per_batch: 200, batches_per_update: 4}}]"
    run = ["run", "usf_bn_bm", *PLAIN, "--set"]
    assert program(*run, f"training.phases={phases.format(4)}", "--epochs", 5, "--out", "whole").code == 0
    assert program(*run, f"training.phases={phases.format(2)}", "--epochs", 3, "--out", "run").code == 0
    assert program("resume", "run", "--epochs", 5, "--quiet", batch=9, by=signal.SIGKILL).code == KILLED
    assert program("resume", "run", "--quiet") == (0, "", "")
    expected, found = everything(program.folder / "whole"), everything(program.folder / "run")
    for each in (expected, found):
        del each["config"], each["attributes"]["config"]  # they say with how many epochs the run began
    assert found == expected
    assert found["summary"]["epochs"] == 5


def test_epochs_that_end_before_the_last_phase(program):
    phases = "training.phases=[{epochs: 3}, {epochs: 2, samples_per_batch: 200}]"
    program("run", "usf_bn_bm", *PLAIN, "--set", phases, "--epochs", 5, "--out", "run", batch=4, by=signal.SIGINT)
    done = program("resume", "run", "--epochs", 3)
    assert done.code == 2
    assert done.line == "--epochs: given 3, wanted at least 4: the phases before the last take 3."
    assert program("resume", "run", "--epochs", 4, "--quiet").code == 0


def test_fewer_epochs_than_are_done(program):
    program("run", "usf_bn_bm", *PLAIN, "--epochs", 3, "--out", "run", batch=8, by=signal.SIGINT)
    done = program("resume", "run", "--epochs", 1)
    assert done.code == 2
    assert "2 epochs are done, 1 asked. Give a larger --epochs." in done.line


def test_one_process_at_a_time(program, tmp_path):
    from bioplaus.record import RunFolder

    program("run", "usf_bn_bm", *PLAIN, "--epochs", 2, "--out", "run", batch=2, by=signal.SIGINT)
    with RunFolder.open(tmp_path / "run") as folder:
        folder.restore()
        done = program("resume", "run")
    assert done.code == 2
    assert "another process is writing this run" in done.line


def test_threads_are_recorded_and_restored(program):
    args = ["--dataset", "digits", "--epochs", 2, "--backend", "numpy", "--threads", 3, "--out", "run", "--quiet"]
    program("run", "usf_bn_bm", *args, batch=2, by=signal.SIGINT)
    done = program("resume", "run")
    assert done.code == 0
    assert done.out.splitlines()[1].startswith("numpy on cpu, 3 threads, float32;")
    assert everything(program.folder / "run")["attributes"]["threads"] == 3


def test_resuming_with_other_libraries_warns(program):
    import json

    import h5py

    from bioplaus.record import Disk, checkpoint

    program("run", "usf_bn_bm", *PLAIN, "--epochs", 2, "--out", "run", batch=2, by=signal.SIGINT)
    path = program.folder / "run" / "checkpoint.h5"
    record, state, meta = checkpoint.load(path)
    meta["versions"]["numpy"] = "1.0"
    checkpoint.save(Disk(), path, record, state, meta)
    with h5py.File(path) as file:
        assert json.loads(file["meta"].asstr()[()])["versions"]["numpy"] == "1.0"
    done = program("resume", "run", "--quiet")
    assert (done.code, done.out) == (0, "")
    assert f"trained with numpy 1.0 (now {np.__version__}): the bits may differ" in done.line


def test_from_starts_at_the_weights_of_another_run(program):
    """What `evaluate` says of the first run it says of the second before its first step; momentum starts anew."""
    args = [*PLAIN, "--set", "training.samples_per_batch=100"]
    program("run", "usf_bn", *args, "--epochs", 2, "--out", "first")
    done = program("run", "brsf_bn_bm", *args, "--from", "first", "--out", "second", batch=1, by=signal.SIGKILL)
    assert done.code == KILLED
    scores = [program("evaluate", run, "--json").out for run in ("first", "second")]
    assert scores[0] == scores[1] != ""
    first, second = (everything(program.folder / run)["state"] for run in ("first", "second"))
    assert first["fc1.W"] == second["fc1.W"]
    momentum = [name for name in second if ".update." in name]
    assert momentum and all(not np.frombuffer(second[name][2], "uint8").any() for name in momentum)
    W, V = (np.frombuffer(second[f"fc1.{name}"][2], "float32") for name in ("W", "feedback.V"))
    assert (np.sign(W) == np.sign(V)).all()  # feedback follows the weights that were taken over
    assert program("resume", "second", "--epochs", 1, "--quiet").code == 0
