"""NormRef: whose activity counts, as the axes a statistic runs over. Axes count from the end.

Source: Liao, Kawaguchi & Poggio (2016), Streaming normalization, figure 2.
"""

from __future__ import annotations


class PerChannelOverBatch:
    """BA1: one statistic per channel (or unit), over samples and places: batch normalization's choice."""

    def axes(self, ndim: int) -> tuple[int, ...]:
        """(N, H, W) of (N, C, H, W); (N,) of (N, units)."""
        return (0, *range(2, ndim))
