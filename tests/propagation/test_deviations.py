"""Deviations, norms, distances and interpolation as signals: the built-in operation gives what its formula gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from nets import lrp_0
from torch import nn
from torchvision import ops
from zennit.composites import LayerMapComposite

from crp_kit import CondAttribution, CrpKitWarning
from crp_kit.errors import ModelError

Form = Callable[[torch.Tensor], torch.Tensor]


class Around(nn.Module):
    """A form of (batch, 3, 6) between two linear maps."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.head, self.form = nn.Linear(5, 18, bias=False), nn.LazyLinear(2, bias=False), form
        self(torch.zeros(1, 5))
        torch.manual_seed(1)
        self.head.reset_parameters()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.form(self.front(x).view(-1, 3, 6)).flatten(1))


def _deviation(a: torch.Tensor) -> torch.Tensor:
    return a - a.mean(-1, keepdim=True)


def _norm(a: torch.Tensor, p: float = 2.0) -> torch.Tensor:
    return (a.abs() ** p).sum(-1) ** (1 / p)


FORMS: dict[str, tuple[Form, Form]] = {
    "std": (lambda a: a.std(-1), lambda a: (_deviation(a).square().sum(-1) / 5).sqrt()),
    "biased std": (lambda a: a.std(-1, unbiased=False), lambda a: _deviation(a).square().mean(-1).sqrt()),
    "var": (lambda a: a.var(-1), lambda a: _deviation(a).square().sum(-1) / 5),
    "var with a correction": (
        lambda a: torch.var(a, dim=(1, 2), correction=0, keepdim=True),
        lambda a: _deviation(a.flatten(1)).square().mean(-1, keepdim=True),
    ),
    "std and mean": (
        lambda a: torch.cat(torch.std_mean(a, -1), 1),
        lambda a: torch.cat([(_deviation(a).square().sum(-1) / 5).sqrt(), a.mean(-1)], 1),
    ),
    "var and mean": (
        lambda a: torch.cat(torch.var_mean(a, dim=-1, keepdim=True), 1),
        lambda a: torch.cat([_deviation(a).square().sum(-1, keepdim=True) / 5, a.mean(-1, keepdim=True)], 1),
    ),
    "norm": (lambda a: a.norm(dim=-1), _norm),
    "norm of order 3": (lambda a: torch.linalg.vector_norm(a, 3, dim=-1), lambda a: _norm(a, 3.0)),
    "sum of absolute values": (lambda a: torch.linalg.norm(a, 1, dim=-1), lambda a: a.abs().sum(-1)),
    "largest absolute value": (lambda a: a.norm(float("inf"), -1), lambda a: a.abs().amax(-1)),
    "Frobenius norm": (lambda a: torch.linalg.matrix_norm(a, keepdim=True), lambda a: _norm(a.flatten(1))[:, None]),
    "distances": (
        lambda a: torch.cdist(a[:, :2], a[:, 2:]),
        lambda a: _norm(a[:, :2] - a[:, 2:]),
    ),
    "pairwise distance": (
        lambda a: F.pairwise_distance(a[:, 0], a[:, 1], eps=0.0, keepdim=True),
        lambda a: _norm(a[:, 0] - a[:, 1])[:, None],
    ),
    "distance of samples": (
        lambda a: torch.stack([torch.dist(one[:1], one[1:]) for one in a])[:, None],
        lambda a: _norm((a[:, 1:] - a[:, :1]).flatten(1))[:, None],
    ),
    "cosine similarity": (
        lambda a: F.cosine_similarity(a[:, :1], a[:, 1:], dim=-1),
        lambda a: (
            a[:, :1] / _norm(a[:, :1])[..., None] * torch.ones_like(a[:, 1:]) * (a[:, 1:] / _norm(a[:, 1:])[..., None])
        ).sum(-1),
    ),
    "arctan": (torch.arctan, lambda a: a * (a.atan() / a).detach()),
    "inverse hyperbolic sine": (torch.asinh, lambda a: a * (a.asinh() / a).detach()),
    "error function": (torch.special.erf, lambda a: a * (torch.erf(a) / a).detach()),
    "logarithm from one": (lambda a: a.abs().log1p(), lambda a: a.abs() * (a.abs().log1p() / a.abs()).detach()),
    "interpolation": (lambda a: torch.lerp(a, a.flip(1), 0.3), lambda a: 0.7 * a + 0.3 * a.flip(1)),
    "gated interpolation": (
        lambda a: torch.lerp(a, a.flip(1), a.sigmoid()),
        lambda a: a * (1 - a.sigmoid()) + a.flip(1) * a.sigmoid(),
    ),
    "gated linear unit": (lambda a: F.glu(a), lambda a: a[..., :3] * a[..., 3:].sigmoid()),
    "sum with a quotient": (
        lambda a: torch.addcdiv(a, a.flip(1), a.exp() + 1, value=2),
        lambda a: a + 2 * a.flip(1) / (a.exp() + 1),
    ),
}


