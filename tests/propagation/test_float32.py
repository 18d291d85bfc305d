"""Relevance in float32 stays finite and near float64, on small models of each group at their true input sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from float32_check import COMPOSITES, ROUNDING, Comparison, Precision, at_true_size, compare, compare_built
from marks import slow_except
from torch import nn

from crp_kit import CondAttribution
from crp_kit.errors import NonFiniteRelevanceError

TOLERANCES = {
    "huggingface:BERT-eager": {"epsilon_plus_flat": ROUNDING, "epsilon_gamma_box": ROUNDING, "attnlrp": ROUNDING},
    "huggingface:ViT-sdpa": {"epsilon_plus_flat": ROUNDING, "epsilon_gamma_box": ROUNDING, "attnlrp": ROUNDING},
    "torchvision:squeezenet1_1": {"epsilon_plus_flat": ROUNDING, "epsilon_gamma_box": ROUNDING, "attnlrp": 2e-4},
    "timm:mobilenetv3_small_050": {"epsilon_plus_flat": ROUNDING, "epsilon_gamma_box": ROUNDING, "attnlrp": 1e-2},
}
"""As in ``tutorials/coverage.md``. Where a tolerance is above that of rounding, denominators near zero amplify it: the
map in float64 moves further than that if every parameter is multiplied by 1 ± 2**-19."""


@pytest.mark.parametrize("label", slow_except(TOLERANCES, ("huggingface:BERT-eager", "huggingface:ViT-sdpa")))
def test_maps_in_float32_are_finite_and_as_near_to_float64_as_stated(label: str) -> None:
    for one in compare(label).comparisons:
        assert one.finite
        assert one.difference < TOLERANCES[label][one.composite]
        assert one.cause in {"rounding", "conditioning"}


def test_images_have_the_size_that_an_architecture_is_published_for() -> None:
    sizes = {
        "torchvision:inception_v3": 299,
        "torchvision:efficientnet_b7": 600,
        "torchvision:vit_b_16": 224,
        "torchvision:swin_v2_t": 256,
        "torchvision:fcn_resnet50": 520,
        "timm:maxvit_nano_rw_256": 256,
        "timm:resnet50_gn": 224,
        "huggingface:ConvNeXt": 32,
    }
    assert {label: at_true_size(label).shape for label in sizes} == {
        label: (3, size, size) for label, size in sizes.items()
    }
    assert at_true_size("huggingface:GPT-2-eager").shape == (7, 32)


class Coarse(nn.Module):
    """Rounds to eight bits in float32, and not in float64."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.bfloat16().float() if x.dtype == torch.float32 else x * 1.0


class Overflowing(nn.Module):
    """Leaves the range of float32 on the way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1e25 * 1e25 / 1e50


def net(part: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), part, nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    return nn.Sequential(*layers).double().eval().requires_grad_(False)


def compared(part: nn.Module) -> tuple[Comparison, ...]:
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return compare_built(net(part), x.double()).comparisons


@pytest.mark.slow
def test_comparison_calls_a_difference_unexplained_that_float64_does_not_have() -> None:
    for one in compared(Coarse()):
        assert one.finite
        assert one.difference > 1e-4
        assert one.moved < one.difference / 10
        assert one.cause == "unexplained"


def test_comparison_says_that_the_output_itself_is_not_finite() -> None:
    for one in compared(Overflowing()):
        assert not one.finite
        assert one.cause == "not finite"
        assert "output" in one.note


def test_comparison_names_where_relevance_stops_being_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = CondAttribution.__call__

    def broken(self: CondAttribution, data: torch.Tensor, *args: Any, **options: Any) -> Any:
        if data.dtype == torch.float32:
            raise NonFiniteRelevanceError("3", "Epsilon")
        return whole(self, data, *args, **options)

    monkeypatch.setattr(CondAttribution, "__call__", broken)
    for one in compared(nn.Identity()):
        assert not one.finite
        assert (one.node, one.operation, one.cause) == ("3", "Epsilon", "not finite")
        assert replace(one, highest=1e39).cause == "range"


def test_comparison_calls_a_good_model_rounding_and_survives_json() -> None:
    result = compare_built(net(nn.Identity()), torch.rand(1, 3, 8, 8).double())
    assert [one.composite for one in result.comparisons] == list(COMPOSITES)
    assert {one.cause for one in result.comparisons} == {"rounding"}
    assert repr(Precision.from_dict(json.loads(json.dumps(result.as_dict())))) == repr(result)


@pytest.mark.parametrize(("difference", "tolerance"), [(1e-8, ROUNDING), (1.1e-4, 4e-4), (1e-3, 3e-3), (0.5, 2.0)])
def test_tolerance_is_three_times_the_difference_rounded_up_to_one_digit(difference: float, tolerance: float) -> None:
    assert Comparison("attnlrp", True, difference).tolerance == pytest.approx(tolerance)
