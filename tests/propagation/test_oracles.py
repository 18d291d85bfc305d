"""The test oracles agree with each other, with zennit, and with what a definition says."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marks import slow_except
from oracles import matrix_rules
from oracles.chains import inclusion_exclusion, maximal_chains, recorded_inclusion_exclusion, upstream
from oracles.detached import DetachedNonlinearities
from oracles.edge_cut import fx_edge_cut
from oracles.families import FAMILIES, QUICK, build
from oracles.fx_connections import connections
from oracles.linear_dag import Dag, LinearDag, brute_force, brute_force_recorded
from oracles.start import output_tensor, scalar_start
from oracles.strategies import dags
from oracles.two_pass import masked, two_pass
from oracles.whole_model import FORWARD_TOLERANCE, OracleRun, whole_model_relevance
from torch import nn
from zennit import rules as zennit_rules

ROUNDING = 1e-10  # float64 sums of terms up to some thousand times their total
PARALLEL = [f"inception4a.{branch}.conv" for branch in ("branch1", "branch2.1", "branch3.1", "branch4.1")]
CONDITIONED = {
    "one": ("resnet18", ["layer3.0.conv2"]),
    "parallel": ("resnet18", ["layer2.0.conv2", "layer2.0.downsample.0"]),
    "four branches": ("googlenet", PARALLEL),
    "series": ("resnet18", ["layer4.1.conv1", "layer2.0.conv1", "layer2.0.conv2"]),
    "mixture": ("resnet18", ["layer2.0.conv1", "layer2.0.conv2", "layer2.0.downsample.0", "layer4.1.conv2"]),
    "branches in series": (
        "googlenet",
        [
            "inception4a.branch1.conv",
            "inception4a.branch2.0.conv",
            "inception4a.branch2.1.conv",
            "inception4b.branch1.conv",
        ],
    ),
}


def soft_mask(shape: torch.Size | tuple[int, ...], seed: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Random factor in [0, 1) for each value, a third of them zero."""
    factor = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    factor = torch.where(factor < 1 / 3, 0.0, factor)
    return lambda relevance: relevance * factor


