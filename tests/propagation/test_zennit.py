"""Input relevance equals that of zennit's own backward, in float64, wherever zennit's is right."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import torch
from nets import relative_error
from oracles.whole_model import whole_model_relevance
from torch import nn
from torchvision.models.resnet import BasicBlock
from zennit import composites, rules
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.core import BasicHook, Composite, Hook, ParamMod, Stabilizer, stabilize
from zennit.layer import Sum
from zennit.torchvision import ResNetCanonizer
from zennit.types import Activation, AvgPool, Convolution, Linear

from crp_kit import CondAttribution

pytestmark = pytest.mark.zennit_both

ROUNDING = 1e-9  # float64 rounding, times denominators as small as the stabilizer of 1e-6
CLASSES = 5
PRESETS: dict[str, Callable[..., Composite]] = {
    "epsilon_gamma_box": lambda **options: composites.EpsilonGammaBox(low=-3.0, high=3.0, **options),
    "epsilon_plus": composites.EpsilonPlus,
    "epsilon_alpha2_beta1": composites.EpsilonAlpha2Beta1,
    "epsilon_plus_flat": composites.EpsilonPlusFlat,
    "epsilon_alpha2_beta1_flat": composites.EpsilonAlpha2Beta1Flat,
    "deconvnet": composites.DeconvNet,
    "guided_backprop": composites.GuidedBackprop,
    "excitation_backprop": composites.ExcitationBackprop,
    "beta_smooth": composites.BetaSmooth,
}


# ---------------------------------------------------------------------- models


def vgg(*, batch_norm: bool = False, average: bool = False) -> nn.Module:
    """Convolutions with poolings between them, and two linear layers."""
    layers: list[nn.Module] = []
    for inputs, outputs, pool in ((3, 6, False), (6, 8, True), (8, 8, False), (8, 10, True)):
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        layers += [nn.BatchNorm2d(outputs)] * batch_norm
        layers.append(nn.ReLU(inplace=True))
        layers += [nn.AvgPool2d(2) if average else nn.MaxPool2d(2)] * pool
    head = [nn.AdaptiveAvgPool2d(2) if average else nn.AdaptiveMaxPool2d(2), nn.Flatten()]
    model = nn.Sequential()
    model.features = nn.Sequential(*layers, *head)
    model.classifier = nn.Sequential(nn.Linear(40, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, CLASSES))
    return prepared(model)


class SmallResNet(nn.Module):
    """Two of torchvision's residual blocks, the second one with a down-sampling shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        shortcut = nn.Sequential(nn.Conv2d(8, 12, 1, stride=2, bias=False), nn.BatchNorm2d(12))
        self.layer1 = BasicBlock(8, 8)
        self.layer2 = BasicBlock(8, 12, stride=2, downsample=shortcut)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(12, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Shared(nn.Module):
    """One convolution and one ReLU, both called twice; or `unrolled`, with a module for each call."""

    def __init__(self, *, unrolled: bool = False) -> None:
        super().__init__()
        self.first, self.conv, self.relu = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()
        self.fc = nn.Linear(6 * 6 * 6, CLASSES)
        if unrolled:
            self.conv_1, self.relu_1 = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()
        self.unrolled = unrolled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv, relu = (self.conv_1, self.relu_1) if self.unrolled else (self.conv, self.relu)
        return self.fc(relu(conv(self.relu(self.conv(self.first(x))))).flatten(1))


def prepared(model: nn.Module, seed: int = 0) -> nn.Module:
    """A model in evaluation mode and float64, with random values in every parameter and buffer."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.double().state_dict().items():
        if not value.is_floating_point():
            continue
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        if value.ndim > 1:
            drawn = drawn * (2 / value[0].numel()) ** 0.5
        elif name.endswith("running_var"):
            drawn = 0.5 + drawn.abs()
        value.copy_(drawn if value.ndim > 1 or name.endswith("running_var") else 0.3 * drawn)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.abs_().add_(0.5)
    return model.eval()


def unrolled(shared: nn.Module) -> nn.Module:
    """The net of `Shared` with its weights, and a module for each call."""
    model = prepared(Shared(unrolled=True))
    state = shared.state_dict()
    model.load_state_dict({**state, "conv_1.weight": state["conv.weight"], "conv_1.bias": state["conv.bias"]})
    return model


def out_of_place(model: nn.Module) -> nn.Module:
    """A copy whose modules leave their input alone: zennit's rules remember what in-place modules overwrite."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model


def with_parameters(model: nn.Module) -> nn.Module:
    """The model, with the tensors that zennit 1.0 hides parameters behind as its parameters."""
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, torch.Tensor):
                delattr(module, name)
                is_buffer = name in module._buffers
                setattr(module, name, value.detach() if is_buffer else nn.Parameter(value.detach()))
    return model


