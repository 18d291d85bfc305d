"""Starting, recording and conditioning inside a unit of a layer and a BatchNorm.

A start cuts the unit: the layer alone is below it, or the BatchNorm alone; the oracle is zennit on the model up to
there. Records and conditions refer to the unit: the oracle is zennit on the model with merged BatchNorms.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from studies import atlas_of, concept_graph_of, references_of
from torch import nn
from torchvision.models.resnet import BasicBlock
from zennit import rules
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.core import Composite, Hook
from zennit.types import BatchNorm, Convolution, Linear

from crp_kit import CondAttribution, NeuronConcept
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.propagation.relevance_pass import relevance_pass
from crp_kit.propagation.step_choice import BatchNormRule

pytestmark = pytest.mark.zennit_both

ROUNDING = 1e-9
"""Of the largest: float64 rounding, times denominators as small as the stabilizer of 1e-6."""
SINGLE = 2e-5
"""The same in float32, where the largest error below was 1.4e-6."""
LRP0 = LayerMapComposite([*layer_map_base(1e-12), (Linear, rules.Epsilon(1e-12))])
RULES: dict[str, Callable[[], Hook]] = {
    "epsilon": rules.Epsilon,
    "epsilon 0.25": lambda: rules.Epsilon(0.25),
    "zplus": rules.ZPlus,
    "gamma": lambda: rules.Gamma(0.25),
    "alpha beta": lambda: rules.AlphaBeta(2, 1),
    "w square": rules.WSquare,
}
LINEAR = (nn.Linear, nn.modules.conv._ConvNd)
SAME = (nn.Dropout, nn.Dropout2d)


def composite(rule: str) -> Composite:
    return LayerMapComposite([*layer_map_base(), (Convolution, RULES[rule]()), (nn.Linear, rules.Epsilon())])


# ---------------------------------------------------------------------- chains of layers with folds

HEAD = (nn.AdaptiveAvgPool2d(2), nn.Flatten())
CHAINS: dict[str, tuple[Callable[[], Sequence[nn.Module]], tuple[int, ...]]] = {
    "convolution": (
        lambda: [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6),
                 nn.ReLU(), *HEAD, nn.Linear(24, 3)],
        (2, 6, 6),
    ),
    "grouped, with stride and padding": (
        lambda: [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                 nn.Conv2d(4, 6, 3, groups=2, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), *HEAD,
                 nn.Linear(24, 3)],
        (2, 6, 6),
    ),
    "linear": (
        lambda: [nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6),
                 nn.ReLU(), nn.Linear(6, 3)],
        (5,),
    ),
    "signal": (
        lambda: [nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4), nn.ReLU(),
                 nn.Flatten(), nn.Linear(16, 3)],
        (2, 8),
    ),
    "volume": (
        lambda: [nn.Conv3d(1, 3, 2), nn.BatchNorm3d(3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)], (1, 3, 3, 3),
    ),
    "transposed": (
        lambda: [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2, groups=2), nn.BatchNorm2d(4), nn.ReLU(),
                 *HEAD, nn.Linear(16, 3)],
        (2, 5, 5),
    ),
    "dropout between": (
        lambda: [nn.Conv2d(2, 4, 3), nn.Dropout2d(), nn.Dropout(), nn.BatchNorm2d(4), nn.ReLU(), *HEAD,
                 nn.Linear(16, 3)],
        (2, 6, 6),
    ),
    "to the right": (
        lambda: [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 6, 2, groups=2),
                 nn.ReLU(), *HEAD, nn.Linear(24, 3)],
        (2, 6, 6),
    ),
    "to the right, linear": (
        lambda: [nn.Linear(5, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 6), nn.ReLU(),
                 nn.Linear(6, 3)],
        (5,),
    ),
    "at the input": (lambda: [nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3), nn.ReLU(), *HEAD, nn.Linear(16, 3)], (2, 5, 5)),
    "both at once": (
        lambda: [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 2), nn.Dropout(), nn.BatchNorm2d(6),
                 nn.ReLU(), *HEAD, nn.Linear(24, 3)],
        (2, 6, 6),
    ),
}  # fmt: skip


def chain(name: str) -> tuple[nn.Sequential, torch.Tensor]:
    make, shape = CHAINS[name]
    return prepared(*make()), torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def prepared(*modules: nn.Module) -> nn.Sequential:
    """A model in float64 whose BatchNorms have statistics and factors of either sign."""
    torch.manual_seed(0)
    model = nn.Sequential(*modules).double().eval()
    randomise(model)
    return model


def randomise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.normal_()
            module.bias.data.normal_()
        elif isinstance(module, LINEAR):
            module.weight.data.normal_().mul_(0.5)
            if module.bias is not None:
                module.bias.data.normal_()


# ---------------------------------------------------------------------- zennit


def factors(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - scale * norm.running_mean


def behind(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """A layer and the BatchNorm behind it as one layer."""
    (scale, shift), bias = factors(norm), 0 if layer.bias is None else layer.bias
    merged, axis = deepcopy(layer), 0
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        groups, axis = layer.groups, 1
        each = scale.view(groups, -1).repeat_interleave(layer.weight.shape[0] // groups, 0)
        merged.weight.data = layer.weight * each[..., None, None]
    else:
        merged.weight.data = layer.weight * scale.view(-1, *(1,) * (layer.weight.ndim - 1 - axis))
    merged.bias = nn.Parameter((bias * scale + shift).detach())
    return merged


def in_front(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """A layer without padding and the BatchNorm in front of it as one layer."""
    scale, shift = factors(norm)
    merged, groups = deepcopy(layer), getattr(layer, "groups", 1)
    each = scale.view(groups, -1).repeat_interleave(layer.weight.shape[0] // groups, 0)
    offset = shift.view(groups, -1).repeat_interleave(layer.weight.shape[0] // groups, 0)
    rest = (1,) * (layer.weight.ndim - 2)
    merged.weight.data = layer.weight * each.view(*each.shape, *rest)
    taken = (layer.weight * offset.view(*offset.shape, *rest)).flatten(1).sum(1)
    merged.bias = nn.Parameter((taken if layer.bias is None else layer.bias + taken).detach())
    return merged


def merged(modules: Sequence[nn.Module]) -> nn.Sequential:
    """The modules with each BatchNorm that has a layer next to it merged into that, the layer in front first."""
    found = [module for module in modules if not isinstance(module, SAME)]
    place = 0
    while place < len(found) - 1:
        first, second = found[place : place + 2]
        if isinstance(first, LINEAR) and isinstance(second, nn.modules.batchnorm._BatchNorm):
            found[place : place + 2] = [behind(first, second)]
        else:
            place += 1
    place = 0
    while place < len(found) - 1:
        first, second = found[place : place + 2]
        if isinstance(first, nn.modules.batchnorm._BatchNorm) and isinstance(second, LINEAR):
            found[place : place + 2] = [in_front(second, first)]
        else:
            place += 1
    return nn.Sequential(*found)


def by_zennit(modules: Sequence[nn.Module], x: torch.Tensor, relevance: torch.Tensor | None, rule: str) -> torch.Tensor:
    """Input relevance by zennit's hooks, with merged BatchNorms; one that is left is an affine map under Epsilon."""
    rules_by_type = [(BatchNorm, rules.Epsilon()), *composite(rule).layer_map]
    with LayerMapComposite(rules_by_type).context(merged(modules)) as hooked:
        leaf = x.clone().requires_grad_()
        output = hooked(leaf)
        start = output.detach() if relevance is None else relevance
        return torch.autograd.grad(output, leaf, start)[0]


