"""Results do not depend on which samples share a batch, also under rules that look at everything they see."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from zennit import rules as zennit_rules
from zennit.composites import LayerMapComposite, layer_map_base
from zennit.core import BasicHook, Hook, Stabilizer
from zennit.layer import Sum
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, WSquare, ZBox, ZPlus
from zennit.types import AvgPool, Linear

import crp_kit
from crp_kit.propagation import sample_dependence as samples
from crp_kit.rules.attnlrp import AttnLRP
from crp_kit.rules.presets import preset

Scale = Callable[[torch.Tensor], torch.Tensor]
SCALES: dict[str, Scale] = {
    "mean": lambda z: z.abs().mean(),
    "maximum": lambda z: z.abs().amax(),
    "minimum": lambda z: z.amin(),
    "sum": lambda z: z.abs().sum(),
    "norm": torch.linalg.vector_norm,
    "deviation": lambda z: z.std(),
    "quantile": lambda z: z.abs().flatten().quantile(0.7),
    "channel": lambda z: z.abs().mean(0, keepdim=True),
    "sample before": lambda z: z.abs().roll(1, 0),
    "rank": lambda z: z.argsort(0).argsort(0).to(z),
}


def in_mapper(scale: Scale) -> BasicHook:
    return BasicHook(
        gradient_mapper=lambda relevance, outputs: relevance / (outputs[0].abs() + scale(outputs[0]).abs() + 0.1),
        reducer=lambda inputs, gradients: inputs[0] * gradients[0],
    )


def in_reducer(scale: Scale) -> BasicHook:
    return BasicHook(
        gradient_mapper=lambda relevance, outputs: relevance / (outputs[0].abs() + 0.1),
        reducer=lambda inputs, gradients: inputs[0] * gradients[0] / (scale(inputs[0]).abs() + 0.1),
    )


def in_input(scale: Scale) -> BasicHook:
    return BasicHook(
        input_modifiers=[lambda x: x + scale(x)],
        gradient_mapper=lambda relevance, outputs: relevance / (outputs[0].abs() + 0.1),
        reducer=lambda inputs, gradients: inputs[0] * gradients[0],
    )


def of_relevance(scale: Scale) -> BasicHook:
    """A rule that is not linear in relevance."""
    return BasicHook(
        gradient_mapper=lambda relevance, outputs: relevance / (1 + scale(relevance).abs()),
        reducer=lambda inputs, gradients: inputs[0] * gradients[0],
    )


class Normalised(Hook):  # type: ignore[misc]
    """A hook that normalises the gradient by its largest value."""

    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        return (grad_input[0] / (1 + grad_input[0].abs().max()),)


class Halved(Hook):  # type: ignore[misc]
    """A hook that looks at one element at a time."""

    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        return (grad_input[0] / 2,)


PLACES = {"mapper": in_mapper, "reducer": in_reducer, "input": in_input, "relevance": of_relevance}
SEEING: dict[str, Callable[[], Hook]] = {
    **{f"{name} in the {place}": lambda s=scale, m=make: m(s) for name, scale in SCALES.items()
       for place, make in PLACES.items() if place == "mapper" or name in ("maximum", "sum")},
    "a hook": Normalised,
    "epsilon with a stabilizer of one's own": lambda: Epsilon(SCALES["mean"]),
    "zennit's stabilizer over the batch": lambda: Epsilon(Stabilizer(0.1, norm_scale=True, dim=(0, 1))),
}  # fmt: skip
ALONE: dict[str, Callable[[], Hook]] = {
    "epsilon": Epsilon,
    "gamma": Gamma,
    "z+": ZPlus,
    "alpha beta": AlphaBeta,
    "flat": Flat,
    "w square": WSquare,
    "z box": lambda: ZBox(-3.0, 3.0),
    "clipping stabilizer": lambda: Epsilon(Stabilizer(0.1, clip=True)),
    "stabilizer over a sample": lambda: Epsilon(Stabilizer(0.1, norm_scale=True)),
    "elements in the mapper": lambda: in_mapper(torch.abs),
    "a hook": Halved,
}


class Net(nn.Module):
    """Convolutions, a residual sum, pooling and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.third, self.last = nn.Linear(4, 5), nn.Linear(5, 3)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, (batch, class)."""
        h = self.first(x).relu()
        h = (h + self.second(h).relu()).mean((2, 3))
        return self.last(self.third(h).relu())  # type: ignore[no-any-return]


def images(count: int = 4) -> torch.Tensor:
    scales = torch.tensor([1.0, 5.0, 0.2, 2.0, 0.7])[:count].view(-1, 1, 1, 1)
    return (torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(2)) * scales).double()


def rules(linear: Hook) -> LayerMapComposite:
    return LayerMapComposite([(Linear, linear), *layer_map_base()])


def by_batch_size(model: nn.Module, composite: Any, x: torch.Tensor, **options: Any) -> dict[int, torch.Tensor]:
    conditions = [{"y": [sample % 2]} for sample in range(len(x))]
    attribution = crp_kit.CondAttribution(model)
    return {
        size: attribution(x, conditions, composite, pairing="zip", batch_size=size, **options).input_relevance
        for size in (1, 2, 3, len(x))
    }


def agree(found: dict[int, torch.Tensor], tolerance: float = 1e-10) -> None:
    largest = found[1].flatten(1).abs().amax(1)
    assert bool((largest > 0).any())
    for rows in found.values():
        assert bool(((rows - found[1]).flatten(1).abs().amax(1) <= tolerance * largest).all())


@pytest.mark.parametrize("name", SEEING)
def test_a_rule_that_sees_the_batch_is_applied_to_each_sample_alone_and_named_once(name: str) -> None:
    rule = SEEING[name]()
    attribution = crp_kit.CondAttribution(Net().double())
    conditions = [{"y": [0]}, {"first": [1], "y": [1]}]
    with pytest.warns(crp_kit.CrpKitWarning, match=f"the rule {type(rule).__name__} depends on other samples") as said:
        whole = [attribution(images(), conditions, rules(rule), pairing="product").input_relevance for _ in range(2)]
    assert len(said) == 1
    alone = [attribution(one[None], conditions, rules(rule), pairing="product").input_relevance for one in images()]
    for rows in whole:
        torch.testing.assert_close(rows, torch.cat(alone), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the rule .* depends on other samples")
@pytest.mark.parametrize("name", ["mean in the mapper", "maximum in the reducer", "a hook"])
def test_results_do_not_depend_on_the_batch_size_under_such_rules(name: str) -> None:
    agree(by_batch_size(Net().double(), rules(SEEING[name]()), images(5)))
    agree(by_batch_size(Net(), rules(SEEING[name]()), images(5).float()), tolerance=1e-5)


@pytest.mark.parametrize("name", ALONE)
def test_rules_that_look_at_one_sample_run_on_all_at_once_and_nothing_is_said(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agree(by_batch_size(Net().double(), rules(ALONE[name]()), images(5)))
        agree(by_batch_size(Net(), rules(ALONE[name]()), images(5).float()), tolerance=1e-5)


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box", "attnlrp", None])
def test_results_do_not_depend_on_the_batch_size_under_presets(composite: Any) -> None:
    composite = preset(composite, low=-9.0, high=9.0) if composite == "epsilon_gamma_box" else composite
    agree(by_batch_size(Net().double(), composite, images(5)))


@pytest.mark.parametrize("kind", ["sum", "pooling"])
def test_a_rule_of_sums_or_poolings_that_sees_the_batch_is_applied_to_each_sample_alone(kind: str) -> None:
    norm = Norm(stabilizer=SCALES["maximum"])
    composite = LayerMapComposite([((Sum if kind == "sum" else AvgPool), norm), (Linear, Epsilon())])

    class Pooled(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x).relu()
            h = functional.adaptive_avg_pool2d(h + self.second(h), 1).flatten(1)
            return self.last(self.third(h).relu())  # type: ignore[no-any-return]

    with pytest.warns(crp_kit.CrpKitWarning, match="the rule Norm depends on other samples"):
        found = by_batch_size(Pooled().double(), composite, images(5))
    agree(found)


def test_so_is_the_uniform_rule_of_attention() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.qkv, self.head = nn.Linear(4, 12), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(x.flatten(2)[:, :, :4]).unflatten(-1, (3, 1, 4)).permute(2, 0, 3, 1, 4)
            return self.head(functional.scaled_dot_product_attention(q, k, v).mean((1, 2)))  # type: ignore[no-any-return]

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = by_batch_size(Tokens().double().eval(), AttnLRP(epsilon=lambda z: z + z.abs().mean()), images(5))
    assert sum("the rule Uniform depends on other samples" in str(one.message) for one in said) == 1
    agree(found)


@pytest.mark.filterwarnings("ignore:the rule .* depends on other samples")
@pytest.mark.parametrize("layout", ["second axis", "windows", "pairs of samples"])
def test_samples_are_split_along_the_axis_that_they_have(layout: str) -> None:
    class Moved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.inner, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = x.flatten(1, 2)  # (sample, 15, 5)
            if layout == "second axis":
                return self.head(self.inner(h.transpose(0, 1)).relu().mean(0))  # type: ignore[no-any-return]
            if layout == "windows":
                windows = self.inner(h.reshape(-1, 5, 5)).relu()
                return self.head(windows.reshape(len(x), 15, 5).mean(1))  # type: ignore[no-any-return]
            mixed = self.inner(h.transpose(0, 1).reshape(-1, 5)).relu()
            return self.head(mixed.reshape(15, len(x), 5).mean(0))  # type: ignore[no-any-return]

    def run() -> dict[int, torch.Tensor]:
        return by_batch_size(Moved().double().eval(), rules(in_mapper(SCALES["mean"])), images(4))

    if layout == "pairs of samples":
        with pytest.raises(crp_kit.errors.CompositeError, match=r"not known along which axis .*batch_size=1"):
            run()
    else:
        agree(run())


def test_a_rule_is_tried_once_for_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[torch.Size] = []
    original = samples._depends_on_others

    def noted(make: Any, x: torch.Tensor, where: samples.Samples) -> bool | None:
        tried.append(x.shape)
        return original(make, x, where)

    monkeypatch.setattr(samples, "_depends_on_others", noted)
    attribution, composite = crp_kit.CondAttribution(Net().double()), rules(in_mapper(torch.abs))
    for _ in range(3):
        attribution(images(), [{"y": [0]}], composite)
    assert len(tried) == len(set(tried)) == 4
    attribution(images(1), [{"y": [0]}], composite)
    assert len(tried) == 4


@pytest.mark.parametrize("linear", [Epsilon, Gamma, zennit_rules.ZPlus])
def test_zennits_own_rules_are_not_tried(monkeypatch: pytest.MonkeyPatch, linear: type[Hook]) -> None:
    monkeypatch.setattr(samples, "_depends_on_others", lambda *_: pytest.fail("tried"))
    crp_kit.CondAttribution(Net())(images().float(), [{"y": [0]}], rules(linear()))


def test_it_is_said_where_a_rule_could_not_be_tried() -> None:
    class Four(Hook):  # type: ignore[misc]
        def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
            if len(grad_output[0]) != 4:
                raise LookupError("four samples")
            return (grad_input[0],)

    with pytest.warns(crp_kit.CrpKitWarning, match="the rule Four depends on other samples of a batch could not be"):
        crp_kit.CondAttribution(Net())(images().float(), [{"y": [0]}], rules(Four()))
