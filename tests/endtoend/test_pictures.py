"""A generative network is trained on digits, draws, and lets one image be followed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import bioplaus
from bioplaus import rendering
from bioplaus.backend.streams import Stream
from bioplaus.cli import main
from bioplaus.errors import DataError, RunError
from bioplaus.report import pictures
from bioplaus.train import lifetime

pytest.importorskip("matplotlib")
NETWORK = """
network: tiny
input: [1, 8, 8]
pass: generative
layers:
- conv1: {conv: 6, kernel: 3, pad: full}
- norm
- relu
- maxpool: 2
- conv2: {conv: 8, kernel: 3}
- norm
- relu
- globalmeanpool
- out: {dense: classes}
"""
RULE = """
rule: drawing
defaults: {norm: {recipe: batch, affine: true}, update: {recipe: adam, rate: 1.0e-2}}
losses: {cross_entropy: {weight: 1.0}, reconstruction: {weight: 0.5}}
data: {validation: 0.58, preprocess: standard}
training: {reduction: mean, epochs: 2, samples_per_batch: 100}
"""
NAMES = ["reconstructions", "samples", "templates", "liked", "filters"]


@pytest.fixture(scope="module")
def home(server, tmp_path_factory):
    """A folder with a run that renders and one that does not."""
    program = replace(server, folder=tmp_path_factory.mktemp("pictures"))
    (program.folder / "rule.yaml").write_text(RULE)
    (program.folder / "net.yaml").write_text(NETWORK)
    about = ["--dataset", "digits", "--backend", "numpy", "--threads", "1", "--quiet"]
    assert program("run", "rule.yaml", *about, "--network", "net.yaml", "--out", "run") == (0, "", "")
    assert program("run", "sgd", *about, "--epochs", "1", "--out", "plain") == (0, "", "")
    return program.folder


@pytest.fixture
def inside(program, home):
    """The command line in a copy of that folder."""
    shutil.copytree(home, program.folder, dirs_exist_ok=True)
    return program


def pngs(folder):
    found = sorted(path.name for path in folder.iterdir())
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in found)
    return found


def test_generate_draws_and_says_how_well(inside):
    done = inside("generate", "run")
    assert (done.code, done.err) == (0, "")
    *written, error, same = done.out.splitlines()
    assert [line.rpartition("run/")[2] for line in written] == [f"pictures/{name}.png" for name in NAMES]
    assert pngs(inside.folder / "run" / "pictures") == sorted(f"{name}.png" for name in NAMES)
    found = json.loads(inside("generate", "run", "--json", "--out", "elsewhere").out)
    assert pngs(inside.folder / "elsewhere") == sorted(f"{name}.png" for name in NAMES)
    missed = f"{found['error']:.4g}, {100.0 * found['error'] / found['power']:.1f} % of the images' own mean square"
    assert error == f"mean squared error of the reconstructions: {missed} ({found['images']} test images)"
    assert same == f"classified like their image: {found['same_class']:.2f} % of the reconstructions"
    run = bioplaus.open_run(inside.folder / "run")
    assert found["error"] == pytest.approx(run.metrics.test.loss_reconstruction[-1], rel=1e-4)
    assert list(found["inferred"]) == [str(c) for c in range(10)] and sum(found["inferred"].values()) == 359
    assert found["images"] == 359 and 0 < found["same_class"] <= 100
    assert list(found["pictures"]) == NAMES
    assert inside("resume", "run", "--epochs", "3", "--quiet") == (0, "", "")  # pictures are in nobody's way
    assert inside("run", "run/config.yaml", "--out", "again", "--quiet").code == 0


def test_what_is_drawn_is_the_run_s_own(home):
    found = bioplaus.generate(home / "run")
    session = lifetime.reread(home / "run")
    test = session.dataset.test
    assert found.path == home / "run" and found.layer == "conv1"
    assert found.images.shape == (40, 1, 8, 8) and np.bincount(found.labels).tolist() == [4] * 10
    for image, label in zip(found.images, found.labels, strict=True):  # as the data set has them
        same = (test.x == image).all((1, 2, 3))
        assert label in test.y[same]
    batch = session.feeds["test"].batch(np.arange(359))
    network = session.network
    with network.xp.scope():
        inferred = network.xp.host(network.predict(batch.x)).argmax(1)
    assert found.survey.found.tolist() == np.bincount(inferred, minlength=10).tolist()
    np.testing.assert_array_equal(found.filters, bioplaus.open_run(home / "run").weights("conv1"))
    assert found.span == (found.images.min(), found.images.max()) and found.span[0] == 0.0
    mean, scale = session.preprocess.mean, session.preprocess.scale
    rendered = (found.reconstructions - mean) * scale
    with network.xp.scope():
        some = network.xp.host(network.predict(network.xp.array((found.images - mean) * scale)))
    assert some.argmax(1).tolist() == found.inferred.tolist()
    assert ((rendered - (found.images - mean) * scale) ** 2).mean() == pytest.approx(found.survey.error, rel=0.5)
    assert found.samples.shape == (10, 4, 1, 8, 8) and found.templates.shape == (10, 1, 8, 8)
    long = np.sqrt((((found.images - mean) * scale) ** 2).sum((1, 2, 3))).mean()
    np.testing.assert_allclose(np.sqrt((found.liked**2).sum((1, 2, 3))), long, rtol=1e-4)
    again, other = bioplaus.generate(home / "run"), bioplaus.generate(home / "run", seed=1)
    np.testing.assert_array_equal(found.samples, again.samples)
    assert np.abs(found.samples - other.samples).max() > 0


def test_samples_starts_and_what_is_liked_belong_together(home):
    """Samples have the chances given their class; the climb from the start alone ends at what is liked."""
    found, session = bioplaus.generate(home / "run"), lifetime.reread(home / "run")
    network, mean, scale = session.network, session.preprocess.mean, session.preprocess.scale
    images = ((found.images - mean) * scale).reshape((40, -1))
    for c in range(10):
        given = rendering.sample(network, 4, Stream(0).at("sample", c), found.survey.given[c])[1]
        np.testing.assert_allclose((found.samples[c] - mean) * scale, given, atol=1e-4)
        start = found.starts[c].ravel()
        cosines = images @ start / np.sqrt((images**2).sum(1) * (start**2).sum())
        assert cosines.max() == pytest.approx(1.0, abs=1e-5)  # one of them
        length, alone = np.sqrt((found.liked[c] ** 2).sum()), found.starts[c][None].astype(np.float32)
        image, _ = rendering.liked(network, c, Stream(0), rounds=10, length=float(length), images=alone)
        np.testing.assert_allclose(image, found.liked[c], atol=1e-4)


def test_pictures_are_of_these_arrays(home, tmp_path, monkeypatch):
    """What carries the contribution in the picture of a trace, and each class's template below what it likes."""
    kept, save = {}, pictures.save
    monkeypatch.setattr(pictures, "save", lambda figures, folder: kept.update(figures) or save(figures, folder))
    for args in (["trace", "--index", "3"], ["generate"]):
        assert main([*args, str(home / "run"), "--out", str(tmp_path)]) == 0
    path = bioplaus.trace(home / "run", 3).layers[0]
    (conv,) = (axes for axes in kept["trace-3"].axes if axes.get_title() == "conv1")
    np.testing.assert_array_equal(conv.images[0].get_array(), path.carrying(0.9).sum(0))
    assert 0 < path.carrying(0.9).sum() < path.active.sum()
    found = bioplaus.generate(home / "run")
    page = np.ma.filled(kept["liked"].axes[0].images[0].get_array(), np.nan)
    c = int(found.survey.found.argmax())
    template = found.survey.templates[c, 0]
    fine = 40 // 8
    left = c * (8 * fine + round(0.06 * 8 * fine / ((10 - 0.6) / 10 - 0.06)))
    np.testing.assert_allclose(
        page[-8 * fine :: fine, left : left + 8 * fine : fine],
        template * np.sqrt((found.liked[c] ** 2).sum() / (template**2).sum()),
        rtol=1e-5,
        atol=1e-6,
    )


