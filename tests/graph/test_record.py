"""A recording is the model's own forward, whatever Python, in-place statements and outputs the model has."""

# mypy: disable-error-code="no-any-return, index, operator, call-overload, misc, var-annotated, no-untyped-call"

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hidden import Hidden
from marks import slow_except
from oracles.families import FAMILIES, QUICK, build
from oracles.start import output_tensor
from oracles.whole_model import whole_model_relevance
from torch import nn
from torchvision.models.feature_extraction import get_graph_node_names
from zennit.composites import EpsilonPlusFlat, LayerMapComposite
from zennit.layer import Sum
from zennit.rules import Epsilon, Norm, Pass
from zennit.types import Activation, AvgPool, BatchNorm, Linear

from crp_kit import CondAttribution, CrpKitWarning
from crp_kit.errors import InputError, ModelError, UnknownLayerError
from crp_kit.graph.model_graph import record_once
from crp_kit.graph.recording.record import Recording, record
from crp_kit.graph.recording.shadow import make_shadow

ROUNDING = 1e-9  # stabilizers of 1e-12 in a few layers of float64


def lrp0() -> LayerMapComposite:
    """LRP-0 with the smallest stabilizers, activations passed."""
    norm = Norm(stabilizer=1e-12)
    layers = [(Activation, Pass()), (Sum, norm), (AvgPool, norm), (BatchNorm, Pass()), (Linear, Epsilon(1e-12))]
    return LayerMapComposite(layer_map=layers)


def sample(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class Middle(nn.Module):
    """A convolution, any function of the module and its output, and a linear layer."""

    def __init__(self, function: Callable[[Any, torch.Tensor], torch.Tensor], *, dtype: torch.dtype = torch.float64):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(2, 4, 3, padding=1)
            self.linear = nn.Linear(4 * 9, 3)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, -1.0, 0.5]))
        self.plain = torch.tensor([1.0, -2.0, 1.0, 0.5], dtype=dtype)
        self.register_buffer("mask", torch.tensor([True, False, True, False]))
        self.function = function
        self.to(dtype).eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.function(self, self.conv(x)).flatten(1))


def own_output(model: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
    with torch.no_grad():
        return output_tensor(model(*args, **kwargs))


# ---------------------------------------------------------------------- the model's own output


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", ["resnet18", "mobilenet_v3_large", "densenet121", "shufflenet_v2_x1_0", "swin_t"])
def test_recording_has_the_models_own_output_bitwise(family: str, dtype: torch.dtype) -> None:
    model, x = build(family, dtype=dtype)
    recording = record_once(model, x)
    assert torch.equal(recording.value(recording.graph.output), own_output(model, x.clone()))


@pytest.mark.examples
@pytest.mark.parametrize("family", slow_except(sorted(FAMILIES), QUICK))
def test_replaying_each_node_gives_its_recorded_value(family: str) -> None:
    model, x = build(family)
    recording = record_once(model, x, output="out" if FAMILIES[family].segmentation else None)
    values = {ref: recording.value(ref) for node in recording.graph for ref in node.inputs}
    with torch.no_grad():
        for node in recording.graph.nodes[1:]:
            for new, old in zip(node.call(values), recording.values[node.index], strict=True):
                if isinstance(old, torch.Tensor):
                    assert torch.allclose(new, old, rtol=1e-12, atol=1e-12), node.name


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_recording_keeps_the_memory_format_and_so_the_bits(memory_format: torch.memory_format) -> None:
    model, x = build("resnet18", dtype=torch.float32)
    x = x.to(memory_format=memory_format)
    recording = record_once(model, x)
    assert torch.equal(recording.value(recording.graph.output), own_output(model, x.clone()))


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize("family", ["resnet18", "densenet121", "googlenet", "mobilenet_v3_large", "efficientnet_b0"])
def test_names_are_those_of_torchvision(family: str) -> None:
    model, x = build(family)
    theirs = get_graph_node_names(model)[1][1:]  # without the input, which has the name of forward's parameter
    assert set(theirs) <= set(record_once(model, x).graph.names)


class Repeating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.block(x) + x)
        return self.relu(F.relu(self.block(x)) + x).sum(1, keepdim=True)


def test_repeated_calls_have_suffixes_and_blocks_are_names_of_their_last_call() -> None:
    graph = record_once(Repeating(), sample(2, 3, dtype=torch.float32)).graph
    assert [node.name for node in graph] == (
        "input block.0 block.1 add relu block.0_1 block.1_1 relu_1 add_1 relu_2 sum".split()
    )
    assert graph.find("block") == graph.find("block.1")
    assert graph.find("block_1") == graph.find("block.1_1")


