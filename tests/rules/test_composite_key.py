"""Composites are recognised by their content: plans are kept for composites made alike, and for no changed ones."""

from __future__ import annotations

import copy
import gc
import logging
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nets import small_convnet
from torch import nn
from zennit import composites, rules
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import (
    LayerMapComposite,
    MixedComposite,
    NameLayerMapComposite,
    NameMapComposite,
    layer_map_base,
)
from zennit.core import BasicHook, Composite, Hook, ParamMod, Stabilizer
from zennit.types import Activation, Convolution, Linear

from crp_kit import CondAttribution
from crp_kit.errors import CrpKitError
from crp_kit.propagation import model_cache
from crp_kit.rules.attnlrp import AttnLRP
from crp_kit.rules.composite_key import content_of
from crp_kit.rules.maps.rule_maps import FirstLayerMap, GlobalTypeMap, LayerMap, compose

# ---------------------------------------------------------------------- composites

pytestmark = pytest.mark.filterwarnings("ignore:layers to which the composite gives no rule")


class Scaled(Hook):
    """A user's rule with attributes of its own and of its class."""

    factor = 1.0

    def __init__(self, scale: float = 0.5, table: dict[str, float] | None = None) -> None:
        super().__init__()
        self.scale, self.table = scale, table or {"a": 1.0}

    def copy(self) -> Scaled:
        return type(self)(self.scale, self.table)

    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        return (grad_input[0] * self.scale * self.factor * self.table["a"],)


def by_closure(epsilon: float = 1e-6, gamma: float = 0.25) -> Composite:
    """A user's composite whose module_map is a function with variables around it."""
    linear, table = rules.Epsilon(epsilon), {"conv": rules.Gamma(gamma), "own": Scaled()}
    base = LayerMapComposite(layer_map_base())

    def module_map(ctx: Any, name: str, module: nn.Module) -> Hook | None:
        if isinstance(module, nn.Conv2d):
            return table["conv"]
        return linear if isinstance(module, nn.Linear) else base.mapping(ctx, name, module)

    return Composite(module_map=module_map)


def custom_rule() -> BasicHook:
    scale = [0.5]
    return BasicHook(
        gradient_mapper=lambda out_grad, outputs: out_grad / Stabilizer(1e-3)(outputs[0]) * scale[0],
        reducer=lambda inputs, gradients: inputs[0] * gradients[0],
    )


MAKE: dict[str, Callable[[], Composite]] = {
    **composites.COMPOSITES,
    "epsilon_gamma_box": lambda: composites.EpsilonGammaBox(low=torch.full((1, 3, 1, 1), -3.0), high=torch.tensor(3.0)),
    "without biases": lambda: composites.EpsilonPlusFlat(zero_params=["bias"]),
    "attnlrp": AttnLRP,
    "attnlrp with gamma": lambda: AttnLRP(gamma=0.1),
    "by name": lambda: NameMapComposite([(["0"], rules.ZPlus()), (["4", "5"], rules.Epsilon(0.1))]),
    "by name and layer": lambda: NameLayerMapComposite(
        [(("0",), rules.WSquare())], [*layer_map_base(), (Linear, rules.AlphaBeta(2, 1))]
    ),
    "mixed": lambda: MixedComposite([NameMapComposite([(["0"], Scaled())]), composites.EpsilonPlus()]),
    "nested": lambda: MixedComposite([MixedComposite([NameMapComposite([(["0"], rules.Flat())])]), AttnLRP()]),
    "maps": lambda: compose(
        GlobalTypeMap({Convolution: rules.Gamma(0.1), nn.Linear: rules.Epsilon(), Activation: rules.Pass()}),
        LayerMap("4", rules.Epsilon(1e-3)),
        FirstLayerMap(rules.Flat()),
    ),
    "closure": by_closure,
    "a rule of one's own": lambda: LayerMapComposite([*layer_map_base(), (Linear, custom_rule())]),
}


def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(6, 2)).double().eval()


MODEL = model()
IMAGE = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def heatmap(attribution: CondAttribution, composite: Composite) -> torch.Tensor:
    return attribution(IMAGE, [{"y": [0]}], composite).input_relevance


def fresh(composite: Composite) -> torch.Tensor:
    return heatmap(CondAttribution(MODEL), composite)


# ---------------------------------------------------------------------- changes in place

Change = tuple[str, Callable[[], None]]


