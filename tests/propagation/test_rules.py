"""Each rule gives what its definition says, and whole small models give gradient x input of the detached network."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nets import relative_error
from oracles import matrix_rules
from oracles.matrix_rules import on_layer
from oracles.whole_model import whole_model_relevance
from torch import nn
from zennit import composites, rules
from zennit.core import BasicHook, Composite, Hook, ParamMod
from zennit.types import Activation, Convolution

from crp_kit import CondAttribution
from crp_kit.errors import CompositeError, CrpKitWarning, NonFiniteRelevanceError
from crp_kit.rules.presets import preset, preset_names

ROUNDING = 1e-9  # float64 rounding, times denominators as small as the stabilizer of 1e-6
LRP_0 = 1e-12  # a stabilizer so small that rules are LRP-0 to about 1e-6 of the relevance
NEARLY = 1e-7


# ---------------------------------------------------------------------- tools


def prepared(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode and float64, with random values in every parameter and buffer."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.double().state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            scaled = drawn * (2 / max(1, value[0].numel())) ** 0.5 if value.ndim > 1 else 0.3 * drawn
            value.copy_(0.5 + drawn.abs() if name.endswith("running_var") else scaled)
    for module in model.modules():
        if type(module).__name__.endswith("Norm") or "Norm" in type(module).__name__:
            for parameter in module.parameters(recurse=False):
                parameter.data.add_(0.7)
    return model.eval()


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relevance_of(model: nn.Module, x: torch.Tensor, composite: Composite | str | None, **options: Any) -> torch.Tensor:
    """Input relevance, started with the whole output, or with `init_rel`."""
    options = {"init_rel": lambda value: value, **options}
    return CondAttribution(model)(x, [{}], composite, pairing="product", **options).input_relevance


def everywhere(rule: Hook) -> Composite:
    """One rule for convolutions and linear layers; relevance passes activations."""
    return composites.LayerMapComposite([(Activation, rules.Pass()), (Convolution, rule), (nn.Linear, rule)])


def lrp_0() -> Composite:
    return composites.EpsilonPlus(
        epsilon=LRP_0, stabilizer=LRP_0, layer_map=[(Convolution, rules.Epsilon(epsilon=LRP_0))]
    )


def assert_whole_model_is_right(model: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        output = model(x)
    expected, _ = whole_model_relevance(model, x, torch.ones_like(output))
    assert relative_error(relevance_of(model, x, lrp_0()), expected) < NEARLY


class Call(nn.Module):
    """A function between a convolution and a linear layer; `parts` are modules that it may use."""

    def __init__(self, function: Callable[..., torch.Tensor], channels: int = 4, **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.conv, self.fc = nn.Conv2d(3, channels, 3, padding=1), nn.LazyLinear(3)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.function(self, self.conv(x)).flatten(1))


def around(function: Callable[..., torch.Tensor], **parts: nn.Module) -> nn.Module:
    model = Call(function, **parts).double().eval()
    with torch.no_grad():
        model(drawn(2, 3, 6, 6))
    return prepared(model)


# ---------------------------------------------------------------------- rules on one layer

RULES: dict[str, tuple[Callable[[], Hook], matrix_rules.Rule]] = {
    "epsilon": (rules.Epsilon, matrix_rules.epsilon()),
    "epsilon 0.3": (lambda: rules.Epsilon(0.3), matrix_rules.epsilon(0.3)),
    "epsilon without bias": (lambda: rules.Epsilon(zero_params="bias"), matrix_rules.epsilon(zero_bias=True)),
    "zplus": (rules.ZPlus, matrix_rules.zplus()),
    "alpha beta": (rules.AlphaBeta, matrix_rules.alpha_beta()),
    "alpha 3 beta 2": (lambda: rules.AlphaBeta(3, 2), matrix_rules.alpha_beta(3, 2)),
    "gamma": (rules.Gamma, matrix_rules.gamma()),
    "gamma without bias": (lambda: rules.Gamma(zero_params=["bias"]), matrix_rules.gamma(zero_bias=True)),
    "flat": (rules.Flat, matrix_rules.flat()),
    "wsquare": (rules.WSquare, matrix_rules.wsquare()),
    "zbox": (lambda: rules.ZBox(-3.0, 2.5), matrix_rules.zbox(-3.0, 2.5)),
}

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), (2, 7)),
    "linear without bias": (lambda: nn.Linear(7, 5, bias=False), (2, 7)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 6, 5)),
    "padded": (lambda: nn.Conv2d(3, 4, 3, padding=(1, 2)), (2, 3, 5, 5)),
    "strided": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), (1, 3, 7, 6)),
    "dilated": (lambda: nn.Conv2d(3, 2, (3, 2), dilation=2), (1, 3, 7, 6)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (1, 4, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, stride=2, groups=4), (1, 4, 6, 6)),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_gives_what_its_matrix_says(rule: str, layer: str) -> None:
    (hook, expected), (build, shape) = RULES[rule], LAYERS[layer]
    model, x = prepared(nn.Sequential(build())), drawn(*shape)
    with torch.no_grad():
        start = drawn(*model(x).shape, seed=2)
    found = relevance_of(model, x, everywhere(hook()), init_rel=lambda value: start)
    assert relative_error(found, on_layer(expected)(model[0], x, start)) < ROUNDING


def as_linear(layer: nn.Module, shape: tuple[int, ...]) -> nn.Linear:
    """Any affine layer as one linear layer of flattened samples, from its values for unit vectors."""
    units = torch.eye(torch.Size(shape[1:]).numel(), dtype=torch.float64)
    with torch.no_grad():
        bias = layer(torch.zeros((1, *shape[1:]), dtype=torch.float64)).flatten()
        matrix = layer(units.reshape(-1, *shape[1:])).flatten(1) - bias
    linear = nn.Linear(*matrix.shape).double()
    linear.weight.data, linear.bias.data = matrix.T.contiguous(), bias
    return linear


OTHER_LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (2, 3, 8)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, stride=(1, 2, 1), padding=1, dilation=(1, 1, 2)), (1, 2, 4, 4, 4)),
    "conv1d grouped": (lambda: nn.Conv1d(4, 4, 3, groups=2, dilation=2), (2, 4, 8)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), (2, 3, 4, 4)),
    "transposed grouped": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, dilation=2), (1, 4, 4, 4)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(3, 4, 4, stride=3), (2, 3, 5)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(2, 3, 2, stride=2), (1, 2, 3, 3, 3)),
    "same": (lambda: nn.Conv2d(3, 4, (4, 3), padding="same"), (2, 3, 6, 5)),
    "same dilated": (lambda: nn.Conv2d(3, 4, 3, dilation=2, padding="same"), (1, 3, 6, 5)),
    "valid": (lambda: nn.Conv2d(3, 4, 3, padding="valid"), (1, 3, 6, 5)),
    "tokens": (lambda: nn.Linear(5, 4), (2, 3, 5)),
}
MATRIX_ALONE = ("epsilon", "epsilon 0.3", "zplus", "alpha beta", "gamma", "zbox")
"""Rules that the matrix and bias of a layer determine: the others look at the number of parameters that it shares."""


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch's, of its speed
@pytest.mark.parametrize("layer", OTHER_LAYERS)
@pytest.mark.parametrize("rule", MATRIX_ALONE)
def test_a_rule_gives_for_other_layers_what_their_matrix_says(rule: str, layer: str) -> None:
    (hook, expected), (build, shape) = RULES[rule], OTHER_LAYERS[layer]
    model, x = prepared(nn.Sequential(build())), drawn(*shape)
    with torch.no_grad():
        start = drawn(*model(x).shape, seed=2)
    found = relevance_of(model, x, everywhere(hook()), init_rel=lambda value: start)
    matrix = as_linear(model[0], shape)
    assert relative_error(found.flatten(1), on_layer(expected)(matrix, x.flatten(1), start.flatten(1))) < ROUNDING


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
@pytest.mark.parametrize("rule", ["epsilon", "gamma", "zplus"])
def test_padding_modes_give_copied_values_a_share_each(rule: str, mode: str) -> None:
    hook, expected = RULES[rule]
    model, x = prepared(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode))), drawn(1, 3, 4, 5)
    with torch.no_grad():
        start = drawn(*model(x).shape, seed=2)
    found = relevance_of(model, x, everywhere(hook()), init_rel=lambda value: start)
    unpadded = nn.Conv2d(3, 4, 3).double()
    unpadded.load_state_dict(model[0].state_dict())
    leaf = x.clone().requires_grad_()
    wide = F.pad(leaf, (1, 1, 1, 1), mode=mode)
    (summed,) = torch.autograd.grad(wide, leaf, on_layer(expected)(unpadded, wide.detach(), start))
    assert relative_error(found, summed) < ROUNDING


def test_a_padded_convolution_is_known_to_a_composite_by_its_name() -> None:
    model, x = prepared(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"))), drawn(1, 3, 4, 5)
    named = composites.NameMapComposite([(("0",), rules.Gamma())])
    assert torch.equal(relevance_of(model, x, named), relevance_of(model, x, everywhere(rules.Gamma())))


# ---------------------------------------------------------------------- BatchNorms and linear layers


class Branches(nn.Module):
    """One BatchNorm that two convolutions read."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.left, self.right = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(x)
        return torch.cat([self.left(x), self.right(x)], 1)


FOLDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv, norm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)), (2, 3, 4, 4)),
    "conv without bias, norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)), (2, 3, 4, 4),
    ),
    "conv1d, norm": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), (2, 3, 6)),
    "conv, dropout, norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.BatchNorm2d(4)), (2, 3, 4, 4),
    ),
    "linear, norm": (lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), (2, 6)),
    "transposed, norm": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2, stride=2), nn.BatchNorm2d(4)), (2, 3, 3, 3)),
    "grouped transposed, norm": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 2, groups=2), nn.BatchNorm2d(6)), (2, 4, 3, 3),
    ),
    "norm, conv": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), (2, 3, 4, 4)),
    "norm, padded conv": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)), (2, 3, 4, 4)),
    "norm, grouped conv": (
        lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1, groups=2)), (2, 4, 4, 4),
    ),
    "norm, linear": (lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 4)), (2, 6)),
    "norm, conv, norm": (
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)), (2, 3, 4, 4),
    ),
    "norm, dropout, conv": (
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.Conv2d(3, 4, 3, bias=False)), (2, 3, 4, 4),
    ),
    "norm, two convs": (Branches, (2, 3, 4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("rule", MATRIX_ALONE)
@pytest.mark.parametrize("fold", FOLDS)
def test_a_batch_norm_and_its_linear_layers_are_one_affine_map(fold: str, rule: str) -> None:
    (build, shape), (hook, expected) = FOLDS[fold], RULES[rule]
    model, x = prepared(build()), drawn(*shape)
    with torch.no_grad():
        start = drawn(*model(x).shape, seed=2)
    found = relevance_of(model, x, everywhere(hook()), init_rel=lambda value: start)
    matrix = as_linear(model, shape)
    assert relative_error(found.flatten(1), on_layer(expected)(matrix, x.flatten(1), start.flatten(1))) < ROUNDING


@pytest.mark.parametrize("fold", [fold for fold in FOLDS if "norm," not in fold])
def test_flat_shares_are_those_of_the_convolution_alone(fold: str) -> None:
    build, shape = FOLDS[fold]
    model, x = prepared(build()), drawn(*shape)
    with torch.no_grad():
        start = drawn(*model(x).shape, seed=2)
    alone = nn.Sequential(model[0])
    found, expected = (
        relevance_of(one, x, everywhere(rules.Flat()), init_rel=lambda value: start) for one in (model, alone)
    )
    assert relative_error(found, expected) < ROUNDING


def test_a_batch_norm_that_no_linear_layer_takes_is_an_affine_unit() -> None:
    model, x = prepared(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())), drawn(2, 3, 4, 4)
    found = relevance_of(model, x, lrp_0())
    z = model[0](x)
    scale = model[0].weight / torch.sqrt(model[0].running_var + model[0].eps)
    assert relative_error(found, (x * scale.view(1, -1, 1, 1) / z * model(x)).detach()) < NEARLY


def test_a_norm_read_by_others_too_is_not_folded() -> None:
    class Reread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.next = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            z = self.bn(y)
            return self.next(z) + z + y

    assert_whole_model_is_right(prepared(Reread()), drawn(2, 3, 4, 4))


def test_plain_gradients_at_a_convolution_are_not_those_behind_its_norm() -> None:
    model, x = (
        prepared(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 2))),
        drawn(1, 3, 5, 5),
    )
    found = CondAttribution(model)(x, [{}], None, init_rel=1.0, record_layer=["0", "1"])
    hidden = model[0](x).detach().requires_grad_()
    normed = model[1](hidden)
    gradients = torch.autograd.grad(model[3](model[2](normed)).sum(), [hidden, normed])
    assert relative_error(found.relevances["0"], gradients[0]) < ROUNDING
    assert relative_error(found.relevances["1"], gradients[1]) < ROUNDING


