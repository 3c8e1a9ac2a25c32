"""The contract of plasticities."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.parts import Local, Map
from bioplaus.testing.claims import Claims, contract
from bioplaus.testing.trials import N, are_close, are_same, is_finite, normal, small_maps


@contract("plasticity")
def check_plasticity(plasticity: Any, claims: Claims) -> None:
    """dW reads what ``needs`` names, adds to ``out`` in proportion to ``scale``, and changes nothing else.

    One that gathers instead settles what it has gathered, of all visits together, and begins anew.
    """
    needs = set(getattr(plasticity, "needs", ()))
    known = {f.name for f in fields(Local)} - {"at", "keep", "db", "going_down"}
    claims(needs and needs <= known, f"needs names fields of Local ({', '.join(sorted(known))})")
    if getattr(plasticity, "local", False):
        claims("dn" not in needs, "local: needs no error")
    if hasattr(plasticity, "gather"):
        _check_gathering(plasticity, needs, claims)
        return
    claims.methods(plasticity, "dW")
    overwrites = getattr(plasticity, "overwrites", False)
    for map in small_maps():
        xp = map.xp
        W = normal(xp, "W", map.shape)
        below = {key: normal(xp, key, (N, *map.input)) for key in ("x", "x_hat")}
        above = {key: normal(xp, key, (N, *map.output)) for key in ("n", "y", "dn", "u")}
        seen = {key: value for key, value in {**below, **above}.items() if key in needs or key == "x"}

        def grown(out: Array, scale: float, keep: float, map: Map = map, W: Array = W, seen: Any = seen) -> Array:
            bias = map.xp.zeros(map.bias_shape) if "dn" in needs else None
            plasticity.dW(Local(**seen, keep=keep, db=bias), map, W, out, scale)
            return out

        before = {key: xp.host(value) for key, value in {**seen, "W": W}.items()}
        dW = grown(xp.zeros(map.shape), 1.0, 1.0)
        claims(
            is_finite(xp, dW) and bool(xp.host(dW).any()),
            "dW writes finite numbers into out, with no more than it needs",
        )
        after = {**seen, "W": W}
        claims(all(are_same(xp, after[key], before[key]) for key in before), "dW leaves W and what it saw as they were")
        claims(are_close(xp, grown(xp.zeros(map.shape), -2.0, 1.0), -2.0 * dW), "dW is linear in scale")
        start = normal(xp, "start", map.shape)
        claims(are_close(xp, grown(start + 0.0, 1.0, 1.0), start + dW), "dW adds to what out holds")
        if overwrites:
            nan = xp.zeros(map.shape) + float("nan")
            claims(are_close(xp, grown(nan, 1.0, 0.0), dW), "overwrites: with keep 0 it ignores what out held")


def _check_gathering(plasticity: Any, needs: set[str], claims: Claims) -> None:
    claims.methods(plasticity, "init", "gather", "settle")
    for map in small_maps():
        xp, W = map.xp, normal(map.xp, "W", map.shape)
        state = plasticity.init(map)
        claims(isinstance(state, dict), "init gives a dict of arrays")
        fresh = copy.deepcopy(state)
        visits = []
        for name in ("first", "second"):
            below = {key: normal(xp, f"{name} {key}", (N, *map.input)) for key in ("x", "x_hat")}
            above = {key: normal(xp, f"{name} {key}", (N, *map.output)) for key in ("n", "y", "dn", "u")}
            visits.append({key: value for key, value in {**below, **above}.items() if key in needs})
        for seen in visits:
            before = {key: xp.host(value) for key, value in {**seen, "W": W}.items()}
            plasticity.gather(Local(**seen), map, W, state)
            after = {**seen, "W": W}
            claims(
                all(are_same(xp, after[key], before[key]) for key in before), "gather leaves W and what it saw alone"
            )
        change = plasticity.settle(map, W, state)
        claims(tuple(change.shape) == tuple(map.shape) and is_finite(xp, change), "settle gives finite numbers like W")
        claims(bool(xp.host(change).any()) and change is not W, "settle gives a change, in an array of its own")
        claims(all(are_same(xp, state[key], fresh[key]) for key in fresh), "after it what is gathered begins anew")
        together = {key: np.concatenate([seen[key] for seen in visits]) for key in visits[0]}
        plasticity.gather(Local(**{key: xp.array(value) for key, value in together.items()}), map, W, state)
        claims(are_close(xp, plasticity.settle(map, W, state), change), "two visits count as one of all their samples")
