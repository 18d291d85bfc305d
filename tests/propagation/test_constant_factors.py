"""Constants and gates in products: relevance is gradient x input of the model with its factors detached as written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies
from nets import lrp_0
from torch import nn
from zennit.composites import EpsilonPlus

from crp_kit import CondAttribution
from crp_kit.errors import CrpKitWarning

SIZE = 4
Factor = Callable[[torch.Tensor], torch.Tensor]
Join = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Joined(nn.Module):
    """Two linear maps of the input, (batch, 4, 4) each, joined to one output of (batch, 16)."""

    def __init__(self, join: Join, first: Factor, second: Factor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = (nn.Linear(6, SIZE * SIZE, bias=False).double() for _ in range(2))
        self.bank = nn.Parameter(torch.randn(SIZE, SIZE).double())
        self.join, self.first, self.second = join, first, second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = (part(x).view(-1, SIZE, SIZE) for part in (self.a, self.b))
        return self.join(self.first(a), self.second(b)).flatten(1)


def under_no_grad(value: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return value * 2 + 1


BANK = torch.linspace(-1, 1, SIZE * SIZE, dtype=torch.float64).view(SIZE, SIZE).sin()


def bank(like: torch.Tensor) -> torch.Tensor:
    return BANK.to(like.dtype)


def _shares(value: torch.Tensor, least: float = 0.0) -> torch.Tensor:
    return value / (value.sum(-1, keepdim=True) + least / 2).clamp(min=least)


CONSTANTS: dict[str, Factor] = {
    "detached": lambda b: b.detach(),
    "data": lambda b: b.data,
    "no_grad": under_no_grad,
    "cast like a signal": lambda b: BANK.to(b).expand_as(b),
    "type of a signal": lambda b: BANK.type_as(b).expand(len(b), SIZE, SIZE),
    "rounded": lambda b: (b * 8).round(),
    "sign": lambda b: b.sign(),
    "detached and moved": lambda b: b.detach().transpose(1, 2).contiguous() + 1,
}
GATES: dict[str, Factor] = {
    "sigmoid": lambda b: b.sigmoid(),
    "softmax": lambda b: b.softmax(-1),
    "hardsigmoid": lambda b: F.hardsigmoid(b),
    "sigmoid through a bank": lambda b: b.sigmoid() @ bank(b),
    "softmax through einsum": lambda b: torch.einsum("bij,jk->bik", b.softmax(-1), bank(b)),
    "softmax through linear": lambda b: F.linear(b.softmax(-1), bank(b)),
    "one minus sigmoid": lambda b: 1 - b.sigmoid(),
    "mean of sigmoid": lambda b: b.sigmoid().mean(1, keepdim=True).expand_as(b),
    "reciprocal": lambda b: 1 / (b.square() + 1),
    "negative power": lambda b: (b.square() + 1) ** -0.5,
    "softmax spelled out": lambda b: _shares((b - b.amax(-1, keepdim=True)).exp()),
    "softmax with a constant": lambda b: b.exp() / (1 + b.exp().sum(-1, keepdim=True)),
    "softmax by a reciprocal": lambda b: b.exp() * b.exp().sum(-1, keepdim=True).clamp(min=1e-3).reciprocal(),
    "masked softmax spelled out": lambda b: _shares(b.exp() * torch.ones(SIZE, SIZE).tril().to(b)),
    "shares of what a ReLU leaves": lambda b: _shares(F.relu(b) + 0.1),
    "shares with a stabilizer": lambda b: _shares(b.square(), least=1e-2),
    "exponential": lambda b: (b / 2).exp(),
    "power of two through a bank": lambda b: torch.exp2(b / 2) @ bank(b),
    "decay": lambda b: torch.exp(-F.softplus(b)),
    "exponential of logsigmoid": lambda b: (F.logsigmoid(b) / 2).exp(),
    "square of a sigmoid": lambda b: b.sigmoid() ** 2,
    "sigmoid above a threshold": lambda b: F.relu(b.sigmoid() - 0.3),
    "root of a softmax through a bank": lambda b: b.softmax(-1).sqrt() @ bank(b),
    "inverse deviation": lambda b: (b.var(-1, keepdim=True) + 1e-5).rsqrt().expand_as(b),
}
JOINS: dict[str, Join] = {
    "mul": lambda a, b: a * b,
    "mul the other way round": lambda a, b: b * a,
    "matmul": lambda a, b: a @ b,
    "bmm": torch.bmm,
    "bmm the other way round": lambda a, b: torch.bmm(b, a),
    "einsum": lambda a, b: torch.einsum("bij,bjk->bik", a, b),
    "einsum of lists": lambda a, b: torch.einsum(a, [0, 1, 2], b, [0, 2, 3], [0, 1, 3]),
    "baddbmm": lambda a, b: torch.baddbmm(torch.zeros(1, SIZE, SIZE).to(a), a, b, alpha=2),
    "addcmul": lambda a, b: torch.addcmul(torch.zeros(1).to(a), a, b),
    "linear": lambda a, b: F.linear(a[0], b[0])[None],
    "conv1d": lambda a, b: F.conv1d(a, b.reshape(-1, SIZE, 1)[:SIZE]),
    "conv1d by sample": lambda a, b: F.conv1d(a.reshape(1, -1, SIZE), b.reshape(-1, SIZE, 1), groups=len(a)),
    "conv2d": lambda a, b: F.conv2d(a[:, None], b[:1, None, :2, :2]),
    "conv_transpose1d": lambda a, b: F.conv_transpose1d(a, b[0].unsqueeze(-1)),
    "bilinear": lambda a, b: F.bilinear(a[:, 0], b[:, 0], bank(a).view(1, SIZE, SIZE)).expand(-1, 2),
    "in place": lambda a, b: (a + 0).mul_(b),
    "attention of constant weights": lambda a, b: (b / 2) @ a,
}


def gradient_times_input(model: Joined, join: Join, x: torch.Tensor) -> torch.Tensor:
    leaf = x.clone().requires_grad_()
    a, b = (part(leaf).view(-1, SIZE, SIZE) for part in (model.a, model.b))
    output = join(model.first(a), model.second(b).detach()).flatten(1)
    (gradient,) = torch.autograd.grad(output.sum(), leaf)
    return leaf.detach() * gradient


def relevance(model: nn.Module, x: torch.Tensor, composite: Any) -> torch.Tensor:
    result = CondAttribution(model.eval())(x, [{}], composite, init_rel=lambda value: value, pairing="product")
    return result.input_relevance


EVERY = {**CONSTANTS, **GATES}
CASES = [
    *((join, constant) for join in JOINS for constant in ("detached", "softmax through linear")),
    *((join, constant) for join in ("mul", "bmm") for constant in EVERY),
]


@pytest.mark.parametrize(("join", "constant"), dict.fromkeys(CASES))
def test_the_live_factor_of_a_product_gets_all_of_its_relevance(join: str, constant: str) -> None:
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = Joined(JOINS[join], lambda a: a, EVERY[constant])
    expected = gradient_times_input(model, JOINS[join], x)
    assert torch.allclose(relevance(model, x, lrp_0()), expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))
    single = relevance(model.float(), x.float(), lrp_0())
    assert torch.allclose(single.double(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.slow
@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    join=strategies.sampled_from(sorted(JOINS)),
    factors=strategies.lists(strategies.sampled_from(sorted(EVERY)), min_size=1, max_size=3),
    batch=strategies.sampled_from([1, 2]),
)
def test_chains_of_constants_and_gates_stay_constants(join: str, factors: list[str], batch: int) -> None:
    def chained(b: torch.Tensor) -> torch.Tensor:
        value = EVERY[factors[0]](b)
        for name in factors[1:]:
            value = value * EVERY[name](b)
        return value

    def joined(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return JOINS[join](a, b.reshape(b.shape[0], SIZE, SIZE))

    hypothesis.assume(batch == 1 or join not in ("conv1d", "conv1d by sample", "linear", "conv2d", "conv_transpose1d"))
    x = torch.randn(batch, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    model = Joined(joined, lambda a: a, chained)
    expected = gradient_times_input(model, joined, x)
    assert torch.allclose(relevance(model, x, lrp_0()), expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


def test_two_live_signals_share_a_product_equally() -> None:
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = Joined(lambda a, b: a * b, lambda a: a, lambda b: b)
    halves = [
        gradient_times_input(model, lambda a, b: a * b, x),
        gradient_times_input(_turned(model), lambda a, b: a * b, x),
    ]
    assert torch.allclose(relevance(model, x, lrp_0()), sum(halves) / 2, rtol=1e-6, atol=1e-9)


WEIGHTS = ("softmax", "softmax spelled out", "softmax with a constant", "sigmoid", "exponential")
READS: dict[str, Join] = {
    "residuals to centres": lambda a, w: w.mT @ a - w.sum(1).unsqueeze(-1) * bank(a),
    "a memory": lambda a, w: w @ a + w[:, :2].mT @ bank(a)[:2],
    "a carry": lambda a, w: w * a + (1 - w) * bank(a),
    "detached values": lambda a, w: torch.einsum("bij,bjk->bik", w, a) + torch.bmm(w, a.detach()),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_of_signals_are_constants_where_they_weigh_constants(weights: str, read: str) -> None:
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = Joined(READS[read], lambda a: a, GATES[weights])
    expected = gradient_times_input(model, READS[read], x)
    result = CondAttribution(model.eval())(x, [{}], lrp_0(), init_rel=lambda value: value, pairing="product")
    assert torch.allclose(result.input_relevance, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))
    assert result.gradient_nodes == ()


def test_weights_of_constants_alone_are_named_as_plain_gradients() -> None:
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = Joined(lambda a, w: a + w @ bank(a), lambda a: a, GATES["softmax"])
    with pytest.warns(CrpKitWarning, match="softmax"):
        result = CondAttribution(model.eval())(x, [{}], lrp_0(), init_rel=lambda value: value, pairing="product")
    assert result.gradient_nodes == ("softmax",)


def _passed(value: torch.Tensor) -> torch.Tensor:
    """A sigmoid through which relevance passes."""
    return value * (value.sigmoid() / value).detach()


BESIDE_SIGMOIDS: dict[str, tuple[Join, Join]] = {
    "softmax": (lambda a, b: b.softmax(-1) @ a.sigmoid(), lambda a, b: b.softmax(-1).detach() @ _passed(a)),
    "weights of tokens": (
        lambda a, b: b[..., :1].softmax(1) * a.sigmoid(),
        lambda a, b: b[..., :1].softmax(1).detach() * _passed(a),
    ),
    "a narrower sigmoid": (
        lambda a, b: b.mean(-1, keepdim=True).sigmoid() * a.sigmoid(),
        lambda a, b: b.mean(-1, keepdim=True).sigmoid().detach() * _passed(a),
    ),
    "another sigmoid": (
        lambda a, b: a.sigmoid() * b.sigmoid(),
        lambda a, b: (_passed(a) * b.sigmoid().detach() + a.sigmoid().detach() * _passed(b)) / 2,
    ),
    "a product with another": (
        lambda a, b: b.sigmoid() @ a.sigmoid(),
        lambda a, b: (b.sigmoid().detach() @ _passed(a) + _passed(b) @ a.sigmoid().detach()) / 2,
    ),
}


@pytest.mark.parametrize("beside", BESIDE_SIGMOIDS)
def test_a_sigmoid_is_a_signal_beside_softmaxes_narrower_gates_and_other_sigmoids(beside: str) -> None:
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    join, detached = BESIDE_SIGMOIDS[beside]
    model, leaf = Joined(join, lambda a: a, lambda b: b), x.clone().requires_grad_()
    a, b = (part(leaf).view(-1, SIZE, SIZE) for part in (model.a, model.b))
    (gradient,) = torch.autograd.grad(detached(a, b).sum(), leaf)
    expected = x * gradient
    assert torch.allclose(relevance(model, x, lrp_0()), expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


def _turned(model: Joined) -> Joined:
    other = Joined(model.join, model.second, model.first)
    other.a, other.b = model.b, model.a
    return other


def test_plain_gradients_stop_where_the_forward_detaches() -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                b = self.b(x)
            c = self.a(x).tanh() * 2
            c += b
            return c * b + self.b(x.detach())

    torch.manual_seed(0)
    model, x = Partly().double(), torch.randn(2, 6).double().requires_grad_()
    (expected,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    result = CondAttribution(model.eval())(x.detach(), [{"y": [1]}], None, init_rel=1.0, pairing="product")
    assert torch.allclose(result.input_relevance, expected, rtol=1e-10)


def test_a_forward_that_is_all_under_no_grad_is_attributed_as_if_it_were_not() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

        @torch.no_grad()
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

    torch.manual_seed(0)
    model, x = Wrapped().double().eval(), torch.randn(2, 6).double()
    found, expected = (CondAttribution(one)(x, [{"y": [1]}], "epsilon_plus").heatmap for one in (model, model.net))
    assert expected.abs().max() > 0
    assert torch.equal(found, expected)


def test_the_rule_of_the_composite_counts_for_a_convolution_with_weights_behind_a_gate() -> None:
    class Dynamic(nn.Module):
        """The kernels of a bank, mixed by attention over the input, as one convolution for each sample."""

        def __init__(self) -> None:
            super().__init__()
            self.route = nn.Linear(3, 4)
            self.bank = nn.Parameter(torch.randn(4, 5 * 3 * 3 * 3))

        def weights(self, x: torch.Tensor) -> torch.Tensor:
            return (self.route(x.mean((2, 3))).softmax(1) @ self.bank).view(-1, 3, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maps = F.conv2d(x.reshape(1, -1, *x.shape[2:]), self.weights(x), groups=len(x))
            return maps.view(len(x), 5, *maps.shape[2:]).relu().mean((2, 3))

    torch.manual_seed(0)
    model, x = Dynamic().double().eval(), torch.randn(2, 3, 6, 6).double()
    found = CondAttribution(model)(x, [{"y": [1]}], EpsilonPlus(), pairing="product").heatmap
    for sample in range(2):
        plain = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
        plain[0].weight.data = model.weights(x)[5 * sample : 5 * sample + 5].detach()
        alone = CondAttribution(plain.eval())(x[sample : sample + 1], [{"y": [1]}], EpsilonPlus()).heatmap
        assert torch.allclose(found[sample], alone[0], rtol=1e-9, atol=1e-12)
