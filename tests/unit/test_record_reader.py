"""One log to whoever reads it: growing, packed, copied, in xarray; and unknown names are suggested."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from bioplaus.errors import RunError
from bioplaus.record import Column, RunFolder, describe, open_run


def weights(step: int) -> np.ndarray:
    return np.arange(6.0).reshape(2, 3) + step


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run of three commits, not ended."""
    attributes = {"seed": 3, "rate": 0.5, "versions": {"numpy": "2"}, "flag": True, "device": None, "big": 2**70}
    folder = RunFolder.create(tmp_path / "run", "rule: usf\n", attributes, {"fc.W": weights(0)}, {})
    folder.log.describe("layers/b1.fc/memory", short=Column("mV", "short memory", (("unit",),)))
    for step in (1, 2, 3):
        folder.log.add("metrics/test", epoch=step, step=step, error=10.0 / step, test_seconds=0.1)
        folder.log.add("layers/b1.fc/norm", step=step, mean=np.full(2, step), sigma=np.full((4, 5), step))
        folder.log.add("layers/b1.fc/weights", step=step, W=weights(step), V=weights(step))
        folder.log.add("layers/b1.fc/memory", step=step, short=np.full(3, step), odd=np.full((3, 2), step))
        folder.log.add("batches", step=step, index=range(step))
        folder.commit({"fc.W": weights(step)}, {}, {"epoch": step})
    return folder


def test_a_log_reads_the_same_growing_packed_and_copied(folder: RunFolder, tmp_path: Path) -> None:
    growing = open_run(folder.path)
    folder.finish({"best": 3.0})
    shutil.copy(folder.path / "log.h5", tmp_path / "copy.h5")
    packed, copied = open_run(folder.path / "log.h5"), open_run(tmp_path / "copy.h5")
    assert (growing.status, packed.status, copied.status) == ("running", "finished", "finished")
    for run in (growing, packed, copied):  # the first was opened before its segments were packed away
        assert run.config == "rule: usf\n"
        assert run.attributes == {
            "seed": 3,
            "rate": 0.5,
            "versions": '{"numpy": "2"}',
            "flag": 1,
            "big": str(2**70),
            "config": "rule: usf\n",
        }
        assert run.layers == ["b1.fc"]
        np.testing.assert_array_equal(run.metrics.test.error, [10, 5, 10 / 3])
        np.testing.assert_array_equal(run.layer("b1.fc").norm.mean, [[1, 1], [2, 2], [3, 3]])
        np.testing.assert_array_equal(run.layer("b1.fc").weights.W, [weights(step) for step in (1, 2, 3)])
        np.testing.assert_array_equal(run.table("batches").index, [[0, -1, -1], [0, 1, -1], [0, 1, 2]])
        assert run.layer("b1.fc").memory.columns["short"].units == "mV"
    assert packed.summary == {"best": 3.0}
    assert growing.array("fc.W").tolist() == packed.weights("fc").tolist() == weights(3).tolist()
    with pytest.raises(RunError, match="a log alone"):
        copied.weights("fc")


def test_a_reader_sees_what_was_committed_when_it_opened(folder: RunFolder) -> None:
    before = open_run(folder.path)
    folder.log.add("metrics/test", epoch=4, step=4, error=1.0, test_seconds=0.1)
    assert len(open_run(folder.path).metrics.test) == 3
    folder.commit({}, {})
    assert len(open_run(folder.path).metrics.test) == 4
    assert len(before.metrics.test.error) == 3


def test_every_dataset_has_units_a_name_and_scales(folder: RunFolder) -> None:
    folder.finish({})
    seen = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            seen.append(name)
            assert item.attrs["units"] and item.attrs["long_name"], name
            if not item.is_scale:
                assert [len(dim) for dim in item.dims] == [1] * item.ndim, name
                assert item.dims[0][0].name.endswith("/step")
                assert item.compression == "gzip" and item.shuffle

    with h5py.File(folder.path / "log.h5") as log:
        log.visititems(visit)
        assert log.attrs["schema"] == "bioplaus-log/1"
        assert log["metrics/test/error"].attrs["units"] == "%"
        assert [dim[0].name.split("/")[-1] for dim in log["layers/b1.fc/weights/W"].dims] == ["step", "in", "out"]
    # one name has one size: sigma's second axis is called unit as well
    assert {"layers/b1.fc/norm/unit", "layers/b1.fc/norm/sigma_unit", "layers/b1.fc/norm/time"} <= set(seen)


def test_xarray_opens_every_table(folder: RunFolder) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    folder.finish({})
    run = open_run(folder.path)
    for table in run.tables:
        with xarray.open_dataset(folder.path / "log.h5", group=table, engine="h5netcdf") as found:
            ours = run.to_xarray(table)
            assert set(found.data_vars) == set(ours.data_vars)
            assert set(found.coords) == set(ours.coords) == set(ours.dims)
            for name in ours.variables:
                assert found[name].dims == ours[name].dims
                np.testing.assert_array_equal(found[name].values, ours[name].values)
                assert found[name].attrs["units"] == ours[name].attrs["units"]
                assert found[name].attrs["long_name"] == ours[name].attrs["long_name"]
    np.testing.assert_array_equal(run.to_xarray("layers/b1.fc/norm")["mean"].sel(step=2), [2, 2])


