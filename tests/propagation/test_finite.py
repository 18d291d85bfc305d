"""Relevance stays finite where the field has met NaN: dead channels, zero denominators, half precision, depth."""

import copy

import pytest
import torch
from oracles.families import build
from torch import nn
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.core import Composite
from zennit.rules import AlphaBeta, Epsilon, Norm, WSquare, ZPlus
from zennit.types import Linear

from crp_kit import CondAttribution
from crp_kit.rules.presets import preset, preset_names

RULES = {"epsilon": Epsilon(1e-9), "alpha1 beta0": AlphaBeta(alpha=1, beta=0), "z plus": ZPlus(), "w square": WSquare()}
PRESETS = [name for name in preset_names() if name not in ("epsilon_gamma_box", "gradient")]


def of_linear(rule: str) -> Composite:
    return LayerMapComposite([*layer_map_base(), (Linear, RULES[rule])])


def is_finite(model: nn.Module, x: torch.Tensor, composite: Composite | str | None) -> bool:
    attr = CondAttribution(model)(x, [{"y": [0]}], composite)
    return bool(torch.isfinite(attr.input_relevance).all()) and bool(attr.input_relevance.any())


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def damaged(model: nn.Module) -> nn.Module:
    """A copy with BatchNorms whose channels are dead, constant, flipped, or have almost no variance."""
    model = copy.deepcopy(model).float()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.num_features >= 4:
            norm.weight.data[0], norm.bias.data[0] = 0, 0
            norm.weight.data[1], norm.bias.data[1] = 0, -1
            norm.running_var[2] = 1e-12
            norm.weight.data[3] *= -1
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("family", ["vgg11_bn", "resnet18", "densenet121", "mobilenet_v2"])
def test_networks_with_damaged_batchnorms(family: str, rule: str) -> None:
    model, x = build(family)
    assert is_finite(damaged(model), x[:1].float(), of_linear(rule))


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", ["affine", "pass", "epsilon", "threshold"])
def test_every_choice_for_damaged_batchnorms_that_stay_alone(batch_norm: str) -> None:
    model, x = build("densenet121")
    attribution = CondAttribution(damaged(model), batch_norm=batch_norm)
    relevance = attribution(x[:1].float(), [{"y": [0]}], "epsilon_plus").input_relevance
    assert bool(torch.isfinite(relevance).all())
    assert bool(relevance.any())


