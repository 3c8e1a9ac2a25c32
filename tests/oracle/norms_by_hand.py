"""Normalization once more from its definition: averages as matrices over a batch, autograd for the way back.

It shares nothing with the package but names: who counts for whose statistic is said by comparing indices.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import torch

torch.set_num_threads(1)  # small arrays: more threads only wait for one another

SETS = {
    "BA1": "NHW",
    "BA2": "NCHW",
    "BA3": "NCw",
    "BA4": "Nw",
    "BA5": "NC",
    "BA6": "N",
    "SP1": "CHW",
    "SP2": "HW",
    "SP3": "Cw",
    "SP4": "w",
    "SP5": "C",
}


@cache
def matrix(shape, letters, *, window=None, groups=1, border="valid_count"):
    """M (elements, elements): row i averages over the elements that count for element i.

    ``letters``: indices that may differ from i's own; ``w``: row and column within the window around i's.
    A dense layer (N, units) has one row and one column of places; ``u`` there: units within the window.
    """
    N, C, *space = shape
    H, W = space or (1, 1)
    before, after = (window - 1) // 2 if window else 0, window // 2 if window else 0
    places = list(product(range(N), range(C), range(H), range(W)))

    def near(a, b):
        return -before <= b - a <= after

    def counts(i, j):
        same_group = i[1] // (C // groups) == j[1] // (C // groups)
        return (
            ("N" in letters or i[0] == j[0])
            and (i[1] == j[1] or (same_group and ("C" in letters or ("u" in letters and near(i[1], j[1])))))
            and ("H" in letters or i[2] == j[2] or ("w" in letters and near(i[2], j[2])))
            and ("W" in letters or i[3] == j[3] or ("w" in letters and near(i[3], j[3])))
        )

    M = np.array([[float(counts(i, j)) for j in places] for i in places])
    if border == "zero":
        whole = window if "u" in letters else window * window * (C // groups)
        return torch.tensor(M / whole)
    return torch.tensor(M / M.sum(1, keepdims=True))


def apply(M, x):
    return (M @ x.reshape(-1)).reshape(x.shape)


def normalized(x, M, *, p=2.0, centre="A", eps=1e-5, B=None, mean=None, sigma=None, k=None):
    """(y, mean, D): with the statistics of x, or those handed over; B is the matrix of the power where it differs."""
    now = apply(M, x)
    used = now if mean is None else mean
    c = {"A": now, "B": used.detach(), "C": torch.zeros_like(x)}[centre]
    q = apply(M if B is None else B, (x - c).abs() ** p) + eps
    k0, k1 = (0.0, 1.0) if k is None else k
    D = (k0 + k1 * q) ** (1.0 / p)
    return (x - used) / (D if sigma is None else sigma), now, D


def autograd(x, dy, function):
    """(y, dx) of the first thing that ``function`` gives."""
    x = torch.tensor(x, requires_grad=True)
    y = function(x)
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), x.grad.numpy()
