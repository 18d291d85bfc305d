"""Maps of rules by layer: later ones win, layers are addressed as promised, and zennit agrees."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from zennit import composites, rules
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.core import BasicHook, Composite, Hook
from zennit.layer import Sum
from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear

import crp_kit as crp
from crp_kit.errors import CompositeError, UnknownLayerError
from crp_kit.propagation.plan_description import describe_plan
from crp_kit.rules.description import describe_hook
from crp_kit.rules.maps.base import resolved
from crp_kit.rules.maps.rule_maps import (
    FirstLayerMap,
    FirstLayerTypeMap,
    FirstNTypeMap,
    GlobalMap,
    GlobalTypeMap,
    LastLayerMap,
    LastLayerTypeMap,
    LayerMap,
    RangeMap,
    RangeTypeMap,
    RuleMap,
    compose,
)

ROUNDING = 1e-5  # float32, two orders of summation


def vgg() -> nn.Module:
    """A small VGG: layers 0 to 5 are conv, relu, conv, relu, pool, linear (flatten has no index)."""
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)
    )
    model = nn.Sequential()
    model.add_module("features", features)
    model.add_module("flatten", nn.Flatten())
    model.add_module("classifier", nn.Linear(6 * 16, 3))
    return model.eval()


class Block(nn.Module):
    """A residual block with functional operations, a module that runs twice, and one of its own that wraps a norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.conv2, self.shortcut, self.drop = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 4, 1), nn.Dropout()
        self.head = nn.Linear(4, 2)
        self.never = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.relu(self.drop(self.conv2(h)) + self.shortcut(x))
        h = functional.gelu(h)
        h = h * torch.sigmoid(h.mean((2, 3), keepdim=True))
        return self.head(h.amax((2, 3)))


BLOCK = [
    ("conv1", "Conv2d"), ("bn1", "BatchNorm2d"), ("relu", "ReLU"), ("conv2", "Conv2d"), ("shortcut", "Conv2d"),
    ("add", "Sum"), ("relu_1", "ReLU"), ("gelu", "GELU"), ("mean", "AdaptiveAvgPool2d"), ("sigmoid", "Sigmoid"),
    ("mul", "Product"), ("amax", "amax"), ("head", "Linear"),
]  # fmt: skip
"""The layers of a Block, read off its forward: dropout has no index, a folded BatchNorm has one."""
IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def chosen(model: nn.Module, maps: RuleMap) -> dict[str, Hook]:
    """The rule of each layer, by name, as zennit would see it."""
    return {name: rule for names, rule in maps.bind(model, IMAGE).name_map for name in names}


def given_to(model: nn.Module, maps: RuleMap) -> list[str]:
    return list(chosen(model, maps))


def assigned(model: nn.Module, maps: RuleMap) -> dict[str, Hook | None]:
    """The rule of each node that the maps speak of, each call of a module by itself."""
    return resolved(maps, crp.CondAttribution(model).graph(IMAGE)).rules


def relevance(model: nn.Module, composite: Composite | str, x: torch.Tensor = IMAGE) -> torch.Tensor:
    attribution = crp.CondAttribution(model)
    return attribution(x, [{}], composite, init_rel=lambda value: value, pairing="product").input_relevance


def zennits(model: nn.Module, composite: Composite, x: torch.Tensor = IMAGE) -> torch.Tensor:
    """zennit's own modified gradient, started with the output."""
    leaf = x.clone().requires_grad_()
    with composite.context(model) as modified:
        output = modified(leaf)
        (found,) = torch.autograd.grad(output, leaf, output.detach())
    return found


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=ROUNDING, atol=ROUNDING * float(expected.abs().max()))


# ---------------------------------------------------------------------- what is indexed


def test_every_layer_that_computes_has_an_index_in_execution_order() -> None:
    found = crp.show_layer_indices(Block().eval(), IMAGE)
    assert [tuple(layer) for layer in found] == [(i, name, kind) for i, (name, kind) in enumerate(BLOCK)]


