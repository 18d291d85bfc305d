"""AttnLRP equals gradient x input of the network in which products are halves of their detached factors.

With the uniform rule a product ``f(a, b)`` has the gradient of ``(f(a, const b) + f(const a, b)) / 2``; softmax by its
Taylor expansion is softmax with its plain gradient. Activations and deviations of norms are constant factors.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import normal
from torch import nn
from torch.nn import functional as F
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.rules import Epsilon, Gamma
from zennit.types import Linear

from crp_kit import CondAttribution
from crp_kit.rules.attnlrp import AttnLRP, SoftmaxTaylor
from crp_kit.rules.presets import preset

EPSILON = 1e-14
ROUNDING = 1e-7
TOKENS, WIDTH, HEADS = 5, 12, 3

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def halves(product: Product) -> Product:
    return lambda a, b: (product(a, b.detach()) + product(a.detach(), b)) / 2


def ratio(activation: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: x * (activation(x) / x).detach()


def detached_norm(x: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    deviation = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt().detach()
    return (x - x.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias


class Block(nn.Module):
    """Attention and a gated unit, as people write them; `oracle` computes the same with AttnLRP's gradients."""

    def __init__(self, *, fused: bool, groups: int = HEADS, **attention: Any) -> None:
        super().__init__()
        self.fused, self.groups, self.attention, self.oracle = fused, groups, attention, False
        size = WIDTH // HEADS
        self.norm, self.query = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
        self.key, self.value = nn.Linear(WIDTH, groups * size), nn.Linear(WIDTH, groups * size)
        self.out, self.gate, self.up = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 8)
        self.down, self.head, self.act = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 4), nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = detached_norm(x, self.norm) if self.oracle else self.norm(x)
        x = x + self.out(self.attend(*(self.split(one(h)) for one in (self.query, self.key, self.value))))
        act, times = (ratio(F.silu), halves(torch.mul)) if self.oracle else (self.act, torch.mul)
        x = x + self.down(times(act(self.gate(x)), self.up(x)))
        return self.head(x.mean(1))

    def split(self, h: torch.Tensor) -> torch.Tensor:
        return h.unflatten(-1, (-1, WIDTH // HEADS)).transpose(1, 2)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if self.fused and not self.oracle:
            grouped = {"enable_gqa": True} if self.groups != HEADS else {}
            mixed = F.scaled_dot_product_attention(q, k, v, **self.attention, **grouped)
            return mixed.transpose(1, 2).flatten(2)
        k, v = (one.repeat_interleave(HEADS // self.groups, 1) for one in (k, v))
        times = halves(torch.matmul) if self.oracle else torch.matmul
        scale = self.attention.get("scale", 1 / math.sqrt(q.shape[-1]))
        scores = times(q, k.transpose(-1, -2)) * scale
        mask = self.attention.get("attn_mask")
        if self.attention.get("is_causal"):
            mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        return times(scores.softmax(-1), v).transpose(1, 2).flatten(2)


KINDS = {
    "plain": {},
    "causal": {"is_causal": True},
    "scaled": {"scale": 0.3},
    "boolean mask": {"attn_mask": normal(TOKENS, TOKENS) + torch.eye(TOKENS) * 9 > 0},
    "relative position bias": {"attn_mask": normal(HEADS, TOKENS, TOKENS)},
    "grouped queries": {"groups": 1},
}


def made(kind: str, *, fused: bool) -> Block:
    torch.manual_seed(0)
    block = Block(fused=fused, **KINDS[kind]).double().eval()
    for parameter in block.parameters():
        parameter.data = normal(*parameter.shape, seed=parameter.numel()) / 2
    return block


def expected(block: Block, x: torch.Tensor) -> torch.Tensor:
    block.oracle = True
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(block(leaf)[:, 1].sum(), leaf)
    block.oracle = False
    return x * gradient


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("kind", KINDS)
def test_attnlrp_is_gradient_times_input_with_halved_products(kind: str, fused: bool) -> None:
    block, x = made(kind, fused=fused), normal(2, TOKENS, WIDTH, seed=7)
    found = CondAttribution(block)(x, [{"y": [1]}], AttnLRP(epsilon=EPSILON)).input_relevance
    wanted = expected(block, x)
    assert float((found - wanted).abs().max() / wanted.abs().max()) < ROUNDING


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("composite", ["attnlrp", "epsilon_plus"])
def test_fused_and_unfused_attention_get_the_same_relevance(kind: str, composite: str) -> None:
    x = normal(1, TOKENS, WIDTH, seed=7)
    both = [
        CondAttribution(made(kind, fused=fused))(x, [{"y": [1]}], composite).input_relevance for fused in (True, False)
    ]
    # The stabilizers of the spelled-out products and sums act one by one.
    assert float((both[0] - both[1]).abs().max() / both[0].abs().max()) < 1e-3


def test_queries_and_keys_get_relevance_under_attnlrp_only() -> None:
    block, x = made("plain", fused=True), normal(1, TOKENS, WIDTH, seed=7)
    attribution = CondAttribution(block)
    names = ["query", "key", "value"]
    arrived = attribution(x, [{"y": [1]}], "attnlrp", record_layer=names).relevances
    assert all(bool(arrived[name].any()) for name in names)
    cp_lrp = LayerMapComposite([*layer_map_base(), (Linear, Epsilon())])
    with pytest.raises(ValueError, match="inside a gate"):
        attribution(x, [{"y": [1]}], cp_lrp, record_layer=["key"])


def test_the_preset_takes_gamma_for_linear_layers() -> None:
    composite = AttnLRP(gamma=0.05)
    assert type(composite.module_map({}, "", nn.Linear(1, 1))) is Gamma
    assert type(preset("attnlrp")) is AttnLRP


def test_relevance_of_a_hand_written_norm_is_not_sent_into_its_deviation() -> None:
    class Llama(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 6, bias=False), nn.Linear(6, 3, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x)
            return self.last(h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6))

    model, x = Llama().double(), normal(1, 6)
    attr = CondAttribution(model)(x, [{"y": [0]}], AttnLRP(epsilon=EPSILON))
    assert float(attr.heatmap.sum()) == pytest.approx(float(attr.prediction[0, 0]), rel=1e-9)


def test_softmax_in_zennit_itself_follows_the_taylor_expansion() -> None:
    softmax, x, start = nn.Softmax(-1), normal(2, 5).requires_grad_(), normal(2, 5, seed=1)
    handles = SoftmaxTaylor().register(softmax)
    (found,) = torch.autograd.grad(softmax(x), x, start)
    handles.remove()
    s = x.detach().softmax(-1)
    wanted = x.detach() * (start - s * start.sum(-1, keepdim=True))
    torch.testing.assert_close(found, wanted)


def test_masked_positions_of_a_softmax_get_nothing() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = self.first(x)
            weights = scores.masked_fill(torch.tensor([False, True, False, True]), -math.inf).softmax(-1)
            return self.last(weights * x)

    attr = CondAttribution(Masked().double())(normal(3, 4), [{"y": [0]}], "attnlrp", record_layer=["first"])
    assert bool(torch.isfinite(attr.input_relevance).all())
    assert not attr.relevances["first"][:, [1, 3]].any()
    assert attr.relevances["first"][:, [0, 2]].all()


# ---------------------------------------------------------------------- masks, in float32


MASKS = {
    "-100": -100.0, "-1e4": -1e4, "lowest": torch.finfo(torch.float32).min, "-inf": -math.inf,
}  # fmt: skip


class Windows(nn.Module):
    """Two layers of attention under an additive mask that leaves each token some others; scores are large."""

    def __init__(self, low: float, *, fused: bool, causal: bool = False) -> None:
        super().__init__()
        self.first, self.second = (nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))
        self.out, self.head, self.fused = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4), fused
        blocks = torch.arange(6) // 2
        hidden = torch.ones(6, 6).triu(1).bool() if causal else blocks[:, None] != blocks
        self.register_buffer("mask", torch.zeros(6, 6).masked_fill(hidden, low), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.first, self.second):
            q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in layer(x).chunk(3, -1))
            if self.fused:
                mixed = F.scaled_dot_product_attention(q, k, v, self.mask)
            else:
                mixed = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + self.mask).softmax(-1) @ v
            x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return self.head(x.mean(1))


