"""The contract of feedback channels."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from bioplaus.backend.base import Array
from bioplaus.backend.streams import Stream
from bioplaus.parts import Map, State
from bioplaus.testing.claims import Claims, contract
from bioplaus.testing.trials import OUTPUTS, N, are_close, are_same, is_finite, normal, small_maps, zeroed


@contract("channel")
def check_channel(channel: Any, claims: Claims) -> None:
    """V is made of W and rewritten in place; claims: ``exact_gradient``, ``signs_agree``, ``fixed``."""
    claims.methods(channel, "init", "refresh", "carry")
    for map in small_maps():
        xp = map.xp
        W, later = normal(xp, "W", map.shape), normal(xp, "W later", map.shape)
        for weights in (W, later):
            weights[0, 0] = 0.0  # a silenced synapse: sign(0) = 0
        stream = Stream(0).at("V")
        state = channel.init(map, W, OUTPUTS, stream)
        claims(isinstance(state, dict), "init gives a dict of arrays")
        claims(are_same(xp, W, zeroed(xp, "W", map.shape)), "init leaves W as it was")
        V = state.get("V")
        if V is not None:
            direct = (OUTPUTS, prod(map.input))
            claims(
                tuple(V.shape) in (tuple(W.shape), direct),
                "V has W's shape, or (outputs, inputs) where the output's error comes directly",
            )
        _check_claims(channel, map, W, state, claims)
        again = channel.init(map, W, OUTPUTS, stream)
        claims(all(are_same(xp, state[key], again[key]) for key in state), "the same stream gives the same V")

        old = {key: xp.host(value) for key, value in state.items() if value is not W}
        W[...] = later
        channel.refresh(map, W, state, stream.at(1))
        channel.refresh(map, W, again, stream.at(1))
        claims(are_same(xp, W, later), "refresh leaves W as it was")
        claims(set(state) == set(again) and state.get("V") is V, "refresh rewrites V in place")
        claims(all(are_same(xp, state[key], again[key]) for key in state), "the same stream gives the same V again")
        _check_claims(channel, map, W, state, claims)
        fixed = getattr(channel, "fixed", None)
        if fixed is not None and "V" in old:
            same = np.array_equal(old["V"], xp.host(V))
            claims(same == fixed, "fixed: V never changes" if fixed else "not fixed: V changes with W")


def _check_claims(channel: Any, map: Map, W: Array, state: State, claims: Claims) -> None:
    """What can be said of V and of the error it hands down, before and after W has changed."""
    xp = map.xp
    dn, top = normal(xp, "dn", (N, *map.output)), normal(xp, "top", (N, OUTPUTS))
    kept = [xp.host(a) for a in (dn, top, W)]
    dx = channel.carry(map, dn, top, state)
    claims(dx is not None and tuple(dx.shape) == (N, *map.input), "carry gives the error in the shape of x")
    claims(is_finite(xp, dx), "carry gives finite numbers")
    changed = [
        name for name, a, b in zip(("dn", "top", "W"), (dn, top, W), kept, strict=True) if not are_same(xp, a, b)
    ]
    claims(not changed, "carry leaves dn, top and W as they were")
    claims(are_same(xp, dx, channel.carry(map, dn, top, state)), "carry gives the same error when asked again")
    exact = getattr(channel, "exact_gradient", None)
    if exact is not None:
        equal = are_close(xp, dx, map.down(dn, W))
        claims(equal == exact, "exact_gradient: carry is down(dn, W)" if exact else "no exact_gradient: carry differs")
    if getattr(channel, "signs_agree", False):
        V, w = xp.host(state["V"]), xp.host(W)
        claims(V.shape == w.shape and bool((np.sign(V) == np.sign(w))[V != 0].all()), "signs_agree: sign V = sign W")
        claims(bool(V.any()), "signs_agree: V is not zero everywhere")
