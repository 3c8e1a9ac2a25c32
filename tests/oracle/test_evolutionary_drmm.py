"""The worked example: a tree of templates infers like a decision tree, which is greedy."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "evolutionary_drmm.py"


@pytest.fixture(scope="module")
def tree():
    spec = importlib.util.spec_from_file_location("evolutionary_drmm", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["evolutionary_drmm"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["evolutionary_drmm"]


def test_a_template_is_its_parents_plus_a_change(tree):
    root = tree.grown(np.random.default_rng(0), pixels=5, branches=3, depth=2, change=0.1)
    assert len(tree.leaves(root)) == 9 and not root.mu.any()
    for child in root.children:
        assert 0 < np.abs(child.mu).max() < 0.5
        for leaf in child.children:
            assert 0 < np.abs(leaf.mu - child.mu).max() < 0.5


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_inference_is_the_best_of_all_greedy_choices(tree, depth):
    rng = np.random.default_rng(depth)
    root = tree.grown(rng, pixels=6, branches=3, depth=depth)
    for image in rng.standard_normal((40, 6)):
        assert tree.inferred(root, image)[0] == tree.best_of_greedy(root, image)[0]


def test_of_one_level_it_is_exact_and_of_more_it_is_not(tree):
    rng = np.random.default_rng(0)
    for depth, exact in ((1, True), (4, False)):
        root = tree.grown(rng, pixels=6, branches=3, depth=depth)
        images = rng.standard_normal((100, 6))
        ways = [(tree.inferred(root, image), tree.best_of_all(root, image)) for image in images]
        assert all(best[1].mu @ i >= greedy[1].mu @ i for (greedy, best), i in zip(ways, images, strict=True))
        assert (np.mean([greedy[0] == best[0] for greedy, best in ways]) == 1.0) == exact


def test_every_question_is_linear_in_the_image(tree):
    """Two branches: a child is taken where <alpha_1 - alpha_0, image> > 0, whatever its parent's template."""
    rng = np.random.default_rng(1)
    root = tree.grown(rng, pixels=6, branches=2, depth=1)
    ((difference,),) = tree.splits(root)
    for image in rng.standard_normal((50, 6)):
        assert tree.inferred(root, image)[0] == [int(difference @ image > 0)]
    assert len(tree.splits(tree.grown(rng, pixels=6, branches=2, depth=3))) == 7