@pytest.mark.parametrize("composite", [AttnLRP(), AttnLRP(gamma=0.1), AttnLRP(epsilon=1e-3)], ids=["", "gamma", "eps"])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "windows"])
@pytest.mark.parametrize("low", MASKS)
def test_masked_attention_in_float32_is_finite_and_near_float64(
    low: str, causal: bool, fused: bool, composite: AttnLRP
) -> None:
    torch.manual_seed(0)
    model, x = Windows(MASKS[low], fused=fused, causal=causal).eval(), normal(2, 6, WIDTH, seed=3) * 4
    single = CondAttribution(model)(x.float(), [{"y": [1]}], composite).input_relevance
    double = CondAttribution(model.double())(x, [{"y": [1]}], composite).input_relevance
    assert bool(single.isfinite().all())
    assert float((single - double).abs().max() / double.abs().max()) < 1e-3


@pytest.mark.parametrize("low", [-90.0, -95.0, -100.0, -103.0, -150.0])
def test_weights_that_underflow_get_nothing(low: float) -> None:
    """Between 1e-38 and 1e-45 float32 numbers are subnormal, and one over them is infinite."""

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores, self.last = nn.Linear(4, 4, bias=False), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            shift = torch.tensor([0.0, low, 0.0, low], dtype=x.dtype)
            return self.last((self.scores(x) + shift).softmax(-1) * x)

    torch.manual_seed(0)
    model, x = Weighted().eval(), normal(3, 4)
    single = CondAttribution(model)(x.float(), [{"y": [0]}], "attnlrp", record_layer=["scores"])
    double = CondAttribution(model.double())(x, [{"y": [0]}], "attnlrp", record_layer=["scores"])
    assert bool(single.input_relevance.isfinite().all())
    assert float(single.relevances["scores"][:, [1, 3]].abs().max()) < 1e-30
    assert float((single.heatmap - double.heatmap).abs().max() / double.heatmap.abs().max()) < 1e-4


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_rows_that_are_masked_altogether_get_nothing_and_spoil_nothing(fused: bool) -> None:
    class Hidden(Windows):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.first(x).chunk(3, -1)
            if self.fused:
                return self.head(F.scaled_dot_product_attention(q, k, v, self.mask).mean(1))
            weights = (q @ k.transpose(-1, -2) / math.sqrt(WIDTH) + self.mask).softmax(-1)
            return self.head((weights.masked_fill(weights.isnan(), 0.0) @ v).mean(1))

    torch.manual_seed(0)
    model, x = Hidden(-math.inf, fused=fused).eval(), normal(1, 6, WIDTH, seed=3)
    model.mask[2] = -math.inf
    single = CondAttribution(model)(x.float(), [{"y": [1]}], "attnlrp", record_layer=["first"])
    double = CondAttribution(model.double())(x, [{"y": [1]}], "attnlrp", record_layer=["first"])
    queries = single.relevances["first"][0, :, :WIDTH]
    assert not queries[2].any()
    assert queries[[0, 1, 3, 4, 5]].any(1).all()
    assert float((single.heatmap - double.heatmap).abs().max() / double.heatmap.abs().max()) < 1e-3


