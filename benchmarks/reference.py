"""The networks as a PyTorch user writes them.

One-sided pooling (one row and column at the bottom and right) is ``ceil_mode`` there; the mean counts in-image
elements only. A convolution or linear layer before a batch norm has no bias. The GRU with a norm on every product is a
loop over time: PyTorch's own has no place for one. The rendering mixture model is one pass up and one down.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def lenet(norm: str | None) -> nn.Module:
    """LeNet, 1 x 28 x 28."""
    return nn.Sequential(
        *_conv(1, 20, 5, 0, norm),
        nn.MaxPool2d(2),
        *_conv(20, 50, 5, 0, norm),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *_dense(800, 500, norm),
        nn.Linear(500, 10),
    )


def cifar_net(norm: str | None) -> nn.Module:
    """The CIFAR net of Liao (2017), 3 x 32 x 32."""
    return nn.Sequential(
        *_conv(3, 32, 5, 2, norm),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        *_conv(32, 64, 5, 2, norm),
        nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False),
        *_conv(64, 64, 5, 2, norm),
        nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False),
        nn.Flatten(),
        *_dense(1024, 128, norm),
        nn.Linear(128, 10),
    )


def mlp(norm: str | None) -> nn.Module:
    """784-512-256-10."""
    return nn.Sequential(nn.Flatten(), *_dense(784, 512, norm), *_dense(512, 256, norm), nn.Linear(256, 10))


def resnet20(norm: str | None) -> nn.Module:
    """ResNet-20 with projection shortcuts, 3 x 32 x 32."""
    return nn.Sequential(
        *_conv(3, 16, 3, 1, norm),
        *(_Block(16, 16, 1, norm) for _ in range(3)),
        _Block(16, 32, 2, norm),
        *(_Block(32, 32, 1, norm) for _ in range(2)),
        _Block(32, 64, 2, norm),
        *(_Block(64, 64, 1, norm) for _ in range(2)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


class _Block(nn.Module):
    def __init__(self, channels: int, filters: int, stride: int, norm: str | None) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride, 1, bias=norm is None),
            *_norm2d(filters, norm),
            nn.ReLU(inplace=True),
            nn.Conv2d(filters, filters, 3, 1, 1, bias=norm is None),
            *_norm2d(filters, norm),
        )
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=norm is None), *_norm2d(filters, norm)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.branch(x) + self.shortcut(x))
        return out


def _conv(channels: int, filters: int, kernel: int, pad: int, norm: str | None) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, filters, kernel, padding=pad, bias=norm is None)
    return [convolution, *_norm2d(filters, norm), nn.ReLU(inplace=True)]


def _dense(inputs: int, units: int, norm: str | None) -> list[nn.Module]:
    site = [] if norm is None else [nn.BatchNorm1d(units, affine=norm == "affine")]
    return [nn.Linear(inputs, units, bias=norm is None), *site, nn.ReLU(inplace=True)]


def _norm2d(filters: int, norm: str | None) -> list[nn.Module]:
    return [] if norm is None else [nn.BatchNorm2d(filters, affine=norm == "affine")]


class Drmm(nn.Module):
    """The deep rendering mixture model of 5 layers, 1 x 28 x 28, and its variational loss with nonnegative templates.

    Up as a convnet, down from the class inferred through the switches of the way up: who won each pool, which units are
    on. The labelled and the unlabelled half have batch statistics of their own.
    """

    spreads = True  # a template is laid all over its pools before it is scored

    def __init__(self, norm: str | None) -> None:
        super().__init__()
        sizes = ((1, 32, 5, 4), (32, 64, 3, 0), (64, 64, 3, 2), (64, 128, 3, 0), (128, 10, 1, 0))
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, k, padding=pad, bias=False) for i, o, k, pad in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in sizes)
        self.softmax = nn.Linear(10, 10)
        self.pooled = (True, False, True, False, False)

    def loss(self, x: Tensor, y: Tensor, labelled: int) -> Tensor:
        """H(labels) + 1/2 L_RC - 1/5 L_KL + L_NN, each the mean over the samples it is on."""
        entropy, with_labels = self.scored(x[:labelled], y[:labelled])
        _, without = self.scored(x[labelled:], y[labelled:])
        return entropy / labelled + (with_labels + without) / len(x)

    def scored(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(cross-entropy, everything else), summed over the samples."""
        h, switches = x, []
        for convolution, norm, pooled in zip(self.convolutions, self.norms, self.pooled, strict=True):
            h, places = F.relu(norm(convolution(h)), inplace=True), None
            on = h > 0
            if pooled:
                h, places = F.max_pool2d(h, 2, return_indices=True)
            switches.append((on, places))
        logits = self.softmax(h.mean((2, 3)))
        log_q = torch.log_softmax(logits, -1)
        rest = -0.2 * (log_q.exp() * log_q).sum()  # up to a constant: the prior is uniform

        z = F.one_hot(logits.argmax(-1), 10).to(x.dtype) @ self.softmax.weight
        z = z[:, :, None, None].expand(h.shape)
        for convolution, (on, places) in zip(reversed(self.convolutions), reversed(switches), strict=True):
            template = F.interpolate(z, scale_factor=2) if places is not None and self.spreads else z
            rest = rest + F.relu(-template).square().mean((1, 2, 3)).sum()
            z = z if places is None else F.max_unpool2d(z, places, 2)
            z = F.conv_transpose2d(z * on, convolution.weight, padding=convolution.padding)
        rest = rest + 0.5 * (z - x).square().mean((1, 2, 3)).sum()
        return F.nll_loss(log_q, y, reduction="sum"), rest


