"""Models and calls that people do make, though nobody would choose them as an example."""

import copy
import gc
import pickle
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hidden import Hidden
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from zennit.composites import EpsilonPlusFlat, LayerMapComposite
from zennit.rules import Epsilon
from zennit.types import Linear

from crp_kit import CondAttribution, CrpKitError
from crp_kit.data import demo_resnet
from crp_kit.propagation.relevance_pass import relevance_pass
from crp_kit.propagation.rule_steps import LinearStep

ROUNDING = 1e-9
LRP0 = LayerMapComposite([(Linear, Epsilon(1e-12))])


class Made(nn.Module):
    """A model of a function and some modules."""

    def __init__(self, function: Callable[..., torch.Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)
        self.double().eval()

    def forward(self, *args: Any) -> torch.Tensor:
        return self.function(self, *args)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def head(function: Callable[[torch.Tensor], torch.Tensor], *, bias: bool = False) -> Made:
    torch.manual_seed(1)
    first, last = nn.Linear(6, 6, bias=bias), nn.Linear(6, 4, bias=bias)
    return Made(lambda model, x: model.last(function(model.first(x))), first=first, last=last)


@pytest.mark.parametrize(
    "power", [lambda h: h**2, lambda h: h.abs() ** 1.5, lambda h: h.square(), lambda h: torch.pow(h, 2)]
)
def test_powers_pass_relevance_on_however_they_are_written(power: Any, x: torch.Tensor) -> None:
    attr = CondAttribution(head(power))(x, [{"y": [0]}], LRP0)
    assert attr.heatmap.sum(1).tolist() == pytest.approx(attr.prediction[:, 0].tolist(), rel=1e-6)


# Each is h times a factor that is detached, as in the definition of LRP for activations.
ACTIVATIONS = {
    "exp": (lambda h: h.exp(), lambda h: h * (h.exp() / h).detach()),
    "exp2": (torch.exp2, lambda h: h * (torch.exp2(h) / h).detach()),
    "sqrt": (lambda h: h.abs().sqrt(), lambda h: h * (h.abs().sqrt() / h).detach()),
    "hard swish": (lambda h: h * F.relu6(h + 3) / 6, lambda h: h * (F.relu6(h + 3) / 6).detach()),
    "tanh gelu": (
        lambda h: 0.5 * h * (1 + torch.tanh(0.8 * h)),
        lambda h: h * (0.5 * (1 + torch.tanh(0.8 * h))).detach(),
    ),
    "swish": (lambda h: h * torch.sigmoid(2 * h), lambda h: h * torch.sigmoid(2 * h).detach()),
    "gate first": (lambda h: F.relu6(h + 3) * h, lambda h: h * F.relu6(h + 3).detach()),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_hand_written_activations_are_activations(name: str, x: torch.Tensor) -> None:
    function, detached = ACTIVATIONS[name]
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(head(detached)(leaf)[:, 0].sum(), leaf)
    ours = CondAttribution(head(function))(x, [{"y": [0]}], LRP0).input_relevance
    assert torch.allclose(ours, x * gradient, rtol=1e-6, atol=1e-9)


class Backwards(torch.autograd.Function):
    """A custom function whose gradient is twice the true one."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient * 2


def test_a_custom_function_between_two_modules_hands_on_its_own_gradient(x: torch.Tensor) -> None:
    model, leaf = head(Backwards.apply), x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)
    ours = CondAttribution(model)(x, [{"y": [0]}], None, init_rel=1.0)
    assert torch.allclose(ours.input_relevance, expected, rtol=ROUNDING)


class TokensFirst(nn.Module):
    """(token, batch, channel) inside, as torch's attention has it by default."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.norm, self.last = nn.MultiheadAttention(16, 4), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.transpose(0, 1)
        tokens = tokens + self.attention(tokens, tokens, tokens)[0]
        out: torch.Tensor = self.last(self.norm(tokens).relu().mean(0))
        return out


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [2, 3, 4])
def test_layers_whose_first_axis_is_not_the_batch_are_never_mixed_up(tokens: int) -> None:
    model, data = TokensFirst().double().eval(), torch.randn(2, tokens, 16, dtype=torch.float64)
    attribution = CondAttribution(model)
    for options in ({"record_layer": ["norm"]}, {}):
        sets = [{"y": [0]}] if options else [{"norm": [3], "y": [0]}]
        with pytest.raises(
            CrpKitError, match="'norm' has its samples along axis 1 of its output of shape .*one sample at"
        ):
            attribution(data, sets, "epsilon_plus", **options)
    whole = attribution(data, [{"y": [0]}], "epsilon_plus").heatmap
    single = attribution(data[1:], [{"norm": list(range(16)), "y": [0]}], "epsilon_plus", exclude_parallel=False)
    assert torch.allclose(whole[1], single.heatmap[0], rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_two_names_of_one_node_in_a_set_are_refused(image: torch.Tensor) -> None:
    with pytest.raises(CrpKitError, match=r"'layer1' and 'layer1.1' are one node: name it once, with the ids of both"):
        CondAttribution(demo_resnet())(image, [{"layer1": [1], "layer1.1": [2], "y": [0]}], "epsilon_plus")


@pytest.mark.slow
def test_a_mask_belongs_to_the_node_whatever_it_is_called(image: torch.Tensor) -> None:
    def nothing(ids: Any, shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        return torch.zeros(1)

    attribution, names = CondAttribution(demo_resnet()), ("layer1", "layer1.1")
    sets = [{name: [1], "y": [0]} for name in names]
    for name in names:
        for order in (sets, sets[::-1]):
            assert not attribution(image, order, "epsilon_plus", mask_map={name: nothing}).heatmap.any()


def test_an_output_without_a_batch_axis_is_refused(x: torch.Tensor) -> None:
    model = Made(lambda model, x: model.last(x).squeeze(), last=nn.Linear(6, 4))
    with pytest.raises(CrpKitError, match=r"the model's output has no batch axis in front: its shape is \(4,\)"):
        CondAttribution(model)(x[:1], [{"y": [0]}], "epsilon_plus")


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last, self.scale = nn.Linear(6, 3).double(), 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(x) * self.scale
        return out


def test_changes_of_attributes_and_hooks_between_calls_are_seen(x: torch.Tensor) -> None:
    model = Scaled().eval()
    attribution = CondAttribution(model)
    attribution(x, [{"y": [0]}], "epsilon_plus")
    model.scale = 3.0
    assert torch.equal(attribution(x, [{"y": [0]}], "epsilon_plus").prediction, model(x))
    handle = model.last.register_forward_hook(lambda module, args, out: out * 0.5)
    assert torch.equal(attribution(x, [{"y": [0]}], "epsilon_plus").prediction, model(x))
    handle.remove()
    assert torch.equal(attribution(x, [{"y": [0]}], "epsilon_plus").prediction, model(x))


@pytest.mark.parametrize("settings", [{"gain": 2.0}, [2.0], {"gain": {"other": 2.0}}], ids=["dict", "list", "nested"])
def test_changes_inside_of_an_attribute_are_seen(settings: Any, x: torch.Tensor) -> None:
    def gain(model: Any) -> float:
        inner = model.settings["gain"] if isinstance(model.settings, dict) else model.settings[0]
        return float(inner["other"] if isinstance(inner, dict) else inner)

    model: Any = Made(lambda model, x: model.last(x) * gain(model), last=nn.Linear(6, 4))
    model.settings = settings
    attribution = CondAttribution(model)
    attribution(x, [{"y": [0]}], "epsilon_plus")
    if isinstance(settings, list):
        settings[0] = 5.0
    else:
        settings["gain"] = 5.0
    assert torch.equal(attribution(x, [{"y": [0]}], "epsilon_plus").prediction, model(x))


@pytest.mark.slow
def test_several_threads_may_share_an_attribution(image: torch.Tensor) -> None:
    attribution = CondAttribution(demo_resnet())
    sets = [{"layer2.1.conv2": [channel], "y": [channel % 8]} for channel in range(8)]
    expected = [attribution(image, [one], "epsilon_plus").heatmap for one in sets]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: attribution(image, [one], "epsilon_plus").heatmap, sets))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("copied", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy], ids=["pickle", "copy"])
