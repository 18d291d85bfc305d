"""Layers with a forward of their own, and modules that return their input, have the rules of what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command_line import invoke
from nets import lrp_0
from torch import nn
from zennit.composites import (
    EpsilonGammaBox,
    EpsilonPlusFlat,
    LayerMapComposite,
    MixedComposite,
    NameMapComposite,
    layer_map_base,
)
from zennit.core import BasicHook, Hook
from zennit.rules import Epsilon, ZPlus
from zennit.types import Activation

from crp_kit import CondAttribution, check_model, get_layer_names
from crp_kit.errors import CrpKitWarning


class PaddingChild(nn.Conv2d):
    """A convolution that a child module pads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pad = nn.ZeroPad2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(self.pad(x), self.weight, self.bias, self.stride)


class Quantized(nn.Conv2d):
    """A convolution whose weight goes through a child module."""

    class Rounding(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return (weight * 16).round() / 16

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.quantizer = self.Rounding()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.quantizer(self.weight), self.bias)


class Standardized(nn.Conv2d):
    """A convolution that standardises its weight, without children."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (self.weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight.to(x), self.bias, padding=1)


class Same(nn.Conv2d):
    """A convolution that computes its padding from the size of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        missing = self.kernel_size[0] - 1
        return F.conv2d(F.pad(x, (missing // 2, missing - missing // 2) * 2), self.weight, self.bias)


def plain_twin(layer: nn.Conv2d) -> nn.Module:
    """The same computation by torch's own convolution."""
    weights = {
        Quantized: lambda weight: (weight * 16).round() / 16,
        Standardized: lambda w: (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5),
    }
    inside = type(layer) is Standardized  # the Flat rule and bounds count padding of the convolution itself
    plain = nn.Conv2d(layer.in_channels, layer.out_channels, 3, bias=layer.bias is not None, padding=int(inside))
    plain.to(layer.weight.dtype)
    plain.weight.data = weights.get(type(layer), lambda weight: weight)(layer.weight.detach())
    if layer.bias is not None:
        plain.bias.data = layer.bias.detach()
    return nn.Sequential(nn.Identity() if inside else nn.ZeroPad2d(1), plain)


def network(layer: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(4)
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2), norm.weight.data.normal_(), norm.bias.data.normal_()
    tail = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return nn.Sequential(layer, norm, tail).to(dtype).eval()


COMPOSITES = {
    "epsilon_plus": "epsilon_plus",
    "epsilon_plus_flat": EpsilonPlusFlat(),
    "epsilon_gamma_box": EpsilonGammaBox(low=-3.0, high=3.0),
    "attnlrp": "attnlrp",
    "by the name of the module": "0",
}


def by_name(name: str) -> MixedComposite:
    return MixedComposite([NameMapComposite([([name], ZPlus()), (["2.3"], Epsilon())]), LayerMapComposite(PASSING)])


PASSING = [pair for pair in layer_map_base() if pair[0] is Activation]


@pytest.mark.parametrize("kind", [PaddingChild, Quantized, Standardized, Same])
@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_a_subclass_of_a_convolution_is_a_convolution(
    kind: type[nn.Conv2d], composite: str, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    layer = kind(3, 4, 3, bias=False)
    x = torch.randn(2, 3, 8, 8).to(dtype)
    rules = COMPOSITES[composite]
    rules, twin_rules = (by_name("0"), by_name("0.1")) if rules == "0" else (rules, rules)
    own = CondAttribution(network(layer, dtype))(x, [{"y": [0]}], rules, pairing="product")
    twin = CondAttribution(network(plain_twin(layer), dtype))(x, [{"y": [0]}], twin_rules, pairing="product")
    assert torch.allclose(own.heatmap, twin.heatmap, rtol=tolerance, atol=tolerance * float(twin.heatmap.abs().max()))
    assert own.gradient_nodes == ()


@pytest.mark.parametrize("kind", [PaddingChild, Quantized, Standardized, Same])
def test_a_subclass_of_a_convolution_is_conditioned_and_listed_as_one(kind: type[nn.Conv2d]) -> None:
    torch.manual_seed(0)
    model, x = network(kind(3, 4, 3)), torch.randn(1, 3, 8, 8).double()
    attribution = CondAttribution(model)
    whole = attribution(x, [{"y": [0]}], "epsilon_plus", record_layer=["0"])
    parts = attribution(x, [{"0": [c], "y": [0]} for c in range(4)], "epsilon_plus")
    assert torch.allclose(parts.heatmap.sum(0), whole.heatmap[0], rtol=1e-8)
    assert get_layer_names(model, nn.Conv2d) == ["0"]
    assert not [finding for finding in check_model(model, x, "epsilon_plus") if finding.level != "note"]


def test_layers_of_a_type_include_subclasses_on_the_command_line(tmp_path: Any) -> None:
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Padded(nn.Conv2d):\n"
        "    def __init__(self):\n        super().__init__(3, 4, 3)\n        self.pad = nn.ZeroPad2d(1)\n\n"
        "    def forward(self, x):\n        return nn.functional.conv2d(self.pad(x), self.weight, self.bias)\n\n\n"
        "def make():\n    return nn.Sequential(Padded(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(4, 2))\n"
    )
    listed = invoke("layers", "--model", f"{tmp_path / 'nets.py'}:make", "--type", "Conv2d")
    assert listed.exit_code == 0, listed.output
    assert listed.output.splitlines()[1].split()[:2] == ["0", "Padded"]
    every = invoke("layers", "--model", f"{tmp_path / 'nets.py'}:make")
    assert any(line.startswith("0  ") for line in every.output.splitlines())


def test_two_convolutions_of_one_subclass_both_have_its_rule() -> None:
    class Twice(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(x, self.weight, self.bias, padding=1) + F.conv2d(x, self.weight * 0.5, None, padding=1)

    torch.manual_seed(0)
    layer = Twice(3, 4, 3)
    one, other = (nn.Conv2d(3, 4, 3, padding=1, bias=bias) for bias in (True, False))
    one.load_state_dict(layer.state_dict())
    other.weight.data = layer.weight.data * 0.5

    class Spelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = one, other

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.one(x) + self.other(x)

    x = torch.randn(1, 3, 6, 6).double()
    own, spelled = (
        CondAttribution(network(part))(x, [{"y": [0]}], "epsilon_plus").heatmap for part in (layer, Spelled())
    )
    assert torch.allclose(own, spelled, rtol=1e-9)


# ---------------------------------------------------------------------- rules at modules that compute nothing


class Halve(Hook):
    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> tuple[torch.Tensor]:
        return (grad_output[0] * 0.5,)


class HalfOfBasic(BasicHook):
    def __init__(self) -> None:
        super().__init__(
            gradient_mapper=lambda gradient, outputs: [gradient], reducer=lambda inputs, gradients: gradients[0] * 0.5
        )

    def copy(self) -> HalfOfBasic:
        return HalfOfBasic()


class Returning(nn.Module):
    """A module that returns its input and has a part that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class SpelledOut(nn.Module):
    """An activation in several operations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.clamp(x + 3, 0, 6) / 6


@pytest.mark.parametrize(
    ("middle", "hook"),
    [
        *((module, Halve) for module in (nn.Identity, nn.Sequential, Returning, SpelledOut, nn.Dropout, nn.Flatten)),
        *((module, HalfOfBasic) for module in (nn.Identity, nn.Sequential, Returning, nn.Dropout, nn.Flatten)),
    ],
)
def test_a_hook_is_applied_at_any_module_that_runs(middle: type[nn.Module], hook: type[Hook]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), middle(), nn.Linear(4, 2, bias=False)).double().eval()
    x = torch.randn(2, 4).double()
    by_name = MixedComposite([NameMapComposite([(["1"], hook())]), lrp_0()])
    by_type = MixedComposite([LayerMapComposite([(middle, hook())]), lrp_0()])
    # relevance at the module's output, halved, is what the layer below hands on
    front = CondAttribution(model)
    at_output = front(x, [{"y": [0]}], lrp_0(), record_layer=["1"], pairing="product").relevances["1"]
    expected = front(x, [{}], lrp_0(), start_layer="0", init_rel=at_output * 0.5, pairing="product").heatmap
    for composite in (by_name, by_type) if middle is not nn.Sequential else (by_name,):
        found = CondAttribution(model)(x, [{"y": [0]}], composite, pairing="product").heatmap
        assert torch.allclose(found, expected, rtol=1e-8, atol=1e-12)


def test_identities_between_a_convolution_and_its_batch_norm_do_not_part_them() -> None:
    torch.manual_seed(0)
    plain, x = network(nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 8, 8).double()
    parted = nn.Sequential(plain[0], nn.Identity(), nn.Sequential(), plain[1], nn.Identity(), plain[2])
    one, other = (CondAttribution(model)(x, [{"y": [0]}], "epsilon_plus").heatmap for model in (plain, parted))
    assert torch.allclose(one, other, rtol=1e-9, atol=1e-15)


def test_an_identity_that_is_written_to_in_place_changes_its_input_too() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front, self.same, self.head = nn.Linear(4, 4), nn.Identity(), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            front = self.front(x)
            self.same(front).relu_()
            return self.head(torch.cat([front, front * 2], 1))

    torch.manual_seed(0)
    model, x = Written().double().eval(), torch.randn(2, 4).double()
    result = CondAttribution(model)(x, [{"y": [0]}], None, init_rel=1.0, pairing="product")
    leaf = x.clone().requires_grad_()
    assert torch.allclose(result.prediction, model(x))
    assert torch.allclose(result.input_relevance, torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)[0])


# ---------------------------------------------------------------------- plain gradients are named


class Sinh(torch.autograd.Function):
    """A custom autograd function whose forward leaves torch."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.sinh(x.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * ctx.saved_tensors[0].cosh()


class Hidden(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Sinh.apply(x)


class Fourier(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x).abs()


@pytest.mark.parametrize(
    "part",
    [nn.Softmax(1), nn.LogSoftmax(1), Hidden(), Fourier(), nn.Sequential(nn.Softmax(1), nn.Flatten())],
    ids=["softmax", "log softmax", "custom autograd", "complex", "softmax in front of a reshape"],
)
def test_the_call_and_the_check_name_the_same_plain_gradients(part: nn.Module) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 4), part).double().eval(), torch.randn(1, 4).double()
    attribution = CondAttribution(model)
    with pytest.warns(CrpKitWarning, match="at '1.*plain gradient"):
        named = attribution(x, [{"y": [0]}], lrp_0()).gradient_nodes
    checked = check_model(attribution, x, lrp_0())
    assert named
    assert {name for finding in checked if finding.level != "note" for name in finding.nodes} == set(named)


def test_layers_without_a_rule_are_named_and_what_is_exact_is_not() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4), nn.LayerNorm(4), nn.Linear(4, 2)
    ).double()
    x = torch.randn(1, 3, 8, 8).double()
    only_convolutions = LayerMapComposite([*layer_map_base(), (nn.Conv2d, ZPlus())])
    with pytest.warns(CrpKitWarning, match="layers to which the composite gives no rule"):
        result = CondAttribution(model.eval())(x, [{"y": [0]}], only_convolutions)
    assert result.gradient_nodes == ("4", "6")
    assert CondAttribution(model)(x, [{"y": [0]}], "epsilon_plus").gradient_nodes == ()


def test_an_exported_module_has_the_rules_of_its_operations() -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(36), nn.GELU()
    ).eval()
    inner[1].running_mean.normal_()
    x = torch.randn(1, 3, 8, 8)
    head = nn.Linear(36, 2)
    exported = torch.export.export(inner, (x,)).module()
    plain, own = nn.Sequential(inner, head), nn.Sequential(exported, head)
    one, other = (CondAttribution(model)(x, [{"y": [0]}], "epsilon_plus") for model in (plain, own))
    assert other.gradient_nodes == ()
    assert torch.allclose(one.heatmap, other.heatmap, rtol=1e-4, atol=1e-6 * float(one.heatmap.abs().max()))