@pytest.mark.parametrize("index", range(len(BLOCK)))
def test_indices_count_from_both_ends(index: int) -> None:
    model, rule = Block().eval(), rules.Epsilon()
    for one in (index, index - len(BLOCK), np.int64(index)):
        assert list(assigned(model, LayerMap(one, rule))) == [BLOCK[index][0]]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("add", ["add"]),
        ("conv.*", ["conv1", "conv2"]),
        ("*elu*", ["relu", "relu_1", "gelu"]),
        (nn.Conv2d, ["conv1", "conv2", "shortcut"]),
        (Linear, ["conv1", "conv2", "shortcut", "head"]),
        (Sum, ["add"]),
        (nn.ReLU, ["relu", "relu_1"]),
        (Activation, ["relu", "relu_1", "gelu", "sigmoid"]),
        (AvgPool, ["mean"]),
        ((nn.GELU, "head"), ["gelu", "head"]),
        ([0, "mul", nn.Linear, -2], ["conv1", "mul", "amax", "head"]),
    ],
)
def test_a_layer_is_named_by_index_name_pattern_or_type(choice: Any, names: list[str]) -> None:
    assert sorted(assigned(Block().eval(), LayerMap(choice, rules.Pass()))) == sorted(names)


class Wrapped(nn.Module):
    """A module with one layer between two permutations, as torchvision's LayerNorm2d."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x.permute(0, 2, 3, 1), (3,), self.weight).permute(0, 3, 1, 2)


def test_the_name_of_a_module_means_the_one_layer_in_it() -> None:
    model = nn.Sequential(Wrapped(), nn.Conv2d(3, 2, 8), nn.Flatten())
    assert given_to(model, LayerMap("0", rules.Pass())) == ["0.layer_norm"]


RANGES: list[tuple[Any, list[int]]] = [
    (range(1, 3), [1, 2]),
    ((1, 3), [1, 2]),
    (range(-2, 0), [4, 5]),
    (range(0, 6, 2), [0, 2, 4]),
    (slice(None, 2), [0, 1]),
    (slice(-2, None), [4, 5]),
    (slice(4, 100), [4, 5]),
]


@pytest.mark.parametrize(("indices", "expected"), RANGES)
def test_ranges_mean_what_python_means_by_them(indices: Any, expected: list[int]) -> None:
    layers = [layer.name for layer in crp.show_layer_indices(vgg(), IMAGE[:, :, :8])]
    assert given_to(vgg(), RangeMap(indices, rules.Pass())) == [layers[i] for i in expected]


def test_each_map_is_about_the_layers_that_it_says() -> None:
    model, rule, types = vgg(), rules.Pass(), {(nn.Conv2d, nn.Linear): rules.Pass()}
    names = [layer.name for layer in crp.show_layer_indices(model, IMAGE)]
    weights = ["features.0", "features.2", "classifier"]
    expected = [
        (GlobalMap(rule), names),
        (FirstLayerMap(rule), names[:1]),
        (LastLayerMap(rule), names[-1:]),
        (GlobalTypeMap(types), weights),
        (RangeTypeMap((1, 6), types), weights[1:]),
        (FirstLayerTypeMap(types), weights[:1]),
        (FirstLayerTypeMap({nn.Linear: rule}), []),
        (LastLayerTypeMap(types), weights[-1:]),
        (LastLayerTypeMap({nn.Conv2d: rule}), []),
        (FirstNTypeMap(3, types), weights[:2]),
        (FirstNTypeMap(100, types), weights),
        (compose(LayerMap(0, rule), LayerMap(-1, rule)), [names[0], names[-1]]),
    ]
    for maps, wanted in expected:
        assert given_to(model, maps) == wanted, maps


def test_the_first_type_that_fits_decides_within_one_map() -> None:
    first, second = rules.Epsilon(), rules.Flat()
    pairs = [(nn.Conv2d, first), (Convolution, second), (nn.Linear, second)]
    for types in (pairs, dict(pairs)):
        found = chosen(vgg(), GlobalTypeMap(types))
        assert found == {"features.0": first, "features.2": first, "classifier": second}


# ---------------------------------------------------------------------- later ones win

POOL: list[Hook | None] = [rules.Epsilon(), rules.Flat(), rules.Pass(), None]
KINDS: dict[type, list[int]] = {nn.Conv2d: [0, 2], nn.ReLU: [1, 3], nn.AvgPool2d: [4], nn.Linear: [5]}
"""Indices of each type in the small VGG."""


@st.composite
def primitives(draw: st.DrawFn) -> tuple[RuleMap, dict[int, Hook | None]]:
    """A map, and what it says about the six layers of the small VGG, worked out by hand."""
    rule = draw(st.sampled_from(POOL))
    by_type = draw(st.dictionaries(st.sampled_from(list(KINDS)), st.sampled_from(POOL), min_size=1))
    typed = {index: one for kind, one in by_type.items() for index in KINDS[kind]}
    start, stop = sorted(draw(st.lists(st.integers(0, 6), min_size=2, max_size=2, unique=True)))
    index = draw(st.integers(-6, 5))
    options: list[tuple[RuleMap, dict[int, Hook | None]]] = [
        (GlobalMap(rule), dict.fromkeys(range(6), rule)),
        (LayerMap(index, rule), {index % 6: rule}),
        (RangeMap((start, stop), rule), dict.fromkeys(range(start, stop), rule)),
        (FirstLayerMap(rule), {0: rule}),
        (LastLayerMap(rule), {5: rule}),
        (GlobalTypeMap(by_type), typed),
        (RangeTypeMap((start, stop), by_type), {i: one for i, one in typed.items() if start <= i < stop}),
        (FirstNTypeMap(stop, by_type), {i: one for i, one in typed.items() if i < stop}),
        (FirstLayerTypeMap(by_type), {i: one for i, one in typed.items() if i == 0}),
        (LastLayerTypeMap(by_type), {i: one for i, one in typed.items() if i == 5}),
    ]
    return draw(st.sampled_from(options))


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(primitives(), min_size=1, max_size=5), st.integers(0, 4))
def test_of_several_maps_the_last_that_speaks_of_a_layer_wins(
    parts: list[tuple[RuleMap, dict[int, Hook | None]]], cut: int
) -> None:
    expected: dict[int, Hook | None] = {}
    for _, said in parts:
        for index in range(6):
            if index in said:
                expected[index] = said[index]
    maps = [one for one, _ in parts]
    nested = compose(compose(*maps[: cut % len(maps) + 1]), *maps[cut % len(maps) + 1 :])
    names = ["features.0", "features.1", "features.2", "features.3", "features.4", "classifier"]
    wanted = {names[index]: rule for index, rule in expected.items() if rule is not None}
    assert chosen(vgg(), compose(*maps)) == wanted
    assert chosen(vgg(), nested) == wanted


# ---------------------------------------------------------------------- zennit agrees


def by_hand(**hooks: Hook) -> Composite:
    return composites.NameMapComposite([((name.replace("_", "."),), hook) for name, hook in hooks.items()])


VGG_RULES = [
    (
        compose(
            GlobalTypeMap({Convolution: rules.ZPlus(), nn.Linear: rules.Epsilon(), Activation: rules.Pass()}),
            LayerMap(AvgPool, rules.Norm()),
            FirstLayerMap(rules.Flat()),
        ),
        by_hand(
            features_0=rules.Flat(), features_1=rules.Pass(), features_2=rules.ZPlus(), features_3=rules.Pass(),
            features_4=rules.Norm(), classifier=rules.Epsilon(),
        ),
    ),
    (
        compose(GlobalMap(rules.Epsilon(0.1)), RangeMap((1, 4), rules.Gamma(0.5)), LastLayerMap(None)),
        by_hand(
            features_0=rules.Epsilon(0.1), features_1=rules.Gamma(0.5), features_2=rules.Gamma(0.5),
            features_3=rules.Gamma(0.5), features_4=rules.Epsilon(0.1),
        ),
    ),
    (
        LayerMap(["features.[02]", -1], rules.AlphaBeta(2, 1)),
        by_hand(
            features_0=rules.AlphaBeta(2, 1), features_2=rules.AlphaBeta(2, 1), classifier=rules.AlphaBeta(2, 1)
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("maps", "expected"), VGG_RULES)
def test_bound_maps_are_in_zennit_what_a_map_by_hand_is(maps: RuleMap, expected: Composite) -> None:
    model = vgg()
    bound = maps.bind(model, IMAGE)
    assert type(bound) is composites.NameMapComposite
    assert torch.equal(zennits(model, bound), zennits(model, expected))


@pytest.mark.filterwarnings("ignore:layers to which the composite gives no rule")
@pytest.mark.parametrize("maps", [maps for maps, _ in VGG_RULES[:2]])
def test_maps_and_bound_maps_give_what_zennit_gives(maps: RuleMap) -> None:
    model = vgg()
    bound = maps.bind(model, IMAGE)
    expected = zennits(model, bound)
    close(relevance(model, maps), expected)
    close(relevance(model, bound), expected)


def test_bound_maps_give_functional_operations_their_rules_in_crp_kit() -> None:
    maps = compose(
        GlobalTypeMap({Linear: rules.Epsilon(), Activation: rules.Pass(), (BatchNorm, nn.Dropout): rules.Pass()}),
        LayerMap("add", rules.Norm(stabilizer=0.5)),
    )
    model = Block().eval()
    bound = maps.bind(model, IMAGE)
    assert "add" in chosen(model, maps)
    close(relevance(model, bound), relevance(model, maps))
    other = compose(maps, LayerMap("add", rules.Norm(stabilizer=5.0)))
    assert not torch.allclose(relevance(model, other), relevance(model, maps), rtol=1e-2)


@pytest.mark.parametrize(
    ("preset", "maps"),
    [
        (
            composites.EpsilonPlusFlat(epsilon=0.1, stabilizer=0.01),
            compose(
                GlobalTypeMap(
                    {
                        Activation: rules.Pass(),
                        Sum: rules.Norm(0.01),
                        AvgPool: rules.Norm(0.01),
                        BatchNorm: rules.Pass(),
                        Convolution: rules.ZPlus(0.01),
                        nn.Linear: rules.Epsilon(0.1),
                    }
                ),
                LayerMap("conv1", rules.Flat(0.01)),
            ),
        ),
    ],
)
def test_presets_can_be_said_as_maps(preset: Composite, maps: RuleMap) -> None:
    model = Block().eval()
    model.bn1.running_mean.copy_(torch.randn(4))
    assert torch.equal(relevance(model, maps), relevance(model, preset))


def test_canonizers_are_applied_and_bound() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    model[1].running_var.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    inner = GlobalTypeMap({Linear: rules.Epsilon(), Activation: rules.Pass(), BatchNorm: rules.Pass()})
    maps = compose(compose(inner, canonizers=[SequentialMergeBatchNorm()]))
    weight = model[0].weight.clone()
    bound = maps.bind(model, IMAGE)
    assert len(bound.canonizers) == 1
    close(relevance(model, maps), zennits(model, bound))
    assert torch.equal(model[0].weight, weight)


def test_unbound_maps_give_nothing_to_containers() -> None:
    maps = GlobalTypeMap({nn.Module: rules.Epsilon()})
    model = vgg()
    assert given_to(model, maps) == [row.name for row in crp.show_layer_indices(model, IMAGE)]
    assert len(crp.CondAttribution(model).graph(IMAGE, maps)) == 8


def test_a_rule_of_none_takes_a_rule_away() -> None:
    model = vgg()
    rule = rules.Epsilon()
    maps = compose(GlobalTypeMap({Linear: rule, nn.ReLU: rules.Pass()}), LayerMap(["features.1", "features.2"], None))
    assert given_to(model, maps) == ["features.0", "features.3", "classifier"]
    found = {row.name: row.rule for row in crp.rule_table(model, IMAGE, maps)}
    assert found["features.2"] == "gradient"
    assert found["features.1"] != "Pass"
    assert found["features.3"] == "Pass"


def test_two_calls_of_one_module_can_have_two_rules() -> None:
    model = Block().eval()
    maps = compose(GlobalTypeMap({Linear: rules.Epsilon()}), LayerMap("relu", rules.Norm()), LayerMap("relu_1", None))
    found = {row.name: row.rule for row in crp.rule_table(model, IMAGE, maps)}
    assert found["relu"] == "Norm(epsilon=1e-06)"
    assert "Norm" not in found["relu_1"]
    with pytest.raises(CompositeError, match="'relu' and 'relu_1' are calls of one module under different rules"):
        maps.bind(model, IMAGE)


# ---------------------------------------------------------------------- pickles, copies and descriptions

KEPT: list[Hook] = [
    rules.Epsilon(0.5, zero_params=["bias"]), rules.Gamma(0.1, stabilizer=0.01), rules.AlphaBeta(3, 2), rules.ZPlus(),
    rules.ZBox(torch.tensor([-1.0, -2.0, 0.0])[None, :, None, None], 1.0), rules.Norm(0.1), rules.WSquare(),
    rules.Flat(), rules.Pass(), rules.ReLUBetaSmooth(3.0),
]  # fmt: skip


@pytest.mark.parametrize("rule", KEPT, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("kept", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "pickle"])
def test_maps_survive_pickling_and_copying_with_the_same_rules(rule: Hook, kept: Any) -> None:
    maps = compose(GlobalMap(rule), RangeMap(slice(0, 2), None), LayerMap(["features.*", nn.Linear, 0], rule))
    again = kept(maps)
    assert repr(again) == repr(maps)
    before, after = chosen(vgg(), maps), chosen(vgg(), again)
    assert list(before) == list(after)
    for name in before:
        assert before[name] is not after[name]
        assert type(before[name]) is type(after[name])
        assert describe_hook(before[name]) == describe_hook(after[name])


def test_a_changed_rule_is_copied_as_it_is() -> None:
    rule = rules.Epsilon()
    rule.reducer = torch.add
    again = copy.deepcopy(LayerMap(0, rule))
    assert again.rules[0][1].reducer is torch.add


def test_plans_of_maps_are_described_with_their_parameters() -> None:
    def described(epsilon: float) -> dict[str, list[str]]:
        maps = GlobalTypeMap({Linear: rules.Epsilon(epsilon), Activation: rules.Pass()})
        run = crp.CondAttribution(vgg()).engine.run(IMAGE, maps)
        return describe_plan(run.graph, run.plan)

    assert described(0.5) == described(0.5) != described(0.25)
    assert any("epsilon=0.5" in rule for rule in described(0.5))


def test_maps_say_what_they_are() -> None:
    maps = compose(
        GlobalTypeMap({(nn.Conv2d, nn.Linear): rules.Gamma(), Activation: None}),
        LayerMap(["features.*", 0, nn.Linear], rules.Epsilon(0.5)),
        RangeTypeMap((1, 3), {Sum: rules.Norm()}),
        FirstNTypeMap(2, {Sum: rules.Norm()}),
        LastLayerMap(rules.Flat()),
    )
    assert [line.strip() for line in repr(maps).splitlines()] == [
        "compose(GlobalTypeMap({(Conv2d, Linear): Gamma(gamma=0.25), Activation: None}),",
        "LayerMap(['features.*', 0, Linear], Epsilon(epsilon=0.5)),",
        "RangeTypeMap((1, 3), {Sum: Norm(epsilon=1e-06)}),",
        "FirstNTypeMap(2, {Sum: Norm(epsilon=1e-06)}),",
        "LastLayerMap(Flat))",
    ]


# ---------------------------------------------------------------------- mistakes

EPSILON = rules.Epsilon()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GlobalMap(rules.Epsilon), r"a rule is given as the class Epsilon; give an instance: Epsilon\("),
        (lambda: GlobalMap("epsilon"), "a rule is a zennit Hook, such as zennit.rules.Epsilon.., or None; got 'epsi"),
        (lambda: GlobalTypeMap({}), "rules by type are empty; name one type at least"),
        (lambda: GlobalTypeMap(3), "rules by type are a dictionary, such as .* or pairs; got 3"),
        (lambda: GlobalTypeMap({"Conv2d": EPSILON}), "a type is a class of modules, .* got 'Conv2d'"),
        (lambda: GlobalTypeMap({int: EPSILON}), "a type is a class of modules, .* got <class 'int'>"),
        (lambda: GlobalTypeMap({(): EPSILON}), "a tuple of types is empty"),
        (lambda: LayerMap([], EPSILON), "a list of layers is empty"),
        (lambda: LayerMap("", EPSILON), "a layer's name is empty; patterns for all layers are"),
        (lambda: LayerMap(1.5, EPSILON), "chosen by an index, a name, a pattern, .* got 1.5"),
        (lambda: LayerMap(True, EPSILON), "chosen by an index, a name, a pattern, .* got True"),
        (lambda: LayerMap(int, EPSILON), "a type is a class of modules"),
        (lambda: RangeMap(3, EPSILON), r"a range of layers is a range, a slice, or a pair \(start, stop\); got 3"),
        (lambda: RangeMap(slice("a"), EPSILON), "a range of layers is a range, a slice, or a pair"),
        (lambda: RangeMap(slice(0, 4, 0), EPSILON), "a range of layers is a range, a slice, or a pair"),
        (lambda: RangeMap((3, 3), EPSILON), r"range\(3, 3\) has no index in it; the stop is not included"),
        (lambda: FirstNTypeMap(0, {nn.Linear: EPSILON}), "n is how many layers, at least 1; got 0"),
        (compose, "compose takes rule maps, .*; got none"),
        (lambda: compose(EPSILON), r"for one rule everywhere say GlobalMap\(Epsilon"),
        (lambda: compose(composites.EpsilonPlus()), r"MixedComposite\(\[compose\(...\).bind\(model, sample\), Epsilon"),
        (lambda: compose(3), "compose takes rule maps, .*; got 3"),
    ],
)
def test_maps_that_mean_nothing_are_refused_when_made(make: Any, message: str) -> None:
    with pytest.raises(CompositeError, match=message):
        make()


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        (13, CompositeError, "no layer has the index 13: the model runs 13 layers, from 0 to 12, .*show_layer_ind"),
        (-14, CompositeError, "no layer has the index -14"),
        ("conv3", UnknownLayerError, "no layer named 'conv3'; did you mean 'conv"),
        ("never", UnknownLayerError, "the forward never runs 'never'"),
        ("layer[34].*", CompositeError, r"no layer matches the pattern 'layer\[34\]\.\*'; the names are like"),
        (nn.Conv3d, CompositeError, "no layer of type Conv3d runs in this model; its layers are AdaptiveAvg.*Conv2d"),
        ("drop", CompositeError, r"'drop' \(dropout\) computes nothing that a rule could change"),
    ],
)
def test_layers_that_do_not_exist_are_refused_when_the_model_is_known(
    choice: Any, error: type[Exception], message: str
) -> None:
    model, maps = Block().eval(), LayerMap(choice, EPSILON)
    with pytest.raises(error, match=message):
        maps.bind(model, IMAGE)
    with pytest.raises(error, match=message):
        relevance(model, maps)
    with pytest.raises(error, match=message):
        crp.rule_table(model, IMAGE, maps)


def test_a_name_for_several_layers_is_refused_with_how_to_say_it() -> None:
    with pytest.raises(
        CompositeError,
        match=r"'features' has 5 layers in it \('features.0', .*'features.4'\): name one of them, or say 'features.\*'",
    ):
        LayerMap("features", EPSILON).bind(vgg(), IMAGE)


def test_ranges_past_the_end_are_refused() -> None:
    with pytest.raises(CompositeError, match="no layer has the index 6: the model runs 6 layers"):
        RangeMap((4, 8), EPSILON).bind(vgg(), IMAGE)


def test_a_model_without_layers_has_no_first_one() -> None:
    with pytest.raises(CompositeError, match="the model runs 0 layers, there is none to choose"):
        FirstLayerMap(EPSILON).bind(nn.Flatten(), IMAGE)


def test_unbound_maps_refuse_to_be_used_by_zennit_itself() -> None:
    model, maps = vgg(), compose(GlobalMap(EPSILON))
    with pytest.raises(CompositeError, match=r"call \.bind\(model, sample\)"), maps.context(model):
        pass
    with pytest.raises(CompositeError, match=r"GlobalMap needs to know .* call \.bind\(model, sample\)"):
        GlobalMap(EPSILON).register(model)
    with pytest.raises(CompositeError, match=r"call \.bind\(model, sample\)"):
        relevance(model, composites.MixedComposite([maps, composites.EpsilonPlus()]))
    assert not any(module._forward_hooks for module in model.modules())


def test_bound_maps_can_be_mixed_with_a_preset() -> None:
    model = vgg()
    maps = LayerMap("features.2", rules.Gamma(0.5))
    mixed = composites.MixedComposite([maps.bind(model, IMAGE), composites.EpsilonPlus()])
    rows = {row.name: row.rule for row in crp.rule_table(model, IMAGE, mixed)}
    assert rows["features.2"] == "Gamma(gamma=0.5)"
    assert rows["features.0"] == "ZPlus"
    close(relevance(model, mixed), zennits(model, mixed))


def test_rules_of_ones_own_are_given_too() -> None:
    class Doubled(BasicHook):  # type: ignore[misc]
        """Twice the gradient."""

        def __init__(self) -> None:
            super().__init__(
                gradient_mapper=lambda relevance, outputs: [2 * relevance],
                reducer=lambda inputs, gradients: gradients[0],
            )

    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    close(relevance(model, LastLayerMap(Doubled())), 2 * zennits(model, Composite()))
