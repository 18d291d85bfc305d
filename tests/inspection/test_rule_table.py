"""The rule table says what is done at each node, in words that fit a terminal, and computes no relevance."""

from __future__ import annotations

import html
import json
import re
from typing import Any
from unittest.mock import ANY

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from zennit import composites, rules
from zennit.core import BasicHook, Composite, Stabilizer

import crp_kit as crp
from crp_kit.errors import CompositeError, InputError, ModelError
from crp_kit.inspection import RuleTable
from crp_kit.rules.maps.rule_maps import GlobalTypeMap, LayerMap, compose
from crp_kit.rules.parameters import short_rule

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """One of each: folded and own BatchNorms, a sum, a gate, a norm, pooling, and an operation without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.MaxPool2d(2)
        self.own, self.act, self.ln = nn.BatchNorm2d(4), nn.ReLU(), nn.LayerNorm(4)
        self.gate, self.head = nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.pool(self.act(self.bn(self.conv(x))))
        h = self.own(h) + 1.5 * h
        h = h * torch.sigmoid(self.gate(h))
        h = self.ln(h.mean((2, 3)))
        return self.head(torch.special.erfcx(h))


EXPECTED = [
    (None, "input", "input", (3, 8, 8), "", "", ""),
    (0, "conv", "Conv2d", (4, 8, 8), "Flat(stabilizer=0.01)", "with BatchNorm bn", "exact"),
    (1, "bn", "BatchNorm2d", (4, 8, 8), "Pass", "part of conv", "exact"),
    (2, "act", "ReLU", (4, 8, 8), "Pass", "", "exact"),
    (3, "pool", "MaxPool2d", (4, 4, 4), "routed", "", "exact"),
    (4, "own", "BatchNorm2d", (4, 4, 4), "Epsilon(epsilon=0.01)", "own affine rule", "exact"),
    (5, "mul", "mul", (4, 4, 4), "gate", "", ANY),
    (6, "add", "add", (4, 4, 4), "Norm(epsilon=0.01)", "", "exact"),
    (7, "gate", "Conv2d", (4, 4, 4), "", "", ""),
    (8, "sigmoid", "sigmoid", (4, 4, 4), "", "", ""),
    (9, "mul_1", "mul", (4, 4, 4), "gate", "", "approximate"),
    (10, "mean", "mean", (4,), "Norm(epsilon=0.01)", "", "exact"),
    (11, "ln", "LayerNorm", (4,), "Epsilon(epsilon=0.01)", "constant deviation", "approximate"),
    (12, "special_erfcx", "special_erfcx", (4,), "gradient", "unknown operation", "plain gradient"),
    (13, "head", "Linear", (2,), "Epsilon(epsilon=0.1)", "", "exact"),
]
"""Index, name, type, shape, rule, canonization and quality that are promised. No relevance arrives inside of a gate."""


@pytest.fixture(scope="module")
def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="module")
def table(small: nn.Module) -> RuleTable:
    return crp.rule_table(small, IMAGE, composites.EpsilonPlusFlat(epsilon=0.1, stabilizer=0.01))


@pytest.mark.parametrize("place", range(len(EXPECTED)))
def test_each_node_has_the_rule_that_is_promised_for_it(table: RuleTable, place: int) -> None:
    assert len(table) == len(EXPECTED)
    row = table.rows[place]
    assert (row.index, row.name, row.type, row.shape, row.rule, row.canonization, row.quality) == EXPECTED[place]


def test_the_index_is_the_one_that_maps_take(table: RuleTable, small: nn.Module) -> None:
    indices = [(row.index, row.name) for row in table if row.index is not None]
    assert indices == [(layer.index, layer.name) for layer in crp.show_layer_indices(small, IMAGE)]
    for index, name in indices:
        maps = compose(GlobalTypeMap({nn.Linear: rules.Epsilon()}), LayerMap(index, rules.Flat(0.5)))
        found = crp.CondAttribution(small).engine.run(IMAGE, maps)
        given = [node.name for node, step in zip(found.graph, found.plan.steps, strict=True) if _is_flat(step)]
        assert given in ([name], [])


def _is_flat(step: Any) -> bool:
    return isinstance(getattr(step, "hook", None), rules.Flat)


def test_improper_rows_are_those_with_a_plain_gradient_under_lrp(table: RuleTable, small: nn.Module) -> None:
    assert [row.name for row in table.improper] == ["special_erfcx"]
    without = crp.rule_table(small, IMAGE, compose(GlobalTypeMap({nn.Linear: rules.Epsilon()})))
    assert [row.name for row in without.improper] == ["conv", "act", "special_erfcx"]


def test_plain_gradients_have_nothing_improper(small: nn.Module) -> None:
    for composite in (None, "gradient"):
        table = crp.rule_table(small, IMAGE, composite)
        assert table.improper == ()
        assert {row.rule for row in table} == {"", "gradient"}
        assert "plain gradients" in repr(table)


def test_a_batch_norm_in_front_belongs_to_every_layer_that_reads_it() -> None:
    class Front(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn, self.one, self.two = nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.bn(x)
            return self.one(h) + self.two(h)

    notes = {row.name: row.canonization for row in crp.rule_table(Front().eval(), IMAGE, "epsilon_plus")}
    assert notes["bn"] == "part of one, part of two"
    assert notes["one"] == notes["two"] == "with BatchNorm bn"


def test_the_threshold_of_a_batch_norm_is_told() -> None:
    model = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1)).eval()
    attribution = crp.CondAttribution(model, batch_norm="threshold")
    notes = {row.name: row.canonization for row in crp.rule_table(attribution, IMAGE, "epsilon_plus")}
    assert notes == {
        "input": "", "0": "", "1": "part of 3", "2": "with the threshold of BatchNorm 1", "3": "with BatchNorm 1",
    }  # fmt: skip


def test_sums_and_attention_say_what_is_held_constant() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(8, 24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            return functional.scaled_dot_product_attention(q, k, v)[:, 0]

    rows = {row.name: row for row in crp.rule_table(Attention(), IMAGE[:, 0], "epsilon_plus")}
    attention = rows["scaled_dot_product_attention"]
    assert (attention.rule, attention.canonization) == ("Epsilon(epsilon=1e-06)", "constant weights")
    assert attention.quality == "approximate"
    assert rows["chunk"].index is None


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (rules.Epsilon(), "Epsilon(epsilon=1e-06)"),
        (rules.Epsilon(0.25, zero_params=["bias"]), "Epsilon(epsilon=0.25, zero_params=[bias])"),
        (rules.Epsilon(zero_params=["weight"]), "Epsilon(epsilon=1e-06, zero_params=[weight])"),
        (rules.AlphaBeta(2, 1), "AlphaBeta(alpha=2, beta=1)"),
        (rules.Gamma(0.25), "Gamma(gamma=0.25)"),
        (rules.ZPlus(), "ZPlus"),
        (rules.ZPlus(stabilizer=0.1), "ZPlus(stabilizer=0.1)"),
        (rules.ZPlus(stabilizer=Stabilizer(0.1, clip=True)), "ZPlus(stabilizer=Stabilizer)"),
        (rules.ZBox(-1.5, 2), "ZBox(low=-1.5, high=2)"),
        (rules.ZBox(torch.tensor([-2.1179, -2.0]).view(1, 2, 1, 1), torch.ones(1)), "ZBox(low=[-2.12, -2], high=1)"),
        (rules.ZBox(torch.zeros(1, 3, 8, 8), 1.0), "ZBox(low=tensor(1x3x8x8), high=1)"),
        (rules.Norm(), "Norm(epsilon=1e-06)"),
        (rules.WSquare(), "WSquare"),
        (rules.Flat(), "Flat"),
        (rules.Pass(), "Pass"),
        (rules.ReLUBetaSmooth(3.0), "ReLUBetaSmooth(beta_smooth=3)"),
        (BasicHook(), "BasicHook"),
    ],
)
def test_rules_are_said_with_the_parameters_that_matter(rule: Any, text: str) -> None:
    assert short_rule(rule) == short_rule(rule.copy()) == text


# ---------------------------------------------------------------------- what it shows


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v3_small"])
def test_tables_fit_a_terminal_of_100_columns(name: str) -> None:
    model = getattr(torchvision.models, name)(weights=None).eval()
    table = crp.rule_table(model, torch.zeros(1, 3, 64, 64), "epsilon_plus_flat")
    lines = repr(table).splitlines()
    assert len(lines) == len(table) + 2
    assert max(map(len, lines)) <= 100
    starts = [lines[1].index(head) for head in ("name", "type", "shape", "rule", "canonization", "quality")]
    for line in lines[2:]:
        assert all(line[start - 2 : start].strip() == "" for start in starts), line


def test_long_names_are_shortened_in_the_middle() -> None:
    inner: nn.Module = nn.Linear(8, 2)
    for _ in range(6):
        inner = nn.Sequential(nn.Sequential(), inner)
        inner = nn.ModuleDict({"a_long_name": inner})["a_long_name"]
    model = nn.Sequential()
    model.add_module("the_beginning_of_a_very_long_name_that_goes_on_and_on_and_on_and_on_and_on_and_on_until", inner)
    text = repr(crp.rule_table(model, torch.ones(1, 8), "epsilon_plus"))
    assert "the_beg" in text
    assert "…" in text
    assert ".1.1.1.1.1.1" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_summary_counts_how_right_the_rules_are(table: RuleTable) -> None:
    counted = {word: sum(row.quality == word for row in table) for word in ("exact", "approximate", "plain gradient")}
    said = ", ".join(f"{count} {word}" for word, count in counted.items())
    assert repr(table).splitlines()[0] == f"RuleTable of 15 nodes under EpsilonPlusFlat: {said}"


def test_dictionaries_of_rows_are_plain_data(table: RuleTable) -> None:
    again = json.loads(json.dumps(table.as_dicts()))
    assert again[1] == {
        "index": 0, "name": "conv", "type": "Conv2d", "shape": [4, 8, 8], "rule": "Flat(stabilizer=0.01)",
        "canonization": "with BatchNorm bn", "quality": "exact",
    }  # fmt: skip
    assert [one["name"] for one in again] == [row.name for row in table.rows] == [row.name for row in table]


def test_html_is_escaped_and_has_no_scripts() -> None:
    class Odd(BasicHook):  # type: ignore[misc]
        pass

    Odd.__name__ = "<b>&rule"
    model = nn.Sequential()
    model.add_module("<script>alert(1)</script>", nn.Linear(4, 2))
    found = crp.rule_table(model, torch.ones(1, 4), LayerMap(0, Odd()))._repr_html_()
    assert "<script" not in found
    assert html.escape("<script>alert(1)</script>") in found
    assert html.escape("<b>&rule") in found
    assert len(re.findall("<tr", found)) == 3


def test_indices_are_shown_as_a_tree() -> None:
    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sequential(nn.ReLU()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.stem(x)
            return (self.block(h) + h).mean((2, 3))

    assert repr(crp.show_layer_indices(Branched(), IMAGE)).splitlines() == [
        "LayerIndices of 5 layers",
        "0  stem Conv2d",
        "   block",
        "1    0 Conv2d",
        "     1",
        "2      0 ReLU",
        "3  add Sum",
        "4  mean AdaptiveAvgPool2d",
    ]
    indices = crp.show_layer_indices(Branched(), IMAGE)
    assert [tuple(one) for one in indices][3] == (3, "add", "Sum")
    assert (len(indices), indices[-1].name) == (5, "mean")


# ---------------------------------------------------------------------- how it is made


def test_no_relevance_is_computed_and_the_model_is_left_alone() -> None:
    class Loud(BasicHook):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(gradient_mapper=self.refuse)

        @staticmethod
        def refuse(*given: Any) -> Any:
            raise AssertionError("a rule ran")

    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    table = crp.rule_table(model, IMAGE, composites.LayerMapComposite([((nn.Conv2d, nn.Linear), Loud())]))
    assert [row.rule for row in table if row.type != "Flatten"] == ["", "Loud", "Loud"]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("composite", ["epsilon_plus", composites.EpsilonPlus()])
def test_presets_go_by_name_or_as_they_are(small: nn.Module, composite: Composite | str) -> None:
    assert crp.rule_table(small, IMAGE, composite).composite == "EpsilonPlus"


def test_a_conditional_attribution_counts_with_its_options() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.relu(), x.tanh()

    model = nn.Sequential(nn.Linear(4, 3), Twice())
    for asked in (crp.CondAttribution(model, output=1), model):
        options = {"output": 1} if asked is model else {}
        assert [row.name for row in crp.rule_table(asked, torch.ones(1, 4), "epsilon_plus", **options)][-1] == "1.tanh"
        assert len(crp.show_layer_indices(asked, torch.ones(1, 4), **options)) == 3


@pytest.mark.parametrize("show", [crp.rule_table, crp.show_layer_indices])
def test_what_is_no_model_or_no_sample_is_refused(show: Any) -> None:
    with pytest.raises(InputError, match="model is a torch.nn.Module; got str"):
        show("resnet", IMAGE)
    with pytest.raises(InputError, match="tensor"):
        show(nn.ReLU(), "image")
    with pytest.raises(InputError, match="output belongs to the CondAttribution that is given"):
        show(crp.CondAttribution(nn.ReLU()), IMAGE, output=0)
    with pytest.raises(ModelError, match=r"the model's forward failed for input of shape \(1, 3, 8, 8\)"):
        show(nn.Linear(3, 2), IMAGE)


def test_an_unknown_composite_is_refused(small: nn.Module) -> None:
    with pytest.raises(CompositeError, match="no composite named 'epsilon_pluss'; did you mean"):
        crp.rule_table(small, IMAGE, "epsilon_pluss")