def test_unknown_names_are_suggested(folder: RunFolder) -> None:
    run = open_run(folder.path)
    for ask, says in [
        (lambda: run.metrics.tets, "did you mean 'test'"),
        (lambda: run.metrics.test.eror, "did you mean 'error'"),
        (lambda: run.layer("b1.fcc"), "did you mean 'b1.fc'"),
        (lambda: run.table("layers/b1.fc/nrm"), "nothing recorded as 'layers/b1.fc/nrm'; did you mean 'norm'"),
        (lambda: run.weights("fcc"), "did you mean 'fc.W'"),
        (lambda: describe(run, "metrics/test/eror"), "nothing recorded as 'metrics/test/eror'; did you mean 'error'"),
        (lambda: describe(run, "b1.fcc/norm"), "nothing recorded as 'b1.fcc'; did you mean 'b1.fc'"),
        (lambda: describe(run, "layers/b1.fcc/norm"), "nothing recorded as 'layers/b1.fcc'; did you mean 'b1.fc'"),
        (lambda: run.table("layers/b1.fc"), "'layers/b1.fc' is no table. Known: memory, norm, weights."),
    ]:
        with pytest.raises(RunError, match=says) as error:
            ask()
        assert "\n" not in str(error.value)
    assert "validation" not in run.metrics
    assert not hasattr(run.metrics, "_repr_html_")


def test_describe_is_json_with_first_and_last_values(folder: RunFolder) -> None:
    run = open_run(folder.path)
    everything = json.loads(json.dumps(describe(run), allow_nan=False))
    assert everything["status"] == "running"
    assert sorted(everything["tables"]) == run.tables
    error = everything["tables"]["metrics/test"]["columns"]["error"]
    assert (error["units"], error["dims"], error["shape"], error["first"], error["last"]) == (
        "%",
        ["step"],
        [3],
        10.0,
        10 / 3,
    )
    short = describe(run, "layers/b1.fc/weights/W")["tables"]["layers/b1.fc/weights"]["columns"]
    assert list(short) == ["W"]
    assert short["W"]["last"] == {"min": 3.0, "mean": 5.5, "max": 8.0}
    for path in ("b1.fc", "b1.fc/weights", "b1.fc/weights/W"):
        assert describe(run, path)["tables"] == describe(run, f"layers/{path}")["tables"]
    assert list(describe(run, "layers/b1.fc")["tables"]) == [n for n in run.tables if n.startswith("layers/")]


def test_of_what_a_layer_lacks_no_other_layer_is_suggested(tmp_path: Path) -> None:
    """Only what there is of this one; and how often it would be due, where it never was."""
    folder = RunFolder.create(tmp_path / "run", "rule: usf\nrecord: {norm: 3 updates, update: 9 updates}\n", {}, {}, {})
    for table in ("conv1/norm", "conv1/update", "conv1/activity", "conv2/activity", "conv2/feedback"):
        folder.log.add(f"layers/{table}", step=5, mean=np.ones(2))
    folder.commit({}, {})
    run, known = open_run(folder.path), "Known: activity, feedback."
    for name, why in (("norm", ""), ("update", ", which is due every 9 updates")):
        said = f"{run.path}: nothing recorded as 'layers/conv2/{name}'{why}. {known}"
        for ask in (
            lambda name=name: run.layer("conv2")[name],
            lambda name=name: run.table(f"layers/conv2/{name}"),
            lambda name=name: describe(run, f"conv2/{name}"),
            lambda name=name: describe(run, f"conv2/{name}/mean"),
        ):
            with pytest.raises(RunError) as error:
                ask()
            assert str(error.value) == said


@pytest.mark.parametrize("made", [49, 50, 51])
def test_what_never_came_due_is_what_wants_more_updates_or_epochs_than_were_made(tmp_path: Path, made: int) -> None:
    cadences = "{norm: 50 updates, update: 51 updates, activity: 1 epoch, weights: 3 epochs, loss: off, probe: 1}"
    folder = RunFolder.create(tmp_path / "run", f"rule: usf\nrecord: {cadences}\n", {}, {}, {})
    folder.commit({}, {})
    assert open_run(folder.path).made == {"update": 0, "epoch": 0}
    for epoch in (1, 2):
        folder.log.add("metrics/train", epoch=epoch, step=epoch)
    folder.log.add("layers/fc/activity", step=made, mean=np.ones(2))
    folder.commit({}, {})
    found = describe(open_run(folder.path))
    norm, update = {"norm": "50 updates"} if made < 50 else {}, {"update": "51 updates"} if made < 51 else {}
    assert found["made"] == {"update": made, "epoch": 2}
    assert found["never_due"] == {**norm, **update, "weights": "3 epochs"}
    assert "never_due" in describe(open_run(folder.path), "fc")
    for path in ("fc/activity", "fc/activity/mean"):
        assert "never_due" not in describe(open_run(folder.path), path)