def changes(composite: Composite) -> Iterator[Change]:
    """Everything that is changed in place here: what it is, and the change."""
    for place, hook in enumerate(content_of(composite).hooks):
        for what, change in of_hook(hook):
            yield f"rule {place}: {what}", change
    if type(composite.module_map).__name__ == "function":
        yield "module_map", lambda: setattr(composite, "module_map", lambda ctx, name, module: None)
        yield "a variable around it", lambda: assign(composite.module_map, "linear", rules.Epsilon(0.7))
        yield "a table around it", lambda: variable(composite.module_map, "table").update(conv=rules.ZPlus())
        yield "a default", lambda: setattr(composite.module_map, "__defaults__", (1,))
    else:
        yield "module_map", lambda: setattr(composite, "module_map", partial(composite.module_map))
    yield "an attribute", lambda: setattr(composite, "extra", 1)
    yield "a canonizer", lambda: setattr(composite, "canonizers", [SequentialMergeBatchNorm()])
    for part in parts(composite):
        yield from of_part(part)


def parts(composite: Composite) -> Iterator[Composite]:
    yield composite
    for inner in (*getattr(composite, "composites", ()), *getattr(composite, "maps", ())):
        yield from parts(inner)


def of_part(part: Any) -> Iterator[Change]:
    kind = type(part).__name__
    for name in ("layer_map", "first_map", "name_map"):
        pairs = getattr(part, name, None)
        if not pairs:
            continue
        yield f"{kind}.{name} is replaced", lambda n=name: setattr(part, n, [])
        yield f"{kind}.{name} has one more", lambda p=pairs: p.append((p[0][0], rules.Epsilon(0.3)))
        yield f"{kind}.{name} has one less", lambda p=pairs: p.pop()
        yield f"{kind}.{name} has another rule", lambda p=pairs: p.__setitem__(0, (p[0][0], rules.Epsilon(0.3)))
        yield f"{kind}.{name} has another key", lambda p=pairs: p.__setitem__(0, ((), p[0][1]))
        if len(pairs) > 1:
            yield f"{kind}.{name} has another order", lambda p=pairs: p.reverse()
        if name == "name_map" and isinstance(pairs[0][0], list):
            yield "a list of names", lambda p=pairs: p[0][0].append("6")
    if hasattr(part, "composites"):
        yield "composites", lambda: part.composites.append(composites.EpsilonPlus())
    if hasattr(part, "rules"):
        yield f"{kind}.rules", lambda: setattr(part, "rules", ((None, rules.Epsilon(0.3)),))
        yield f"{kind}.where", lambda: setattr(part, "where", 1)


def of_hook(hook: Hook) -> Iterator[Change]:
    yield "an attribute", lambda: setattr(hook, "extra", 1)
    yield "its class", lambda: setattr(hook, "__class__", type("Other", (type(hook),), {}))
    yield "a method", lambda: setattr(hook, "backward", lambda module, grad_input, grad_output: grad_input)
    if hasattr(hook, "beta_smooth"):
        yield "beta", lambda: setattr(hook, "beta_smooth", 3.0)
    if hasattr(hook, "stabilizer_fn"):
        yield "the stabilizer", lambda: setattr(hook.stabilizer_fn, "epsilon", 0.5)
    if isinstance(hook, Scaled):
        yield "a number", lambda: setattr(hook, "scale", 0.25)
        yield "a number in a table", lambda: hook.table.update(a=2.0)
    if not isinstance(hook, BasicHook):
        return
    yield "the mapper", lambda: setattr(hook, "gradient_mapper", lambda out_grad, outputs: out_grad)
    yield "the reducer", lambda: setattr(hook, "reducer", lambda inputs, gradients: inputs[0])
    yield "an input", lambda: setattr(hook, "input_modifiers", [lambda x: 2 * x, *hook.input_modifiers[1:]])
    yield "an output", lambda: setattr(hook, "output_modifiers", [lambda x: 2 * x, *hook.output_modifiers[1:]])
    yield "parameters", lambda: setattr(hook, "param_modifiers", [ParamMod(double), *hook.param_modifiers[1:]])
    yield "one term more", lambda: setattr(hook, "input_modifiers", [*hook.input_modifiers, lambda x: x])
    if isinstance(hook.input_modifiers, list):
        yield "an input in the list", lambda: hook.input_modifiers.__setitem__(0, lambda x: 2 * x)
    if isinstance(hook.param_modifiers[0], ParamMod):
        yield "zero parameters", lambda: setattr(hook.param_modifiers[0], "zero_params", ["weight"])
    for function in (hook.gradient_mapper, hook.reducer, *hook.input_modifiers, *map(inside, hook.param_modifiers)):
        for name in function.__code__.co_freevars if isinstance(function, FunctionType) else ():
            yield from of_variable(function, name)


