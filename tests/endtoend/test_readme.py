"""The README does what it says: its marked blocks run in order, in one empty folder, and print what they show.

A mark stands after the language of a fenced block:

    ```console check      runs what follows each "$ "; the lines shown below are what it prints, "..." being any text
    ```python check       runs as a script
    ```yaml file=NAME     is written to NAME, for later blocks
    ```console suite      the command that runs the tests: .ci/run takes it from here
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

README = Path(__file__).parents[2] / "README.md"
FENCE = re.compile(r"^```(?P<language>\w+)[ ]+(?P<mark>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    line: int
    language: str
    mark: str
    text: str


def marked(readme: str) -> Iterator[Block]:
    for fence in FENCE.finditer(readme):
        yield Block(readme.count("\n", 0, fence.start()) + 1, fence["language"], fence["mark"], fence["text"])


def commands(block: Block) -> Iterator[tuple[list[str], str]]:
    """Each command of a block, and the output the README shows for it."""
    if block.language == "python":
        yield [sys.executable, "-c", block.text], ""
        return
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield ["bash", "-euo", "pipefail", "-c", command], shown


def follow(readme: str, folder: Path) -> int:
    """Do in ``folder`` what the marked blocks say; the number of commands that ran."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "COLUMNS": "100"}
    ran = 0
    for block in marked(readme):
        if block.mark.startswith("file="):
            (folder / block.mark.removeprefix("file=")).write_text(block.text, encoding="utf-8")
        elif block.mark == "check":
            for command, shown in commands(block):
                done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
                where = f"README.md:{block.line}: {command[-1]}"
                assert done.returncode == 0, f"{where}\nexit {done.returncode}\n{done.stdout}{done.stderr}"
                assert agrees(shown, done.stdout), f"{where}\nprints\n{done.stdout}\nand the README shows\n{shown}"
                ran += 1
        else:
            assert block.mark == "suite", f"README.md:{block.line}: no mark {block.mark!r}; known: check, file=, suite"
    return ran


def agrees(shown: str, printed: str) -> bool:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return not shown.strip() or doctest.OutputChecker().check_output(shown, printed, flags)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [README, *(README.parent / "docs" / name for name in ("time.md", "generative.md"))],
    ids=lambda page: page.name,
)
def test_a_page_does_what_it_says(tmp_path, page):
    assert follow(page.read_text(encoding="utf-8"), tmp_path) > 0


@pytest.mark.parametrize(
    "readme",
    [
        "```console check\n$ echo seven\nsev... \n\n$ cat rule.yaml | wc -l\n```\n",
        "```console check\n$ echo error 3.1 % in 12 s\nerror ... % in ... s\n```\n",
        "```python check\nassert open('rule.yaml').read() == 'rule: usf\\n'\n```\n",
        "```console check\n$ echo one; echo two\none\ntwo\n```\n",
    ],
)
def test_a_true_block_passes(readme, tmp_path):
    assert follow("```yaml file=rule.yaml\nrule: usf\n```\ntext\n" + readme, tmp_path) > 0


@pytest.mark.parametrize(
    ("readme", "complaint"),
    [
        ("\n\n```console check\n$ echo seven\neight\n```\n", "README.md:3: echo seven"),
        ("```console check\n$ true\n$ (exit 2)\n```\n", "exit 2"),
        ("```python check\nassert 1 == 2\n```\n", "AssertionError"),
        ("```console chekc\n$ true\n```\n", "no mark 'chekc'"),
    ],
)
def test_a_false_block_fails(readme, complaint, tmp_path):
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        follow(readme, tmp_path)


def test_unmarked_blocks_and_the_test_command_are_left_alone(tmp_path):
    assert follow("```console\n$ exit 3\n```\n```console suite\n$ exit 4\n```\n```text\n```\n", tmp_path) == 0
