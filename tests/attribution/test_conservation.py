"""The relevance balance of an attribution: nodes absorb what the formulas of their rules say; nothing is missing."""

import math
from typing import Any

import pytest
import torch
from family_check import attribution_of, lrp_zero
from marks import slow_except
from nets import normal
from oracles.families import FAMILIES, QUICK, build
from oracles.start import scalar_start
from torch import nn
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.layer import Sum
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Pass, WSquare, ZBox, ZPlus
from zennit.types import Linear

from crp_kit import CondAttribution, CrpKitWarning
from crp_kit.attribution.conservation import SINKS, Conservation
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import ConditionError, NonFiniteRelevanceError
from crp_kit.propagation.step import Step
from crp_kit.rules.attnlrp import AttnLRP
from crp_kit.views.plot import conservation as draw

ROUNDING = 1e-9


def missing(row: Conservation) -> float:
    """Share of the start that is neither at the input nor in any sink."""
    return abs(row.start - row.input - sum(row.lost(sink) for sink in SINKS)) / abs(row.start)


def mlp() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).double()


def balance(model: nn.Module, x: torch.Tensor, composite: Any, target: int = 0, **options: Any) -> Conservation:
    report = CondAttribution(model)(x, [{"y": [target]}], composite, diagnose=True, **options).conservation
    assert report is not None
    return report[0]


RULES = {
    "Epsilon": Epsilon(0.25),
    "Gamma": Gamma(0.25, stabilizer=0.1),
    "ZPlus": ZPlus(stabilizer=0.1),
    "AlphaBeta": AlphaBeta(2, 1, stabilizer=0.1),
    "WSquare": WSquare(0.1),
    "Flat": Flat(0.1),
    "ZBox": ZBox(-4.0, 4.0, stabilizer=0.1),
}


def stabilize(z: torch.Tensor, epsilon: float) -> torch.Tensor:
    return z + torch.where(z < 0, -epsilon, epsilon)


def definitions(rule: str, x: torch.Tensor, layer: nn.Linear, start: torch.Tensor) -> tuple[float, float]:
    """What the bias and the stabilizer of one linear layer take of `start`, neuron by neuron, by formula."""
    weight, bias = layer.weight.detach(), layer.bias.detach()
    taken = kept = 0.0
    for j, relevance in enumerate(start[0]):
        products = (x[0] * weight[j]).tolist()
        b = float(bias[j])
        if rule == "Epsilon":
            numerators, constants, epsilon = [(products, 1.0)], [(b, 1.0)], 0.25
        elif rule == "ZPlus":
            positive = [max(p, 0.0) for p in products]
            numerators, constants, epsilon = [(positive, 1.0)], [(max(b, 0.0), 1.0)], 0.1
        elif rule == "AlphaBeta":
            positive, negative = [max(p, 0.0) for p in products], [min(p, 0.0) for p in products]
            numerators, epsilon = [(positive, 2.0), (negative, -1.0)], 0.1
            constants = [(max(b, 0.0), 2.0), (min(b, 0.0), -1.0)]
        elif rule == "WSquare":
            numerators, constants, epsilon = [((weight[j] ** 2).tolist(), 1.0)], [(b**2, 1.0)], 0.1
        else:
            numerators, constants, epsilon = [([1.0] * len(products), 1.0)], [(0.0, 1.0)], 0.1
        handed = bias_share = 0.0
        for (parts, factor), (constant, _) in zip(numerators, constants, strict=True):
            z = math.fsum(parts) + constant
            divisor = z + (-epsilon if z < 0 else epsilon)
            handed += factor * float(relevance) * math.fsum(parts) / divisor
            bias_share += factor * float(relevance) * constant / divisor
        taken += bias_share
        kept += float(relevance) - handed - bias_share
    return taken, kept