def of_variable(function: FunctionType, name: str) -> Iterator[Change]:
    value = variable(function, name)
    if isinstance(value, Stabilizer):
        yield "epsilon", lambda: setattr(value, "epsilon", 0.5)
        yield "clip", lambda: setattr(value, "clip", True)
        yield "norm", lambda: setattr(value, "norm_scale", True)
    elif isinstance(value, torch.Tensor):
        yield f"values of {name}", lambda: value.mul_(0.5)
        yield f"values of {name} behind autograd's back", lambda: value.data.mul_(0.5)
    elif isinstance(value, float):
        yield name, lambda: assign(function, name, value + 0.25)
    elif isinstance(value, list):
        yield name, lambda: value.__setitem__(0, "weight" if isinstance(value[0], str) else 0.25)


def double(value: torch.Tensor, name: str) -> torch.Tensor:
    return 2 * value


def inside(modifier: Any) -> Any:
    return getattr(modifier, "modifier", modifier)


def cell(function: FunctionType, name: str) -> Any:
    return (function.__closure__ or ())[function.__code__.co_freevars.index(name)]


def variable(function: Any, name: str) -> Any:
    return cell(function, name).cell_contents


def assign(function: Any, name: str, value: Any) -> None:
    cell(function, name).cell_contents = value


@pytest.mark.parametrize("name", MAKE)
def test_composites_made_alike_have_one_key_and_every_change_gives_another(name: str) -> None:
    first = content_of(MAKE[name]())
    assert first.key == content_of(MAKE[name]()).key
    assert hash(first.key) == hash(content_of(MAKE[name]()).key)
    whats = [what for what, _ in changes(MAKE[name]())]
    assert len(set(whats)) >= 10
    for place, what in enumerate(whats):
        composite = MAKE[name]()
        before = content_of(composite).key
        assert before == first.key
        list(changes(composite))[place][1]()
        after = content_of(composite).key
        assert after != before, what
        assert after == content_of(composite).key


@pytest.mark.parametrize("name", MAKE)
def test_use_leaves_the_key_as_it_is(name: str) -> None:
    composite = MAKE[name]()
    key = content_of(composite).key
    heatmap(CondAttribution(MODEL), composite)
    assert content_of(composite).key == key
    if name != "maps":
        with composite.context(copy.deepcopy(MODEL)) as hooked:
            hooked(IMAGE.clone().requires_grad_()).sum().backward()
            assert content_of(composite).key == key
        assert content_of(composite).key == key


TRIED = ("epsilon", "stabilizer", "has another rule", "rules", "values", "in a table", "table around", "a list of")
"""Of the changes those that are tried, one of each sort."""


@pytest.mark.parametrize("name", MAKE)
def test_a_changed_composite_gives_what_it_gives_a_fresh_attribution(name: str) -> None:
    attribution, original = CondAttribution(MODEL), fresh(MAKE[name]())
    whats = [what for what, _ in changes(MAKE[name]())]
    each = ([place for place, what in enumerate(whats) if word in what] for word in TRIED)
    seen = 0
    for place in {places[-1] for places in each if places}:
        composite = MAKE[name]()
        assert torch.equal(heatmap(attribution, composite), original)
        list(changes(composite))[place][1]()
        try:
            expected = fresh(composite)
        except CrpKitError as error:
            with pytest.raises(type(error)):
                heatmap(attribution, composite)
        else:
            assert torch.equal(heatmap(attribution, composite), expected), whats[place]
            seen += not torch.equal(expected, original)
        assert torch.equal(heatmap(attribution, MAKE[name]()), original), whats[place]
    assert seen


# ---------------------------------------------------------------------- plans


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The composites that are planned."""
    seen: list[Any] = []
    make = model_cache.make_plan

    def counting(graph: Any, composite: Any, *rest: Any) -> Any:
        seen.append(composite)
        return make(graph, composite, *rest)

    monkeypatch.setattr(model_cache, "make_plan", counting)
    return seen


OWN = ("mixed", "closure", "a rule of one's own")
"""Composites with functions or classes of the user's own, which has to run in each."""


@pytest.mark.parametrize("name", MAKE)
def test_composites_made_anew_for_each_call_are_planned_once(name: str, planned: list[Any]) -> None:
    attribution = CondAttribution(MODEL)
    maps = [heatmap(attribution, MAKE[name]()) for _ in range(4)]
    assert len(planned) == (4 if name in OWN else 1)
    assert all(torch.equal(one, maps[0]) for one in maps)


