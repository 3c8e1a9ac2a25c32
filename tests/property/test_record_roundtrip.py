"""Laws of the record over random rows and cuts: how often a run was cut off cannot be told from its log."""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bioplaus.record import RunFolder, open_run

numbers = st.sampled_from(["float32", "float64", "int16", "uint8", "int64", "bool"])
any_array = numbers.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)))
names = st.text("abcW.1_", min_size=1, max_size=8).filter(lambda name: name.strip("."))


@settings(max_examples=15)
@given(state=st.dictionaries(names, any_array, max_size=5))
def test_any_state_comes_back_to_the_bit(state: dict[str, np.ndarray]) -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        RunFolder.create(Path(home) / "run", "", {}, state, {"n": len(state)}) as folder,
    ):
        found, meta = folder.restore()
    assert meta == {"n": len(state)}
    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in found.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in state.items()
    }


@settings(max_examples=12)
@given(
    values=arrays("float32", (12, 3)), cuts=st.lists(st.sampled_from(["commit", "drop", "stop", "fail"]), max_size=6)
)
def test_cuts_leave_no_trace_in_the_log(values: np.ndarray, cuts: list[str]) -> None:
    """Rows 2k and 2k+1 are written at cut k; what was not committed is written again."""
    with tempfile.TemporaryDirectory() as home:
        path, done = Path(home) / "run", 0
        RunFolder.create(path, "", {}, {}, {"done": 0}).close()
        for cut in [*cuts, "commit"]:
            with RunFolder.open(path) as folder:
                done = folder.restore()[1]["done"]
                last = len(values) if cut == "commit" and done + 2 * len(cuts) >= len(values) else done + 2
                for step in range(done, min(last, len(values))):
                    folder.log.add("layers/fc/norm", step=step, mean=values[step], sigma=values[step, 0])
                    folder.log.add("batches", step=step, index=range(step + 1))
                if cut == "fail":
                    folder.end("failed")
                elif cut != "drop":
                    done = min(last, len(values))
                    folder.commit({}, {"done": done}, {"done": done})
                    if cut == "stop":
                        folder.end("stopped")
        with RunFolder.open(path) as folder:
            folder.restore()
            growing = open_run(path)
            folder.finish({})
        packed = open_run(path)
        for run in (growing, packed):
            assert run.tables == (["batches", "layers/fc/norm"] if done else [])
            if done:
                norm = run.layer("fc").norm
                assert norm.mean.tobytes() == values[:done].tobytes()
                assert norm.sigma.tobytes() == values[:done, 0].tobytes()
                np.testing.assert_array_equal(run.table("batches").step, np.arange(done))
                wanted = np.where(np.tri(done, dtype=bool), np.arange(done), -1)
                np.testing.assert_array_equal(run.table("batches").index, wanted)
        with h5py.File(path / "log.h5") as log:
            assert log.attrs["status"] == "finished"