def test_plain_gradients_come_through_norms_and_maps_side_by_side() -> None:
    model, x = around(dense), drawn(2, 3, 6, 6)
    found = CondAttribution(model)(x, [{}], None, init_rel=1.0, record_layer=["conv"])
    hidden = model.conv(x).detach().requires_grad_()
    (expected,) = torch.autograd.grad(model.fc(dense(model, hidden).flatten(1)).sum(), hidden)
    assert relative_error(found.relevances["conv"], expected) < ROUNDING


# ---------------------------------------------------------------------- weights that change


def in_place(model: nn.Sequential) -> None:
    with torch.no_grad():
        model[0].weight.mul_(-0.5)


def behind_autograd(model: nn.Sequential) -> None:
    model[0].weight.data.mul_(-0.5)


def reordered(model: nn.Sequential) -> None:
    model[0].weight.data.copy_(model[0].weight.data.flip(0, 1).clone())


def loaded(model: nn.Sequential) -> None:
    model.load_state_dict(prepared(copy.deepcopy(model), seed=5).state_dict())


def norm_changed(model: nn.Sequential) -> None:
    model[1].running_var.data.mul_(3)


def module_replaced(model: nn.Sequential) -> None:
    model[0] = prepared(nn.Conv2d(3, 4, 3), seed=6)


def parameter_replaced(model: nn.Sequential) -> None:
    model[3].weight = nn.Parameter(model[3].weight.detach().flip(1))