@pytest.mark.parametrize("name", MAKE)
def test_one_composite_is_planned_once(name: str, planned: list[Any]) -> None:
    attribution, composite = CondAttribution(MODEL), MAKE[name]()
    maps = [heatmap(attribution, composite) for _ in range(3)]
    assert len(planned) == 1
    assert all(torch.equal(one, maps[0]) for one in maps)


def noting(seen: list[str]) -> Composite:
    """A composite whose functions write down that they run."""

    def mapper(out_grad: torch.Tensor, outputs: Any) -> Any:
        seen.append("mapper")
        return rules.Epsilon().gradient_mapper(out_grad, outputs)

    def module_map(ctx: Any, name: str, module: nn.Module) -> Hook | None:
        seen.append(name)
        return rule if isinstance(module, (nn.Conv2d, nn.Linear)) else base.mapping(ctx, name, module)

    base = LayerMapComposite(layer_map_base())
    rule = BasicHook(gradient_mapper=mapper, reducer=lambda inputs, gradients: inputs[0] * gradients[0])
    return Composite(module_map=module_map)


def test_what_ones_own_code_writes_while_it_runs_is_no_change_and_goes_where_it_belongs(planned: list[Any]) -> None:
    attribution, first, second = CondAttribution(MODEL), list[str](), list[str]()
    composite = noting(first)
    for _ in range(3):
        heatmap(attribution, composite)
    assert len(planned) == 1
    assert "mapper" in first
    heatmap(attribution, noting(second))
    assert len(planned) == 2
    assert "mapper" in second
    first.append("a change between calls")
    heatmap(attribution, composite)
    assert len(planned) == 3


def test_a_change_that_is_taken_back_finds_the_first_plan_with_its_numbers(planned: list[Any]) -> None:
    rule = rules.Epsilon(1e-6)
    stabilizer = variable(rule.gradient_mapper, "stabilizer_fn")
    composite, attribution = LayerMapComposite([*layer_map_base(), (Linear, rule)]), CondAttribution(MODEL)
    first = heatmap(attribution, composite)
    stabilizer.epsilon = 1.0
    changed = heatmap(attribution, composite)
    stabilizer.epsilon = 1e-6
    again = heatmap(attribution, composite)
    assert len(planned) == 2
    assert torch.equal(first, again)
    assert not torch.allclose(first, changed)


def test_a_change_seen_by_one_attribution_is_seen_by_another_of_the_same_rules() -> None:
    rule = rules.Gamma(0.25)
    stabilizer = variable(rule.gradient_mapper, "stabilizer_fn")
    several = [LayerMapComposite([*layer_map_base(), (Linear, rule)]) for _ in range(2)]
    attributions = CondAttribution(MODEL), CondAttribution(MODEL)
    first = [heatmap(one, composite) for one, composite in zip(attributions, several, strict=True)]
    stabilizer.epsilon = 0.5
    changed = heatmap(attributions[1], several[1])
    stabilizer.epsilon = 1e-6
    assert torch.equal(heatmap(attributions[0], several[0]), first[0])
    assert torch.equal(heatmap(attributions[1], several[1]), first[1])
    assert not torch.allclose(changed, first[0])


def test_rules_that_a_composite_no_longer_has_may_change() -> None:
    old, new = rules.Epsilon(), rules.Epsilon()
    composite, attribution = LayerMapComposite([*layer_map_base(), (Linear, old)]), CondAttribution(MODEL)
    first = heatmap(attribution, composite)
    composite.layer_map[-1] = (Linear, new)
    assert torch.equal(heatmap(attribution, composite), first)
    variable(old.gradient_mapper, "stabilizer_fn").epsilon = 1.0
    assert torch.equal(heatmap(attribution, composite), first)


def test_a_first_composite_that_is_changed_leaves_its_plan_to_none() -> None:
    attribution, first = CondAttribution(MODEL), composites.EpsilonPlus()
    expected = heatmap(attribution, first)
    for hook in content_of(first).hooks:
        if isinstance(hook, BasicHook):
            variable(hook.gradient_mapper, "stabilizer_fn").epsilon = 1.0
    assert torch.equal(heatmap(attribution, composites.EpsilonPlus()), expected)
    assert torch.equal(heatmap(attribution, first), fresh(first))
    assert not torch.allclose(heatmap(attribution, first), expected)


