"""With V = W the explicit way back is the gradient: for every layer there is, and for both losses."""

from __future__ import annotations

import numpy as np
import pytest

from bioplaus.layers.dropout import DropoutUnit
from bioplaus.parts import At

CONV = {"c": {"conv": 4, "kernel": 3, "pad": "half"}}
OUT = {"out": {"dense": "classes"}}
TAIL = ["flatten", OUT]
IMAGE, WIDE = (2, 6, 5), (2, 7, 8)

NETS = {
    "dense": ([{"h": {"dense": 5}}, "relu", OUT], (7,)),
    "dense-tanh": ([{"h": {"dense": 5}}, "tanh", {"g": {"dense": 4}}, "identity", OUT], (7,)),
    "relu-first": (["relu", {"h": {"dense": 5}}, "relu", OUT], (7,)),
    "relu-last": ([{"h": {"dense": 5}}, "tanh", OUT, "relu"], (7,)),
    "tanh-last": ([{"h": {"dense": 5}}, "relu", OUT, "tanh"], (7,)),
    "conv": ([CONV, "relu", *TAIL], IMAGE),
    "conv-full": ([{"c": {"conv": 3, "kernel": [2, 3], "pad": "full"}}, "relu", *TAIL], IMAGE),
    "conv-stride": ([CONV, "relu", {"d": {"conv": 3, "kernel": 3, "stride": 2, "pad": 1}}, "relu", *TAIL], WIDE),
    "conv-strides": ([{"c": {"conv": 3, "kernel": [3, 2], "stride": [3, 2]}}, "tanh", *TAIL], WIDE),
    "conv-one-sided": (
        [CONV, "relu", {"d": {"conv": 3, "kernel": 3, "stride": 2, "pad": [0, 1, 0, 1]}}, "relu", *TAIL],
        WIDE,
    ),
    "conv-other-side": ([CONV, "tanh", {"d": {"conv": 3, "kernel": 3, "pad": [2, 0, 1, 0]}}, "relu", *TAIL], IMAGE),
    "conv-1x1": ([CONV, "relu", {"d": {"conv": 3, "kernel": 1, "stride": 2}}, "relu", *TAIL], IMAGE),
    "transposed": ([CONV, "relu", {"t": {"conv_transposed": 3, "kernel": 3}}, "tanh", *TAIL], (2, 4, 3)),
    "transposed-stride": (
        [CONV, "relu", {"t": {"conv_transposed": 3, "kernel": 3, "stride": 2, "pad": 1, "extra": 1}}, "relu", *TAIL],
        (2, 4, 3),
    ),
    "transposed-one-sided": (
        [
            CONV,
            "relu",
            {"t": {"conv_transposed": 2, "kernel": 3, "stride": [2, 3], "pad": [1, 0, 0, 2]}},
            "relu",
            *TAIL,
        ],
        (2, 3, 4),
    ),
    "embedding": ([{"e": {"embedding": 5, "words": 6}}, "tanh", OUT], ()),
    "maxpool": ([CONV, "relu", {"maxpool": 2}, *TAIL], IMAGE),
    "maxpool-overlap": ([CONV, "tanh", {"maxpool": {"size": 3, "stride": 2, "pad": [0, 1, 0, 1]}}, *TAIL], WIDE),
    "maxpool-padded": ([CONV, "tanh", {"maxpool": {"size": 3, "stride": 2, "pad": 1}}, *TAIL], WIDE),
    "avgpool": ([CONV, "relu", {"avgpool": 2}, *TAIL], IMAGE),
    "avgpool-overlap": ([CONV, "tanh", {"avgpool": {"size": 3, "stride": 2, "pad": [0, 1, 0, 1]}}, *TAIL], WIDE),
    "avgpool-padded": ([CONV, "tanh", {"avgpool": {"size": 3, "stride": 2, "pad": [1, 1, 2, 0]}}, *TAIL], WIDE),
    "global": ([CONV, "tanh", "globalmeanpool", OUT], IMAGE),
    "affine": ([CONV, "affine", "relu", "flatten", {"h": {"dense": 4}}, "affine", "tanh", OUT], IMAGE),
    "affine-last": ([{"h": {"dense": 4}}, "relu", OUT, "affine"], (7,)),
    "norm": ([CONV, "norm", "relu", "flatten", {"h": {"dense": 4}}, "norm", "tanh", OUT], IMAGE),
    "norm-affine": ([CONV, "norm", "relu", "flatten", {"h": {"dense": 4}}, "norm", "relu", OUT], IMAGE),
    "norm-late": ([CONV, "relu", "norm", {"d": {"conv": 3, "kernel": 2}}, "norm", "relu", *TAIL], IMAGE),
    "residual": (
        [CONV, "relu", {"r": {"residual": [{"c": {"conv": 4, "kernel": 3, "pad": 1}}, "relu"]}}, "relu", *TAIL],
        IMAGE,
    ),
    "residual-shortcut": (
        [
            CONV,
            "relu",
            {
                "r": {
                    "residual": [
                        {"a": {"conv": 3, "kernel": 3, "pad": 1}},
                        "norm",
                        "relu",
                        {"b": {"conv": 5, "kernel": 1}},
                        "norm",
                    ],
                    "shortcut": [{"s": {"conv": 5, "kernel": 1}}, "norm"],
                }
            },
            "relu",
            *TAIL,
        ],
        IMAGE,
    ),
    "residual-of-inputs": (
        [{"r": {"residual": ["relu", {"h": {"dense": 7}}, "tanh"]}}, {"r2": {"residual": ["tanh"]}}, OUT],
        (7,),
    ),
    "residual-empty": (
        [{"h": {"dense": 5}}, {"r": {"residual": [], "shortcut": ["relu"]}}, {"r2": {"residual": []}}, "relu", OUT],
        (7,),
    ),
    "residual-in-residual": (
        [
            {
                "r": {
                    "residual": [
                        {"h": {"dense": 7}},
                        "relu",
                        {"q": {"residual": [{"g": {"dense": 7}}, "tanh"]}},
                        "relu",
                    ]
                }
            },
            "relu",
            OUT,
        ],
        (7,),
    ),
    "residual-around-a-gate": (  # the inner shortcut writes into the error that the outer one needs
        [
            {"h": {"dense": 5}},
            {"r": {"residual": [{"q": {"residual": [{"g": {"dense": 5}}], "shortcut": ["relu"]}}]}},
            OUT,
        ],
        (7,),
    ),
    "dropout": (
        [{"h": {"dense": 9}}, "relu", {"dropout": 0.4}, {"g": {"dense": 6}}, "tanh", {"dropout": 0.2}, OUT],
        (7,),
    ),
    "dropout-on-maps": (
        [CONV, "relu", {"dropout": 0.5}, {"d": {"conv": 3, "kernel": 2}}, "relu", {"dropout": 0.3}, *TAIL],
        IMAGE,
    ),
}
RULES = {
    "norm": {"norm": "batch"},
    "norm-affine": {"norm": {"recipe": "batch", "affine": True}},
    "norm-late": {"norm": "batch"},
    "residual-shortcut": {"norm": {"recipe": "batch", "affine": True}},
}
LOSSES = [("softmax_cross_entropy", None), ("squared_error", (1.0, 0.0, 2.5, 1.0, 0.3))]
by_net = pytest.mark.parametrize("named", NETS)
by_loss = pytest.mark.parametrize(("loss", "weight"), LOSSES, ids=["softmax", "squared-weighted"])
N = 5