@pytest.mark.parametrize("rule", ["Epsilon", "ZPlus", "AlphaBeta", "WSquare", "Flat"])
def test_biases_and_stabilizers_take_what_the_formula_of_the_rule_says(rule: str) -> None:
    model, x = nn.Sequential(nn.Linear(5, 3)).double(), normal(1, 5)
    row = balance(model, x, LayerMapComposite([(Linear, RULES[rule])]))
    start = torch.zeros(1, 3, dtype=torch.float64)
    start[0, 0] = model(x)[0, 0].detach()
    constants, stabilizer = definitions(rule, x, model[0], start)
    assert row.lost("constants") == pytest.approx(constants, rel=1e-9, abs=1e-12)
    assert row.lost("stabilizer") == pytest.approx(stabilizer, rel=1e-9, abs=1e-12)
    assert row.lost("other") == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_of_zennit_loses_anything_unexplained(rule: str) -> None:
    row = balance(mlp(), normal(1, 5), LayerMapComposite([*layer_map_base(), (Linear, RULES[rule])]))
    assert row.unexplained < ROUNDING
    assert missing(row) < ROUNDING
    assert row.input == pytest.approx(row.start - row.lost("constants") - row.lost("stabilizer"))


@pytest.mark.examples
@pytest.mark.parametrize("family", slow_except(FAMILIES, QUICK))
def test_on_every_family_input_and_absorbed_relevance_are_the_logit(family: str) -> None:
    model, x = build(family)
    with torch.no_grad():
        raw = model(x)
    output, selection = scalar_start(raw)
    row = attribution_of(model, raw)(
        x[:1], {}, lrp_zero(), init_rel=lambda value: value * selection[:1], diagnose=True
    ).conservation[0]
    assert row.start == pytest.approx(float(output[:1].mul(selection[:1]).sum()))
    assert abs(row.start - row.input - row.lost("constants") - row.lost("stabilizer")) / abs(row.start) < 1e-6
    assert row.unexplained < 1e-6


@pytest.mark.parametrize("composite", ["epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_plus"])
def test_masks_and_cut_paths_are_part_of_the_books(composite: str) -> None:
    attribution, (image, label) = CondAttribution(demo_resnet()), ShapesDataset(4, split="test")[1]
    x, name = demo_preprocess(image)[None].double(), "layer2.1.conv2"
    attribution = CondAttribution(demo_resnet().double())
    attr = attribution(
        x, [{name: [3], "y": [label]}], composite, record_layer=[name, "layer2.1.add", "layer2.1.bn2"], diagnose=True
    )
    (row,) = attr.conservation
    arrived = {layer: relevance.sum() for layer, relevance in attr.relevances.items()}
    shortcut = float(arrived["layer2.1.add"] - arrived["layer2.1.bn2"])
    assert row.lost("excluded") == pytest.approx(shortcut, rel=1e-5)
    own = float(attr.relevances[name][:, 3].sum())
    assert row.lost("masked") == pytest.approx(float(arrived[name]) - own, rel=1e-9)
    assert row.input == pytest.approx(float(attr.heatmap.sum()), rel=1e-9)
    assert missing(row) < ROUNDING


def test_remaining_relevance_is_what_crosses_the_graph_at_each_depth() -> None:
    attribution = CondAttribution(demo_resnet().double())
    image, label = ShapesDataset(4, split="test")[2]
    names = ["fc", "layer3.1.add", "layer3.0.add", "layer1.1.add", "conv1"]
    attr = attribution(
        demo_preprocess(image)[None].double(), [{"y": [label]}], "epsilon_plus", record_layer=names, diagnose=True
    )
    nodes = {node.name: node for node in attr.conservation[0].nodes}
    order = [node.name for node in attr.conservation[0].nodes]
    for name in names[1:]:  # all relevance goes through these
        before = nodes[order[order.index(name) - 1]]
        assert before.remaining == pytest.approx(float(attr.relevances[name].sum()), rel=1e-9)
        assert nodes[name].arrived == pytest.approx(float(attr.relevances[name].sum()), rel=1e-9)
        assert nodes[name].lowest == pytest.approx(float(attr.relevances[name].min()))
        assert nodes[name].highest == pytest.approx(float(attr.relevances[name].max()))