def test_a_tensor_of_bounds_written_to_in_place_counts() -> None:
    low, high = torch.full((1, 3, 40, 40), -3.0), torch.full((1, 3, 40, 40), 3.0)
    net = small_convnet(3, 2, 2)
    x = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(2))
    composite, attribution = composites.EpsilonGammaBox(low, high), CondAttribution(net)
    first = attribution(x, [{"y": [0]}], composite).heatmap
    low[0, 1, 7, 9] -= 1e-3  # a checksum in float32 would not see it
    key = content_of(composite).key
    assert key != content_of(composites.EpsilonGammaBox(torch.full_like(low, -3.0), high)).key
    low.fill_(-4.0)
    second = attribution(x, [{"y": [0]}], composite).heatmap
    assert torch.equal(second, CondAttribution(net)(x, [{"y": [0]}], composite).heatmap)
    assert not torch.allclose(first, second)


# ---------------------------------------------------------------------- what a key is made of


def test_bounds_of_any_type_are_compared_by_their_values() -> None:
    several = [
        torch.arange(6.0), torch.arange(6), torch.arange(6.0).bfloat16(), torch.arange(6.0).half(),
        torch.ones(2, 3).bool(), torch.randn(3, dtype=torch.complex64).conj(), torch.zeros(0), torch.tensor(1.0),
        torch.arange(12.0)[::2], torch.zeros(3, 4).T, torch.zeros(2000), nn.Parameter(torch.ones(3)), np.arange(4),
        np.float32(3), np.arange(3)[::-1], np.array(["a", None], dtype=object),
        np.array("2020-01-01", dtype="datetime64[D]"), slice(1, None, 2), range(3), {1, 2}, frozenset("ab"),
        {"a": [1, {2: 3}]}, OrderedDict(a=1), deque([1, 2]), SimpleNamespace(a=1), bytearray(b"a"),
        partial(max, 1, key=None), float("inf"), -1, 1.0, True, None, "1", b"1", 1j, ..., torch.float32, (1,), [1],
    ]  # fmt: skip
    keys = [content_of(one).key for one in several]
    assert len(set(keys)) == len(keys)
    assert [content_of(one).key for one in map(copy.deepcopy, several)] == keys


class Slotted:
    """An object without a dictionary."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Named(dict[str, int]):
    """A dictionary with attributes."""


SHARED = {"epsilon": [1e-6]}
LOGGER = logging.getLogger("a rule's")


def reading_globals(out_grad: torch.Tensor, outputs: Any) -> torch.Tensor:
    LOGGER.debug("called")
    return out_grad / (outputs[0] + SHARED["epsilon"][0])


def test_global_variables_of_ones_own_functions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    composite = LayerMapComposite([(Linear, BasicHook(gradient_mapper=reading_globals))])
    key = content_of(composite).key
    LOGGER.setLevel(logging.INFO)
    assert content_of(composite).key == key
    monkeypatch.setitem(SHARED, "epsilon", [0.1])
    assert content_of(composite).key != key


def test_attributes_of_classes_slots_and_containers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    slotted, named, own = Slotted([1]), Named(a=1), Scaled()
    composite = LayerMapComposite([((), own)])
    composite.extras = [slotted, named]
    keys = [content_of(composite).key]
    slotted.value.append(2)
    keys.append(content_of(composite).key)
    named.more = 1
    keys.append(content_of(composite).key)
    monkeypatch.setattr(Scaled, "factor", 2.0)
    keys.append(content_of(composite).key)
    monkeypatch.setattr(Scaled, "backward", lambda self, module, grad_input, grad_output: grad_input)
    keys.append(content_of(composite).key)
    assert len(set(keys)) == len(keys)


def test_a_type_of_zennits_that_lists_another_class_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    composite = composites.EpsilonPlus()
    key = content_of(composite).key
    monkeypatch.setattr(Convolution, "__subclass__", (*Convolution.__subclass__, nn.Bilinear))
    assert content_of(composite).key != key


@pytest.mark.slow
def test_objects_that_cannot_be_looked_into_are_compared_by_identity_and_kept_alive() -> None:
    network = nn.Linear(2, 2)
    key, other = content_of([network, iter([1])]).key, content_of([nn.Linear(2, 2), iter([1])]).key
    assert key != other
    alive = weakref.ref(network)
    del network
    gc.collect()
    assert alive() is not None


def test_cycles_and_endless_structures_have_an_end() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    other: list[Any] = [1]
    other.append(other)
    assert content_of(ring).key == content_of(other).key != content_of([1, [1]]).key
    huge = [[number] for number in range(100_000)]
    assert content_of(huge).key != content_of(huge).key
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert content_of(deep).key == content_of(deep).key