def folded(model: nn.Module) -> nn.Module:
    """A copy whose BatchNorms are part of the convolutions registered before them, exactly, epsilon included."""
    model = out_of_place(model)
    last = None
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d) and isinstance(last, nn.Conv2d):
            scale = module.weight.data / torch.sqrt(module.running_var + module.eps)
            bias = torch.zeros_like(scale) if last.bias is None else last.bias.data
            last.bias = nn.Parameter((bias - module.running_mean) * scale + module.bias.data)
            last.weight.data = last.weight.data * scale[:, None, None, None]
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, nn.Identity())
        last = module if not any(True for _ in module.children()) else last
    return model


class InTurn(nn.Module):
    """A ReLU for each call: zennit's rules remember one input for each module."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.parts, self.count = nn.ModuleList(nn.ReLU() for _ in range(calls)), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return self.parts[(self.count - 1) % len(self.parts)](x)


def resnet_for_zennit(model: nn.Module) -> nn.Module:
    """A copy on which zennit is right, given its ResNetCanonizer: BatchNorms folded, no module called twice."""
    model = folded(model)
    model.layer1.relu, model.layer2.relu = InTurn(2), InTurn(2)
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], nn.Module]]] = {
    "vgg": (vgg, out_of_place),
    "vgg with average pooling": (lambda: vgg(average=True), out_of_place),
    "vgg_bn": (lambda: vgg(batch_norm=True), folded),
    "resnet": (lambda: prepared(SmallResNet()), resnet_for_zennit),
    "shared": (lambda: prepared(Shared()), unrolled),
}


# ---------------------------------------------------------------------- comparison


def images(batch: int = 1, size: int = 8) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_zennit(
    model: nn.Module, x: torch.Tensor, composite: Composite, targets: list[int] | None = None
) -> torch.Tensor:
    """Input relevance by zennit's hooks, (sample and target, channel, height, width), targets fastest."""
    maps = []
    with composite.context(model) as hooked:
        for target in targets or [0]:
            leaf = x.clone().requires_grad_()
            output = hooked(leaf)
            start = torch.zeros_like(output)
            start[:, target] = output[:, target].detach()
            maps.append(torch.autograd.grad(output, leaf, start)[0])
    return torch.stack(maps, 1).flatten(0, 1)


def by_crp_kit(
    model: nn.Module, x: torch.Tensor, composite: Composite | str, targets: list[int] | None = None
) -> torch.Tensor:
    conditions = [{"y": [target]} for target in targets or [0]]
    return CondAttribution(model)(x, conditions, composite, pairing="product").input_relevance


def preset_error(preset: str, model: str, batch: int) -> float:
    """Relative error of one preset on one model, for three targets a sample."""
    build, for_zennit = MODELS[model]
    ours, x, targets = build(), images(batch), [0, 3, 1]
    theirs = PRESETS[preset](**({"canonizers": [ResNetCanonizer()]} if model == "resnet" else {}))
    expected = by_zennit(for_zennit(ours), x, theirs, targets)
    return relative_error(by_crp_kit(ours, x, PRESETS[preset](), targets), expected)


def largest_errors() -> dict[str, float]:
    """The largest relative error of each preset, over all models and batch sizes."""
    return {preset: max(preset_error(preset, model, b) for model in MODELS for b in (1, 3)) for preset in PRESETS}


def layer_map(rule: Hook, linear: Hook | None = None) -> Composite:
    """A composite of one rule for convolutions and one for linear layers."""
    return composites.LayerMapComposite(
        [
            (Activation, rules.Pass()),
            (AvgPool, rules.Norm()),
            (Sum, rules.Norm()),
            (Convolution, rule),
            (nn.Linear, linear or rules.Epsilon()),
        ]
    )


