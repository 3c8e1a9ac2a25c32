"""The command line: help that costs nothing, errors in one line with their exit code; list, show, check."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from bioplaus import cli, config, registry
from bioplaus.backend.numpy import NumPy
from bioplaus.cli import VERBS, main
from bioplaus.errors import NonFinite, PartError, RunError, Stopped

PACKAGE = Path(__file__).parents[1] / "package_with_entrypoint"
HEAVY = ("numpy", "scipy", "torch", "h5py", "pydantic", "matplotlib")


@pytest.fixture
def bioplaus(capsys):
    """Runs a command line; gives (exit code, stdout, stderr)."""

    def running(*args):
        code = main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return code, out, err

    return running


def failing_with(error, monkeypatch):
    """Makes the verb ``schema`` fail."""

    def fail():
        raise error

    monkeypatch.setattr("bioplaus.cli.schema.command", click.Command("schema", callback=fail))


# -- the group -------------------------------------------------------------------------------
@pytest.mark.parametrize("args", [[], *[[verb] for verb in VERBS]], ids=lambda args: " ".join(args) or "bioplaus")
def test_help_imports_nothing_heavy(args):
    code = (
        "import sys\nfrom bioplaus.cli import main\n"
        f"assert main({[*args, '--help']!r}) == 0\n"
        f"sys.exit(', '.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: bioplaus")


def test_help_names_every_verb(bioplaus):
    code, out, _ = bioplaus("--help")
    assert code == 0
    assert all(f"  {verb} " in out for verb in VERBS)
    assert bioplaus() == (0, out, "")
    assert bioplaus("list")[0] == 0
    assert bioplaus("--help") == (0, out, "")  # also after a verb of a builtin's name has been imported


def test_version(bioplaus):
    assert bioplaus("--version") == (0, registry.origin("channel", "bp") + "\n", "")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["lst"], "bioplaus: no verb named 'lst'; did you mean 'list'? Known: check, data, evaluate, "),
        (["list", "--jsn"], "bioplaus: No such option"),
        (["list", "a", "b"], "bioplaus: Got unexpected extra argument"),
        (["show"], "bioplaus: Missing argument '[KIND] NAME'."),
        (["show", "a", "b", "c"], "bioplaus: given 'a b c', wanted [KIND] NAME."),
        (["check", "a", "b", "c"], "bioplaus: given 'a b c', wanted FILE, or KIND NAME."),
        (["data", "get", "digits"], "bioplaus: Invalid value for"),
        (["schema", "rul"], "bioplaus: Invalid value for"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(bioplaus, args, message):
    code, out, err = bioplaus(*args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(message)


def test_an_unknown_option_is_answered_with_the_nearest(bioplaus):
    assert "--json" in bioplaus("list", "--jsn")[2]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PartError("no part."), 2),
        (RunError("no run."), 2),
        (NonFinite("layer 'conv1', step 4: not finite."), 1),
        (Stopped("stopped after epoch 3."), 130),
        (click.UsageError("no such thing."), 2),
    ],
)
def test_errors_become_one_line_and_their_exit_code(bioplaus, monkeypatch, error, code):
    failing_with(error, monkeypatch)
    message = error.format_message() if isinstance(error, click.UsageError) else str(error)
    assert bioplaus("schema") == (code, "", f"bioplaus: {message}\n")


def test_interrupted_is_130(bioplaus, monkeypatch):
    failing_with(KeyboardInterrupt(), monkeypatch)
    code, _, err = bioplaus("schema")
    assert code == 130
    assert err.strip().endswith("bioplaus: stopped.")


def test_a_bug_keeps_its_traceback(bioplaus, monkeypatch):
    failing_with(ZeroDivisionError("a bug"), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        bioplaus("schema")


def test_every_verb_is_a_module_of_its_name():
    for verb in VERBS:
        command = cli.bioplaus.get_command(click.Context(cli.bioplaus), verb)
        assert isinstance(command, click.Command)
        assert command.help


# -- list ------------------------------------------------------------------------------------
def test_list_shows_every_kind_with_its_names(bioplaus):
    code, out, _ = bioplaus("list")
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert code == 0
    assert set(registry.KINDS) | {"rule", "network"} == set(lines)
    assert "usf" in lines["channel"]
    assert "usf_bn_bm" in lines["rule"]
    assert lines["transform"].split() == ["transform", "-"] or registry.names("transform")


def test_list_kind_shows_the_first_line_of_every_docstring(bioplaus):
    code, out, _ = bioplaus("list", "channel")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("usf ")]
    assert registry.get("channel", "usf").__doc__.splitlines()[0] in line
    assert line.endswith(registry.origin("channel", "usf"))


def test_list_json(bioplaus):
    entries = json.loads(bioplaus("list", "link", "--json")[1])
    assert [entry["name"] for entry in entries] == registry.names("link")
    assert set(entries[0]) == {"kind", "name", "summary", "origin"}
    assert {entry["kind"] for entry in json.loads(bioplaus("list", "--json")[1])} >= {"rule", "network", "channel"}


def test_list_loads_nothing_and_a_broken_plug_in_disturbs_nobody():
    code = (
        "import sys\nfrom bioplaus.cli import main\n"
        "assert main(['list', 'channel']) == 0 and main(['list', 'backend']) == 0\n"
        "parts = ('numpy', 'torch', 'bioplaus_example', 'bioplaus.channels.sign')\n"
        "sys.exit(', '.join(m for m in parts if m in sys.modules) or 0)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mirror  V is a copy of W." in done.stdout
    assert "broken  " in done.stdout


def test_list_of_an_unknown_kind(bioplaus):
    code, _, err = bioplaus("list", "chanel")
    assert code == 2
    assert "no kind named 'chanel'; did you mean 'channel'?" in err


# -- show ------------------------------------------------------------------------------------
def test_show_a_part(bioplaus):
    code, out, _ = bioplaus("show", "channel", "rndf")
    assert code == 0
    assert out.startswith("rndf (feedback channel)  V ~ N(0, std^2)")
    assert "std        float  0.05\n" in out
    assert "claims: fixed: true" in out
    assert "source: Lillicrap et al. (2016)" in out
    assert f"from: {registry.origin('channel', 'rndf')}  bioplaus.channels.random:RandomFeedback" in out


def test_show_a_name_of_two_kinds_shows_both_or_the_one_asked_for(bioplaus):
    both, one = bioplaus("show", "adam")[1], bioplaus("show", "link", "adam")[1]
    assert "adam (update)" in both
    assert "adam (update link)" in both
    assert one.startswith("adam (update link)")
    assert "adam (update)" not in one


def test_show_json(bioplaus):
    (part,) = json.loads(bioplaus("show", "update", "sgd", "--json")[1])
    assert part["parameters"][0] == {"name": "rate", "type": "float", "default": "required"}
    assert part["summary"] == registry.get("update", "sgd").__doc__.splitlines()[0]
    (part,) = json.loads(bioplaus("show", "plasticity", "oja", "--json")[1])
    assert part["claims"] == {"needs": "x, y", "local": "true"}


def test_show_a_rule_and_a_network(bioplaus):
    for kind, name in (("rule", "usf_bn_bm"), ("network", "lenet")):
        code, out, _ = bioplaus("show", name)
        heading, path, _, *text = out.splitlines()
        assert code == 0
        assert heading.startswith(f"{name} ({kind})  ")
        assert path.endswith(f"{name}.yaml")
        assert f"{kind}: {name}" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["usff"], "no part, rule or network named 'usff'; did you mean 'usf'?"),
        (["channel", "usff"], "no feedback channel named 'usff'; did you mean 'usf'?"),
        (["chanel", "usf"], "no kind named 'chanel'; did you mean 'channel'?"),
    ],
)
def test_show_of_something_unknown(bioplaus, args, message):
    code, out, err = bioplaus("show", *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


# -- check -----------------------------------------------------------------------------------
SHIPPED = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]


@pytest.mark.parametrize(
    ("kind", "name"), [each for each in SHIPPED if registry.reference(*each).startswith("bioplaus.")]
)
def test_every_shipped_part_names_its_source(bioplaus, kind, name):
    (part,) = json.loads(bioplaus("show", kind, name, "--json")[1])
    assert part["source"], f"{part['code']}: no paragraph `Source: ...` in its docstring"


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in ("rule", "network") for n in config.shipped(k)])
def test_every_shipped_file_names_its_source(bioplaus, kind, name):
    """A name and a year, in the comments it begins with."""
    (file,) = json.loads(bioplaus("show", kind, name, "--json")[1])
    head = file["yaml"].partition(f"\n{kind}:")[0]
    assert re.search(r"[A-Z]\w+.*\b(19|20)\d\d\b", head), f"{file['path']}: no paper in its first comments"


def test_check_runs_the_contract(bioplaus):
    code, out, _ = bioplaus("check", "channel", "usf")
    assert code == 0
    assert "ok  signs_agree: sign V = sign W\n" in out
    assert out.splitlines()[-1].startswith("channel usf: keeps its contract, ")


def test_check_a_class_of_a_file(bioplaus, tmp_path):
    text = (PACKAGE / "bioplaus_example.py").read_text()
    (tmp_path / "mine.py").write_text(text)
    assert bioplaus("check", "channel", f"{tmp_path / 'mine.py'}:Mirror")[0] == 0
    (tmp_path / "mine.py").write_text(text.replace('dn, state["V"]', '-dn, state["V"]'))
    code, _, err = bioplaus("check", "channel", f"{tmp_path / 'mine.py'}:Mirror")
    assert code == 2
    assert err.startswith(
        "bioplaus: channel 'Mirror' breaks its contract: wanted 'exact_gradient: carry is down(dn, W)'."
    )


def test_check_an_unknown_kind(bioplaus):
    code, _, err = bioplaus("check", "chanel", "usf")
    assert code == 2
    assert "did you mean 'channel'?" in err


@pytest.mark.parametrize("name", ["usf_bn_bm", "rules/oja.yaml", *config.shipped("network")])
def test_check_a_shipped_file(bioplaus, name):
    assert bioplaus("check", name) == (0, f"{name}: nothing wrong.\n", "")


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "rule: mine\ndefaults: {channel: usff}\n",
            ["mine.yaml:2: defaults.channel: no feedback channel named 'usff'"],
        ),
        (
            "rule: mine\ndefaults:\n  update: {recipe: sgd, rate: 1, momentun: 2}\nlayers:\n  conv1: {norm: bach}\n",
            [
                "mine.yaml:3: defaults.update: 'sgd' has no parameter 'momentun'; did you mean 'momentum'?",
                "mine.yaml:5: layers.conv1.norm: no norm named 'bach'; did you mean 'batch'?",
            ],
        ),
        ("rule: mine\ntraining: {rate: {recipe: stepps}}\n", ["training.rate: no rate schedule named 'stepps'"]),
        (
            "rule: mine\nlayers: [{a: {norm: bach}}, {a: {norm: none}}]\n",
            ["mine.yaml:2: layers.0.a.norm: no norm named"],
        ),
        (
            "rule: mine\ndefaults:\n  pruning: {recipe: uili_sp, cut: {recipe: prune, rate: -0.1}}\n",
            ["mine.yaml:3: defaults.pruning: cut: 'prune' has no parameter 'rate'. Known: at, share."],
        ),
        ("rule: mine\ndefalts: {}\n", ["mine.yaml:2"]),
    ],
)
def test_check_a_file_names_everything_that_is_wrong(bioplaus, tmp_path, monkeypatch, text, messages):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(text)
    code, out, err = bioplaus("check", "mine.yaml")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == len(messages)
    for line, message in zip(err.splitlines(), messages, strict=True):
        assert message in line


CONV = (
    "network: net\ninput: [1, 8, 8]\n{}layers:\n- conv1: {{conv: 4, kernel: 3, pad: half}}\n- {}\n"
    "- out: {{dense: classes}}\n"
)
GRAPH = (
    "network: net\ninput: [1, 8, 8]\npass: {{recipe: graph, readout: {}}}\n"
    "prenet: [{{conv1: {{conv: 4, kernel: 3, pad: half}}}}]\n"
    "states: {{h1: [4, 8, 8], h2: {}}}\nedges:\n  up: {{from: h1, to: h2, module: BRCx2{}}}\n"
    "postnet: [globalmeanpool, {{out: {{dense: classes}}}}]\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONV.format("", "conv2: {conv: 2, kernel: 99}"), "net.yaml:5: layers.1.conv2: layer 'conv2': a 99×99 kernel"),
        (CONV.format("", "maxpool: 20"), "net.yaml:5: layers.1: layer 'maxpool': a 20×20 window does not fit"),
        (CONV.format("pass: generative\n", "tanh"), "net.yaml:6: layers.1: layer 'conv1': nothing can be rendered"),
        (CONV.format("pass: generative\n", "r: {gru: 4}"), "net.yaml:6: layers.1.r: layer 'r': gru runs over time"),
        (
            CONV.format("", "b: {residual: [{c: {conv: 2, kernel: 99}}]}"),
            "net.yaml:5: layers.1.b.residual.0.c: layer 'b.c': a 99×99 kernel",
        ),
        (
            "network: net\ninput: [1, 8, 8]\nlayers: [{c: {conv: 10, kernel: 3}}]\n",
            "net.yaml: ends in samples of shape (10, 6, 6)",
        ),
        (GRAPH.format(1, "[8, 4, 4]", ""), "net.yaml:3: pass.readout: no path leads"),
        (GRAPH.format(3, "[8, 4, 4]", ", open: [5, 3]"), "net.yaml:7: edges.up.open: given [5, 3], wanted"),
        (
            GRAPH.format(3, "[8, 4]", ""),
            "net.yaml:5: states.h2: given 8×4, wanted channels × height × width: a named module",
        ),
    ],
)
def test_check_builds_a_network(bioplaus, tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(text + "loss: softmax_cross_entropy\n")
    code, out, err = bioplaus("check", "net.yaml")
    assert (code, out) == (2, "") and err.startswith(f"bioplaus: {message}") and err.count("\n") == 1
    assert bioplaus("check", "net.yaml") == (code, out, err)


def test_check_runs_the_code_a_file_names_only_when_allowed(bioplaus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text((PACKAGE / "bioplaus_example.py").read_text())
    Path("mine.yaml").write_text("rule: mine\ndefaults: {channel: './mine.py:Mirror'}\n")
    code, _, err = bioplaus("check", "mine.yaml")
    assert code == 2
    assert "--allow-code" in err
    assert bioplaus("check", "mine.yaml", "--allow-code")[0] == 0


# -- schema, data ----------------------------------------------------------------------------
def test_schema(bioplaus):
    assert "defaults" in json.loads(bioplaus("schema")[1])["properties"]
    assert "layers" in json.loads(bioplaus("schema", "network")[1])["properties"]


def test_a_backend_of_a_plug_in_is_named_like_the_built_in_ones(bioplaus, tmp_path, monkeypatch):
    """And remembered by that name, whatever it calls itself."""
    made = []

    class Counted(NumPy):
        def __init__(self, **given):
            made.append(given)
            super().__init__(**given)

    monkeypatch.setattr(registry, "_added", {("backend", "counted"): Counted})
    given = ("--dataset", "digits", "--backend", "counted", "--epochs", 1, "--out", tmp_path / "run", "--quiet")
    assert bioplaus("run", "sgd", *given) == (0, "", "")
    assert bioplaus("resume", tmp_path / "run", "--epochs", 2, "--quiet") == (0, "", "")
    assert len(made) == 2


def test_data_asks_for_a_directory(bioplaus, monkeypatch):
    monkeypatch.delenv("BIOPLAUS_DATA", raising=False)
    code, _, err = bioplaus("data", "fetch", "digits")
    assert code == 2
    assert err == "bioplaus: no data directory. Give --data-dir DIR, or set BIOPLAUS_DATA.\n"


def test_data_that_needs_no_files(bioplaus, tmp_path):
    assert bioplaus("data", "verify", "digits", "--data-dir", tmp_path) == (0, "digits: needs no files.\n", "")
    assert bioplaus("data", "fetch", "digits", "--data-dir", tmp_path) == (0, "digits: nothing to download.\n", "")


def test_data_that_is_missing_is_one_line_a_file(bioplaus, tmp_path, monkeypatch):
    monkeypatch.setenv("BIOPLAUS_DATA", str(tmp_path))
    code, _, err = bioplaus("data", "verify", "cifar10")
    assert code == 2
    assert err.count("\n") == len(registry.get("dataset", "cifar10").files)
    assert "cifar-10-binary.tar.gz" in err
