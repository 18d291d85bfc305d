"""Plain gradients and epsilon relevance against autograd and against the same computation in primitive operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import lrp_0, normal
from torch import nn
from torch.nn import functional
from torchvision.ops import deform_conv2d, ps_roi_align, roi_align
from zennit.composites import LayerMapComposite, NameMapComposite, layer_map_base
from zennit.core import BasicHook, Hook
from zennit.rules import Epsilon
from zennit.types import Linear

import crp_kit
from crp_kit.propagation import vjp
from crp_kit.propagation.vjp import Transposed

Function = Callable[[torch.Tensor], torch.Tensor]
SIZE = 6
ROWS: list[Any] = [{"y": [0]}, {"y": [1]}, {"y": [0, 2]}]


class Around(nn.Module):
    """A convolution, a function of six channels, and a head; ``last`` sets the memory format of the maps."""

    def __init__(self, function: Function, *, last: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.front, self.back, self.head = nn.Conv2d(3, SIZE, 3), nn.Conv2d(SIZE, SIZE, 2), nn.Linear(SIZE, 3)
        self.function = function
        self.double().eval()
        if last:
            self.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, (batch, class)."""
        h = self.function(self.front(x))
        h = self.back(h) if h.ndim == 4 else h
        return self.head(h.flatten(2).square().mean(2))  # type: ignore[no-any-return]


def gradients(model: nn.Module, x: torch.Tensor, rows: list[Any]) -> torch.Tensor:
    """Return the gradient of each row's logits by autograd, for maps in reading order: (row, *shape)."""
    plain = model.to(memory_format=torch.contiguous_format)
    leaf = x.contiguous().requires_grad_()
    output = plain(leaf)
    found = [torch.autograd.grad(output[:, row["y"]].sum(), leaf, retain_graph=True)[0] for row in rows]
    return torch.stack(found)


def plain(model: nn.Module, x: torch.Tensor, rows: list[Any]) -> torch.Tensor:
    """Return the same from crp-kit: (row, *shape)."""
    found = crp_kit.CondAttribution(model)(x, rows, None, init_rel=1.0, pairing="product").input_relevance
    return found.unflatten(0, (len(x), len(rows))).transpose(0, 1)


def constant(value: torch.Tensor) -> dict[torch.dtype, torch.Tensor]:
    """Return a constant by type, so that no operation of the model gives it one."""
    return {torch.float64: value, torch.float32: value.float()}


WEIGHT, BIAS = constant(normal(SIZE, seed=3)), constant(normal(SIZE, seed=4))
MEAN, VARIANCE = constant(normal(SIZE, seed=5)), constant(normal(SIZE, seed=6).square() + 0.5)


def _at(x: torch.Tensor, fixed: torch.Tensor | None) -> torch.Tensor:
    """Return the values of which the deviation is taken."""
    return x if fixed is None else fixed


