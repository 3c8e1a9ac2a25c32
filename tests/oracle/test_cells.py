"""Cells over time: their explicit way back is what autograd says of the same cell written out step by step."""

from __future__ import annotations

import numpy as np
import pytest

from bioplaus import assemble, config
from bioplaus.norms.composed import FusedBatch
from bioplaus.parts import LOOK

torch = pytest.importorskip("torch")

T, N, IN, H, K = 4, 5, 3, 4, 3
PRODUCTS = {"rnn": {"x": 1, "h": 1}, "gru": {"x": 3, "h": 2, "n": 1}, "lstm": {"x": 4, "h": 4}}
CELLS = {
    "rnn": {"rnn": H},
    "rnn-relu": {"rnn": H, "activation": "relu"},
    "gru": {"gru": H},
    "gru-relu": {"gru": H, "activation": "relu"},
    "lstm": {"lstm": H, "forget_bias": 0.7},
}
NORMS = {
    "none": "none",
    "batch": {"recipe": "batch", "affine": True},
    "layer": {"recipe": "layer", "affine": True},
    "layer-bare": {"recipe": "layer", "affine": False},
}
on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
by_cell = pytest.mark.parametrize("cell", CELLS)
by_placement = pytest.mark.parametrize("placement", ["product", "sum"])


def net(engine, cell, placement="product", norm="none", on="numpy", init=None, **rule):
    """Two cells and a dense layer, over vectors."""
    parameters = {**CELLS[cell], "placement": placement}
    stack = [{"below": {"dense": IN}}, {"cell": parameters}, {"out": {"dense": K}}]
    defaults = {"norm": NORMS[norm], **rule.pop("defaults", {})}
    made = engine.net(stack, (IN,), on=on, over=T, defaults=defaults, classes=K, **rule)
    engine.shake(made)
    return made


def data(engine, made, rng, steps=T, starts=True):
    x, y = rng.standard_normal((steps, N, IN)), rng.integers(0, K, (steps, N))
    batch = engine.batch(made, x, y)
    batch.starts = starts
    return batch, torch.tensor(x), torch.tensor(y)


