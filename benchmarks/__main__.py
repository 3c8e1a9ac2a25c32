"""Measures everything and prints the tables as Markdown; ``--write`` keeps them in README.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import torch

from benchmarks import digits, feed, machine, memory, norms, online, rules, steps

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- last run -->\n", "<!-- end of last run -->\n"

SECTIONS: dict[str, tuple[str, Callable[[int, str], str]]] = {
    "steps": ("A step against autograd", lambda rounds, device: steps.report(rounds=rounds, device=device)),
    "online": ("One sample at a time", lambda rounds, device: online.report(rounds=rounds, device=device)),
    "memory": ("Peak memory, MiB", lambda rounds, device: memory.report(device=device)),
    "rules": ("A rule against our symmetric step", lambda rounds, device: rules.report(rounds=rounds, device=device)),
    "norms": ("A norm and ReLU against autograd", lambda rounds, device: norms.report(rounds=rounds, device=device)),
    "feed": ("Reading and logging", lambda rounds, device: feed.report(rounds=rounds, device=device)),
    "digits": ("Digits, from command to result", lambda rounds, device: digits.report()),
}


@click.command()
@click.argument("sections", nargs=-1, type=click.Choice(list(SECTIONS)))
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(1))
@click.option("--write", is_flag=True, help="Keep the tables in benchmarks/README.md.")
def main(sections: tuple[str, ...], rounds: int, write: bool) -> None:
    """Measure SECTIONS (all where none is named) and print them as Markdown."""
    torch.set_num_threads(1)
    text = [machine.describe(rounds)]
    devices = ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])]
    for name in sections or SECTIONS:
        title, report = SECTIONS[name]
        for device in devices if name != "digits" else devices[:1]:
            text.append(f"### {title}{'' if device == 'cpu' else f', {device}'}\n\n{report(rounds, device)}")
            click.echo(f"{text[-1]}\n")
    if len(devices) == 1:
        text.append("No GPU on this machine: its rows are left out.")
        click.echo(text[-1])
    if write:
        before, rest = README.read_text().split(BEGIN)
        README.write_text(before + BEGIN + "\n" + "\n\n".join(text) + "\n\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
