"""``bioplaus new-rule`` gives a package that works: installed, its own tests pass."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bioplaus.cli import main
from bioplaus.cli.new_rule import KINDS, package


def installed(folder, site):
    """Does what an installation does: the module on Python's path, with its entry points beside it."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    ((group, offers),) = project["entry-points"].items()
    (module,) = folder.glob("bioplaus_*.py")
    (site / module.name).write_text(module.read_text())
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{name} = {value}" for name, value in offers.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))


def run_tests(folders, site):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *map(str, folders)]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folders[0])


def test_the_package_of_every_kind_passes_its_own_tests(tmp_path, capsys):
    site = tmp_path / "site"
    site.mkdir()
    folders = []
    for kind in KINDS:
        folders.append(tmp_path / kind)
        assert main(["new-rule", f"my_{kind}", "--kind", kind, "--out", str(folders[-1])]) == 0
        installed(folders[-1], site)
    done = run_tests(folders, site)
    assert done.returncode == 0, done.stdout
    assert f"{4 * len(KINDS)} passed" in done.stdout


def test_the_rule_file_of_every_kind_trains(tmp_path, monkeypatch, capsys):
    site, files = tmp_path / "site", []
    site.mkdir()
    for kind in KINDS:
        assert main(["new-rule", f"my_{kind}", "--kind", kind, "--out", str(tmp_path / kind)]) == 0
        installed(tmp_path / kind, site)
        files.append(tmp_path / kind / f"my_{kind}.yaml")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    for file in files:
        assert main(["run", str(file), "--dataset", "digits", "--epochs", "1", "--quiet"]) == 0


def test_its_tests_can_fail(tmp_path, capsys):
    folder, site = tmp_path / "mine", tmp_path / "site"
    site.mkdir()
    assert main(["new-rule", "mine", "--kind", "channel", "--out", str(folder)]) == 0
    module = folder / "bioplaus_mine.py"
    module.write_text(module.read_text().replace("self.size, out", "-self.size, out"))
    installed(folder, site)
    done = run_tests([folder], site)
    assert done.returncode == 1
    assert "signs_agree: sign V = sign W" in done.stdout


@pytest.mark.slow
def test_an_editable_installation_passes_too(tmp_path, capsys):
    """A real ``pip install -e``, into an environment that sees this one's packages."""
    pytest.importorskip("hatchling")
    pytest.importorskip("editables")
    folder = tmp_path / "mine"
    assert main(["new-rule", "mine", "--out", str(folder)]) == 0
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv").glob("lib/*/site-packages")
    (site / "outer.pth").write_text("\n".join(path for path in sys.path if path.endswith(("site-packages", "main"))))
    (site / "package.pth").write_text(str(Path(__file__).parents[2]))
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-e",
        str(folder),
    ]
    subprocess.run(install, check=True)
    done = subprocess.run([str(python), "-m", "pytest", "-q", str(folder)], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout


def test_it_says_what_it_wrote_and_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new-rule", "my_rule"]) == 0
    out = capsys.readouterr().out
    written = sorted(path.name for path in Path("bioplaus-my-rule").iterdir())
    assert written == ["bioplaus_my_rule.py", "my_rule.yaml", "pyproject.toml", "test_my_rule.py"]
    assert all(name in out for name in written)
    assert "pip install -e bioplaus-my-rule" in out


def test_it_never_overwrites(tmp_path, capsys):
    (tmp_path / "kept.txt").write_text("mine")
    assert main(["new-rule", "mine", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"bioplaus: {tmp_path}: is there already. Give another folder with --out.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.parametrize("name", ["My-Rule", "class", "1st", "none", "a b", "", "../up"])
def test_names_that_no_module_could_have_are_refused(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main(["new-rule", name]) == 2
    said = capsys.readouterr().err
    assert said.startswith("bioplaus: NAME: ") and ("word of Python's own" in said) == (name == "class")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new-rule", "usf", "--kind", "channel"]) == 2
    assert "there is a channel 'usf' already, in bioplaus " in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_every_placeholder_is_filled(kind):
    for file, text in package("my_part", kind).items():
        assert "$" not in text.replace("$hidden", ""), file
        assert text.endswith("\n")
