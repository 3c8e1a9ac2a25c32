"""Whatever the user gets wrong ends in one line on stderr, exit 2, and nothing written."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from bioplaus.record import open_run

RUN = ["run", "usf_bn_bm", "--dataset", "digits", "--epochs", "1", "--backend", "numpy"]
OWN = ["run", "bm", "--backend", "numpy", "--set", "training.samples_per_batch=3", "--dataset"]
RULES = {
    "key": "rule: a\nfrom: usf_bn_bm\ndefaultz: {norm: none}\n",
    "twice": "rule: a\nfrom: usf_bn_bm\ndefaults: {norm: none}\ndefaults: {norm: batch}\n",
    "part": "rule: a\nfrom: usf_bn_bm\ndefaults: {channel: usff}\n",
    "layer": "rule: a\nfrom: usf_bn_bm\nlayers: {convx: {norm: none}}\n",
    "no_norm": "rule: a\nfrom: usf_bn_bm\nlayers: {fc2: {norm: batch}}\n",
    "type": "rule: a\nfrom: usf_bn_bm\ntraining: {epochs: many}\n",
    "syntax": "rule: [unclosed\n",
    "bomb": "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)),
}
NETWORKS = {
    "dense": "layers: [{conv1: {conv: 4, kernel: 3}}, relu, {fc: {dense: classes}}]",
    "kernel": "layers: [{conv1: {conv: 4, kernel: 11}}, flatten, {fc: {dense: classes}}]",
    "input": "layers: [flatten, {fc: {dense: classes}}]",
}


def written(home: Path) -> None:
    for name, text in RULES.items():
        (home / f"{name}.yaml").write_text(text)
    for name, layers in NETWORKS.items():
        size = "[3, 8, 8]" if name == "input" else "[1, 8, 8]"
        (home / f"net_{name}.yaml").write_text(
            f"network: {name}\ninput: {size}\n{layers}\nloss: softmax_cross_entropy\n"
        )
    x, one = np.zeros((6, 5)) + np.arange(5.0), np.arange(6)
    np.savez(home / "huge.npz", X=x, y=one * 10**13, X_test=x, y_test=one)
    np.savez(home / "few.npz", X=x, y=one, X_test=x, y_test=one)
    np.savez(home / "targets.npz", X=x, y=x * 0.3, X_test=x, y_test=x * 0.3)
    (home / "wide.yaml").write_text(
        "network: wide\ninput: [5]\nlayers: [{h: {dense: 1000000000000}}, {o: {dense: 6}}]\n"
    )
    (home / "three.yaml").write_text("network: three\ninput: [5]\nlayers: [{o: {dense: 3}}]\nloss: squared_error\n")
    (home / "full").mkdir()
    (home / "full" / "file").touch()
    (home / "data").mkdir()
    (home / "data" / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b cut short")
    with h5py.File(home / "foreign.h5", "w") as file:
        file["x"] = [1, 2]
    (home / "damaged.h5").write_bytes((home / "foreign.h5").read_bytes()[:900])
    (home / "strange").mkdir()
    (home / "strange" / "checkpoint.h5").write_bytes((home / "foreign.h5").read_bytes())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "key.yaml", "--dataset", "digits"], "key.yaml:3: defaultz: unknown key 'defaultz'; did you mean 'def"),
        (["run", "twice.yaml", "--dataset", "digits"], "twice.yaml:4: defaults: stands twice, first in line 3"),
        (["run", "part.yaml", "--dataset", "digits"], "no feedback channel named 'usff'; did you mean 'usf'?"),
        (["run", "layer.yaml", "--dataset", "digits"], "layers.convx: matches no layer; did you mean 'conv2'? Known: "),
        (
            ["run", "no_norm.yaml", "--dataset", "digits"],
            "no_norm.yaml:3: layers.fc2.norm: network 'digits_net' has no",
        ),
        (["run", "type.yaml", "--dataset", "digits"], "type.yaml:3: training.epochs: given 'many', wanted a whole nu"),
        (["run", "syntax.yaml", "--dataset", "digits"], "syntax.yaml:2: not YAML"),
        (["run", "bomb.yaml", "--dataset", "digits"], "bomb.yaml: more than 20000 values"),
        (["run", "nowhere.yaml", "--dataset", "digits"], "nowhere.yaml: no such rule file"),
        (["run", "usf_bn_bn", "--dataset", "digits"], "no rule named 'usf_bn_bn'; did you mean 'usf_bn_bm'?"),
        (["run", "usf_bn_bm", "--dataset", "digist"], "no data set named 'digist'; did you mean 'digits'?"),
        (["run", "usf_bn_bm"], "Give --dataset, which brings its own, or --network"),
        (["run"], "Missing argument 'RULE'"),
        (["frobnicate"], "no verb named 'frobnicate'"),
        ([*RUN, "--network", "lenett"], "no network named 'lenett'; did you mean 'lenet'?"),
        ([*RUN, "--network", "net_dense.yaml"], "layer 'fc': dense wants a flat input, given 4×6×6"),
        ([*RUN, "--network", "net_kernel.yaml"], "layer 'conv1': a 11×11 kernel does not fit a 8×8 map"),
        ([*RUN, "--network", "net_input.yaml"], "1 channels given, 3 wanted"),
        ([*RUN, "--set", "defaults.update.rte=3"], "'bm1' has no parameter 'rte'; did you mean 'rate'?"),
        ([*RUN, "--set", "defaults.update.rate=fast"], "given 'fast', wanted a number"),
        ([*RUN, "--set", "defaults.update.rte=3"], " and --set: layers.conv1.update: 'bm1' has no parameter"),
        ([*RUN, "--set", "defaults.update={momentum: fast}"], " and --set: layers.conv1.update.momentum: given 'fast'"),
        ([*RUN, "--set", "defaults.update={recipe: bm2, rte: 3}"], "bioplaus: --set: layers.conv1.update: 'bm2' has "),
        ([*RUN, "--set", "defaults={norm: {recipe: batch, a: 3}}"], "bioplaus: --set: layers.conv1.norm: 'batch' has "),
        ([*RUN, "--set", "training.rate={after: [2, 1]}"], " and --set: training.rate: after is [2, 1]; wanted"),
        ([*RUN, "--set", "defaults.update.rate=.nan"], "--set: defaults.update.rate: .nan is not a finite number."),
        ([*RUN, "--set", "nothing"], "wanted key.path=value"),
        ([*RUN, "--set", "training.samples_per_batch=5000"], "5000 given, the training set has 1438 samples"),
        (
            [*RUN, "--set", "training.phases=[{epochs: 1, samples_per_batch: 9000}]"],
            "training.phases.0.samples_per_batch: 9000 given, the training set has 1438 samples",
        ),
        (
            [*RUN[:3], "digits", "--epochs", "2", "--set", "training.phases=[{epochs: 1}, {update: {rte: 1}}]"],
            "'bm1' has no parameter 'rte'; did you mean 'rate'?",
        ),
        ([*RUN, "--epocs", "3"], "No such option '--epocs'"),
        ([*RUN, "--threads", "zero"], "'zero' is not a valid integer"),
        ([*RUN[:-2], "--backend", "nunpy"], "no backend named 'nunpy'; did you mean 'numpy'? Known: cupy, numpy, to"),
        ([*RUN, "--device", "cuda"], "device 'cuda' given, it runs on 'cpu' only"),
        ([*RUN, "--out", "full"], "full: exists already"),
        ([*RUN, "--out", "key.yaml"], "key.yaml: exists already"),
        ([*RUN, "--out", "key.yaml/run"], "key.yaml: no folder can be made here"),
        ([*RUN, "--from", "nowhere"], "nowhere: does not exist"),
        ([*RUN, "--from", "strange"], "strange/checkpoint.h5: an HDF5 file of another program"),
        (["run", "usf_bn_bm", "--dataset", "mnist", "--data-dir", "full"], "train-images-idx3-ubyte.gz not found"),
        (["run", "usf_bn_bm", "--dataset", "mnist", "--data-dir", "data"], "train-images-idx3-ubyte.gz"),
        (["run", "usf_bn_bm", "--dataset", "key.yaml"], "key.yaml"),
        (
            [*OWN, "huge.npz", "--set", "network.input=[5]"],
            "data set 'huge': label 50000000000000 found among 12 samples",
        ),
        ([*OWN, "few.npz", "--network", "wide.yaml"], "network 'wide' with 6 classes does not fit into memory"),
        (
            [*OWN, "targets.npz", "--set", "network.input=[5]"],
            "for targets choose a network whose loss is squared_error",
        ),
        (
            [*OWN, "targets.npz", "--network", "three.yaml"],
            "ends in samples of shape (3,), the data set has 5 targets a",
        ),
        (["inspect", "nowhere"], "nowhere: does not exist"),
        (["inspect", "full"], "full: no run folder"),
        *(
            ([verb, file], text)
            for verb in ("inspect", "resume", "evaluate")
            for file, text in (("strange", "an HDF5 file of another program"), ("nowhere", "does not exist"))
        ),
        (["inspect", "foreign.h5"], "foreign.h5: an HDF5 file of another program"),
        (["inspect", "damaged.h5"], "damaged.h5: damaged, or not an HDF5 file"),
        (["inspect", "key.yaml"], "key.yaml: damaged, or not an HDF5 file"),
        (["resume", "damaged.h5"], "damaged.h5: no run folder"),
    ],
    ids=lambda value: " ".join(value).removeprefix(" ".join(RUN)) if isinstance(value, list) else "",
)
def test_wrong_input(program, args, said):
    written(program.folder)
    before = contents(program.folder)
    done = program(*args)
    assert done.code == 2, done
    assert said in f"bioplaus: {done.line}"
    assert done.out == ""
    assert contents(program.folder) == before


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:99", "gpu", "cpu:1", "cuda:first"])
def test_a_device_that_is_not_there(program, device):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available() and device in ("cuda", "cuda:0"):
        pytest.skip("there is a GPU")
    done = program(*RUN[:-2], "--backend", "torch", "--device", device)
    assert done.code == 2
    assert f"device '{device}'" in done.line
    assert not list(program.folder.iterdir())


def test_a_backend_that_is_not_installed(program):
    try:
        import cupy  # noqa: F401
    except ImportError:
        done = program(*RUN[:-2], "--backend", "cupy")
        assert done.code == 2
        assert done.line.startswith("backend 'cupy' is not installed. Install bioplaus[cuda12]")
        assert not list(program.folder.iterdir())
    else:
        pytest.skip("cupy is installed")


def test_a_run_of_another_network(program):
    """Neither weights of other shapes nor gains that would be lost."""
    assert program(*RUN, "--out", "one", "--quiet").code == 0
    before = contents(program.folder)
    other = program(*RUN, "--network", "mlp", "--from", "one", "--out", "two")
    assert other.code == 2 and "Start from a run of the same network" in other.line
    gains = program(*RUN, "--set", "defaults.norm={recipe: batch, affine: true}", "--from", "one", "--out", "two")
    assert gains.code == 2 and "'conv1.bias' is absent there and 1×16×1×1 here." in gains.line
    assert contents(program.folder) == before


@pytest.fixture(scope="module")
def finished(server, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("finished")
    assert replace(server, folder=home)(*RUN, "--out", "run", "--quiet").code == 0
    return home / "run"


@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
@pytest.mark.parametrize(
    ("file", "needed_by"),
    [
        ("checkpoint.h5", ["inspect", "evaluate", "resume"]),
        ("log.h5", ["inspect", "resume"]),
        ("config.yaml", ["evaluate", "resume"]),
        ("metrics.jsonl", ["resume"]),
    ],
)
def test_a_damaged_run_folder(program, finished, file, needed_by, how):
    """The verbs that need a file say what is wrong with it and leave the folder alone; the others do their work."""
    shutil.copytree(finished, program.folder / "run")
    path = program.folder / "run" / file
    whole, half = path.read_bytes(), path.stat().st_size // 2
    if how == "cut":
        path.write_bytes(whole[:half])
    elif how == "changed":
        path.write_bytes(bytes(255 - byte for byte in whole[:half]) + whole[half:])
    else:
        path.unlink()
    before = contents(program.folder)
    for verb in ("inspect", "evaluate", "resume"):
        done = program(verb, "run", *(["--epochs", 2] if verb == "resume" else []))
        if verb in needed_by and (file, how) != ("metrics.jsonl", "changed"):  # its text is never read back
            assert done.code == 2, (verb, done)
            assert file in done.line or (how == "gone" and "/run" in done.line)
            assert contents(program.folder) == before
        else:
            assert (done.code, done.err) == (0, ""), (verb, done)


def test_a_norm_for_all_needs_a_place_unless_layers_leave_it_out(program):
    (program.folder / "flat.yaml").write_text("input: [1, 8, 8]\nlayers:\n- flatten\n- fc: {dense: classes}\n")
    flat = [*RUN, "--network", "flat.yaml", "--out", "run", "--quiet"]
    said = "defaults.norm: network 'flat' has no place for a norm. Put `norm` after its weight layers, or set defaults."
    assert said in program(*flat).line
    assert program(*flat, "--set", "layers.fc.norm=none").code == 0


def test_a_run_without_its_config_has_its_text_in_the_log(program, finished):
    shutil.copytree(finished, program.folder / "run")
    path = program.folder / "run" / "config.yaml"
    path.unlink()
    said = f"{path}: is not there. Put it back; open_run({str(path.parent)!r}).config is its text."
    for verb in (["evaluate"], ["prune"], ["resume", "--epochs", 2]):
        assert program(*verb, "run").line == said
    path.write_text(open_run(path.parent).config)
    assert program("evaluate", "run").code == 0
    assert path.read_bytes() == (finished / "config.yaml").read_bytes()


def test_a_damaged_summary_is_written_anew(program, finished):
    shutil.copytree(finished, program.folder / "run")
    path = program.folder / "run" / "summary.json"
    whole = path.read_text()
    path.write_text(whole[:20])
    done = program("resume", "run", "--epochs", 1)
    assert done.code == 2 and "summary.json: damaged" in done.line
    path.unlink()
    assert program("resume", "run", "--quiet") == (0, "", "")
    assert path.read_text() == whole


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
