"""Small networks, seeded values and LRP-0 that many tests use."""

from __future__ import annotations

import torch
from torch import nn
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.rules import Epsilon
from zennit.types import Linear


def small_convnet(inputs: int = 3, channels: int = 4, classes: int = 3) -> nn.Module:
    """Convolution, ReLU, mean over all positions and a linear head, in evaluation mode."""
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    return nn.Sequential(nn.Conv2d(inputs, channels, 3), nn.ReLU(), *head).eval()


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Seeded values of a standard normal distribution, drawn in their own type."""
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def lrp_0(epsilon: float = 1e-12) -> LayerMapComposite:
    """LRP-epsilon for every linear layer, with an epsilon of almost nothing."""
    return LayerMapComposite([*layer_map_base(epsilon), (Linear, Epsilon(epsilon))])


def relative_error(values: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference relative to the largest expected value, which is not zero; all values are finite."""
    assert values.shape == expected.shape
    assert torch.isfinite(values).all()
    assert expected.abs().max() > 0
    return float((values - expected).abs().max() / expected.abs().max())