class Restated:
    """The cell of the network step by step, from its equations; W by name, gains where there are any."""

    def __init__(self, made, engine, cell, placement, norm, V=None, norm_of=None):
        self.W = {name: torch.tensor(value, requires_grad=True) for name, value in engine.W(made).items()}
        self.kind, self.norm = cell.partition("-")[0], norm.partition("-")[0]
        self.sums, self.V, self.norm_of = placement == "sum", V or {}, norm_of or {}
        self.phi = torch.relu if CELLS[cell].get("activation") == "relu" else torch.tanh
        self.forget_bias = CELLS[cell].get("forget_bias", 0.0)

    def times(self, x, name):
        if name in self.V:
            return ThroughV.apply(x, self.W[f"{name}.W"], torch.tensor(self.V[name]))
        return x @ self.W[f"{name}.W"]

    def normed(self, n, name, gates):
        """Every gate by itself."""
        out, norm = [], self.norm_of.get(name, self.norm)
        for gate in n.split(n.shape[1] // gates, 1):
            if norm == "none":
                out.append(gate)
                continue
            axis = 0 if norm == "batch" else 1
            mean = gate.mean(axis, keepdim=True)
            out.append((gate - mean) / torch.sqrt(((gate - mean) ** 2).mean(axis, keepdim=True) + 1e-5))
        z = torch.cat(out, 1)
        return z * self.W[f"{name}.gain"] + self.W[f"{name}.bias"] if f"{name}.gain" in self.W else z

    def sum(self, a, s, part, gates):
        """What goes into the gates of one product: a is the input's share, not yet normalized."""
        n = self.times(s, f"cell.{part}")
        if self.sums:
            return self.normed(a + n, f"cell.{part}", gates)
        return a + self.normed(n, f"cell.{part}", gates)

    def __call__(self, x, state=None):
        """(logits of every step, last state)."""
        x = self.times(x, "below") + self.W["below.b"]
        h = torch.zeros(N, H, dtype=torch.float64) if state is None else state[0]
        c = torch.zeros_like(h) if state is None or len(state) == 1 else state[1]
        outputs = []
        for now in x:
            a = self.times(now, "cell.x") + self.W.get("cell.x.b", 0.0)
            if not self.sums:
                a = self.normed(a, "cell.x", PRODUCTS[self.kind]["x"])
            if self.kind == "rnn":
                h = self.phi(self.sum(a, h, "h", 1))
            elif self.kind == "gru":
                r, z = torch.sigmoid(self.sum(a[:, : 2 * H], h, "h", 2)).split(H, 1)
                candidate = self.phi(self.sum(a[:, 2 * H :], h * r, "n", 1))
                h = z * candidate + (1 - z) * h
            else:
                i, f, o, g = self.sum(a, h, "h", 4).split(H, 1)
                c = torch.sigmoid(f + self.forget_bias) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(self.normed(c, "cell.c", 1))
            outputs.append(self.times(h, "out") + self.W["out.b"])
        return torch.stack(outputs), ((h, c) if self.kind == "lstm" else (h,))


class ThroughV(torch.autograd.Function):
    """x W, whose error goes back through V."""

    @staticmethod
    def forward(ctx, x, W, V):
        ctx.save_for_backward(x, V)
        return x @ W

    @staticmethod
    def backward(ctx, dn):
        x, V = ctx.saved_tensors
        return dn @ V.T, x.reshape(-1, x.shape[-1]).T @ dn.reshape(-1, dn.shape[-1]), None


def score(logits, y):
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum")


def same_gradients(engine, made, restated):
    dW = engine.dW(made)
    assert set(dW) == set(restated.W)
    for name, found in dW.items():
        np.testing.assert_allclose(found, restated.W[name].grad, rtol=1e-9, atol=1e-11, err_msg=name)


@on_each
@pytest.mark.parametrize("norm", NORMS)
@by_placement
@by_cell
def test_back_through_time_is_the_gradient(engine, cell, placement, norm, on, rng):
    made = net(engine, cell, placement, norm, on)
    batch, x, y = data(engine, made, rng)
    restated = Restated(made, engine, cell, placement, norm)
    expected = score(restated(x)[0], y)
    expected.backward()
    loss, wrong = made.accumulate(batch)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-12)
    assert float(wrong) == float((restated(x)[0].argmax(-1) != y).sum())
    same_gradients(engine, made, restated)


@on_each
def test_a_forget_gate_has_no_bias_unless_it_is_given_one(engine, on):
    """With i = f = 1/2, and g = tanh 1 at both steps, c is 1/2 g, then (1/2)(1/2 g) + 1/2 g."""
    made = engine.net([{"cell": {"lstm": 1}}, {"out": {"dense": K}}], (1,), on=on, over=2)
    for node in made.nodes:
        node.W[...] = 0.0
    made.nodes[0].W[0, 3] = 1.0
    made.accumulate(engine.batch(made, np.ones((2, 1, 1)), np.zeros((2, 1), int)))
    assert float(made.state["cell.carried.c"].reshape(-1)[0]) == pytest.approx(0.75 * np.tanh(1.0), rel=1e-12)


@on_each
@by_placement
@pytest.mark.parametrize(("norm", "of_c"), [("batch", "none"), ("none", "layer"), ("layer", "batch")])
def test_the_norm_of_c_is_a_choice_of_its_own(engine, norm, of_c, placement, on, rng):
    """Gradients are autograd's; the log shows the statistics of c under the name of c."""
    made = net(engine, "lstm", placement, norm, on, layers={"cell.c": {"norm": NORMS[of_c]}})
    batch, x, y = data(engine, made, rng)
    restated = Restated(made, engine, "lstm", placement, norm, norm_of={"cell.c": of_c})
    loss = score(restated(x)[0], y)
    loss.backward()
    assert float(made.accumulate(batch)[0]) == pytest.approx(float(loss.detach()), rel=1e-10)
    same_gradients(engine, made, restated)
    assert ("cell.c" in [site.name for site in made.norms]) == (of_c != "none")


