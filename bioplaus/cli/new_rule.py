"""``bioplaus new-rule``: a plug-in package that works from its first minute, to be changed into one's own."""

from __future__ import annotations

import keyword
from pathlib import Path
from string import Template

import click

from bioplaus.errors import ConfigError
from bioplaus.registry import names, origin

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "bioplaus-$dashed"
version = "0.1.0"
description = "A $kind for bioplaus: $name."
requires-python = ">=3.11"
dependencies = ["bioplaus"]

[project.entry-points."bioplaus.$kind"]
$name = "bioplaus_$name:$Name"

[tool.hatch.build.targets.wheel]
only-include = ["bioplaus_$name.py"]
"""

PLASTICITY = '''\
"""$Name: a local learning rule for bioplaus."""


class $Name:
    """dW = sum (x - <x>)(y - <y>): synapses grow between what varies together.

    x is the layer's input, y its output; <.> is the mean over the batch. Needs no error from above.
    """

    needs = {"x", "y"}  # the fields of Local that dW reads
    local = True  # a claim, which the contract checks

    def dW(self, local, map, W, out, scale):
        """out += scale * this batch's dW."""
        x = local.x - local.x.mean(0, keepdims=True)
        y = local.y - local.y.mean(0, keepdims=True)
        map.outer(x, y, out, scale)
'''
PLASTICITY_TEST = """

def test_dW_is_the_covariance_summed_over_the_batch():
    xp = NumPy("float64")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    out = xp.zeros((3, 2))
    $Name().dW(Local(x=x, y=y), DenseMap(xp, (3,), (2,)), xp.zeros((3, 2)), out, 1.0)
    np.testing.assert_allclose(out, 5 * np.cov(x.T, y.T, bias=True)[:3, 3:])
"""
PLASTICITY_RULE = """\
# Hidden layers learn by $name and hear no error; the last layer learns from it.
rule: $name
defaults:
  norm: batch
  update: {recipe: sgd, rate: 5.0e-4, momentum: 0.9}
layers:
  $$hidden: {plasticity: $name, update: {recipe: sgd, rate: 1.0e-6, momentum: 0.9}}
training: {reduction: sum, samples_per_batch: 100, epochs: 5}
"""

CHANNEL = '''\
"""$Name: a feedback channel for bioplaus."""

from dataclasses import dataclass


@dataclass(frozen=True)
class $Name:
    """V = sign(W) * size: errors come back through the signs of the forward weights, all of one size."""

    size: float = 0.05
    signs_agree = True  # a claim, which the contract checks

    def __post_init__(self):
        if not self.size > 0:
            raise ValueError(f"size is {self.size}; wanted a number above 0")

    def init(self, map, W, top, stream):
        """The arrays this channel keeps."""
        state = {"V": map.xp.zeros(W.shape)}
        self.refresh(map, W, state, stream)
        return state

    def refresh(self, map, W, state, stream):
        """W has changed: rewrite V in place."""
        map.xp.sign(W, out=state["V"])
        map.xp.multiply(state["V"], self.size, out=state["V"])

    def carry(self, map, dn, top, state):
        """The error for the layer below."""
        return map.down(dn, state["V"])
'''
CHANNEL_TEST = """

def test_V_has_one_size_and_the_signs_of_W():
    xp = NumPy("float64")
    W = np.array([[0.3, -2.0], [0.0, 1.0]])
    V = $Name(size=0.5).init(DenseMap(xp, (2,), (2,)), W, 2, None)["V"]
    np.testing.assert_array_equal(V, [[0.5, -0.5], [0.0, 0.5]])
"""
CHANNEL_RULE = """\
# Errors come back through $name; the rest as in usf_bn_bm.
rule: $name
from: usf_bn_bm
defaults:
  channel: {recipe: $name, size: 0.05}
"""

LINK = '''\
"""$Name: a link of an update for bioplaus."""

from dataclasses import dataclass


@dataclass(frozen=True)
class $Name:
    """d / (1 + |d| / most): large steps are squeezed, smoothly, so that none is longer than ``most``."""

    most: float = 1.0

    def __post_init__(self):
        if not self.most > 0:
            raise ValueError(f"most is {self.most}; wanted a number above 0")

    def init(self, xp, W):
        """What it remembers of one array: nothing."""
        return {}

    def step(self, xp, d, W, state, role, out):
        """The next d, written into ``out``; W and, unless it is ``out``, d stay as they are."""
        return xp.multiply(d, 1.0 / (1.0 + xp.abs(d) / self.most), out=out)
'''
LINK_TEST = """

def test_small_steps_stay_and_large_ones_are_squeezed():
    d = np.array([1e-9, 2.0, -1e9])
    step = $Name(most=2.0).step(NumPy("float64"), d, d, {}, "weights", np.zeros(3))
    np.testing.assert_allclose(step, [1e-9, 1.0, -2.0], rtol=1e-8)
"""
LINK_RULE = """\
# Backpropagation whose steps are squeezed by $name.
rule: $name
defaults:
  norm: batch
  update: [{$name: 1.0}, {momentum: 0.9}, {rate: 5.0e-4}]
training: {reduction: sum, samples_per_batch: 100, epochs: 5}
"""

NORM = '''\
"""$Name: a norm for bioplaus."""

