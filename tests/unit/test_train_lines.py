"""What a training says in plain lines, from Python and about every minute."""

from __future__ import annotations

import pytest

import bioplaus
from bioplaus.train.lines import Lines

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