def check_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = ROUNDING) -> None:
    """Compare with the largest value of what is expected."""
    found, expected = found.detach(), expected.detach()
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    assert float((found - expected).abs().max() / expected.abs().max()) < tolerance


# ---------------------------------------------------------------------- starts


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", CHAINS)
def test_a_start_is_one_of_the_model_up_to_there(name: str, rule: str) -> None:
    model, x = chain(name)
    attribution = CondAttribution(model)
    for index in range(len(model)):
        expected = by_zennit(model[: index + 1], x, None, rule)
        check_close(attribution(x, [{}], composite(rule), start_layer=str(index)).input_relevance, expected)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["epsilon 0.25", "gamma"])
@pytest.mark.parametrize("name", CHAINS)
def test_a_start_in_float32_is_near_that_in_float64(name: str, rule: str) -> None:
    model, x = chain(name)
    attribution = CondAttribution(deepcopy(model).float())
    for index in range(len(model)):
        expected = by_zennit(model[: index + 1], x, None, rule)
        found = attribution(x.float(), [{}], composite(rule), start_layer=str(index))
        check_close(found.input_relevance.double(), expected, SINGLE)


@pytest.mark.parametrize("name", ["convolution", "linear", "signal", "volume"])
def test_a_start_at_one_channel_is_its_own_value(name: str) -> None:
    model, x = chain(name)
    model[0].bias = None
    found = CondAttribution(model)(x, [{"0": [1]}], LRP0, start_layer="0", record_layer=["0"])
    check_close(found.input_relevance.flatten(1).sum(1), found.activations["0"][:, 1].reshape(2, -1).sum(1))
    assert torch.equal(found.relevances["0"], found.activations["0"])