def _groups(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(len(a))[:, None], _GROUPS.flatten()[None, : a.shape[1]]


def relevance(form: Form, x: torch.Tensor, composite: LayerMapComposite) -> tuple[torch.Tensor, tuple[str, ...]]:
    model = Around(form).to(x.dtype).eval()
    result = CondAttribution(model)(x, [{"y": [0]}, {"y": [1]}], composite, pairing="product")
    return result.input_relevance, result.gradient_nodes


@pytest.mark.parametrize("form", FORMS)
def test_a_built_in_operation_has_the_relevance_of_its_formula(form: str) -> None:
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    built, spelled = FORMS[form]
    found, without_rule = relevance(built, x, lrp_0())
    expected, _ = relevance(spelled, x, lrp_0())
    assert torch.allclose(found, expected, rtol=1e-7, atol=1e-9 * float(expected.abs().max()))
    assert without_rule == ()
    single, _ = relevance(built, x.float(), lrp_0(1e-6))
    # a stabilizer of 1e-6 and float32 beside denominators of about 1e-2
    assert torch.allclose(single.double(), expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("form", ["std", "var", "norm", "std and mean", "distances", "cosine similarity"])
def test_relevance_of_a_deviation_that_is_zero_is_finite(form: str) -> None:
    found, _ = relevance(FORMS[form][0], torch.zeros(2, 5), lrp_0(1e-6))
    assert bool(found.isfinite().all())


_GROUPS = torch.tensor([0, 1, 0]).view(1, 3, 1)
SELECTING: dict[str, Form] = {
    "grid_sample": lambda a: F.grid_sample(a[:, :1, None], torch.linspace(-1, 1, 16).view(1, 4, 2, 2).to(a).expand(
        len(a), -1, -1, -1), align_corners=False),
    "max_unpool": lambda a: F.max_unpool1d(*F.max_pool1d(a, 2, return_indices=True), 2),
    "median": lambda a: a.median(-1).values,
    "kthvalue": lambda a: a.kthvalue(2, -1).values,
    "aminmax": lambda a: torch.cat(torch.aminmax(a, dim=-1), 1),
    "diff": lambda a: a.diff(),
    "tensordot with a constant": lambda a: torch.tensordot(a, torch.linspace(-1, 1, 12).view(6, 2).to(a), 1),
    "sums at indices": lambda a: torch.zeros_like(a).index_put(_groups(a), a, accumulate=True),
    "sums at indices in place": lambda a: a.clone().index_put_(_groups(a), 2 * a, accumulate=True),
    "writes at indices": lambda a: a.index_put(_groups(a[:, :2]), 2 * a[:, :2]),
    "sums at numbers": lambda a: torch.stack([one.put(torch.tensor([0, 9]), one[1, :2], True) for one in a]),
    "sums by index": lambda a: a[:, :2].scatter_reduce(1, _GROUPS.expand_as(a), a, "sum"),
    "means by index": lambda a: a[:, :2].scatter_reduce(1, _GROUPS.expand_as(a), a, reduce="mean"),
    "largest by index": lambda a: torch.scatter_reduce(a[:, :2], 1, _GROUPS.expand_as(a), a, reduce="amax"),
    "rounded quotient": lambda a: 2 * a + torch.div(a, 0.3, rounding_mode="floor").detach(),
    "floor of a quotient": lambda a: 2 * a + torch.div(a, 0.3, rounding_mode="trunc"),
    "clamp between signals": lambda a: torch.clamp(a, a.flip(1) - 1, max=a.flip(1) + 0.5),
    "clamp above a mean": lambda a: a.clone().clamp_min_(a.mean(1, keepdim=True)),
    "constant above a signal": lambda a: a + torch.full_like(a, 0.1).clamp(min=a),
    "reversed difference": lambda a: torch.rsub(a, 1.0, alpha=2) + torch.rsub(a, a.flip(1), alpha=0.5),
    "trapezoids": lambda a: torch.trapezoid(a, torch.arange(6).to(a)) + torch.cumulative_trapezoid(a, dim=1)[:, 0, :3],
    "quantile": lambda a: a.quantile(0.3, dim=-1),
    "running maximum": lambda a: a.cummax(1).values - a.cummin(-1)[0],
    "columns side by side": lambda a: torch.column_stack([a.flatten(1), a[:, 0]]),
    "pairs": lambda a: torch.stack([torch.combinations(one[0]) for one in a]),
    "pairs of two": lambda a: torch.stack([torch.cartesian_prod(one[0], one[1]) for one in a]),
    "parts by unsafe calls": lambda a: torch.cat([*a.unsafe_chunk(2, -1), *a.unsafe_split(2, -1)][::-1], -1),
    "linalg products": lambda a: torch.linalg.matmul(a, a.detach().mT) + torch.linalg.vecdot(a, a.detach())[..., None],
    "cross product": lambda a: torch.linalg.cross(a, a.detach().flip(2), dim=1),
    "product of matrices": lambda a: torch.stack(
        [torch.linalg.multi_dot([torch.ones(2, 3).to(a), one, one.detach().T]) for one in a]
    ),
    "product with a sparse matrix": lambda a: torch.stack(
        [torch.sparse.mm(torch.ones(3, 3).tril().to(a).to_sparse(), one) for one in a]
    ),
    "special gate": lambda a: a * torch.special.expit(a).detach(),
}  # fmt: skip


@pytest.mark.parametrize("form", SELECTING)
def test_linear_and_selecting_operations_are_exact_and_named_nowhere(form: str) -> None:
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found, without_rule = relevance(SELECTING[form], x, lrp_0())
    leaf, model = x.clone().requires_grad_(), Around(SELECTING[form]).double()
    for row, (sample, target) in enumerate((i, j) for i in range(2) for j in range(2)):
        (gradient,) = torch.autograd.grad(model(leaf)[sample, target], leaf)
        assert torch.allclose(found[row], (leaf * gradient)[sample].detach(), rtol=1e-7, atol=1e-9)
    assert without_rule == ()


@pytest.mark.parametrize("pool", ["roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool"])
def test_pooling_of_regions_is_exact_and_conserves(pool: str) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3, bias=False), nn.LazyLinear(2, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            boxes = [torch.tensor([[0.0, 0, 5, 5]]).to(x) for _ in x]
            return self.head(getattr(ops, pool)(self.conv(x), boxes, 2).flatten(1))

    torch.manual_seed(0)
    model, x = Pooled().double(), torch.randn(2, 3, 8, 8).double()
    model(x)
    result = CondAttribution(model.eval())(x, [{"y": [1]}], lrp_0(), pairing="product")
    assert torch.allclose(result.input_relevance.flatten(1).sum(1), result.prediction[:, 1], rtol=1e-6)
    assert result.gradient_nodes == ()


def test_a_deformable_convolution_is_one_whose_positions_and_mask_are_constants() -> None:
    class Deformable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift, self.mask, self.conv = nn.Conv2d(2, 18, 3), nn.Conv2d(2, 9, 3), nn.Conv2d(2, 4, 3)
            self.head, self.constant = nn.Linear(4, 2), False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            shift, mask = self.shift(x), self.mask(x).sigmoid()
            if self.constant:
                shift, mask = shift.detach(), mask.detach()
            y = ops.deform_conv2d(x, shift, self.conv.weight, self.conv.bias, mask=mask)
            return self.head(y.mean((2, 3)))

    torch.manual_seed(0)
    model, x = Deformable().double().eval(), torch.randn(2, 2, 6, 6).double()
    found = CondAttribution(model)(x, [{"y": [1]}], lrp_0(), pairing="product")
    model.constant, leaf = True, x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    assert torch.allclose(found.input_relevance, x * gradient, rtol=1e-7, atol=1e-10)
    assert found.gradient_nodes == ()


@pytest.mark.parametrize(
    ("form", "named"),
    [
        (lambda a: a.logsumexp(-1), "logsumexp"),
        (lambda a: a.prod(-1), "prod"),
        (lambda a: a.softmax(-1), "softmax"),
        (lambda a: (1 / (a.exp() + 1)), "div"),
        (lambda a: (a.exp() + 1).log(), "log"),
    ],
)  # fmt: skip
def test_an_operation_without_a_rule_passes_its_gradient_and_is_named(form: Form, named: str) -> None:
    x = torch.randn(1, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with pytest.warns(UserWarning, match=f"at '{named}'.*plain gradient"):
        _, without_rule = relevance(form, x, lrp_0())
    assert without_rule == (named,)


def test_an_operation_that_torch_cannot_differentiate_is_an_error_with_its_name() -> None:
    def reduced(a: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises scatter_reduce, which has a gradient
            return a.scatter(1, torch.zeros(len(a), 1, 6, dtype=torch.long), a[:, :1], reduce="add")

    for targets in ([0], [0, 1]):
        with pytest.raises(ModelError, match="cannot differentiate the operation scatter at 'scatter'"):
            CondAttribution(Around(reduced).eval())(torch.randn(1, 5), [{"y": [t]} for t in targets], lrp_0())


def test_a_sparse_signal_hides_what_is_computed_and_is_named() -> None:
    with pytest.warns(CrpKitWarning, match="cannot be looked into"):
        found, named = relevance(lambda a: a + a.to_sparse().to_dense(), torch.randn(2, 5), lrp_0())
    assert named == ("opaque",)
    assert bool(found.isfinite().all())
