"""The contract of passes."""

from __future__ import annotations

import types
from typing import Any

import numpy as np

from bioplaus.backend.numpy import NumPy
from bioplaus.config.graph import Edge
from bioplaus.parts import LEARN, Batch
from bioplaus.registry import get
from bioplaus.testing.bench import Bench, learners_in
from bioplaus.testing.claims import Claims, contract
from bioplaus.testing.trials import STEPS, N, are_slopes, normal


@contract("pass")
def check_pass(order: Any, claims: Claims) -> None:
    """Placed, it gives the signals it provides, and walks back to the gradient of every weight on its way."""
    claims.methods(order, "place")
    pass_ = order.place(Bench(NumPy("float64")), small_network())
    claims.methods(pass_, "forward", "back")
    provides = set(getattr(pass_, "provides", ()))
    claims(provides, "provides names signals")
    xp = NumPy("float64")
    lead = (STEPS, N) if getattr(pass_, "steps", 0) else (N,)  # sequences
    batch, at = Batch(normal(xp, "x", (*lead, 6)), xp.raw(np.arange(N) % 4)), LEARN._replace(render=True)
    with xp.scope():
        signals, tape = pass_.forward(batch, at)
        claims(provides <= set(signals), "forward gives what it provides")
        errors = {name: normal(xp, f"error at {name}", tuple(signals[name].shape)) for name in provides}

        def scored() -> float:
            found = pass_.forward(batch, at)[0]
            return sum(float((found[name] * error).sum()) for name, error in errors.items())

        pass_.back(
            {name: error + 0.0 for name, error in errors.items()}, tape, lambda unit, local: unit.learn(local, 1.0)
        )
        learners = [each for each in learners_in(pass_) if each.keep]
        claims(learners, "back lets the nodes learn")
        for learner in learners:
            for parameter in learner.parameters():
                claims(are_slopes(xp, scored, parameter.W, parameter.dW), "back gives every weight the derivative")


def small_network() -> Any:
    """Something a pass can place, for samples of 6 numbers: two dense layers with rectification between them; or, for
    those that walk graphs, two states that hand on through dense layers.
    """
    dense, relu = get("layer", "dense"), get("layer", "relu")()
    ends = (("h1", "h1", True), ("h1", "h2", True), ("h2", "h2", False))
    return types.SimpleNamespace(
        input=(6,),
        layers=[dense(5), relu, dense(4)],
        prenet=[dense(5)],
        states={"h1": (5,), "h2": (5,)},
        edges=[Edge(f"{a}_{b}", a, b, (dense(5), relu), share=share) for a, b, share in ends],
        postnet=[dense(4)],
        where=lambda *keys: "small network: " + ".".join(map(str, keys)),
    )