def test_what_is_learned_at_c_is_learned_as_its_choices_say(engine, rng):
    """Its gain has the update of cell.c, and stays as it is where cell.c does not learn."""
    norm = {"recipe": "layer", "affine": True}
    chosen = {"cell.c": {"norm": norm, "update": {"recipe": "sgd", "rate": 0.25, "momentum": 0.0}}}
    made = net(engine, "lstm", defaults={"norm": "none", "update": {"recipe": "sgd", "rate": 0.0}}, layers=chosen)
    batch, *_ = data(engine, made, rng)
    made.accumulate(batch)
    (learner,) = [unit for unit in made.learners if unit.name == "cell.c"]
    before, dW = learner.gain.W + 0.0, learner.gain.dW + 0.0
    made.update()
    np.testing.assert_allclose(learner.gain.W, before - 0.25 * dW, rtol=1e-12)
    frozen = net(engine, "lstm", defaults={"norm": norm}, layers={"cell.c": {"plasticity": "none"}})
    assert [unit.name for unit in frozen.learners if not any(unit.parameters())] == ["cell.c"]


def test_a_phase_changes_the_update_of_c_too():
    phases = [{"epochs": 1}, {"update": {"rate": 0.5}}]
    update = {"recipe": "sgd", "rate": 0.25, "momentum": 0.0}
    rule = {"rule": "r", "defaults": {"norm": NORMS["layer"], "update": update}}
    settings = config.load({**rule, "training": {"epochs": 2, "phases": phases}}, network="ptb_lstm")
    made = assemble.assembled(settings, classes=5, xp=assemble.array_library("numpy", dtype="float64"))
    (learner,) = [unit for unit in made.learners if unit.name == "lstm1.c"]
    assert learner.gain.links[-1].rate == 0.25
    assemble.relink(made, settings, 1)
    assert learner.gain.links[-1].rate == 0.5


# -- feedback, local rules, frozen parts ----------------------------------------------------
@on_each
@pytest.mark.parametrize("channel", ["usf", "rndf", "frsf"])
@by_placement
@by_cell
def test_errors_travel_through_v_at_every_step(engine, cell, placement, channel, on, rng):
    made = net(engine, cell, placement, "layer", on, defaults={"norm": NORMS["layer"], "channel": channel})
    batch, x, y = data(engine, made, rng)
    V = {node.name: made.xp.host(node.V) for node in made.nodes}
    restated = Restated(made, engine, cell, placement, "layer", V)
    score(restated(x)[0], y).backward()
    made.accumulate(batch)
    same_gradients(engine, made, restated)
    symmetric = Restated(made, engine, cell, placement, "layer")
    score(symmetric(x)[0], y).backward()
    assert not torch.allclose(symmetric.W["cell.h.W"].grad, restated.W["cell.h.W"].grad)


@on_each
def test_direct_feedback_brings_every_step_its_own_error(engine, on, rng):
    """At t the error at h is the output's error at t through V, and so is the error one step further back."""
    made = net(engine, "rnn", on=on, defaults={"channel": "dfa"})
    batch, x, y = data(engine, made, rng)
    made.accumulate(batch)
    W, V = engine.W(made), {node.name: made.xp.host(node.V) for node in made.nodes}
    below = x.numpy() @ W["below.W"] + W["below.b"]
    h, states = np.zeros((N, H)), [np.zeros((N, H))]
    for now in below:
        h = np.tanh(now @ W["cell.x.W"] + W["cell.x.b"] + h @ W["cell.h.W"])
        states.append(h)
    logits = np.stack(states[1:]) @ W["out.W"] + W["out.b"]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    top = p - np.eye(K)[y.numpy()]
    expected = np.zeros((H, H))
    for t in range(T):
        dh = top[t] @ V["out"] + (top[t + 1] @ V["cell.h"] if t + 1 < T else 0.0)
        expected += states[t].T @ (dh * (1 - states[t + 1] ** 2))
    np.testing.assert_allclose(engine.dW(made)["cell.h.W"], expected, rtol=1e-9, atol=1e-12)