def test_a_used_attribution_can_be_copied(copied: Any, image: torch.Tensor) -> None:
    attribution = CondAttribution(demo_resnet())
    before = attribution(image, [{"y": [0]}], "epsilon_plus").heatmap
    assert torch.equal(copied(attribution)(image, [{"y": [0]}], "epsilon_plus").heatmap, before)


@pytest.mark.slow
def test_a_model_made_in_inference_mode_can_be_attributed(image: torch.Tensor) -> None:
    expected = CondAttribution(demo_resnet())(image, [{"y": [0]}], "epsilon_plus").heatmap
    with torch.inference_mode():
        model = demo_resnet()
    assert torch.equal(CondAttribution(model)(image, [{"y": [0]}], "epsilon_plus").heatmap, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:modules that cannot be looked into and have no rule")
def test_threads_take_turns_with_modules_that_run_again_in_a_pass(x: torch.Tensor) -> None:
    attribution = CondAttribution(Made(lambda m, x: m.last(m.hidden(x).tanh()), hidden=Hidden(), last=nn.Linear(6, 4)))
    expected = [attribution(x, [{"y": [target]}], "epsilon_plus").heatmap for target in range(4)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: attribution(x, [{"y": [i % 4]}], "epsilon_plus").heatmap, range(100)))
    assert all(torch.equal(one, expected[i % 4]) for i, one in enumerate(found))