def assigned(model: nn.Sequential) -> None:
    model.load_state_dict(prepared(copy.deepcopy(model), seed=5).state_dict(), assign=True)


CHANGES = (
    in_place, behind_autograd, reordered, loaded, norm_changed, module_replaced, parameter_replaced, assigned,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_weights_are_noticed(change: Callable[[nn.Module], None]) -> None:
    model = prepared(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 2)))
    x, composite = drawn(1, 3, 6, 6), composites.EpsilonPlusFlat()
    attribution = CondAttribution(model)
    before = attribution(x, [{"y": [0]}], composite).input_relevance
    change(model)
    after = attribution(x, [{"y": [0]}], composite).input_relevance
    assert torch.equal(after, CondAttribution(copy.deepcopy(model))(x, [{"y": [0]}], composite).input_relevance)
    assert not torch.allclose(after, before)


@pytest.mark.parametrize("rule", [rules.Epsilon(), rules.Epsilon(zero_params=["bias"]), rules.ZPlus(), None])
def test_a_layer_is_as_its_weights_are_whether_its_rule_copies_them_or_not(rule: Any) -> None:
    model, x = prepared(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))), drawn(1, 3)
    composite = composites.LayerMapComposite([] if rule is None else [(nn.Linear, rule)])
    attribution = CondAttribution(model)
    before = attribution(x, [{"y": [0]}], composite).input_relevance
    model[2].weight.data.copy_(model[2].weight.data.flip(0, 1).clone())
    model[2].bias.data.add_(1)
    after = attribution(x, [{"y": [0]}], composite).input_relevance
    assert torch.equal(after, CondAttribution(copy.deepcopy(model))(x, [{"y": [0]}], composite).input_relevance)
    assert not torch.allclose(after, before)


def test_unchanged_weights_are_not_folded_again() -> None:
    calls = []

    def counted(value: torch.Tensor, name: str) -> torch.Tensor:
        calls.append(name)
        return value

    model, x = prepared(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))), drawn(1, 3, 6, 6)
    composite = composites.LayerMapComposite([(Convolution, BasicHook(param_modifiers=[counted]))])
    attribution = CondAttribution(model)
    for _ in range(3):
        attribution(x, [{"y": [0]}], composite)
    assert calls == ["weight", "bias"]


@pytest.mark.filterwarnings("ignore:the model cannot run with gradients")
def test_models_made_in_inference_mode_are_attributed() -> None:
    with torch.inference_mode():
        model = prepared(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 2)))
    plain = prepared(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 2)))
    x = drawn(1, 3, 6, 6)
    assert torch.equal(relevance_of(model, x, "epsilon_plus"), relevance_of(plain, x, "epsilon_plus"))


# ---------------------------------------------------------------------- precision


class Casting(nn.Module):
    """Half-precision inside, as mixed-precision models have it."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind, self.fc, self.norm = kind, nn.Linear(6, 4), nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x.to(self.kind).float()))


def half_models() -> dict[str, nn.Module]:
    convolutions = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 6, 2),
        nn.PReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    norms = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3), nn.RMSNorm(3))
    return {"convolutions": convolutions, "norms": norms}


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("composite", ["epsilon_plus_flat", "guided_backprop", None])
@pytest.mark.parametrize("name", ["convolutions", "norms"])
def test_half_precision_models_get_relevance_in_float32(name: str, composite: str | None, kind: torch.dtype) -> None:
    model = prepared(half_models()[name]).to(kind)
    x = drawn(2, 3, 8, 8).to(kind)
    found = CondAttribution(model)(x, [{"y": [1]}], composite, pairing="product").input_relevance
    assert found.dtype == torch.float32
    exact = copy.deepcopy(model).float()
    expected = CondAttribution(exact)(x.float(), [{"y": [1]}], composite, pairing="product").input_relevance
    assert relative_error(found, expected) < 0.1  # activations have 8 (bfloat16) or 11 (float16) bits


class Squared(torch.autograd.Function):
    """A function that torch.func cannot follow."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


