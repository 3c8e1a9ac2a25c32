"""The networks of a network file written once more in plain PyTorch, so that autograd can say what is true.

It shares nothing with the package but the list of layers and the names of the arrays.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

torch.set_num_threads(1)  # small arrays: more threads only wait for one another


class ThroughV(torch.autograd.Function):
    """n = op(x, W), whose error at x goes back through V; or, with a top, is top @ V (direct feedback)."""

    @staticmethod
    def forward(ctx, x, W, V, op, top):
        ctx.save_for_backward(x, W, V)
        ctx.op, ctx.top = op, top
        return op(x, W)

    @staticmethod
    def backward(ctx, dn):
        x, W, V = ctx.saved_tensors
        with torch.enable_grad():
            W = W.detach().requires_grad_()
            (dW,) = torch.autograd.grad(ctx.op(x.detach(), W), W, dn)
            if ctx.top is not None:
                return (ctx.top @ V).reshape(x.shape), dW, None, None, None
            x = x.detach().requires_grad_()
            (dx,) = torch.autograd.grad(ctx.op(x, V), x, dn)
        return dx, dW, None, None, None


class Plain:
    """A network: ``layers`` as written, ``arrays`` by name, what the rule adds.

    V by layer name replaces the way back of that layer; masks by place are those of dropout, in order.
    """

    def __init__(self, layers, arrays, *, classes, normed=False, V=None, top=None, masks=()):
        self.layers, self.arrays, self.classes, self.normed = layers, arrays, classes, normed
        self.V, self.top, self.masks = V or {}, top, list(masks)

    def __call__(self, x):
        return self.chain(self.layers, x, "")

    def chain(self, layers, x, prefix):
        owner = None
        for entry in layers:
            key, value = next(iter(entry.items())) if isinstance(entry, dict) else (entry, None)
            if isinstance(value, dict) and next(iter(value)) in ("dense", "conv", "conv_transposed", "embedding"):
                owner = prefix + key
                x = self.weighted(owner, value, x)
            elif isinstance(value, dict) and "residual" in value:
                inside = f"{prefix}{key}."
                x = self.chain(value["residual"], x, inside) + self.chain(value.get("shortcut", []), x, inside)
            elif key == "norm":
                x = self.standardized(x) if self.normed else x
                if self.normed and f"{owner}.gain" in self.arrays:
                    x = x * self.arrays[f"{owner}.gain"] + self.arrays[f"{owner}.bias"]
            elif key == "affine":
                x = x * self.arrays[f"{owner}.gain"] + self.arrays[f"{owner}.bias"]
            else:
                x = self.plain(key, value, x)
        return x

    def weighted(self, name, value, x):
        W, b = self.arrays[f"{name}.W"], self.arrays.get(f"{name}.b")
        op = {"dense": dense, "conv": conv, "conv_transposed": conv_transposed, "embedding": rows}[next(iter(value))](
            value
        )
        n = ThroughV.apply(x, W, self.V[name], op, self.top.get(name)) if name in self.V else op(x, W)
        return n if b is None else n + b

    def plain(self, kind, value, x):
        if kind == "dropout":
            return x * self.masks.pop(0)
        if kind in ("maxpool", "avgpool"):
            return pooled(kind, value if isinstance(value, dict) else {"size": value}, x)
        return {
            "relu": F.relu,
            "tanh": torch.tanh,
            "identity": lambda x: x,
            "flatten": lambda x: x.flatten(1),
            "globalmeanpool": lambda x: x.mean((2, 3)),
        }[kind](x)

    @staticmethod
    def standardized(x, eps=1e-5):
        axes = (0, 2, 3) if x.ndim == 4 else (0,)
        mean = x.mean(axes, keepdim=True)
        return (x - mean) / torch.sqrt(((x - mean) ** 2).mean(axes, keepdim=True) + eps)


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def sides(pad, kernel):
    """(top, bottom, left, right)."""
    (kh, kw) = kernel
    named = {
        "valid": (0, 0, 0, 0),
        "half": (kh // 2, kh // 2, kw // 2, kw // 2),
        "full": (kh - 1, kh - 1, kw - 1, kw - 1),
    }
    return named[pad] if isinstance(pad, str) else (pad,) * 4 if isinstance(pad, int) else tuple(pad)


def padded(x, pad, value=0.0):
    top, bottom, left, right = pad
    return F.pad(x, (left, right, top, bottom), value=value)


def dense(value):
    return lambda x, W: x @ W


def rows(value):
    return lambda x, W: W[x]


def conv(value):
    kernel, stride = pair(value["kernel"]), pair(value.get("stride", 1))
    pad = sides(value.get("pad", "valid"), kernel)
    return lambda x, W: F.conv2d(padded(x, pad), W, stride=stride)


def conv_transposed(value):
    kernel, stride, extra = pair(value["kernel"]), pair(value.get("stride", 1)), value.get("extra", 0)
    top, bottom, left, right = sides(value.get("pad", "valid"), kernel)

    def op(x, W):
        whole = padded(F.conv_transpose2d(x, W, stride=stride), (0, extra, 0, extra))
        return whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]

    return op


def pooled(kind, value, x):
    size, stride = value["size"], value.get("stride") or value["size"]
    pad = sides(value.get("pad", 0), (size, size))
    if kind == "maxpool":
        return F.max_pool2d(padded(x, pad, -torch.inf), size, stride)
    inside = F.avg_pool2d(padded(torch.ones_like(x[:1, :1]), pad), size, stride)
    return F.avg_pool2d(padded(x, pad), size, stride) / inside


def score(loss, output, y, weight=None):
    """The loss summed over samples, from its definition."""
    weight = torch.tensor([1.0] * len(output) if weight is None else weight, dtype=output.dtype)
    if loss == "softmax_cross_entropy":
        return -(weight * torch.log_softmax(output, -1)[torch.arange(len(y)), torch.as_tensor(y)]).sum()
    target = torch.as_tensor(y)
    target = F.one_hot(target, output.shape[-1]).to(output.dtype) if target.ndim == 1 else target
    return 0.5 * (weight[:, None] * (output - target) ** 2).sum()


def restated(net, engine, layers, *, classes=3, normed=False, V=None, top=None, masks=()):
    """(Plain, its leaf arrays by name) with a copy of a network's arrays."""
    arrays = {name: torch.tensor(value, requires_grad=True) for name, value in engine.W(net).items()}
    V = {name: torch.tensor(value) for name, value in (V or {}).items()}
    return Plain(layers, arrays, classes=classes, normed=normed, V=V, top=top or {}, masks=masks), arrays
