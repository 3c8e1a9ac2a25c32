"""The evolutionary DRMM, worked by hand: why max-sum inference in a tree of templates is a decision tree.

In the evolutionary model a template is its parent's plus a change, mu_child = mu_parent + alpha_g, from a root down to
a leaf, and an image is a leaf's template plus noise. To infer the leaf, go down from the root and at every node take
the child whose template agrees best with the image, argmax_g <mu_parent + alpha_g, image>: every such question is
linear in the image, so inference is a decision tree with oblique splits.

The way down is greedy. It finds the best leaf there is wherever the best leaf of every node lies below the child that
agrees best itself, as it does in a tree of depth one; in general a child that agrees less may have the better
descendants. ``python examples/evolutionary_drmm.py`` counts how often.

Source: Patel, Convnets from first principles (slides), evolutionary DRMM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Template:
    """A node of the tree: its template mu (pixels,), and its children."""

    mu: np.ndarray
    children: tuple[Template, ...] = ()


def grown(rng: np.random.Generator, pixels: int, branches: int, depth: int, change: float = 1.0) -> Template:
    """A tree with ``branches`` children at every node, ``depth`` levels deep; alpha_g of deviation ``change``."""

    def below(mu: np.ndarray, levels: int) -> Template:
        alphas = change * rng.standard_normal((branches, pixels)) if levels else ()
        return Template(mu, tuple(below(mu + alpha, levels - 1) for alpha in alphas))

    return below(np.zeros(pixels), depth)


def inferred(root: Template, image: np.ndarray) -> tuple[list[int], Template]:
    """(child taken at every level, leaf): the decision tree."""
    path, node = [], root
    while node.children:
        path.append(int(np.argmax([child.mu @ image for child in node.children])))
        node = node.children[path[-1]]
    return path, node


def splits(root: Template) -> list[tuple[np.ndarray, ...]]:
    """The tree's questions: of every inner node the differences alpha_g - alpha_0 that <., image> is compared by."""
    found = [tuple(child.mu - root.children[0].mu for child in root.children[1:])] if root.children else []
    return found + [split for child in root.children for split in splits(child)]


def leaves(node: Template, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Template]]:
    """(path, leaf) of all leaves."""
    if not node.children:
        return [(path, node)]
    return [leaf for number, child in enumerate(node.children) for leaf in leaves(child, (*path, number))]


def best_of_all(root: Template, image: np.ndarray) -> tuple[list[int], Template]:
    """(path, leaf) that agrees best, by looking at every leaf."""
    path, leaf = max(leaves(root), key=lambda leaf: leaf[1].mu @ image)
    return list(path), leaf


def best_of_greedy(root: Template, image: np.ndarray) -> tuple[list[int], Template]:
    """(path, leaf) of the best leaf among those no step to which was beaten by a sibling: an exhaustive search too."""

    def allowed(path: tuple[int, ...]) -> bool:
        node = root
        for number in path:
            agrees = [child.mu @ image for child in node.children]
            if agrees[number] < max(agrees):
                return False
            node = node.children[number]
        return True

    path, leaf = max(
        ((taken, leaf) for taken, leaf in leaves(root) if allowed(taken)), key=lambda leaf: leaf[1].mu @ image
    )
    return list(path), leaf


def main() -> None:
    """How often the greedy way ends at the best leaf, by depth."""
    rng = np.random.default_rng(0)
    for depth in (1, 2, 3, 4):
        root = grown(rng, pixels=10, branches=3, depth=depth)
        images = rng.standard_normal((500, 10))
        same = np.mean([inferred(root, image)[0] == best_of_all(root, image)[0] for image in images])
        print(
            f"depth {depth}: {len(leaves(root)):3d} leaves, greedy finds the best of them for {same:.0%} of the images"
        )


if __name__ == "__main__":
    main()
