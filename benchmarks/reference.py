"""The networks as a PyTorch user writes them.

One-sided pooling (one row and column at the bottom and right) is ``ceil_mode`` there; the mean counts in-image
elements only. A convolution or linear layer before a batch norm has no bias.
"""

from __future__ import annotations

from torch import Tensor, nn


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