def dead() -> nn.Sequential:
    """Convolutions of which some see nothing, some say nothing, and some cancel."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 4)
    )
    model[0].weight.data[0], model[0].bias.data[0] = 0, 0
    model[0].bias.data[1] = -1e4
    model[2].weight.data[0], model[2].bias.data[0] = 0, 0
    model[2].weight.data[1, 2], model[2].weight.data[1, 3] = 1, -1
    model[6].weight.data[1], model[6].bias.data[1] = 0, 0
    return model


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("kind", ["noise", "zeros", "constant", "tiny", "large"])
def test_dead_channels_and_odd_images_under_every_preset(name: str, kind: str) -> None:
    x = {
        "noise": random(1, 3, 8, 8),
        "zeros": torch.zeros(1, 3, 8, 8),
        "constant": torch.full((1, 3, 8, 8), 0.5),
        "tiny": random(1, 3, 8, 8) * 1e-30,
        "large": random(1, 3, 8, 8) * 1e12,
    }[kind]
    for target in (0, 1):
        attr = CondAttribution(dead())(x, [{"y": [target]}], name)
        assert bool(torch.isfinite(attr.input_relevance).all())


@pytest.mark.parametrize("start", [1.0, -2.0])
def test_the_sign_of_a_zero_denominator_counts_as_positive(start: float) -> None:
    layer = nn.Linear(2, 1, bias=False).double()
    layer.weight.data = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    x = torch.tensor([[3.0, -3.0]], dtype=torch.float64)
    found = CondAttribution(layer)(x, {}, LayerMapComposite([(Linear, Epsilon(0.5))]), init_rel=start)
    assert found.input_relevance.tolist() == [[3 * start / 0.5, -3 * start / 0.5]]


@pytest.mark.parametrize("start", [1.0, -2.0])
def test_two_summands_that_cancel_share_with_a_positive_stabilizer(start: float) -> None:
    class Cancels(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0] + x[:, 1]

    composite = LayerMapComposite([*layer_map_base(0.25), (Linear, Epsilon())])
    x = torch.tensor([[[3.0], [-3.0]]], dtype=torch.float64)
    found = CondAttribution(Cancels())(x, {}, composite, init_rel=start).input_relevance
    assert found.flatten().tolist() == [3 * start / 0.25, -3 * start / 0.25]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["epsilon_plus", "epsilon_alpha2_beta1_flat", "attnlrp"])
def test_models_in_half_precision_get_relevance_in_float32_close_to_that_of_float32(
    dtype: torch.dtype, name: str
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip
    x = random(1, 3, 12, 12)
    half = copy.deepcopy(model).to(dtype)
    found = CondAttribution(half)(x.to(dtype), {}, name, init_rel=1.0).input_relevance
    rounded = copy.deepcopy(half).float()
    expected = CondAttribution(rounded)(x.to(dtype).float(), {}, name, init_rel=1.0).input_relevance
    assert found.dtype == torch.float32
    assert bool(torch.isfinite(found).all())
    # Activations are rounded to 8 or 11 bits; their shares differ by about as much, amplified where terms cancel.
    limit = {torch.float16: 0.05, torch.bfloat16: 0.3}[dtype]
    assert float((found - expected).norm() / expected.norm()) < limit


class Deep(nn.Module):
    """Two hundred residual blocks."""

    def __init__(self, *, residual: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.residual = residual
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(200))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(200))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = torch.relu(norm(conv(x)))
            x = x + 0.1 * h if self.residual else h
        return self.head(x.mean([2, 3]))


@pytest.mark.slow
@pytest.mark.parametrize("residual", [True, False], ids=["residual", "plain"])
@pytest.mark.parametrize("name", ["epsilon_plus", "epsilon_alpha2_beta1", "attnlrp"])
def test_networks_of_two_hundred_layers(residual: bool, name: str) -> None:
    model, x = Deep(residual=residual).eval(), random(1, 4, 6, 6)
    attr = CondAttribution(model)(x, {}, name, init_rel=1.0)
    assert bool(torch.isfinite(attr.input_relevance).all())


@pytest.mark.slow
def test_relevance_of_two_hundred_residual_blocks_without_biases_is_conserved() -> None:
    model = Deep(residual=True).double().eval()
    for module in model.modules():
        if getattr(module, "bias", None) is not None:
            module.bias.data.zero_()
    composite = LayerMapComposite([*layer_map_base(1e-14), (Linear, Epsilon(1e-14))])
    attr = CondAttribution(model)(random(1, 4, 6, 6).double(), [{"y": [1]}], composite)
    assert float(attr.heatmap.sum()) == pytest.approx(float(attr.prediction[0, 1]), rel=1e-6)


def test_a_norm_without_stabilizer_is_found_and_named() -> None:
    class Cancels(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x.flip(1)

    composite = LayerMapComposite([*layer_map_base(0.0), (Linear, Epsilon())])
    x = torch.tensor([[3.0, -3.0]])
    with pytest.raises(ArithmeticError, match=r"non-finite at 'add' \(rule: Norm\)"):
        CondAttribution(Cancels())(x, {}, composite, init_rel=1.0)
    assert type(composite.module_map({}, "", nn.AvgPool2d(1))) is Norm


def test_every_preset_that_is_left_out_here_needs_a_range() -> None:
    with pytest.raises(ValueError, match="lowest and highest"):
        preset("epsilon_gamma_box")