def _deviation(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    return (((x - x.mean(axes, keepdim=True)) ** 2).mean(axes, keepdim=True) + 1e-5) ** 0.5


def _affine(x: torch.Tensor) -> torch.Tensor:
    return x * WEIGHT[x.dtype].view(1, -1, 1, 1) + BIAS[x.dtype].view(1, -1, 1, 1)


def _instance(x: torch.Tensor, fixed: torch.Tensor | None = None) -> torch.Tensor:
    return _affine((x - x.mean((2, 3), keepdim=True)) / _deviation(_at(x, fixed), (2, 3)))


def _with_statistics(x: torch.Tensor, fixed: torch.Tensor | None = None) -> torch.Tensor:
    return (x - MEAN[x.dtype].view(1, -1, 1, 1)) / (VARIANCE[x.dtype].view(1, -1, 1, 1) + 1e-5) ** 0.5


def _group(x: torch.Tensor, fixed: torch.Tensor | None = None) -> torch.Tensor:
    parts, at = x.unflatten(1, (3, -1)), _at(x, fixed).unflatten(1, (3, -1))
    return _affine(((parts - parts.mean((2, 3, 4), keepdim=True)) / _deviation(at, (2, 3, 4))).flatten(1, 2))


def _layer(x: torch.Tensor, fixed: torch.Tensor | None = None) -> torch.Tensor:
    return (x - x.mean((2, 3), keepdim=True)) / _deviation(_at(x, fixed), (2, 3))


def _rms(x: torch.Tensor, fixed: torch.Tensor | None = None) -> torch.Tensor:
    return x / ((_at(x, fixed) ** 2).mean(3, keepdim=True) + 0.1) ** 0.5


def _unit(x: torch.Tensor, fixed: torch.Tensor | None = None) -> torch.Tensor:
    return x / (_at(x, fixed) ** 2).sum(1, keepdim=True) ** 0.5


def _neighbours(x: torch.Tensor, fixed: torch.Tensor | None = None) -> torch.Tensor:
    padded = functional.pad(_at(x, fixed) ** 2, (0, 0, 0, 0, 2, 1))
    return x / (0.8 + 0.3 / 4 * sum(padded[:, i : i + SIZE] for i in range(4))) ** 0.6


NORMS: dict[str, tuple[Function, Callable[..., torch.Tensor]]] = {
    "instance_norm": (lambda x: functional.instance_norm(x, weight=WEIGHT[x.dtype], bias=BIAS[x.dtype]), _instance),
    "instance_norm with statistics": (
        lambda x: functional.instance_norm(x, MEAN[x.dtype], VARIANCE[x.dtype], use_input_stats=False),
        _with_statistics,
    ),
    "batch_norm": (lambda x: functional.batch_norm(x, MEAN[x.dtype], VARIANCE[x.dtype]), _with_statistics),
    "group_norm": (lambda x: functional.group_norm(x, 3, WEIGHT[x.dtype], BIAS[x.dtype]), _group),
    "layer_norm": (lambda x: functional.layer_norm(x, x.shape[2:]), _layer),
    "rms_norm": (lambda x: functional.rms_norm(x, x.shape[3:], eps=0.1), _rms),
    "normalize": (functional.normalize, _unit),
    "local_response_norm": (lambda x: functional.local_response_norm(x, 4, 0.3, 0.6, 0.8), _neighbours),
}
"""Each norm as torch has it, and in primitive operations."""
POOLS: dict[str, Function] = {
    "max_pool2d": lambda x: functional.max_pool2d(x, 2, 1),
    "max_pool2d, dilated": lambda x: functional.max_pool2d(x, 2, 2, 1, 2),
    "adaptive_max_pool2d": lambda x: functional.adaptive_max_pool2d(x, 3),
    "fractional pooling": lambda x: functional.fractional_max_pool2d(
        x, 2, output_size=4, _random_samples=SAMPLED[x.dtype].expand(len(x), -1, -1)
    ),
    "avg_pool2d": lambda x: functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "adaptive_avg_pool2d": lambda x: functional.adaptive_avg_pool2d(x, (2, 3)),
    "lp_pool2d": lambda x: functional.lp_pool2d(x.relu() + 0.1, 2, 2),
    "max_pool1d": lambda x: functional.max_pool1d(x.flatten(2), 3),
    "avg_pool1d": lambda x: functional.avg_pool1d(x.flatten(2), 3),
    "max_pool3d": lambda x: functional.max_pool3d(x[:, None], (1, 2, 2))[:, 0],
    "avg_pool3d": lambda x: functional.avg_pool3d(x[:, None], (1, 2, 2))[:, 0],
    "interpolate": lambda x: functional.interpolate(x, scale_factor=1.5, mode="bicubic"),
}
OTHER, SAMPLED = constant(normal(5, 36, seed=7)), constant(normal(1, SIZE, 2, seed=8).sigmoid())
DISTANCES: dict[str, Function] = {
    "cdist": lambda x: torch.cdist(x.flatten(2), OTHER[x.dtype][None]),
    "cdist, other norm": lambda x: torch.cdist(x.flatten(2), OTHER[x.dtype][None], p=1.5),
    "pairwise_distance": lambda x: functional.pairwise_distance(x.flatten(2), OTHER[x.dtype][:1], keepdim=True),
    "cosine_similarity": lambda x: functional.cosine_similarity(x.flatten(2)[:, :, None], OTHER[x.dtype], -1),
    "vector norm": lambda x: x.norm(dim=3),
}
QUIET = pytest.mark.filterwarnings("ignore:no rule is known")
FORMATS = pytest.mark.parametrize("last", [False, True])
SAMPLES = pytest.mark.parametrize("samples", [1, 2])


def images(samples: int, *, last: bool) -> torch.Tensor:
    x = normal(samples, 3, 8, 8, seed=1)
    return x.contiguous(memory_format=torch.channels_last) if last else x


@QUIET
@FORMATS
@SAMPLES
@pytest.mark.parametrize("name", [*NORMS, *POOLS, *DISTANCES])
def test_plain_gradients_are_those_of_autograd(name: str, samples: int, last: bool) -> None:
    function = NORMS[name][1] if name in NORMS else {**POOLS, **DISTANCES}[name]
    expected = gradients(Around(function), images(samples, last=False), ROWS)
    model = Around(NORMS[name][0] if name in NORMS else function, last=last)
    for count in (1, 3):
        found = plain(model, images(samples, last=last), ROWS[:count])
        torch.testing.assert_close(found, expected[:count], rtol=1e-9, atol=1e-11)


@QUIET
@FORMATS
@pytest.mark.parametrize("name", [*NORMS, *POOLS, *DISTANCES])
def test_in_float32_plain_gradients_differ_by_rounding(name: str, last: bool) -> None:
    function = NORMS[name][1] if name in NORMS else {**POOLS, **DISTANCES}[name]
    expected = gradients(Around(function), images(1, last=False), ROWS)

    found = plain(Around(NORMS[name][0] if name in NORMS else function, last=last).float(),
                  images(1, last=last).float(), ROWS)  # fmt: skip
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


@QUIET
@FORMATS
@SAMPLES
@pytest.mark.parametrize("name", [*NORMS, *POOLS, *DISTANCES])
def test_relevance_of_rows_together_is_that_of_rows_alone_in_reading_order(name: str, samples: int, last: bool) -> None:
    function = NORMS[name][0] if name in NORMS else {**POOLS, **DISTANCES}[name]
    together = crp_kit.CondAttribution(Around(function, last=last))(
        images(samples, last=last), ROWS, lrp_0(), pairing="product"
    )
    attribution = crp_kit.CondAttribution(Around(function))
    alone = [attribution(x[None], [row], lrp_0()) for x in images(samples, last=False) for row in ROWS]
    expected = torch.cat([one.input_relevance for one in alone])
    torch.testing.assert_close(together.input_relevance, expected, rtol=1e-8, atol=1e-10)


@FORMATS
@pytest.mark.parametrize("name", NORMS)
def test_relevance_of_a_norm_is_that_with_its_deviation_detached(name: str, last: bool) -> None:
    fused, spelled = NORMS[name]
    model = Around(fused, last=last)
    x = images(1, last=last)
    h = model.front(x).detach()
    leaf = h.clone().requires_grad_()
    weights = normal(*h.shape, seed=11)
    (slope,) = torch.autograd.grad((weights * spelled(leaf, h)).sum(), leaf)
    node = next(one.name for one in crp_kit.CondAttribution(model).graph(x) if one.name == name.split(maxsplit=1)[0])
    rules = LayerMapComposite([(nn.BatchNorm2d, Epsilon(1e-12)), *layer_map_base(1e-12), (Linear, Epsilon(1e-12))])
    found = crp_kit.CondAttribution(model)(x, {}, rules, start_layer=node, record_layer=["front"],
                                         init_rel=lambda value: weights * value)  # fmt: skip
    expected = h * slope
    torch.testing.assert_close(found.relevances["front"], expected, rtol=1e-7, atol=1e-9)


# ---------------------------------------------------------------------- backward passes in Python


class WithoutSetup(torch.autograd.Function):
    """Twice the sine, with a backward of its own and no ``setup_context``."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.factor = factor
        return factor * x.sin()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.factor * grads[0] * x.cos(), None


class ByNumpy(torch.autograd.Function):
    """Three times the input; its backward leaves torch."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 3 * x

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(grads[0].contiguous().numpy() * 3)


class Wrong(torch.autograd.Function):
    """The identity; its backward is three times that in a batch of rows."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        batched = torch._C._functorch.is_batchedtensor(grads[0])
        return grads[0] * (3 if batched else 1)


@torch.library.custom_op("crp_kit_tests::cubed", mutates_args=())
def cubed(x: torch.Tensor) -> torch.Tensor:
    """Return the third power, by NumPy."""
    return torch.from_numpy(x.numpy() ** 3)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(inputs[0])


cubed.register_autograd(lambda ctx, grad: 3 * grad * ctx.saved_tensors[0] ** 2, setup_context=_keep)

BOX = [[1.0, 0.5, 4.5, 5.0]]


def boxes(x: torch.Tensor) -> list[torch.Tensor]:
    return [torch.tensor(BOX, dtype=x.dtype)] * len(x)


PYTHON: dict[str, Function] = {
    "a function without setup_context": lambda x: WithoutSetup.apply(x, 2.0),
    "a function by NumPy": lambda x: ByNumpy.apply(x),
    "a function that is wrong in a batch": lambda x: Wrong.apply(x),
    "a custom operation": lambda x: cubed(x),
    "roi_align": lambda x: roi_align(x, boxes(x), (4, 4)),
    "ps_roi_align": lambda x: ps_roi_align(x[:, :4], boxes(x), 2).repeat(1, 6, 1, 1),
    "deform_conv2d": lambda x: deform_conv2d(x, 0.3 * x[:, :2].repeat(1, 9, 1, 1)[..., :4, :4], KERNEL),
}
KERNEL = normal(SIZE, SIZE, 3, 3, seed=9)


@QUIET
@SAMPLES
@pytest.mark.parametrize("name", PYTHON)
def test_what_has_its_backward_in_python_has_autograds_gradient(name: str, samples: int) -> None:
    x = images(samples, last=False)
    expected = gradients(Around(PYTHON[name]), x, ROWS)
    for count in (1, 3):
        found = plain(Around(PYTHON[name]), x, ROWS[:count])
        torch.testing.assert_close(found, expected[:count], rtol=1e-9, atol=1e-11)


@QUIET
@pytest.mark.parametrize("name", PYTHON)
def test_it_runs_under_a_composite_with_rows_together_as_alone(name: str) -> None:
    attribution, x = crp_kit.CondAttribution(Around(PYTHON[name])), images(1, last=False)
    rows: list[Any] = [{"front": [1], "y": [0]}, {"front": [], "y": [1]}, {"y": [1]}, {"front": [0, 2], "y": [2]}]
    together = attribution(x, rows, lrp_0()).input_relevance
    alone = torch.cat([attribution(x, [row], lrp_0()).input_relevance for row in rows])
    assert float(alone.abs().max()) > 0
    torch.testing.assert_close(together, alone, rtol=1e-8, atol=1e-10)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning", "ignore:.*torch.jit.script:DeprecationWarning")
def test_the_norm_of_a_module_whose_inside_cannot_be_seen_is_right_too() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inner = nn.Sequential(nn.Conv2d(SIZE, SIZE, 2), nn.InstanceNorm2d(SIZE), nn.ReLU(), nn.Conv2d(SIZE, SIZE, 2))
    x = images(1, last=False)
    expected = gradients(Around(inner.double().eval()), x, ROWS)
    found = plain(Around(torch.jit.script(inner)), x, ROWS)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


# ---------------------------------------------------------------------- the trial


class _Unit(nn.Module):
    """What a product is of, for the trial alone."""


def transposed(function: Function, x: torch.Tensor, of: nn.Module) -> Transposed:
    return Transposed(lambda value: [function(value)], [x], of=of)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Nothing was tried; return the list of what trials find."""
    monkeypatch.setattr(vjp, "_TRIED", {})
    outcomes: list[bool] = []
    batches = Transposed._batches
    monkeypatch.setattr(Transposed, "_batches", lambda self: outcomes.append(batches(self)) or outcomes[-1])
    return outcomes


@pytest.mark.parametrize(
    ("name", "batched"),
    [("cdist", False), ("cosine_similarity", True), ("max_pool1d", True), ("avg_pool2d", True)],
)
def test_an_operation_is_tried_once_and_never_for_one_row(trials: list[bool], name: str, batched: bool) -> None:
    function, x, of = {**POOLS, **DISTANCES}[name], normal(1, SIZE, 6, 6), _Unit()
    for repetition in range(3):
        product = transposed(function, x + repetition, of)
        (output,) = product.outputs
        product([output[None]])
        assert len(trials) == min(repetition, 1)
        rows = normal(4, *output.shape, seed=3)
        leaf = (x + repetition).requires_grad_()
        expected = [torch.autograd.grad(function(leaf), leaf, row)[0] for row in rows]
        torch.testing.assert_close(product([rows])[0], torch.stack(expected))
    assert trials == [batched]


def test_another_shape_type_or_option_is_tried_anew(trials: list[bool]) -> None:
    x = normal(1, SIZE, 6, 6)
    asked = [(2, x), (2, x.float()), (2, x[:, :3]), (3, x), (2, x)]
    for kernel, value in asked:
        product = transposed(nn.AvgPool2d(kernel), value, nn.AvgPool2d(kernel))
        product([torch.ones_like(product.outputs[0]).expand(2, *product.outputs[0].shape)])
    assert trials == [True] * 4


def test_memory_that_does_not_suffice_is_no_outcome_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    product = transposed(torch.sin, normal(2, 3), _Unit())

    def too_large(*_: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Transposed, "_together", too_large)
    monkeypatch.setattr(vjp, "_TRIED", {})
    with pytest.raises(torch.cuda.OutOfMemoryError):
        product([normal(2, 2, 3)])
    assert vjp._TRIED == {}


def test_outputs_with_different_numbers_of_rows_are_an_error() -> None:
    product = Transposed(lambda value: list(value.chunk(2)), [normal(4, 3)], of=_Unit())
    with pytest.raises(ValueError, match="too many values"):
        product([normal(2, 2, 3), normal(3, 2, 3)])


def test_what_fails_in_single_rows_too_is_an_error() -> None:
    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
            raise LookupError("no gradient here")

    with pytest.raises(LookupError, match="no gradient here"):
        transposed(Failing.apply, normal(2, 3), _Unit())([normal(2, 2, 3)])


# ---------------------------------------------------------------------- norms under hooks


class Untouched(Hook):  # type: ignore[misc]
    """A hook that leaves the gradient as it is."""

    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        return grad_input


MODULES: dict[str, Callable[[], nn.Module]] = {
    "instance_norm": lambda: nn.InstanceNorm2d(SIZE, affine=True),
    "instance_norm with statistics": lambda: nn.InstanceNorm2d(SIZE, track_running_stats=True),
    "group_norm": lambda: nn.GroupNorm(3, SIZE),
    "layer_norm": lambda: nn.LayerNorm([6, 6]),
    "rms_norm": lambda: nn.RMSNorm([6]),
    "local_response_norm": lambda: nn.LocalResponseNorm(3),
}


@FORMATS
@pytest.mark.parametrize("kind", ["rule", "hook"])
@pytest.mark.parametrize("name", MODULES)
def test_a_norm_under_a_hook_is_differentiated_rightly(name: str, kind: str, last: bool) -> None:
    """Under hooks that only hand the gradient on: that of autograd with maps in reading order."""
    plain_rule = BasicHook(gradient_mapper=lambda grad, outputs: grad, reducer=lambda inputs, grads: grads[0])
    rules = NameMapComposite([(["function"], plain_rule if kind == "rule" else Untouched())])

    def model(*, last: bool) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            norm = MODULES[name]()
            for parameter in norm.parameters():
                nn.init.normal_(parameter)
        return Around(norm, last=last)

    expected = gradients(model(last=False), images(1, last=False), ROWS)
    attribution = crp_kit.CondAttribution(model(last=last))
    found = attribution(images(1, last=last), ROWS, rules, init_rel=1.0).input_relevance
    torch.testing.assert_close(found, expected[:, 0], rtol=1e-9, atol=1e-11)