class TunedDrmm(Drmm):
    """The same by somebody who tunes: the mean over a template laid over its pools is the mean over the template."""

    spreads = False


class CharGru(nn.Module):
    """A GRU of 100 units on one-hot symbols with a norm on every product, gate by gate as in its equations.

    A loop over time: PyTorch's own GRU has no place for a norm. ``weight_x`` holds the gates r, z, c one after another.
    """

    def __init__(self, norm: str | None, symbols: int = 65, units: int = 100, steps: int = 100) -> None:
        super().__init__()
        self.x = nn.Linear(symbols, 3 * units, bias=norm in (None, "layer"))
        self.h = nn.Linear(units, 2 * units, bias=False)
        self.n = nn.Linear(units, units, bias=False)
        self.out = nn.Linear(units, symbols)
        kinds: dict[str | None, Any] = {"affine": StepBatchNorm, "layer": GateLayerNorm, "streaming": Streaming}
        norms = (kinds.get(norm, _Same)(gates, units, steps) for gates in (3, 2, 1))
        self.norm_x, self.norm_h, self.norm_n = norms
        self.symbols, self.units = symbols, units

    def forward(self, symbols: Tensor) -> Tensor:
        hot = F.one_hot(symbols, self.symbols).to(self.x.weight.dtype)
        h = hot.new_zeros(symbols.shape[1], self.units)
        states = []
        for t, x in enumerate(hot):
            r = torch.sigmoid(self.gate(self.x, self.norm_x, x, t, 0) + self.gate(self.h, self.norm_h, h, t, 0))
            z = torch.sigmoid(self.gate(self.x, self.norm_x, x, t, 1) + self.gate(self.h, self.norm_h, h, t, 1))
            c = torch.tanh(self.gate(self.x, self.norm_x, x, t, 2) + self.gate(self.n, self.norm_n, h * r, t, 0))
            h = z * c + (1 - z) * h
            states.append(h)
        return self.scored(states)

    def gate(self, product: nn.Linear, norm: nn.Module, x: Tensor, t: int, place: int) -> Tensor:
        """Norm(x W) of one gate."""
        rows = slice(place * self.units, (place + 1) * self.units)
        n = F.linear(x, product.weight[rows], None if product.bias is None else product.bias[rows])
        z: Tensor = norm(n, t, rows)
        return z

    def scored(self, states: list[Tensor]) -> Tensor:
        """The logits of every step and stream."""
        out: Tensor = self.out(torch.stack(states))
        return out.flatten(0, 1)


class TunedGru(CharGru):
    """The same by somebody who tunes: the gates of one source as one product, the input's of all steps at once."""

    def forward(self, symbols: Tensor) -> Tensor:
        hot, every = F.one_hot(symbols, self.symbols).to(self.x.weight.dtype), slice(None)
        h = hot.new_zeros(symbols.shape[1], self.units)
        states = []
        for t, x in enumerate(self.x(hot)):
            rz, c = self.norm_x(x, t, every).split((2 * self.units, self.units), 1)
            r, z = torch.sigmoid(rz + self.norm_h(self.h(h), t, every)).chunk(2, 1)
            c = torch.tanh(c + self.norm_n(self.n(h * r), t, every))
            h = z * c + (1 - z) * h
            states.append(h)
        return self.scored(states)


class _Same(nn.Module):
    def __init__(self, gates: int, units: int, steps: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, t: int, rows: slice) -> Tensor:
        return x


