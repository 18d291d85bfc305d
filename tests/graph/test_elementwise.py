"""Modules declared to work value by value are activations: oracle is the network with the built-in activation."""

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import invoke
from torch import nn
from torch.nn import functional as F
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import EpsilonPlus, LayerMapComposite, NameMapComposite
from zennit.rules import Epsilon, Pass
from zennit.types import Linear

from crp_kit import CondAttribution
from crp_kit.data import ShapesDataset
from crp_kit.errors import InputError, ModelError, UnknownLayerError
from crp_kit.views.image import picture


class NewGELU(nn.Module):
    """As in Hugging Face's transformers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class HardSwish(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * F.relu6(x + 3) / 6


class MishByHand(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.tanh(F.softplus(x))


class ELUByHand(nn.Module):
    """Two branches, of which LRP would take each for itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, torch.exp(x) - 1)


class SwishFunction(torch.autograd.Function):
    """timm's memory-efficient swish."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.mul(torch.sigmoid(x))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return gradient * (gate * (1 + x * (1 - gate)))


class Swish(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return SwishFunction.apply(x)  # type: ignore[no-any-return]


class SwishInPlace(nn.Module):
    """Counts its calls in a buffer and an attribute, and writes to its input."""

    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.calls += 1
        return x.mul_(torch.sigmoid(x))


def network(first: nn.Module, second: nn.Module) -> Any:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3, padding=1), first, nn.Conv2d(6, 6, 3), second, nn.Flatten(), nn.Linear(96, 3)]
    return nn.Sequential(*layers).double().eval()


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def heatmap(model: nn.Module, composite: Any = "epsilon_plus", elementwise: Any = ()) -> torch.Tensor:
    attribution = CondAttribution(model, elementwise=elementwise)
    return attribution(images(), [{"y": [0]}, {"y": [2]}, {"0": [1], "y": [1]}], composite, pairing="product").heatmap


BUILT_IN: dict[type[nn.Module], Any] = {
    NewGELU: lambda: nn.GELU(approximate="tanh"),
    HardSwish: nn.Hardswish,
    MishByHand: nn.Mish,
    Swish: nn.SiLU,
    ELUByHand: nn.ELU,
    SwishInPlace: nn.SiLU,
}
UNSEEN = {ELUByHand}
"""Not known for an activation by what it does."""


@pytest.mark.parametrize("composite", ["epsilon_plus", None])
@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_declared_module_is_what_the_built_in_activation_is(kind: type[nn.Module], composite: Any) -> None:
    oracle = heatmap(network(BUILT_IN[kind](), BUILT_IN[kind]()), composite)
    declared = heatmap(network(kind(), kind()), composite, elementwise=kind)
    assert torch.allclose(declared, oracle, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in BUILT_IN if kind not in UNSEEN])
def test_many_are_known_for_activations_without_a_declaration(kind: type[nn.Module]) -> None:
    oracle = heatmap(network(BUILT_IN[kind](), BUILT_IN[kind]()))
    assert torch.allclose(heatmap(network(kind(), kind())), oracle, rtol=1e-9, atol=1e-12)


def test_without_a_declaration_the_branches_of_a_where_share() -> None:
    oracle = heatmap(network(nn.ELU(), nn.ELU()))
    assert not torch.allclose(heatmap(network(ELUByHand(), ELUByHand())), oracle, rtol=1e-2)


@pytest.mark.parametrize(
    "elementwise",
    [ELUByHand, ["1", "3"], "[13]", "*", [ELUByHand, "3"], (nn.Module for _ in ())],
    ids=["type", "names", "pattern", "wild card", "type and name", "nothing"],
)
def test_types_names_and_patterns_declare(elementwise: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.last = nn.Conv2d(2, 6, 3), nn.Linear(96, 3)
            self.acts = nn.ModuleDict({"1": ELUByHand(), "3": ELUByHand()})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.acts["3"](self.acts["1"](self.conv(x))).flatten(1))  # type: ignore[no-any-return]

    given = [f"acts.{one}" if isinstance(one, str) else one for one in as_list(elementwise)]
    graph = CondAttribution(Net().double(), elementwise=given).graph(images())
    declared = [node.name for node in graph if node.op == "elementwise"]
    assert declared == (["acts.1", "acts.3"] if given else [])


def as_list(given: Any) -> list[Any]:
    return [given] if isinstance(given, (str, type)) else list(given)


def test_plain_gradients_are_those_of_autograd() -> None:
    model, leaf = network(ELUByHand(), Swish()), images().requires_grad_()
    (expected,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    attribution = CondAttribution(model, elementwise=[ELUByHand, Swish])
    ours = attribution(images(), [{"y": [1]}], None, init_rel=1.0).input_relevance
    assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-14)


# ---------------------------------------------------------------------- one node


def test_a_composite_may_give_a_declared_module_a_rule_of_its_own() -> None:
    layers = [(Linear, Epsilon(1e-6))]
    by_type = LayerMapComposite([(ELUByHand, Epsilon(1e-3)), *layers])
    by_name = NameMapComposite([(("1", "3"), Epsilon(1e-3)), (("0", "2", "5"), Epsilon(1e-6))])
    oracle = heatmap(network(nn.ELU(), nn.ELU()), LayerMapComposite([(nn.ELU, Epsilon(1e-3)), *layers]))
    for composite in (by_type, by_name):
        ours = heatmap(network(ELUByHand(), ELUByHand()), composite, elementwise=ELUByHand)
        assert torch.allclose(ours, oracle, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:layers to which the composite gives no rule")
def test_without_a_rule_for_activations_a_declared_module_has_the_gradient_as_built_in_ones_do() -> None:
    rules = LayerMapComposite([(Linear, Epsilon(1e-6))])
    ours = heatmap(network(ELUByHand(), ELUByHand()), rules, elementwise=ELUByHand)
    assert torch.allclose(ours, heatmap(network(nn.ELU(), nn.ELU()), rules), rtol=1e-9, atol=1e-12)


class Chain(nn.Module):
    """Value by value, with modules inside."""

    def __init__(self) -> None:
        super().__init__()
        self.softplus, self.shrink = nn.Softplus(), nn.Softshrink(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.exp().log1p() - self.shrink(self.softplus(x))  # type: ignore[no-any-return]


def test_a_module_with_modules_inside_is_one_node_with_its_name() -> None:
    model, x = network(Chain(), nn.ReLU()), images()
    attribution = CondAttribution(model, elementwise="1")
    graph = attribution.graph(x, "epsilon_plus")
    (node,) = [node for node in graph if node.op == "elementwise"]
    assert (node.name, type(node.module)) == ("1", Chain)
    assert attribution.channel_axis(x, "1") == 1
    attr = attribution(x, [{"1": [2], "y": [0]}], "epsilon_plus", record_layer=["1", "0"])
    assert torch.equal(attr.relevances["0"][:, 2], attr.relevances["1"][:, 2])
    assert not attr.relevances["0"][:, [0, 1, 3, 4, 5]].any()
    assert attr.gradient_nodes == ()
    with pytest.raises(
        UnknownLayerError, match=r"'1\.softplus' lies inside '1', which is one node.*declared elementwise"
    ):
        attribution(x, [{"1.softplus": [2], "y": [0]}], "epsilon_plus")


def test_a_container_to_which_a_composite_gives_a_rule_gets_it() -> None:
    rules = LayerMapComposite([(Chain, Pass()), (Linear, Epsilon(1e-6)), (nn.ReLU, Pass())])
    ours = heatmap(network(Chain(), nn.ReLU()), rules)
    declared = heatmap(network(Chain(), nn.ReLU()), rules, elementwise=Chain)
    assert torch.equal(ours, declared)


def test_a_module_that_runs_twice_is_two_nodes_and_may_have_two_names() -> None:
    act = ELUByHand()
    model = network(act, act)
    attribution = CondAttribution(model, elementwise="3")
    names = [node.name for node in attribution.graph(images()) if node.op == "elementwise"]
    assert names == ["1", "1_1"]
    oracle = heatmap(network(nn.ELU(), nn.ELU()))
    assert torch.allclose(heatmap(model, elementwise="3"), oracle, rtol=1e-9, atol=1e-12)


def test_canonizers_leave_a_declaration_as_it_is() -> None:
    rules = EpsilonPlus(canonizers=[SequentialMergeBatchNorm()])
    oracle = heatmap(network(nn.ELU(), nn.ELU()), rules)
    assert torch.allclose(heatmap(network(ELUByHand(), ELUByHand()), rules, ELUByHand), oracle, rtol=1e-9, atol=1e-12)


def test_what_a_module_writes_in_place_is_read_later() -> None:
    class Read(nn.Module):
        def __init__(self, act: nn.Module) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.act, self.last = nn.Linear(4, 4), act, nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.first(x)
            self.act(hidden)
            return self.last(hidden)  # type: ignore[no-any-return]

    model, x = Read(SwishInPlace()).double().eval(), images()[0, 0, :, :4]
    plain = nn.Sequential(model.first, nn.SiLU(), model.last)
    ours = CondAttribution(model, elementwise="act")(x, [{"y": [0]}], "epsilon_plus")
    assert torch.allclose(ours.prediction, plain(x).detach(), rtol=1e-12)
    expected = CondAttribution(plain)(x, [{"y": [0]}], "epsilon_plus").heatmap
    assert torch.allclose(ours.heatmap, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("composite", ["epsilon_plus", "guided_backprop", None])
def test_a_declared_module_keeps_the_state_that_it_had(composite: Any) -> None:
    model = network(SwishInPlace(), SwishInPlace())
    address = model[1].count.data_ptr()
    heatmap(model, composite, elementwise=SwishInPlace)
    assert (float(model[1].count), model[1].calls) == (0.0, 0)
    assert model[1].count.data_ptr() == address


@pytest.mark.parametrize("copied", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy], ids=["pickle", "copy"])
def test_a_copy_of_an_attribution_has_the_declaration(copied: Any) -> None:
    attribution = CondAttribution(network(ELUByHand(), ELUByHand()), elementwise=[ELUByHand])
    before = attribution(images(), [{"y": [0]}], "epsilon_plus").heatmap
    assert torch.equal(copied(attribution)(images(), [{"y": [0]}], "epsilon_plus").heatmap, before)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rounding_is_no_dependence_on_other_values(dtype: torch.dtype) -> None:
    model = network(NewGELU(), HardSwish()).to(dtype)
    attribution = CondAttribution(model, elementwise=[NewGELU, HardSwish])
    attribution(1000 * images().to(dtype), [{"y": [0]}], "epsilon_plus")


# ---------------------------------------------------------------------- what is refused


class Lambda(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)  # type: ignore[no-any-return]


MIXING = {
    "softmax": lambda x: x.softmax(1),
    "mean": lambda x: x - x.mean(),
    "largest": lambda x: x / x.amax((2, 3), keepdim=True),
    "moved": lambda x: x.roll(1, 3),
    "samples": lambda x: x + x.flip(0),
    "one place": lambda x: x * x[:, :, :1, :1],
    "other channel": lambda x: torch.relu(x) + 1e-3 * x[:, [1, 0, 3, 2, 5, 4]],
    "sorted": lambda x: x.sort(3).values,
}


@pytest.mark.parametrize("name", MIXING)
def test_a_module_that_mixes_values_is_refused(name: str) -> None:
    attribution = CondAttribution(network(Lambda(MIXING[name]), nn.ReLU()), elementwise="1")
    for composite in ("epsilon_plus", None):
        with pytest.raises(
            ModelError,
            match=r"module '1' \(Lambda\) is declared elementwise, but a value of its output depends on other values",
        ):
            attribution(images(), [{"y": [0]}], composite)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.both, self.last = nn.Linear(4, 4), Both(), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.both(x, self.first(x)))  # type: ignore[no-any-return]


class Both(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.relu() + y


def test_a_module_of_two_inputs_is_refused() -> None:
    attribution = CondAttribution(TwoInputs(), elementwise=Both)
    with pytest.raises(ModelError, match=r"'both' \(Both\) .* takes 2 tensors with relevance and returns 1; expected"):
        attribution(torch.ones(1, 4), [{"y": [0]}], "epsilon_plus")


def test_a_module_that_returns_another_shape_is_refused() -> None:
    attribution = CondAttribution(network(nn.ReLU(), nn.ReLU()), elementwise="4")
    with pytest.raises(
        ModelError, match=r"'4' \(Flatten\) .* returns shape \(2, 96\) for an input of shape \(2, 6, 4, 4\)"
    ):
        attribution(images(), [{"y": [0]}], "epsilon_plus")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("features.actt", r"modules with the name or pattern 'features\.actt', and there are none; did you mean 'fea"),
        ("*.gelu", r"modules with the name or pattern '\*\.gelu', and there are none"),
        (NewGELU, "modules of type 'NewGELU', and there are none; did you mean 'GELU'"),
        ([nn.GELU, "1"], "modules with the name or pattern '1', and there are none"),
    ],
)
def test_a_declaration_that_means_no_module_is_told(declared: Any, message: str) -> None:
    model: Any = nn.Sequential()
    model.add_module("features", nn.Sequential())
    model.features.add_module("conv", nn.Linear(4, 3))
    model.features.add_module("act", nn.GELU())
    with pytest.raises(UnknownLayerError, match=message):
        CondAttribution(model, elementwise=declared)(torch.ones(1, 4), [{"y": [0]}], "epsilon_plus")


@pytest.mark.parametrize("declared", [3, [nn.ReLU()], [int], None])
def test_what_can_declare_nothing_is_told_at_once(declared: Any) -> None:
    with pytest.raises(InputError, match="elementwise is module types, names of modules or patterns for them, .* got"):
        CondAttribution(network(nn.ReLU(), nn.ReLU()), elementwise=declared)


# ---------------------------------------------------------------------- the command line

FACTORY = """
import torch
from torch import nn

