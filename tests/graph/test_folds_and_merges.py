"""Every fold of a BatchNorm and every merge of branches against the matrix form, in float64, on small random networks.

Which BatchNorm is one affine map with which layer is written down in each test; the oracle multiplies the matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import matrix_graph
from oracles import matrix_rules as oracle
from oracles.matrix_graph import INPUT, MatrixOracle, Network, Node
from torch import nn
from zennit import rules
from zennit.composites import NameLayerMapComposite, layer_map_base
from zennit.core import Composite, Hook
from zennit.types import Linear

from crp_kit import CondAttribution
from crp_kit.attribution.conservation import Conservation
from crp_kit.errors import ModelError

ROUNDING = 1e-10
"""Of the largest: float64 rounding, 1e-16, times the largest factors that denominators near the stabilizer make."""
QUICK = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # of its speed

Pair: TypeAlias = tuple[Callable[[], Hook], oracle.Rule]
RULES: dict[str, Pair] = {
    "epsilon": (rules.Epsilon, oracle.epsilon()),
    "epsilon 0.25": (lambda: rules.Epsilon(0.25), oracle.epsilon(0.25)),
    "zplus": (rules.ZPlus, oracle.zplus()),
    "alpha beta": (lambda: rules.AlphaBeta(2, 1), oracle.alpha_beta(2, 1)),
    "gamma": (lambda: rules.Gamma(0.25), oracle.gamma(0.25)),
    "flat": (rules.Flat, oracle.flat()),
    "wsquare": (rules.WSquare, oracle.wsquare()),
    "zbox": (lambda: rules.ZBox(-4.0, 3.5), oracle.zbox(-4.0, 3.5)),
}


# ---------------------------------------------------------------------- random networks


class Maker:
    """Makes the description of a network node by node, with drawn geometry and random weights."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.random = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
        self.nodes: list[Node] = []
        self.values: dict[str, torch.Tensor] = {}

    def number(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def choice(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.random, dtype=torch.float64)

    def input(self, *shape: int) -> str:
        """An input of one to three samples."""
        self.values[INPUT] = self.normal(self.number(1, 3), *shape)
        return INPUT

    def image(self, dims: int = 2, *, channels: int | None = None, smallest: int = 1) -> str:
        """An input of one to four channels, as large as leaves the matrices small."""
        largest = {1: 6, 2: 5, 3: 3}[dims]
        sizes = [self.number(smallest, largest) for _ in range(dims)]
        return self.input(channels or self.number(1, 4), *sizes)

    def node(self, op: str, inputs: str | Sequence[str], name: str = "", **options: Any) -> str:
        """A node without parameters; its name."""
        several = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        return self.add(Node(name or f"{op}{len(self.nodes)}", op, several, options))

    def add(self, node: Node, module: nn.Module | None = None) -> str:
        built = node.built() if module is None else module
        self.nodes.append(node)
        self.values[node.name] = built(*(self.values[name] for name in node.inputs))
        return node.name

    def again(self, name: str, inputs: str, times: int = 1) -> str:
        """A further call of a module."""
        first = next(node for node in self.nodes if node.name == name)
        return self.add(Node(f"{name}_{times}", first.op, (inputs,), module=name), first.built())

    # -- layers with parameters

    def linear(self, source: str, name: str = "linear") -> str:
        inputs, outputs, bias = self.values[source].shape[-1], self.number(1, 4), self.choice([True, False])
        state = {"weight": self.normal(outputs, inputs)} | ({"bias": self.normal(outputs)} if bias else {})
        options = {"in_features": inputs, "out_features": outputs, "bias": bias}
        return self.add(Node(name, "linear", (source,), options, state))

    def conv(self, source: str, name: str = "conv", *, outputs: int | None = None, **fixed: Any) -> str:
        """A convolution of any geometry that fits; `fixed` are options that shall not be drawn."""
        _, inputs, *sizes = self.values[source].shape
        possible = [g for g in range(1, inputs + 1) if inputs % g == 0 and (outputs or g) % g == 0]
        groups = fixed.get("groups") or self.choice(possible)
        outputs = outputs or groups * self.number(1, max(1, 4 // groups))
        options = {"in_channels": inputs, "out_channels": outputs, "groups": groups, "bias": self.choice([True, False])}
        options |= {**self._geometry(sizes), **fixed}
        state = self._weights(outputs, inputs // groups, options)
        return self.add(Node(name, f"conv{len(sizes)}d", (source,), options, state))

    def _geometry(self, sizes: Sequence[int]) -> dict[str, Any]:
        kernel = tuple(self.number(1, 3) for _ in sizes)
        dilation = tuple(self.number(1, 2) for _ in sizes)
        if self.choice([False, False, True]):
            return {"kernel_size": kernel, "dilation": dilation, "padding": "same"}
        least = [
            max(0, math.ceil((d * (k - 1) + 1 - size) / 2)) for k, d, size in zip(kernel, dilation, sizes, strict=True)
        ]
        padding = tuple(self.number(one, max(one, 2 if len(sizes) < 3 else 1)) for one in least)
        stride = tuple(self.number(1, 2) for _ in sizes)
        return {"kernel_size": kernel, "dilation": dilation, "padding": padding, "stride": stride}

    def _weights(self, first: int, second: int, options: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        weight = self.normal(first, second, *options["kernel_size"])
        return {"weight": weight} | ({"bias": self.normal(options["out_channels"])} if options["bias"] else {})

    def conv_transpose(self, source: str, name: str = "conv") -> str:
        _, inputs, *sizes = self.values[source].shape
        groups = self.choice([g for g in range(1, inputs + 1) if inputs % g == 0])
        outputs = groups * self.number(1, 2)
        stride = tuple(self.number(1, 2) for _ in sizes)
        options = {
            "in_channels": inputs, "out_channels": outputs, "groups": groups, "bias": self.choice([True, False]),
            "kernel_size": tuple(self.number(1, 3) for _ in sizes), "stride": stride,
            "output_padding": tuple(self.number(0, one - 1) for one in stride),
        }  # fmt: skip
        state = self._weights(inputs, outputs // groups, options)
        return self.add(Node(name, f"conv_transpose{len(sizes)}d", (source,), options, state))

    def bn(self, source: str, name: str = "bn") -> str:
        """A BatchNorm with random statistics; its factors have either sign, and one of them may be zero."""
        shape = self.values[source].shape
        channels, affine = shape[1], self.choice([True, False])
        options = {"num_features": channels, "eps": self.choice([1e-5, 0.1]), "affine": affine}
        state = {"running_mean": self.normal(channels), "running_var": 0.05 + self.normal(channels) ** 2}
        if affine:
            state |= {"weight": self.normal(channels), "bias": self.normal(channels)}
            if self.choice([False, True]):
                state["weight"][self.number(0, channels - 1)] = 0
        return self.add(Node(name, f"batch_norm{max(1, len(shape) - 2)}d", (source,), options, state))

    def norm(self, op: str, source: str, name: str = "norm", **options: Any) -> str:
        """A norm with random parameters, if its options give it any."""
        node = Node(name, op, (source,), options)
        state = {key: self.normal(*value.shape) for key, value in node.built().named_parameters()}
        state |= {
            key: self.normal(*value.shape) ** 2 + 0.05
            for key, value in node.built().named_buffers()
            if value.is_floating_point()
        }
        return self.add(Node(name, op, (source,), options, state))

    def network(self, **folds: Mapping[str, str]) -> Network:
        return Network(tuple(self.nodes), **folds)


# ---------------------------------------------------------------------- the comparison


def composite_of(rule: str, named: Mapping[str, str], stabilizer: float) -> Composite:
    """One rule for linear layers, others by name, zennit's usual ones for everything else."""
    by_name = [((name,), RULES[one][0]()) for name, one in named.items()]
    return NameLayerMapComposite(by_name, [(Linear, RULES[rule][0]()), *layer_map_base(stabilizer)])


def agrees(
    maker: Maker,
    *,
    behind: Mapping[str, str] | None = None,
    before: Mapping[str, str] | None = None,
    rule: str | None = None,
    named: Mapping[str, str] | None = None,
) -> MatrixOracle:
    """Assert that relevance of the input and of every node is the oracle's; return the oracle."""
    network = maker.network(behind=behind or {}, before=before or {})
    rule, named, stabilizer = rule or maker.choice(list(RULES)), named or {}, maker.choice([1e-6, 0.1])
    x, output = maker.values[INPUT], maker.values[network.output]
    start = maker.normal(*output.shape)
    wanted = MatrixOracle(
        network,
        x,
        start,
        rule=RULES[rule][1],
        rules={name: RULES[one][1] for name, one in named.items()},
        stabilizer=stabilizer,
    )
    names = [name for name in wanted.relevance if name != INPUT]
    attribution, composite = CondAttribution(network.module()), composite_of(rule, named, stabilizer)
    found = attribution(x, {}, composite, init_rel=lambda value: start, record_layer=names, diagnose=len(x) == 1)
    close(found.input_relevance, wanted.relevance[INPUT], start, f"input under {rule}")
    for name in names:
        close(found.relevances[name], wanted.relevance[name], start, f"{name} under {rule}")
    conserved(wanted, start)
    if found.conservation is not None:
        booked(found.conservation[0], wanted)
    return wanted


def booked(found: Conservation, wanted: MatrixOracle) -> None:
    """Assert that the books say what biases and stabilizers take at each node, and that nothing else is missing."""
    scale = 1 + max(float(one.abs().sum()) for one in wanted.relevance.values())
    for node in found.nodes:
        constants, stabilizer = wanted.absorbed.get(node.name, (0.0, 0.0))
        taken = (node.constants, node.stabilizer, node.other, node.excluded, node.masked)
        for part, share in zip(taken, (constants, stabilizer, 0.0, 0.0, 0.0), strict=True):
            assert abs(part - share) < 1e-9 * (scale + abs(share)), node.name


def close(found: torch.Tensor, wanted: torch.Tensor, start: torch.Tensor, where: str) -> None:
    """Assert equality up to rounding of the largest value; where all are zero, of the start."""
    assert found.shape == wanted.shape, where
    scale = float(wanted.abs().max()) or float(start.abs().max())
    assert float((found - wanted).abs().max()) <= ROUNDING * scale, where


def conserved(wanted: MatrixOracle, start: torch.Tensor) -> None:
    """Assert that the oracle's input relevance and what it says was absorbed are what it began with."""
    absorbed = [part for shares in wanted.absorbed.values() for part in shares]
    parts = [float(wanted.relevance[INPUT].sum()), *absorbed]
    scale = 1 + max(float(one.abs().sum()) for one in wanted.relevance.values()) + max(map(abs, absorbed))
    assert abs(math.fsum(parts) - float(start.sum())) < ROUNDING * scale


# ---------------------------------------------------------------------- BatchNorm behind a layer


@settings(QUICK, max_examples=4)
@given(st.data())
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_convolution_and_the_batch_norm_behind_it_are_one_affine_map(
    dims: int, rule: str, data: st.DataObject
) -> None:
    maker = Maker(data.draw)
    maker.bn(maker.conv(maker.image(dims)))
    agrees(maker, behind={"conv": "bn"}, rule=rule)


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_linear_layer_and_the_batch_norm_behind_it_are_one_affine_map(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.linear(maker.bn(maker.linear(maker.input(maker.number(1, 5)))), "last")
    agrees(maker, behind={"linear": "bn"}, rule=maker.choice(list(RULES)))


@pytest.mark.slow
@QUICK
@given(st.data())
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_transposed_convolution_and_the_batch_norm_behind_it_are_one_affine_map(
    dims: int, data: st.DataObject
) -> None:
    maker = Maker(data.draw)
    maker.bn(maker.conv_transpose(maker.image(dims)))
    agrees(maker, behind={"conv": "bn"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_dropout_between_a_layer_and_its_batch_norm_changes_nothing(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    dropped = maker.node("dropout", maker.conv(maker.image()))
    maker.conv(maker.node("relu", maker.bn(dropped)), "last")
    agrees(maker, behind={"conv": "bn"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_zeros_padded_to_one_side_in_front_of_a_layer_and_its_batch_norm_keep_their_share(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    padded = maker.node("pad", maker.image(), pad=[maker.number(0, 2) for _ in range(4)], value=0.0)
    maker.bn(maker.conv(padded))
    agrees(maker, behind={"conv": "bn"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_of_two_batch_norms_behind_a_layer_the_first_belongs_to_it(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.bn(maker.bn(maker.conv(maker.image())), "second")
    agrees(maker, behind={"conv": "bn"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_of_two_batch_norms_between_layers_each_belongs_to_its_neighbour(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.conv(maker.bn(maker.bn(maker.conv(maker.image())), "second"), "last")
    agrees(maker, behind={"conv": "bn"}, before={"last": "second"}, named={"last": maker.choice(list(RULES))})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_between_two_layers_belongs_to_the_first(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.conv(maker.bn(maker.conv(maker.image())), "last")
    agrees(maker, behind={"conv": "bn"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_that_runs_behind_two_layers_belongs_to_each(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    channels, x = maker.number(1, 3), maker.image()
    first = maker.bn(maker.conv(x, outputs=channels))
    second = maker.again("bn", maker.conv(x, "other", outputs=channels))
    maker.node("cat", [maker.node("flatten", one, start_dim=1) for one in (first, second)], dim=1)
    agrees(maker, behind={"conv": "bn", "other": "bn_1"}, named={"other": maker.choice(list(RULES))})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_layer_that_runs_twice_is_one_map_with_each_of_the_batch_norms_behind_it(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    channels = maker.number(1, 3)
    x = maker.image(channels=channels)
    hidden = maker.node("relu", maker.bn(maker.conv(x, outputs=channels, padding="same", stride=1)))
    maker.bn(maker.again("conv", hidden), "second")
    agrees(maker, behind={"conv": "bn", "conv_1": "second"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_is_on_its_own_where_the_layer_in_front_is_read_elsewhere(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    conv = maker.conv(maker.image())
    maker.node("add", (maker.node("relu", maker.bn(conv)), conv))
    agrees(maker)


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_whose_layer_in_front_is_read_elsewhere_belongs_to_the_layer_behind(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    conv = maker.conv(maker.image())
    last = maker.conv(maker.bn(conv), "last")
    maker.node("cat", [maker.node("flatten", one, start_dim=1) for one in (last, conv)], dim=1)
    agrees(maker, before={"last": "bn"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_over_positions_behind_a_linear_layer_is_on_its_own(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    x = maker.input(maker.number(1, 4), maker.number(2, 5))
    maker.linear(maker.node("relu", maker.bn(maker.linear(x))), "last")
    agrees(maker)


# ---------------------------------------------------------------------- BatchNorm in front of a layer


@settings(QUICK, max_examples=4)
@given(st.data())
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_batch_norm_at_the_input_and_the_convolution_that_reads_it_are_one_affine_map(
    dims: int, rule: str, data: st.DataObject
) -> None:
    maker = Maker(data.draw)
    maker.conv(maker.bn(maker.image(dims)))
    agrees(maker, before={"conv": "bn"}, rule=rule)


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_and_the_linear_layer_that_reads_it_are_one_affine_map(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    hidden = maker.node("relu", maker.linear(maker.input(maker.number(1, 5))))
    maker.linear(maker.bn(hidden), "last")
    agrees(maker, before={"last": "bn"}, named={"last": maker.choice(list(RULES))})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_layer_between_two_batch_norms_is_one_affine_map_with_both(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.bn(maker.conv(maker.bn(maker.image())), "second")
    agrees(maker, before={"conv": "bn"}, behind={"conv": "second"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_each_group_of_a_convolution_has_the_factors_of_its_own_channels(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    groups = maker.number(2, 3)
    x = maker.image(channels=2 * groups)
    maker.bn(maker.conv(maker.bn(x), outputs=2 * groups, groups=groups), "second")
    agrees(maker, before={"conv": "bn"}, behind={"conv": "second"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_of_two_batch_norms_in_front_of_a_layer_the_second_belongs_to_it(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.conv(maker.bn(maker.bn(maker.image()), "second"))
    agrees(maker, before={"conv": "second"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_that_several_layers_read_belongs_to_each(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    norm = maker.bn(maker.node("relu", maker.conv(maker.image(), "stem")))
    names = ["left", "middle", "right"][: maker.number(2, 3)]
    flattened = [maker.node("flatten", maker.conv(norm, name), start_dim=1) for name in names]
    maker.node("cat", flattened, dim=1)
    agrees(maker, before=dict.fromkeys(names, "bn"), named={"left": maker.choice(list(RULES))})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_that_runs_in_front_of_two_layers_belongs_to_each(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    x = maker.image()
    left = maker.conv(maker.bn(x), "left")
    right = maker.conv(maker.again("bn", maker.node("tanh", x)), "right")
    maker.node("cat", [maker.node("flatten", one, start_dim=1) for one in (left, right)], dim=1)
    agrees(maker, before={"left": "bn", "right": "bn_1"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_that_a_layer_and_a_shortcut_read_is_on_its_own(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    norm = maker.bn(maker.image())
    conv = maker.conv(norm)
    maker.node("cat", [maker.node("flatten", one, start_dim=1) for one in (norm, conv)], dim=1)
    agrees(maker)


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_behind_pooling_belongs_to_the_layer_behind_it(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    conv = maker.conv(maker.image(smallest=2), "stem", kernel_size=(1, 1), padding=0)
    sizes = [min(2, size) for size in maker.values[conv].shape[2:]]
    pooled = maker.node(maker.choice(["avg_pool2d", "max_pool2d"]), conv, kernel_size=sizes)
    maker.conv(maker.bn(pooled))
    agrees(maker, before={"conv": "bn"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_behind_an_addition_belongs_to_the_layer_behind_it(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    stem = maker.conv(maker.image(), "stem")
    maker.conv(maker.bn(maker.node("add", (stem, maker.node("relu", stem)))))
    agrees(maker, before={"conv": "bn"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_batch_norms_that_read_one_concatenation_belong_each_to_its_layer(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    x = maker.image()
    cat = maker.node("cat", (x, maker.conv(x, "stem", padding="same", stride=1, dilation=1)), dim=1)
    left = maker.conv(maker.bn(cat), "left")
    right = maker.conv(maker.node("relu", maker.bn(cat, "alone")), "right")
    maker.node("cat", [maker.node("flatten", one, start_dim=1) for one in (left, right, cat)], dim=1)
    agrees(maker, before={"left": "bn"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_dropout_between_a_batch_norm_and_its_layer_changes_nothing(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.conv(maker.node("dropout", maker.bn(maker.image())))
    agrees(maker, before={"conv": "bn"})


@pytest.mark.slow
@QUICK
@given(st.data())
def test_folds_follow_the_size_of_the_input_and_changes_of_the_weights(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.bn(maker.conv(maker.bn(maker.image(smallest=2), "first")), "second")
    network, rule = maker.network(before={"conv": "first"}, behind={"conv": "second"}), maker.choice(list(RULES))
    model, composite = network.module(), composite_of(rule, {}, 1e-6)
    attribution = CondAttribution(model)
    x = maker.values[INPUT]
    for sample in (x, torch.cat([x, maker.normal(*x.shape)], 2), x):
        start = maker.normal(*model(sample).shape)
        found = attribution(sample, {}, composite, init_rel=lambda value, start=start: start).input_relevance
        wanted = MatrixOracle(network, sample, start, rule=RULES[rule][1])
        close(found, wanted.relevance[INPUT], start, rule)
        network = replace(network, nodes=tuple(redrawn(maker, model, node) for node in network.nodes))


def redrawn(maker: Maker, model: nn.Module, node: Node) -> Node:
    """The node with other values of its parameters and buffers, which its module gets too."""
    state = {name: value * maker.normal(*value.shape) ** 2 for name, value in node.state.items()}
    with torch.no_grad():
        for name, value in model.get_submodule(node.name).state_dict().items():
            if name in state:
                value.copy_(state[name])
    return replace(node, state=state)


@pytest.mark.slow
@settings(QUICK, max_examples=8)
@given(st.data())
def test_a_condition_on_either_node_of_a_fold_masks_the_same_relevance(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.linear(maker.node("flatten", maker.node("relu", maker.bn(maker.conv(maker.image()))), start_dim=1))
    model, x = maker.network().module(), maker.values[INPUT]
    composite = composite_of(maker.choice(list(RULES)), {}, 1e-6)
    whole, at_conv, at_norm = (
        torch.stack(
            [
                CondAttribution(model)(x, condition, composite, init_rel=1.0).input_relevance
                for condition in ([{}] if name is None else [{name: [i]} for i in range(maker.values["bn"].shape[1])])
            ]
        ).sum(0)
        for name in (None, "conv", "bn")
    )
    close(at_conv, whole, x, "conv")
    close(at_norm, whole, x, "bn")


# ---------------------------------------------------------------------- BatchNorm on its own

ALONE: dict[str, Callable[[Maker, str], str]] = {
    "behind ReLU": lambda maker, bn: maker.conv(maker.node("relu", bn)),
    "before a transposed convolution": lambda maker, bn: maker.conv_transpose(bn),
    "before padding by a module of its own": lambda maker, bn: maker.conv(
        maker.node("pad", bn, pad=[1, 0, 0, 2], value=0.0)
    ),
    "before padding with copies": lambda maker, bn: maker.conv(
        maker.node("pad", bn, pad=[1, 1, 0, 1], mode="replicate")
    ),
    "before flattening": lambda maker, bn: maker.linear(maker.node("flatten", bn, start_dim=1)),
    "before pooling": lambda maker, bn: maker.conv(maker.node("avg_pool2d", bn, kernel_size=[1, 1])),
    "before an activation that ends the network": lambda maker, bn: maker.node("tanh", bn),
    "at the end": lambda maker, bn: bn,
    "before a linear layer of its last axis": lambda maker, bn: maker.linear(bn),
}


@settings(QUICK, max_examples=6)
@given(st.data())
@pytest.mark.parametrize("place", ALONE)
def test_a_batch_norm_elsewhere_is_an_affine_map_with_an_epsilon_rule(place: str, data: st.DataObject) -> None:
    maker = Maker(data.draw)
    x = maker.image()
    before = maker.choice([x, maker.node("relu", x)]) if maker.choice([True, False]) else x
    ALONE[place](maker, maker.bn(before))
    agrees(maker)


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_batch_norm_that_the_composite_gives_a_rule_of_its_own_is_on_its_own(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.conv(maker.bn(maker.conv(maker.bn(maker.image(), "first")), "second"), "last")
    agrees(maker, named={"first": "epsilon 0.25", "second": "epsilon"})


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_without_running_statistics_is_refused_in_words(affine: bool) -> None:
    norm = nn.BatchNorm2d(2, track_running_stats=False, affine=affine)
    model = nn.Sequential(nn.Conv2d(2, 2, 1), norm).double().eval()
    composite = composite_of("epsilon", {}, 1e-6)
    with pytest.raises(ModelError, match="track_running_stats"):
        CondAttribution(model)(torch.ones(2, 2, 3, 3, dtype=torch.float64), [{"y": [0]}], composite)


# ---------------------------------------------------------------------- other norms


def divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]


NORMS: dict[str, Callable[[Maker, str], str]] = {
    "group": lambda maker, x: maker.norm(
        "group_norm",
        x,
        num_groups=maker.choice(divisors(maker.values[x].shape[1])),
        num_channels=maker.values[x].shape[1],
        affine=maker.choice([True, False]),
        eps=maker.choice([1e-5, 0.1]),
    ),
    "instance": lambda maker, x: maker.norm(
        "instance_norm2d", x, num_features=maker.values[x].shape[1], affine=maker.choice([True, False])
    ),
    "instance with running statistics": lambda maker, x: maker.norm(
        "instance_norm2d",
        x,
        num_features=maker.values[x].shape[1],
        affine=maker.choice([True, False]),
        track_running_stats=True,
    ),
    "layer": lambda maker, x: maker.norm(
        "layer_norm",
        x,
        normalized_shape=list(maker.values[x].shape[maker.number(1, 3) :]),
        elementwise_affine=maker.choice([True, False]),
        eps=maker.choice([1e-5, 0.1]),
    ),
    "root mean square": lambda maker, x: maker.norm(
        "rms_norm",
        x,
        normalized_shape=list(maker.values[x].shape[maker.number(1, 3) :]),
        elementwise_affine=maker.choice([True, False]),
        eps=maker.choice([1e-5, 0.1]),
    ),
    "local response": lambda maker, x: maker.norm(
        "local_response_norm",
        x,
        size=maker.number(1, 5),
        alpha=maker.choice([1e-4, 0.7]),
        beta=0.75,
        k=maker.choice([1.0, 2.0]),
    ),
}


@pytest.mark.slow
@QUICK
@given(st.data())
@pytest.mark.parametrize("norm", NORMS)
def test_the_deviation_of_a_norm_is_a_constant_of_the_forward(norm: str, data: st.DataObject) -> None:
    maker = Maker(data.draw)
    if norm == "root mean square" and "rms_norm" not in matrix_graph.NORMS:
        pytest.skip("this torch has no RMSNorm")
    stem = maker.conv(maker.image(smallest=2), "stem", kernel_size=(1, 1), padding=0, stride=1)
    maker.conv(NORMS[norm](maker, stem))
    agrees(maker)


# ---------------------------------------------------------------------- merges of branches


def two_branches(maker: Maker, *, dims: int = 2) -> tuple[str, str]:
    """Two signals of one shape, with a ReLU in one of them."""
    x, channels = maker.image(dims), maker.number(1, 3)
    geometry = {"kernel_size": (3,) * dims, "padding": 1, "stride": 1, "dilation": 1}
    left = maker.conv(x, "left", outputs=channels, **geometry)
    return left, maker.node("relu", maker.conv(x, "right", outputs=channels, **geometry))


def reduced(maker: Maker, name: str) -> str:
    """A signal of size one along an axis or two, so that it is broadcast."""
    return maker.node("mean", name, dim=maker.choice([(1,), (2,), (2, 3)]), keepdim=True)


SUMS: dict[str, Callable[[Maker, str, str], str]] = {
    "sum": lambda maker, a, b: maker.node("add", (a, b)),
    "sum with alpha": lambda maker, a, b: maker.node("add", (a, b), alpha=-1.5),
    "broadcast sum": lambda maker, a, b: maker.node(
        "add", maker.choice([(a, reduced(maker, b)), (reduced(maker, b), a)])
    ),
    "sum of a signal with itself": lambda maker, a, b: maker.node("add", (a, a)),
    "sum with a number": lambda maker, a, b: maker.node("add", a, second=0.7),
    "number plus signal": lambda maker, a, b: maker.node(
        "add", a, first=maker.normal(1, maker.values[a].shape[1], 1, 1)
    ),
    "sum with a constant that broadcasts it": lambda maker, a, b: maker.node(
        "add", reduced(maker, a), second=maker.normal(1, *maker.values[a].shape[1:])
    ),
    "difference": lambda maker, a, b: maker.node("sub", (a, b)),
    "difference with alpha": lambda maker, a, b: maker.node("sub", (a, b), alpha=2.5),
    "broadcast difference": lambda maker, a, b: maker.node("sub", (reduced(maker, a), b)),
    "difference to a constant": lambda maker, a, b: maker.node(
        "sub", a, second=maker.normal(maker.values[a].shape[1], 1, 1)
    ),
    "constant minus signal": lambda maker, a, b: maker.node("sub", a, first=1.3),
}


@pytest.mark.slow
@QUICK
@given(st.data())
@pytest.mark.parametrize("merge", SUMS)
def test_summands_share_by_contribution_and_constants_keep_theirs(merge: str, data: st.DataObject) -> None:
    maker = Maker(data.draw)
    merged = SUMS[merge](maker, *two_branches(maker))
    maker.conv(maker.node("relu", merged), "last")
    agrees(maker)


@pytest.mark.slow
@QUICK
@given(st.data())
def test_a_sum_follows_the_rule_that_the_composite_gives_it(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    op = maker.choice(["add", "sub"])
    merged = maker.node(op, two_branches(maker), "merged", alpha=maker.choice([1, 2.5]))
    maker.conv(maker.node("relu", merged), "last")
    agrees(maker, named={"merged": maker.choice(["epsilon", "epsilon 0.25", "flat"])})


JOINS: dict[str, Callable[[Maker, str, str], str]] = {
    "concatenation": lambda maker, a, b: maker.node("cat", (a, b), dim=maker.number(1, 3)),
    "concatenation from the end": lambda maker, a, b: maker.node("cat", (a, b, a), dim=maker.number(-3, -1)),
    "stack": lambda maker, a, b: maker.node(
        "flatten", maker.node("stack", (a, b), dim=maker.number(1, 4)), start_dim=1, end_dim=2
    ),
    "pixel shuffle": lambda maker, a, b: maker.node(
        "pixel_shuffle", maker.node("cat", (a, b, b, a), dim=1), upscale_factor=2
    ),
    "part of channels": lambda maker, a, b: maker.node(
        "narrow", maker.node("cat", (a, b), dim=1), dim=1, start=0, length=1
    ),
    "transposition": lambda maker, a, b: maker.node("permute", maker.node("cat", (a, b), dim=1), dims=(0, 2, 1, 3)),
}


@pytest.mark.slow
@settings(QUICK, max_examples=8)
@given(st.data())
@pytest.mark.parametrize("join", JOINS)
def test_what_moves_values_moves_their_relevance(join: str, data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.conv(JOINS[join](maker, *two_branches(maker)), "last")
    agrees(maker)


EXTREMES: dict[str, Callable[[Maker, str, str], str]] = {
    "maximum": lambda maker, a, b: maker.node("maximum", (a, b)),
    "minimum": lambda maker, a, b: maker.node("minimum", (a, b)),
    "broadcast maximum": lambda maker, a, b: maker.node("maximum", (a, reduced(maker, b))),
    "max over an axis": lambda maker, a, b: maker.node("max", a, dim=maker.number(1, 3), keepdim=True),
    "min over an axis": lambda maker, a, b: maker.node("min", a, dim=maker.number(1, 3), keepdim=True),
    "amax over axes": lambda maker, a, b: maker.node("amax", a, dim=maker.choice([(1,), (2, 3), (1, 3)]), keepdim=True),
    "amin over axes": lambda maker, a, b: maker.node("amin", a, dim=maker.choice([(1,), (2, 3), (1, 3)]), keepdim=True),
    "max pooling": lambda maker, a, b: maker.node(
        "max_pool2d",
        maker.node("pad", a, pad=[1, 1, 1, 1], mode="replicate"),
        kernel_size=maker.choice([[2, 2], [3, 2]]),
        stride=maker.number(1, 2),
        padding=maker.choice([[0, 0], [1, 1]]),
        ceil_mode=maker.choice([True, False]),
    ),
}


@pytest.mark.slow
@settings(QUICK, max_examples=8)
@given(st.data())
@pytest.mark.parametrize("extreme", EXTREMES)
def test_all_relevance_of_an_extreme_goes_to_the_value_that_is_it(extreme: str, data: st.DataObject) -> None:
    maker = Maker(data.draw)
    maker.conv(EXTREMES[extreme](maker, *two_branches(maker)), "last")
    agrees(maker)


@settings(QUICK, max_examples=8)
@given(st.data())
@pytest.mark.parametrize("op", ["maximum", "minimum", "amax", "amin", "max", "min", "max_pool2d"])
def test_of_equal_extremes_the_first_has_all_or_each_the_same(op: str, data: st.DataObject) -> None:
    """The same for two operands, ``amax`` and ``amin``; the first for an axis with indices and for windows."""
    maker = Maker(data.draw)
    x = maker.image(smallest=2)
    maker.values[INPUT] = torch.randint(-1, 2, maker.values[x].shape, generator=maker.random).double()
    if op in ("maximum", "minimum"):
        maker.node(op, (x, maker.node("permute", maker.node("permute", x, dims=(0, 1, 3, 2)), dims=(0, 1, 3, 2))))
    elif op == "max_pool2d":
        maker.node(op, x, kernel_size=[2, 2], stride=1)
    else:
        maker.node(op, x, dim=(2, 3) if op.startswith("am") else 2)
    agrees(maker)


# ---------------------------------------------------------------------- products

GATES: dict[str, Callable[[Maker, str, str], str]] = {
    "sigmoid": lambda maker, a, b: maker.node("gate", (a, maker.node("sigmoid", b)), signal=0),
    "sigmoid first": lambda maker, a, b: maker.node("gate", (maker.node("sigmoid", b), a), signal=1),
    "sigmoid of the mean": lambda maker, a, b: maker.node("gate", (maker.node("sigmoid", wide(maker, b)), a), signal=1),
    "smaller factor": lambda maker, a, b: maker.node("gate", (a, wide(maker, b)), signal=0),
    "constant": lambda maker, a, b: maker.node("scale", a, factor=maker.normal(maker.values[a].shape[1], 1, 1)),
    "constant that broadcasts": lambda maker, a, b: maker.node(
        "scale", maker.node("mean", a, dim=1, keepdim=True), factor=maker.normal(1, 3, 1, 1)
    ),
    "number as divisor": lambda maker, a, b: maker.node("divide", a, divisor=-1.7),
}


def wide(maker: Maker, name: str) -> str:
    """Means of the channels, (sample, channel, 1, 1), of a signal made larger than that."""
    return maker.node("mean", name, dim=(2, 3), keepdim=True)


@pytest.mark.slow
@settings(QUICK, max_examples=8)
@given(st.data())
@pytest.mark.parametrize("gate", GATES)
def test_a_signal_keeps_all_relevance_of_its_product_with_a_gate(gate: str, data: st.DataObject) -> None:
    maker = Maker(data.draw)
    a, b = two_branches(maker)
    a, b = (maker.node("pad", one, pad=[0, 1, 0, 1], mode="replicate") for one in (a, b))
    maker.conv(GATES[gate](maker, a, b), "last")
    agrees(maker)


@pytest.mark.slow
@QUICK
@given(st.data())
def test_two_signals_of_one_size_have_half_of_their_product_each(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    a, b = two_branches(maker)
    factors = maker.choice([(a, b), (b, a), (a, a)])
    maker.conv(maker.node("mul", factors), "last")
    agrees(maker)


@pytest.mark.slow
@settings(QUICK, max_examples=8)
@given(st.data())
def test_two_signals_of_one_size_that_broadcast_each_other_have_half_each(data: st.DataObject) -> None:
    maker = Maker(data.draw)
    a = maker.conv(maker.input(2, 2, 3), "stem", outputs=3, kernel_size=(1, 1), padding=0, stride=1)
    columns = maker.node("mean", a, dim=(1, 2), keepdim=True)
    channels = maker.node("mean", a, dim=(2, 3), keepdim=True)
    maker.conv(maker.node("mul", maker.choice([(columns, channels), (channels, columns)])), "last")
    agrees(maker)


# ---------------------------------------------------------------------- averages

AVERAGES: dict[str, Callable[[Maker, str], str]] = {
    "mean": lambda maker, a: maker.node("mean", a, dim=maker.choice([(1,), (2, 3), (-1,)]), keepdim=True),
    "sum": lambda maker, a: maker.node("sum", a, dim=maker.choice([(1,), (2, 3), (-1,)]), keepdim=True),
    "pooling": lambda maker, a: maker.node(
        "avg_pool2d",
        a,
        kernel_size=maker.choice([[2, 2], [3, 2]]),
        stride=maker.number(1, 3),
        padding=maker.choice([[0, 0], [1, 1], [1, 0]]),
        ceil_mode=maker.choice([True, False]),
        count_include_pad=maker.choice([True, False]),
        divisor_override=maker.choice([None, 3]),
    ),
    "adaptive pooling": lambda maker, a: maker.node(
        "adaptive_avg_pool2d", a, output_size=[maker.number(1, 5), maker.number(1, 5)]
    ),
    "nearest": lambda maker, a: maker.node(
        "interpolate", a, size=[maker.number(1, 6), maker.number(1, 6)], mode="nearest"
    ),
    "bilinear": lambda maker, a: maker.node(
        "interpolate",
        a,
        size=[maker.number(1, 6), maker.number(1, 6)],
        mode="bilinear",
        align_corners=maker.choice([True, False]),
    ),
    "bicubic": lambda maker, a: maker.node("interpolate", a, scale_factor=2.0, mode="bicubic", align_corners=False),
}


@pytest.mark.slow
@settings(QUICK, max_examples=8)
@given(st.data())
@pytest.mark.parametrize("average", AVERAGES)
def test_averaged_values_share_by_contribution(average: str, data: st.DataObject) -> None:
    maker = Maker(data.draw)
    large = maker.node("pad", two_branches(maker)[0], pad=[1, 1, 1, 1], mode="replicate")
    maker.conv(AVERAGES[average](maker, large), "last")
    agrees(maker)


# ---------------------------------------------------------------------- what biases and stabilizers take


@pytest.mark.slow
@settings(QUICK, max_examples=6)
@given(st.data())
@pytest.mark.parametrize("rule", RULES)
def test_biases_and_stabilizers_take_what_their_terms_say(rule: str, data: st.DataObject) -> None:
    maker = Maker(data.draw)
    x, channels = maker.image(), maker.number(1, 3)
    geometry = {"kernel_size": (3, 3), "padding": 1, "stride": 1, "dilation": 1}
    folded = maker.bn(maker.conv(x, outputs=channels, **geometry))
    alone = maker.bn(
        maker.node("relu", maker.node("add", (folded, maker.conv(x, "other", outputs=channels, **geometry)))), "alone"
    )
    maker.conv(maker.node("tanh", alone), "last")
    wanted = agrees(maker, behind={"conv": "bn"}, rule=rule)
    assert set(wanted.absorbed) == {node.name for node in maker.nodes}
    assert all(wanted.absorbed[name] == (0.0, 0.0) for name in ("bn", maker.nodes[-2].name))