# ---------------------------------------------------------------------- presets


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_give_zennits_relevance(preset: str, model: str, batch: int) -> None:
    assert preset_error(preset, model, batch) < ROUNDING


def test_every_preset_of_zennit_is_compared() -> None:
    assert set(PRESETS) == set(composites.COMPOSITES)


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"epsilon_gamma_box"}))
def test_a_presets_name_means_its_composite(preset: str) -> None:
    model = vgg()
    assert torch.equal(by_crp_kit(model, images(), preset), by_crp_kit(model, images(), PRESETS[preset]()))


@pytest.mark.parametrize("bounds", ["numbers", "by channel", "by pixel"])
def test_box_bounds_may_be_numbers_or_tensors(bounds: str) -> None:
    shape = {"numbers": (), "by channel": (1, 3, 1, 1), "by pixel": (1, 3, 8, 8)}[bounds]
    low = -3 - torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    composite = composites.EpsilonGammaBox(low=low, high=-low)
    model = vgg()
    assert relative_error(by_crp_kit(model, images(2), composite), by_zennit(model, images(2), composite)) < ROUNDING


def test_a_condition_masks_what_zennit_hands_on() -> None:
    model, x, channels = vgg(batch_norm=True), images(2), [1, 4]
    reference = folded(model)
    composite = composites.EpsilonPlusFlat()
    expected = []
    for channel in channels:
        mask = torch.zeros(1, 8, 1, 1, dtype=torch.float64)
        mask[:, channel] = 1

        def masked(module: nn.Module, args: Any, mask: torch.Tensor = mask) -> None:
            args[0].register_hook(lambda relevance: relevance * mask)

        handle = reference.features[7].register_forward_pre_hook(masked)
        expected.append(by_zennit(reference, x, composite, [2]))
        handle.remove()
    conditions = [{"features.6": [channel], "y": [2]} for channel in channels]
    found = CondAttribution(model)(x, conditions, composite, pairing="product").input_relevance
    assert relative_error(found, torch.stack(expected, 1).flatten(0, 1)) < ROUNDING


# ---------------------------------------------------------------------- rules that users write


class Tempered(Hook):
    """Not a BasicHook: the gradient, damped where it is large."""

    def __init__(self, scale: float = 0.5) -> None:
        super().__init__()
        self.scale = scale

    def copy(self) -> Tempered:
        return Tempered(self.scale)

    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        return (torch.tanh(self.scale * grad_input[0]),)


class Looking(Hook):
    """Not a BasicHook: uses its layer's weights and geometry itself."""

    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        if isinstance(module, nn.Linear):
            return (grad_output[0] @ module.weight.abs(),)
        if not isinstance(module, nn.Conv2d):
            raise TypeError(f"a layer was expected; got {type(module).__name__}")
        geometry = (module.stride, module.padding, module.dilation, module.groups)
        found = torch.nn.grad.conv2d_input(grad_input[0].shape, module.weight.abs(), grad_output[0], *geometry)
        return (found / module.bias.abs().sum(),)


def half_flat() -> BasicHook:
    """Half epsilon, half flat; multiplies element by element."""
    return BasicHook(
        input_modifiers=[lambda x: x, torch.ones_like],
        param_modifiers=[
            ParamMod(lambda value, _: value),
            ParamMod(lambda value, _: torch.ones_like(value), zero_params=["bias"]),
        ],
        output_modifiers=[lambda z: z, lambda z: z],
        gradient_mapper=lambda relevance, z: [0.5 * relevance / stabilize(one) for one in z],
        reducer=lambda inputs, gradients: inputs[0] * gradients[0] + gradients[1],
    )


def clamping(limit: float) -> BasicHook:
    """Epsilon that hands on no relevance above a limit: not linear in relevance."""
    return BasicHook(gradient_mapper=lambda relevance, z: [relevance.clamp(-limit, limit) / stabilize(z[0])])


def sharing_one_input() -> BasicHook:
    """Two terms with the very same input tensor: autograd gives each of them the gradient of both."""
    return BasicHook(
        input_modifiers=[lambda x: x, lambda x: x],
        param_modifiers=[rules.ClampMod(min=0.0), rules.ClampMod(max=0.0)],
        output_modifiers=[lambda z: z, lambda z: z],
    )


