"""Concept graphs: every number is that of a conditional run of its own; every concept stands there once."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from studies import concept_graph_of
from torch import nn
from torchvision.models import resnet18

from crp_kit import ChannelConcept, ConceptGraph, CondAttribution, NeuronConcept, trace_model_graph
from crp_kit.concept_graph.exports import as_text
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import (
    ConceptRangeError,
    ConditionError,
    CrpKitError,
    InputError,
    UnknownLayerError,
    UnreachableLayerError,
)
from crp_kit.graph.graph import Ref
from crp_kit.propagation.relevance_pass import PassResult, relevance_pass
from crp_kit.propagation.run import Run

RULES = "epsilon_plus_flat"
SERIES = ["layer3.1.conv1", "layer3.1.conv2"]


@pytest.fixture(scope="module")
def attribution() -> CondAttribution:
    return CondAttribution(demo_resnet())


@pytest.fixture(scope="module")
def sample() -> torch.Tensor:
    return demo_preprocess(ShapesDataset(6, seed=3, split="test")[5][0])[None]


@pytest.fixture(scope="module")
def several() -> torch.Tensor:
    images, _ = ShapesDataset(3, seed=4).batch(range(3))
    return demo_preprocess(images)


@pytest.fixture(scope="module")
def graph(attribution: CondAttribution, sample: torch.Tensor) -> ConceptGraph:
    return concept_graph_of(attribution, sample, RULES, start={"y": [2]}, width=(3, 2, 2))


def by_concept(
    attribution: CondAttribution, sample: torch.Tensor, condition: Mapping[str, Any], layer: str, **options: Any
) -> torch.Tensor:
    """Relevance of each channel of a layer under one condition set: (channel,)."""
    attr = attribution(sample, [condition], RULES, record_layer=[layer], **options)
    return ChannelConcept().attribute(attr.relevances[layer], abs_norm=False)[0].double()


def direct(
    attribution: CondAttribution, sample: torch.Tensor, condition: Mapping[str, Any], layer: str, below: list[str]
) -> torch.Tensor:
    """The same without what comes through one other layer of `below` in between: a difference of two runs."""
    found = by_concept(attribution, sample, condition, layer)
    recorded = trace_model_graph(attribution.model, sample)
    for other in below:
        ids = list(range(recorded.shape(other)[0]))
        if layer in trace_model_graph(attribution.model, sample, [other, layer]).find_input_layers(other):
            found = found - by_concept(attribution, sample, {**condition, other: ids}, layer)
    return found


class TestNumbers:
    @pytest.mark.slow
    @pytest.mark.parametrize("target", [0, 5])
    def test_of_layers_in_series_are_those_of_single_conditional_runs(
        self, attribution: CondAttribution, sample: torch.Tensor, target: int
    ) -> None:
        graph = concept_graph_of(attribution, sample, RULES, start={"y": [target]}, layers=SERIES, width=(3, 4))
        whole = attribution(sample, [{"y": [target]}], RULES).prediction[0, target]
        first = by_concept(attribution, sample, {"y": [target]}, SERIES[1])
        expected = first.abs().argsort(descending=True)[:3].tolist()
        assert [edge.target for edge in graph.children(graph.root)] == [(SERIES[1], one) for one in expected]
        for edge in graph.children(graph.root):
            assert edge.relevance == pytest.approx(float(first[edge.target[1]]), rel=1e-5)
            assert edge.share == pytest.approx(float(first[edge.target[1]] / whole), rel=1e-5)
            below = by_concept(attribution, sample, {SERIES[1]: [edge.target[1]], "y": [target]}, SERIES[0])
            best = below.abs().argsort(descending=True)[:4].tolist()
            children = graph.children(edge.target)
            assert [one.target[1] for one in children] == best
            assert [one.relevance for one in children] == pytest.approx(below[best].tolist(), rel=1e-4)
            shares = (below[best] / first[edge.target[1]]).tolist()
            assert [one.share for one in children] == pytest.approx(shares, rel=1e-4)
            node = graph[edge.target]
            # Sums of hundreds of float32 values with opposite signs.
            assert node.unexplained == pytest.approx(1 - sum(shares), abs=1e-4)
            assert node.others == pytest.approx(float(below.sum() / first[edge.target[1]]) - sum(shares), abs=1e-4)
            assert node.relevance == pytest.approx(float(first[edge.target[1]]), rel=1e-5)

    @pytest.mark.slow
    def test_where_a_shortcut_joins_layers_each_edge_is_direct(
        self, attribution: CondAttribution, sample: torch.Tensor
    ) -> None:
        layers = ["layer2.1.conv2", "layer3.0.conv2"]
        graph = concept_graph_of(attribution, sample, RULES, start={"layer3.1.conv1": [17], "y": [0]}, layers=layers,
                             width=[200])  # fmt: skip
        assert {edge.target[0] for edge in graph.edges} == set(layers)
        condition = {"layer3.1.conv1": [17], "y": [0]}
        for layer in layers:
            expected = direct(attribution, sample, condition, layer, [one for one in layers if one != layer])
            for edge in graph.edges:
                if edge.target[0] == layer:
                    assert edge.relevance == pytest.approx(float(expected[edge.target[1]]), abs=1e-5)

    @pytest.mark.slow
    def test_every_pass_is_conditioned_on_the_start_too(
        self, attribution: CondAttribution, sample: torch.Tensor
    ) -> None:
        start = {"layer3.1.conv2": [36], "y": [0]}
        graph = concept_graph_of(attribution, sample, RULES, start=start, layers=["layer3.1.conv1", "layer3.0.conv2"],
                             width=(2, 3))  # fmt: skip
        for edge in graph.children(graph.root):
            condition = {**start, edge.target[0]: [edge.target[1]]}
            below = by_concept(attribution, sample, condition, "layer3.0.conv2")
            for child in graph.children(edge.target):
                assert child.relevance == pytest.approx(float(below[child.target[1]]), rel=1e-4)

    def test_a_concept_without_a_class_starts_from_its_own_activation(
        self, attribution: CondAttribution, sample: torch.Tensor
    ) -> None:
        graph = concept_graph_of(attribution, sample, RULES, start=("layer3.1.conv2", 36), layers=["layer3.1.conv1"],
                             width=[3])  # fmt: skip
        attr = attribution(sample, [{"layer3.1.conv2": [36]}], RULES, start_layer="layer3.1.conv2",
                           record_layer=["layer3.1.conv1", "layer3.1.conv2"])  # fmt: skip
        assert graph.root.relevance == pytest.approx(float(attr.activations["layer3.1.conv2"][0, 36].sum()), rel=1e-5)
        below = ChannelConcept().attribute(attr.relevances["layer3.1.conv1"], abs_norm=False)[0]
        for edge in graph.edges:
            assert edge.relevance == pytest.approx(float(below[edge.target[1]]), rel=1e-5)

    def test_shares_of_all_concepts_and_the_unexplained_sum_to_one(self, graph: ConceptGraph) -> None:
        for node in graph:
            if node.unexplained is not None:
                shares = sum(edge.share for edge in graph.children(node))
                assert shares + node.unexplained == pytest.approx(1, abs=1e-9)
        assert {node.depth for node in graph if node.unexplained is None} == {3}

    def test_with_paths_past_the_concepts_are_those_of_such_runs(
        self, attribution: CondAttribution, sample: torch.Tensor
    ) -> None:
        layers = ["layer3.1.conv2", "layer3.0.conv2"]
        graph = concept_graph_of(
            attribution, sample, RULES, start={"y": [0]}, layers=layers, width=(2, 2), exclude_parallel=False
        )
        node = graph.children(graph.root)[0].target
        below = by_concept(attribution, sample, {node[0]: [node[1]], "y": [0]}, "layer3.0.conv2",
                           exclude_parallel=False)  # fmt: skip
        for edge in graph.children(node):
            assert edge.relevance == pytest.approx(float(below[edge.target[1]]), rel=1e-4)

    def test_do_not_depend_on_the_batch_size(
        self, attribution: CondAttribution, sample: torch.Tensor, graph: ConceptGraph
    ) -> None:
        other = concept_graph_of(attribution, sample, RULES, start={"y": [2]}, width=(3, 2, 2), batch_size=1)
        assert [node.key for node in other] == [node.key for node in graph]
        shares = [edge.share for edge in graph.edges]
        assert [edge.share for edge in other.edges] == pytest.approx(shares, abs=1e-6)


class TestWhatIsKept:
    @pytest.mark.slow
    def test_resnet18_has_no_concept_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(0)
        attribution, sample = CondAttribution(resnet18().eval()), torch.randn(1, 3, 64, 64)
        rows = counted(monkeypatch)
        graph = concept_graph_of(attribution, sample, RULES, width=(4, 3, 3), batch_size=64)
        keys = [node.key for node in graph]
        assert len(set(keys)) == len(keys) > 20
        assert len({(edge.source, edge.target) for edge in graph.edges}) == len(graph.edges)
        decomposed = [node for node in graph if node.decomposed]
        # One pass from the start to all layers, and one row for each concept that is decomposed, its layer at once.
        assert sum(rows) == 1 + len(decomposed)
        assert len(rows) == 1 + len({(node.layer, node.depth) for node in decomposed})

    @pytest.mark.slow
    def test_equal_calls_give_equal_graphs(
        self, attribution: CondAttribution, sample: torch.Tensor, graph: ConceptGraph
    ) -> None:
        again = concept_graph_of(attribution, sample, RULES, start={"y": [2]}, width=(3, 2, 2))
        assert again == graph
        assert hash(again) == hash(graph)
        assert again != concept_graph_of(attribution, sample, RULES, start={"y": [2]}, width=(3, 2, 1))

    @pytest.mark.slow
    def test_layers_may_be_named_in_any_order_and_by_pattern_or_type(
        self, attribution: CondAttribution, sample: torch.Tensor
    ) -> None:
        made = [
            concept_graph_of(attribution, sample, RULES, layers=layers, width=(2, 2))
            for layers in (SERIES, SERIES[::-1], r"layer3\.1\.conv.")
        ]
        assert made[0] == made[1] == made[2]
        typed = concept_graph_of(attribution, sample, RULES, layers=nn.Conv2d, width=(2, 2))
        assert typed.layers[1:] == ("layer3.1.conv2", "y")

    def test_by_default_the_predicted_class_is_decomposed(
        self, attribution: CondAttribution, sample: torch.Tensor
    ) -> None:
        with torch.no_grad():
            predicted = int(attribution.model(sample).argmax())
        graph = concept_graph_of(attribution, sample, RULES, width=1)
        assert graph.start == {"y": [predicted]}
        assert graph.root.name == f"class {predicted}"

    def test_by_default_children_lie_in_the_input_layers_of_the_traced_graph(
        self, attribution: CondAttribution, sample: torch.Tensor, graph: ConceptGraph
    ) -> None:
        linear = [name for name, one in attribution.model.named_modules() if isinstance(one, (nn.Conv2d, nn.Linear))]
        traced = trace_model_graph(attribution.model, sample, linear)
        output = next(name for name in linear if not traced.find_users(name))
        for edge in graph.edges:
            source = output if edge.source[0] == "y" else edge.source[0]
            assert edge.target[0] in traced.find_input_layers(source)

    def test_small_shares_are_left_out(
        self, attribution: CondAttribution, sample: torch.Tensor, graph: ConceptGraph
    ) -> None:
        limit = 0.05
        found = concept_graph_of(attribution, sample, RULES, start={"y": [2]}, width=(3, 2, 2), min_share=limit)
        assert all(abs(edge.share) >= limit for edge in found.edges)
        large = [edge for edge in graph.children(graph.root) if abs(edge.share) >= limit]
        assert list(found.children(found.root)) == large

    def test_signed_ranking_keeps_what_speaks_most_for_the_start(self) -> None:
        model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.Linear(4, 1, bias=False))
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 1], [0.5, 0]]))
            model[1].weight.copy_(torch.tensor([[1.0, -3, 0.5, 4]]))
        attribution, x = CondAttribution(model), torch.tensor([[1.0, 1.0]])
        # Relevance of the hidden units is weight times value: 1, -3, 1 and 2 of an output of 1.
        kept = {
            rank: [edge.target[1] for edge in concept_graph_of(attribution, x, epsilon(), width=2, rank=rank).edges]
            for rank in ("absolute", "signed")
        }
        assert kept == {"absolute": [1, 3], "signed": [3, 0]}

    def test_a_gate_feeds_nothing(self) -> None:
        graph = concept_graph_of(CondAttribution(Gated().eval()), torch.randn(1, 3, 6, 6), RULES, width=(8, 8))
        assert set(graph.layers) == {"y", "signal"}

    def test_concatenated_layers_both_feed(self) -> None:
        torch.manual_seed(0)
        graph = concept_graph_of(CondAttribution(Joined().eval()), torch.randn(1, 3, 6, 6), RULES, width=(8, 8))
        assert {edge.target[0] for edge in graph.children(graph.root)} == {"left", "right"}

    def test_other_concepts_than_channels_can_be_meant(
        self, attribution: CondAttribution, sample: torch.Tensor
    ) -> None:
        layer = "layer3.1.conv2"
        graph = concept_graph_of(attribution, sample, RULES, layers=layer, width=2, concepts={layer: NeuronConcept()})
        attr = attribution(sample, [graph.start], RULES, record_layer=[layer])
        best = attr.relevances[layer].flatten().abs().argsort(descending=True)[:2].tolist()
        assert [edge.target for edge in graph.edges] == [(layer, one) for one in best]
        assert graph[layer, best[0]].name == f"neuron {best[0]}"


class TestManySamples:
    @pytest.mark.slow
    def test_shares_are_means_over_all_samples_with_their_spread(
        self, attribution: CondAttribution, several: torch.Tensor
    ) -> None:
        mean = concept_graph_of(attribution, several, RULES, start={"y": [1]}, layers=SERIES, width=(2, 2))
        single = [
            concept_graph_of(attribution, one[None], RULES, start={"y": [1]}, layers=SERIES, width=(64, 64))
            for one in several
        ]
        assert mean.samples == 3
        for edge in mean.edges:
            shares = torch.tensor(
                [next(one.share for one in graph.edges if (one.source, one.target) == (edge.source, edge.target))
                 for graph in single], dtype=torch.float64)  # fmt: skip
            assert edge.n == 3
            assert edge.share == pytest.approx(float(shares.mean()), rel=1e-3)
            assert edge.share_std == pytest.approx(float(shares.std()), rel=1e-2, abs=1e-6)
        assert mean.root.share == 1
        assert ConceptGraph.from_json(mean.to_json()) == mean

    @pytest.mark.slow
    def test_slices_of_samples_change_nothing(self, attribution: CondAttribution, several: torch.Tensor) -> None:
        made = [
            concept_graph_of(attribution, several, RULES, start={"y": [1]}, layers=SERIES, width=(2, 2), batch_size=n)
            for n in (2, 16)
        ]
        assert [node.key for node in made[0]] == [node.key for node in made[1]]
        shares = [edge.share for edge in made[1].edges]
        assert [edge.share for edge in made[0].edges] == pytest.approx(shares, abs=1e-6)


class TestExports:
    def test_json_comes_back_equal(self, graph: ConceptGraph) -> None:
        text = json.dumps(graph.to_json(), allow_nan=False)
        assert ConceptGraph.from_json(json.loads(text)) == graph

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"format": "other"}, "no concept graph"),
            ({"version": 2}, "a concept graph of version 2, and this crp-kit reads version 1"),
            ({"nodes": []}, "whose parts do not fit"),
            ({"nodes": [{"layer": "y"}]}, "with a part missing or wrong"),
            ({"start": [["y", 7]]}, "its first node is not its start"),
        ],
    )
    def test_json_that_is_none_is_refused(self, graph: ConceptGraph, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            ConceptGraph.from_json(graph.to_json() | changes)

    @pytest.mark.slow
    def test_networkx_has_all_nodes_and_edges_with_their_values(self, graph: ConceptGraph) -> None:
        made = graph.to_networkx()
        assert set(made.nodes) == {node.key for node in graph}
        assert made.number_of_edges() == len(graph.edges)
        for edge in graph.edges:
            assert made.edges[edge.source, edge.target]["share"] == edge.share
        assert made.nodes[graph.root.key]["relevance"] == graph.root.relevance

    def test_without_networkx_the_error_says_how_to_get_it(
        self, graph: ConceptGraph, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "networkx", None)
        with pytest.raises(CrpKitError, match=r"pip install 'crp-kit\[graph\]'"):
            graph.to_networkx()

    def test_dot_has_every_text_quoted(self, graph: ConceptGraph) -> None:
        text = graph.to_dot(classes={2: 'a "class" \\ with\nodd signs'})
        assert r'label="a \"class\" \\ with\nodd signs' in text
        assert text.count("->") == len(graph.edges)
        bare = re.sub(r'"(?:[^"\\\n]|\\.)*"', "", text)
        assert '"' not in bare
        assert text.count("{") == text.count("}")

    def test_text_is_a_tree_that_writes_each_decomposition_once(self, graph: ConceptGraph) -> None:
        lines = as_text(graph._found, {}, least=0).splitlines()
        assert lines[0].startswith("ConceptGraph of class 2: ")
        assert sum("other concepts" in line for line in lines) == sum(node.decomposed for node in graph)
        assert len(lines) == 2 + len(graph.edges) + sum(node.decomposed for node in graph)


class Misshapen(ChannelConcept):
    """Channels whose mask fits no layer."""

    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        return torch.ones(7)


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"layers": ["layer3.1.conv9"]}, UnknownLayerError, "no layer named 'layer3.1.conv9'; did you mean"),
            ({"start": ("layer3.1.conv9", 3)}, UnknownLayerError, "no layer named 'layer3.1.conv9'"),
            ({"start": ("layer3.1.conv2", 64)}, ConceptRangeError, "channel 64 of 'layer3.1.conv2' is out of range"),
            ({"start": {"y": [99]}}, ConceptRangeError, "class 99 of 'y' is out of range"),
            (
                {"start": ("layer2.1.conv2", 1), "layers": ["layer3.1.conv2"]},
                UnreachableLayerError,
                "'layer3.1.conv2' does not feed 'layer2.1.conv2'",
            ),
            ({"start": {"y": [1, 2]}}, ConditionError, "decomposes one concept; start names 2 of 'y'"),
            ({"start": {"a": [1], "b": [2]}}, ConditionError, "one concept, one class, or one concept and one class"),
            ({"start": 3}, ConditionError, "start is a layer and a concept, such as"),
            ({"start": ("layer3.1.conv2", "x")}, ConditionError, "a whole number; got 'x'"),
            ({"width": ()}, ConditionError, "width is the number of children at each level"),
            ({"width": (3, 0)}, ConditionError, "each at least 1; got (3, 0)"),
            ({"min_share": -0.1}, ConditionError, "min_share is a share of at least 0; got -0.1"),
            ({"rank": "best"}, ConditionError, "rank is 'absolute' or 'signed'; got 'best'"),
            ({"layers": []}, InputError, "no layers to decompose into"),
            ({"layers": ["y"]}, UnknownLayerError, "no layer named 'y'"),
            ({"batch_size": 0}, ConditionError, "batch_size is a whole number of at least 1"),
            ({"start": ("conv1", 1)}, UnreachableLayerError, "no layer feeds 'conv1'"),
            ({"concepts": {"fc": ChannelConcept()}, "layers": SERIES}, UnknownLayerError, "names 'fc', which is no"),
            (
                {"concepts": {SERIES[1]: Misshapen(axis=1)}, "layers": SERIES},
                ConditionError,
                "the mask of 'layer3.1.conv2' has to be a tensor that broadcasts to (64, 8, 8)",
            ),
        ],
    )
    def test_are_told(
        self, attribution: CondAttribution, sample: torch.Tensor, options: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=re.escape(message)):
            concept_graph_of(attribution, sample, RULES, **options)

    def test_several_samples_without_a_start_are_refused(
        self, attribution: CondAttribution, several: torch.Tensor
    ) -> None:
        with pytest.raises(ConditionError, match=r"which class do the 3 samples have in common\? say start="):
            concept_graph_of(attribution, several, RULES)

    def test_a_start_without_relevance_has_no_shares(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
        with pytest.raises(ConditionError, match="no relevance starts at class 0"):
            concept_graph_of(CondAttribution(model), torch.zeros(1, 2), RULES)

    def test_a_node_that_is_not_there(self, graph: ConceptGraph) -> None:
        assert ("y", 3) not in graph
        with pytest.raises(InputError, match=r"the graph has no node \('y', 3\)"):
            graph.children(("y", 3))

    def test_a_model_that_is_no_classifier_needs_a_start(self) -> None:
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
        x = torch.randn(1, 3, 5, 5)
        with pytest.raises(ConditionError, match="say what to start from"):
            concept_graph_of(CondAttribution(model), x, RULES)
        assert len(concept_graph_of(CondAttribution(model), x, RULES, start={"y": 1}, width=2).edges) == 2


def epsilon() -> Any:
    """The epsilon rule everywhere."""
    from zennit.composites import LayerMapComposite
    from zennit.rules import Epsilon

    return LayerMapComposite([(nn.Linear, Epsilon(1e-9))])


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each relevance pass from now on."""
    rows: list[int] = []

    def count(run: Run, start: Ref, seeds: torch.Tensor, **options: Any) -> PassResult:
        rows.append(len(options["rows"]))
        return relevance_pass(run, start, seeds, **options)

    monkeypatch.setattr("crp_kit.concept_graph.shares.relevance_pass", count)
    return rows


