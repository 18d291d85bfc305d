"""What conditional heatmaps cost, counted in operations: the same on every machine."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torchvision
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon, Gamma, Pass
from zennit.types import Activation, BatchNorm, Linear

import crp_kit

LAYER, COMPOSITE = "layer4.1.conv2", "epsilon_plus_flat"
SIZE = 64


class Operations(TorchDispatchMode):
    """Counts calls of aten operations, and the bytes of the new tensors that they make."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.allocated = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {
            one.untyped_storage().data_ptr() for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)
        }
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and one.untyped_storage().data_ptr() not in given:
                self.allocated += one.untyped_storage().nbytes()
        self.calls[str(func.overloadpacket)] += 1
        return result


@pytest.fixture(scope="module")
def attribution() -> crp_kit.CondAttribution:
    torch.manual_seed(0)
    return crp_kit.CondAttribution(torchvision.models.resnet18(weights=None).eval())


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def conditions(count: int, layer: str = LAYER) -> list[dict[str, list[int]]]:
    return [{layer: [channel], "y": [7]} for channel in range(count)]


def flops_of(attribution: crp_kit.CondAttribution, image: torch.Tensor, count: int, layer: str = LAYER) -> int:
    with FlopCounterMode(display=False) as counter:
        attribution(image, conditions(count, layer), COMPOSITE)
    return counter.get_total_flops()


def counted(attribution: crp_kit.CondAttribution, image: torch.Tensor, count: int) -> Operations:
    with Operations() as operations:
        attribution(image, conditions(count), COMPOSITE)
    return operations


def forward_flops(attribution: crp_kit.CondAttribution, image: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        attribution.model(image)
    return counter.get_total_flops()


@pytest.mark.slow
def test_a_condition_costs_no_more_than_the_transposed_convolutions_below_its_layer(attribution, image):
    attribution(image, conditions(1), COMPOSITE)
    forward = forward_flops(attribution, image)
    one, nine = flops_of(attribution, image, 1), flops_of(attribution, image, 9)
    assert 0.8 * forward < (nine - one) / 8 <= forward  # this layer is the last but for the classifier
    assert one <= 3.05 * forward  # the model's own forward, that with positive weights, and the way back


@pytest.mark.slow
def test_the_cost_of_a_condition_ends_where_its_layer_begins(attribution, image):
    attribution(image, conditions(1, "layer1.0.conv1"), COMPOSITE)
    one, nine = (flops_of(attribution, image, count, "layer1.0.conv1") for count in (1, 9))
    model = attribution.model
    below = torch.nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool, model.layer1[0].conv1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        below(image)
    assert (nine - one) / 8 <= counter.get_total_flops()


@pytest.mark.slow
def test_calls_grow_by_parts_of_rows_and_not_by_rows(attribution, image):
    attribution(image, conditions(1), COMPOSITE)
    rows = attribution.engine.run(image, attribution.resolve_composite(COMPOSITE)).rows_at_once
    assert rows >= 8
    calls = {count: counted(attribution, image, count).calls["aten.convolution"] for count in (1, 8, 16)}
    assert calls[1] == calls[8] > 0
    assert calls[16] - calls[8] <= (20 if rows < 16 else 0)  # at most once more through the twenty convolutions


@pytest.mark.slow
def test_memory_moved_for_a_condition_is_a_small_multiple_of_its_maps(attribution, image):
    attribution(image, conditions(1), COMPOSITE)
    graph = attribution.graph(image)
    maps = 4 * sum(shape.numel() for node in graph if node.op == "conv2d" for shape in node.shapes)
    one, nine = (counted(attribution, image, count).allocated for count in (1, 9))
    assert 0 < (nine - one) / 8 < 2.5 * maps


@pytest.mark.slow
def test_what_conditions_share_takes_little_element_wise_work(attribution, image):
    """Behind a ReLU no input is clamped or compared, and denominators are written into one tensor."""
    attribution(image, conditions(1), COMPOSITE)
    graph = attribution.graph(image)
    maps = 4 * sum(shape.numel() for node in graph if node.op == "conv2d" for shape in node.shapes)
    one = counted(attribution, image, 1)
    assert one.calls["aten.sign"] > 20
    assert one.calls["aten.clamp"] == one.calls["aten.equal"] == 0
    assert one.allocated < 15 * maps


def plain_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 100, 4),
    ).eval()


def convolutions(composite: object) -> tuple[int, int]:
    """Return how many convolutions a heatmap takes, without the model's own, and how many of these are transposed."""
    attribution = crp_kit.CondAttribution(plain_network())
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    attribution(x, [{"y": [1]}], composite)
    transposed = []

    class Calls(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.convolution.default:
                transposed.append(args[6])
            return func(*args, **(kwargs or {}))

    with Calls():
        attribution(x, [{"y": [1]}], composite)
    return len(transposed) - 3, sum(transposed)


def test_a_rule_without_modifications_takes_the_output_that_the_forward_made():
    assert convolutions(LayerMapComposite([(Activation, Pass()), (Linear, Epsilon())])) == (3, 3)


def test_of_a_gamma_rule_nothing_is_computed_for_outputs_that_a_relu_leaves_nothing_of():
    composite = LayerMapComposite([(Activation, Pass()), (torch.nn.Conv2d, Gamma()), (torch.nn.Linear, Epsilon())])
    forwards = 2 * 3  # no input has negative values, and the outputs of the plain weights are known
    assert convolutions(composite) == (forwards + 3, 3)


class OwnPass(Pass):  # type: ignore[misc]
    """Pass under another name, with which a BatchNorm is not folded into its convolution."""


def test_a_subclass_of_pass_that_changes_nothing_computes_nothing(
    attribution: crp_kit.CondAttribution, image: torch.Tensor
) -> None:
    composite = LayerMapComposite([(Activation, Pass()), (BatchNorm, OwnPass()), (Linear, Epsilon())])
    attribution(image, conditions(1), composite)
    counts = []
    for rows in (1, 6):
        with Operations() as operations:
            attribution(image, conditions(rows), composite)
        counts.append(sum(count for name, count in operations.calls.items() if "batch_norm" in name))
    assert counts[0] == counts[1] <= 20  # those of the forward