def gates(W, cell, placement, x):
    """Of a cell without norms: {product: (what it multiplies, n, y)}, all steps, by loops over NumPy arrays."""
    sigma = lambda n: 1 / (1 + np.exp(-n))  # noqa: E731
    below = x @ W["below.W"] + W["below.b"]
    h, c = np.zeros((N, H)), np.zeros((N, H))
    seen = {part: ([], [], []) for part in PRODUCTS[cell]}

    def note(part, *values):
        for each, value in zip(seen[part], values, strict=True):
            each.append(value)

    for now in below:
        a, before = now @ W["cell.x.W"] + W["cell.x.b"], h
        n = h @ W["cell.h.W"]
        if cell == "rnn":
            h = np.tanh(a + n)
            note("h", before, n, h)
            note("x", now, a, h)
        elif cell == "gru":
            rz = sigma(a[:, : 2 * H] + n)
            s = h * rz[:, :H]
            new = np.tanh(a[:, 2 * H :] + s @ W["cell.n.W"])
            h = rz[:, H:] * new + (1 - rz[:, H:]) * h
            note("h", before, n, rz)
            note("n", s, s @ W["cell.n.W"], new)
            note("x", now, a, np.concatenate([rz, new], 1))
        else:
            z = a + n
            z[:, H : 2 * H] += 0.7
            y = np.concatenate([sigma(z[:, : 3 * H]), np.tanh(z[:, 3 * H :])], 1)
            c = y[:, H : 2 * H] * c + y[:, :H] * y[:, 3 * H :]
            h = y[:, 2 * H : 3 * H] * np.tanh(c)
            note("h", before, n, y)
            note("x", now, a, y)
    return {part: tuple(map(np.stack, values)) for part, values in seen.items()}