class Hidden(nn.Module):
    """A module with weights whose inside cannot be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Squared.apply(x * self.weight)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_modules_whose_inside_is_hidden_keep_their_own_precision(kind: torch.dtype) -> None:
    model = prepared(nn.Sequential(nn.Linear(6, 4), Hidden(), nn.Linear(4, 2))).to(kind)
    x = drawn(2, 6).to(kind)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(leaf).sum(), leaf)
    found = relevance_of(model, x, None, init_rel=1.0)
    assert found.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
    assert relative_error(found.double(), expected.double()) < (ROUNDING if kind == torch.float64 else 0.05)


def test_casts_inside_a_model_do_not_round_relevance() -> None:
    model = prepared(Casting(torch.bfloat16)).float()
    x = drawn(2, 6).bfloat16().float()
    plain = copy.deepcopy(model)
    plain.kind = torch.float32
    found, expected = (relevance_of(one, x, "epsilon_plus") for one in (model, plain))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_plus_flat", None])
def test_precision_may_differ_between_the_parts_of_a_model(composite: str | None) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Linear(64, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x.to(self.first.weight.dtype)).to(self.second.weight.dtype).flatten(1))

    model, x = prepared(Mixed()), drawn(2, 3, 6, 6)
    expected = relevance_of(model, x, composite)
    model.first.float()
    assert relative_error(relevance_of(model, x, composite), expected) < 1e-4  # float32 rounding over small z
    model.first.bfloat16()
    assert relative_error(relevance_of(model, x, composite), expected) < 0.2


# ---------------------------------------------------------------------- nothing to share


def small() -> nn.Module:
    return prepared(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3),
            nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
        )
    )  # fmt: skip


LRP_NAMES = [name for name in preset_names() if name != "epsilon_gamma_box"]


@pytest.mark.parametrize("composite", LRP_NAMES)
@pytest.mark.parametrize("case", ["zero image", "dead channels", "zero weights", "zero bias"])
def test_maps_stay_finite_where_there_is_nothing_to_share(composite: str, case: str) -> None:
    model, x = small(), drawn(1, 3, 8, 8)
    if case == "zero image":
        x = torch.zeros_like(x)
    elif case == "dead channels":
        model[1].bias.data.fill_(-100.0)
        model[4].bias.data.fill_(-100.0)
    elif case == "zero weights":
        model[0].weight.data.zero_()
        model[8].weight.data.zero_()
    else:
        for layer in (model[0], model[1], model[4], model[8]):
            layer.bias.data.zero_()
        model[1].running_mean.zero_()
        x[:, :, :4] = 0
    found = relevance_of(model, x, composite)
    assert torch.isfinite(found).all()


class Infinite(Hook):
    """A rule that makes relevance infinite."""

    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        return (grad_input[0] / 0.0,)


@pytest.mark.parametrize("rule", [Infinite(), rules.Epsilon(epsilon=0.0)], ids=["foreign", "no stabilizer"])
def test_the_node_where_relevance_becomes_infinite_is_named(rule: Hook) -> None:
    model = small()
    model[4].weight.data.zero_()
    model[4].bias.data.zero_()
    composite = composites.NameMapComposite([(("4",), rule), (("8", "0"), rules.Epsilon()), (("2", "5"), rules.Pass())])
    with pytest.raises(NonFiniteRelevanceError, match=rf"non-finite at '4' \(rule: {type(rule).__name__}\)") as caught:
        relevance_of(model, drawn(1, 3, 8, 8), composite, init_rel=1.0)
    assert caught.value.layer == "4"


# ---------------------------------------------------------------------- operations


def attention(model: Any, x: torch.Tensor) -> torch.Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    weights = torch.softmax(tokens @ tokens.transpose(1, 2) / 2, -1)
    return weights @ tokens


def gated(model: Any, x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(model.gate(x.mean((2, 3), keepdim=True)))


def image_norm(model: Any, x: torch.Tensor) -> torch.Tensor:
    return model.norm(x)


def token_norm(model: Any, x: torch.Tensor) -> torch.Tensor:
    return model.norm(x.flatten(2).transpose(1, 2))


def dense(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Maps that several readers see side by side with others, as in DenseNet."""
    first = torch.cat([x, x.relu()], 1)
    second = F.batch_norm(first, *drawn(2, 8, seed=4).abs() + 0.5, *drawn(2, 8, seed=5)).relu()
    return torch.cat([first, second[:, :3], x.tanh()], 1)


def shuffled(model: Any, x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, 1)
    return torch.cat([second, first.relu() + second, first], 1)


def in_place_sum(model: Any, x: torch.Tensor) -> torch.Tensor:
    x = x + 1
    x += x.roll(1, -1)
    return x


def parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[:, :2], x[:, 2:]


OPERATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "relu": lambda m, x: F.relu(x),
    "relu6": lambda m, x: F.relu6(3 * x),
    "leaky relu": lambda m, x: F.leaky_relu(x, 0.2),
    "elu": lambda m, x: F.elu(x),
    "selu": lambda m, x: F.selu(x),
    "gelu": lambda m, x: F.gelu(x),
    "silu": lambda m, x: F.silu(x),
    "mish": lambda m, x: F.mish(x),
    "hardswish": lambda m, x: F.hardswish(x),
    "tanh": lambda m, x: torch.tanh(x),
    "hardtanh": lambda m, x: F.hardtanh(x),
    "clamp": lambda m, x: x.clamp(min=0),
    "softshrink": lambda m, x: F.softshrink(x),
    "neg": lambda m, x: -x,
    "abs": lambda m, x: x.abs(),
    "square": lambda m, x: x.square(),
    "power": lambda m, x: x.clamp(min=0.1).pow(3),
    "generalised mean": lambda m, x: F.avg_pool2d(x.clamp(min=0.1).pow(3.0), 2).pow(1 / 3),
    "mean": lambda m, x: x.mean((2, 3)),
    "mean kept": lambda m, x: x.mean(1, keepdim=True) + x,
    "sum": lambda m, x: x.sum(-1),
    "average pool": lambda m, x: F.avg_pool2d(x, 3, stride=2, padding=1),
    "adaptive pool": lambda m, x: F.adaptive_avg_pool2d(x, (2, 3)),
    "max pool": lambda m, x: F.max_pool2d(x, 2),
    "adaptive max pool": lambda m, x: F.adaptive_max_pool2d(x, 2),
    "nearest": lambda m, x: F.interpolate(x, scale_factor=2),
    "bilinear": lambda m, x: F.interpolate(x, size=(5, 9), mode="bilinear", align_corners=False),
    "bicubic": lambda m, x: F.interpolate(x, scale_factor=1.5, mode="bicubic"),
    "local response norm": lambda m, x: F.local_response_norm(x, 3),
    "attention": attention,
    "scaled dot product attention": lambda m, x: F.scaled_dot_product_attention(*(x.flatten(2),) * 3),
    "gate": gated,
    "matmul": lambda m, x: parts(x)[0] @ parts(x)[1],
    "matmul with itself": lambda m, x: x @ x,
    "matmul with a constant": lambda m, x: x @ drawn(6, 5, seed=4),
    "bmm": lambda m, x: torch.bmm(x[:, 0], x[:, 1]),
    "einsum": lambda m, x: torch.einsum("nchw,ndhw->ncd", *parts(x)),
    "einsum with a constant": lambda m, x: torch.einsum("nchw,cd->ndhw", x, drawn(4, 3, seed=4)),
    "cat": lambda m, x: torch.cat([x, x.relu()], 1),
    "cat along the last axis": lambda m, x: torch.cat(tensors=(x[..., :2], x.relu()), axis=-1),
    "cat with itself and constants": lambda m, x: torch.cat([x, drawn(2, 4, 2, 6, seed=4), x, x.new_zeros(0)], 2),
    "cat with nothing": lambda m, x: torch.cat([x[0, 0, 0, :0], x.relu()], 1),
    "dense": dense,
    "view": lambda m, x: x.view(len(x), -1),
    "view of groups": lambda m, x: x.view(len(x), 2, 2, 6, 6).transpose(1, 2).contiguous().view(len(x), 4, 6, 6),
    "view as another": lambda m, x: x.view_as(drawn(2, 12, 12, seed=4)),
    "as strided": lambda m, x: x.as_strided((len(x), 20), (144, 3), 1),
    "stack": lambda m, x: torch.stack([x, x.relu()], 2),
    "chunk": shuffled,
    "split": lambda m, x: x.split([1, 3], 1)[1],
    "unbind": lambda m, x: x.unbind(1)[0] + x.unbind(1)[2],
    "multiplied": lambda m, x: parts(x)[0] * parts(x)[1],
    "multiplied with itself": lambda m, x: x * x,
    "multiplied with a constant": lambda m, x: x * drawn(4, 1, 1, seed=4),
    "scale": lambda m, x: 3 * x,
    "divided": lambda m, x: x / 2.5,
    "divided by itself": lambda m, x: x / x.abs().sum((2, 3), keepdim=True),
    "added": lambda m, x: x + x.relu(),
    "added to itself": lambda m, x: x + x,
    "added constant": lambda m, x: x + drawn(4, 6, 6, seed=4),
    "added broadcast": lambda m, x: x + x.mean((2, 3), keepdim=True),
    "added with a factor": lambda m, x: torch.add(x, x.relu(), alpha=-0.3),
    "added in place": in_place_sum,
    "subtracted": lambda m, x: x - 0.5 * x.relu(),
    "subtracted from a constant": lambda m, x: 1 - x,
    "subtracted with a factor": lambda m, x: torch.sub(x, x.relu(), alpha=0.3),
    "flatten": lambda m, x: torch.flatten(x, 1),
    "permute": lambda m, x: x.permute(0, 2, 3, 1).reshape(2, -1),
    "pad": lambda m, x: F.pad(x, (1, 2, 0, 1)),
    "pixel shuffle": lambda m, x: F.pixel_shuffle(x, 2),
    "masked": lambda m, x: x.masked_fill(x < 0, 0.0),
    "where": lambda m, x: torch.where(x > 0, x, 0.1 * x),
    "maximum": lambda m, x: torch.maximum(*parts(x)),
    "gather": lambda m, x: x[:, [2, 0]],
    "expand": lambda m, x: x[:, :1].expand(-1, 3, -1, -1) + x[:, 1:],
}  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_hands_on_gradient_times_input_of_the_detached_network(operation: str) -> None:
    gate = {"gate": nn.Conv2d(4, 4, 1)} if operation == "gate" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of lazy modules
        model = around(OPERATIONS[operation], **gate)
    assert_whole_model_is_right(model, drawn(2, 3, 6, 6))