def test_trace_follows_one_image(inside, home):
    done = inside("trace", "run", "--index", 3)
    assert (done.code, done.err) == (0, "")
    assert pngs(inside.folder / "run" / "pictures") == ["trace-3.png"]
    found = json.loads(inside("trace", "run", "--index", 3, "--json", "--out", "elsewhere").out)
    assert pngs(inside.folder / "elsewhere") == ["trace-3.png"]
    traced = bioplaus.trace(home / "run", 3)
    test = lifetime.reread(home / "run").dataset.test
    assert found["label"] == traced.label == test.y[3]
    np.testing.assert_array_equal(traced.image, test.x[3])
    assert sum(found["posterior"].values()) == pytest.approx(1.0, rel=1e-5)
    assert int(next(iter(found["posterior"]))) == found["inferred"] == traced.inferred == traced.posterior.argmax()
    path, head, *rows = done.out.splitlines()
    share = traced.posterior[traced.inferred]
    said = f"test image 3, of class {test.y[3]}: q(class | image) is {share:.3g} for {traced.inferred}, "
    assert path.endswith("run/pictures/trace-3.png") and head.startswith(said)
    assert [row.split()[0] for row in rows] == ["layer", "conv1", "conv2", "out"]
    for row, path, said in zip(rows[1:], traced.layers, found["layers"], strict=True):
        active, size = int((path.activity * path.rendered != 0).sum()), path.activity.size
        most = np.sort(np.abs(path.activity * path.rendered).ravel())[-max(1, -(-size // 100)) :].sum()
        carried = 100 * most / np.abs(path.activity * path.rendered).sum()
        assert said == {"layer": path.layer, "units": size, "active": active, "carried": pytest.approx(carried)}
        assert row.split() == [path.layer, f"{size}", f"{active}", f"{100 * active / size:.1f}", f"{carried:.1f}"]
    scale = lifetime.reread(home / "run").preprocess
    seen = (test.x[3] - scale.mean) * scale.scale
    rendered = (traced.reconstruction - scale.mean) * scale.scale
    np.testing.assert_allclose(traced.saliency, seen * rendered, atol=1e-4)
    assert traced.error == pytest.approx(((seen - rendered) ** 2).mean(), rel=1e-4)
    arrays = "posterior (10,), image (1, 8, 8), reconstruction (1, 8, 8), saliency (1, 8, 8)"
    assert repr(traced) == f"<{home / 'run'}: {arrays}>"


def test_the_log_has_what_is_rendered(home):
    run, plain = bioplaus.open_run(home / "run"), bioplaus.open_run(home / "plain")
    for layer, units in (("conv1", 6), ("conv2", 8), ("out", 10)):
        rows = run.layer(layer).rendering
        assert rows.use.shape == (2, units) and (rows.use <= 1).all() and (rows.error > 0).all()
    templates = run.table("templates")
    assert templates["image"].shape == (2, 10, 1, 8, 8) and templates["found"].sum(1).tolist() == [100, 100]
    assert not any("rendering" in table or table == "templates" for table in plain.tables)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["generate", "plain"], "plain: network 'digits_net' renders nothing. Train one with pass: generative"),
        (["trace", "plain", "--index", "0"], "plain: network 'digits_net' renders nothing."),
        (["trace", "run", "--index", "359"], "test image 359 asked, there are 359. Give a number from 0 to 358."),
        (["trace", "run", "--index", "-1"], "test image -1 asked, there are 359."),
        (["trace", "run", "--index", "one"], "Invalid value for '--index'"),
        (["trace", "run"], "Missing option '--index'"),
        (["generate", "nowhere"], "nowhere: does not exist."),
        (["generate", "run", "--out", "net.yaml"], "net.yaml: cannot be written ("),
        (["generate", "run", "--seed", "-1"], "Invalid value for '--seed'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line_and_nothing_is_written(inside, args, said):
    before = sorted(inside.folder.rglob("*"))
    done = inside(*args)
    assert (done.code, done.out) == (2, "") and said in done.line
    assert sorted(inside.folder.rglob("*")) == before


@pytest.mark.parametrize("verb", [["generate"], ["trace", "--index", "0"]], ids=str)
def test_a_place_for_pictures_that_is_a_file_is_refused_before_anything_is_computed(home, verb, monkeypatch, capsys):
    monkeypatch.setattr(lifetime, "reread", lambda *args, **how: pytest.fail("computed"))
    assert main([*verb, str(home / "run"), "--out", str(home / "net.yaml" / "deeper")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "net.yaml is no folder" in err


def test_a_run_by_its_log_has_its_pictures_in_its_folder(inside):
    done = inside("trace", "run/log.h5", "--index", 3)
    assert done.code == 0 and pngs(inside.folder / "run" / "pictures") == ["trace-3.png"]


@pytest.mark.parametrize("blank", [slice(1), slice(None)], ids=["one", "all"])
def test_images_that_are_all_zero_have_pictures_too(inside, blank):
    """Nothing can be brought to a length, and where all are blank nothing is missed: no percentage."""
    rng = np.random.default_rng(0)
    x, y = rng.random((360, 1, 8, 8), np.float32), np.arange(360) % 3
    test = x[:12].copy()
    test[blank] = 0.0
    np.savez(inside.folder / "blank.npz", X=x, y=y, X_test=test, y_test=y[:12])
    run = ["run", "rule.yaml", "--dataset", "blank.npz", "--network", "net.yaml", "--backend", "numpy", "--quiet"]
    about = ["--epochs", "1", "--set", "data.preprocess=none"]
    assert inside(*run, *about, "--out", "blank") == (0, "", "")
    done = inside("generate", "blank")
    assert (done.code, done.err) == (0, "")
    assert ("nan % of the images' own mean square" in done.out) == (blank == slice(None))
    assert np.isfinite(bioplaus.generate(inside.folder / "blank", data_dir=inside.folder).starts).all()


def test_where_the_first_layer_draws_no_images_all_else_is_drawn(inside):
    (inside.folder / "pooled.yaml").write_text(NETWORK.replace("layers:\n", "layers:\n- maxpool: 2\n"))
    run = ["run", "rule.yaml", "--dataset", "digits", "--network", "pooled.yaml", "--backend", "numpy", "--quiet"]
    assert inside(*run, "--epochs", "1", "--out", "pooled") == (0, "", "")
    done = inside("generate", "pooled")
    assert pngs(inside.folder / "pooled" / "pictures") == sorted(f"{name}.png" for name in NAMES[:-1])
    assert "no filters.png: units of layer 'conv1' draw no images\n" in done.out


def test_without_matplotlib_nothing_is_done_but_arrays_come(home, monkeypatch, capsys):
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    for args in (["generate", str(home / "run")], ["trace", str(home / "run"), "--index", "0"]):
        assert main(args) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "Install bioplaus[plot]" in err
    assert not (home / "run" / "pictures").exists()
    assert bioplaus.trace(home / "run", 0).layers
    with pytest.raises(DataError):
        bioplaus.trace(home / "run", 359)
    with pytest.raises(RunError):
        bioplaus.generate(home / "plain")