from dataclasses import dataclass

from bioplaus.errors import ShapeError


@dataclass(frozen=True)
class $Name:
    """z = n / rms(n), with rms(n) = sqrt(mean n^2 + eps) over all units of one sample."""

    eps: float = 1e-5
    removes_bias = False  # a constant added to a unit still matters
    collects = 0  # needs no statistics from other samples for testing

    def init(self, xp, shape, visits=1, groups=1):
        """Statistics to keep: none. Groups of channels that must not mix (the gates of a cell) are refused."""
        if groups > 1:
            raise ShapeError("$name mixes all units of a sample. Take it where channels are not in groups.")
        return {}

    def forward(self, xp, n, state, at):
        """(z, cache)."""
        axes = tuple(range(1, n.ndim))
        rms = xp.sqrt((n * n).mean(axes, keepdims=True) + self.eps)
        z = n / rms
        return z, (z, rms, axes)

    def back(self, xp, dz, state, cache):
        """dn = (dz - z mean(dz z)) / rms, through the statistic too."""
        z, rms, axes = cache
        return (dz - z * (dz * z).mean(axes, keepdims=True)) / rms

    def begin_collecting(self, state):
        """Nothing to collect."""

    def updated(self, xp, state):
        """Nothing moves with the weights."""
'''
NORM_TEST = """

def test_every_sample_has_mean_square_one():
    n = np.random.default_rng(0).normal(size=(4, 3, 5, 5))
    z, _ = $Name(eps=0.0).forward(NumPy("float64"), n, {}, LEARN)
    np.testing.assert_allclose((z * z).mean((1, 2, 3)), np.ones(4))
"""
NORM_RULE = """\
# Backpropagation with activities normalized by $name.
rule: $name
defaults:
  norm: $name
  update: {recipe: sgd, rate: 5.0e-4, momentum: 0.9}
training: {reduction: sum, samples_per_batch: 100, epochs: 5}
"""

KINDS = {
    "plasticity": (PLASTICITY, PLASTICITY_RULE, PLASTICITY_TEST),
    "channel": (CHANNEL, CHANNEL_RULE, CHANNEL_TEST),
    "link": (LINK, LINK_RULE, LINK_TEST),
    "norm": (NORM, NORM_RULE, NORM_TEST),
}

TEST = '''\
"""$Name keeps the contract of its kind and does what its docstring says."""

from pathlib import Path

$imports

def test_is_offered_to_bioplaus():
    assert registry.get("$kind", "$name") is $Name


def test_keeps_its_contract():
    check("$kind", sample("$kind", "$name"))


def test_the_rule_file_is_well_formed():
    assert check_file(Path(__file__).with_name("$name.yaml")) == []
'''
IMPORTS = {
    "LEARN": "from bioplaus.parts import LEARN",
    "Local": "from bioplaus.parts import Local",
    "DenseMap": "from bioplaus.layers.dense import DenseMap",
    "NumPy": "from bioplaus.backend.numpy import NumPy",
}


@click.command("new-rule")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), default="plasticity", show_default=True, help="What to make.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to make.  [default: ./bioplaus-NAME]")
def command(name: str, kind: str, out: Path | None) -> None:
    """Make a working plug-in package: a part called NAME, a rule that uses it, and a test that runs its contract."""
    if keyword.iskeyword(name):
        raise ConfigError(f"NAME: {name!r} is a word of Python's own. Choose another name, such as my_{name}.")
    if not (name.isidentifier() and name.islower() and name.isascii()):
        raise ConfigError(f"NAME: given {name!r}, wanted lower-case letters, digits and '_', such as my_rule.")
    if name in names(kind) or name in ("none", "recipe"):
        raise ConfigError(f"NAME: there is a {kind} {name!r} already, in {origin(kind, name)}. Choose another name.")
    folder = out or Path(f"bioplaus-{name.replace('_', '-')}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there already. Give another folder with --out.")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in package(name, kind).items():
        (folder / file).write_text(text, "utf-8")
        click.echo(f"{folder / file}")
    click.echo(
        f"\nTry it:\n  pip install -e {folder}\n  pytest {folder}\n  bioplaus check {kind} {name}\n"
        f"  bioplaus run {folder / name}.yaml --dataset digits"
    )


def package(name: str, kind: str) -> dict[str, str]:
    """The files of a plug-in package: file name -> text."""
    part, rule, test = KINDS[kind]
    Name = "".join(word.capitalize() for word in name.split("_"))
    words = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "kind": kind,
        "Name": Name,
        "imports": _imports(f"from bioplaus_{name} import {Name}", test),
    }
    texts = {
        "pyproject.toml": PYPROJECT,
        f"bioplaus_{name}.py": part,
        f"{name}.yaml": rule,
        f"test_{name}.py": TEST + test,
    }
    return {file: Template(text).substitute(words) for file, text in texts.items()}


def _imports(own: str, test: str) -> str:
    """The import lines of the test, in order."""
    lines = [line for word, line in IMPORTS.items() if word in test]
    lines += ["from bioplaus import registry", "from bioplaus.config import check_file"]
    lines += ["from bioplaus.testing import check, sample", own]
    return "\n".join(["import numpy as np", *sorted(lines)]) + "\n"
