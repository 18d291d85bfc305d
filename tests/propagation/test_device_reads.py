"""How often a call waits for its device: numbers that it reads there, which a GPU has to compute first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from zennit.composites import EpsilonGammaBox

from crp_kit import CondAttribution

READS = (
    "item",
    "tolist",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "nonzero",
    "equal",
    "allclose",
    "cpu",
    "numpy",
)


class Reads(TorchFunctionMode):
    """Counts the functions of torch that need a number of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += getattr(function, "__name__", "") in READS
        return function(*args, **(kwargs or {}))


GAMMA = EpsilonGammaBox(low=torch.zeros(1, 3, 1, 1), high=torch.ones(1, 3, 1, 1))


def convolutions(depth: int) -> nn.Module:
    layers = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(depth)]
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *layers, nn.Flatten(), nn.LazyLinear(5))


class Tokens(nn.Module):
    """A transformer on the rows of an image."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(24, 8)
        self.layers = nn.Sequential(*[nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(depth)])
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.layers(self.embed(image.transpose(1, 2).flatten(2)))
        head: torch.Tensor = self.head(tokens.mean(1))
        return head


def reads_of_a_second_call(net: Callable[[int], nn.Module], depth: int, composite: Any) -> int:
    torch.manual_seed(depth)
    model, x = net(depth), torch.rand(1, 3, 8, 8)
    model(x)
    attribution = CondAttribution(model.eval())
    with Reads() as reads:
        for _ in range(2):
            reads.number = 0
            attribution(x, [{"y": [1]}], composite)
    return reads.number


@pytest.mark.parametrize(
    ("net", "composite", "for_a_layer"),
    [(convolutions, "epsilon_plus_flat", 2), (convolutions, GAMMA, 8), (Tokens, "attnlrp", 0)],
)
def test_a_layer_costs_few_reads(net: Callable[[int], nn.Module], composite: Any, for_a_layer: int) -> None:
    few, many = (reads_of_a_second_call(net, depth, composite) for depth in (1, 5))
    assert many - few <= 4 * for_a_layer
    assert few <= 6 + 3 * for_a_layer