class Counting(Hidden):
    """A hidden module with a state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.met: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.met.append(len(x))
        return super().forward(x)


@pytest.mark.filterwarnings("ignore:modules that cannot be looked into and have no rule")
@pytest.mark.parametrize("composite", ["epsilon_plus", LayerMapComposite([(Counting, Epsilon()), (Linear, Epsilon())])])
def test_what_a_hidden_module_notes_is_as_before(composite: Any, x: torch.Tensor) -> None:
    model: Any = Made(lambda model, x: model.last(model.hidden(x)), hidden=Counting(), last=nn.Linear(6, 4))
    CondAttribution(model)(x, [{"y": [0]}], composite)
    assert model.hidden.calls == 0
    assert model.hidden.met == []


@pytest.mark.filterwarnings("ignore:modules that cannot be looked into and have no rule")
def test_a_hidden_module_may_return_any_kind_of_dictionary(x: torch.Tensor) -> None:
    class Both(Hidden):
        def forward(self, x: torch.Tensor) -> Any:
            found = defaultdict(list, again=super().forward(x))
            found["other"].append(x)
            return found

    model = Made(lambda model, x: model.last(model.both(x)["again"]), both=Both(), last=nn.Linear(6, 4))
    attribution = CondAttribution(model)(x, [{"y": [0]}], "epsilon_plus")
    assert torch.equal(attribution.prediction, model(x))


def test_a_module_that_fails_and_is_replaced_by_another_takes_no_name(x: torch.Tensor) -> None:
    class Failing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("not today")

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fast, self.slow = Failing(), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                out: torch.Tensor = self.fast(x)
            except RuntimeError:
                out = self.slow(x).relu()
            return out

    graph = CondAttribution(Made(lambda m, x: m.last(m.block(x)), block=Block(), last=nn.Linear(6, 4))).graph(x)
    assert [node.name for node in graph] == ["input", "block.slow", "block.relu", "last"]
    assert graph.find("block") == graph.find("block.relu")


def test_a_weight_that_is_computed_gets_the_rule_of_its_layer(image: torch.Tensor) -> None:
    def forward(model: Any, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = model.last(model.norm(model.conv(x)).relu().mean((2, 3)))
        return out

    torch.manual_seed(0)
    plain = Made(forward, conv=nn.Conv2d(3, 8, 3), norm=nn.BatchNorm2d(8), last=nn.Linear(8, 4))
    plain.norm.running_mean.normal_()  # type: ignore[union-attr, operator]
    twin, data = copy.deepcopy(plain), image.double()
    weight_norm(twin.conv)
    assert torch.allclose(twin(data), plain(data))
    sets: list[Any] = [{"conv": [2], "y": [0]}, {"y": [1]}]
    one, other = (CondAttribution(model)(data, sets, "epsilon_plus").heatmap for model in (plain, twin))
    assert torch.allclose(one, other, rtol=ROUNDING, atol=1e-12)


def test_geometry_may_change_between_calls(image: torch.Tensor) -> None:
    def forward(model: Any, x: torch.Tensor) -> torch.Tensor:
        wide = 2 if x.mean() < 0 else 1
        h = F.conv2d(x, model.conv.weight, model.conv.bias, padding=wide, dilation=wide).relu()
        out: torch.Tensor = model.last(h.mean((2, 3)))
        return out

    torch.manual_seed(0)
    model = Made(forward, conv=nn.Conv2d(3, 8, 3), last=nn.Linear(8, 4))
    used, data = CondAttribution(model), image.double()
    used(data, [{"y": [0]}], "epsilon_plus")
    found, expected = (one(-data, [{"y": [0]}], "epsilon_plus").heatmap for one in (used, CondAttribution(model)))
    assert torch.equal(found, expected)


@pytest.mark.slow
def test_weights_are_modified_once_for_all_shapes(image: torch.Tensor) -> None:
    attribution, composite = CondAttribution(demo_resnet()), EpsilonPlusFlat()
    plans = [
        attribution.engine.run(image[..., :size].expand(count, -1, -1, -1), composite).plan
        for count, size in ((1, 64), (2, 64), (2, 48))
    ]
    assert len({id(plan) for plan in plans}) == 3
    kept = [[step.kept for step in plan.steps if isinstance(step, LinearStep)] for plan in plans]
    assert kept[0]
    assert all(one is other for several in kept[1:] for one, other in zip(kept[0], several, strict=True))


def test_relevance_may_be_recorded_where_the_input_cannot_be_reached(x: torch.Tensor) -> None:
    model = Made(
        lambda model, x: model.main(model.first(x)) + model.aux(model.first(x).detach()),
        first=nn.Linear(6, 6),
        main=nn.Linear(6, 4),
        aux=nn.Linear(6, 4),
    )
    attribution = CondAttribution(model)
    for sets in ([{"y": [0]}], [{"y": [0]}, {"y": [1]}]):
        cut, whole = (
            attribution(x, sets, "epsilon_plus", record_layer=["aux"], exclude_parallel=exclude)
            for exclude in (True, False)
        )
        assert bool(cut.relevances["aux"].any())
        assert torch.equal(cut.relevances["aux"], whole.relevances["aux"])
        assert torch.equal(cut.heatmap, whole.heatmap)


def test_maps_may_become_more_precise_behind_a_pooling(image: torch.Tensor) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.last(F.max_pool2d(self.conv(x), 2).double().mean((2, 3)))
            return out

    torch.manual_seed(0)
    model = Mixed().eval()
    found = CondAttribution(model)(image, [{"y": [0]}, {"y": [1]}], "epsilon_plus").heatmap
    exact = CondAttribution(model.double())(image.double(), [{"y": [0]}, {"y": [1]}], "epsilon_plus").heatmap
    assert torch.allclose(found.double(), exact, rtol=1e-4, atol=1e-9)


@pytest.mark.slow
def test_nothing_is_kept_of_a_pass_for_the_next_one(image: torch.Tensor) -> None:
    model = Made(
        lambda m, x: m.last(m.third(torch.cat([m.first(x), m.second(x)], 1).relu()).mean((2, 3))),
        first=nn.Conv2d(3, 4, 3),
        second=nn.Conv2d(3, 4, 3),
        third=nn.Conv2d(8, 4, 3),
        last=nn.Linear(4, 2),
    )
    run = CondAttribution(model).engine.run(image.double(), EpsilonPlusFlat())
    start = run.recording.value(run.graph.output)
    held = []
    for _ in range(3):
        relevance_pass(run, run.graph.output, torch.stack([start, start]), rows=torch.tensor([0, 1]), masks={})
        held.append(sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects()))
    assert held[1] == held[2]


@pytest.mark.slow
def test_a_long_chain_behind_a_gate_is_followed(x: torch.Tensor) -> None:
    def long(model: Any, x: torch.Tensor) -> torch.Tensor:
        gate = x.sigmoid()
        for _ in range(1200):
            gate = gate + 0.001
        out: torch.Tensor = model.last(x * gate)
        return out

    model = Made(long, last=nn.Linear(6, 4, bias=False))
    attr = CondAttribution(model)(x, [{"y": [0]}], LRP0)
    assert attr.heatmap.sum(1).tolist() == pytest.approx(attr.prediction[:, 0].tolist(), rel=1e-6)


def test_a_mask_of_minus_infinities_may_be_a_second_input(x: torch.Tensor) -> None:
    def masked(model: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = model.last(x * (x + mask).softmax(1))
        return out

    mask = torch.zeros(2, 6, dtype=torch.float64)
    mask[:, 3] = -torch.inf
    attr = CondAttribution(Made(masked, last=nn.Linear(6, 4)))((x, mask), [{"y": [0]}], "epsilon_plus")
    assert not attr.heatmap[:, 3].any()


def test_the_heatmap_of_tokens_is_the_sum_over_their_features() -> None:
    data = torch.randn(2, 5, 6, dtype=torch.float64)
    model = Made(lambda model, x: model.last(x).mean(1), last=nn.Linear(6, 4))
    attr = CondAttribution(model)(data, [{"y": [0]}], "epsilon_plus")
    assert attr.heatmap.shape == (2, 5)
    assert torch.equal(attr.heatmap, attr.input_relevance.sum(2))


@pytest.mark.parametrize(
    "value", [np.float32(2), np.int64(2), 2, np.full((2, 4), 2.0), lambda out: np.full((2, 4), 2.0)]
)
def test_start_relevance_may_come_from_numpy(value: Any, x: torch.Tensor) -> None:
    model = head(torch.relu)
    ours = CondAttribution(model)(x, [{"y": [0]}], None, init_rel=value).input_relevance
    expected = CondAttribution(model)(x, [{"y": [0]}], None, init_rel=2.0).input_relevance
    assert torch.allclose(ours, expected)


def test_the_output_can_be_recorded_by_its_name_in_conditions(x: torch.Tensor) -> None:
    attr = CondAttribution(head(torch.relu))(x, [{"y": [1]}], None, record_layer=["y"])
    assert torch.equal(attr.activations["y"], attr.prediction)
    assert (attr.relevances["y"] != 0).sum(1).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"record_layer": [3]}, "record_layer is names of layers; got 3"),
        ({"on_device": "foo"}, "on_device='foo' cannot be used"),
        ({"batch_size": 0}, "batch_size is a whole number of at least 1"),
    ],
)
def test_wrong_options_are_said(options: dict[str, Any], message: str, x: torch.Tensor) -> None:
    with pytest.raises(CrpKitError, match=message):
        CondAttribution(head(torch.relu))(x, [{"y": [0]}], None, **options)


def test_a_list_of_images_is_no_batch(x: torch.Tensor) -> None:
    with pytest.raises(CrpKitError, match=r"a list of 2 tensors: torch.stack them to a batch"):
        CondAttribution(head(torch.relu))([x[0], x[1]], [{"y": [0]}], None)


def test_a_forward_that_is_not_finite_is_named_and_not_the_rule(x: torch.Tensor) -> None:
    with pytest.raises(
        CrpKitError, match=r"the model's own forward makes values that are NaN or infinite, first at 'log'"
    ):
        CondAttribution(head(torch.log))(x, [{"y": [0]}], None)
