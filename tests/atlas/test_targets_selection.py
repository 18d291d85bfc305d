"""Which classes relevance starts from, which layers an atlas is about, and rules in words."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import Net, images
from torch import nn
from zennit import rules
from zennit.composites import EpsilonGammaBox, EpsilonPlusFlat, LayerMapComposite, NameMapComposite
from zennit.core import BasicHook, Composite
from zennit.layer import Sum
from zennit.types import Activation, AvgPool, BatchNorm, Linear

from crp_kit import CondAttribution
from crp_kit.atlas.build.target_policy import UnlabelledError, target_policy
from crp_kit.attribution.layer_choice import select_layers
from crp_kit.attribution.layer_values import recordable
from crp_kit.data import demo_resnet
from crp_kit.errors import InputError, UnknownLayerError, UnreachableLayerError
from crp_kit.propagation.plan_description import describe_plan
from crp_kit.propagation.run import Run
from crp_kit.rules.description import describe_hook

ROOT = Path(__file__).parents[2]
QUICK = settings(max_examples=80, derandomize=True, deadline=None)


# --------------------------------------------------------------------------------------------------------- targets

OUTPUT = torch.tensor([[0.0, 2.0, 1.0], [3.0, 3.0, -1.0]])
PROBABILITY = [[0.0900, 0.6652, 0.2447], [0.4955, 0.4955, 0.0091]]
"""Softmax of the outputs, by hand."""


def test_labels_are_taken_as_they_are() -> None:
    assert target_policy("label")(OUTPUT, [(2, 0), ()]) == [(2, 0), ()]


@pytest.mark.parametrize("row", [0, 1])
def test_a_sample_without_a_label_is_told_with_its_row(row: int) -> None:
    labels: list[tuple[int, ...] | None] = [(0,), (1,)]
    labels[row] = None
    with pytest.raises(UnlabelledError, match="it has no label; start from target='prediction' instead, or") as caught:
        target_policy("label")(OUTPUT, labels)
    assert caught.value.row == row


def test_the_prediction_is_the_highest_output_the_first_of_equals() -> None:
    assert target_policy("prediction")(OUTPUT, [None, None]) == [(1,), (0,)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("top:0", [(1, 2, 0), (0, 1, 2)]),
        ("top:0.2", [(1, 2), (0, 1)]),
        ("top:0.2:1", [(1,), (0,)]),
        ("top:0.0:2", [(1, 2), (0, 1)]),
        ("top:0.5", [(1,), ()]),
        ("top:0.999", [(), ()]),
        ("top:1e-3:99", [(1, 2, 0), (0, 1, 2)]),
    ],
)
def test_classes_above_a_probability(text: str, expected: list[tuple[int, ...]]) -> None:
    assert target_policy(text)(OUTPUT, [None, None]) == expected


@pytest.mark.slow
@QUICK
@given(
    output=st.lists(
        st.lists(st.integers(-8, 8), min_size=4, max_size=4).map(lambda row: [one / 2 for one in row]),
        min_size=1,
        max_size=5,
    ),
    share=st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.3, 0.5, 0.9]),
    most=st.none() | st.integers(1, 5),
)
def test_classes_above_a_probability_are_those_of_the_definition(
    output: list[list[float]], share: float, most: int | None
) -> None:
    outputs = torch.tensor(output)
    text = f"top:{share}" if most is None else f"top:{share}:{most}"
    for row, found in zip(outputs, target_policy(text)(outputs, [None] * len(output)), strict=True):
        probability = torch.softmax(row, 0).tolist()
        above = [one for one in range(4) if probability[one] > share]
        assert list(found) == sorted(above, key=lambda one: (-probability[one], one))[:most]


def test_an_output_with_places_counts_by_its_sum() -> None:
    maps = OUTPUT[:, :, None, None] / 6 * torch.ones(2, 3, 2, 3)
    for text in ("prediction", "top:0.2", "top:0.0:2"):
        assert target_policy(text)(maps, [None, None]) == target_policy(text)(OUTPUT, [None, None])


def test_a_function_sees_one_sample_and_its_labels_and_may_repeat_itself() -> None:
    seen: list[tuple[list[float], tuple[int, ...] | None]] = []

    def rule(output: torch.Tensor, label: tuple[int, ...] | None) -> torch.Tensor:
        seen.append((output.tolist(), label))
        return torch.tensor([2, 0, 2])

    found = target_policy(rule)(OUTPUT, [(1,), None])
    assert found == [(2, 0), (2, 0)]
    assert all(type(one) is int for ids in found for one in ids)
    assert seen == [([0.0, 2.0, 1.0], (1,)), ([3.0, 3.0, -1.0], None)]
    assert target_policy(lambda output, label: range(0))(OUTPUT, [None, None]) == [(), ()]


@pytest.mark.parametrize(
    "text",
    ["labels", "", "top", "top:", "top:a", "top:-0.1", "top:1", "top:1.5", "top:nan", "top:inf", "top:0.1:0",
     "top:0.1:-1", "top:0.1:a", "top:0.1:1.5", "top:0.1:2:3", "Prediction", "prediction:1", "label:", 5, None],
)  # fmt: skip
def test_what_is_no_target_is_told(text: Any) -> None:
    with pytest.raises(InputError, match="target is 'label', 'prediction', 'top:P' or 'top:P:N'.*got ") as caught:
        target_policy(text)
    assert str(caught.value).endswith(f"got {text!r}")


# ---------------------------------------------------------------------------------------------------------- layers


@pytest.fixture(scope="module")
def resnet() -> tuple[Run, nn.Module]:
    model = demo_resnet()
    return CondAttribution(model).engine.run(torch.zeros(2, 3, 64, 64), EpsilonPlusFlat()), model


@pytest.fixture(scope="module")
def net() -> tuple[Run, nn.Module]:
    model = Net().eval()
    return CondAttribution(model).engine.run(images(), EpsilonPlusFlat()), model


CONVOLUTIONS = ("layer2.0.conv1", "layer2.0.conv2", "layer2.1.conv1", "layer2.1.conv2")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("layer2.1.conv2", ("layer2.1.conv2",)),
        (["layer2.1.conv2"], ("layer2.1.conv2",)),
        ("layer2.*.conv?", CONVOLUTIONS),
        ("layer2.*conv[12]", CONVOLUTIONS),
        (r"layer2\.\d\.conv\d", CONVOLUTIONS),
        (r"layer[2-3]\.1\.conv2|conv1", ("conv1", "layer2.1.conv2", "layer3.1.conv2")),
        ("*.downsample.0", ("layer2.0.downsample.0", "layer3.0.downsample.0")),
        (nn.AdaptiveAvgPool2d, ("avgpool",)),
        ((name for name in CONVOLUTIONS[::-1]), CONVOLUTIONS),
        ([nn.AdaptiveAvgPool2d, "layer2.*.conv?", "conv1", "layer2.0.conv2"], ("conv1", *CONVOLUTIONS, "avgpool")),
        ("layer2", ("layer2",)),
        ("layer2.1", ("layer2.1",)),
        ("layer2.1.relu_1", ("layer2.1.relu_1",)),
        (["layer3", "layer1"], ("layer1", "layer3")),
        (["layer2", "layer2.1", "layer2.1.relu_1"], ("layer2",)),
        (["layer2.1.relu_1", "layer2"], ("layer2.1.relu_1",)),
        ("layer[12]", ("layer1", "layer2")),
        (nn.Sequential, ("layer1", "layer2.0.downsample", "layer2", "layer3.0.downsample", "layer3")),
        ("layer2.1.add", ("layer2.1.add",)),
        (r".*\.add", tuple(f"layer{stage}.{block}.add" for stage in (1, 2, 3) for block in (0, 1))),
    ],
)
def test_names_patterns_and_types_choose_nodes_in_the_order_of_the_graph(
    resnet: tuple[Run, nn.Module], wanted: Any, expected: tuple[str, ...]
) -> None:
    assert select_layers(*resnet, wanted) == expected


def test_a_type_chooses_every_module_of_it(resnet: tuple[Run, nn.Module]) -> None:
    found = select_layers(*resnet, nn.Conv2d)
    named = [name for name, one in resnet[1].named_modules() if isinstance(one, nn.Conv2d)]
    assert sorted(found) == sorted(named)


def test_a_pattern_for_everything_chooses_each_recordable_node_once(resnet: tuple[Run, nn.Module]) -> None:
    run, model = resnet
    for wanted in (".*", "*", [".*", "*", nn.Module]):
        found = select_layers(run, model, wanted)
        refs = [run.graph.find(name) for name in found]
        assert refs == sorted(set(refs))
        assert not {"input", "fc"} & set(found), "what goes in and what comes out are no layers"
        assert {"relu", "layer2.1.conv2", "layer1.0.relu_1", "avgpool", "flatten"} <= set(found)
        assert list(recordable(run, found, run.graph.output)) == list(found)


def test_a_pattern_prefers_the_node_behind_an_activation(resnet: tuple[Run, nn.Module]) -> None:
    run, model = resnet
    names = {run.graph.find(name): name for name in ("layer2.1.bn1", "layer2.1.conv1", "layer2.1.relu")}
    assert len(names) > 1
    assert select_layers(run, model, r"layer2\.1\.(conv1|bn1|relu)") == ("layer2.1.relu",)
    assert select_layers(run, model, r"layer2\.1\.(conv1|conv2)") == ("layer2.1.conv1", "layer2.1.conv2")
    assert select_layers(run, model, ["layer2.1.conv1", "layer2.1.rel?"]) == ("layer2.1.conv1", "layer2.1.relu")
    assert not {"conv1", "layer1.0.add"} & set(select_layers(run, model, "*"))
    # What an activation is not applied to alone stays: the shortcut reads it too.
    assert "layer1.0.conv2" in select_layers(run, model, "*")


def test_names_are_those_of_the_model_also_when_it_is_wrapped() -> None:
    inner = Net().eval()
    wrapped = nn.DataParallel(inner)
    run = CondAttribution(inner).engine.run(images(), EpsilonPlusFlat())
    assert select_layers(run, wrapped, [nn.Conv2d]) == ("conv1", "conv2")


def test_a_pattern_leaves_out_what_no_relevance_can_reach_and_a_name_does_not(net: tuple[Run, nn.Module]) -> None:
    run, model = net
    assert select_layers(run, model, "conv.|gate") == ("conv1", "conv2")
    assert "gate" not in select_layers(run, model, ".*")
    assert "sigmoid" not in select_layers(run, model, "*")
    with pytest.raises(InputError, match="no layer of type Linear runs in this model and can be recorded"):
        select_layers(run, model, nn.Linear)  # a gate, and the output
    named = select_layers(run, model, ["gate", "conv1"])
    assert named == ("conv1", "gate")
    with pytest.raises(UnreachableLayerError, match="no relevance can arrive at 'gate', so there is nothing to record"):
        recordable(run, named, run.graph.output)


def test_each_output_of_a_node_is_a_layer(net: tuple[Run, nn.Module]) -> None:
    assert select_layers(*net, "chunk:*") == ("chunk:0", "chunk:1")
    assert select_layers(*net, ["chunk:1", "conv1"]) == ("conv1", "chunk:1")


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ("layer2.1.conv3", UnknownLayerError, "no layer named 'layer2.1.conv3'; did you mean 'layer2.1.conv2' or"),
        (["conv1", "layer9"], UnknownLayerError, "no layer named 'layer9'; did you mean 'layer[123]'"),
        ("zzzzzz", UnknownLayerError, "no layer named 'zzzzzz'; see crp_kit.get_layer_names"),
        ("layer2.1.conv[3-9]", InputError, r"no layer matches the pattern 'layer2.1.conv\[3-9\]'; the names are like"),
        ("layer2.1.cnv*", InputError, r"no layer matches the pattern 'layer2.1.cnv\*'; .* layer2.1.conv[12]"),
        ("$", InputError, r"no layer matches the pattern '\$'; the names are like conv1, "),
        ("layer2.1.conv[", InputError, r"no layer matches the pattern 'layer2.1.conv\['; .* layer2.1.conv[12]"),
        ("", InputError, "no layer matches the pattern ''; the names are like"),
        (nn.LSTM, InputError, "no layer of type LSTM runs in this model and can be recorded"),
        (nn.Linear, InputError, "no layer of type Linear runs in this model and can be recorded"),
        ([], InputError, "no layers: name one at least, by its name, a pattern or a module type"),
        ((), InputError, "no layers: name one at least"),
        ([5], InputError, "a layer is chosen by a name, a pattern or a module type; got int"),
        (None, InputError, "a layer is chosen by .*; got NoneType"),
        (nn.ReLU(), InputError, "a layer is chosen by .*; got ReLU"),
        (nn.Sequential(nn.ReLU()), InputError, "a layer is chosen by .*; got ReLU"),
    ],
)
def test_what_is_no_layer_is_told(
    resnet: tuple[Run, nn.Module], wanted: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        select_layers(*resnet, wanted)


def test_a_module_that_never_runs_is_told(net: tuple[Run, nn.Module]) -> None:
    with pytest.raises(UnknownLayerError, match="the forward never runs 'unused'"):
        select_layers(*net, ["conv1", "unused"])
    with pytest.raises(UnknownLayerError, match="no layer named 'chunk'; did you mean 'chunk:1' or 'chunk:0'"):
        select_layers(*net, "chunk")


# --------------------------------------------------------------------------------------------------- rules in words


def modified(function: Callable[..., Any]) -> BasicHook:
    return BasicHook(input_modifiers=[function])


def scaled(factor: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: x * factor


def scaled_by_default(factor: float) -> Callable[..., torch.Tensor]:
    def scale(x: torch.Tensor, factor: float = factor) -> torch.Tensor:
        return x * factor

    return scale


def scaled_by_keyword(factor: float) -> Callable[..., torch.Tensor]:
    def scale(x: torch.Tensor, *, factor: float = factor) -> torch.Tensor:
        return x * factor

    return scale


class Scale:
    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def by_factor(self, x: torch.Tensor) -> Any:
        return x * self.factor

    __call__ = by_factor


class Hidden:
    def __init__(self, factor: Any) -> None:
        self._factor = factor

    def __call__(self, x: torch.Tensor) -> Any:
        return x * self._factor


def own_rule(factor: float) -> BasicHook:
    class Own(BasicHook):
        gain = factor

    return Own()


def own_method(number: int) -> BasicHook:
    class Twice(BasicHook):
        def backward(self, module: Any, grad_input: Any, grad_output: Any) -> Any:
            return grad_output[0] * 2

    class Thrice(BasicHook):
        def backward(self, module: Any, grad_input: Any, grad_output: Any) -> Any:
            return grad_output[0] * 3

    Thrice.__name__ = Twice.__name__
    return (Twice if number == 1 else Thrice)()


def identity(x: torch.Tensor) -> torch.Tensor:
    return x


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def linear(factor: float) -> nn.Module:
    module = nn.Linear(2, 1)
    with torch.no_grad():
        for one in module.parameters():
            one.fill_(factor)
    return module


TENSORS = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)

DIFFERENT: dict[str, tuple[Callable[[Any], BasicHook], Any, Any]] = {
    "epsilon": (lambda value: rules.Epsilon(epsilon=value), 1e-6, 1e-5),
    "epsilon's last bit": (lambda value: rules.Epsilon(epsilon=value), 0.1, 0.1 + 2e-17 + 2**-56),
    "epsilon as a function": (lambda value: rules.Epsilon(epsilon=lambda x: x + value), 1e-6, 1e-5),
    "kind of zero parameters": (lambda value: rules.Epsilon(zero_params=value), None, "bias"),
    "gamma": (lambda value: rules.Gamma(gamma=value), 0.25, 0.5),
    "gamma's stabilizer": (lambda value: rules.Gamma(stabilizer=value), 1e-6, 1e-3),
    "alpha and beta": (lambda value: rules.AlphaBeta(alpha=value, beta=value - 1), 1.0, 2.0),
    "low": (lambda value: rules.ZBox(low=value, high=3.0), -1.0, -2.0),
    "high": (lambda value: rules.ZBox(low=-1.0, high=value), 1.0, 2.0),
    "low and high": (lambda value: rules.ZBox(low=value[0], high=value[1]), TENSORS, TENSORS[::-1]),
    "a tensor": (lambda value: rules.ZBox(low=value, high=TENSORS[1]), TENSORS[0], TENSORS[0] - 1e-7),
    "a tensor of half precision": (
        lambda value: rules.ZBox(low=value, high=TENSORS[1].bfloat16()),
        TENSORS[0].bfloat16(),
        TENSORS[1].bfloat16(),
    ),
    "norm's stabilizer": (lambda value: rules.Norm(stabilizer=value), 1e-6, 1e-3),
    "a constant in a closure": (lambda value: modified(scaled(value)), 2, 3),
    "a tensor in a closure": (lambda value: modified(scaled(value)), torch.tensor(2.0), torch.tensor(3.0)),
    "an array in a closure": (lambda value: modified(scaled(value)), np.arange(3), np.arange(3) + 1),
    "a complex number": (lambda value: modified(scaled(value)), 2j, 3j),
    "a list in a closure": (lambda value: modified(scaled(value)), [1, 2], [2, 1]),
    "a set in a closure": (lambda value: modified(scaled(value)), {1, 2}, {1, 3}),
    "a dictionary in a closure": (lambda value: modified(scaled(value)), {"a": 1}, {"b": 1}),
    "a default": (lambda value: modified(scaled_by_default(value)), 2.0, 3.0),
    "a keyword's default": (lambda value: modified(scaled_by_keyword(value)), 2.0, 3.0),
    "what a partial adds": (lambda value: modified(functools.partial(torch.clamp, min=value)), 0.0, 1.0),
    "an argument of a partial": (lambda value: modified(functools.partial(torch.mul, value)), 2.0, 3.0),
    "an object": (lambda value: modified(Scale(value)), 2.0, 3.0),
    "a method's object": (lambda value: modified(Scale(value).by_factor), 2.0, 3.0),
    "an object with something hidden": (lambda value: modified(Hidden(value)), 2.0, 3.0),
    "a function": (modified, identity, double),
    "a function of torch": (modified, torch.abs, torch.relu),
    "the order of functions": (lambda value: BasicHook(input_modifiers=value), [identity, double], [double, identity]),
    "how often a function comes": (
        lambda value: BasicHook(input_modifiers=value),
        [identity, double, identity],
        [identity, double, double],
    ),
    "a module's weights": (lambda value: modified(linear(value)), 2.0, 3.0),
    "a number of a class": (own_rule, 2.0, 3.0),
    "a method of a class": (own_method, 1, 2),
}


@pytest.mark.parametrize(("make", "one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_a_rule_has_other_words_when_anything_in_it_differs(
    make: Callable[[Any], BasicHook], one: Any, other: Any
) -> None:
    assert describe_hook(make(one)) == describe_hook(make(one))
    assert describe_hook(make(one)) != describe_hook(make(other))


def test_functions_that_do_something_else_have_other_words() -> None:
    same_name = [
        lambda x: x * 2,
        lambda x: x * 3,
        lambda x: x + 2,
        lambda x: x.abs(),
        lambda x: x.relu(),
        lambda x: scaled(4)(x),
        lambda x: [one * 2 for one in x],
        lambda x: [one * 3 for one in x],
    ]
    assert len({describe_hook(modified(one)) for one in same_name}) == len(same_name)


def test_a_run_leaves_no_traces_in_the_words() -> None:
    composite = EpsilonPlusFlat()
    attribution = CondAttribution(Net().eval())
    before, after = (words(attribution, composite), words(attribution, composite))
    attribution(images(), [{"y": [0]}], composite)
    assert before == after == words(attribution, composite)


def words(attribution: CondAttribution, composite: Composite | None) -> str:
    run = attribution.engine.run(images(), composite)
    return json.dumps(describe_plan(run.graph, run.plan))


@pytest.fixture(scope="module")
def attribution() -> CondAttribution:
    return CondAttribution(Net().eval())


def layer_map(**stabilizers: float) -> Composite:
    """Epsilon everywhere, with a rule for sums and one for pooling whose stabilizers may differ."""
    return LayerMapComposite(
        [
            (Sum, rules.Norm(stabilizer=stabilizers.get("sums", 1e-6))),
            (AvgPool, rules.Norm(stabilizer=stabilizers.get("pooling", 1e-6))),
            (Activation, rules.Pass()),
            (BatchNorm, rules.Pass()),
            (Linear, rules.Epsilon(epsilon=stabilizers.get("linear", 1e-6))),
        ]
    )


PLANS: dict[str, tuple[Callable[[], Composite | None], Callable[[], Composite | None]]] = {
    "another composite": (EpsilonPlusFlat, lambda: None),
    "epsilon": (EpsilonPlusFlat, lambda: EpsilonPlusFlat(epsilon=1e-5)),
    "stabilizer": (EpsilonPlusFlat, lambda: EpsilonPlusFlat(stabilizer=1e-5)),
    "gamma": (lambda: EpsilonGammaBox(-1.0, 1.0), lambda: EpsilonGammaBox(-1.0, 1.0, gamma=0.5)),
    "low": (lambda: EpsilonGammaBox(-1.0, 1.0), lambda: EpsilonGammaBox(-2.0, 1.0)),
    "high tensor": (
        lambda: EpsilonGammaBox(low=-torch.ones(1, 2, 1, 1), high=torch.ones(1, 2, 1, 1)),
        lambda: EpsilonGammaBox(low=-torch.ones(1, 2, 1, 1), high=2 * torch.ones(1, 2, 1, 1)),
    ),
    "stabilizer of linear layers alone": (layer_map, lambda: layer_map(linear=1e-3)),
    "stabilizer of sums alone": (layer_map, lambda: layer_map(sums=1e-3)),
    "stabilizer of pooling alone": (layer_map, lambda: layer_map(pooling=1e-3)),
    "one name": (
        lambda: NameMapComposite([(["conv1", "conv2"], rules.Epsilon())]),
        lambda: NameMapComposite([(["conv1"], rules.Epsilon())]),
    ),
}


@pytest.mark.parametrize(("one", "other"), PLANS.values(), ids=PLANS)
def test_a_plan_has_other_words_when_a_rule_of_it_differs(
    attribution: CondAttribution, one: Callable[[], Composite | None], other: Callable[[], Composite | None]
) -> None:
    assert words(attribution, one()) == words(attribution, one())
    assert words(attribution, one()) != words(attribution, other())


def test_a_plan_names_every_node_through_which_relevance_passes_once(attribution: CondAttribution) -> None:
    run = attribution.engine.run(images(), EpsilonPlusFlat())
    found = [name for names in describe_plan(run.graph, run.plan).values() for name in names]
    assert len(found) == len(set(found))
    assert {"conv1", "conv2", "bn", "relu", "add", "mul", "head"} <= set(found)
    assert not {"input", "unused"} & set(found)


@pytest.mark.slow
def test_words_are_the_same_in_another_process() -> None:
    code = f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}, {str(Path(__file__).parent)!r}]
        from test_targets_selection import report
        print(report())
    """
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in code.splitlines())],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert ran.stdout.strip() == report()


def report() -> str:
    """Words for rules that hold something whose order or place in memory differs between processes."""
    held = [
        scaled({"b", "a", "c", "d"}),
        lambda x: x if "a" in {"a", "b", "c", "d"} else -x,
        Scale(object()),
        nn.ReLU(),
    ]
    hooks = [describe_hook(modified(one)) for one in held]
    plans = [words(CondAttribution(Net().eval()), one()) for pair in PLANS.values() for one in pair]
    return json.dumps([*hooks, *plans])