class Gated(nn.Module):
    """A signal, and a gate for it that a layer makes."""

    def __init__(self) -> None:
        super().__init__()
        self.signal, self.gate, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self.head((self.signal(x) * torch.sigmoid(self.gate(x))).mean((2, 3)))
        return value


class Joined(nn.Module):
    """Two layers side by side, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self.head(torch.cat([self.left(x), self.right(x)], 1).relu().mean((2, 3)))
        return value


@pytest.mark.slow
@pytest.mark.parametrize("exclude_parallel", [True, False])
def test_concepts_carried_a_few_at_a_time_get_the_same_shares(sample: torch.Tensor, exclude_parallel: bool) -> None:
    def edges(values_at_once: int | None) -> dict[tuple[Any, Any], float]:
        attribution = CondAttribution(demo_resnet())
        attribution.engine.runtime.values_at_once = values_at_once
        start = {SERIES[1]: [0], "y": [2]}
        options = {"start": start, "width": (6, 2), "exclude_parallel": exclude_parallel}
        graph = concept_graph_of(attribution, sample, RULES, **options)
        return {(edge.source, edge.target): edge.relevance for edge in graph.edges}

    together, alone = edges(None), edges(1)
    assert len(together) > 6
    assert alone == pytest.approx(together, rel=1e-4)


class JoinedAndSplit(nn.Module):
    """Two branches, of which each convolution behind reads one alone, though their join is one tensor."""

    def __init__(self, swapped: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.left, self.right = nn.Conv2d(2, 4, 1, bias=False), nn.Conv2d(2, 4, 1, bias=False)
        self.own, self.part, self.head = nn.Conv2d(4, 3, 1, bias=False), nn.Conv2d(2, 3, 1, bias=False), nn.Linear(6, 2)
        self.swapped = swapped
        for parameter in self.parameters():
            parameter.data.abs_()  # every channel is alive

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([self.left(x).relu(), self.right(x).relu()], 1)
        first, second = joined.chunk(2, 1)
        if self.swapped:
            first, second = second, first
        behind = torch.cat([self.own(first), self.part(second[:, 2:])], 1)
        return self.head(behind.relu().mean((2, 3)))


def feeds(model: nn.Module, x: torch.Tensor, child: str, parent: str, concept: int) -> list[int]:
    """Channels of a layer on which a channel of another depends, by taking each away."""
    values: dict[str, torch.Tensor] = {}
    modules = dict(model.named_modules())
    kept = modules[parent].register_forward_hook(lambda module, given, out: values.__setitem__(parent, out.detach()))
    model(x)
    before, needed = values[parent][:, concept], []
    for channel in range(modules[child].out_channels):
        gone = torch.ones(modules[child].out_channels, 1, 1).index_fill(0, torch.tensor([channel]), 0)
        removed = modules[child].register_forward_hook(lambda module, given, out, gone=gone: out * gone)
        model(x)
        removed.remove()
        if not torch.equal(values[parent][:, concept], before):
            needed.append(channel)
    kept.remove()
    return needed


@pytest.mark.slow
@pytest.mark.parametrize("exclude_parallel", [True, False])
@pytest.mark.parametrize("swapped", [True, False])
def test_a_child_is_a_channel_that_feeds_the_concept_and_not_a_node_beside_it(
    exclude_parallel: bool, swapped: bool
) -> None:
    model, x = JoinedAndSplit(swapped).eval(), torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(5))
    graph = concept_graph_of(
        CondAttribution(model), x, RULES, start={"y": [0]}, layers=["own", "part", "left", "right"], width=(9, 9),
        exclude_parallel=exclude_parallel,
    )  # fmt: skip
    parents = [node for node in graph if node.layer in ("own", "part")]
    assert {node.layer for node in parents} == {"own", "part"}
    for node in parents:
        below = {edge.target for edge in graph.edges if edge.source == node.key}
        assert below, node
        for child in ("left", "right"):
            fed = feeds(model, x, child, node.layer, node.concept)
            assert {concept for layer, concept in below if layer == child} == set(fed), (node, child)
