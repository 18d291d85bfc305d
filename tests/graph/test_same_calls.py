"""The graph of a forward that makes the calls of the last one."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import crp_kit
from crp_kit.graph.nested import Ref, same


class Block(nn.Module):
    """A residual block that writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.norm(self.conv(x))
        out += x
        result: torch.Tensor = self.relu(out)
        return result


class Chosen(nn.Module):
    """A function of the input chooses among calls with outputs of one shape."""

    def __init__(self, call: Callable[[torch.Tensor, bool], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.call, self.scales = nn.Conv2d(3, 8, 1), call, nn.ParameterList([torch.ones(1), torch.ones(1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        positive = bool(x.sum() > 0)
        return self.call(self.conv(x), positive).flatten(1)


def net() -> nn.Module:
    torch.manual_seed(0)
    blocks = [Block() for _ in range(6)]
    return nn.Sequential(nn.Conv2d(3, 4, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def test_a_second_forward_with_the_same_calls_has_the_graph_of_the_first_and_its_own_values() -> None:
    attribution = crp_kit.CondAttribution(net())
    first, second = image(1, 3, 8, 8), image(1, 3, 8, 8) + 1
    graph = attribution.graph(first)
    assert attribution.graph(second) is graph
    alone = crp_kit.CondAttribution(net())(second, {"y": [1]}, "epsilon_plus_flat")
    assert torch.equal(attribution(second, {"y": [1]}, "epsilon_plus_flat").heatmap, alone.heatmap)


def test_another_number_of_samples_or_another_size_gives_another_graph() -> None:
    attribution = crp_kit.CondAttribution(net())
    graphs = [attribution.graph(x) for x in (image(1, 3, 8, 8), image(2, 3, 8, 8), image(1, 3, 9, 9))]
    assert len(set(map(id, graphs))) == 3
    assert [graph.batch for graph in graphs] == [1, 2, 1]


@pytest.mark.parametrize(
    "call",
    [
        lambda x, positive: x.transpose(1, 2) if positive else x.transpose(2, 3),
        lambda x, positive: x * (2 if positive else 2.0),
        lambda x, positive: x + (torch.zeros(1) if positive else torch.ones(1)),
        lambda x, positive: x[:, :, ::1] if positive else x[:, :, 0:8],
    ],
    ids=["axes", "type of a number", "constant", "slice"],
)
def test_another_argument_gives_another_graph_though_all_shapes_are_the_same(call: Callable[..., torch.Tensor]) -> None:
    attribution = crp_kit.CondAttribution(Chosen(call))
    x = image(1, 3, 8, 8)
    positive, negative = attribution.graph(x), attribution.graph(-x)
    assert negative is not positive
    assert [node.name for node in negative] == [node.name for node in positive]


def test_the_channel_axis_follows_the_arguments_of_the_forward_at_hand() -> None:
    model = Chosen(lambda x, positive: (x.transpose(1, 2) if positive else x.transpose(2, 3)) + 0)
    attribution, x = crp_kit.CondAttribution(model), image(1, 3, 8, 8)
    assert [attribution.channel_axis(data, "add") for data in (x, -x, x)] == [2, 1, 2]


def test_another_weight_with_the_same_value_gives_another_graph() -> None:
    model = Chosen(lambda x, positive: x)
    model.call = lambda x, positive: x * model.scales[int(positive)]
    recorded = crp_kit.CondAttribution(model)
    x = image(1, 3, 8, 8)
    assert recorded.graph(x) is not recorded.graph(-x)


@pytest.mark.parametrize(
    ("first", "second"),
    [(0.0, -0.0), (1, 1.0), (1, True), ((1, 2), [1, 2]), ((1,), (1, 2)), ({"a": 1}, {"b": 1}), (Ref(0), (0, 0))],
)
def test_what_only_seems_equal_is_not_the_same(first: Any, second: Any) -> None:
    assert not same(first, second)
    assert not same(({"x": [first]},), ({"x": [second]},))


def test_equal_structures_with_the_very_same_tensors_are_the_same() -> None:
    tensor = torch.ones(2)
    built = [(Ref(1), {"dim": [1, (2, slice(None, 3))], "x": tensor}, math.nan, None) for _ in range(2)]
    assert same(*built)
    assert not same((tensor,), (tensor.clone(),))


def test_a_second_heatmap_takes_fewer_than_two_hundred_python_calls_for_each_node() -> None:
    attribution, x = crp_kit.CondAttribution(net()), image(1, 3, 8, 8)
    nodes = len(attribution.graph(x, "epsilon_plus_flat"))
    attribution(x, {"y": [1]}, "epsilon_plus_flat")
    calls, package = 0, str(Path(crp_kit.__file__).parent)

    def count(frame: Any, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(package)

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        attribution(x, {"y": [1]}, "epsilon_plus_flat")
    finally:
        sys.setprofile(before)
    assert calls < 200 * nodes
