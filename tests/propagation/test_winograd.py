"""The transposed 3x3 convolutions of `crp_kit.propagation.kernels.winograd` against the definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d

import crp_kit
from crp_kit.propagation.kernels import transposed_conv as transposes
from crp_kit.propagation.kernels import winograd
from crp_kit.propagation.kernels.winograd import winograd_transpose
from crp_kit.rules.presets import preset


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


GEOMETRIES = [
    (padding, size)
    for padding in [(0, 0), (1, 1), (2, 2), (0, 2), (1, 0)]
    for size in [(5, 5), (6, 8), (7, 4), (1, 9), (12, 3)]
    if all(length + 2 - 2 * edge > 0 for length, edge in zip(size, padding, strict=True))  # the input's own
]


@pytest.mark.parametrize(("padding", "size"), GEOMETRIES)
@pytest.mark.parametrize("at_once", [1, 400, 1 << 19])
def test_it_is_the_transpose_of_the_convolution(
    monkeypatch: pytest.MonkeyPatch, padding: tuple[int, int], size: tuple[int, int], at_once: int
) -> None:
    monkeypatch.setattr(winograd, "_VALUES", at_once)
    weight, rows = normal(3, 5, 3, 3), normal(7, 3, *size, seed=1)
    found = winograd_transpose(weight, padding)(rows)
    expected = conv_transpose2d(rows, weight, padding=padding)
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert error(found, expected) < 1e-14
    x = normal(*expected.shape, seed=2)
    assert torch.allclose((conv2d(x, weight, padding=padding) * rows).sum(), (x * found).sum(), rtol=1e-11)


def test_in_float32_it_is_as_exact_as_the_convolution() -> None:
    weight, rows = normal(256, 256, 3, 3, dtype=torch.float32), normal(4, 256, 14, 14, seed=1, dtype=torch.float32)
    expected = conv_transpose2d(rows.double(), weight.double(), padding=1)
    assert error(winograd_transpose(weight, [1, 1])(rows), expected) < 1e-6


def test_maps_in_any_order_of_memory_are_read_right() -> None:
    weight, rows = normal(4, 6, 3, 3), normal(3, 4, 6, 6, seed=1)
    lying = rows.contiguous(memory_format=torch.channels_last)
    assert torch.equal(winograd_transpose(weight, [1, 1])(rows), winograd_transpose(weight, [1, 1])(lying))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1, bias=False),
        nn.BatchNorm2d(256),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(256, 4),
    ).eval()


def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of maps of each call."""
    maps: list[int] = []

    def followed(*given: Any) -> Any:
        transpose = winograd_transpose(*given)
        return lambda rows: (maps.append(len(rows)), transpose(rows))[1]

    monkeypatch.setattr(transposes, "winograd_transpose", followed)
    return maps


@pytest.mark.slow
@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_alpha2_beta1", "epsilon_gamma_box"])
def test_heatmaps_are_those_of_convolutions(monkeypatch: pytest.MonkeyPatch, model: nn.Module, composite: str) -> None:
    x = normal(1, 3, 24, 24, dtype=torch.float32).clamp(-3, 3)
    rules = preset(composite, low=-3.0, high=3.0)
    conditions = [{"5": [channel], "y": [1]} for channel in range(6)]

    def heatmaps() -> torch.Tensor:
        return crp_kit.CondAttribution(model)(x, conditions, rules).heatmap

    maps = used(monkeypatch)
    fast = heatmaps()
    assert maps
    monkeypatch.setattr("crp_kit.propagation.kernels.transposed_conv.winograd_wins", lambda weight, rows: False)
    assert error(fast, heatmaps()) < 1e-5


def test_few_positions_are_left_to_the_convolution(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    maps = used(monkeypatch)
    crp_kit.CondAttribution(model)(normal(1, 3, 12, 12).float(), [{"5": [0], "y": [1]}], "epsilon_plus")
    assert not maps