NORMS: dict[str, tuple[Callable[..., torch.Tensor], Callable[[], nn.Module]]] = {
    "LayerNorm": (token_norm, lambda: nn.LayerNorm(4)),
    "LayerNorm over two axes": (token_norm, lambda: nn.LayerNorm((36, 4), elementwise_affine=False)),
    "RMSNorm": (token_norm, lambda: nn.RMSNorm(4)),
    "RMSNorm with its own epsilon": (token_norm, lambda: nn.RMSNorm(4, eps=0.1)),
    "GroupNorm": (image_norm, lambda: nn.GroupNorm(2, 4)),
    "InstanceNorm": (image_norm, lambda: nn.InstanceNorm2d(4, affine=True)),
    "InstanceNorm with running statistics": (
        image_norm, lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    ),
    "BatchNorm": (lambda m, x: m.norm(x.relu()).relu(), lambda: nn.BatchNorm2d(4)),
    "LocalResponseNorm": (image_norm, lambda: nn.LocalResponseNorm(3)),
}  # fmt: skip


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_hands_on_gradient_times_input_with_its_deviation_detached(norm: str) -> None:
    function, build = NORMS[norm]
    assert_whole_model_is_right(around(function, norm=build()), drawn(2, 3, 6, 6))


@pytest.mark.parametrize(
    "operation",
    [
        lambda m, x: torch.addcmul(x, x.relu(), x.roll(1, -1), value=0.5),
        lambda m, x: torch.baddbmm(x[:, 0], x[:, 1], x[:, 2]),
        lambda m, x: torch.addcmul(x, x.relu(), drawn(4, 1, 1, seed=4)),
        lambda m, x: torch.stack([torch.addmm(one[0], one[1], one[2]) for one in x]),
        lambda m, x: F.linear(x[:, 0], x[0, 1], x[0, 2, 0]),
    ],
    ids=["addcmul", "baddbmm", "addcmul with a constant", "addmm", "linear with weights from the input"],
)
def test_the_factors_of_a_product_share_what_it_gives_to_a_sum(operation: Callable[..., torch.Tensor]) -> None:
    model, x = around(operation), drawn(2, 3, 6, 6)
    attribution = CondAttribution(model)(x, [{"y": [0]}], lrp_0(), pairing="product", record_layer=["conv", "flatten"])
    arrived, handed_on = attribution.relevances["flatten"], attribution.relevances["conv"]
    assert float((handed_on.sum() - arrived.sum()).abs() / arrived.abs().sum()) < NEARLY


@pytest.mark.parametrize("operation", ["added", "subtracted", "added with a factor", "added broadcast"])
def test_a_rule_for_sums_takes_every_kind_of_sum(operation: str) -> None:
    model, x = around(OPERATIONS[operation]), drawn(2, 3, 6, 6)
    composite = composites.LayerMapComposite(
        [(nn.Linear, rules.Epsilon(LRP_0)), (Activation, rules.Pass()), (Convolution, rules.Epsilon(LRP_0))]
    )
    composite.layer_map.append((composites.Sum, rules.Epsilon(LRP_0)))
    composite.layer_map.append((nn.AdaptiveAvgPool2d, rules.Epsilon(LRP_0)))
    expected, _ = whole_model_relevance(model, x, torch.ones(2, 3, dtype=torch.float64))
    assert relative_error(relevance_of(model, x, composite), expected) < NEARLY


def test_a_constant_summand_keeps_its_share_under_any_rule_for_sums() -> None:
    model, x = around(OPERATIONS["added constant"]), drawn(2, 3, 6, 6)
    composite = lrp_0()
    composite.layer_map.insert(0, (composites.Sum, rules.Epsilon(LRP_0)))
    expected, _ = whole_model_relevance(model, x, torch.ones(2, 3, dtype=torch.float64))
    assert relative_error(relevance_of(model, x, composite), expected) < NEARLY


def test_an_operation_without_a_rule_is_warned_of_once_and_listed() -> None:
    model, x = around(lambda m, x: torch.sin(x)), drawn(1, 3, 6, 6)
    attribution = CondAttribution(model)
    with pytest.warns(CrpKitWarning, match="no rule is known for the operation sin") as caught:
        first = attribution(x, [{"y": [0]}], "epsilon_plus")
    assert len(caught) == 1
    second = attribution(x, [{"y": [1]}], "epsilon_plus")
    assert first.gradient_nodes == second.gradient_nodes == ("sin",)
    assert attribution(x, [{"y": [0]}], None).gradient_nodes == ()