def test_a_rule_that_does_not_conserve_is_named() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.value, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weights = (self.query(x) @ x.transpose(1, 2)).softmax(-1)
            return self.head((weights @ self.value(x)).mean(1))

    torch.manual_seed(0)
    model, x = Attention().double(), normal(1, 3, 4)
    with pytest.warns(
        CrpKitWarning, match=r"rules that do not conserve changed relevance by .* at 'softmax' \(rule: So"
    ):
        row = balance(model, x, AttnLRP())
    assert row.lost("other") == pytest.approx(
        next(node.other for node in row.nodes if node.name == "softmax"), rel=1e-3
    )
    assert missing(row) < ROUNDING


def test_a_number_is_the_share_from_which_there_is_a_warning() -> None:
    model, x = nn.Sequential(nn.Linear(5, 5), nn.Softmax(-1)).double(), normal(1, 5)
    attribution = CondAttribution(model)
    composite = LayerMapComposite([(Linear, Epsilon())])
    with pytest.warns(CrpKitWarning, match="plain gradient"):  # of the softmax, whatever the share
        assert attribution(x, [{"y": [0]}], composite, diagnose=1e9).conservation.warnings() == []
    with pytest.warns(CrpKitWarning, match="rules that do not conserve"):
        attribution(x, [{"y": [0]}], composite, diagnose=1e-6)


@pytest.mark.parametrize("wrong", [-1, math.nan, "yes"])
def test_a_threshold_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConditionError, match="diagnose is True, False, or a share of at least 0"):
        CondAttribution(mlp())(normal(1, 5), [{"y": [0]}], "epsilon_plus", diagnose=wrong)


@pytest.mark.parametrize("composite", [None, "guided_backprop"])
def test_gradients_have_no_books(composite: str | None) -> None:
    with pytest.raises(ConditionError, match="gradients flow: give a composite for LRP"):
        CondAttribution(mlp())(normal(1, 5), [{"y": [0]}], composite, diagnose=True)


def test_the_first_node_that_is_not_finite_is_named_and_ends_nothing() -> None:
    model, x = mlp(), normal(1, 5)
    model[0].weight.data[2], model[0].bias.data[2] = 0, 0
    without_stabilizer = LayerMapComposite([*layer_map_base(), (Linear, Epsilon(0.0))])
    with pytest.raises(NonFiniteRelevanceError, match="non-finite at '0'"):
        CondAttribution(model)(x, [{"y": [0]}], without_stabilizer)
    with pytest.warns(CrpKitWarning, match=r"class 0: relevance is not finite from '0' \(rule: Epsilon\) on"):
        row = balance(model, x, without_stabilizer)
    assert row.first_non_finite is not None
    assert row.first_non_finite.name == "0"
    assert "not finite from '0' (Epsilon) on" in repr(row)


def test_without_diagnose_no_balance_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise AssertionError("asked for what is absorbed")

    for kind in [Step, *Step.__subclasses__()]:
        monkeypatch.setattr(kind, "absorbed", refuse)
    attr = CondAttribution(mlp())(normal(2, 5), [{"y": [0]}], "epsilon_plus")
    assert attr.conservation is None


def test_heatmaps_are_the_same_with_and_without_books() -> None:
    x, conditions = normal(3, 5), [{"y": [0]}, {"y": [1]}, {"0": [1, 2], "y": [2]}]
    attribution = CondAttribution(mlp())
    for pairing in ("zip", "product"):
        plain = attribution(x, conditions, "epsilon_plus", pairing=pairing)
        booked = attribution(x, conditions, "epsilon_plus", pairing=pairing, diagnose=True)
        torch.testing.assert_close(plain.heatmap, booked.heatmap, rtol=1e-12, atol=1e-12)
        assert [row.title for row in booked.conservation] == [title.replace("\n", "; ") for title in booked.titles()]
        assert booked.conservation[0].title == "sample 0: class 0"
        for row, heatmap in zip(booked.conservation, booked.heatmap, strict=True):
            assert row.input == pytest.approx(float(heatmap.sum()), rel=1e-9, abs=1e-12)