@pytest.mark.parametrize("layer", ["0", "1", "2"])
def test_a_start_of_ones_own_is_handed_on_by_the_layer_alone(layer: str) -> None:
    model, x = chain("dropout between")
    given = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = by_zennit(model[:1], x, given, "gamma")
    found = CondAttribution(model)(x, [{}], composite("gamma"), start_layer=layer, init_rel=given)
    check_close(found.input_relevance, expected)


@pytest.mark.parametrize("rule", ["epsilon", "zplus"])
@pytest.mark.parametrize("choice", ["affine", "epsilon", "pass", "threshold"])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_start_in_front_of_the_layer_of_a_batch_norm_leaves_the_batch_norm_alone(
    padding: int, choice: BatchNormRule, rule: str
) -> None:
    model = prepared(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=padding))
    inner = prepared(*model[:3], nn.Dropout(), model[4])
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    own = rules.Pass() if choice == "pass" else rules.Epsilon()
    for net, start in ((model, 2), (model, 3), (inner, 2), (inner, 3)):
        with LayerMapComposite([(BatchNorm, own), *composite(rule).layer_map]).context(net[: start + 1]) as hooked:
            leaf = x.clone().requires_grad_()
            output = hooked(leaf)
            expected = torch.autograd.grad(output, leaf, output.detach())[0]
        found = CondAttribution(net, batch_norm=choice)(x, [{}], composite(rule), start_layer=str(start))
        check_close(found.input_relevance, expected)


@pytest.mark.parametrize("start", range(2, 7))
def test_a_start_between_a_threshold_and_its_layer_leaves_the_batch_norm_alone(start: int) -> None:
    model = prepared(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
                     nn.Dropout(), nn.Linear(16, 3))  # fmt: skip
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    expected = by_zennit(model[: start + 1], x, None, "zplus")
    attribution = CondAttribution(model, batch_norm="threshold")
    folded = attribution(x, [{"y": [0]}], composite("zplus")).heatmap
    found = attribution(x, [{}], composite("zplus"), start_layer=str(start), record_layer=[str(start)])
    check_close(found.input_relevance, expected)
    check_close(found.activations[str(start)], model[: start + 1](x))
    assert torch.equal(found.relevances[str(start)], found.activations[str(start)])
    assert torch.equal(attribution(x, [{"y": [0]}], composite("zplus")).heatmap, folded)


