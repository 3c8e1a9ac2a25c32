"""Every registered part keeps the contract of its kind; a new part is covered by being registered."""

import importlib.util

import pytest

from bioplaus import registry
from bioplaus.testing import CHECKS, check, sample

EVERY = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]
LIBRARIES = {"torch": "torch", "cupy": "cupy"}  # backend -> what it needs


def marks(kind, name):
    if kind == "backend" and name in LIBRARIES:
        missing = importlib.util.find_spec(LIBRARIES[name]) is None
        yield pytest.mark.skipif(missing, reason=f"{LIBRARIES[name]} is not installed")
    if (kind, name) == ("backend", "cupy"):
        yield pytest.mark.gpu


@pytest.mark.parametrize(
    ("kind", "name"), [pytest.param(*each, marks=list(marks(*each)), id="-".join(each)) for each in EVERY]
)
def test_keeps_its_contract(kind, name):
    held = check(kind, sample(kind, name))
    assert len(held) >= 2
    assert len(set(held)) == len(held)


def test_every_kind_with_parts_has_a_contract():
    assert {kind for kind, _ in EVERY} <= set(CHECKS)
