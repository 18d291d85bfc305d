"""Operations of strangers, registered from outside with a rule: as exact as crp-kit's own, and gone at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from zennit.composites import LayerMapComposite
from zennit.layer import Sum
from zennit.rules import Epsilon, Norm, Pass
from zennit.types import Activation, Linear

import crp_kit as crp
from crp_kit.errors import CompositeError, CrpKitWarning, OperationError
from crp_kit.graph.registry import operations, spec_of
from crp_kit.propagation.plan_description import describe_plan

EXACT = 1e-10
"""LRP-0 is gradient times input: relative differences are the stabilizer's."""


@torch.library.custom_op("crp_kit_tests::snake", mutates_args=())
def snake(x: torch.Tensor, frequency: float) -> torch.Tensor:
    return x + torch.sin(frequency * x) ** 2 / frequency


@snake.register_fake
def _(x: torch.Tensor, frequency: float) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("crp_kit_tests::gated", mutates_args=())
def gated(signal: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    return signal * torch.sigmoid(gate)


def slope(x: torch.Tensor, frequency: float) -> torch.Tensor:
    return 1 + torch.sin(2 * frequency * x)


def by_contribution(relevance: torch.Tensor, output: torch.Tensor, x: torch.Tensor, frequency: float) -> torch.Tensor:
    """Gradient times input, of the relevance for one unit of the output: LRP-0 of a non-linear function."""
    return relevance / output * slope(x, frequency) * x


def unchanged(relevance: torch.Tensor, output: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return relevance


class Call(nn.Module):
    """A module that makes one call."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Snake(nn.Module):
    """A module that calls the operator."""

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return snake(x, self.frequency)


class Parallel(nn.Module):
    """Two branches, of which one goes through the operator."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(snake(self.left(x), 1.5) + self.right(x))


def composite() -> LayerMapComposite:
    return LayerMapComposite([(Activation, Pass()), (Sum, Norm(1e-14)), (Linear, Epsilon(1e-14))])


def net(call: nn.Module, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), call, nn.Linear(4, 2)).double().eval()


def data(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradient_times_input(model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, target: int) -> torch.Tensor:
    """The oracle of LRP-0, from a plain implementation."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, target].sum(), x)
    return (gradient * x).detach()


def plainly(model: nn.Sequential) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same network with the operator's formula in place of the operator."""
    first, call, last = model

    def run(x: torch.Tensor) -> torch.Tensor:
        hidden = first(x)
        return last(hidden + torch.sin(call.frequency * hidden) ** 2 / call.frequency)

    return run


def agree(first: torch.Tensor, second: torch.Tensor) -> bool:
    return bool((first - second).abs().max() <= EXACT * second.abs().max())


SNAKE = crp.OperationSpec("snake", "activation", functions=(snake,), step=by_contribution)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = dict(operations())
    yield
    assert dict(operations()) == before


class TestValues:
    """What a registered step gives."""

    def test_an_unknown_operator_becomes_exact_with_the_strangers_rule(self) -> None:
        model, x = net(Snake(1.5)), data()
        attribution = crp.CondAttribution(model)
        with crp.register_operation(SNAKE):
            attr = attribution(x, {"y": [1]}, composite())
        assert attr.gradient_nodes == ()
        assert agree(attr.input_relevance, gradient_times_input(plainly(model), x, 1))

    def test_without_it_relevance_passes_as_plain_gradient_and_a_warning_says_so(self) -> None:
        attribution = crp.CondAttribution(net(Call(torch.special.bessel_j1)))
        with pytest.warns(CrpKitWarning, match="special_bessel_j1"):
            attr = attribution(data(), {"y": [1]}, composite())
        assert attr.gradient_nodes == ("1",)

    @pytest.mark.parametrize(
        "call", [torch.sinc, torch.Tensor.sinc, lambda x: x.sinc_(), lambda x: torch.ops.aten.sinc.default(x)]
    )
    def test_a_name_means_the_function_the_method_and_its_in_place_form(self, call: Callable[..., Any]) -> None:
        model, x = net(Call(call)), data()
        with crp.register_operation(crp.OperationSpec("sinc", "activation", step=unchanged)):
            attr = crp.CondAttribution(model)(x, {"y": [0]}, composite(), record_layer=["0"])
        first, _, last = model
        hidden = torch.sinc(first(x))
        expected = last.weight[0] * hidden / last(hidden)[:, :1] * last(hidden)[:, :1]
        assert agree(attr.relevances["0"], expected.detach())

    def test_the_overload_and_the_packet_of_an_operator_are_the_operator(self) -> None:
        x = data()
        with crp.register_operation(SNAKE):
            for call in (
                lambda x: torch.ops.crp_kit_tests.snake(x, 0.5),
                lambda x: torch.ops.crp_kit_tests.snake.default(x, 0.5),
            ):
                attr = crp.CondAttribution(net(Call(call)))(x, {"y": [0]}, composite())
                assert agree(attr.input_relevance, gradient_times_input(plainly(net(Snake(0.5))), x, 0))

    def test_arguments_that_are_fixed_get_nothing(self) -> None:
        class Gated(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.signal, self.gate = nn.Linear(3, 4), nn.Linear(3, 4)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return gated(self.signal(x), self.gate(x))

        torch.manual_seed(0)
        model, x = Gated().double().eval(), data()
        spec = crp.OperationSpec(
            "gated", "product", functions=(gated,), parameters=("signal", "gate"), fixed=("gate",), step=unchanged
        )
        with crp.register_operation(spec):
            attr = crp.CondAttribution(model)(x, {"y": [2]}, composite(), record_layer=["signal"])
        gate = model.gate(x).sigmoid().detach()
        assert agree(attr.relevances["signal"][:, 2], (model.signal(x) * gate)[:, 2].detach())
        expected = gradient_times_input(lambda value: model.signal(value) * gate, x, 2)
        assert agree(attr.input_relevance, expected)

    def test_a_step_shares_relevance_among_several_arguments(self) -> None:
        class Joined(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.left, self.right = nn.Linear(3, 4), nn.Linear(3, 4)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.hypot(self.left(x), self.right(x))

        def by_squares(
            relevance: torch.Tensor, output: torch.Tensor, left: torch.Tensor, right: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            return relevance * left**2 / output**2, relevance * right**2 / output**2

        torch.manual_seed(0)
        model, x = Joined().double().eval(), data()
        with crp.register_operation(crp.OperationSpec("hypot", "sum", step=by_squares)):
            attr = crp.CondAttribution(model)(x, {"y": [3]}, composite(), record_layer=["left", "right"])
        output = model(x)[:, 3].detach()
        for name in ("left", "right"):
            expected = model.get_submodule(name)(x)[:, 3].detach() ** 2 / output
            assert agree(attr.relevances[name][:, 3], expected)

    def test_a_kind_alone_is_enough_where_crp_kit_has_a_rule_for_it(self) -> None:
        model, x = net(Call(torch.sinc)), data()
        with crp.register_operation(crp.OperationSpec("sinc", "activation")):
            attr = crp.CondAttribution(model)(x, {"y": [0]}, composite(), record_layer=["0", "1"])
        assert attr.gradient_nodes == ()
        assert torch.equal(attr.relevances["0"], attr.relevances["1"])

    def test_a_detached_operation_passes_nothing(self) -> None:
        class Scaled(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x + torch.sinc(x)

        model, x = net(Scaled()), data()
        with crp.register_operation(crp.OperationSpec("sinc", "detached")):
            attr = crp.CondAttribution(model)(x, {"y": [0]}, composite())
        first, _, last = model
        constant = torch.sinc(first(x)).detach()
        assert agree(attr.input_relevance, gradient_times_input(lambda value: last(first(value) + constant), x, 0))

    def test_under_plain_gradients_the_operators_own_gradient_counts(self) -> None:
        model, x = net(Call(torch.sinc)), data()
        with crp.register_operation(crp.OperationSpec("sinc", "activation", step=unchanged)):
            attr = crp.CondAttribution(model)(x, {"y": [0]}, None)
        value = x.clone().requires_grad_()
        output = model(value)[:, 0]
        (gradient,) = torch.autograd.grad(output.sum(), value)
        assert agree(attr.input_relevance, (gradient * output[:, None]).detach())

    def test_a_rule_of_the_composite_for_the_module_goes_first(self) -> None:
        model, x = net(Call(torch.sinc)), data()
        own = LayerMapComposite([(Linear, Epsilon(1e-14)), (Call, Epsilon(1e-14))])
        with crp.register_operation(crp.OperationSpec("sinc", "activation", step=unchanged)):
            attr = crp.CondAttribution(model)(x, {"y": [0]}, own)
        assert agree(attr.input_relevance, gradient_times_input(model, x, 0))


class TestBatches:
    """Batches and condition sets."""

    @pytest.mark.parametrize("batch_size", [1, 3, 8])
    def test_results_do_not_depend_on_the_batch_size(self, batch_size: int) -> None:
        model, x, conditions = net(Snake(1.5)), data(4), [{"y": [0]}, {"y": [1]}, {"0": [2], "y": [1]}]
        with crp.register_operation(SNAKE):
            attr = crp.CondAttribution(model)(x, conditions, composite(), pairing="product", batch_size=batch_size)
        rows = attr.input_relevance.reshape(4, 3, 3)  # (sample, condition set, feature)
        for target in (0, 1):
            assert agree(rows[:, target], gradient_times_input(plainly(model), x, target))
        first, _, last = model
        (hidden,) = first(x).detach().T[2:3]
        at_first = hidden * slope(hidden, 1.5) * last.weight[1, 2].detach()
        assert agree(rows[:, 2], x * first.weight[2].detach() * (at_first / hidden)[:, None])

    def test_a_step_that_mixes_samples_is_applied_to_each_alone(self) -> None:
        def by_mean(relevance: torch.Tensor, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return relevance * output / output.mean()

        model, x = net(Call(torch.sinc)), data(3)
        attribution = crp.CondAttribution(model)
        with crp.register_operation(crp.OperationSpec("sinc", "activation", step=by_mean)):
            alone = [attribution(x[i : i + 1], {"y": [0]}, composite()).input_relevance for i in range(3)]
            with pytest.warns(CrpKitWarning, match="by_mean depends on other samples"):
                together = attribution(x, {"y": [0]}, composite()).input_relevance
        assert agree(together, torch.cat(alone))

    def test_paths_beside_a_conditioned_node_are_excluded(self) -> None:
        torch.manual_seed(0)
        model, x = Parallel().double().eval(), data()
        with crp.register_operation(SNAKE):
            attr = crp.CondAttribution(model)(x, {"left": [1], "y": [0]}, composite(), record_layer=["left"])
        left = model.left(x).detach()
        at_left = left * slope(left, 1.5) * model.last.weight[0]  # gradient times value; the other branch adds nothing
        assert agree(attr.relevances["left"], at_left.detach())
        expected = x * model.left.weight[1] * (at_left / left)[:, 1:2]
        assert agree(attr.input_relevance, expected.detach())


class TestPlans:
    """What an engine knew before."""

    def test_plans_made_before_are_not_used_after_and_the_other_way_round(self) -> None:
        model, x = net(Call(torch.sinc)), data()
        attribution, rules = crp.CondAttribution(model), composite()

        def relevance() -> torch.Tensor:
            return attribution(x, {"y": [0]}, rules).input_relevance

        with pytest.warns(CrpKitWarning, match="sinc"):
            before = relevance()
        with crp.register_operation(crp.OperationSpec("sinc", "activation", step=unchanged)):
            within = relevance()
        with crp.register_operation(crp.OperationSpec("sinc", "activation", step=lambda r, z, x: 2 * r)):
            doubled = relevance()
        after = relevance()
        assert torch.equal(before, after)
        assert agree(doubled, 2 * within)
        assert not agree(before, within)

    def test_what_is_detached_is_found_out_anew(self) -> None:
        class Scaled(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x * torch.sinc(x)

        model, x = net(Scaled()), data()
        attribution, rules = crp.CondAttribution(model), composite()
        with crp.register_operation(crp.OperationSpec("sinc", "activation", step=unchanged)):
            shared = attribution(x, {"y": [0]}, rules, record_layer=["0"]).relevances["0"]
        with crp.register_operation(crp.OperationSpec("sinc", "detached")):
            alone = attribution(x, {"y": [0]}, rules, record_layer=["0"]).relevances["0"]
        first, scaled, last = model
        assert agree(alone, (scaled(first(x)) * last.weight[0]).detach())
        assert agree(shared, alone)  # halves for both factors, and both come from here

    def test_the_check_and_the_table_know_the_operation(self) -> None:
        model, x = net(Call(torch.sinc)), data()
        before = crp.check_model(model, x, composite())
        assert [finding.nodes for finding in before if finding.level == "error"] == [("1",)]
        with crp.register_operation(crp.OperationSpec("sinc", "activation", step=unchanged)):
            assert not [finding for finding in crp.check_model(model, x, composite()) if finding.level == "error"]
            row = next(row for row in crp.rule_table(model, x, composite()) if row.name == "1")
        assert (row.rule, row.quality) == ("step of sinc", "exact")

    def test_another_step_is_another_rule_in_fingerprints(self) -> None:
        def times(factor: float) -> Callable[..., torch.Tensor]:
            return lambda relevance, output, x: factor * relevance

        attribution, x = crp.CondAttribution(net(Call(torch.sinc))), data()
        texts = set()
        for factor in (1.0, 2.0, 2.0):
            with crp.register_operation(crp.OperationSpec("sinc", "activation", step=times(factor))):
                run = attribution.engine.run(x, composite())
                texts.add(next(rule for rule, nodes in describe_plan(run.graph, run.plan).items() if "1" in nodes))
        assert len(texts) == 2
        assert all(text.startswith("step of sinc(") for text in texts)

    def test_axes_move_as_those_of_the_operation_that_is_named(self) -> None:
        @torch.library.custom_op("crp_kit_tests::middle", mutates_args=())
        def middle(x: torch.Tensor, dim: int) -> torch.Tensor:
            return x.mean(dim)

        class Middle(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(2, 3, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return middle(self.conv(x), 2)

        def evenly(relevance: torch.Tensor, output: torch.Tensor, x: torch.Tensor, dim: int) -> torch.Tensor:
            return relevance.unsqueeze(3).expand(len(relevance), *x.shape) / x.shape[dim]

        model, x = Middle().double().eval(), torch.randn(2, 2, 6, 5, dtype=torch.float64)
        spec = crp.OperationSpec("middle", "affine", functions=(middle,), axes="mean", step=evenly)
        with crp.register_operation(spec):
            run = crp.CondAttribution(model).engine.run(x, composite())
        assert run.channel_axes[run.graph.output] == 1
        assert run.graph.node(run.graph.output).spec.step is evenly


class TestRegistry:
    """Names, errors, and the way back."""

    def test_removing_gives_back_what_was_known_before(self) -> None:
        known = spec_of("sin")
        registration = crp.register_operation(crp.OperationSpec("sin", "activation", step=unchanged))
        assert spec_of("sin").step is unchanged
        registration.remove()
        registration.remove()
        assert spec_of("sin") is known
        assert repr(registration) == "Registration('sin', 'activation')"

    def test_an_operator_does_not_take_the_calls_of_other_operators_of_its_name(self) -> None:
        model, x = net(Call(torch.sinc)), data()
        with (
            crp.register_operation(crp.OperationSpec("sinc_of_mine", "activation", functions=(snake,), step=unchanged)),
            pytest.warns(CrpKitWarning, match="sinc"),
        ):
            assert crp.CondAttribution(model)(x, {"y": [0]}, composite()).gradient_nodes == ("1",)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"name": "relu", "kind": "activation"}, "there is an operation 'relu' already"),
            ({"name": "__add__", "kind": "sum"}, "say 'add'"),
            ({"name": "", "kind": "sum"}, "the name of an operation"),
            ({"name": "sinc", "kind": "nonlinear"}, "kind is one of .*'activation'.*got 'nonlinear'"),
            ({"name": "sinc", "kind": "linear"}, "'linear' is for torch's own functions"),
            ({"name": "sinc", "kind": "activation", "step": 3}, "step is a function .*got 3"),
            ({"name": "sinc", "kind": "activation", "fixed": ("alpha",)}, "fixed is a tuple of names among the param"),
            ({"name": "sinc", "kind": "activation", "parameters": ("x",), "factors": "x"}, "factors is a tuple of"),
            ({"name": "sinc", "kind": "activation", "axes": "nothing"}, "axes names an operation .*got 'nothing'"),
            ({"name": "mine", "kind": "activation", "functions": (slope,)}, "'mine' are operators of torch"),
            ({"name": "mine", "kind": "activation", "functions": (nn.ReLU(),)}, "'mine' are operators of torch"),
        ],
    )
    def test_what_cannot_be_registered_is_refused_in_one_sentence(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(OperationError, match=message):
            crp.register_operation(crp.OperationSpec(**options))

    def test_a_name_and_a_function_can_be_taken_once(self) -> None:
        with crp.register_operation(SNAKE):
            with pytest.raises(OperationError, match="there is an operation 'snake' already"):
                crp.register_operation(SNAKE)
            with pytest.raises(OperationError, match="is the operation 'snake' already"):
                crp.register_operation(crp.OperationSpec("other", "activation", functions=(snake,)))

    @pytest.mark.parametrize("result", [lambda r: r.sum(-1), lambda r: (r, r), lambda r: None])
    def test_a_step_that_returns_something_else_is_an_error_that_names_the_shapes(self, result: Any) -> None:
        spec = crp.OperationSpec("sinc", "activation", step=lambda relevance, output, x: result(relevance))
        with (
            crp.register_operation(spec),
            pytest.raises(CompositeError, match=r"operation 'sinc' at '1' .*expected \[\(1, 1, 4\)\], got"),
        ):
            crp.CondAttribution(net(Call(torch.sinc)))(data(1), {"y": [0]}, composite())
