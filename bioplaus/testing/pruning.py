"""The contract of prunings and of the cuts they make."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from bioplaus.backend.numpy import NumPy
from bioplaus.parts import Local
from bioplaus.pruning.cut import Seen
from bioplaus.testing.claims import Claims, contract
from bioplaus.testing.trials import N, are_same, is_finite, normal, small_maps


@contract("pruning")
def check_pruning(pruning: Any, claims: Claims) -> None:
    """A mask of ones and zeros, of W's shape or of one sample's output, in which nothing that is gone comes back."""
    claims.methods(pruning, "init", "observe", "due", "use", "mask")
    claims(pruning.of in ("synapses", "neurons"), "of is synapses or neurons")
    needs, known = set(pruning.needs), {f.name for f in fields(Local)} - {"at", "keep", "db"}
    claims(needs <= known, f"needs names fields of Local ({', '.join(sorted(known))})")
    for map in small_maps():
        xp, W = map.xp, normal(map.xp, "W", map.shape)
        shape = map.shape if pruning.of == "synapses" else (1, *map.output)
        mask, state = xp.zeros(shape) + 1.0, pruning.init(map, shape)
        claims(isinstance(state, dict), "init gives a dict of arrays")
        for epoch in range(1, 13):
            local = Local(x=normal(xp, f"x{epoch}", (N, *map.input)), y=normal(xp, f"y{epoch}", (N, *map.output)))
            pruning.observe(map, local, W, state)
            claims(all(is_finite(xp, value) for value in state.values()), "what it remembers stays finite")
            use = pruning.use(map, W, state)
            claims(tuple(use.shape) == shape and is_finite(xp, use), "use is finite, of the mask's shape")
            if not pruning.due(epoch):
                continue
            before, found = xp.host(mask), pruning.mask(map, W, mask, state, epoch)
            claims(tuple(found.shape) == shape, f"a mask of {pruning.of} has their shape")
            claims(bool(np.isin(xp.host(found), (0.0, 1.0)).all()), "a mask holds ones and zeros")
            claims(bool((xp.host(found) <= before).all()), "nothing that is gone comes back")
            claims(are_same(xp, mask, before), "mask leaves the mask before as it was")
            mask = found
        claims(are_same(xp, W, normal(xp, "W", map.shape)), "W is left as it was")


@contract("cut")
def check_cut(cut: Any, claims: Claims) -> None:
    """Says when, and who survives: none that was gone, and as many as it says beforehand."""
    claims.methods(cut, "due", "left", "survivors")
    claims(cut.judges in ("", "averages", "weights"), "judges is empty, averages or weights")
    xp, shape = NumPy("float64"), (20, 30)
    W, alive = normal(xp, "W", shape), np.ones(shape, bool)
    for epoch in range(1, 101):
        if cut.due(epoch):
            use = abs(W) if cut.judges == "weights" else np.exp(-abs(normal(xp, f"use{epoch}", shape)))
            stays = cut.survivors(Seen(use, alive, W, samples=1000.0), epoch)
            claims(stays.shape == shape and stays.dtype == bool, "survivors are true or false, of the mask's shape")
            claims(not (stays & ~alive).any(), "none survives that was gone")
            claims(stays.any(), "something survives")
            alive = stays
    claims(not cut.due(0), "nothing goes before the first epoch")
    left = cut.left(alive.size)
    claims(left is None or left == alive.sum(), "left says beforehand how many there will be")
