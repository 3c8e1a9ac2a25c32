"""Names of parts: listed without loading, loaded when asked for, broken ones named and alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from bioplaus import registry
from bioplaus.errors import PartError

PACKAGE = Path(__file__).parents[1] / "package_with_entrypoint"


@pytest.fixture
def nothing_added(monkeypatch):
    monkeypatch.setattr(registry, "_added", {})


@pytest.fixture
def plug_in(monkeypatch):
    monkeypatch.syspath_prepend(str(PACKAGE))
    for module in ("bioplaus_example", "bioplaus_example_broken"):
        monkeypatch.delitem(sys.modules, module, raising=False)


def second_offer(folder, name="bioplaus-rival", part="usf"):
    """Another distribution that offers a channel of the same name."""
    info = folder / f"{name.replace('-', '_')}-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(f"[bioplaus.channel]\n{part} = json:loads\n")


def test_built_in_parts_are_entry_points():
    assert {"bp", "usf", "rndf", "dfa"} <= set(registry.names("channel"))
    assert registry.origin("channel", "usf").startswith("bioplaus ")
    assert registry.get("channel", "usf").__name__ == "UniformSign"
    assert registry.get("channel", "usf") is registry.get("channel", "usf")


def test_every_kind_can_be_listed():
    for kind in registry.KINDS:
        assert registry.names(kind) == sorted(registry.names(kind))


def test_listing_imports_no_part():
    code = (
        "import sys; from bioplaus import registry\n"
        "[registry.origin(k, n) for k in registry.KINDS for n in registry.names(k)]\n"
        "parts = 'channels norms updates layers losses data plasticity backend'.split()\n"
        "print([m for m in sys.modules if m in {'numpy', 'torch', 'h5py', 'pydantic'}\n"
        "       or any(m.startswith(f'bioplaus.{p}.') for p in parts)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(PartError) as error:
        registry.get("channel", "usff")
    message = str(error.value)
    assert message.startswith("no feedback channel named 'usff'; did you mean 'usf'? Known: bp, brsf, ")
    assert message.endswith(" See `bioplaus list channel`.")


@pytest.mark.parametrize(("kind", "name", "meant"), [("loss", "KL", "kl"), ("channel", "BRSF_P", "brsf_p")])
def test_a_name_in_capitals_is_answered_with_the_one_meant(kind, name, meant):
    with pytest.raises(PartError, match=f"did you mean '{meant}'"):
        registry.get(kind, name)


def test_none_is_among_the_known_where_it_is_a_choice():
    with pytest.raises(PartError, match=r"no norm named 'non'; did you mean 'none'\?"):
        registry.get("norm", "non")


@pytest.mark.parametrize(
    "ask", [registry.names, lambda kind: registry.get(kind, "usf"), lambda kind: registry.add(kind, "x", 1)]
)
def test_unknown_kind(ask):
    with pytest.raises(PartError, match="no kind of part named 'chanel'; did you mean 'channel'"):
        ask("chanel")


def test_a_plug_in_is_listed_unloaded_and_loaded_when_asked_for(plug_in):
    assert {"mirror", "absent", "broken", "usf"} <= set(registry.names("channel"))
    assert registry.origin("channel", "mirror") == "bioplaus-example 1.0"
    assert "bioplaus_example" not in sys.modules
    assert registry.get("channel", "mirror").exact_gradient
    assert "bioplaus_example_broken" not in sys.modules


def test_a_plug_in_that_is_gone_is_no_longer_listed(monkeypatch):
    with monkeypatch.context() as patched:
        patched.syspath_prepend(str(PACKAGE))
        assert "mirror" in registry.names("channel")
    assert "mirror" not in registry.names("channel")


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("broken", "ModuleNotFoundError: No module named 'a_package_that_nobody_has'"),
        ("absent", "has no attribute 'Absent'"),
    ],
)
def test_a_broken_plug_in_is_named_with_its_package_and_cause(plug_in, name, cause):
    with pytest.raises(PartError) as error:
        registry.get("channel", name)
    message = str(error.value)
    assert message.startswith(f"feedback channel '{name}' of bioplaus-example 1.0 cannot be loaded from ")
    assert cause in message
    assert "\n" not in message


def test_one_name_in_two_packages_names_both(monkeypatch, tmp_path):
    second_offer(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PartError) as error:
        registry.get("channel", "usf")
    assert "bioplaus-rival 2.0" in str(error.value)
    assert registry.origin("channel", "bp") in str(error.value)
    assert registry.names("channel").count("usf") == 1
    assert registry.get("channel", "bp")


def test_added_parts_are_found_listed_and_replaced(nothing_added):
    registry.add("channel", "mine", int)
    registry.add("channel", "mine", float)
    assert registry.get("channel", "mine") is float
    assert "mine" in registry.names("channel")
    assert "mine" not in registry.names("norm")
    assert registry.origin("channel", "mine") == "added in this program"


def test_register_gives_the_class_back(nothing_added):
    @registry.register("plasticity", "mine")
    class Mine:
        pass

    assert registry.get("plasticity", "mine") is Mine


def test_an_installed_part_cannot_be_shadowed(nothing_added):
    with pytest.raises(PartError, match=r"feedback channel 'usf' is a part of bioplaus .*Choose another name"):
        registry.add("channel", "usf", int)


@pytest.mark.parametrize("name", ["", "a b", "none", "recipe", "./x.py:A", "1st"])
def test_names_that_a_file_could_not_write_are_refused(nothing_added, name):
    with pytest.raises(PartError, match="a name is a word"):
        registry.add("channel", name, int)


@pytest.mark.parametrize("reference", ["./mine.py:Mine", "os:system"])
def test_code_is_not_run_unless_allowed(tmp_path, monkeypatch, reference):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(PartError, match=r"runs code that is not an installed part.*--allow-code"):
        registry.get("channel", reference)


def test_references_to_a_file_and_to_a_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Mine:\n    p: float = 0.5\n"
    )
    part = registry.get("channel", "./mine.py:Mine", allow_code=True)
    assert part().p == 0.5
    assert registry.get("channel", "./mine.py:Mine", allow_code=True) is part
    assert registry.get("channel", f"{tmp_path / 'mine.py'}:Mine", allow_code=True) is part
    assert registry.get("schedule", "math:sqrt", allow_code=True)(4) == 2


def test_a_file_that_changed_is_read_anew(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("Mine = 1")
    assert registry.get("channel", f"{file}:Mine", allow_code=True) == 1
    file.write_text("Mine = 20")
    assert registry.get("channel", f"{file}:Mine", allow_code=True) == 20


def test_a_name_that_a_file_does_not_have_is_told_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("class Mind: pass\nclass Other: pass\nnumber = 1")
    said = "feedback channel './mine.py:Mine': ./mine.py has no 'Mine'; did you mean 'Mind'? Known: Mind, Other."
    with pytest.raises(PartError) as wrong:
        registry.get("channel", "./mine.py:Mine", allow_code=True)
    assert str(wrong.value) == said


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (None, "FileNotFoundError"),
        ("1 +", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_reference_that_cannot_be_loaded_says_why(tmp_path, monkeypatch, text, cause):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("mine.py").write_text(text)
    with pytest.raises(PartError, match=f"feedback channel './mine.py:Mine' cannot be loaded: {cause}"):
        registry.get("channel", "./mine.py:Mine", allow_code=True)
