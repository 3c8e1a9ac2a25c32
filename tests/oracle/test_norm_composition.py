"""Any reference x statistics x operation: values and the way back against autograd through averages as matrices."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bioplaus.construct import make
from bioplaus.parts import COLLECT, LEARN, LOOK, TEST, At

torch = pytest.importorskip("torch")
spec = importlib.util.spec_from_file_location("norms_by_hand", Path(__file__).with_name("norms_by_hand.py"))
hand = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hand)

MAPS, UNITS = (3, 4, 4, 3), (5, 6)
POWERS = (1.0, 1.5, 2.0, 3.0, 7.0)
REFS = {ref: (ref, letters, None) for ref, letters in hand.SETS.items() if "w" not in letters}
REFS |= {f"{ref} 3": ({"recipe": ref, "window": 3}, hand.SETS[ref], 3) for ref in ("BA3", "BA4", "SP3", "SP4")}
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def built(backends, shape, spec, visits=1, groups=1):
    xp = backends(dtype="float64")
    norm = make("norm", spec)
    return xp, norm, norm.init(xp, shape[1:], visits, groups)


def both_ways(xp, norm, state, x, dy, at=LEARN):
    with xp.scope():
        y, cache = norm.forward(xp, xp.array(x), state, at)
        return xp.host(y), xp.host(norm.back(xp, xp.array(dy), state, cache))


def drawn(rng, shape):
    return 1.5 * rng.standard_normal(shape) + 0.7, rng.standard_normal(shape)


def memory(ref, **moments):
    return {
        "recipe": "batch" if str(ref["recipe"] if isinstance(ref, dict) else ref)[0] == "B" else "sample",
        **moments,
    }


def agrees(backends, rng, shape, ref, letters, window, groups, p, centre):
    norm = {"recipe": "norm", "ref": ref, "stats": memory(ref, p=p, centre=centre)}
    xp, norm, state = built(backends, shape, norm, groups=groups)
    x, dy = drawn(rng, shape)
    M = hand.matrix(shape, letters, window=window, groups=groups)
    y, dx = hand.autograd(x, dy, lambda x: hand.normalized(x, M, p=p, centre=centre)[0])
    found, back = both_ways(xp, norm, state, x, dy)
    np.testing.assert_allclose(found, y, **CLOSE)
    np.testing.assert_allclose(back, dx, **CLOSE)


@pytest.mark.parametrize("centre", ["A", "B", "C"])
@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("ref", REFS)
def test_maps(backends, rng, ref, p, centre):
    agrees(backends, rng, MAPS, *REFS[ref], 1, p, centre)


@pytest.mark.parametrize("centre", ["A", "B", "C"])
@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("ref", ["BA1", "BA2", "SP1"])
def test_units(backends, rng, ref, p, centre):
    agrees(backends, rng, UNITS, *REFS[ref], 1, p, centre)


@pytest.mark.parametrize("shape", [MAPS, UNITS], ids=["maps", "units"])
@pytest.mark.parametrize("ref", ["BA1", "BA2", "BA5", "BA6", "SP1", "SP5", "SP3 3"])
def test_groups_of_channels_never_mix(backends, rng, ref, shape):
    """Gates computed by one product; each as if it were alone."""
    if len(shape) == 2 and ref == "SP3 3":
        pytest.skip("no map, no window")
    agrees(backends, rng, shape, *REFS[ref], 2, 3.0, "A")


# What the sources set where a rule says nothing: Liao, Kawaguchi & Poggio (2016); Ren et al. (2017).
OURS = {"recipe": "norm", "op": "standardize"}
ONLINE = {"alpha": [0.7, 0.3], "beta": [0.7, 0.3, 0.0], "kappa": [0.7, 0.3], "error_kappa": [0.7, 0.3]}
EVEN = {"alpha": [0.5, 0.5], "beta": [0.5, 0.5, 0.0], "kappa": [0.5, 0.5], "error_kappa": [0.5, 0.5]}
ZERO = {"recipe": "divisive", "sum": 5, "suppression": 5, "border": "zero"}
SETTINGS = {
    "batch": {**OURS, "ref": "BA1", "stats": {"recipe": "batch", "p": 2.0, "centre": "A", "eps": 1e-5}},
    "lp": {**OURS, "ref": "BA1", "stats": {"recipe": "batch", "p": 1.0, "centre": "A"}},
    "neuronwise": {**OURS, "ref": "BA6", "stats": "batch"},
    "layer": {**OURS, "ref": "SP1", "stats": {"recipe": "sample", "p": 2.0, "centre": "A", "eps": 1e-5}},
    "instance": {**OURS, "ref": "SP2", "stats": "sample"},
    "streaming": {**OURS, "ref": "BA1", "stats": {"recipe": "streaming", "p": 2.0, "centre": "A", **EVEN}},
    "streaming_l1": {**OURS, "ref": "BA1", "stats": {"recipe": "streaming", "p": 1.0, "centre": "B", **ONLINE}},
    "divisive": {"recipe": "norm", "op": {**ZERO, "sigma": 1.0}, "stats": {"recipe": "sample", "eps": 0.0}},
    "divisive_star": {
        "recipe": "norm",
        "op": {**ZERO, "sigma": 0.5},
        "stats": {"recipe": "sample", "eps": 0.0},
        "l1": 0.005,
    },
}


@pytest.mark.parametrize("recipe", SETTINGS)
def test_a_recipe_left_to_itself_has_the_settings_of_its_source(backends, rng, recipe):
    """Three updates, each of two batches; then testing."""
    shape = (3, 2, 5, 6)  # windows of 5 fit
    ways = [built(backends, shape, spec) for spec in (recipe, SETTINGS[recipe])]
    for k in range(6):
        x, dy = drawn(rng, shape)
        (y, dx), (expected, back) = (both_ways(*way, x, dy) for way in ways)
        np.testing.assert_allclose(y, expected, **CLOSE)
        np.testing.assert_allclose(dx, back, **CLOSE)
        for xp, norm, state in ways if k % 2 else ():
            with xp.scope():
                norm.updated(xp, state)
    found, wanted = (xp.host(norm.forward(xp, xp.array(x), state, TEST)[0]) for xp, norm, state in ways)
    np.testing.assert_allclose(found, wanted, **CLOSE)


@pytest.mark.parametrize("spec", ["batch", {"recipe": "lp", "p": 1.0}, "layer", "neuronwise", "instance"], ids=str)
def test_the_way_back_is_the_slope_of_forward(backends, rng, spec):
    """Central differences of the package's own forward."""
    xp, norm, state = built(backends, MAPS, spec)
    x, dy = drawn(rng, MAPS)
    _, dx = both_ways(xp, norm, state, x, dy)
    step = 1e-6 * rng.standard_normal(MAPS)
    ahead, behind = (both_ways(xp, norm, state, x + sign * step, dy)[0] for sign in (1, -1))
    assert (dx * step).sum() == pytest.approx(((ahead - behind) / 2 * dy).sum(), rel=1e-6)


