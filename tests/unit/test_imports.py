"""Where imports stand: libraries a user may lack inside the function that needs them, everything else at the top.

Who may import whom is another question; ``lint-imports`` answers it from the table in pyproject.toml.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bioplaus

PACKAGE = Path(bioplaus.__file__).parent
OPTIONAL = {"torch", "cupy", "cupyx", "PIL", "pooch", "xarray", "h5netcdf", "matplotlib"}
ITSELF = {"backend/torch.py": "torch"}  # loaded by name, where torch is
# Public names and verbs load what they need when asked for it, so that --help costs nothing.
LAZY = ("__init__.py", "cli/")


def imports(node: ast.AST, inside: bool = False) -> Iterator[tuple[int, str, bool]]:
    """(line, top-level package, inside a function) of every import below ``node``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name.split(".")[0], inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield child.lineno, (child.module or "").split(".")[0], inside
        else:
            yield from imports(child, inside or isinstance(child, ast.FunctionDef | ast.Lambda))


def misplaced(text: str, name: str) -> list[str]:
    """Imports of the module ``name`` that stand in the wrong place."""
    return [
        f"{name}:{line}: {library}"
        for line, library, inside in imports(ast.parse(text))
        if inside != (library in OPTIONAL) and ITSELF.get(name) != library and not (inside and name.startswith(LAZY))
    ]


def test_imports_stand_at_the_top_and_optional_libraries_where_used():
    modules = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    assert len(modules) > 1
    assert [at for name in sorted(modules) for at in misplaced(modules[name], name)] == []


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("import PIL.Image\n", "data/folder.py", ["data/folder.py:1: PIL"]),
        ("def f():\n    from numpy import sign\n", "build.py", ["build.py:2: numpy"]),
        ("if True:\n    from torch import nn\n", "backend/numpy.py", ["backend/numpy.py:2: torch"]),
        ("class A:\n    def f(self):\n        import pooch, json\n", "data/fetch.py", ["data/fetch.py:3: json"]),
        ("import torch\n", "backend/torch.py", []),
        ("def f():\n    from bioplaus import config\n", "cli/check.py", []),
        ("import xarray\n", "cli/__init__.py", ["cli/__init__.py:1: xarray"]),
    ],
)
def test_a_misplaced_import_is_found(text, name, found):
    assert misplaced(text, name) == found