def test_a_cell_or_block_is_described_with_what_lies_inside_it(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", "rule: usf\n", {}, {}, {})
    inside = ["layers/h1_h1.conv1/norm", "layers/lstm1.c/norm", "layers/lstm1.x/norm", "layers/lstm1/activity"]
    for table in ("metrics/test", "layers/lstm10/norm", "layers/lstm2.x/norm", *inside):
        folder.log.add(table, step=1, mean=np.ones(2))
    folder.commit({}, {})
    run = open_run(folder.path)
    for path in ("lstm1", "layers/lstm1"):
        assert list(describe(run, path)["tables"]) == inside[1:]
    assert list(describe(run, "lstm1/activity")["tables"]) == inside[3:]
    assert list(describe(run, "h1_h1")["tables"]) == inside[:1]  # nothing is recorded of it but of what lies inside
    for path in ("lstm1.", "lstm", "h1"):
        with pytest.raises(RunError, match="nothing recorded as"):
            describe(run, path)


def test_what_is_not_walked_at_every_time_is_described_by_the_times_at_which_it_is(tmp_path: Path) -> None:
    """A number that diverged is no such time: another column, or another row, has numbers there."""
    folder, nan = RunFolder.create(tmp_path / "run", "rule: usf\n", {}, {}, {}), np.nan
    for step in (1, 2):
        mean, sigma = np.array([[1.0, 2], [nan, nan], [5, 7]]), np.array([[1, 2], [nan, nan], [nan, nan]])
        late = np.array([[1, 2], [3, 4], [nan, nan]]) if step == 1 else np.full((3, 2), nan)
        folder.log.add("layers/seldom/norm", step=step, mean=mean * step, sigma=mean, penalty=[0.5, 0.0, 1.0])
        folder.log.add("layers/seldom_diverged/norm", step=step, mean=mean, sigma=sigma)
        folder.log.add("layers/later_diverged/norm", step=step, mean=late)
        folder.log.add("layers/diverged/norm", step=step, mean=np.full((3, 2), nan))
        folder.log.add("layers/always/norm", step=step, mean=mean[::2], sigma=np.full(2, nan))
    folder.commit({}, {})
    found = json.loads(json.dumps(describe(open_run(folder.path), "layers"), allow_nan=False))["tables"]
    walked = {name.split("/")[1]: table.get("walked") for name, table in found.items()}
    columns = {name.split("/")[1]: table["columns"] for name, table in found.items()}
    none = {"min": None, "mean": None, "max": None}
    assert walked == {
        "seldom": [True, False, True],
        "seldom_diverged": [True, False, True],
        "later_diverged": [True, True, False],
        "diverged": None,
        "always": None,
    }
    assert columns["seldom"]["mean"]["first"] == {"min": 1.0, "mean": 3.75, "max": 7.0}
    assert columns["seldom"]["mean"]["last"] == {"min": 2.0, "mean": 7.5, "max": 14.0}
    assert columns["seldom"]["mean"]["shape"] == [2, 3, 2]
    assert columns["seldom"]["penalty"]["last"] == {"min": 0.5, "mean": 0.75, "max": 1.0}
    assert columns["seldom_diverged"]["mean"]["last"]["mean"] == 3.75
    assert columns["later_diverged"]["mean"]["first"]["mean"] == 2.5
    assert columns["seldom_diverged"]["sigma"]["last"] == {"min": 1.0, "mean": 1.5, "max": 2.0, "not_numbers": 2}
    for layer, name in (("later_diverged", "mean"), ("diverged", "mean")):
        assert columns[layer][name]["last"] == none
    assert columns["always"]["sigma"]["last"] == none


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_damaged_or_foreign_log_is_one_line(folder: RunFolder, tmp_path: Path, damage: str) -> None:
    folder.finish({})
    path = tmp_path / "copy.h5"
    if damage == "cut":
        path.write_bytes((folder.path / "log.h5").read_bytes()[:-99])
    else:
        with h5py.File(path, "w") as file:
            file["x"] = 1
    shutil.copy(path, folder.path / "log.h5")
    for where in (path, folder.path):
        with pytest.raises(RunError, match=r"\.h5: (damaged|an HDF5 file of another program)") as error:
            open_run(where)
        assert "\n" not in str(error.value)


def test_large_columns_are_copied_in_blocks(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bioplaus.record.pieces.BLOCK", 8)
    monkeypatch.setattr("bioplaus.record.pieces.CHUNK", 8)
    folder.finish({})
    folder.log.add("metrics/test", epoch=4, step=4, error=1.0, test_seconds=0.1)
    folder.commit({}, {})
    folder.finish({})
    np.testing.assert_array_equal(open_run(folder.path).metrics.test.step, [1, 2, 3, 4])