def changing_the_output() -> BasicHook:
    """A rule with an output modifier."""
    return BasicHook(
        input_modifiers=[lambda x: x],
        output_modifiers=[lambda z: z.clamp(min=0)],
        gradient_mapper=lambda relevance, z: [relevance / stabilize(z[0])],
    )


def other_mapper() -> BasicHook:
    """One of zennit's rules, with another mapper put in."""
    rule = rules.Epsilon()
    rule.gradient_mapper = lambda relevance, z: relevance.clamp(min=0) / stabilize(z[0])
    return rule


OWN_RULES: dict[str, Callable[[], Hook]] = {
    "linear": half_flat,
    "default mapper and reducer": BasicHook,
    "clamps relevance": lambda: clamping(1e-3),
    "clamps large relevance only": lambda: clamping(8.0),
    "one input twice": sharing_one_input,
    "output modifier": changing_the_output,
    "zennit's with another mapper": other_mapper,
    "foreign": Tempered,
    "foreign, looks at its layer": Looking,
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rule", OWN_RULES)
def test_rules_that_users_write_give_zennits_relevance(rule: str, model: str) -> None:
    build, for_zennit = MODELS[model]
    ours, x, targets = build(), 30 * images(3), [0, 3]
    composite = layer_map(OWN_RULES[rule]())
    theirs = copy.copy(composite)
    theirs.canonizers = [ResNetCanonizer()] if model == "resnet" else []
    expected = by_zennit(for_zennit(ours), x, theirs, targets)
    assert relative_error(by_crp_kit(ours, x, composite, targets), expected) < ROUNDING


@pytest.mark.parametrize("rule", [rules.Epsilon(0.1), BasicHook(), Tempered(), clamping(0.01)])
def test_rules_for_activations_and_poolings_give_zennits_relevance(rule: Hook) -> None:
    composite = composites.LayerMapComposite([((nn.ReLU, AvgPool), rule), (Linear, rules.Epsilon())])
    model = vgg(average=True)
    expected = by_zennit(out_of_place(model), images(2), composite, [0, 1])
    assert relative_error(by_crp_kit(out_of_place(model), images(2), composite, [0, 1]), expected) < ROUNDING
    assert relative_error(by_crp_kit(model, images(2), composite, [0, 1]), expected) < ROUNDING


@pytest.mark.parametrize("rule", [rules.Epsilon(0.1), Tempered(), rules.ZPlus(), half_flat()])
def test_a_rule_for_sums_sees_the_summands_stacked_as_in_zennit(rule: Hook) -> None:
    composite = composites.LayerMapComposite(
        [(Activation, rules.Pass()), (Sum, rule), (AvgPool, rules.Norm()), (Linear, rules.Epsilon())]
    )
    theirs = copy.copy(composite)
    theirs.canonizers = [ResNetCanonizer()]
    model = prepared(SmallResNet())
    expected = by_zennit(resnet_for_zennit(model), images(2), theirs, [0, 1])
    assert relative_error(by_crp_kit(model, images(2), composite, [0, 1]), expected) < ROUNDING


class OwnPass(rules.Pass):  # type: ignore[misc]
    """Pass under another name, with which a BatchNorm is not folded into its convolution."""


@pytest.mark.parametrize(
    "rule", [rules.Epsilon(), rules.ZPlus(), rules.Epsilon(zero_params="bias"), Tempered(), OwnPass()]
)
def test_a_rule_that_a_composite_gives_a_batch_norm_is_used(rule: Hook) -> None:
    composite = composites.LayerMapComposite(
        [(Activation, rules.Pass()), (nn.BatchNorm2d, rule), (Linear, rules.Epsilon())]
    )
    model = vgg(batch_norm=True)
    expected = by_zennit(copy.deepcopy(model), images(2), composite, [0, 1])
    assert relative_error(by_crp_kit(model, images(2), composite, [0, 1]), expected) < ROUNDING


# ---------------------------------------------------------------------- composites


def names(*layers: str, rule: Hook) -> tuple[tuple[str, ...], Hook]:
    return layers, rule


COMPOSITES: dict[str, Callable[[], Composite]] = {
    "LayerMap": lambda: layer_map(rules.Gamma(0.1)),
    "SpecialFirstLayer": lambda: composites.SpecialFirstLayerMapComposite(
        [(Activation, rules.Pass()), (Convolution, rules.AlphaBeta(3, 2)), (nn.Linear, rules.ZPlus())],
        [(Convolution, rules.WSquare())],
    ),
    "NameMap": lambda: composites.NameMapComposite(
        [
            names("features.0", rule=rules.ZBox(-3, 3)),
            names("features.2", "features.5", rule=rules.Gamma()),
            names("classifier.0", "classifier.3", rule=rules.Epsilon(0.1)),
            names("features.1", "features.3", rule=rules.Pass()),
        ]
    ),
    "Mixed": lambda: composites.MixedComposite(
        [
            composites.NameMapComposite([names("features.5", "classifier.3", rule=rules.Epsilon(0.5))]),
            composites.EpsilonPlusFlat(),
        ]
    ),
    "NameLayerMap": lambda: composites.NameLayerMapComposite(
        [names("features.0", rule=rules.Flat())],
        [(Activation, rules.Pass()), (Convolution, rules.ZPlus()), (nn.Linear, rules.Epsilon())],
    ),
    "scaled stabilizer": lambda: composites.EpsilonPlus(
        epsilon=Stabilizer(0.1, norm_scale=True), stabilizer=Stabilizer(0.01, norm_scale=True, dim=(1,))
    ),
    "clipping stabilizer": lambda: composites.EpsilonAlpha2Beta1(
        epsilon=Stabilizer(0.2, clip=True), stabilizer=Stabilizer(0.1, clip=True)
    ),
    "stabilizer function": lambda: composites.EpsilonPlus(epsilon=lambda z: z + 0.01 * z.abs().max()),
    "no bias": lambda: composites.EpsilonGammaBox(low=-3.0, high=3.0, zero_params="bias"),
    "no weight": lambda: composites.EpsilonPlusFlat(zero_params=["bias"]),
}


WITHOUT_RULE = pytest.mark.filterwarnings("ignore:layers to which the composite gives no rule")


@WITHOUT_RULE
@pytest.mark.filterwarnings("ignore:the rule Epsilon depends on other samples")
@pytest.mark.parametrize("kind", COMPOSITES)
@pytest.mark.parametrize("average", [False, True])
def test_composites_give_zennits_relevance(kind: str, average: bool) -> None:
    model, composite = vgg(average=average), COMPOSITES[kind]()
    if average and kind in ("NameMap", "SpecialFirstLayer", "NameLayerMap"):
        composite = composites.MixedComposite([composite, layer_map(rules.Epsilon())])
    # one image after the other: a stabilizer that sees the batch must not
    alone = [by_zennit(copy.deepcopy(model), image[None], composite, [0, 3]) for image in images(3)]
    assert relative_error(by_crp_kit(model, images(3), composite, [0, 3]), torch.cat(alone)) < ROUNDING


@WITHOUT_RULE
def test_a_name_map_knows_each_call_of_a_repeated_module() -> None:
    shared = prepared(Shared())
    composite = composites.NameMapComposite(
        [
            names("first", rule=rules.WSquare()),
            names("conv", rule=rules.Epsilon(0.1)),
            names("conv_1", rule=rules.Gamma()),
            names("relu_1", rule=rules.Pass()),
            names("fc", rule=rules.Epsilon()),
        ]
    )
    expected = by_zennit(unrolled(shared), images(2), composite, [0, 3])
    assert relative_error(by_crp_kit(shared, images(2), composite, [0, 3]), expected) < ROUNDING


@WITHOUT_RULE
def test_the_name_of_a_module_means_all_its_calls() -> None:
    shared = prepared(Shared())
    mine = composites.NameMapComposite([names("conv", rule=rules.Gamma()), names("fc", rule=rules.Epsilon())])
    theirs = composites.NameMapComposite(
        [names("conv", "conv_1", rule=rules.Gamma()), names("fc", rule=rules.Epsilon())]
    )
    expected = by_zennit(unrolled(shared), images(2), theirs, [0, 3])
    assert relative_error(by_crp_kit(shared, images(2), mine, [0, 3]), expected) < ROUNDING


@pytest.mark.parametrize("preset", ["deconvnet", "guided_backprop"])
def test_shared_modules_give_zennits_relevance_where_its_rules_remember_nothing(preset: str) -> None:
    model = prepared(Shared())
    expected = by_zennit(copy.deepcopy(model), images(3), PRESETS[preset](), [0, 3])
    assert relative_error(by_crp_kit(model, images(3), PRESETS[preset](), [0, 3]), expected) < ROUNDING


# ---------------------------------------------------------------------- canonizers


@pytest.mark.parametrize("kind", ["vgg_bn", "resnet"])
def test_canonizers_of_a_composite_are_applied_to_a_private_copy(kind: str) -> None:
    canonizer = SequentialMergeBatchNorm if kind == "vgg_bn" else ResNetCanonizer
    model = MODELS[kind][0]()
    before = copy.deepcopy(model.state_dict())
    tensors = {name: id(value) for name, value in model.named_parameters()}
    attributes = {name: sorted(module.__dict__) for name, module in model.named_modules()}
    found = by_crp_kit(model, images(2), composites.EpsilonPlusFlat(canonizers=[canonizer()]), [0, 3])

    canonized = copy.deepcopy(model)
    canonizer().apply(canonized)
    reference = folded(with_parameters(canonized))  # zennit 0.5 leaves a factor 1 / sqrt(1 + eps) in the norms
    expected = by_zennit(reference, images(2), composites.EpsilonPlusFlat(), [0, 3])
    assert relative_error(found, expected) < ROUNDING

    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name: id(value) for name, value in model.named_parameters()} == tensors
    assert {name: sorted(module.__dict__) for name, module in model.named_modules()} == attributes