class Twice(nn.Module):
    """A BatchNorm that two layers read, one of them through dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.norm, self.drop = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout()
        self.left, self.right, self.head = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.front(x).relu())
        return self.head((self.left(self.drop(x)) + self.right(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("start", ["norm", "drop"])
def test_a_start_at_a_batch_norm_of_two_layers_cuts_both(start: str) -> None:
    model, x = prepared(Twice())[0], torch.randn(2, 2, 7, 7, dtype=torch.float64)
    expected = by_zennit([model.front, nn.ReLU(), model.norm], x, None, "zplus")
    found = CondAttribution(model)(x, [{}], composite("zplus"), start_layer=start)
    check_close(found.input_relevance, expected)


def test_a_start_inside_a_unit_is_diagnosed_with_the_rules_below_it() -> None:
    model, x = chain("to the right")
    found = CondAttribution(model)(x[:1], [{}], LRP0, start_layer="2", diagnose=True)
    assert found.conservation is not None
    (row,) = found.conservation.rows
    by_name = {node.name: node for node in row.nodes}
    assert by_name["2"].rule == "Epsilon (affine)"
    shift = float(factors(model[2])[1].sum().detach())
    assert by_name["2"].constants == pytest.approx(16 * shift, rel=1e-6)
    assert row.start == pytest.approx(float(model[:3](x[:1]).sum().detach()), rel=1e-6)


@pytest.mark.parametrize("layer", ["0", "3"])
def test_rows_of_a_start_inside_a_unit_are_those_alone(layer: str) -> None:
    model, x = chain("both at once")
    attribution, sets = CondAttribution(model), [{layer: [2]}, {layer: [0, 1]}, {layer: []}, {layer: [2]}]
    together = attribution(x, sets, composite("gamma"), start_layer=layer, pairing="product").input_relevance
    alone = [attribution(x, [one], composite("gamma"), start_layer=layer).input_relevance for one in sets]
    check_close(together, torch.stack(alone, 1).flatten(0, 1))


def test_a_run_and_its_values_are_gone_with_its_last_reader() -> None:
    model, x = chain("both at once")
    engine = CondAttribution(model).engine
    gc.collect()
    gc.disable()
    try:
        run = engine.run(x, LRP0)
        ref = run.graph.find("3")
        relevance_pass(run, ref, run.recording.value(ref)[None], rows=torch.zeros(1, dtype=torch.long), masks={})
        alive = weakref.ref(run.recording)
        del run
        assert alive() is None
    finally:
        gc.enable()


# ---------------------------------------------------------------------- records and conditions


INSIDE = [
    ("convolution", "3", 5), ("grouped, with stride and padding", "3", 5), ("linear", "3", 5), ("signal", "3", 5),
    ("volume", "0", 2), ("transposed", "2", 4), ("dropout between", "0", 4), ("dropout between", "1", 4),
    ("dropout between", "2", 4), ("both at once", "3", 6), ("both at once", "4", 6),
]  # fmt: skip
"""Chain, a node inside of a unit, and where the unit ends."""
BEFORE = [
    ("to the right", "2", 2), ("to the right", "3", 2), ("to the right, linear", "2", 2),
    ("to the right, linear", "3", 2), ("both at once", "2", 2), ("at the input", "0", 0),
]  # fmt: skip


@pytest.mark.parametrize("rule", ["epsilon", "zplus", "gamma"])
@pytest.mark.parametrize(("name", "layer", "end"), INSIDE + BEFORE)
def test_records_and_conditions_inside_a_unit_are_those_of_merged_layers(
    name: str, layer: str, end: int, rule: str
) -> None:
    model, x = chain(name)
    start = torch.zeros_like(model(x))
    start[:, 1] = model(x)[:, 1].detach()
    with torch.no_grad():
        value = merged(model[:end])(x) if end else x
    relevance = by_zennit(model[end:], value, start, rule)
    attribution = CondAttribution(model)
    found = attribution(x, [{"y": [1]}], composite(rule), record_layer=[layer])
    check_close(found.relevances[layer], relevance)
    check_close(found.activations[layer], model[: int(layer) + 1](x))
    mask = torch.zeros_like(relevance)
    mask[:, 1:] = 1
    expected = by_zennit(model[:end], x, relevance * mask, rule) if end else relevance * mask
    conditioned = attribution(x, [{"y": [1], layer: list(range(1, relevance.shape[1]))}], composite(rule))
    check_close(conditioned.input_relevance, expected)


BESIDE = [(name, layer, end - 1) for name, layer, end in (*INSIDE, *BEFORE[:-1])]
"""Chain, a node inside of a unit, and one on the other side of the BatchNorm."""


@pytest.mark.parametrize(("name", "layer", "beside"), BESIDE)
def test_conditions_on_either_side_of_a_batch_norm_are_the_same(name: str, layer: str, beside: int) -> None:
    model, x = chain(name)
    attribution, rule = CondAttribution(model), composite("gamma")
    neurons = list(range(0, model[: int(layer) + 1](x)[0].numel(), 2))
    for concept, ids in ((None, [0, 2]), (NeuronConcept(), neurons)):
        one, other = (
            attribution(x, [{"y": [1], node: ids}], rule, mask_map=concept).input_relevance
            for node in (layer, str(beside))
        )
        check_close(one, other)


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name, layer, _ in (*INSIDE, *BEFORE)])
def test_a_condition_on_all_channels_and_a_record_change_nothing(name: str, layer: str) -> None:
    model, x = chain(name)
    attribution, rule = CondAttribution(model), composite("gamma")
    plain = attribution(x, [{"y": [1]}], rule).input_relevance
    channels = list(range(model[: int(layer) + 1](x).shape[1]))
    check_close(attribution(x, [{"y": [1], layer: channels}], rule).input_relevance, plain)
    check_close(attribution(x, [{"y": [1]}], rule, record_layer=[layer]).input_relevance, plain)


# ---------------------------------------------------------------------- concept graphs and references


def bias_free() -> nn.Sequential:
    return prepared(
        *(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU()),
        *(nn.Conv2d(4, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.Conv2d(5, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    )


def test_what_a_concept_in_front_of_a_batch_norm_is_made_of_is_all_of_it() -> None:
    model, x = bias_free(), torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    attribution, value = CondAttribution(model), model[:3](x).detach()
    for channel in range(5):
        graph = concept_graph_of(attribution, x, LRP0, start={"2": [channel]}, layers=["0"], width=(4,))
        assert graph.root.relevance == pytest.approx(float(value[0, channel].sum()), rel=1e-9)
        assert sum(edge.share for edge in graph.children(graph.root)) == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("exclude_parallel", [True, False])
def test_a_concept_graph_cuts_the_unit_of_its_start_and_no_other(exclude_parallel: bool) -> None:
    model, x = bias_free(), torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    attribution, rule = CondAttribution(model), composite("gamma")
    for start, options in (({"5": [1]}, {"start_layer": "5"}), ({"y": [1], "5": [1]}, {})):
        graph = concept_graph_of(attribution, x, rule, start=start, layers=["2", "0"], width=(5, 4),
                             exclude_parallel=exclude_parallel)  # fmt: skip
        first = attribution(x, [start], rule, record_layer=["2"], **options).relevances["2"]
        for edge in graph.children(graph.root):
            channel = edge.target[1]
            assert edge.relevance == pytest.approx(float(first[0, channel].sum()), rel=1e-9)
            below = attribution(x, [{**start, "2": [channel]}], rule, record_layer=["0"], **options).relevances["0"]
            for child in graph.children(edge.target):
                assert child.relevance == pytest.approx(float(below[0, child.target[1]].sum()), rel=1e-9)


def test_shares_of_the_demo_from_a_convolution_are_shares() -> None:
    image, _ = ShapesDataset(1)[0]
    attribution, sample = CondAttribution(demo_resnet().double()), demo_preprocess(image)[None].double()
    value = attribution(sample, [{"layer3.1.conv2": [0]}], "epsilon_plus_flat", start_layer="layer3.1.conv2",
                        record_layer=["layer3.1.conv2"]).activations["layer3.1.conv2"][0]  # fmt: skip
    for channel in value.flatten(1).sum(1).topk(3).indices.tolist():
        start = {"layer3.1.conv2": [channel]}
        graph = concept_graph_of(attribution, sample, LRP0, start=start, layers=["layer3.1.conv1"], width=(1000,))
        shares = [edge.share for edge in graph.children(graph.root)]
        assert sum(shares) == pytest.approx(1, abs=1e-6)


def test_references_of_a_concept_in_front_of_a_batch_norm_sum_to_its_activation(tmp_path: Path) -> None:
    model = bias_free()
    attribution = CondAttribution(model)
    images = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    dataset = [(image, 0) for image in images]
    atlas = atlas_of(attribution, dataset, tmp_path / "atlas.h5", layers=["2"], composite=LRP0)
    with atlas:
        for channel in range(5):
            found = references_of(atlas, dataset, "2", channel, k=2, mode="activation", attribution=attribution,
                                     composite=LRP0, conditioned_on="layer", receptive_field=False)  # fmt: skip
            for sample, heatmap in zip(found.table.sample, found.heatmaps, strict=True):
                value = float(model[:3](images[int(sample)][None])[0, channel].sum().detach())
                assert float(heatmap.double().sum()) == pytest.approx(value, rel=1e-4)


class Residual(nn.Module):
    """One residual block: its second convolution is in front of a BatchNorm and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.block, self.head = nn.Conv2d(3, 4, 3, bias=False), BasicBlock(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(self.front(x)).mean((2, 3)))


@pytest.mark.parametrize("layer", ["block.conv1", "block.conv2"])
@pytest.mark.parametrize("exclude_parallel", [True, False])
def test_all_of_a_start_inside_a_block_arrives(layer: str, exclude_parallel: bool) -> None:
    model = prepared(Residual())[0]
    for norm in (model.block.bn1, model.block.bn2):
        norm.bias.data = norm.running_mean * factors(norm)[0].detach()  # no shift
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = CondAttribution(model)(x, [{layer: [1]}], LRP0, start_layer=layer, record_layer=[layer],
                                   exclude_parallel=exclude_parallel)  # fmt: skip
    check_close(found.heatmap.sum((1, 2)), found.activations[layer][:, 1].sum((1, 2)), 1e-7)
