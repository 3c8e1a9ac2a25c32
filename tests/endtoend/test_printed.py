"""What a user sees: lines, a bar on a terminal, JSON, nothing; and what `inspect` shows of a run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

RUN = [
    "run",
    "usf_bn_bm",
    "--dataset",
    "digits",
    "--backend",
    "numpy",
    "--threads",
    "1",
    "--epochs",
    "2",
    "--out",
    "run",
]


def test_batches_that_never_differ_from_their_mean_are_told(program):
    """One sample and one number of it, around its own mean: dense layers, and not where a map has many places."""
    online = ["--set", "training.samples_per_batch=1", "--set", "training.batches_per_update=1000"]
    for norm, told in [("streaming", True), ("batch", True), ("streaming_l1", False), ("layer", False)]:
        done = program(*RUN[:-4], "--epochs", "1", "--out", norm, *online, "--set", f"defaults.norm={norm}")
        assert done.code == 0, done.err
        lines = [line for line in done.out.splitlines() if "never differs from its own mean" in line]
        assert [line.startswith("norm of fc1: one sample a batch") for line in lines] == [True] * told
    assert "never differs" not in program(*RUN, "--set", "defaults.norm=streaming").out


def test_lines(program):
    """All of them fit 80 columns, but the path."""
    done = program(*RUN)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:2] == [
        "usf_bn_bm on digits, seed 0",
        "numpy on cpu, 1 thread, float32; network digits_net, 13,594 parameters",
    ]
    assert lines[2].split() == ["layer", "weights", "channel", "norm"]
    assert [line.split() for line in lines[3:7]] == [
        ["conv1", "16×1×3×3", "usf", "batch"],
        ["conv2", "32×16×3×3", "usf", "batch"],
        ["fc1", "128×64", "usf", "batch"],
        ["fc2", "64×10", "usf", "none"],
    ]
    assert re.fullmatch(r"every layer: update bm1 \(rate 0.0002, momentum .*\)", lines[7])
    assert [line.split() for line in lines[8:10]] == [["plasticity", "error"], ["pruning", "none"]]
    assert lines[10] == f"log: {program.folder / 'run'}"
    row = json.loads((program.folder / "run" / "metrics.jsonl").read_text().splitlines()[1])
    assert re.fullmatch(
        rf"epoch 2/2  loss {row['train']['loss']:.4f}  error: train {row['train']['error']:.2f} %  "
        rf"test {row['test']['error']:.2f} %  rate {row['rate']:.2g}  \d+\.\d s",
        lines[12],
    )
    summary = json.loads((program.folder / "run" / "summary.json").read_text())
    last, best = summary["last"], summary["best"]
    assert re.fullmatch(
        rf"test error: last {last['test_error']:.2f} %, best {best['test_error']:.2f} % \(epoch {best['epoch']}\); "
        r"\d+\.\d s",
        lines[13],
    )
    assert lines[14:] == ["look at it with: bioplaus inspect run"]
    assert max(len(line) for line in lines if not line.startswith("log: ")) <= 80


def test_a_run_that_goes_on_says_from_where(program):
    program(*RUN, batch=20, by=signal.SIGINT)
    for more, begun in (([], ", from epoch 2, batch 7"), (["--epochs", 4], ", from epoch 3")):
        done = program("resume", "run", *more)
        assert done.out.splitlines()[0] == f"usf_bn_bm on digits, seed 0{begun}"
        assert done.out.splitlines()[-1] == "look at it with: bioplaus inspect run"


def test_a_choice_that_differs_gets_a_column(program):
    done = program(*RUN, "--set", "layers.fc1.plasticity=none", "--set", "layers.conv1.channel=bp")
    assert done.out.splitlines()[2].split() == ["layer", "weights", "channel", "norm", "plasticity"]
    assert done.out.splitlines()[5].split() == ["fc1", "128×64", "usf", "batch", "none"]
    assert done.out.count("plasticity") == 1


def test_quiet_and_json(program):
    assert program(*RUN, "--quiet") == (0, "", "")
    done = program(*RUN[:-1], "other", "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert set(rows[0]) == {"epoch", "step", "rate", "train", "test", "train_seconds", "test_seconds"}
    assert done.err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_no_line_is_wider_than_it(program):
    import pty
    import struct
    from fcntl import ioctl
    from termios import TIOCSWINSZ

    leader, follower = pty.openpty()
    ioctl(follower, TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        done = program(*RUN[:-1], "t", terminal=os.ttyname(follower))
        os.set_blocking(leader, False)
        printed = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                printed += os.read(leader, 65536)
    finally:
        os.close(leader)
        os.close(follower)
    assert done.code == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed.decode())
    lines = [line for line in re.split(r"[\r\n]+", text) if not line.startswith("log: ")]
    assert max(map(len, lines)) <= 80
    bars = [line for line in lines if line.startswith("epoch") and "samples/s" in line]
    assert bars and all(re.match(r"epoch \d/2 .*loss .*error .* %  rate .*samples/s", line) for line in bars)


@pytest.mark.parametrize("how", ["running", "killed", "stopped", "finished"])
def test_inspect_shows_every_run(program, how):
    """The tree with shapes and first and last values; --json the same as values."""
    if how == "finished":
        program(*RUN, "--quiet")
    elif how == "killed":
        program(*RUN, "--quiet", batch=20, by=signal.SIGKILL)
    elif how == "stopped":
        program(*RUN, "--quiet", batch=20, by=signal.SIGINT)
    else:
        program(*RUN, "--quiet", batch=1, by=signal.SIGKILL)
    epochs = {"running": 0, "killed": 1, "stopped": 1, "finished": 2}[how]
    status = {"killed": "running"}.get(how, how)
    done = program("inspect", "run")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    said = {"running": "running, or killed while it was"}.get(status, status)
    assert lines[0] == f"{program.folder / 'run'}: {said}"
    assert lines[1] == "usf_bn_bm on digits, network digits_net"
    found = json.loads(program("inspect", "run", "--json").out)
    assert found["status"] == status
    if epochs == 0:
        assert lines[3:] == ["no rows yet: the first come with the first checkpoint."]
        return
    rows = [json.loads(line) for line in (program.folder / "run" / "metrics.jsonl").read_text().splitlines()[:epochs]]
    column = found["tables"]["metrics/test"]["columns"]["error"]
    assert column["units"] == "%" and column["shape"] == [epochs]
    assert column["first"] == rows[0]["test"]["error"] and column["last"] == rows[-1]["test"]["error"]
    shown = next(line for line in program("inspect", "run", "metrics/test").out.splitlines() if "error" in line)
    ends = [f"{rows[i]['test']['error']:.3g}" for i in (0, -1)]
    assert shown.split()[:4] == ["error", str(epochs), *ends] and shown.endswith("(%)")
    short = f"never due in {14 * epochs} updates, {epochs} epoch{'s' * (epochs > 1)}: norm, feedback, update (every 50 "
    assert program("inspect", "run").out.splitlines()[-1].startswith(f"{short}updates). To have them sooner: ")
    activity = program("inspect", "run", "layers/conv1/activity/mean").out.splitlines()
    assert activity[-1].split()[:2] == ["mean", f"{epochs}×16"]
    assert [line.strip().split()[0] for line in activity[4:-1]] == ["layers/", "conv1/", "activity/"]


def test_inspect_says_how_to_record_what_never_came_due(program):
    """One line, the way it names has an effect, and nothing is said where all has rows."""
    sets = ["record.feedback=3 epochs", "record.rendering=off", "record.weights=1 epoch", "record.norm=1 update"]
    assert program(*RUN, "--quiet", *(word for each in sets for word in ("--set", each))).code == 0
    advice = "To have them sooner: bioplaus run with --set 'record.feedback=1 update'."
    said = f"never due in 28 updates, 2 epochs: feedback (every 3 epochs), update (every 50 updates). {advice}"
    assert program("inspect", "run").out.splitlines()[-1] == said
    enough = [word for key in ("norm", "feedback", "update") for word in ("--set", f"record.{key}=1 update")]
    assert program(*RUN[:-1], "enough", "--quiet", *enough).code == 0
    assert "never due" not in program("inspect", "enough").out


def test_inspect_of_a_log_alone_and_of_what_is_not_there(program):
    program(*RUN, "--quiet")
    alone = program.folder / "copied.h5"
    alone.write_bytes((program.folder / "run" / "log.h5").read_bytes())
    assert program("inspect", "copied.h5").out.splitlines()[0] == f"{alone}: finished"
    missing = program("inspect", "run", "layers/conv7")
    assert missing.code == 2
    assert "nothing recorded as 'layers/conv7'; did you mean 'conv" in missing.line


def test_evaluate_says_what_the_last_epoch_said(program):
    """The test score of the last epoch again, from the checkpoint alone; also on another data set."""
    program(*RUN, "--quiet")
    row = json.loads((program.folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    found = json.loads(program("evaluate", "run", "--json").out)
    assert found["test"] == row["test"]
    assert found["train"]["samples"] == 1438
    assert "resized" not in program("evaluate", "run").out
    lines = program("evaluate", "run").out.splitlines()
    assert lines[1].split()[:4] == ["test", "loss", f"{row['test']['loss']:.4f}", "error"]


def test_the_record_is_as_often_as_was_asked(program):
    """By updates or by epochs, every table of the log; and the indices are those of all batches of an update."""
    import numpy as np

    from bioplaus.record import open_run

    every = "norm: 2 epochs, activity: 5 updates, feedback: 1 epoch, update: 1 epoch, weights: 1 epoch"
    sets = ["--set", f"record={{{every}, batches: 3 updates}}", "--set", "training.batches_per_update=2"]
    assert program(*RUN, *sets, "--quiet").code == 0
    run = open_run(program.folder / "run")
    per_epoch = 14 // 2
    steps = {name: run.table(name).step.tolist() for name in run.tables}
    assert steps["layers/conv1/norm"] == [2 * per_epoch]
    assert steps["layers/conv1/feedback"] == steps["layers/conv1/weights"] == [per_epoch, 2 * per_epoch]
    assert steps["layers/conv1/update"] == [per_epoch, 2 * per_epoch]
    assert steps["layers/conv1/activity"] == [5, 10]
    assert steps["batches"] == [3, 6, 9, 12]
    index = run.table("batches").index
    assert index.shape == (4, 200)
    assert all(len(set(row)) == 200 for row in index.tolist())
    assert np.isin(index, np.arange(1438)).all()


def test_where_the_folder_goes(program):
    """runs/<date>-<rule>-<network>-<dataset>-s<seed> where no --out names it."""
    assert program(*RUN[:-2], "--seed", 7, "--quiet").code == 0
    (made,) = (program.folder / "runs").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-usf_bn_bm-digits_net-digits-s7", made.name)
    assert isinstance(made, Path) and not list(program.folder.glob(".*"))


def test_a_state_is_said_behind_its_cell(program):
    """It has a norm and learns; what it does not have is left open."""
    sets = ["layers.lstm1.c.norm=layer", "layers.lstm2.c.norm=none", "layers.lstm2.c.update.rate=0.5"]
    (program.folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 200)
    args = ["run", "ptb_base", "--network", "ptb_lstm", "--dataset", "./text.txt", "--epochs", 1]
    done = program(*args, *(word for each in sets for word in ("--set", each)), batch=1, by=signal.SIGINT)
    table = [line.split() for line in done.out.splitlines()[2:11]]
    assert [row[0] for row in table[1:8]] == ["embed", "lstm1.x", "lstm1.h", "lstm1.c", "lstm2.x", "lstm2.h", "lstm2.c"]
    assert table[4][:3] == ["lstm1.c", "state", "layer"] and table[7][:3] == ["lstm2.c", "state", "none"]


def test_an_update_written_as_links_is_said(program):
    """The layers' table says a list of links too."""
    done = program(*RUN, "--set", "defaults.update=[sign, {decay: 0.05}, {momentum: 0.9}, {rate: 2.0e-4}]")
    assert (done.code, done.err) == (0, "")
    assert "every layer: update sign → decay 0.05 → momentum 0.9 → rate 0.0002" in done.out