# ---------------------------------------------------------------------- mistakes


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        CompositeError, match="no composite named 'epsilon_plus_falt'; did you mean 'epsilon_plus_flat'"
    ):
        preset("epsilon_plus_falt")
    with pytest.raises(CompositeError, match="no composite named 'zzz'; known are gradient, attnlrp, beta_smooth"):
        preset("zzz")


def test_a_box_needs_its_bounds() -> None:
    with pytest.raises(CompositeError, match="epsilon_gamma_box needs the lowest and highest values"):
        preset("epsilon_gamma_box")
    assert type(preset("epsilon_gamma_box", low=-2.0, high=2.0)) is composites.EpsilonGammaBox


def test_a_composite_class_is_answered_with_its_call() -> None:
    with pytest.raises(CompositeError, match=r"give an instance: EpsilonPlus\(\)"):
        preset(composites.EpsilonPlus)  # type: ignore[arg-type]
    with pytest.raises(CompositeError, match="a preset name or None; got int"):
        preset(3)  # type: ignore[arg-type]


def test_presets_that_need_no_name_come_back_as_they_are() -> None:
    composite = composites.EpsilonPlus()
    assert preset(composite) is composite
    assert preset(None) is None
    assert preset("gradient") is None


def failing(*args: Any) -> Any:
    raise RuntimeError("so not")


class Failing(Hook):
    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        raise TypeError("so not")


BAD_RULES: dict[str, tuple[Hook, str]] = {
    "mapper": (BasicHook(gradient_mapper=failing), "the rule BasicHook fails at '4': so not"),
    "reducer": (BasicHook(reducer=failing), "the rule BasicHook fails at '4': so not"),
    "input": (BasicHook(input_modifiers=[failing]), "the rule BasicHook fails at '4': so not"),
    "parameter": (BasicHook(param_modifiers=[failing]), "the rule BasicHook fails at '4': so not"),
    "foreign": (Failing(), "the rule Failing fails at '4': so not"),
    "count": (
        BasicHook(gradient_mapper=lambda relevance, outputs: [relevance] * 3),
        "one tensor for each of the rule's 1 terms; got 3",
    ),
    "shape": (
        BasicHook(reducer=lambda inputs, gradients: gradients[0].sum(1)),
        r"the rule BasicHook at '4' gives relevance of shape \(1, 4, 4\) for an input of shape \(1, 4, 4, 4\)",
    ),
    "missing parameter": (
        BasicHook(param_modifiers=[ParamMod(lambda value, name: value, param_keys=["scale"])]),
        "the rule BasicHook fails at '4': .* requires missing parameters: 'scale'",
    ),
    "bounds": (
        rules.ZBox(*(torch.full((1, 3, 1, 1), bound) for bound in (-1.0, 1.0))),
        "the rule ZBox fails at '4': .*Bounds by channel .* one number for all channels",
    ),
    "pass": (
        rules.Pass(),
        r"the rule Pass at '4' needs an input of its output's shape \(1, 4, 2, 2\); got \(1, 4, 4, 4\)",
    ),
}


@pytest.mark.parametrize("case", BAD_RULES)
def test_a_rule_that_fails_is_named_with_its_node(case: str) -> None:
    rule, message = BAD_RULES[case]
    composite = composites.NameMapComposite([(("4",), rule), (("8", "0"), rules.Epsilon())])
    model = small()
    with pytest.raises(CompositeError, match=message):
        relevance_of(model, drawn(1, 3, 8, 8), composite)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_factors_of_a_rule_are_exact_in_float64() -> None:
    """1.1 and 0.1 are no sums of powers of two."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 4, bias=False).double()
    x = torch.randn(1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rule = composites.LayerMapComposite([(nn.Linear, rules.AlphaBeta(1.1, 0.1, stabilizer=1e-300))])
    found = CondAttribution(nn.Sequential(layer))(x, [{"y": [2]}], rule).input_relevance
    terms = layer.weight.detach()[2] * x[0]
    shares = 1.1 * terms.clamp(min=0) / terms.clamp(min=0).sum() - 0.1 * terms.clamp(max=0) / terms.clamp(max=0).sum()
    torch.testing.assert_close(found[0], shares * terms.sum(), rtol=1e-13, atol=0)


def test_a_rule_of_ones_own_that_writes_to_its_arguments_leaves_the_forward_alone() -> None:
    class Clamped(BasicHook):
        def __init__(self) -> None:
            super().__init__(
                input_modifiers=[lambda value: value.clone()],
                param_modifiers=[rules.NoMod()],
                output_modifiers=[lambda value: value.clamp_(min=0.5)],
                gradient_mapper=lambda gradient, outputs: gradient / outputs[0],
                reducer=lambda inputs, gradients: inputs[0] * gradients[0],
            )

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4))
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(1))
    found = CondAttribution(model)(x, [{"y": [2]}], composites.LayerMapComposite([(nn.Linear, Clamped())]))
    assert torch.equal(found.prediction, model(x).detach())