@pytest.mark.parametrize("shape", [(9, 4, 3, 2), (8, 5)], ids=["maps", "units"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_backends_own_kernels_are_the_general_path(backends, rng, shape, groups):
    """Batch normalization is a fast special case: same values, same way back, same memory, in training and testing."""
    if shape[1] % groups:
        pytest.skip("these units are no such groups")
    xp, fused, state = built(backends, shape, "batch", 2, groups)
    general = type(fused).__mro__[1](fused.ref, fused.stats, fused.op)
    assert type(fused) is not type(general)
    other = general.init(xp, shape[1:], 2, groups)
    for k in range(3):
        x, dy = drawn(rng, shape)
        at = At(visit=k % 2)
        for mine, its in zip(
            both_ways(xp, fused, state, x, dy, at), both_ways(xp, general, other, x, dy, at), strict=True
        ):
            np.testing.assert_allclose(mine, its, rtol=1e-10, atol=1e-12)
    for at in (At(visit=0, train=False, track=False), At(visit=5, train=False, track=False)):
        with xp.scope():
            mine, its = (norm.forward(xp, xp.array(x), s, at)[0] for norm, s in ((fused, state), (general, other)))
        np.testing.assert_allclose(xp.host(mine), xp.host(its), rtol=1e-10, atol=1e-12)
    assert set(state) == set(other)
    for name in state:
        np.testing.assert_allclose(xp.host(state[name]), xp.host(other[name]), rtol=1e-11, atol=1e-13, err_msg=name)


def test_layer_normalization_does_not_know_the_size_of_the_batch(backends, rng):
    xp, norm, state = built(backends, MAPS, "layer")
    x, dy = drawn(rng, MAPS)
    whole = both_ways(xp, norm, state, x, dy)
    for n in range(len(x)):
        for mine, all_ in zip(both_ways(xp, norm, state, x[n : n + 1], dy[n : n + 1]), whole, strict=True):
            np.testing.assert_allclose(mine, all_[n : n + 1], rtol=1e-12, atol=1e-14)
    with xp.scope():
        np.testing.assert_array_equal(xp.host(norm.forward(xp, xp.array(x), state, TEST)[0]), whole[0])


@pytest.mark.parametrize("ref", ["BA1", "BA6"])
def test_a_visit_has_its_own_store_for_testing_unless_shared(backends, rng, ref):
    """Means and deviations of each time step; a step beyond the last uses the last one's."""
    for shared in (False, True):
        stats = {"recipe": "batch", "p": 1.0, "ema": 0.25, "shared": shared}
        xp, norm, state = built(backends, MAPS, {"recipe": "norm", "ref": ref, "stats": stats}, visits=2)
        M = hand.matrix(MAPS, hand.SETS[ref])
        wanted = {}
        norm.begin_collecting(state)
        for _ in range(3):
            for visit in range(2):
                x = drawn(rng, MAPS)[0] * (1 + visit)
                with xp.scope():
                    norm.forward(xp, xp.array(x), state, COLLECT._replace(visit=visit))
                now = [each.numpy() for each in hand.normalized(torch.tensor(x), M, p=1.0)[1:]]
                store = 0 if shared else visit
                old = wanted.get(store, now)
                wanted[store] = [0.75 * a + 0.25 * b for a, b in zip(old, now, strict=True)]
        x = drawn(rng, MAPS)[0]
        for visit in (0, 1, 7):
            with xp.scope():
                y = xp.host(norm.forward(xp, xp.array(x), state, TEST._replace(visit=visit))[0])
            mean, sigma = wanted[0 if shared else min(visit, 1)]
            np.testing.assert_allclose(y, (x - mean) / sigma, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 7.0])
@pytest.mark.parametrize("centre", ["A", "B", "C"])
@pytest.mark.parametrize("ref", ["BA1", "BA2", "SP1"])
def test_one_sample_or_a_constant_layer_stays_finite(backends, ref, centre, p):
    """Where nothing varies there is nothing to divide by but eps, and no error comes back through what is constant."""
    norm = {"recipe": "norm", "ref": ref, "stats": memory(ref, p=p, centre=centre)}
    for x in (np.full((1, 4), 0.3), np.full((3, 4), -2.0), np.zeros((2, 4)), np.arange(4.0)[None]):
        xp, part, state = built(backends, x.shape, norm)
        y, dx = both_ways(xp, part, state, x, np.ones_like(x))
        assert np.isfinite(y).all() and np.isfinite(dx).all()
        if len(x) == 1 and ref == "BA1":
            np.testing.assert_allclose(y, 0.0, atol=1e-9)  # a sample alone is its own mean
            if centre == "A":
                np.testing.assert_allclose(dx, 0.0, atol=1e-9)


def test_a_look_and_its_way_back_leave_no_trace(backends, rng):
    for spec in ("batch", {"recipe": "lp"}, "streaming", "streaming_l1", "batch_star", "divisive_star", "l1"):
        xp, norm, state = built(backends, MAPS, spec)
        both_ways(xp, norm, state, *drawn(rng, MAPS))
        before = {name: xp.host(value) for name, value in state.items()}
        both_ways(xp, norm, state, *drawn(rng, MAPS), at=LOOK)
        for name, value in state.items():
            np.testing.assert_array_equal(xp.host(value), before[name], err_msg=f"{spec} {name}")


@pytest.mark.parametrize("shape", [(9, 4, 3, 2), (8, 5)], ids=["maps", "units"])
@pytest.mark.parametrize("centre", ["A", "B", "C"])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_few_passes_are_the_general_path(backends, rng, p, centre, shape):
    """Statistics per channel by the backend's few passes, with a gain and a bias behind them and without."""
    memory = {"recipe": "streaming", "p": p, "centre": centre, "beta": [0.2, 0.3, 0.5]}
    xp, few, state = built(backends, shape, {"recipe": "norm", "stats": memory})
    general = type(few).__mro__[1](few.ref, few.stats, few.op)
    assert type(few) is not type(general)
    other = general.init(xp, shape[1:])
    ready = (1, shape[1], *(1 for _ in shape[2:]))
    gain, bias = (xp.array(rng.standard_normal(ready)) for _ in range(2))
    for _ in range(3):
        x, dy = drawn(rng, shape)
        for mine, its in zip(both_ways(xp, few, state, x, dy), both_ways(xp, general, other, x, dy), strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-9, atol=1e-11)
        axes = (0, *range(2, x.ndim))
        with xp.scope():
            y, cache = few.forward_scaled(xp, xp.array(x), state, LEARN, gain, bias)
            z, its_cache = general.forward(xp, xp.array(x), other, LEARN)
            dn, dgain, dbias = few.back_scaled(xp, xp.array(dy), state, cache, gain)
            its_dn = general.back(xp, xp.array(dy) * gain, other, its_cache)
        np.testing.assert_allclose(xp.host(y), xp.host(z * gain + bias), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(xp.host(dn), xp.host(its_dn), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(xp.host(dgain).ravel(), (dy * xp.host(z)).sum(axes), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(xp.host(dbias).ravel(), dy.sum(axes), rtol=1e-9, atol=1e-11)
        few.updated(xp, state)
        general.updated(xp, other)
    with xp.scope():
        y, _ = few.forward_scaled(xp, xp.array(x), state, TEST, gain, bias)
        z = general.forward(xp, xp.array(x), other, TEST)[0]
    np.testing.assert_allclose(xp.host(y), xp.host(z * gain + bias), rtol=1e-9, atol=1e-11)
