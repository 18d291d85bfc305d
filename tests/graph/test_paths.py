"""Paths count if and only if the conditioned nodes on them form a maximal chain; recorded relevance is what arrives."""

from __future__ import annotations

import pytest
import torch
from family_check import lrp_zero, relative
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.chains import inclusion_exclusion
from oracles.edge_cut import fx_edge_cut
from oracles.families import build
from oracles.linear_dag import LinearDag, brute_force, brute_force_recorded, random_dag
from oracles.start import scalar_start
from oracles.strategies import dags
from oracles.two_pass import masked, two_pass
from torch import nn

import crp_kit
from crp_kit.data import demo_resnet
from crp_kit.errors import UnreachableLayerError

LIMIT = 1e-9


def soft(factor: torch.Tensor):
    """Return the mask function of crp-kit that ignores ids and multiplies by a factor."""
    return lambda ids, shape, *, layer_name: factor


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(dag=dags(), data=st.data())
def test_random_graphs_equal_the_sum_over_all_listed_paths(dag, data) -> None:
    module = LinearDag(dag, seed=data.draw(st.integers(0, 99)))
    nodes = [f"n{i}" for i in range(len(dag.sources))]
    conditioned = data.draw(st.lists(st.sampled_from(nodes), unique=True, max_size=4))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    factors = {name: torch.rand(3, generator=generator, dtype=torch.float64) for name in conditioned}
    x = torch.randn(1, 3, generator=generator, dtype=torch.float64)
    masks = {name: (lambda relevance, factor=factor: relevance * factor) for name, factor in factors.items()}
    found = crp_kit.CondAttribution(module)(
        x,
        {**{name: [0] for name in conditioned}, "y": [1]},
        lrp_zero(),
        mask_map={name: soft(factor) for name, factor in factors.items()},
        record_layer=nodes,
    )
    scale = float(module(x)[0, 1].abs()) + 1
    expected = brute_force(module, x, 1, masks)
    assert (found.input_relevance - expected).abs().max() < LIMIT * scale * 100
    for name in nodes:
        recorded = brute_force_recorded(module, x, 1, masks, name)
        assert (found.relevances[name] - recorded).abs().max() < LIMIT * scale * 100


def test_naming_order_does_not_matter() -> None:
    module, x = random_dag(3), torch.randn(1, 3, dtype=torch.float64)
    names = ["n0", "n2", "n4"]
    maps = [
        crp_kit.CondAttribution(module)(x, {**{name: [0, 1] for name in order}, "y": [0]}, lrp_zero()).input_relevance
        for order in (names, names[::-1])
    ]
    assert torch.equal(*maps)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "shufflenet_v2_x1_0"])
def test_heatmaps_equal_an_edge_cut_on_the_fx_graph(name: str) -> None:
    layers = {
        "resnet18": [["layer2.0.conv1"], ["layer2.0.downsample.0"], ["layer3.1.conv2", "layer2.0.conv2"]],
        "googlenet": [["inception4a.branch1.conv"], ["inception4a.branch2.1.conv", "inception4a.branch3.0.conv"]],
        "shufflenet_v2_x1_0": [["stage3.1.branch2.0"], ["stage3.2.branch2.5", "stage2.1.branch2.0"]],
    }[name]
    model, x = build(name)
    with torch.no_grad():
        _, selection = scalar_start(model(x))
    attribution = crp_kit.CondAttribution(model)
    for names in layers:
        masks = {one: (lambda relevance: relevance * _channels(relevance.shape[1])[:, None, None]) for one in names}
        sizes = {one: dict(model.named_modules())[one].out_channels for one in names}
        condition = {one: list(range(0, sizes[one], 2)) for one in names}
        found = attribution(x, condition, lrp_zero(), init_rel=lambda value: value * selection).input_relevance
        assert relative(found, fx_edge_cut(model, x, selection, masks)) < 1e-6
        assert relative(found, inclusion_exclusion(model, x, selection, masks)) < 1e-6