@pytest.mark.parametrize("dim", [0, 1, 2, -1, None])
@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_the_axis_of_a_softmax_is_its_own(dim: int | None) -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.softmax, self.last = nn.Softmax(dim), nn.Linear(4, 2, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.softmax(x)).sum(1)

    model, x = Weighted().double().eval(), normal(1 if dim in (0, None) else 2, 3, 4)
    axis = 0 if dim is None else dim
    found = CondAttribution(model)(x, [{"y": [1]}], AttnLRP(epsilon=EPSILON)).input_relevance
    weights = x.softmax(axis)
    start = weights * model.last.weight[1].detach()
    wanted = x * (start - weights * start.sum(axis, keepdim=True))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    handles, leaf = SoftmaxTaylor().register(model.softmax), x.clone().requires_grad_()
    (by_zennit,) = torch.autograd.grad(model.softmax(leaf), leaf, start)
    handles.remove()
    torch.testing.assert_close(by_zennit, wanted)


def test_a_rule_with_a_backward_of_its_own_is_run_by_that() -> None:
    class Halved(Epsilon):
        def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
            return tuple(part / 2 for part in super().backward(module, grad_input, grad_output))

        def copy(self) -> Any:
            return type(self)()

    model, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).double().eval(), normal(2, 4)
    plain = CondAttribution(model)(x, [{"y": [0]}], LayerMapComposite([*layer_map_base(), (Linear, Epsilon())]))
    halved = CondAttribution(model)(x, [{"y": [0]}], LayerMapComposite([*layer_map_base(), (Linear, Halved())]))
    torch.testing.assert_close(halved.input_relevance * 4, plain.input_relevance)


def test_the_rule_of_softmax_is_described_by_its_name() -> None:
    from crp_kit import rule_table
    from crp_kit.rules.description import describe_hook

    names = "input_modifiers=None, param_modifiers=None, output_modifiers=None"
    assert describe_hook(SoftmaxTaylor()) == f"SoftmaxTaylor({names})"  # atlas files have it
    model = Windows(-100.0, fused=False).eval()
    table = rule_table(model, torch.randn(1, 6, WIDTH), "attnlrp")
    assert [row.rule for row in table.rows if row.name == "softmax"] == ["SoftmaxTaylor"]