def selected(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """One-hot selection of a model's strongest output."""
    with torch.no_grad():
        return scalar_start(model(x))[1]


def soft_masks(model: nn.Module, x: torch.Tensor, names: list[str]) -> dict[str, Callable[..., torch.Tensor]]:
    """A random mask for each named module."""
    values = OracleRun(model, x, selected(model, x), names).values
    return {name: soft_mask(values[name].shape, seed) for seed, name in enumerate(names)}


class Constants(DetachedNonlinearities):
    """The detached network, with constants from a list; new ones are appended to it."""

    def __init__(self, known: list[torch.Tensor], *, replay: bool) -> None:
        super().__init__()
        self.known = known
        self.replayed = iter(known) if replay else None

    def constant(self, value: torch.Tensor) -> torch.Tensor:
        if self.replayed is not None:
            return next(self.replayed)
        self.known.append(value.detach().clone())
        return super().constant(value)


def relative(difference: torch.Tensor, reference: torch.Tensor) -> float:
    """Norm of a difference relative to that of a reference."""
    return float(difference.norm() / reference.norm())


class TestWholeModel:
    @pytest.mark.examples
    @pytest.mark.parametrize("name", slow_except(FAMILIES, QUICK))
    def test_the_gradient_is_that_of_the_forward_with_the_same_constants(self, name: str) -> None:
        model, x = build(name)
        selection = selected(model, x)
        step = 1e-7 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
        constants: list[torch.Tensor] = []
        outputs = []
        for replay, point in ((False, x), (True, x + step)):
            with Constants(constants, replay=replay):
                outputs.append(output_tensor(model(point.clone().requires_grad_().clone())).detach())
        run = OracleRun(model, x, selection)
        assert run.forward_error < FORWARD_TOLERANCE
        change = ((outputs[1] - outputs[0]) * selection).sum()
        expected = (run.relevance() / x * step).sum()
        torch.testing.assert_close(change, expected, rtol=1e-4, atol=0)  # the difference has lost seven or more digits

    @pytest.mark.examples
    @pytest.mark.parametrize("name", slow_except(FAMILIES, QUICK))
    def test_relevance_is_conserved_where_nothing_adds_a_constant(self, name: str) -> None:
        model, x = build(name, biases=False)
        assert not output_tensor(model(torch.zeros_like(x))).any()
        relevance, start = whole_model_relevance(model, x, selected(model, x))
        assert relevance.shape == x.shape
        torch.testing.assert_close(relevance.sum((1, 2, 3)), start, rtol=1e-9, atol=0)

    def test_a_function_without_a_rule_is_refused(self) -> None:
        class Product(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.cumprod(x, 1)

        x = torch.ones(1, 3)
        with pytest.raises(NotImplementedError, match="cumprod"):
            whole_model_relevance(Product(), x, x)

    @pytest.mark.slow
    def test_samples_of_a_batch_do_not_mix(self) -> None:
        model, x = build("mobilenet_v3_large")
        both = torch.cat([x, x.flip(3)])
        relevance, start = whole_model_relevance(model, both, selected(model, both))
        for index in range(2):
            one = both[index : index + 1]
            expected, value = whole_model_relevance(model, one, selected(model, one))
            assert relative(relevance[index : index + 1] - expected, expected) < ROUNDING
            torch.testing.assert_close(start[index : index + 1], value)

    @pytest.mark.slow
    def test_float32_models_are_explained_in_float64_and_stay_as_they_are(self) -> None:
        model, x = build("resnet18", dtype=torch.float32)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        relevance, _ = whole_model_relevance(model.requires_grad_(True), x, selected(model, x))
        exact, y = build("resnet18")
        expected, _ = whole_model_relevance(exact, y, selected(exact, y))
        assert relevance.dtype == torch.float64
        assert relative(relevance - expected, expected) < ROUNDING
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class InPlace(nn.Module):
    """A model that writes into its signal in every way, and what it computes without."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.in_place = in_place
        self.relu = nn.ReLU(inplace=in_place)
        self.first, self.second = (nn.Linear(6, 6, dtype=torch.float64).requires_grad_(False) for _ in range(2))
        for layer in (self.first, self.second):
            layer.weight.normal_(generator=generator)
            layer.bias.normal_(generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._writing(x) if self.in_place else self._plain(x)

    def _writing(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        alias = x
        gate = torch.sigmoid(x)
        self.relu(x)
        y = self.second(x)
        x += y
        x *= gate
        left, right = alias.chunk(2, 1)
        left += right
        right.mul_(left)
        out = torch.zeros_like(x)
        out[:, :3] = left
        out[:, 3:] = F.silu(right.clone(), inplace=True)
        out /= out.std(1, keepdim=True)
        return out + alias

    def _plain(self, x: torch.Tensor) -> torch.Tensor:
        z = self.first(x)
        x = self.relu(z)
        x = (x + self.second(x)) * torch.sigmoid(z)
        left, right = x.chunk(2, 1)
        left = left + right
        right = right * left
        out = torch.cat([left, F.silu(right)], 1)
        return out / out.std(1, keepdim=True) + torch.cat([left, right], 1)


class TestInPlaceModels:
    def test_relevance_is_that_of_the_model_without_in_place_statements(self) -> None:
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        selection = selected(InPlace(in_place=True), x)
        relevance, start = whole_model_relevance(InPlace(in_place=True), x, selection)
        expected, value = whole_model_relevance(InPlace(in_place=False), x, selection)
        torch.testing.assert_close(start, value)
        torch.testing.assert_close(relevance, expected)

    def test_a_mask_on_an_in_place_module_is_on_its_output(self) -> None:
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        selection = selected(InPlace(in_place=True), x)
        masks = {"relu": soft_mask((4, 6), 0)}
        relevance = masked(InPlace(in_place=True), x, selection, masks)
        expected = masked(InPlace(in_place=False), x, selection, masks)
        torch.testing.assert_close(relevance, expected)


class Attention(nn.Module):
    """Attention over six tokens, by torch's module or function with given options."""

    def __init__(self, call: dict[str, Any], **options: Any) -> None:
        super().__init__()
        self.call = call
        self.attention = None
        if options.pop("module", False):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.attention = nn.MultiheadAttention(8, 2, dtype=torch.float64, **options).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = x.tanh(), x.flip(1), x + 1
        if self.attention is not None:
            return self.attention(query, key, value, **self.call)[0]
        return F.scaled_dot_product_attention(query, key, value, **self.call)


LATER = torch.ones(6, 6, dtype=torch.bool).triu(1)
PADDED = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
SLOPE = torch.arange(36, dtype=torch.float64).reshape(6, 6) / 36


class TestAttention:
    @pytest.mark.parametrize(
        ("call", "options"),
        [
            ({}, {"module": True, "batch_first": True}),
            ({"attn_mask": LATER, "need_weights": False}, {"module": True, "batch_first": True}),
            ({"attn_mask": LATER, "is_causal": True, "need_weights": False}, {"module": True, "batch_first": True}),
            ({"key_padding_mask": PADDED}, {"module": True, "batch_first": True}),
            ({"attn_mask": SLOPE}, {"module": True, "batch_first": True, "bias": False}),
            ({}, {"module": True, "batch_first": True, "add_bias_kv": True, "add_zero_attn": True}),
            ({"average_attn_weights": False}, {"module": True, "batch_first": True, "kdim": 8, "vdim": 8}),
            ({"attn_mask": torch.zeros(2, 2, dtype=torch.float64)}, {"module": True}),
            ({}, {}),
            ({"is_causal": True}, {}),
            ({"attn_mask": ~LATER, "scale": 0.5}, {}),
            ({"attn_mask": SLOPE}, {}),
        ],
    )
    def test_the_forward_is_torchs_own_and_relevance_goes_through_the_values(
        self, call: dict[str, Any], options: dict[str, Any]
    ) -> None:
        model = Attention(call, **options).eval()
        x = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        selection = torch.zeros(2, 6, 8, dtype=torch.float64)
        selection[:, 2, 3] = 1
        run = OracleRun(model, x, selection)
        step = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        constants: list[torch.Tensor] = []
        outputs = []
        for replay, point in ((False, x), (True, x + step)):
            with Constants(constants, replay=replay):
                outputs.append(model(point.clone().requires_grad_()).detach())
        change = ((outputs[1] - outputs[0]) * selection).sum()
        torch.testing.assert_close((run.relevance() / x * step).sum(), change)


class TestPaths:
    @pytest.mark.slow
    @pytest.mark.parametrize("case", CONDITIONED)
    def test_inclusion_exclusion_is_the_edge_cut(self, case: str) -> None:
        family, names = CONDITIONED[case]
        model, x = build(family)
        selection, masks = selected(model, x), soft_masks(model, x, names)
        expected = inclusion_exclusion(model, x, selection, masks)
        assert expected.any()
        assert relative(fx_edge_cut(model, x, selection, masks) - expected, expected) < ROUNDING

    @pytest.mark.slow
    @pytest.mark.parametrize("case", ["one", "parallel", "four branches"])
    def test_two_passes_do_for_one_node_and_for_parallel_ones(self, case: str) -> None:
        family, names = CONDITIONED[case]
        model, x = build(family)
        selection, masks = selected(model, x), soft_masks(model, x, names)
        expected = inclusion_exclusion(model, x, selection, masks)
        assert relative(two_pass(model, x, selection, masks) - expected, expected) < ROUNDING

    @pytest.mark.slow
    def test_two_passes_are_wrong_for_a_series(self) -> None:
        family, names = CONDITIONED["series"]
        model, x = build(family)
        selection, masks = selected(model, x), soft_masks(model, x, names)
        expected = inclusion_exclusion(model, x, selection, masks)
        assert relative(two_pass(model, x, selection, masks) - expected, expected) > 0.01

    @pytest.mark.slow
    def test_the_order_is_that_of_the_network(self) -> None:
        model, x = build("resnet18")
        names = CONDITIONED["mixture"][1]
        order = upstream(model, x, selected(model, x), names)
        assert order == {
            "layer2.0.conv1": frozenset(),
            "layer2.0.conv2": {"layer2.0.conv1"},
            "layer2.0.downsample.0": frozenset(),
            "layer4.1.conv2": {"layer2.0.conv1", "layer2.0.conv2", "layer2.0.downsample.0"},
        }
        assert maximal_chains(order) == [
            ("layer4.1.conv2", "layer2.0.conv2", "layer2.0.conv1"),
            ("layer4.1.conv2", "layer2.0.downsample.0"),
        ]

    @pytest.mark.slow
    def test_a_node_inside_a_gate_is_refused(self) -> None:
        model, x = build("mobilenet_v3_large")
        gate = next(name for name, _ in model.named_modules() if name.endswith("fc1"))
        with pytest.raises(ValueError, match=gate):
            upstream(model, x, selected(model, x), [gate])

    @pytest.mark.slow
    def test_relevance_recorded_at_the_last_nodes_is_the_inputs_total(self) -> None:
        family, names = CONDITIONED["mixture"]
        model, x = build(family, biases=False)
        selection, masks = selected(model, x), soft_masks(model, x, names)
        last = ["layer2.0.conv1", "layer2.0.downsample.0"]
        recorded = recorded_inclusion_exclusion(model, x, selection, masks, last)
        total = sum(masks[name](recorded[name]).sum() for name in last)
        torch.testing.assert_close(inclusion_exclusion(model, x, selection, masks).sum(), total, rtol=1e-9, atol=0)


class TestLinearDags:
    @pytest.mark.slow
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(dag=dags(), data=st.data())
    def test_three_definitions_of_a_path_that_counts_agree(self, dag: Dag, data: st.DataObject) -> None:
        module = LinearDag(dag)
        nodes = [f"n{node}" for node in range(len(dag.sources))]
        names = data.draw(st.lists(st.sampled_from(nodes), unique=True, max_size=4))
        masks = {name: soft_mask((2, 3), seed) for seed, name in enumerate(names)}
        x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        selection = torch.zeros_like(x)
        selection[:, 1] = 1
        expected = brute_force(module, x, 1, masks)
        by_sum = inclusion_exclusion(module, x, selection, masks)
        by_cut = fx_edge_cut(module, x, selection, masks)
        torch.testing.assert_close(by_sum, expected, rtol=ROUNDING, atol=ROUNDING)
        torch.testing.assert_close(by_cut, expected, rtol=ROUNDING, atol=ROUNDING)
        recorded = recorded_inclusion_exclusion(module, x, selection, masks, nodes)
        for place in nodes:
            at_place = brute_force_recorded(module, x, 1, masks, place)
            torch.testing.assert_close(recorded[place], at_place, rtol=ROUNDING, atol=ROUNDING)

    def test_an_edge_may_be_right_for_one_path_and_wrong_for_another(self) -> None:
        # n4 and n5 both read n2, which reads n0 and n1. From n5 a path may go on to both; from n4 only to n0, since n3
        # is between n4 and n1.
        dag = Dag(((-1,), (-1,), (0, 1), (1,), (2, 3), (2,)), (False,) * 6)
        module = LinearDag(dag)
        masks = {name: soft_mask((1, 3), seed) for seed, name in enumerate(["n0", "n1", "n3", "n4", "n5"])}
        x = torch.randn(1, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        selection = torch.tensor([[1.0, 0, 0]], dtype=torch.float64)
        expected = brute_force(module, x, 0, masks)
        torch.testing.assert_close(fx_edge_cut(module, x, selection, masks), expected)
        torch.testing.assert_close(inclusion_exclusion(module, x, selection, masks), expected)

    def test_masks_in_series_multiply_and_a_by_pass_is_cut(self) -> None:
        module = LinearDag(Dag(((-1,), (-1, 0), (0, 1)), (False, False, False), shortcut=True))
        x = torch.ones(1, 3, dtype=torch.float64)
        masks = {"n0": lambda relevance: relevance * 0.5, "n1": lambda relevance: relevance * 0.25}
        first, second, third = (module.get_submodule(f"n{node}").weight for node in range(3))
        expected = x * (third @ second @ first)[2] * 0.125
        torch.testing.assert_close(brute_force(module, x, 2, masks), expected)


class TestConnections:
    @pytest.mark.slow
    def test_layers_of_a_residual_block(self) -> None:
        model, _ = build("resnet18")
        names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        found = connections(model, names)
        assert found["conv1"] == set()
        assert found["layer1.0.conv2"] == {"layer1.0.conv1"}
        assert found["layer1.1.conv1"] == {"conv1", "layer1.0.conv2"}
        assert found["layer2.0.downsample.0"] == {"conv1", "layer1.0.conv2", "layer1.1.conv2"}
        assert found["fc"] == {"layer4.0.conv2", "layer4.0.downsample.0", "layer4.1.conv2"}

    def test_a_gate_is_a_data_edge(self) -> None:
        model, _ = build("mobilenet_v3_large")
        block = "features.4.block"
        found = connections(model, [f"{block}.1.0", f"{block}.2.fc1", f"{block}.2.fc2", f"{block}.3.0"])
        assert found[f"{block}.2.fc1"] == {f"{block}.1.0"}
        assert found[f"{block}.3.0"] == {f"{block}.1.0", f"{block}.2.fc2"}

    @pytest.mark.slow
    def test_an_unknown_layer_is_refused(self) -> None:
        model, _ = build("resnet18")
        with pytest.raises(ValueError, match="layer9"):
            connections(model, ["layer9"])


LAYERS = {
    "linear": (nn.Linear(7, 5), (3, 7)),
    "linear without bias": (nn.Linear(7, 5, bias=False), (3, 7)),
    "strided": (nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 3, 6, 5)),
    "dilated groups": (nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), (2, 4, 5, 5)),
    "without bias": (nn.Conv2d(2, 3, 3, padding=1, bias=False), (2, 2, 4, 4)),
}
RULES = {
    "epsilon": (matrix_rules.epsilon, zennit_rules.Epsilon, {"epsilon": 0.1}),
    "zplus": (matrix_rules.zplus, zennit_rules.ZPlus, {}),
    "alpha_beta": (matrix_rules.alpha_beta, zennit_rules.AlphaBeta, {"alpha": 2.5, "beta": 1.5}),
    "gamma": (matrix_rules.gamma, zennit_rules.Gamma, {"gamma": 0.3}),
    "wsquare": (matrix_rules.wsquare, zennit_rules.WSquare, {}),
    "flat": (matrix_rules.flat, zennit_rules.Flat, {}),
    "zbox": (matrix_rules.zbox, zennit_rules.ZBox, {"low": -1.5, "high": 2.5}),
}


class TestMatrixRules:
    @pytest.mark.parametrize("zero_bias", [False, True])
    @pytest.mark.parametrize("layer_name", LAYERS)
    @pytest.mark.parametrize("rule_name", RULES)
    def test_a_rule_is_zennits(self, rule_name: str, layer_name: str, zero_bias: bool) -> None:
        rule, zennit_rule, options = RULES[rule_name]
        layer, shape = LAYERS[layer_name]
        layer = layer.double()
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        ours = {} if rule_name in ("flat", "zbox") else {"zero_bias": zero_bias}
        hook = zennit_rule(**options, zero_params=["bias"] if zero_bias else None)
        handles = hook.register(layer)
        output = layer(x)
        relevance = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        (expected,) = torch.autograd.grad(output, x, relevance)
        handles.remove()
        relevance_of_input = matrix_rules.on_layer(rule(**options, **ours))(layer, x, relevance)
        torch.testing.assert_close(relevance_of_input, expected, rtol=1e-12, atol=1e-12)

    def test_epsilon_conserves_without_bias_and_stabilizer(self) -> None:
        layer, x = nn.Conv2d(2, 3, 3, bias=False).double(), torch.rand(1, 2, 5, 5, dtype=torch.float64)
        relevance = torch.rand(1, 3, 3, 3, dtype=torch.float64)
        total = matrix_rules.on_layer(matrix_rules.epsilon(0.0))(layer, x, relevance).sum()
        torch.testing.assert_close(total, relevance.sum())
