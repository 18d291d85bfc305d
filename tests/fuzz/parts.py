"""Modules that random programs use beside torch's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class PaddedConv1d(nn.Conv1d):
    """A convolution with a forward of its own and a child that pads."""

    def __init__(self, *sizes: int, **options: int | bool) -> None:
        super().__init__(*sizes, **options)
        self.pad = nn.ConstantPad1d((1, 0), 0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv1d(self.pad(x), self.weight, self.bias, self.stride, 0, 1, self.groups)


class PaddedConv2d(nn.Conv2d):
    """The same for images."""

    def __init__(self, *sizes: int, **options: int | bool) -> None:
        super().__init__(*sizes, **options)
        self.pad = nn.ZeroPad2d((1, 0, 1, 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(self.pad(x), self.weight, self.bias, self.stride, 0, 1, self.groups)


class StandardConv1d(nn.Conv1d):
    """A convolution whose weight is standardized in its forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2), keepdim=True)
        return F.conv1d(x, weight * 1.5 + 0.1, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ScaledLinear(nn.Linear):
    """A linear layer that scales its weight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight * 0.7, self.bias)


class Frozen(nn.Module):
    """A factor that is computed without gradients."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.map = nn.Linear(features, features)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.map(x).tanh()


class Unchanged(nn.Module):
    """A module that returns its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Residual(nn.Module):
    """A block with a shortcut."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, features), nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(F.relu(self.first(x)))


PARTS = {
    part.__name__: part
    for part in (PaddedConv1d, PaddedConv2d, StandardConv1d, ScaledLinear, Frozen, Unchanged, Residual)
}