def built(engine, named, on, loss, weight, rng):
    layers, shape = NETS[named]
    net = engine.net(layers, shape, on=on, loss=loss, defaults=RULES.get(named, {}))
    engine.shake(net)
    x = rng.standard_normal((N, *shape)) if shape else rng.integers(0, 6, N)
    y = rng.integers(0, 3, N)
    return net, layers, engine.batch(net, x, y, weight), x, y


def dropout_masks(net, batch):
    """The masks that the first batch meets, read back from the tape."""
    with net.xp.scope():
        tape = net.pass_.forward(batch, At(batch=0))[1]
    pairs = zip(net.pass_.root.units, tape, strict=True)
    return [net.xp.host(mask) for unit, mask in pairs if isinstance(unit, DropoutUnit)]


@by_net
@by_loss
@pytest.mark.parametrize("on", ["numpy", "torch"])
def test_what_accumulates_is_what_autograd_says(engine, plain, named, loss, weight, on, rng):
    net, layers, batch, x, y = built(engine, named, on, loss, weight, rng)
    masks = [plain.torch.tensor(mask) for mask in dropout_masks(net, batch)]
    normed = bool(RULES.get(named))
    forward, arrays = plain.restated(net, engine, layers, normed=normed, masks=masks)
    given = plain.torch.tensor(x, requires_grad=x.dtype.kind == "f")
    expected_loss = plain.score(loss, forward(given), y, weight)
    expected_loss.backward()

    value, _ = net.accumulate(batch)
    assert float(value) == pytest.approx(expected_loss.item(), rel=1e-12)
    dW = engine.dW(net)
    assert set(dW) == set(arrays)
    for name, found in dW.items():
        np.testing.assert_allclose(found, arrays[name].grad, rtol=1e-9, atol=1e-11, err_msg=name)

    net.pass_.root.wire(True)  # now the input itself listens
    with net.xp.scope():
        signals, tape = net.pass_.forward(batch, At(batch=0))
        top = net.loss.error(net.xp, signals, batch)[1]["output"]
        dx = net.pass_.root.back(top, tape, top, lambda unit, local: None)
    if x.dtype.kind == "f":
        np.testing.assert_allclose(net.xp.host(dx), given.grad, rtol=1e-9, atol=1e-11)
    else:
        assert dx is None