class Own(nn.Module):
    def forward(self, x):
        return torch.where(x > 0, x, torch.exp(x) - 1)

def made(act):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), act, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 8)).eval()

def by_hand():
    return made(Own())

def built_in():
    return made(nn.ELU())
"""


@pytest.mark.slow
def test_modules_are_declared_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(FACTORY)
    picture(ShapesDataset(1, split="test").batch(range(1))[0][0]).save("0.png")
    maps: dict[str, Any] = {}
    for model, *options in (["built_in"], ["by_hand", "--elementwise", "Own"], ["by_hand", "--elementwise", "1"]):
        name = f"{len(maps)}.npz"
        result = invoke("heatmap", "0.png", "--model", f"net.py:{model}", *options, "--save-array", name)
        assert result.exit_code == 0, result.output
        maps[name] = np.load(name)["heatmap"]
    assert np.allclose(maps["1.npz"], maps["0.npz"], rtol=1e-4, atol=1e-7)
    assert np.array_equal(maps["1.npz"], maps["2.npz"])
    common = ("--model", "net.py:by_hand", "--data", "demo:shapes:4", "--elementwise")
    build = ("atlas", "build", *common, "Own", "--layers", "0", "--workers", 0, "-o", "atlas.h5", "--quiet")
    assert invoke(*build).exit_code == 0
    asked = ("atlas", "references", "atlas.h5", *common)
    assert invoke(*asked, "Own", "--layer", "0", "--concept", 1, "-o", "refs.png").exit_code == 0
    refused = invoke(*asked, "Owl", "--layer", "0", "--concept", 1, "-o", "refs2.png")
    assert refused.exit_code == 2
    assert "elementwise declares modules with the name or pattern 'Owl', and there are none" in refused.stderr