def test_outputs_of_a_node_with_several_are_named_by_number() -> None:
    def split(model: Any, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, 1)
        return torch.cat([second, first], 1)

    graph = record_once(Middle(split), sample(1, 2, 3, 3)).graph
    assert graph.find("chunk:1") != graph.find("chunk:0")
    with pytest.raises(UnknownLayerError, match=r"'chunk' has 2 outputs \(chunk:0, chunk:1\): name one"):
        graph.find("chunk")


# ---------------------------------------------------------------------- in-place statements


def bare_relu(model: Any, x: torch.Tensor) -> torch.Tensor:
    F.relu(x, inplace=True)
    return x


def bare_module(model: Any, x: torch.Tensor) -> torch.Tensor:
    nn.ReLU(inplace=True)(x)
    return x


def augmented_sum(model: Any, x: torch.Tensor) -> torch.Tensor:
    y = x.relu()
    y += x
    return y


def sum_without_rebinding(model: Any, x: torch.Tensor) -> torch.Tensor:
    y = x.relu()
    x.add_(y)
    return x


def sum_read_before_and_after(model: Any, x: torch.Tensor) -> torch.Tensor:
    before = x + 1
    x.mul_(2)
    return before + x


def slice_written(model: Any, x: torch.Tensor) -> torch.Tensor:
    x[:, 0] = x[:, 1].relu()
    return x


def zeros_filled(model: Any, x: torch.Tensor) -> torch.Tensor:
    out = torch.zeros_like(x)
    out[:, 1:] = x[:, :3]
    return out


def view_written(model: Any, x: torch.Tensor) -> torch.Tensor:
    y = x[:, :2]
    y.mul_(2)
    return x


def view_of_zeros_written(model: Any, x: torch.Tensor) -> torch.Tensor:
    out = torch.zeros_like(x)
    out[:, 1].copy_(x[:, 0])
    return out + x


def chunk_written(model: Any, x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, 1)
    first.relu_()
    return torch.cat([second, first, x], 1)[:, 2:6]


def constant_written_between(model: Any, x: torch.Tensor) -> torch.Tensor:
    bias = torch.ones(4, 1, 1, dtype=x.dtype)
    y = x * bias
    bias.mul_(3)
    return y + x * bias


def constant_region_of_live_memory(model: Any, x: torch.Tensor) -> torch.Tensor:
    out = torch.zeros_like(x)
    upper, lower = out[:, :2], out[:, 2:]
    lower.copy_(x[:, 2:])
    upper.add_(1)
    return out * x


def reshaped_in_place(model: Any, x: torch.Tensor) -> torch.Tensor:
    y = x[:, :, None]
    part = y[:, :1]
    y.squeeze_(2)
    part.mul_(2)
    return y


