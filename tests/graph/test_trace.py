"""The traced graph has torchvision's names and torch.fx's connections, and says what is cut."""

from __future__ import annotations

import pytest
import torch
from marks import slow_except
from oracles.families import FAMILIES, QUICK, build
from oracles.fx_connections import connections
from oracles.fx_graph import trace
from torch import nn
from torchvision.models import resnet152

import crp_kit
from crp_kit.errors import InputError, UnknownLayerError
from crp_kit.graph.model_graph import record_once
from crp_kit.graph.path_exclusion import nearest_upstream
from crp_kit.graph.relevance_edges import Flow


def output_of(name: str) -> str | None:
    return "out" if FAMILIES[name].segmentation else None


@pytest.mark.examples
@pytest.mark.parametrize("name", slow_except(FAMILIES, QUICK))
def test_layer_connections_equal_those_of_torch_fx(name: str) -> None:
    model, x = build(name)
    recorded = crp_kit.trace_model_graph(model, x, output=output_of(name))
    wanted = {one for one, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    layers = [one for one in recorded.layer_names if one in wanted]
    expected = connections(model, layers)
    graph = crp_kit.trace_model_graph(model, x, layers, output=output_of(name))
    assert graph.layer_names == layers
    assert {one: set(graph.find_input_layers(one)) for one in layers} == {one: expected[one] for one in layers}
    assert any(expected.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121", "mobilenet_v3_large", "efficientnet_b0"])
def test_node_names_are_those_of_torchvision(name: str) -> None:
    model, x = build(name)
    nodes, names = trace(model)
    theirs = {names[node] for node in nodes if node in names}
    ours = crp_kit.trace_model_graph(model, x).layer_names
    assert not [one for one in ours if one not in theirs]
    # what torchvision has besides: the input, values that are no tensors, calls that hand on what they were given
    modules = dict(model.named_modules())
    silent = ("Identity", "Dropout", "StochasticDepth")
    values = ("x", "getitem", "getattr", "size", "eq", "floordiv", "_assert", "stochastic_depth")
    beside = {
        one
        for one in theirs - set(ours)
        if type(modules.get(one)).__name__ not in silent and not one.rpartition(".")[2].startswith(values)
    }
    assert not beside


@pytest.mark.slow
def test_the_cost_grows_with_the_graph_and_not_with_its_paths() -> None:
    """ResNet152 has 2**50 paths; the search visits each node once."""
    graph = record_once(resnet152(weights=None).eval(), torch.zeros(1, 3, 32, 32)).graph
    ends = [graph.find("conv1"), graph.find("fc")]
    assert nearest_upstream(Flow(graph).carrying, ends)[ends[1]] == (ends[0],)
    assert len(graph) < 600


class TestResNet:
    """What is said of a residual network."""

    def graph(self, *layers: str) -> crp_kit.ModelGraph:
        model, x = build("resnet18")
        return crp_kit.trace_model_graph(model, x, layers or None)

    @pytest.mark.slow
    def test_find_input_layers_goes_through_shortcuts(self) -> None:
        graph = self.graph("conv1", "layer1.0.conv2", "layer1.1.conv1", "layer2.0.conv1", "layer1.1.conv2")
        assert graph.find_input_layers("layer1.1.conv1") == ["conv1", "layer1.0.conv2"]
        assert graph.find_input_layers("layer2.0.conv1") == ["conv1", "layer1.0.conv2", "layer1.1.conv2"]
        assert graph.find_input_layers("conv1") == []
        assert graph.find_users("conv1") == ["layer1.0.conv2", "layer1.1.conv1", "layer2.0.conv1"]

    @pytest.mark.slow
    def test_parallel_nodes_are_the_cut_edges(self) -> None:
        graph = self.graph()
        assert graph.parallel_nodes({"layer4.1.conv2": [0]}) == [("layer4.0.relu_1", "layer4.1.add")]
        assert graph.parallel_nodes({"layer2.0.conv2": [0]}) == [
            ("layer1.1.relu_1", "layer2.0.downsample.0"),
            ("layer2.0.downsample.0", "layer2.0.downsample.1"),
            ("layer2.0.downsample.1", "layer2.0.add"),
        ]
        assert graph.parallel_nodes({"layer4.1.add": [0]}) == []

    @pytest.mark.slow
    def test_exclude_parallel_layers_adds_them_closed(self) -> None:
        graph = self.graph("layer2.0.conv1", "layer2.0.conv2", "layer2.0.downsample.0", "layer3.0.conv1")
        condition = {"layer2.0.conv2": [3], "y": [1]}
        assert graph.exclude_parallel_layers([condition]) == [{**condition, "layer2.0.downsample.0": []}]
        assert graph.exclude_parallel_layers({"layer2.0.downsample.0": [0]}) == [
            {"layer2.0.downsample.0": [0], "layer2.0.conv1": [], "layer2.0.conv2": []}
        ]

    @pytest.mark.slow
    def test_it_prints_readably(self) -> None:
        text = repr(self.graph("conv1", "layer1.0.conv1"))
        assert text.splitlines()[0] == "ModelGraph of 2 layers (name, operation, shape, fed by)"
        assert "<- conv1" in text
        assert "<- the model input" in text

    @pytest.mark.slow
    def test_shapes_are_those_of_one_sample(self) -> None:
        model, x = build("resnet18")
        with torch.no_grad():
            expected = model.conv1(x).shape[1:]
        assert self.graph().shape("conv1") == expected

    def test_unknown_layers_come_with_the_nearest_names(self) -> None:
        with pytest.raises(UnknownLayerError, match=r"no layer named 'layer1.0.conv3'; did you mean 'layer1.0.conv"):
            self.graph("layer1.0.conv3")


def test_layers_are_listed_by_type_and_pattern() -> None:
    model, _ = build("resnet18")
    assert crp_kit.get_layer_names(model, nn.Linear) == ["fc"]
    with pytest.raises(InputError, match="types is one type of modules or several.*got Tensor"):
        crp_kit.get_layer_names(model, torch.zeros(1, 3, 8, 8))  # type: ignore[arg-type]
    assert crp_kit.get_layer_names(model, [nn.Linear, nn.MaxPool2d]) == ["maxpool", "fc"]
    assert crp_kit.get_layer_names(model, nn.Conv2d, pattern=r"layer4\..*conv2") == ["layer4.0.conv2", "layer4.1.conv2"]