def _channels(size: int) -> torch.Tensor:
    factor = torch.zeros(size, dtype=torch.float64)
    factor[::2] = 1
    return factor


class Shortcut(nn.Module):
    """y = head(a(x) + x), on two numbers; every relevance of it is written out below."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        self.a.weight.data = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
        self.head.weight.data = torch.tensor([[2.0, 1.0]])
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.a(x) + x)


def test_hand_computed_shortcut() -> None:
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)  # a = (5, 6), sum = (6, 8), y = 20
    attribution = crp_kit.CondAttribution(Shortcut())
    conditions = [{"a": [0], "y": [0]}, {"a": [1], "y": [0]}, {"a": [], "y": [0]}, {"y": [0]}]
    attr = attribution(x, conditions, lrp_zero(), record_layer=["a", "add"])
    # at the sum arrives (12, 8); a contributes 5/6 and 6/8 of it: (10, 6), before its own mask, in every row
    assert torch.allclose(attr.relevances["a"], torch.tensor([[10.0, 6.0]], dtype=torch.float64).expand(4, 2))
    assert torch.allclose(attr.relevances["add"], torch.tensor([[12.0, 8.0]], dtype=torch.float64).expand(4, 2))
    # a0 = 1*1 + 2*2 splits 10 into (2, 8); a1 = 3*2 gives 6 to x1; the shortcut adds (2, 2) where it is left in
    expected = torch.tensor([[2.0, 8.0], [0.0, 6.0], [0.0, 0.0], [4.0, 16.0]], dtype=torch.float64)
    assert torch.allclose(attr.input_relevance, expected)
    open_ = attribution(x, conditions[:1], lrp_zero(), exclude_parallel=False).input_relevance
    assert torch.allclose(open_, torch.tensor([[4.0, 10.0]], dtype=torch.float64))


def test_soft_mask_of_a_half_gives_half_with_and_without_parallel_paths_cut() -> None:
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    attribution = crp_kit.CondAttribution(Shortcut())
    half = soft(torch.full((2,), 0.5, dtype=torch.float64))
    cut = attribution(x, {"a": [0], "y": [0]}, lrp_zero(), mask_map=half).input_relevance
    assert torch.allclose(cut, torch.tensor([[1.0, 7.0]], dtype=torch.float64))
    open_ = attribution(x, {"a": [0], "y": [0]}, lrp_zero(), mask_map=half, exclude_parallel=False).input_relevance
    assert torch.allclose(open_, torch.tensor([[3.0, 9.0]], dtype=torch.float64))


@pytest.fixture(scope="module")
def case():
    model, x = build("resnet18")
    with torch.no_grad():
        output, selection = scalar_start(model(x))
    return model, x, selection, int(output.argmax()), crp_kit.CondAttribution(model)


class TestResNet:
    """On a residual network with identity and down-sampling shortcuts, in float64."""

    @pytest.mark.slow
    @pytest.mark.parametrize("layer", ["layer2.1.conv2", "layer2.0.conv1", "layer2.0.downsample.0"])
    def test_shortcuts_are_cut(self, case, layer: str) -> None:
        model, x, selection, y, attribution = case
        masks = {layer: lambda relevance: relevance * _channels(relevance.shape[1])[:, None, None]}
        channels = list(range(0, dict(model.named_modules())[layer].out_channels, 2))
        found = attribution(x, {layer: channels, "y": [y]}, lrp_zero()).input_relevance
        assert relative(found, two_pass(model, x, selection, masks)) < 1e-6
        left_in = attribution(x, {layer: channels, "y": [y]}, lrp_zero(), exclude_parallel=False).input_relevance
        assert relative(left_in, masked(model, x, selection, masks)) < 1e-6

    def test_parallel_layers_mean_their_union(self, case) -> None:
        _, x, _, y, attribution = case
        main, side = {"layer2.0.conv2": [1, 2]}, {"layer2.0.downsample.0": [3]}
        maps = attribution(x, [{**c, "y": [y]} for c in ({**main, **side}, main, side)], lrp_zero()).input_relevance
        assert relative(maps[0], maps[1] + maps[2]) < 1e-9

    def test_a_layer_that_lets_nothing_pass_gives_exactly_zero(self, case) -> None:
        _, x, _, y, attribution = case
        assert not attribution(x, {"layer2.0.conv2": [], "y": [y]}, lrp_zero()).heatmap.any()

    def test_functional_and_repeated_nodes_can_be_conditioned(self, case) -> None:
        _, x, _, y, attribution = case
        names = ["layer1.0.add", "layer1.0.relu_1", "layer1.0"]
        maps = attribution(x, [{name: [0, 5], "y": [y]} for name in names], lrp_zero()).input_relevance
        assert relative(maps[1], maps[0]) < 1e-12
        assert relative(maps[2], maps[1]) == 0

    def test_the_input_can_be_conditioned(self, case) -> None:
        _, x, _, y, attribution = case
        maps = attribution(x, [{"input": [1], "y": [y]}, {"y": [y]}], lrp_zero()).input_relevance
        assert torch.equal(maps[0, 1], maps[1, 1])
        assert not maps[0, [0, 2]].any()

    def test_what_by_passes_records_zero_and_what_lies_below_is_conditioned(self, case) -> None:
        _, x, _, y, attribution = case
        layers = ["layer2.0.downsample.0", "layer1.1.conv2", "layer3.0.conv1"]
        attr = attribution(x, [{"layer2.0.conv2": [], "y": [y]}, {"y": [y]}], lrp_zero(), record_layer=layers)
        assert not attr.relevances["layer2.0.downsample.0"][0].any()
        assert not attr.relevances["layer1.1.conv2"][0].any()
        above = attr.relevances["layer3.0.conv1"]
        assert relative(above[0], above[1]) < 1e-12

    def test_relevance_recorded_at_a_conditioned_layer_is_neither_doubled_nor_masked(self, case) -> None:
        _, x, _, y, attribution = case
        sets = [{"layer3.0.conv2": [4], "y": [y]}, {"y": [y]}]
        for cut in (True, False):
            attr = attribution(x, sets, lrp_zero(), record_layer=["layer3.0.conv2"], exclude_parallel=cut)
            assert relative(*attr.relevances["layer3.0.conv2"]) < 1e-12

    def test_several_targets_add_up(self, case) -> None:
        _, x, _, _, attribution = case
        maps = attribution(x, [{"y": [0, 3]}, {"y": 0}, {"y": [3]}], lrp_zero()).input_relevance
        assert relative(maps[0], maps[1] + maps[2]) < 1e-9

    def test_start_layer_starts_there(self, case) -> None:
        _, x, _, _, attribution = case
        options = {"start_layer": "layer3.0.conv2", "record_layer": ["layer3.0.conv2"]}
        attr = attribution(x, [{"layer3.0.conv2": [4]}, {"layer3.0.conv2": [5]}], lrp_zero(), **options)
        activation = attr.activations["layer3.0.conv2"]
        assert torch.equal(attr.relevances["layer3.0.conv2"], activation)
        ones = attribution(x, {"layer3.0.conv2": [4]}, lrp_zero(), init_rel=1, **options)
        assert torch.equal(ones.relevances["layer3.0.conv2"], torch.ones_like(activation[:1]))
        with pytest.raises(UnreachableLayerError, match=r"no relevance can pass 'layer4.0.conv1'"):
            attribution(x, {"layer4.0.conv1": [0]}, lrp_zero(), start_layer="layer3.0.conv2")


def test_a_layer_inside_a_gate_is_refused() -> None:
    model, x = build("efficientnet_b0")
    gates = [name for name, _ in model.named_modules() if name.endswith(".fc1")]
    with pytest.raises(UnreachableLayerError, match="inside a gate"):
        crp_kit.CondAttribution(model)(x, {gates[0]: [0], "y": [0]}, lrp_zero())
    with pytest.raises(UnreachableLayerError, match="nothing to record"):
        crp_kit.CondAttribution(model)(x, {"y": [0]}, lrp_zero(), record_layer=[gates[0]])


@pytest.fixture(scope="module")
def attribution() -> crp_kit.CondAttribution:
    return crp_kit.CondAttribution(demo_resnet().double())


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class TestRows:
    """Rows come in the caller's order, whatever the condition sets name and however they are sliced."""

    SETS = (
        {"layer2.1.conv2": [3], "y": [1]},
        {"layer3.0.conv1": [2], "y": [0]},
        {"y": [2]},
        {"layer2.1.conv2": [5, 6], "y": [4]},
        {"layer3.0.conv1": [1], "layer2.1.conv2": [0], "y": [1]},
    )

    def single(self, attribution, image, condition) -> torch.Tensor:
        return attribution(image[None], condition, "epsilon_plus_flat", record_layer=["layer1.0.conv1"])

    @pytest.mark.examples
    @pytest.mark.slow
    @pytest.mark.parametrize("batch_size", [None, 1, 2, 4, 100])
    def test_product_is_sample_by_sample_with_conditions_fastest(self, attribution, images, batch_size) -> None:
        sets = list(self.SETS)
        attr = attribution(images, sets, "epsilon_plus_flat", record_layer=["layer1.0.conv1"], batch_size=batch_size)
        assert attr.samples == tuple(sample for sample in range(3) for _ in sets)
        for row, (sample, one) in enumerate((sample, one) for sample in images for one in sets):
            expected = self.single(attribution, sample, one)
            # rounding only: other batch sizes take other kernels
            assert relative(attr.heatmap[row], expected.heatmap[0]) < 1e-8
            assert relative(attr.relevances["layer1.0.conv1"][row], expected.relevances["layer1.0.conv1"][0]) < 1e-8
            assert relative(attr.activations["layer1.0.conv1"][row], expected.activations["layer1.0.conv1"][0]) < 1e-12
            assert relative(attr.prediction[row], expected.prediction[0]) < 1e-12

    @pytest.mark.parametrize("batch_size", [1, 2, 3])
    def test_zip_pairs_each_sample_with_its_own_set(self, attribution, images, batch_size) -> None:
        sets = list(self.SETS[:3])
        attr = attribution(images, sets, "epsilon_plus_flat", batch_size=batch_size)
        assert len(attr) == 3
        for row, (sample, one) in enumerate(zip(images, sets, strict=True)):
            assert relative(attr.heatmap[row], self.single(attribution, sample, one).heatmap[0]) < 1e-8

    def test_product_can_be_asked_for_where_lengths_agree(self, attribution, images) -> None:
        assert len(attribution(images, list(self.SETS[:3]), "epsilon_plus_flat", pairing="product")) == 9

    def test_slices_are_the_rows(self, attribution, images) -> None:
        sets = list(self.SETS)
        whole = attribution(images, sets, "epsilon_plus_flat", batch_size=2)
        parts = list(attribution.generate(images, sets, "epsilon_plus_flat", batch_size=2))
        assert max(map(len, parts)) == 2
        assert torch.equal(torch.cat([part.heatmap for part in parts]), whole.heatmap)
        assert tuple(one for part in parts for one in part.conditions) == whole.conditions

    def test_start_relevance_can_differ_by_row(self, attribution, images) -> None:
        sets = list(self.SETS[:2])
        weights = torch.tensor([1.0, -2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.float64)
        options = {"pairing": "product", "batch_size": 1}
        plain = attribution(images, sets, "epsilon_plus_flat", init_rel=1.0, **options).heatmap
        given = weights[:, None].expand(6, 8)
        scaled = attribution(images, sets, "epsilon_plus_flat", init_rel=given, **options).heatmap
        assert relative(scaled, plain * weights[:, None, None]) < 1e-9