@on_each
@pytest.mark.parametrize("errors", ["with errors", "without"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_local_rule_sees_what_each_product_did(engine, cell, errors, on, rng):
    """Oja in every product: dW = y^2 W - x y, summed over samples and steps; with no error from above too."""
    layers = {"cell.*": {"plasticity": "oja"}} | ({} if errors == "with errors" else {"out": {"plasticity": "none"}})
    made = net(engine, cell, on=on, layers=layers)
    batch, x, _ = data(engine, made, rng)
    made.accumulate(batch)
    W, dW = engine.W(made), engine.dW(made)
    for part, (source, _, y) in gates(W, cell, "product", x.numpy()).items():
        expected = (y**2).sum((0, 1)) * W[f"cell.{part}.W"] - np.einsum("tni,tno->io", source, y)
        np.testing.assert_allclose(dW[f"cell.{part}.W"], expected, rtol=1e-9, atol=1e-12, err_msg=part)


class Looks:
    """A local rule that remembers what it was shown."""

    needs = {"x", "n", "y"}

    def __init__(self):
        self.seen = {}

    def dW(self, local, map, W, out, scale):
        self.seen[tuple(map.shape)] = local


@on_each
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_local_rule_may_ask_for_n(engine, cell, on, rng):
    made = net(engine, cell, on=on, layers={"cell.*": {"plasticity": "oja"}})
    rules = {}
    for node in made.nodes[1:-1]:
        node.plasticity = rules[node.name.partition(".")[2]] = Looks()
        node.__post_init__()
    batch, x, _ = data(engine, made, rng)
    made.accumulate(batch)
    for part, (source, n, y) in gates(engine.W(made), cell, "product", x.numpy()).items():
        (local,) = rules[part].seen.values()
        for found, expected in ((local.x, source), (local.n, n), (local.y, y)):
            np.testing.assert_allclose(made.xp.host(found), expected, rtol=1e-12, atol=1e-14, err_msg=part)


@on_each
@by_cell
def test_a_clamped_cell_still_passes_errors_down(engine, cell, on, rng):
    made = net(engine, cell, norm="layer", on=on, layers={"cell.*": {"plasticity": "none"}})
    batch, x, y = data(engine, made, rng)
    restated = Restated(made, engine, cell, "product", "layer")
    score(restated(x)[0], y).backward()
    made.accumulate(batch)
    dW = engine.dW(made)
    assert set(dW) == {"below.W", "below.b", "out.W", "out.b"}
    for name, found in dW.items():
        np.testing.assert_allclose(found, restated.W[name].grad, rtol=1e-9, atol=1e-11)


def test_where_nothing_listens_nothing_goes_back_through_time(engine, rng, monkeypatch):
    made = net(engine, "gru", layers={"cell.*": {"plasticity": "none"}, "below": {"plasticity": "none"}})
    (cell,) = made.carriers
    monkeypatch.setattr(type(cell), "through_time", None)
    made.accumulate(data(engine, made, rng)[0])
    assert set(engine.dW(made)) == {"out.W", "out.b"}


@on_each
def test_batch_manhattan_on_a_gru(engine, on, rng):
    """From zero momentum every weight moves by the rate, against the sign of what was accumulated."""
    update = {"recipe": "bm1", "rate": 0.01, "decay": 0.0}
    made = net(engine, "gru", on=on, defaults={"norm": NORMS["batch"], "update": update})
    before = engine.W(made)
    made.accumulate(data(engine, made, rng)[0])
    dW = engine.dW(made)
    made.update()
    assert {"cell.x.W", "cell.h.W", "cell.n.W", "cell.n.gain"} <= set(dW)
    for name, value in engine.W(made).items():
        np.testing.assert_allclose(value, before[name] - 0.01 * np.sign(dW[name]), rtol=1e-12, atol=1e-14)


# -- what goes on from batch to batch --------------------------------------------------------
@on_each
@by_cell
def test_a_batch_goes_on_from_the_last_and_errors_stop_between(engine, cell, on, rng):
    made = net(engine, cell, norm="layer", on=on)
    restated = Restated(made, engine, cell, "product", "layer")
    state = None
    for k in range(3):
        batch, x, y = data(engine, made, rng, starts=k == 0)
        logits, state = restated(x, state)
        state = tuple(each.detach() for each in state)
        expected = score(logits, y)
        expected.backward()
        loss, _ = made.accumulate(batch)
        assert float(loss) == pytest.approx(expected.item(), rel=1e-12), k
    same_gradients(engine, made, restated)
    carried = [made.xp.host(value) for name, value in made.state.items() if ".carried." in name]
    for found, expected in zip(carried, state, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@on_each
@by_cell
def test_truncation_leaves_the_outputs_and_cuts_the_gradient(engine, cell, on, rng):
    """Two halves give the loss of the whole; their gradient lacks what crosses the cut."""
    whole, halves = net(engine, cell, on=on), net(engine, cell, on=on)
    batch, *_ = data(engine, whole, rng)
    loss, _ = whole.accumulate(batch)
    half = T // 2
    parts = [type(batch)(batch.x[at], batch.y[at], starts=at.start == 0) for at in (slice(0, half), slice(half, T))]
    assert float(sum(halves.accumulate(part)[0] for part in parts)) == pytest.approx(float(loss), rel=1e-12)
    left, right = engine.dW(whole), engine.dW(halves)
    np.testing.assert_allclose(right["out.W"], left["out.W"], rtol=1e-9, atol=1e-12)
    assert not np.allclose(right["cell.h.W"], left["cell.h.W"])


@on_each
@by_cell
def test_looking_testing_and_collecting_leave_no_trace_in_what_is_carried(engine, cell, on, rng):
    made = net(engine, cell, norm="batch", on=on)
    first, second = data(engine, made, rng)[0], data(engine, made, rng, starts=False)[0]
    made.accumulate(first)
    made.accumulate(second)
    gradient = made.true_gradient(second)
    both = made.xp.host(gradient["cell.h"]) + single(engine, cell, on, first)["cell.h.W"]
    np.testing.assert_allclose(both, engine.dW(made)["cell.h.W"], rtol=1e-9)
    before = engine.state(made)
    with made.xp.scope():
        made.pass_.forward(first, LOOK)
    made.begin_collecting()
    made.collect(first)
    made.collect(second, 1)
    losses = [float(made.evaluate(batch)[0]) for batch in (first, second)]
    made.predict(first.x)
    again = [float(made.evaluate(batch)[0]) for batch in (first, second)]
    assert losses == again
    after = engine.state(made)
    for name in (name for name in before if ".carried." in name):
        np.testing.assert_array_equal(after[name], before[name])
    second.starts = True
    made.evaluate(first)
    assert float(made.evaluate(second)[0]) != losses[1]


def single(engine, cell, on, batch):
    """dW of the first batch alone, from the same weights."""
    made = net(engine, cell, norm="batch", on=on)
    made.accumulate(batch)
    return engine.dW(made)


@on_each
@by_cell
def test_what_is_carried_comes_back_from_a_checkpoint(engine, cell, on, rng):
    norm = {"recipe": "streaming", "affine": True}
    made, other, fresh = (net(engine, cell, on=on, seed=k, defaults={"norm": norm}) for k in range(3))
    for one in (made, other):
        for _ in range(2):
            one.accumulate(data(engine, one, rng)[0])
            one.update()
        one.accumulate(data(engine, one, rng)[0])  # what a norm works out between updates is another one's now
    assert not [name for name in fresh.state if ".carried." in name]
    other.load(engine.state(made), made.counters)
    batch, *_ = data(engine, made, rng, starts=False)
    assert float(made.accumulate(batch)[0]) == float(other.accumulate(batch)[0])
    other.load(engine.state(fresh))
    assert not [name for name in other.state if ".carried." in name]


# -- norms over time -------------------------------------------------------------------------
@on_each
@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
def test_a_norm_outside_a_cell_looks_at_one_step_at_a_time(engine, affine, on, rng):
    """Its batch statistics are those of one step; testing has a store for each."""
    stack = [{"f": {"dense": H}}, "norm", "relu", {"out": {"dense": K}}]
    norm = {"recipe": "batch", "affine": affine, "collect": 1}
    made = engine.net(stack, (IN,), on=on, over=T, defaults={"norm": norm})
    engine.shake(made)
    batch, x, y = data(engine, made, rng)
    W = {name: torch.tensor(value, requires_grad=True) for name, value in engine.W(made).items()}
    n = x @ W["f.W"]
    mean = n.mean(1, keepdim=True)
    sigma = torch.sqrt(((n - mean) ** 2).mean(1, keepdim=True) + 1e-5)
    z = (n - mean) / sigma
    z = z * W["f.gain"] + W["f.bias"] if affine else z
    loss = score(torch.relu(z) @ W["out.W"] + W["out.b"], y)
    loss.backward()
    assert float(made.accumulate(batch)[0]) == pytest.approx(loss.item(), rel=1e-12)
    for name, found in engine.dW(made).items():
        np.testing.assert_allclose(found, W[name].grad, rtol=1e-9, atol=1e-11, err_msg=name)
    made.begin_collecting()
    made.collect(batch)
    assert float(made.evaluate(batch)[0]) == pytest.approx(loss.item(), rel=1e-9)
    stored = engine.state(made)["f.norm.mean"]
    np.testing.assert_allclose(stored.reshape(T, -1), mean.detach().reshape(T, -1), rtol=1e-12)


@on_each
def test_a_gain_and_a_bias_outside_a_cell(engine, on, rng):
    made = engine.net([{"f": {"dense": H}}, "affine", "tanh", {"out": {"dense": K}}], (IN,), on=on, over=T)
    engine.shake(made)
    batch, x, y = data(engine, made, rng)
    W = {name: torch.tensor(value, requires_grad=True) for name, value in engine.W(made).items()}
    f = (x @ W["f.W"] + W["f.b"]) * W["f.gain"] + W["f.bias"]
    score(torch.tanh(f) @ W["out.W"] + W["out.b"], y).backward()
    made.accumulate(batch)
    for name, found in engine.dW(made).items():
        np.testing.assert_allclose(found, W[name].grad, rtol=1e-9, atol=1e-11, err_msg=name)


@on_each
@by_cell
def test_every_step_and_every_gate_has_statistics_of_its_own_for_testing(engine, cell, on, rng):
    """Collected on one batch they are that batch's, so testing gives what training gave."""
    norm = {"recipe": "batch", "affine": True, "collect": 1}
    made = net(engine, cell, on=on, defaults={"norm": norm})
    batch, *_ = data(engine, made, rng)
    loss = float(made.accumulate(batch)[0])
    made.begin_collecting()
    made.collect(batch)
    assert float(made.evaluate(batch)[0]) == pytest.approx(loss, rel=1e-9)
    kind = cell.partition("-")[0]
    for part, count in PRODUCTS[kind].items():
        assert engine.state(made)[f"cell.{part}.norm.mean"].shape[0] == T
        assert engine.state(made)[f"cell.{part}.norm.mean"].size == T * count * H
    assert ("cell.c.norm.mean" in engine.state(made)) == (kind == "lstm")


@on_each
@by_placement
@by_cell
def test_streaming_per_visit_with_only_the_batch_now_is_batch_norm_per_visit(engine, cell, placement, on, rng):
    now = {"recipe": "streaming", "alpha": [0.0, 1.0], "beta": [0.0, 0.0, 1.0], "per_visit": True, "affine": True}
    streamed = net(engine, cell, placement, on=on, defaults={"norm": now})
    batched = net(engine, cell, placement, "batch", on=on)
    for k in range(3):
        batch, *_ = data(engine, streamed, rng, starts=k == 0)
        left, right = streamed.accumulate(batch)[0], batched.accumulate(batch)[0]
        assert float(left) == pytest.approx(float(right), rel=1e-10), k
        for name, found in engine.dW(batched).items():
            np.testing.assert_allclose(engine.dW(streamed)[name], found, rtol=1e-7, atol=1e-10, err_msg=name)
        streamed.update()
        batched.update()


@on_each
@pytest.mark.parametrize("recipe", ["batch", "batch_shared"])
def test_what_all_steps_leave_is_what_they_leave_one_by_one(engine, recipe, on, rng, monkeypatch):
    norm = {"recipe": recipe, "affine": True}
    together = net(engine, "lstm", on=on, defaults={"norm": norm})
    with monkeypatch.context() as without:
        without.delattr(FusedBatch, "remember")
        one_by_one = net(engine, "lstm", on=on, defaults={"norm": norm})
    batches = [data(engine, together, rng, steps=steps)[0] for steps in (T, T, T - 1)]
    for made in (together, one_by_one):
        for batch in batches:
            made.accumulate(batch)
        made.collect(batches[0])
    left, right = engine.state(together), engine.state(one_by_one)
    assert set(left) == set(right)
    for name, found in left.items():
        np.testing.assert_allclose(found, right[name], rtol=1e-13, atol=1e-15, err_msg=name)


class Store:
    """Streaming statistics of one norm, as equations 3.3 have them, for all time steps together."""

    def __init__(self, alpha, beta):
        self.alpha, self.beta = alpha, beta
        self.long = self.short = self.glong = self.gshort = None
        self.n = self.gn = 0

    def see(self, now):
        first = 0.5 * self.alpha[0] if self.long is None else 0.0  # weight of a deviation of 1 before the first update
        mean, sigma = self.short or (now[0], torch.ones_like(now[1]))
        weights = 1 / (self.n + 1), 1 / (self.n + 1 + first)
        self.short = [a + (b - a) * w for a, b, w in zip((mean, sigma), now, weights, strict=True)]
        self.n += 1
        return self.mixed(self.long, self.short)

    def mixed(self, long, short):
        if long is None:
            return short
        return [self.alpha[0] * a + self.alpha[1] * b for a, b in zip(long, short, strict=True)]

    def return_(self, now):
        self.gshort, self.gn = running(self.gshort, now, self.gn), self.gn + 1
        long = [0.0, 0.0] if self.glong is None else self.glong
        each = zip(long, self.gshort, now, strict=True)
        return [self.beta[0] * a + self.beta[1] * b + self.beta[2] * c for a, b, c in each]

    def update(self):
        self.long, self.glong = self.mixed(self.long, self.short), self.mixed(self.glong, self.gshort)
        self.short = self.gshort = None
        self.n = self.gn = 0


def running(mean, new, count):
    return [a + (b - a) / (count + 1) for a, b in zip(mean, new, strict=True)] if count else list(new)


class Streamed(torch.autograd.Function):
    """x normalized by a store, per unit over the samples (p = 2, A); the error at the statistics is the store's."""

    @staticmethod
    def forward(ctx, x, store):
        mean = x.mean(0)
        sigma = torch.sqrt(((x - mean) ** 2).mean(0) + 1e-5)
        used = store.see([mean, sigma])
        ctx.save_for_backward(x, mean, sigma, *used)
        ctx.store = store
        return (x - used[0]) / used[1]

    @staticmethod
    def backward(ctx, dy):
        x, mean, sigma, used_mean, used_sigma = ctx.saved_tensors
        dmean = -(dy / used_sigma).sum(0)
        dsigma = -(dy * (x - used_mean) / used_sigma**2).sum(0)
        dmean, dsigma = ctx.store.return_([dmean, dsigma])
        return dy / used_sigma + dmean / len(x) + dsigma * (x - mean) / sigma / len(x), None


@on_each
def test_streaming_has_one_store_for_all_steps_and_every_step_counts(engine, on, rng):
    """Two batches an update, several updates, the backward mixes too, by the pseudo-code of the source in autograd."""
    alpha, beta = (0.7, 0.3), (0.5, 0.2, 0.3)
    norm = {"recipe": "streaming", "alpha": list(alpha), "beta": list(beta)}
    made = net(engine, "rnn", on=on, defaults={"norm": norm}, training={"batches_per_update": 2})
    stores = {part: Store(alpha, beta) for part in "xh"}
    state = torch.zeros(N, H, dtype=torch.float64)
    for _ in range(3):
        W = {name: torch.tensor(value, requires_grad=True) for name, value in engine.W(made).items()}
        for _ in range(2):
            batch, x, y = data(engine, made, rng, starts=not made.batches)
            below, h, outputs = x @ W["below.W"] + W["below.b"], state.detach(), []
            a = [Streamed.apply(now @ W["cell.x.W"], stores["x"]) for now in below]
            for now in a:
                h = torch.tanh(now + Streamed.apply(h @ W["cell.h.W"], stores["h"]))
                outputs.append(h @ W["out.W"] + W["out.b"])
            state = h
            expected = score(torch.stack(outputs), y)
            (expected / 2).backward()
            assert float(made.accumulate(batch)[0]) == pytest.approx(expected.item(), rel=1e-10)
        for name, found in engine.dW(made).items():
            np.testing.assert_allclose(found, W[name].grad, rtol=1e-8, atol=1e-10, err_msg=name)
        made.update()
        for store in stores.values():
            store.update()


@on_each
@pytest.mark.parametrize("first", ["onehot", "embedding"])
def test_symbols_come_in_as_vectors(engine, first, on, rng):
    """A cell on one-hot symbols, or on a table of vectors; weights that pad a test count nothing."""
    layer = {"onehot": K} if first == "onehot" else {"e": {"embedding": IN, "words": K}}
    made = engine.net([layer, {"cell": {"rnn": H}}, {"out": {"dense": K}}], (), on=on, over=T)
    engine.shake(made)
    x, y, weight = rng.integers(0, K, (T, N)), rng.integers(0, K, (T, N)), rng.integers(0, 2, (T, N))
    W = {name: torch.tensor(value, requires_grad=True) for name, value in engine.W(made).items()}
    hot = torch.tensor(np.eye(K)[x])
    now = hot if first == "onehot" else hot @ W["e.W"] + W["e.b"]
    h, outputs = torch.zeros(N, H, dtype=torch.float64), []
    for each in now:
        h = torch.tanh(each @ W["cell.x.W"] + W["cell.x.b"] + h @ W["cell.h.W"])
        outputs.append(h @ W["out.W"] + W["out.b"])
    log_p = torch.log_softmax(torch.stack(outputs), -1)
    expected = -(log_p.gather(-1, torch.tensor(y)[..., None])[..., 0] * torch.tensor(weight)).sum()
    expected.backward()
    loss, wrong = made.accumulate(engine.batch(made, x, y, weight))
    assert float(loss) == pytest.approx(expected.item(), rel=1e-12)
    assert float(wrong) == ((log_p.argmax(-1).numpy() != y) * weight).sum()
    for name, found in engine.dW(made).items():
        np.testing.assert_allclose(found, W[name].grad, rtol=1e-9, atol=1e-12, err_msg=name)


@on_each
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_mean_is_over_streams_and_the_sum_over_steps(engine, reduction, on, rng):
    """Loss = sum over steps / streams, as language models have it."""
    made = net(engine, "rnn", on=on, training={"reduction": reduction})
    batch, x, y = data(engine, made, rng)
    restated = Restated(made, engine, "rnn", "product", "none")
    (score(restated(x)[0], y) / (N if reduction == "mean" else 1)).backward()
    made.accumulate(batch)
    same_gradients(engine, made, restated)
    assert made.samples(batch) == T * N
    own = made.batch(x.numpy(), y.numpy(), starts=False)
    assert own.y.shape == (T, N) and not own.starts
