"""Up and down again: every term of the DRMM and every gradient, against the model written once more in PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bioplaus import assemble, config
from bioplaus.errors import ConfigError, ShapeError, UserError
from bioplaus.parts import TEST, At
from bioplaus.units import Node, walk

on_each = pytest.mark.parametrize("on", ["numpy", "torch"])
N, CLASSES, LABELLED = 6, 3, 2

DRMM = [
    {"c1": {"conv": 4, "kernel": 3, "pad": "full"}},
    "norm",
    "relu",
    {"maxpool": 2},
    {"c2": {"conv": 5, "kernel": 3}},
    "norm",
    "relu",
    {"c3": {"conv": 4, "kernel": 1}},
    "relu",
    "globalmeanpool",
    {"out": {"dense": "classes"}},
]
ODD = [  # windows leave a row and a column over, for both kinds of pool
    {"c1": {"conv": 3, "kernel": [3, 2], "pad": "half"} | {"kernel": 3}},
    "relu",
    {"maxpool": 2},
    {"c2": {"conv": 4, "kernel": 3, "pad": "full"}},
    "relu",
    {"avgpool": 2},
    "flatten",
    {"h": {"dense": 6}},
    "norm",
    "relu",
    {"out": {"dense": "classes"}},
]
RESIDUAL = [
    {"c1": {"conv": 4, "kernel": 3, "pad": "half"}},
    "relu",
    {
        "r": {
            "residual": [
                {"a": {"conv": 3, "kernel": 3, "pad": "half"}},
                "norm",
                "relu",
                {"b": {"conv": 4, "kernel": 1}},
                "relu",
            ]
        }
    },
    {"s": {"residual": [{"a": {"conv": 2, "kernel": 1}}, "relu"], "shortcut": [{"b": {"conv": 2, "kernel": 1}}]}},
    {"maxpool": 2},
    "flatten",
    {"out": {"dense": "classes"}},
]
NETS = {"drmm": (DRMM, (1, 8, 8)), "odd": (ODD, (2, 7, 9)), "residual": (RESIDUAL, (2, 6, 6))}
LOSSES = {
    "cross_entropy": {"weight": 1.0, "on": "labelled"},
    "reconstruction": {"weight": 0.5},
    "kl": {"weight": 0.2, "sign": -1},
    "nonnegativity": {"weight": 0.7},
}


SGD = {"recipe": "sgd", "rate": 0.1, "momentum": 0.0}


def built(named="drmm", on="numpy", losses=LOSSES, norm="batch", dtype="float64", order=None, labels=True, **rule):
    layers, shape = NETS[named] if isinstance(named, str) else named
    network = {
        "network": "g",
        "input": list(shape),
        "pass": {"recipe": "generative", **(order or {})},
        "layers": layers,
    }
    norms = {"none": "none", "batch": {"recipe": "batch", "affine": True}}
    given = {
        "rule": "tested",
        "defaults": {"norm": norms[norm], "update": SGD},
        "losses": losses,
        "data": {"labels": 3} if labels else {},
        "training": {"reduction": "mean"},
    } | rule
    xp = assemble.array_library(on, dtype=dtype, threads=1)
    return assemble.assembled(config.load(given, network=network), classes=CLASSES, xp=xp)


def drawn(engine, net, labelled=True, seed=0):
    rng = np.random.default_rng(seed)
    engine.shake(net)
    x, y = rng.standard_normal((N, *net.pass_.input)), np.array([0, 2, 1, 0, 0, 0])
    batch = engine.batch(net, x, y)
    return replace(batch, labelled=LABELLED if labelled else None), x, y


class Model:
    """The model from its definition: up with its switches written down, down through them."""

    def __init__(self, torch, arrays, normed):
        self.torch, self.F, self.arrays, self.normed = torch, torch.nn.functional, arrays, normed

    def up(self, layers, x, prefix=""):
        torch, F, steps, owner = self.torch, self.F, [], None
        for entry in layers:
            key, value = next(iter(entry.items())) if isinstance(entry, dict) else (entry, None)
            shape = x.shape
            if isinstance(value, dict) and ("conv" in value or "dense" in value):
                owner = prefix + key
                W, b = self.arrays[f"{owner}.W"], self.arrays.get(f"{owner}.b")
                pad = {"valid": 0, "half": value.get("kernel", 1) // 2, "full": value.get("kernel", 1) - 1}[
                    value.get("pad", "valid")
                ]
                x = F.conv2d(x, W, padding=pad) if "conv" in value else x @ W
                x = x if b is None else x + b
                steps.append(("weights", owner, pad if "conv" in value else None))
            elif isinstance(value, dict) and "residual" in value:
                inside = f"{prefix}{key}."
                (a, long), (b, short) = (self.up(value.get(path, []), x, inside) for path in ("residual", "shortcut"))
                x = a + b
                steps.append(("sum", long, short))
            elif key == "norm" and self.normed:
                axes = tuple(axis for axis in range(x.ndim) if axis != 1)
                x = (x - x.mean(axes, keepdim=True)) / torch.sqrt(x.var(axes, correction=0, keepdim=True) + 1e-5)
                x = x * self.arrays[f"{owner}.gain"] + self.arrays[f"{owner}.bias"]
            elif key == "relu":
                steps.append(("switch", (x > 0).to(x.dtype)))
                x = F.relu(x)
            elif key == "maxpool":
                x, winners = F.max_pool2d(x, value, return_indices=True)
                won = torch.zeros(shape).to(x.dtype).flatten(2).scatter(2, winners.flatten(2), 1.0).reshape(shape)
                steps.append(("repeat", value, shape))
                steps.append(("switch", won))
                steps[-2:] = [steps[-1], steps[-2]]
            elif key == "avgpool":
                x = F.avg_pool2d(x, value)
                steps.append(("repeat", value, shape))
            elif key == "globalmeanpool":
                x = x.mean((2, 3))
                steps.append(("spread", shape))
            elif key == "flatten":
                x = x.flatten(1)
                steps.append(("shape", shape))
        return x, steps

    def down(self, steps, z, templates):
        F, template = self.F, z
        for kind, *what in reversed(steps):
            if kind == "weights":
                name, pad = what
                templates[name] = template
                W = self.arrays[f"{name}.W"]
                z = z @ W.T if pad is None else F.conv_transpose2d(z, W, padding=pad)
                template = z
            elif kind == "sum":
                long, short = what
                z = self.down(long, z, templates) + self.down(short, z, templates)
                template = z
            elif kind == "switch":
                z = z * what[0]
            elif kind == "repeat":
                z, template = (self.repeat(each, *what) for each in (z, template))
            elif kind == "spread":
                z, template = (each[:, :, None, None].expand(what[0]) for each in (z, template))
            else:
                z, template = (each.reshape(what[0]) for each in (z, template))
        return z

    def repeat(self, z, size, shape):
        z = z.repeat_interleave(size, 2).repeat_interleave(size, 3)
        return self.F.pad(z, (0, shape[3] - z.shape[3], 0, shape[2] - z.shape[2]), mode="replicate")


def restated(plain, engine, net, layers, x, y, *, normed, labelled):
    """({term: mean over its samples}, signals, leaf arrays); the labelled and the unlabelled samples apart."""
    torch = plain.torch
    arrays = {name: torch.tensor(value, requires_grad=True) for name, value in engine.W(net).items()}
    layers = [e if e != {"out": {"dense": "classes"}} else {"out": {"dense": CLASSES}} for e in layers]
    terms, parts = {}, []
    for part in (slice(0, LABELLED), slice(LABELLED, N)) if labelled else (slice(0, N),):
        model, images, templates = Model(torch, arrays, normed), torch.tensor(x[part]), {}
        output, steps = model.up(layers, images)
        one_hot = torch.nn.functional.one_hot(output.argmax(-1), CLASSES).to(images.dtype)
        image = model.down(steps, one_hot, templates)
        log_q = torch.log_softmax(output, -1)
        found = {
            "reconstruction": ((images - image) ** 2).mean(),
            "kl": -(log_q.exp() * (log_q + np.log(CLASSES))).sum(-1).mean(),
            "nonnegativity": sum((torch.clamp(-t, min=0) ** 2).mean() for t in templates.values()),
        }
        for name, mean in found.items():
            terms[name] = terms.get(name, 0.0) + mean * (len(images) / N)
        if part.start == 0:
            terms["cross_entropy"] = -log_q[torch.arange(len(images)), torch.tensor(y)[part]].mean()
        parts.append({"output": output, "reconstruction": image, **templates})
    return terms, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, arrays


@pytest.mark.parametrize("labelled", [True, False], ids=["halves", "all"])
@pytest.mark.parametrize(("named", "norm"), [(n, norm) for n in NETS for norm in ("none", "batch")])
@on_each
def test_every_term_and_every_gradient_is_autograds(engine, plain, named, norm, labelled, on):
    net = built(named, on, norm=norm, labels=labelled)
    batch, x, y = drawn(engine, net, labelled)
    normed = norm == "batch"
    terms, signals, arrays = restated(plain, engine, net, NETS[named][0], x, y, normed=normed, labelled=labelled)
    whole = sum(LOSSES[name]["weight"] * term for name, term in terms.items())
    whole.backward()
    value, wrong = net.accumulate(batch)
    assert float(value) / N == pytest.approx(whole.item(), rel=1e-11)
    missed = signals["output"].detach().numpy().argmax(1) != y
    assert float(wrong) == pytest.approx(N * (missed[:LABELLED] if labelled else missed).mean())
    for name, term in terms.items():
        assert float(net.terms[name]) / N == pytest.approx(term.item(), rel=1e-11), name
        assert abs(term.item()) > 1e-3, name  # nothing vanishes by accident
    dW = engine.dW(net)
    assert set(dW) == {name for name, a in arrays.items() if a.grad is not None}
    for name, found in dW.items():
        np.testing.assert_allclose(found, arrays[name].grad, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("term", LOSSES)
@on_each
def test_every_term_alone(engine, plain, term, on):
    """Also where none looks at the output, or none at what is rendered."""
    net = built("odd", on, losses={term: {**LOSSES[term], "weight": 1.0}})
    batch, x, y = drawn(engine, net)
    terms, _, arrays = restated(plain, engine, net, ODD, x, y, normed=True, labelled=True)
    terms[term].backward()
    net.accumulate(batch)
    for name, found in engine.dW(net).items():
        grad = arrays[name].grad
        np.testing.assert_allclose(found, 0.0 if grad is None else grad, rtol=1e-9, atol=1e-11, err_msg=name)


@on_each
def test_the_second_batch_of_an_update_adds_to_the_first_and_the_next_update_begins_anew(engine, on):
    """Weights learn on both ways, biases on one: what remains of the update before must be forgotten by both."""
    net = built("odd", on, norm="none", defaults={"norm": "none", "update": {"recipe": "sgd", "rate": 0.1}})
    batch, _, _ = drawn(engine, net)
    W = engine.W(net)
    net.accumulate(batch)
    once = {name: dW + 0.0 for name, dW in engine.dW(net).items()}
    net.update(rate=0.0)
    net.accumulate(batch)
    for name, dW in engine.dW(net).items():  # momentum 0.9: dW is the running sum
        np.testing.assert_allclose(dW, 1.9 * once[name], rtol=1e-10, atol=1e-13, err_msg=name)
    net.accumulate(batch)
    for name, dW in engine.dW(net).items():
        np.testing.assert_allclose(dW, 2.9 * once[name], rtol=1e-10, atol=1e-13, err_msg=name)
        np.testing.assert_array_equal(engine.W(net)[name], W[name])


@pytest.mark.parametrize("half", ["labelled", "unlabelled"])
@pytest.mark.parametrize("term", ["kl", "reconstruction", "nonnegativity"])
@on_each
def test_a_term_on_one_half_is_the_mean_over_it(engine, term, half, on):
    """Value and gradients are those of a batch of that half alone."""
    net, alone = (built("odd", on, losses={term: given}, labels=given != {}) for given in ({"on": half}, {}))
    batch, _, _ = drawn(engine, net)
    part = slice(LABELLED) if half == "labelled" else slice(LABELLED, N)
    engine.shake(alone)
    value, _ = net.accumulate(batch)
    only = replace(batch, x=batch.x[part], y=batch.y[part], labelled=None)
    expected, _ = alone.accumulate(only)
    assert float(value) / N == pytest.approx(float(expected) / len(only.x), rel=1e-12)
    for name, dW in engine.dW(alone).items():
        np.testing.assert_allclose(engine.dW(net)[name], dW, rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize(
    "losses", [{"cross_entropy": {}, "kl": {}}, {"cross_entropy": {}, "reconstruction": {}}], ids=str
)
@on_each
def test_a_step_at_once_is_accumulating_and_updating(engine, losses, on):
    """Where a layer learns twice from a batch, from two halves or on two ways, nothing may go straight into W."""
    for labels in (True, False):
        plain = {"norm": "none", "update": [{"rate": 0.1}]}
        one, two = (built("odd", on, losses=losses, labels=labels, defaults=plain) for _ in range(2))
        assert all(node.is_plain for node in one.nodes)
        for net in (one, two):
            batch, _, _ = drawn(engine, net, labels)
        for _ in range(2):
            one.step(batch)
            two.accumulate(batch)
            two.update()
        for name, W in engine.W(one).items():
            np.testing.assert_allclose(W, engine.W(two)[name], rtol=1e-12, atol=1e-14, err_msg=name)


@on_each
def test_the_other_sign_of_kl_and_another_prior(engine, plain, on):
    prior = [0.5, 0.3, 0.2]
    torch = plain.torch
    for sign, given in ((1, None), (1, prior), (-1, prior)):
        net = built("drmm", on, losses={"kl": {"sign": sign} | ({"prior": given} if given else {})})
        batch, x, y = drawn(engine, net)
        _, signals, arrays = restated(plain, engine, net, DRMM, x, y, normed=True, labelled=True)
        q = torch.softmax(signals["output"], -1)
        kl = sign * (q * torch.log(q / torch.tensor(given or [1 / 3] * 3, dtype=torch.float64))).sum(-1).mean()
        kl.backward()
        value, _ = net.accumulate(batch)
        assert float(value) / N == pytest.approx(kl.item(), rel=1e-10)
        assert value * sign > 0
        np.testing.assert_allclose(engine.dW(net)["out.W"], arrays["out.W"].grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sums_are_as_many_times_the_mean_as_there_are_elements(engine, reduction):
    losses = {name: {"reduction": reduction} for name in ("reconstruction", "nonnegativity")}
    net = built("odd", losses={**losses, "nonnegativity": {"layers": "c2", **losses["nonnegativity"]}})
    batch, _, _ = drawn(engine, net)
    net.accumulate(batch)
    sizes = {"reconstruction": 2 * 7 * 9, "nonnegativity": 4 * 5 * 6}
    if reduction == "mean":
        means = {name: float(net.terms[name]) for name in sizes}
        other = built("odd", losses={name: {**term, "reduction": "sum"} for name, term in net_losses(net).items()})
        engine.shake(other)
        other.accumulate(batch)
        for name, size in sizes.items():
            assert float(other.terms[name]) == pytest.approx(size * means[name], rel=1e-12)


def net_losses(net):
    layers = {"nonnegativity": {"layers": "c2"}}
    return {term.name: layers.get(term.name, {}) for term in net.loss.terms}


# -- what goes down --------------------------------------------------------------------------
@on_each
def test_the_very_same_arrays_lead_up_and_down(engine, on, monkeypatch):
    net = built("drmm", on, norm="none")
    batch, _, _ = drawn(engine, net)
    seen = {}
    for node in net.nodes:
        kind = type(node.map)
        seen[id(node.map)] = {"up": [], "down": [], "node": node}
    for kind in {type(node.map) for node in net.nodes}:
        for way in ("up", "down"):
            true = getattr(kind, way)

            def spied(self, x, W, *more, way=way, true=true):
                if id(self) in seen:
                    seen[id(self)][way].append(W)
                return true(self, x, W, *more)

            monkeypatch.setattr(kind, way, spied)
    net.evaluate(batch)
    for looks in seen.values():
        W = looks["node"].weights.W
        assert len(looks["up"]) == len(looks["down"]) == 1
        assert looks["up"][0] is W and looks["down"][0] is W


@on_each
def test_with_all_switches_open_a_rendering_is_plain_transposed_convolutions(engine, plain, on):
    """Positive weights and images: every unit is on; no pools. No bias, norm or gain has a part in it."""
    layers = [
        {"c1": {"conv": 3, "kernel": 3, "pad": "full"}},
        "relu",
        {"c2": {"conv": 2, "kernel": 3, "pad": "half"}},
        "affine",
        "relu",
        "flatten",
        {"out": {"dense": "classes"}},
    ]
    net = built((layers, (1, 5, 5)), on, norm="none", losses={"reconstruction": {}})
    rng = np.random.default_rng(0)
    for node in net.nodes:
        node.W[...] = net.xp.abs(node.W)
        node.bias.W[...] = 0.1
    batch = engine.batch(net, rng.random((4, 1, 5, 5)), np.zeros(4, int))
    signals, _ = net._up(batch, TEST)
    F, torch, W = plain.torch.nn.functional, plain.torch, engine.W(net)
    chosen = net.xp.host(signals["output"]).argmax(-1)
    z = torch.tensor(W["out.W"].T[chosen].reshape(4, 2, 7, 7))
    z = F.conv_transpose2d(z, torch.tensor(W["c2.W"]), padding=1)
    z = F.conv_transpose2d(z, torch.tensor(W["c1.W"]), padding=2)
    np.testing.assert_allclose(net.xp.host(signals["reconstruction"]), z, rtol=1e-12)


@pytest.mark.parametrize("named", NETS)
@on_each
def test_templates_have_their_layers_shape_and_are_not_masked(engine, plain, named, on):
    net = built(named, on)
    batch, x, y = drawn(engine, net, False)
    with net.xp.scope():
        signals, _ = net._up(batch, At())
    _, expected, _ = restated(plain, engine, net, NETS[named][0], x, y, normed=True, labelled=False)
    names = {f"{node.name}.template" for node in net.nodes}
    assert names <= set(signals) <= net.pass_.provides
    for node in net.nodes:
        template = net.xp.host(signals[f"{node.name}.template"])
        assert template.shape == (N, *node.map.output) == (N, *net.pass_.shapes[f"{node.name}.template"])
        np.testing.assert_allclose(template, expected[node.name].detach(), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(
        net.xp.host(signals["reconstruction"]), expected["reconstruction"].detach(), rtol=1e-10, atol=1e-13
    )
    assert signals["image"] is batch.x


def test_nonnegativity_is_zero_exactly_where_no_template_is_negative(engine):
    net = built("drmm", norm="none", losses={"nonnegativity": {}})
    batch, _, _ = drawn(engine, net)
    for node in net.nodes:
        node.W[...] = np.abs(node.W)
    assert float(net.evaluate(batch)[0]) == 0.0
    net.nodes[2].W[:, 0] = -0.01  # c3: what it renders down to the first unit of c2
    assert float(net.evaluate(batch)[0]) > 0.0


@on_each
def test_dropout_hides_inputs_going_up_and_nothing_going_down(engine, plain, on):
    layers = [{"h": {"dense": 7}}, "relu", {"dropout": 0.5}, {"out": {"dense": "classes"}}]
    net = built((layers, (5,)), on, norm="none", losses={"reconstruction": {}})
    batch, x, _ = drawn(engine, net)
    with net.xp.scope():
        signals, (tape, _) = net.pass_.forward(batch, At(render=True))
        mask = next(c for unit, c in zip(net.pass_.root.units, tape, strict=True) if hasattr(unit, "p"))
    W, h = engine.W(net), net.xp.host(mask)
    hidden = np.maximum(x @ W["h.W"] + W["h.b"], 0)
    output = (hidden * h) @ W["out.W"] + W["out.b"]
    np.testing.assert_allclose(net.xp.host(signals["output"]), output, rtol=1e-12)
    expected = (W["out.W"].T[output.argmax(-1)] * (hidden > 0)) @ W["h.W"].T
    np.testing.assert_allclose(net.xp.host(signals["reconstruction"]), expected, rtol=1e-12)


@on_each
def test_the_two_halves_are_visits_of_their_own(engine, on, monkeypatch):
    """Different inputs are missing in each, and each is normalized by its own statistics."""
    layers = [{"h": {"dense": 40}}, "norm", "relu", {"dropout": 0.5}, {"out": {"dense": "classes"}}]
    net = built((layers, (5,)), on, losses={"kl": {}})
    batch, x, _ = drawn(engine, net)
    batch = replace(batch, x=net.xp.array(np.tile(x[:1], (N, 1)) + 1e-3 * x), labelled=N // 2)
    masks, true = [], net.pass_.root.units[4]
    assert hasattr(true, "p")
    forward = type(true).forward

    def spied(unit, y, at):
        out, mask = forward(unit, y, at)
        masks.append((net.xp.host(y), net.xp.host(mask)))
        return out, mask

    monkeypatch.setattr(type(true), "forward", spied)
    net.accumulate(batch)
    (first, one), (second, two) = masks
    assert (one != two).any()
    for y, part in ((first, slice(N // 2)), (second, slice(N // 2, N))):
        n = net.xp.host(batch.x)[part] @ engine.W(net)["h.W"]
        z = (n - n.mean(0)) / np.sqrt(n.var(0) + 1e-5)
        gain, bias = (engine.W(net)[f"h.{name}"] for name in ("gain", "bias"))
        np.testing.assert_allclose(y, np.maximum(z * gain + bias, 0.0), rtol=1e-6, atol=1e-9)


@on_each
def test_neurons_that_do_not_exist_render_nothing(engine, on):
    """Pruned units have no part in what goes up or down: their weights learn nothing on either way."""
    net = built("drmm", on, norm="none", labels=False, losses={"reconstruction": {}, "kl": {}, "nonnegativity": {}})
    batch, _, _ = drawn(engine, net, False)
    tap = next(tap for tap in net.taps if tap.node.name == "c2")
    tap.mask = net.xp.zeros((1, *tap.node.map.output)) + 1.0
    tap.mask[:, 1] = 0.0
    net.accumulate(batch)
    dW = engine.dW(net)["c2.W"]
    assert not dW[1].any() and all(np.abs(dW[k]).max() > 0 for k in (0, 2, 3, 4))
    found = net.xp.host(net._up(batch, At(track=False))[0]["reconstruction"])
    tap.node.W[1] += 1.0
    np.testing.assert_array_equal(net.xp.host(net._up(batch, At(track=False))[0]["reconstruction"]), found)
    tap.mask = None
    assert (net.xp.host(net._up(batch, At(track=False))[0]["reconstruction"]) != found).any()


@on_each
def test_what_rendered_for_neurons_that_do_not_exist_learns_nothing(engine, on):
    """They hear no error of a rendering either: weights above that reach them alone stay as they are."""
    net = built("drmm", on, norm="none", labels=False, losses={"reconstruction": {}})
    batch, _, _ = drawn(engine, net, False)
    tap = next(tap for tap in net.taps if tap.node.name == "c2")
    tap.mask = net.xp.zeros((1, *tap.node.map.output)) + 1.0
    tap.mask[:, 1] = 0.0
    net.accumulate(batch)
    dW = engine.dW(net)["c3.W"]
    assert not dW[:, 1].any() and all(np.abs(dW[:, k]).max() > 0 for k in (0, 2, 3, 4))


# -- which class is rendered -----------------------------------------------------------------
@on_each
def test_labels_are_rendered_where_there_are_any(engine, on, monkeypatch):
    net = built("drmm", on, order={"topdown_class": "label"})
    batch, _, y = drawn(engine, net)
    rendered, true = [], type(net.pass_.root).render

    def render(root, z, *more):
        rendered.append(net.xp.host(z).argmax(1).tolist())
        return true(root, z, *more)

    monkeypatch.setattr(type(net.pass_.root), "render", render)
    net.accumulate(batch)
    assert rendered[0] == y[:LABELLED].tolist()
    with net.xp.scope():
        output = net.pass_.forward(replace(batch, x=batch.x[LABELLED:], labelled=0), At(visit=1, track=False))[0][
            "output"
        ]
    assert rendered[1] == net.xp.host(output).argmax(1).tolist()
    rendered.clear()
    whole = replace(batch, labelled=None)
    net.accumulate(whole)
    assert rendered == [y.tolist()]
    rendered.clear()
    net.evaluate(whole)
    assert rendered == [net.xp.host(net.predict(batch.x)).argmax(1).tolist()]


@on_each
def test_a_class_is_drawn_as_often_as_it_is_probable(engine, on):
    net = built("drmm", on, order={"topdown_class": "sample"})
    q = np.array([0.6, 0.3, 0.1])
    output = net.xp.array(np.log(np.tile(q, (4000, 1))) + 5.0)
    batch, _, _ = drawn(engine, net)
    counts = np.bincount(net.xp.host(net.pass_.chosen(output, batch, At(batch=3))), minlength=3)
    assert np.all(np.abs(counts / 4000 - q) < 4 * np.sqrt(q * (1 - q) / 4000))
    again = net.xp.host(net.pass_.chosen(output, batch, At(batch=3)))
    other = net.xp.host(net.pass_.chosen(output, batch, At(batch=4)))
    np.testing.assert_array_equal(np.bincount(again, minlength=3), counts)
    assert (again != other).any()
    half = net.xp.host(net.pass_.chosen(output, batch, At(batch=3, visit=1)))
    assert (again != half).any()  # the unlabelled half of a batch draws for itself
    assert set(net.xp.host(net.pass_.chosen(output, batch, TEST)).tolist()) == {0}


# -- what is not computed --------------------------------------------------------------------
@on_each
def test_nothing_is_rendered_that_nobody_looks_at(engine, on, monkeypatch):
    for losses, trains, tests in (
        ({"cross_entropy": {}}, 0, 0),
        ({"reconstruction": {}}, 1, 1),
        ({"nonnegativity": {"layers": "c2"}}, 1, 1),
    ):
        net = built("drmm", on, losses=losses)
        batch, _, _ = drawn(engine, net)
        root, counted = net.pass_.root, []
        true = type(root).render

        def render(self, *given, root=root, counted=counted, true=true):
            counted.append(self is root)
            return true(self, *given)

        monkeypatch.setattr(type(root), "render", render)
        net.accumulate(replace(batch, labelled=None))
        assert sum(counted) == trains
        net.evaluate(batch)
        assert sum(counted) == trains + tests
        net.predict(batch.x)
        net.collect(batch)
        assert sum(counted) == trains + tests
        monkeypatch.setattr(type(root), "render", true)


@on_each
def test_errors_of_a_rendering_stop_where_nobody_above_learns(engine, on, monkeypatch):
    net = built(
        "drmm", on, layers={"c2": {"plasticity": "none"}, "c3": {"plasticity": "none"}, "out": {"plasticity": "none"}}
    )
    heard = {node.name: node.heard for node in net.nodes}
    assert heard == {"c1": False, "c2": False, "c3": False, "out": False}
    net = built("drmm", on, layers={"c3": {"plasticity": "none"}, "out": {"plasticity": "none"}})
    assert {node.name: node.heard for node in net.nodes} == {"c1": True, "c2": False, "c3": False, "out": False}


def test_testing_scores_all_samples_and_leaves_no_trace(engine):
    net = built("drmm")
    batch, _, _ = drawn(engine, net)
    net.accumulate(batch)
    before = engine.state(net)
    value, wrong = net.evaluate(replace(batch, labelled=None))
    assert np.isfinite(float(value)) and float(wrong) == int(wrong)
    after = engine.state(net)
    assert all(np.array_equal(before[name], after[name]) for name in before)


# -- what is refused -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([{"h": {"dense": 4}}, "tanh", {"out": {"dense": "classes"}}], "tanh"),
        (
            [{"c": {"conv": 2, "kernel": 3}}, {"maxpool": {"size": 3, "stride": 2}}, "flatten", {"out": {"dense": 3}}],
            "maxpool",
        ),
        (
            [{"c": {"conv": 2, "kernel": 3}}, {"avgpool": {"size": 2, "pad": 1}}, "flatten", {"out": {"dense": 3}}],
            "avgpool",
        ),
        ([{"r": {"residual": ["tanh"]}}, "flatten", {"out": {"dense": 3}}], "tanh"),
        ([{"c": {"conv": 2, "kernel": 3}}], "number per class"),
    ],
    ids=["tanh", "meeting", "padded", "inside", "maps"],
)
def test_a_network_that_cannot_be_rendered_is_refused_in_one_line(layers, said):
    shape = (4,) if "dense" in str(layers[0]) else (1, 6, 6)
    with pytest.raises(ShapeError) as refused:
        built((layers, shape), losses={})
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_signed_way_up_has_no_batch_statistics():
    layers = [{"h": {"dense": 4}}, "norm", "relu", {"out": {"dense": "classes"}}]
    with pytest.raises(
        ConfigError, match=r"pass.*: inference goes up twice, and batch statistics of layer 'h' would be"
    ):
        built((layers, (4,)), defaults={"norm": "batch", "update": SGD}, losses={}, order={"signed": True})
    assert built((layers, (4,)), defaults={"norm": "layer", "update": SGD}, losses={}, order={"signed": True}).norms


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"losses": {"kl": {"weight": -0.1}}}, "losses.kl.weight: given -0.1, wanted a number of at least 0"),
        ({"losses": {"kl": {"on": "some"}}}, "losses.kl.on: given 'some', wanted labelled or unlabelled or both"),
        ({"losses": {"kl": {"sign": 2}}}, "sign"),
        ({"losses": {"kl": {"prior": [0.5, 0.6, 0.1]}}}, "add up to 1"),
        ({"losses": {"kl": {"prior": [0.5, 0.5]}}}, "2 shares, the network 3 classes"),
        ({"losses": {"kl": {"on": "unlabelled"}}, "data": {}}, "all samples have labels"),
        ({"losses": {"cross_entropy": {"on": "both"}}}, "looks at labels"),
        ({"losses": {"nonnegativity": {"layers": "d*"}}}, "no signal 'd*.template'"),
    ],
)
def test_wrong_losses_are_refused_in_one_line(rule, said):
    with pytest.raises(UserError) as refused:
        built("drmm", **{"losses": LOSSES, **rule})
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("needs", ["reconstruction", "nonnegativity", "drmm"])
def test_what_is_rendered_needs_a_pass_that_renders(engine, needs):
    rule = {"defaults": {"plasticity": "drmm"}} if needs == "drmm" else {"losses": {needs: {}}}
    with pytest.raises(UserError, match="pass: generative") as refused:
        engine.net([{"h": {"dense": 4}}, "relu", {"out": {"dense": 3}}], (5,), **rule)
    assert "\n" not in str(refused.value)


def test_every_layer_of_a_chain_is_walked(engine):
    net = built("residual")
    assert {unit.name for unit in walk(net.pass_) if isinstance(unit, Node)} == {node.name for node in net.nodes}