@by_net
@by_loss
def test_what_accumulates_is_the_slope_of_the_loss(engine, named, loss, weight, rng):
    """Central differences in random directions, without PyTorch."""
    net, _, batch, _, _ = built(engine, named, "numpy", loss, weight, rng)
    net.accumulate(batch)

    def score():
        with net.xp.scope():
            return float(net.loss.error(net.xp, net.pass_.forward(batch, At(batch=0))[0], batch)[0])

    for parameter in net.parameters():
        step = rng.standard_normal(parameter.W.shape)
        step *= 1e-6 / np.abs(step).max()
        slope = float((parameter.dW * step).sum())
        parameter.W += step
        above = score()
        parameter.W -= 2 * step
        below = score()
        parameter.W += step
        assert slope == pytest.approx((above - below) / 2, rel=2e-5, abs=2e-13 * N), parameter.name


@pytest.mark.parametrize("on", ["numpy", "torch"])
@pytest.mark.parametrize("weight", [None, (1.0, 0.0, 2.5, 1.0, 0.3)], ids=["alike", "weighted"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "squared_error", "targets"])
def test_a_loss_its_error_and_its_count_of_wrong_samples_by_loops(engine, loss, weight, on, rng):
    net = engine.net([OUT], (4,), on=on, loss="squared_error" if loss == "targets" else loss)
    output, labels = 3 * rng.standard_normal((N, 3)), rng.integers(0, 3, N)
    y = rng.standard_normal((N, 3)) if loss == "targets" else labels
    w = weight or (1.0,) * N
    target = y if loss == "targets" else np.eye(3)[labels]
    value, wrong, error = 0.0, 0.0, np.zeros((N, 3))
    for n in range(N):
        if loss == "softmax_cross_entropy":
            p = np.exp(output[n]) / sum(np.exp(output[n][k]) for k in range(3))
            value -= w[n] * np.log(p[labels[n]])
            error[n] = w[n] * (p - target[n])
        else:
            value += w[n] * sum((output[n][k] - target[n][k]) ** 2 for k in range(3)) / 2
            error[n] = w[n] * (output[n] - target[n])
        wrong += w[n] * (np.argmax(output[n]) != np.argmax(target[n]))
    batch = engine.batch(net, np.zeros((N, 4)), y, weight)
    signals = {"output": net.xp.array(output)}
    found, errors = net.loss.error(net.xp, signals, batch)
    assert float(found) == pytest.approx(value, rel=1e-13)
    counted = float(net.loss.wrong(net.xp, signals, batch))
    assert np.isnan(counted) if loss == "targets" else counted == pytest.approx(wrong, rel=1e-13)
    np.testing.assert_allclose(net.xp.host(errors["output"]), error, rtol=1e-12, atol=1e-14)


def test_a_softmax_of_large_outputs_stays_finite(engine):
    net = engine.net([OUT], (4,))
    batch = engine.batch(net, np.zeros((2, 4)), np.array([0, 1]))
    value, errors = net.loss.error(net.xp, {"output": np.array([[1e4, 0.0, -1e4], [1e4, 0.0, -1e4]])}, batch)
    assert float(value) == pytest.approx(1e4)
    np.testing.assert_allclose(errors["output"], [[0, 0, 0], [1, -1, 0]], atol=1e-300)


@pytest.mark.parametrize("on", ["numpy", "torch"])
@pytest.mark.parametrize("named", ["relu-first", "relu-last", "residual-of-inputs", "affine-last", "dropout-on-maps"])
def test_a_step_leaves_the_batch_as_it_was(engine, named, on, rng):
    """Some activations overwrite their input, but never one that is not theirs."""
    net, _, batch, x, _ = built(engine, named, on, "softmax_cross_entropy", None, rng)
    net.accumulate(batch)
    np.testing.assert_array_equal(net.xp.host(batch.x), x)