def test_constant_summands_keep_their_share_under_any_rule_for_sums() -> None:
    class Shifted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 3.0

    x = normal(1, 4)
    for rule in (Norm(1e-12), ZPlus(stabilizer=1e-12), Pass()):
        composite = LayerMapComposite([(Sum, rule), (Linear, Epsilon())])
        row = CondAttribution(Shifted())(x, {}, composite, init_rel=1.0, diagnose=True).conservation[0]
        assert row.lost("constants") == pytest.approx(float((3 / (x + 3)).sum()), rel=1e-6)
        assert row.unexplained < 1e-6


def test_the_report_is_readable() -> None:
    attribution = CondAttribution(mlp())
    report = attribution(normal(1, 5), [{"y": [0]}, {"y": [1]}], "epsilon_plus", diagnose=True).conservation
    lines = repr(report).splitlines()
    assert lines[0] == "ConservationReport of 2 rows"
    assert lines[1].startswith("class 0: ")
    assert "of it at the input (biases and constants" in lines[1]
    assert report[0].table().splitlines()[0].split() == [
        "node", "rule", "arrived", *SINKS, "remaining", "lowest", "highest",
    ]  # fmt: skip
    assert len(report[0].table().splitlines()) == 1 + len(report[0].nodes)
    assert report._repr_html_().count("<table>") == 2
    assert len(report.as_dicts()) == sum(len(row.nodes) for row in report)


def test_the_figure_draws_what_remains_and_every_sink_that_took_something() -> None:
    attribution = CondAttribution(demo_resnet())
    image, label = ShapesDataset(4, split="test")[1]
    report = attribution(
        demo_preprocess(image)[None], [{"layer2.1.conv2": [3], "y": [label]}], "epsilon_plus", diagnose=True
    ).conservation
    (axes,) = report.plot().axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["remains", "biases and constants, so far", "masks, so far", "paths that do not count, so far"]
    drawn = axes.lines[2].get_ydata()
    assert drawn.tolist() == pytest.approx([node.remaining / report[0].start for node in report[0].nodes])
    with pytest.raises(ValueError, match="relevance at the start is 0"):
        draw(balance(mlp(), normal(1, 5), "epsilon_plus", init_rel=0.0))


class Emptied(nn.Module):
    """A network in which tensors without elements go through a convolution's maps, a layer, a split and a join."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.inner, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.Linear(4, 3)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, (batch, class)."""
        h = self.first(x).relu()
        none = nn.functional.max_pool2d(h, 2)[..., :0].flatten(2)
        left, right, nothing = torch.cat([h.flatten(2), none], 2).mean(2).split([1, 3, 0], 1)
        beside = self.inner(left.expand(-1, 4)[:, None][:, :0]).relu().sum(1)
        return self.last(torch.cat([left, nothing, right], 1) + beside)  # type: ignore[no-any-return]


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_alpha2_beta1", "attnlrp"])
def test_where_relevance_goes_is_followed_past_tensors_without_elements(composite: str) -> None:
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    options: dict[str, Any] = {"pairing": "product"}
    attribution, rows = CondAttribution(Emptied().double()), [{"y": [0]}, {"y": [2]}]
    plain = attribution(x, rows, composite, **options)
    found = attribution(x, rows, composite, diagnose=True, **options)
    torch.testing.assert_close(found.heatmap, plain.heatmap)
    assert found.conservation is not None
    for row in found.conservation:
        assert row.unexplained < 1e-5
        assert all(math.isfinite(value) for node in row.nodes for value in (node.lowest, node.highest, node.remaining))