def out_given(model: Any, x: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    torch.add(x, x.relu(), out=out)
    return out


def two_outs_given(model: Any, x: torch.Tensor) -> torch.Tensor:
    values, places = torch.empty_like(x[:, 0]), torch.empty_like(x[:, 0], dtype=torch.long)
    torch.max(x, 1, out=(values, places))
    return x + values[:, None]


def buffer_written(model: Any, x: torch.Tensor) -> torch.Tensor:
    model.scale.add_(1)
    return x * model.scale[:, None, None]


def view_of_buffer_written(model: Any, x: torch.Tensor) -> torch.Tensor:
    model.scale[0] += 1
    return x * model.scale[:, None, None]


def attribute_written(model: Any, x: torch.Tensor) -> torch.Tensor:
    model.plain += 1
    return x * model.plain[:, None, None]


def buffer_replaced(model: Any, x: torch.Tensor) -> torch.Tensor:
    model.scale = model.scale + 1
    return x * model.scale[:, None, None]


def input_written_into_view_of_buffer(model: Any, x: torch.Tensor) -> torch.Tensor:
    model.scale[:2].copy_(x[0, :2, 0, 0] * 3)
    return x * 2 + model.scale[:, None, None]


def parameter_written(model: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        model.linear.weight.mul_(2)
    return x


def mask_narrowed(model: Any, x: torch.Tensor) -> torch.Tensor:
    keep = x > 0
    y = torch.where(keep, x, x * 2)
    keep &= x > 1
    return y + torch.where(keep, x, x * 3)


def mask_of_the_model_written(model: Any, x: torch.Tensor) -> torch.Tensor:
    model.mask |= True
    return torch.where(model.mask[:, None, None], x, x * 2)


def remainder_taken(model: Any, x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    z = y.relu()
    y %= 1
    return z + y


def parameter_data_set(model: Any, x: torch.Tensor) -> torch.Tensor:
    model.linear.weight.data = model.linear.weight.data * 2
    return x


IN_PLACE: dict[Callable[[Any, torch.Tensor], torch.Tensor], Callable[[Any, torch.Tensor], torch.Tensor]] = {
    bare_relu: lambda model, x: x.relu(),
    bare_module: lambda model, x: x.relu(),
    augmented_sum: lambda model, x: x.relu() + x,
    sum_without_rebinding: lambda model, x: x + x.relu(),
    sum_read_before_and_after: lambda model, x: (x + 1) + x * 2,
    slice_written: lambda model, x: torch.cat([x[:, 1:2].relu(), x[:, 1:]], 1),
    zeros_filled: lambda model, x: F.pad(x[:, :3], (0, 0, 0, 0, 1, 0)),
    view_written: lambda model, x: torch.cat([x[:, :2] * 2, x[:, 2:]], 1),
    view_of_zeros_written: lambda model, x: F.pad(x[:, :1], (0, 0, 0, 0, 1, 2)) + x,
    chunk_written: lambda model, x: torch.cat([x[:, :2].relu(), x[:, :2].relu()], 1),
    constant_written_between: lambda model, x: x * 1 + x * 3,
    constant_region_of_live_memory: lambda model, x: torch.cat([torch.ones_like(x[:, :2]), x[:, 2:]], 1) * x,
    reshaped_in_place: lambda model, x: torch.cat([x[:, :1] * 2, x[:, 1:]], 1),
    out_given: lambda model, x: x + x.relu(),
    two_outs_given: lambda model, x: x + x.max(1, keepdim=True).values,
    buffer_written: lambda model, x: x * (model.scale + 1)[:, None, None],
    view_of_buffer_written: lambda model, x: x * torch.tensor([2, 2, -1, 0.5], dtype=x.dtype)[:, None, None],
    attribute_written: lambda model, x: x * (model.plain + 1)[:, None, None],
    buffer_replaced: lambda model, x: x * (model.scale + 1)[:, None, None],
    input_written_into_view_of_buffer: lambda model, x: (
        x * 2 + torch.cat([x[0, :2, 0, 0] * 3, model.scale[2:]])[:, None, None]
    ),
    parameter_written: lambda model, x: x * 2,
    mask_narrowed: lambda model, x: torch.where(x > 0, x, x * 2) + torch.where(x > 1, x, x * 3),
    mask_of_the_model_written: lambda model, x: x,
    remainder_taken: lambda model, x: (x * 2).relu() + x * 2 % 1,
    parameter_data_set: lambda model, x: x * 2,
}
"""In-place functions, and the same without."""


@pytest.mark.filterwarnings("ignore:no rule is known for the operation remainder:crp_kit.CrpKitWarning")
@pytest.mark.parametrize("function", IN_PLACE, ids=lambda function: function.__name__)
class TestInPlace:
    def test_recorded_output_is_the_models_own(self, function: Any) -> None:
        recording = record_once(Middle(function), sample(2, 2, 3, 3))
        expected = own_output(Middle(function), sample(2, 2, 3, 3))
        assert torch.equal(recording.value(recording.graph.output), expected)

    def test_model_and_input_are_as_before_and_a_second_run_is_the_same(self, function: Any) -> None:
        model, x = Middle(function), sample(2, 2, 3, 3)
        tensors = [model.plain, *model.state_dict().values()]
        before, attributes = [t.clone() for t in tensors], dict(vars(model))
        attribution = CondAttribution(model)
        first, second = (attribution(x, [{"y": [1]}], lrp0()) for _ in range(2))
        assert all(torch.equal(now, old) for now, old in zip(tensors, before, strict=True))
        assert vars(model) == attributes
        assert torch.equal(x, sample(2, 2, 3, 3))
        assert torch.equal(first.input_relevance, second.input_relevance)

    def test_relevance_is_that_of_the_twin_without(self, function: Any) -> None:
        x = sample(2, 2, 3, 3)
        ours, twins = (
            CondAttribution(Middle(one))(x, [{"y": [1]}], lrp0()).input_relevance
            for one in (function, IN_PLACE[function])
        )
        assert torch.allclose(ours, twins, rtol=ROUNDING, atol=ROUNDING)

    def test_gradient_is_autograds_of_the_twin(self, function: Any) -> None:
        x = sample(2, 2, 3, 3).requires_grad_()
        output = Middle(IN_PLACE[function])(x)
        (expected,) = torch.autograd.grad(output[:, 1].sum(), x)
        ours = CondAttribution(Middle(function))(x, [{"y": [1]}], None, init_rel=1)
        assert torch.allclose(ours.input_relevance, expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(
    "function",
    [bare_relu, bare_module, augmented_sum, sum_without_rebinding, sum_read_before_and_after, zeros_filled],
    ids=lambda function: function.__name__,
)
def test_relevance_of_in_place_models_is_that_of_the_oracle(function: Any) -> None:
    model, x = Middle(function), sample(2, 2, 3, 3)
    selection = torch.zeros(2, 3, dtype=torch.float64)
    selection[:, 1] = 1
    expected, _ = whole_model_relevance(model, x, selection)
    ours = CondAttribution(model)(x, [{"y": [1]}], lrp0()).input_relevance
    assert torch.allclose(ours, expected, rtol=1e-8, atol=1e-8)


def test_writing_one_chunk_makes_no_path_to_another() -> None:
    def one_chunk(model: Any, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, 1)
        first.mul_(2)
        return torch.cat([first, second], 1)

    graph = record_once(Middle(one_chunk), sample(1, 2, 3, 3)).graph
    cat = graph.nodes[graph.find("cat").node]
    assert graph.find("chunk:1") in cat.inputs


def test_in_place_on_the_input_leaves_the_users_tensors_alone() -> None:
    class Rude(nn.Module):
        def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            x.mul_(2)
            ids[ids < 0] = 0
            return x.flatten(1) * ids

    x, ids = sample(2, 3), torch.tensor([-1, 1, 2])
    data = x.clone().requires_grad_()
    prediction = CondAttribution(Rude())((data, ids.expand(2, 3).clone()), [{"y": [1]}], None).prediction
    assert torch.equal(prediction, x * 2 * ids.clamp(min=0))
    assert torch.equal(data.detach(), x)
    assert data.requires_grad
    assert data.grad is None
    kept = ids.expand(2, 3).clone()
    CondAttribution(Rude())((data, kept), [{"y": [1]}], None)
    assert torch.equal(kept, ids.expand(2, 3))


# ---------------------------------------------------------------------- inputs and outputs


class Pair(NamedTuple):
    logits: torch.Tensor
    features: torch.Tensor


@dataclasses.dataclass
class Record:
    logits: torch.Tensor
    features: torch.Tensor


class Wrapped(nn.Module):
    """Logits in any container."""

    def __init__(self, wrap: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.wrap = nn.Linear(4, 3), nn.Linear(3, 2), wrap

    def forward(self, x: torch.Tensor) -> Any:
        features = self.body(x).relu()
        return self.wrap(self.head(features), features)


CONTAINERS: dict[str, tuple[Callable[..., Any], Any]] = {
    "tuple by index": (lambda a, b: (a, b), 0),
    "tuple by negative index": (lambda a, b: (b, a), -1),
    "list": (lambda a, b: [a, b], 0),
    "dict by key": (lambda a, b: {"logits": a, "features": b}, "logits"),
    "dict by function": (lambda a, b: {"logits": a}, lambda result: result["logits"]),
    "computed": (lambda a, b: (a, b), lambda result: result[0] * 1.0),
    "named tuple by attribute": (Pair, "logits"),
    "named tuple by index": (Pair, 0),
    "dataclass by attribute": (Record, "logits"),
    "dataclass by function": (Record, lambda result: result.logits),
    "nested": (lambda a, b: {"out": [b, (a,)]}, lambda result: result["out"][1][0]),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_part_of_the_output_is_chosen_by_key_index_attribute_or_function(container: str) -> None:
    wrap, output = CONTAINERS[container]
    x, plain = sample(3, 4, dtype=torch.float32), Wrapped(lambda a, b: a)
    ours = CondAttribution(Wrapped(wrap), output)(x, [{"body": [0, 2], "y": [1]}], EpsilonPlusFlat())
    expected = CondAttribution(plain)(x, [{"body": [0, 2], "y": [1]}], EpsilonPlusFlat())
    assert torch.equal(ours.prediction, own_output(plain, x))
    assert torch.allclose(ours.input_relevance, expected.input_relevance, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("wrap", "output", "message"),
    [
        (
            lambda a, b: (a, b),
            None,
            r"output is a tuple of 2, not a floating-point tensor; .*output=\.\.\..*, such as 0$",
        ),
        (lambda a, b: {"logits": a}, None, "output is a dict with keys 'logits'"),
        (lambda a, b: {"logits": a}, "out", r"\(a dict with keys 'logits'\) has no part 'out'"),
        (lambda a, b: (a, b), 5, r"\(a tuple of 2\) has no part 5"),
        (Record, "nothing", r"\(a Record\) has no part 'nothing'"),
        (lambda a, b: a.argmax(1), None, "output is a tensor of torch.int64"),
        (lambda a, b: None, None, "output is a NoneType"),
        (lambda a, b: torch.ones(3, 2), None, "output does not depend on its input"),
        (lambda a, b: (a > 0).float(), None, "does not depend on its input, or only through integers and booleans"),
    ],
)
def test_an_output_that_cannot_be_attributed_is_said(wrap: Any, output: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        CondAttribution(Wrapped(wrap), output)(sample(3, 4, dtype=torch.float32), [{"y": [0]}])


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(4, 3).double(), nn.Linear(2, 3).double()

    def forward(self, image: torch.Tensor, *, extra: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
        return self.left(image) * factor + self.right(extra)


def test_keyword_inputs_are_inputs_of_their_own_name() -> None:
    model, image, extra = TwoInputs(), sample(2, 4), sample(2, 2, seed=1)
    data = {"image": image, "extra": extra, "factor": 3.0}
    with pytest.warns(
        CrpKitWarning, match=r"relevance also reaches the inputs extra, .* record_layer=\['extra'\] gives"
    ):
        attr = CondAttribution(model)(data, [{"y": [1]}], None, init_rel=1)
    assert torch.equal(attr.prediction, own_output(model, image, extra=extra, factor=3.0))
    assert torch.allclose(attr.input_relevance, model.left.weight[1].expand(2, 4) * 3)
    attr = CondAttribution(model)(data, [{"y": [1]}], None, init_rel=1, record_layer=["extra"])
    assert torch.allclose(attr.relevances["extra"], model.right.weight[1].expand(2, 2))
    graph = CondAttribution(model).graph({"image": image, "extra": extra})
    assert {"image", "extra"} <= set(graph.names)


def test_several_positional_inputs_are_numbered() -> None:
    graph = CondAttribution(nn.Bilinear(3, 2, 2)).graph((sample(2, 3).float(), sample(2, 2).float()))
    assert {"input", "input_1"} <= set(graph.names)


# ---------------------------------------------------------------------- odd models


def recording_of(model: nn.Module, x: torch.Tensor, opaque: frozenset[str] = frozenset()) -> Recording:
    return record(make_shadow(model), x, opaque=opaque)


def test_attention_is_decomposed_with_the_models_own_output() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x, need_weights=False)[0].mean(1)

    model, x = Attending().eval(), sample(2, 5, 8, dtype=torch.float32)
    recording = record_once(model, x)
    value = recording.value(recording.graph.output)
    assert torch.equal(value, model(x).detach())  # with gradients torch runs the same calls as we see
    assert torch.allclose(value, own_output(model, x), rtol=1e-4, atol=1e-6)  # without, a fused kernel
    assert {"attention.linear", "attention.scaled_dot_product_attention", "attention"} <= set(recording.graph.names)


def test_control_flow_may_depend_on_the_data() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.positive, self.negative = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.positive(x) if x.sum() > 0 else self.negative(x)

    model = Branching()
    attribution = CondAttribution(model)
    x = sample(1, 3).abs()
    for value, layer in ((x, model.positive), (-x, model.negative), (x, model.positive)):
        relevance = attribution(value, [{"y": [0]}], None, init_rel=1).input_relevance
        assert torch.equal(relevance, layer.weight[:1].detach())


class Doubling(torch.autograd.Function):
    """Doubles in the forward, and multiplies the gradient by 10: to see that this very function was used."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0] * 10


class Custom(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Doubling.apply(x)


def linear(inputs: int, outputs: int, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs).double()


def test_a_custom_function_in_a_submodule_hands_on_its_own_gradient() -> None:
    model = nn.Sequential(linear(3, 4), Custom(), linear(4, 2, seed=1)).eval()
    attr = CondAttribution(model)(sample(2, 3), [{"y": [1]}, {"y": [0]}, {"y": [0, 1]}], None, init_rel=1)
    expected = torch.stack([model[2].weight[1], model[2].weight[0], model[2].weight.sum(0)]) * 10 @ model[0].weight
    assert torch.equal(attr.prediction[0], own_output(model, sample(2, 3))[0])
    assert torch.allclose(attr.input_relevance[:3], expected)


def test_a_custom_function_without_torch_calls_is_one_node_under_a_composite_too() -> None:
    model = nn.Sequential(linear(3, 4), Hidden(), linear(4, 2, seed=1)).eval()
    with pytest.warns(CrpKitWarning, match="modules that cannot be looked into"):
        attr = CondAttribution(model)(sample(2, 3), [{"y": [1]}], lrp0())
    assert torch.equal(attr.prediction, own_output(model, sample(2, 3)))
    assert attr.gradient_nodes == ("1",)
    assert [node.op for node in CondAttribution(model).graph(sample(2, 3))] == "input linear opaque linear".split()
    assert float(attr.input_relevance.abs().sum()) > 0


def test_under_a_composite_a_custom_function_made_of_torch_calls_is_looked_into() -> None:
    ops = [node.op for node in CondAttribution(Custom()).graph(sample(2, 3), lrp0())]
    assert ops == ["input", "mul"]


class Joined(torch.autograd.Function):
    """A gated signal and a sum, made of torch's calls."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(x, y)
        return x * y.sigmoid(), x + 2 * y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = ctx.saved_tensors
        gate = y.sigmoid()
        return grads[0] * gate + grads[1], grads[0] * x * gate * (1 - gate) + 2 * grads[1]


class Rounded(torch.autograd.Function):
    """A straight-through estimator, whose calls let no gradient pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0]


class Beside(nn.Module):
    """A custom function beside a shortcut, with a factor that is constant."""

    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.function is Rounded:
            return Rounded.apply(x)
        with torch.no_grad():
            constant = x * 3
        gated, summed = Joined.apply(x, constant.flip(1))
        return gated + summed + Joined.apply(x.flip(1), x)[1]


def test_a_custom_function_beside_a_shortcut_gets_its_relevance() -> None:
    model, x = nn.Sequential(linear(3, 4), Beside(Joined), linear(4, 2, seed=1)).eval(), sample(2, 3)
    leaf = x.clone().requires_grad_()
    h = model[0](leaf)
    constant = (h * 3).flip(1).detach()
    joined = h * constant.sigmoid() + h + 2 * constant + h.flip(1) + 2 * h
    (gradient,) = torch.autograd.grad(model[2](joined)[:, 1].sum(), leaf)
    attr = CondAttribution(model)(x, [{"y": [1]}], lrp0())
    assert torch.allclose(attr.prediction, model(x))
    assert torch.allclose(attr.input_relevance, x * gradient, rtol=1e-6)
    assert attr.gradient_nodes == ()


def test_a_straight_through_estimator_beside_a_shortcut_is_named() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rounded = Beside(Rounded)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.rounded(x)

    model = nn.Sequential(linear(3, 4), Shortcut(), linear(4, 2, seed=1)).eval()
    with pytest.warns(CrpKitWarning, match="modules that cannot be looked into"):
        attr = CondAttribution(model)(sample(2, 3), [{"y": [1]}], lrp0())
    assert attr.gradient_nodes == ("1.rounded",)


def test_a_custom_function_in_the_root_makes_the_model_one_node() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Doubling.apply(self.linear(x))

    model = Root()
    attr = CondAttribution(model)(sample(2, 3), [{"y": [1]}], None, init_rel=1)
    assert torch.allclose(attr.input_relevance, model.linear.weight[1].expand(2, 3) * 10)
    with pytest.raises(UnknownLayerError, match="'linear' lies inside 'opaque', which is one node"):
        CondAttribution(model)(sample(2, 3), [{"linear": [0], "y": [1]}], None)


def test_a_custom_function_that_only_some_data_reach_is_found() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.custom = linear(3, 2), Custom()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x)
            return y + self.custom(y) if x.sum() > 0 else y + 0

    model, x = Sometimes(), sample(1, 3).abs()
    attribution = CondAttribution(model)
    for value, factor in ((-x, 1), (x, 11)):
        relevance = attribution(value, [{"y": [1]}], None, init_rel=1).input_relevance
        assert torch.allclose(relevance, model.linear.weight[1].expand(1, 3) * factor)


def test_a_custom_function_behind_written_memory_is_found() -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.custom = Custom()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            memory = torch.zeros_like(x)
            memory[:, 1:] = x[:, 1:]
            return self.custom(memory)

    attr = CondAttribution(Writing())(sample(2, 3), [{"y": [1]}], None, init_rel=1)
    assert torch.equal(attr.input_relevance, torch.tensor([[0.0, 10, 0]] * 2).double())


def test_an_expanded_view_of_memory_that_is_written_has_its_relevance_once() -> None:
    class Written(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.first, self.head, self.in_place = linear(3, 4), linear(8, 2, seed=1), in_place

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x)
            if not self.in_place:
                h = torch.cat([torch.zeros_like(h[:, :1]), h[:, 1:]], 1)
            wide = h.unsqueeze(1).expand(-1, 2, -1)
            if self.in_place:
                h[:, 0].zero_()
            return self.head(wide.flatten(1))

    for rules in (lrp0(), None):
        found, expected = (
            CondAttribution(Written(one))(sample(2, 3), [{"y": [1]}], rules, init_rel=1) for one in (True, False)
        )
        assert torch.allclose(found.input_relevance, expected.input_relevance, rtol=1e-9)
        assert torch.equal(found.prediction, expected.prediction)


def test_complex_numbers_inside_a_module_are_differentiated() -> None:
    class Fourier(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.irfft(torch.fft.rfft(x) * 2, n=x.shape[-1])

    model = nn.Sequential(linear(3, 4), Fourier(), linear(4, 2, seed=1))
    attr = CondAttribution(model)(sample(2, 3), [{"y": [1]}], None, init_rel=1)
    expected = model[2].weight[1] * 2 @ model[0].weight
    assert torch.allclose(attr.input_relevance, expected.expand(2, 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("whole", [False, True])
def test_a_scripted_module_is_one_node(whole: bool) -> None:
    inner = nn.Sequential(linear(3, 4), nn.ReLU())
    plain = nn.Sequential(inner, linear(4, 2, seed=1)).eval()
    model = torch.jit.script(plain) if whole else nn.Sequential(torch.jit.script(inner), plain[1]).eval()
    x = sample(2, 3)
    ours, expected = (CondAttribution(one)(x, [{"y": [1]}], None, init_rel=1) for one in (model, plain))
    assert torch.allclose(ours.input_relevance, expected.input_relevance)
    assert torch.allclose(ours.prediction, expected.prediction)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "wrapper", ["compiled", "compiled part", "compiled in place", "compiled function", "data parallel"]
)
def test_wrappers_are_looked_through(wrapper: str) -> None:
    plain = nn.Sequential(nn.Sequential(linear(3, 4), nn.ReLU()), linear(4, 2, seed=1)).eval()
    model: Any = {
        "compiled": lambda: torch.compile(plain),
        "compiled part": lambda: nn.Sequential(torch.compile(plain[0]), plain[1]).eval(),
        "compiled in place": lambda: compiled_in_place(plain),
        "compiled function": lambda: nn.Sequential(nn.Sequential(plain[0][0], Compiled()), plain[1]).eval(),
        "data parallel": lambda: nn.DataParallel(plain),
    }[wrapper]()
    ours = CondAttribution(model)(sample(2, 3), [{"0.0": [1], "y": [1]}], EpsilonPlusFlat())
    expected = CondAttribution(plain)(sample(2, 3), [{"0.0": [1], "y": [1]}], EpsilonPlusFlat())
    assert torch.equal(ours.input_relevance, expected.input_relevance)


class Compiled(nn.Module):
    """An activation that is a compiled function."""

    def __init__(self) -> None:
        super().__init__()
        self.run = torch.compile(lambda x: torch.relu(x) + 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(x)


def compiled_in_place(model: nn.Module) -> nn.Module:
    twin = nn.Sequential(*model)
    twin.compile()
    return twin.eval()


DROPOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "by default": F.dropout,
    "by position": lambda x: F.dropout(x, 0.5, True),
    "by keyword": lambda x: F.dropout(input=x, p=0.5, training=True),
    "in place": lambda x: F.dropout(x, 0.5, True, True),
    "torch.dropout": lambda x: torch.dropout(x, 0.5, True),
    "alpha": lambda x: F.alpha_dropout(x, 0.5, True),
    "channels": lambda x: F.dropout1d(x, 0.5),
}


@pytest.mark.parametrize("call", DROPOUTS)
def test_dropout_that_is_on_in_evaluation_mode_is_switched_off_with_a_warning(call: str) -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return DROPOUTS[call](self.linear(x))

    model = Dropping().eval()
    attribution = CondAttribution(model)
    with pytest.warns(CrpKitWarning, match=r"dropout that is on in evaluation mode .* was switched off") as caught:
        first, second = (attribution(sample(2, 3), [{"y": [1]}], None, init_rel=1) for _ in range(2))
    assert len(caught) == 1
    assert torch.equal(first.prediction, model.linear(sample(2, 3)))
    assert torch.equal(second.input_relevance, model.linear.weight[1].expand(2, 3))


@pytest.mark.parametrize("call", [lambda x: F.dropout(x, training=False), F.alpha_dropout, lambda x: F.dropout(x, 0.0)])
def test_dropout_that_is_off_is_no_reason_to_warn(call: Any) -> None:
    class Dropping(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return call(x)

    assert torch.equal(CondAttribution(Dropping())(sample(2, 3), [{"y": [1]}]).prediction, sample(2, 3))


def test_attention_dropout_and_dropped_weights_are_switched_off() -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
            return F.linear(x, F.dropout(self.linear.weight)).mean(1)

    with pytest.warns(CrpKitWarning, match="was switched off"):
        first = CondAttribution(Dropping().eval())(sample(2, 3, 4), [{"y": [1]}]).prediction
    x = sample(2, 3, 4)
    expected = F.linear(F.scaled_dot_product_attention(x, x, x), Dropping().linear.weight).mean(1)
    assert torch.equal(first, expected)


def test_batch_statistics_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    with pytest.raises(ModelError, match="BatchNorm '1' normalises by the statistics of the batch, also in evaluation"):
        CondAttribution(model).graph(torch.ones(2, 2, 3, 3))


def test_the_users_hooks_run_and_stay() -> None:
    model = nn.Sequential(linear(3, 4), linear(4, 2, seed=1)).eval()
    seen: list[torch.Size] = []
    model[0].register_forward_hook(lambda module, args, output: seen.append(output.shape))
    model[1].register_forward_hook(lambda module, args, output: output * 3)
    model.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    hooks = [(m, list(m._forward_hooks), list(m._forward_pre_hooks)) for m in model.modules()]
    attr = CondAttribution(model)(sample(2, 3), [{"y": [1]}], None, init_rel=1)
    assert torch.equal(attr.prediction, own_output(model, sample(2, 3)))
    assert torch.allclose(attr.input_relevance, (model[1].weight[1] * 3 @ model[0].weight).expand(2, 3))
    assert seen[-1] == torch.Size([2, 4])
    assert hooks == [(m, list(m._forward_hooks), list(m._forward_pre_hooks)) for m in model.modules()]


def test_a_model_that_cannot_be_copied_is_said() -> None:
    class Stubborn(nn.Module):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("cannot pickle 'generator' object")

    with pytest.raises(ModelError, match="Stubborn cannot be copied, which crp-kit needs .*: cannot pickle 'gen"):
        CondAttribution(Stubborn())(torch.ones(1, 3), [{"y": [0]}])


def test_kept_features_of_an_earlier_forward_do_no_harm() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.kept = linear(3, 2), {}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.last = self.kept["linear"] = self.linear(x)
            return self.last

    model = Keeping()
    kept = model(sample(1, 3))  # with a gradient: deepcopy refuses such tensors
    attr = CondAttribution(model)(sample(2, 3), [{"y": [1]}], None, init_rel=1)
    assert torch.equal(attr.input_relevance, model.linear.weight[1].expand(2, 3))
    assert model.last is kept
    assert model.kept == {"linear": kept}


def test_tensors_with_gradients_from_outside_the_model_are_constants() -> None:
    factor = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    class Borrowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) * factor

    assert "linear" in CondAttribution(Borrowing()).graph(sample(1, 3)).names


def test_a_model_that_only_runs_without_gradients_runs_with_a_warning() -> None:
    class Leaving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x)
            return y * float(y.numpy().max() > -1e9)

    model = Leaving()
    with pytest.warns(CrpKitWarning, match="cannot run with gradients, so custom autograd functions in it would go"):
        attr = CondAttribution(model)(sample(2, 3), [{"y": [1]}], None, init_rel=1)
    assert torch.equal(attr.input_relevance, model.linear.weight[1].expand(2, 3))


def test_a_failing_forward_is_told_with_the_inputs_shape() -> None:
    with pytest.raises(ModelError, match=r"forward failed for input of shape \(2, 5\): .*shapes cannot be multiplied"):
        CondAttribution(nn.Linear(3, 2))(torch.ones(2, 5), [{"y": [0]}])


def test_no_batch_axis_is_an_input_error_though_torch_takes_such_images() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(0), nn.Linear(4, 2))
    with pytest.raises(InputError, match=r"needs a batch axis in front: conv2d at '0' got shape \(3, 8, 8\)"):
        CondAttribution(model).graph(torch.ones(3, 8, 8))