class StepBatchNorm(nn.BatchNorm1d):
    """Batch normalization whose statistics for testing are kept for every time step."""

    def __init__(self, gates: int, units: int, steps: int) -> None:
        super().__init__(gates * units, track_running_stats=False)
        self.register_buffer("means", torch.zeros(steps, gates * units))
        self.register_buffer("variances", torch.ones(steps, gates * units))

    def forward(self, x: Tensor, t: int, rows: slice) -> Tensor:  # type: ignore[override]
        stored = self.means[t, rows], self.variances[t, rows]
        return F.batch_norm(x, *stored, self.weight[rows], self.bias[rows], True, 0.05, self.eps)


class GateLayerNorm(nn.BatchNorm1d):
    """Layer normalization of every gate by itself; a gain and a bias per unit."""

    def __init__(self, gates: int, units: int, steps: int) -> None:
        super().__init__(gates * units, track_running_stats=False)
        self.units = units

    def forward(self, x: Tensor, t: int, rows: slice) -> Tensor:  # type: ignore[override]
        if x.shape[1] == self.units:
            return F.layer_norm(x, (self.units,), self.weight[rows], self.bias[rows], self.eps)
        z = F.layer_norm(x.view(len(x), -1, self.units), (self.units,), None, None, self.eps)
        return torch.addcmul(self.bias, z.flatten(1), self.weight)


class Streaming(nn.BatchNorm1d):
    """Streaming normalization (Liao, Kawaguchi & Poggio 2016): one store for all steps, p = 2, setting A,

    alpha and kappa (0.7, 0.3), beta (0.7, 0, 0.3); an autograd function replaces the error at the statistics.
    """

    def __init__(self, gates: int, units: int, steps: int) -> None:
        super().__init__(gates * units, track_running_stats=False)
        self.stores: dict[tuple[Any, Any], _Store] = {}

    def forward(self, x: Tensor, t: int, rows: slice) -> Tensor:  # type: ignore[override]
        store = self.stores.setdefault((rows.start, rows.stop), _Store())
        z: Tensor = _Streamed.apply(x, store, self.eps)  # type: ignore[no-untyped-call]
        return torch.addcmul(self.bias[rows], z, self.weight[rows])

    def updated(self) -> None:
        for store in self.stores.values():
            store.updated()


class _Store:
    def __init__(self) -> None:
        self.long: list[Tensor] = []
        self.short: list[Tensor] = []
        self.long_error: list[Tensor] = []
        self.short_error: list[Tensor] = []
        self.count = self.error_count = 0

    def seen(self, now: list[Tensor]) -> list[Tensor]:
        if self.long:
            self.short = _running(self.short, now, self.count)
        else:  # the deviation begins at 1
            mean, sigma = self.short or [now[0], torch.ones_like(now[1])]
            weights = 1 / (self.count + 1), 1 / (self.count + 1.35)
            self.short = [torch.lerp(a, b, w) for a, b, w in zip((mean, sigma), now, weights, strict=True)]
        self.count += 1
        return _mixed(self.long, self.short)

    def returned(self, now: list[Tensor]) -> list[Tensor]:
        self.short_error = _running(self.short_error, now, self.error_count)
        self.error_count += 1
        if not self.long_error:
            return [0.3 * g for g in now]
        return [0.7 * a + 0.3 * g for a, g in zip(self.long_error, now, strict=True)]

    def updated(self) -> None:
        self.long, self.long_error = _mixed(self.long, self.short), _mixed(self.long_error, self.short_error)
        self.count = self.error_count = 0


def _running(mean: list[Tensor], new: list[Tensor], count: int) -> list[Tensor]:
    return [torch.lerp(a, b, 1 / (count + 1)) for a, b in zip(mean, new, strict=True)] if count else new


def _mixed(long: list[Tensor], short: list[Tensor]) -> list[Tensor]:
    return [torch.lerp(b, a, 0.7) for a, b in zip(long, short, strict=True)] if long else short


class _Streamed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, store: _Store, eps: float) -> Tensor:
        mean = x.mean(0)
        centred = x - mean
        sigma = torch.sqrt((centred * centred).mean(0) + eps)
        used_mean, used_sigma = store.seen([mean, sigma])
        z = (x - used_mean) / used_sigma
        ctx.save_for_backward(z, centred, sigma, used_sigma)
        ctx.store = store
        return z

    @staticmethod
    def backward(ctx: Any, dz: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        z, centred, sigma, used_sigma = ctx.saved_tensors
        dv = dz / used_sigma
        dmean, dsigma = ctx.store.returned([-dv.sum(0), -(dv * z).sum(0)])
        return dv + (dmean + centred * (dsigma / sigma)) / len(z), None, None
