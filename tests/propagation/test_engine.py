"""The engine gives the same relevance whatever context it is called in, and shares what it can."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from zennit.composites import EpsilonPlusFlat, NameMapComposite
from zennit.core import Hook

import crp_kit
from crp_kit.data import demo_resnet
from crp_kit.graph.recording.record import Recording
from crp_kit.propagation.engine import Engine
from crp_kit.propagation.relevance_pass import relevance_pass
from crp_kit.propagation.shadow_model import ShadowModel

CONDITIONS = [{"layer2.1.conv2": [channel], "y": [1]} for channel in range(5)]


class Doubling(Hook):
    """A rule of a user that is no BasicHook."""

    def backward(self, module, grad_input, grad_output):
        return tuple(2 * part for part in grad_output)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
def test_autocast_around_the_call_does_not_reach_the_rules(image: torch.Tensor) -> None:
    attribution = crp_kit.CondAttribution(demo_resnet())
    plain = attribution(image, CONDITIONS, EpsilonPlusFlat())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = attribution(image, CONDITIONS, EpsilonPlusFlat())
    assert cast.heatmap.dtype == torch.float32
    # the forward itself ran in bfloat16, which keeps 8 bits
    error = (cast.heatmap - plain.heatmap).norm() / plain.heatmap.norm()
    assert error < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("composite", [EpsilonPlusFlat(), NameMapComposite([(["relu"], Doubling())]), None])
def test_inference_mode_around_the_call_changes_nothing(image: torch.Tensor, composite: object) -> None:
    attribution = crp_kit.CondAttribution(demo_resnet())
    with torch.inference_mode():
        inside = attribution(image.clone(), CONDITIONS, composite).heatmap
    outside = attribution(image, CONDITIONS, composite).heatmap
    assert torch.equal(inside, outside)


@pytest.mark.slow
def test_conditions_share_one_forward_and_the_upper_backward(
    monkeypatch: pytest.MonkeyPatch, image: torch.Tensor
) -> None:
    batches: list[int] = []
    original = torch.ops.aten.convolution

    def counted(rows, *args):
        batches.append(rows.shape[0])
        return original(rows, *args)

    attribution = crp_kit.CondAttribution(demo_resnet())
    attribution(image, CONDITIONS, EpsilonPlusFlat())
    forwards: list[int] = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, output: forwards.append(1) if isinstance(module, nn.Linear) else None
    )
    monkeypatch.setattr(torch.ops.aten, "convolution", counted)
    try:
        attribution(image, CONDITIONS, EpsilonPlusFlat())
    finally:
        handle.remove()
    assert len(forwards) == 1
    above, below = batches.count(1), batches.count(5)
    assert above
    assert below
    assert above + below == len(batches)
    assert batches == sorted(batches)  # one row down to the conditioned layer, then five


def test_relevance_stops_at_the_lowest_layer_that_is_asked_for(image: torch.Tensor) -> None:
    run = Engine(demo_resnet()).run(image, EpsilonPlusFlat())
    layer = run.graph.find("layer3.0.conv1")
    value = run.recording.value(run.graph.output)
    rows = torch.zeros(1, dtype=torch.long)
    passed = relevance_pass(run, run.graph.output, value[None], rows=rows, masks={}, record=[layer], to_input=False)
    assert not passed.inputs
    assert min(run._prepared) >= layer.node
    full = relevance_pass(run, run.graph.output, value[None], rows=rows, masks={}, record=[layer])
    assert torch.equal(passed.recorded[layer], full.recorded[layer])


def test_inputs_of_all_samples_stay_so_where_a_rule_makes_a_module_one_node() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3))

        def forward(self, x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
            value: torch.Tensor = self.body(x) @ table
            return value

    engine = Engine(Net(), fixed="table")
    data = {"x": torch.randn(3, 4), "table": torch.randn(3, 2)}
    run = engine.run(data, NameMapComposite([(("body",), Doubling())]))
    assert any(node.name == "body" for node in run.graph)
    assert {name: run.graph.node(run.graph.find(name)).kwargs["shared"] for name in data} == {"x": False, "table": True}


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["layer4.1.conv2", "layer3.0.conv1"])
def test_relevance_in_float32_loses_little_of_what_the_forward_left(
    monkeypatch: pytest.MonkeyPatch, image: torch.Tensor, layer: str
) -> None:
    """The values of a forward in float32 are taken for both: their own rounding can weigh more for a single row."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    conditions = [{layer: [channel], "y": [7]} for channel in range(24)]
    found = crp_kit.CondAttribution(model)(image, conditions, EpsilonPlusFlat()).heatmap
    values = crp_kit.CondAttribution(model).engine.run(image, EpsilonPlusFlat()).recording.values
    forward = ShadowModel.forward

    def with_those_values(*given: Any) -> Recording:
        doubled = [[one.double() if one.is_floating_point() else one for one in several] for several in values]
        return replace(forward(*given), values=doubled, working={})

    monkeypatch.setattr(ShadowModel, "forward", with_those_values)
    expected = crp_kit.CondAttribution(copy.deepcopy(model).double())(image.double(), conditions, EpsilonPlusFlat())
    size = expected.heatmap.flatten(1).norm(dim=1)
    errors = ((found - expected.heatmap).flatten(1).norm(dim=1) / size)[size > 0]
    assert len(errors) > 12
    assert float(errors.median()) < 2e-6
    assert float(errors.max()) < 1e-4
