"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.timing import Spread


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column is text, all others numbers."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    rule = [("-" if i == 0 else "") + "-" * (w - 1) + ("" if i == 0 else ":") for i, w in enumerate(widths)]
    aligned = [
        [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in (head, rule, *rows)
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in aligned)


def quartiles(spread: Spread) -> str:
    """0.62 (0.60-0.63): the median, and the quartiles."""
    return f"{spread.median:.2f} ({spread.low:.2f}-{spread.high:.2f})"