def test_a_composite_in_use_elsewhere_keeps_its_hooks() -> None:
    model, composite = vgg(), composites.EpsilonPlusFlat()
    with composite.context(model) as hooked:
        expected = by_crp_kit(vgg(), images(), composite)
        leaf = images().requires_grad_()
        output = hooked(leaf)
        (found,) = torch.autograd.grad(output[:, 0], leaf, output[:, 0].detach())
    assert relative_error(expected, found) < ROUNDING


# ---------------------------------------------------------------------- where zennit is wrong


LRP_0 = 1e-12  # stabilizer so small that rules are LRP-0 but for rounding


def lrp_0() -> Composite:
    return composites.EpsilonPlus(
        epsilon=LRP_0, stabilizer=LRP_0, layer_map=[(Convolution, rules.Epsilon(epsilon=LRP_0))]
    )


def test_a_residual_sum_does_not_double_relevance_without_a_canonizer() -> None:
    model, x = prepared(SmallResNet()), images(2)
    selection = torch.zeros(2, CLASSES, dtype=torch.float64)
    selection[:, 3] = 1
    expected, _ = whole_model_relevance(model, x, selection)
    assert relative_error(by_crp_kit(model, x, lrp_0(), [3]), expected) < 1e-6  # LRP_0 over outputs down to 1e-6
    doubled = by_zennit(resnet_for_zennit(model), x, lrp_0(), [3])
    assert relative_error(doubled, expected) > 0.1


def test_each_call_of_a_shared_convolution_has_its_own_input() -> None:
    model, x = prepared(Shared()), images(2)
    selection = torch.zeros(2, CLASSES, dtype=torch.float64)
    selection[:, 3] = 1
    expected, _ = whole_model_relevance(model, x, selection)
    assert relative_error(by_crp_kit(model, x, lrp_0(), [3]), expected) < 1e-6
    assert relative_error(by_zennit(copy.deepcopy(model), x, lrp_0(), [3]), expected) > 0.1


def test_the_epsilon_of_a_batch_norm_stays_part_of_its_convolution() -> None:
    model, x = vgg(batch_norm=True), images(1)
    exact = by_zennit(folded(model), x, composites.EpsilonPlus())
    assert relative_error(by_crp_kit(model, x, composites.EpsilonPlus()), exact) < ROUNDING
    if version("zennit") < "1":
        merged = by_zennit(copy.deepcopy(model), x, composites.EpsilonPlus(canonizers=[SequentialMergeBatchNorm()]))
        assert relative_error(merged, exact) > 1e-6
