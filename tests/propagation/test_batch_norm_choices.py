"""What can be done at a BatchNorm that belongs to no linear layer; each choice against its definition."""

from collections.abc import Callable

import pytest
import torch
from nets import normal
from torch import nn
from torch.nn import functional as F
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.rules import AlphaBeta, Epsilon
from zennit.types import BatchNorm, Linear

from crp_kit import CondAttribution
from crp_kit.errors import CompositeError

EPSILON = 1e-14
ROUNDING = 1e-9


def lrp_zero() -> LayerMapComposite:
    return LayerMapComposite([*layer_map_base(EPSILON), (Linear, Epsilon(EPSILON))])


class PreActivation(nn.Module):
    """BatchNorms whose ReLU is between them and the next linear layer, as in DenseNet and pre-activation ResNets."""

    def __init__(self, pool: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(3), nn.BatchNorm2d(7)
        self.conv1, self.short = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1, bias=False)
        self.pool = pool
        self.last = nn.Linear(7 * (4 if pool == "flatten" else 1), 5)
        self.double().eval()
        for seed, norm in enumerate((self.norm1, self.norm2)):
            norm.running_mean = normal(norm.num_features, seed=seed)
            norm.running_var = normal(norm.num_features, seed=seed + 2).square() + 0.1
            norm.weight.data, norm.bias.data = normal(norm.num_features, seed=seed + 4), normal(norm.num_features)
        self.norm1.weight.data[1] = 0
        self.norm2.weight.data[6] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.norm1(x))
        h = torch.cat([x, self.conv1(h) + self.short(h)], 1)
        h = F.relu(self.norm2(h))
        return self.last(self.pooled(h))

    def pooled(self, h: torch.Tensor) -> torch.Tensor:
        if self.pool == "mean":
            return h.mean([2, 3])
        pooled = F.adaptive_avg_pool2d(h, 1) if self.pool == "adaptive" else F.avg_pool2d(h, 2)
        return torch.flatten(pooled, 1)


def factors(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    a = norm.weight / (norm.running_var + norm.eps).sqrt()
    return a.detach(), (norm.bias - norm.running_mean * a).detach()


def threshold(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """The canonized network's own unit: x where the neuron is on, else the threshold, relevance passed through."""
    a, c = (one.view(1, -1, 1, 1) for one in factors(norm))
    t = torch.where(a == 0, 0.0, -c / a)
    over = torch.where(a > 0, torch.maximum(x, t), torch.minimum(x, t))
    over = torch.where(a == 0, torch.where(c > 0, x, 0.0), over)
    return x * (over / x).detach()


def canonized(model: PreActivation, x: torch.Tensor) -> torch.Tensor:
    """The same function written with threshold units, folded weights and biases that are whole maps."""
    (a1, c1), (a2, c2) = factors(model.norm1), factors(model.norm2)
    c1, c2 = torch.where(a1 == 0, c1.clamp(min=0), c1), torch.where(a2 == 0, c2.clamp(min=0), c2)
    shift = c1.view(1, -1, 1, 1).expand(1, 3, *x.shape[2:])
    t = threshold(model.norm1, x)
    maps = [
        F.conv2d(t, conv.weight.detach() * a1.view(1, -1, 1, 1), padding=conv.padding) + conv(shift).detach()
        for conv in (model.conv1, model.short)
    ]
    t = model.pooled(threshold(model.norm2, torch.cat([x, maps[0] + maps[1]], 1)))
    places = t.shape[1] // 7
    weight, c2 = model.last.weight.detach() * a2.repeat_interleave(places), c2.repeat_interleave(places)
    return t @ weight.T + model.last(c2).detach()


@pytest.mark.parametrize("pool", ["mean", "adaptive", "flatten"])
def test_threshold_is_gradient_times_input_of_the_canonized_network(pool: str) -> None:
    model, x = PreActivation(pool), normal(2, 3, 4, 4, seed=9)
    leaf = x.clone().requires_grad_()
    output = canonized(model, leaf)
    torch.testing.assert_close(output.detach(), model(x).detach(), rtol=1e-12, atol=1e-12)
    wanted = x * torch.autograd.grad(output[:, 2].sum(), leaf)[0]
    found = CondAttribution(model, batch_norm="threshold")(x, [{"y": [2]}], lrp_zero()).input_relevance
    assert float((found - wanted).abs().max() / wanted.abs().max()) < ROUNDING


@pytest.mark.parametrize(
    "pool",
    [
        lambda h: F.avg_pool2d(h, 2, padding=1),
        lambda h: F.avg_pool2d(h, 3, ceil_mode=True),
        lambda h: F.avg_pool2d(h, 2, divisor_override=3),
        lambda h: F.max_pool2d(h, 2),
        lambda h: h.mean(1, keepdim=True).expand(-1, 3, -1, -1),
    ],
    ids=["padded", "ceil_mode", "other divisor", "max pooling", "mean over channels"],
)
def test_threshold_leaves_norms_affine_whose_shift_would_not_stay_one(
    pool: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)
            self.norm.running_mean, self.norm.bias.data = normal(3), normal(3, seed=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(pool(F.relu(self.norm(x)))).mean([2, 3])

    model, x = Pooled().double().eval(), normal(1, 3, 4, 4, seed=3)
    found, affine = (
        CondAttribution(model, batch_norm=choice)(x, [{"y": [0]}], lrp_zero()).heatmap
        for choice in ("threshold", "affine")
    )
    assert torch.equal(found, affine)


def lone(x: torch.Tensor) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network of a BatchNorm behind a sum, with the norm's input and the relevance behind it for class 1."""
    model = nn.Sequential(nn.MaxPool2d(1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    model[1].running_mean, model[1].bias.data = normal(3), normal(3, seed=1)
    model.double().eval()
    h = model[:4](x)
    return model, x, (h * model[4].weight[1]).reshape(x.shape).detach()


def test_affine_and_epsilon_give_the_input_its_contribution_and_pass_gives_it_all() -> None:
    model, x, behind = lone(normal(1, 3, 2, 2, seed=5))
    z = model[1](x).detach()
    a = factors(model[1])[0].view(1, -1, 1, 1)
    wanted = {"affine": behind * x * a / z, "epsilon": behind * x * a / (z + 1e-6 * z.sign()), "pass": behind}
    for choice, relevance in wanted.items():
        found = CondAttribution(model, batch_norm=choice)(x, [{"y": [1]}], lrp_zero()).input_relevance
        torch.testing.assert_close(found, relevance, rtol=1e-9, atol=1e-12)


def test_a_rule_of_the_composite_comes_before_the_choice() -> None:
    model, x, _ = lone(normal(1, 3, 2, 2, seed=5))
    own = LayerMapComposite([(BatchNorm, AlphaBeta()), *layer_map_base(EPSILON), (Linear, Epsilon(EPSILON))])
    maps = [
        CondAttribution(model, batch_norm=choice)(x, [{"y": [1]}], own).heatmap
        for choice in ("affine", "pass", "threshold")
    ]
    assert all(torch.equal(one, maps[0]) for one in maps)


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(CompositeError, match="batch_norm is one of affine, pass, epsilon, threshold; got 'merge'"):
        CondAttribution(nn.Linear(1, 1), batch_norm="merge")
