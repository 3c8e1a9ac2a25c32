"""What a training says in plain lines, from Python and about every minute."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import bioplaus
from bioplaus.train.lines import Lines, how_it_ended

GIVEN = {"dataset": "digits", "backend": "numpy", "sets": ["training.samples_per_batch=2"]}


class Clock(bioplaus.Listener):
    """25 seconds go by between two looks at the loss, which come every 50 batches."""

    now = 0.0

    def advanced(self, moment, loss, error, rate):
        self.now += 25


def test_within_an_epoch_there_is_a_line_a_minute(tmp_path):
    clock, said = Clock(), []
    lines = Lines(said.append, lambda: clock.now)
    listeners = {"listeners": (clock, lines), "begin": lines.begin, "progress": False}
    bioplaus.run("sgd", network="mlp", epochs=1, out=tmp_path / "run", **GIVEN, **listeners)
    within = [line for line in said if "  batch " in line]
    places = [150, 300, 450, 600]  # of 719; every 75 seconds
    assert [line[: line.index("  loss ")] for line in within] == [f"epoch 1/1  batch {place}/719" for place in places]
    assert all(line.endswith("  4 samples/s") and " error " in line and " rate " in line for line in within)
    (end,) = [line for line in said if line.endswith("  375.0 s")]  # 15 looks
    assert end.startswith("epoch 1/1  loss ")


@pytest.mark.parametrize("progress", [True, False])
def test_python_prints_the_same_lines_unless_told_not_to(tmp_path, capsys, progress):
    run = bioplaus.run("sgd", dataset="digits", epochs=1, out=tmp_path / "run", backend="numpy", progress=progress)
    first = capsys.readouterr().out.splitlines()
    bioplaus.resume(run.path, epochs=2, progress=progress)
    second = capsys.readouterr().out.splitlines()
    if not progress:
        assert first == second == []
        return
    assert first[0] == "sgd on digits, seed 0"
    assert second[0] == "sgd on digits, seed 0, from epoch 2"
    assert [sum(line.startswith("epoch ") for line in lines) for lines in (first, second)] == [1, 1]
    assert first[-1].startswith("look at it with: bioplaus inspect ")


@pytest.mark.parametrize(
    ("last", "best", "seconds", "said"),
    [
        (
            {"test_error": 3.0, "validation_error": 4.0},
            {"test_error": 2.0, "validation_error": 1.0, "selected_error": 1.0},
            90.0,
            "test error: last 3.00 %, best 2.00 % (epoch 2, by validation); 1.5 min",
        ),
        (
            {"test_perplexity": 30.0, "test_error": 50.0},
            {"test_perplexity": 25.0, "test_error": 55.0, "selected_perplexity": 25.0},
            59.0,
            "test perplexity: last 30.00, best 25.00 (epoch 2); 59.0 s",
        ),
        (
            {"test_loss": 0.3},
            {"test_loss": 0.1234, "selected_loss": 0.1234},
            7200.0,
            "test loss: last 0.3000, best 0.1234 (epoch 2); 120.0 min",
        ),
    ],
)
def test_how_a_run_ended(last, best, seconds, said):
    summary = {"last": {"epoch": 5, **last}, "best": {"epoch": 2, **best}}
    took = {"train_seconds": seconds - 9.0, "test_seconds": 9.0}
    run = SimpleNamespace(summary={**summary, **took}, path=Path("runs", "mine").resolve(), tables=["metrics/test"])
    ended = [said, "look at it with: bioplaus inspect runs/mine"]
    assert list(how_it_ended(run)) == ended
    run.tables.append("layers/conv1/rendering")
    assert list(how_it_ended(run)) == [*ended, "see what it draws with: bioplaus generate runs/mine"]
