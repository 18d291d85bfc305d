"""LRP of a small network that is described as data: every node's matrix is written out.

A `Network` is a list of nodes. It makes a torch module that runs it, and for each affine node ``z_j = sum_i W_ji x_i +
b_j`` the dense matrix and bias, column by column from unit vectors (norms from their formula). `MatrixOracle` shares
relevance by the textbook sums, ``R_i = sum_j x_i W_ji / (z_j + epsilon sign(z_j)) R_j`` with the sign of zero positive,
and says what biases and stabilizers take. Which BatchNorm is one affine map with which layer is part of the
description; the product of the two matrices is that map.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .matrix_rules import STABILIZER, Affine, Rule, Shared, epsilon

INPUT = "input"
AGREEMENT = 1e-10  # float64 rounding of sums of a few hundred products

_LAYERS: dict[str, type[nn.Module]] = {
    "linear": nn.Linear, "conv1d": nn.Conv1d, "conv2d": nn.Conv2d, "conv3d": nn.Conv3d,
    "conv_transpose1d": nn.ConvTranspose1d, "conv_transpose2d": nn.ConvTranspose2d,
    "conv_transpose3d": nn.ConvTranspose3d,
}  # fmt: skip
_BATCH_NORMS: dict[str, type[nn.Module]] = {
    "batch_norm1d": nn.BatchNorm1d, "batch_norm2d": nn.BatchNorm2d, "batch_norm3d": nn.BatchNorm3d,
}  # fmt: skip
NORMS: dict[str, type[nn.Module]] = {
    "layer_norm": nn.LayerNorm, "group_norm": nn.GroupNorm, "instance_norm1d": nn.InstanceNorm1d,
    "instance_norm2d": nn.InstanceNorm2d, "local_response_norm": nn.LocalResponseNorm,
    **({"rms_norm": nn.RMSNorm} if hasattr(nn, "RMSNorm") else {}),
}  # fmt: skip
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "dropout": nn.Dropout
}  # fmt: skip
_MODULES = {**_LAYERS, **_BATCH_NORMS, **NORMS, **_ACTIVATIONS}


def _with_constant(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Function of two operands, of which ``first=`` or ``second=`` may be a constant."""

    def run(*values: torch.Tensor, first: Any = None, second: Any = None, **options: Any) -> torch.Tensor:
        before, after = ([] if one is None else [one] for one in (first, second))
        return function(*before, *values, *after, **options)

    return run


def _subtracted(one: Any, other: Any, **options: Any) -> torch.Tensor:
    """Difference by the operator, or by ``torch.sub`` where there are options."""
    result: torch.Tensor = torch.sub(one, other, **options) if options else one - other
    return result


_SUMS: dict[str, Callable[..., torch.Tensor]] = {
    "add": _with_constant(torch.add), "sub": _with_constant(_subtracted),
    "mean": torch.mean, "sum": torch.sum, "interpolate": F.interpolate,
    "avg_pool1d": F.avg_pool1d, "avg_pool2d": F.avg_pool2d, "avg_pool3d": F.avg_pool3d,
    "adaptive_avg_pool1d": F.adaptive_avg_pool1d, "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
}  # fmt: skip
_ROUTES: dict[str, Callable[..., torch.Tensor]] = {
    "cat": lambda *values, dim: torch.cat(values, dim), "stack": lambda *values, dim: torch.stack(values, dim),
    "flatten": torch.flatten, "pixel_shuffle": F.pixel_shuffle, "pixel_unshuffle": F.pixel_unshuffle, "pad": F.pad,
    "permute": lambda x, dims: x.permute(dims), "select": torch.select, "narrow": torch.narrow,
}  # fmt: skip
_WINNERS: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]] = {
    "maximum": (torch.maximum, torch.add), "minimum": (torch.minimum, torch.add),
    "max": (lambda x, **options: torch.max(x, **options).values, torch.sum),
    "min": (lambda x, **options: torch.min(x, **options).values, torch.sum),
    "amax": (torch.amax, torch.sum), "amin": (torch.amin, torch.sum),
    "max_pool2d": (F.max_pool2d, F.avg_pool2d),
}  # fmt: skip
"""The operation, and one that reads the same inputs for each output with weights that are not zero."""
_FIRST_WINS = ("max", "min", "max_pool2d")
_PRODUCTS: dict[str, Callable[..., torch.Tensor]] = {
    "mul": lambda a, b: a * b, "gate": lambda a, b, signal: a * b, "scale": lambda x, factor: x * factor,
    "divide": lambda x, divisor: x / divisor,
}  # fmt: skip
_FUNCTIONS = {**_SUMS, **_ROUTES, **{op: pair[0] for op, pair in _WINNERS.items()}, **_PRODUCTS}


# ---------------------------------------------------------------------- the network


@dataclass(frozen=True)
class Node:
    """One node of a network.

    Attributes
    ----------
    name : str
        Its name, which is also that of its module.
    op : str
        A key of one of the tables above.
    inputs : tuple of str
        Earlier nodes, or ``INPUT``.
    options : mapping
        Arguments of the module's constructor, or of the function.
    state : mapping
        Parameters and buffers of its module.
    module : str
        Name of the earlier node whose module runs again; then there is no state.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    module: str = ""

    def built(self) -> nn.Module:
        """Module that runs this node, in evaluation mode and float64."""
        if self.op in _FUNCTIONS:
            return Call(_FUNCTIONS[self.op], self.options)
        module = _MODULES[self.op](**self.options).double().eval()
        with torch.no_grad():
            for name, value in self.state.items():
                module.get_buffer(name).copy_(value) if "running" in name else module.get_parameter(name).copy_(value)
        return module.requires_grad_(False)


class Call(nn.Module):
    """Module of one functional call."""

    def __init__(self, function: Callable[..., torch.Tensor], options: Mapping[str, Any]) -> None:
        super().__init__()
        self.function, self.options = function, dict(options)

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """Value of the function."""
        return self.function(*values, **self.options)


@dataclass(frozen=True)
class Network:
    """A network as data.

    Attributes
    ----------
    nodes : tuple of Node
        In execution order; the last one is the output.
    behind, before : mapping of str to str
        Linear layer to the BatchNorm behind it, or in front of it, that is one affine map with it.
    """

    nodes: tuple[Node, ...]
    behind: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, str] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """Name of the last node."""
        return self.nodes[-1].name

    def module(self) -> "Described":
        """Torch module that runs the network."""
        return Described(self)

    def node(self, name: str) -> Node:
        """Node of a name, with the state of the module that it runs."""
        found = next(node for node in self.nodes if node.name == name)
        return replace(self.node(found.module), name=name, inputs=found.inputs) if found.module else found


class Described(nn.Module):
    """The torch module of a description; its submodules have the nodes' names."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.nodes = network.nodes
        for node in network.nodes:
            if not node.module:
                self.add_module(node.name, node.built())
        self.eval()

    def values(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Value of each node, by name."""
        values = {INPUT: x}
        for node in self.nodes:
            module = self.get_submodule(node.module or node.name)
            values[node.name] = module(*(values[name] for name in node.inputs))
        return values

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Value of the last node."""
        return self.values(x)[self.nodes[-1].name]


# ---------------------------------------------------------------------- affine maps


def dense(function: Callable[..., torch.Tensor], shapes: Sequence[torch.Size]) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrix (output, all inputs) and bias (output,) of an affine function, from its values for unit vectors.

    Parameters
    ----------
    function : callable
        From one tensor (batch, *shape) for each input to one (batch, ...).
    shapes : sequence of Size
        Shape of one sample of each input.
    """
    zeros = [torch.zeros((1, *shape), dtype=torch.float64) for shape in shapes]
    bias = function(*zeros).flatten()
    blocks = []
    for place, shape in enumerate(shapes):
        count = shape.numel()
        units = [zero.expand(count, *zero.shape[1:]) for zero in zeros]
        units[place] = torch.eye(count, dtype=torch.float64).reshape(count, *shape)
        blocks.append((function(*units).reshape(count, -1) - bias).T)
    return torch.cat(blocks, 1), bias


def _layer(node: Node, shapes: Sequence[torch.Size]) -> Affine:
    """Affine map of a convolution or linear layer."""
    weight, bias = dense(node.built(), shapes)
    ones = {name: torch.ones_like(value) * (name == "weight") for name, value in node.state.items()}
    seen, _ = dense(replace(node, state=ones).built(), shapes)
    return Affine(weight[None], bias[None], (seen != 0).double())


def _batch_norm(node: Node, shape: torch.Size) -> Affine:
    """Affine map of a BatchNorm with running statistics: a diagonal, by channel."""
    scale = 1 / torch.sqrt(node.state["running_var"] + node.options.get("eps", 1e-5))
    scale = scale * node.state.get("weight", torch.ones_like(scale))
    shift = node.state.get("bias", torch.zeros_like(scale)) - node.state["running_mean"] * scale
    places = shape.numel() // shape[0]
    diagonal = torch.diag(scale.repeat_interleave(places))
    return Affine(diagonal[None], shift.repeat_interleave(places)[None], torch.eye(len(diagonal), dtype=torch.float64))


def _norm(node: Node, x: torch.Tensor) -> Affine:
    """Affine map of a norm, for each sample (sample, *shape), with its deviation as a constant."""
    if node.op == "local_response_norm":
        weight = torch.diag_embed(_response_factors(node, x).flatten(1))
    else:
        groups, values = _groups(node, x.shape[1:]).flatten(), x.flatten(1)
        together = (groups[:, None] == groups[None, :]).double()
        average = together / together.sum(1, keepdim=True)
        centre = torch.zeros_like(average) if node.op == "rms_norm" else average
        square = ((values - values @ centre.T) ** 2) @ average.T
        epsilon = node.options.get("eps", 1e-5)
        weight = (torch.eye(len(groups), dtype=torch.float64) - centre) / torch.sqrt(square + epsilon)[:, :, None]
        weight = weight * _per_element(node, "weight", 1.0, x.shape[1:])[:, None]
    bias = _per_element(node, "bias", 0.0, x.shape[1:])
    return Affine(weight, bias.expand(len(x), -1), (weight[0] != 0).double())


def _groups(node: Node, shape: torch.Size) -> torch.Tensor:
    """Number of the group in which each element of a sample is normalised."""
    if node.op in ("layer_norm", "rms_norm"):
        leading = shape[: len(shape) - len(node.options["normalized_shape"])]
        numbers = torch.arange(leading.numel()).reshape(*leading, *(1,) * (len(shape) - len(leading)))
    else:
        count = node.options.get("num_groups", shape[0])
        numbers = (torch.arange(shape[0]) // (shape[0] // count)).reshape(-1, *(1,) * (len(shape) - 1))
    return numbers.expand(shape)


def _per_element(node: Node, name: str, default: float, shape: torch.Size) -> torch.Tensor:
    """Parameter of a norm for each element of a flattened sample."""
    value = node.state.get(name)
    if value is None:
        return torch.full((shape.numel(),), default, dtype=torch.float64)
    if node.op not in ("layer_norm", "rms_norm"):
        value = value.reshape(-1, *(1,) * (len(shape) - 1))
    return value.expand(shape).flatten()


def _response_factors(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Factor of each element: ``(k + alpha / size * sum of squares of the channels around) ** -beta``."""
    size, alpha, beta, k = (node.options[name] for name in ("size", "alpha", "beta", "k"))
    factors = torch.zeros_like(x)
    for channel in range(x.shape[1]):
        around = x[:, max(0, channel - size // 2) : channel + (size - 1) // 2 + 1]
        factors[:, channel] = (k + alpha / size * (around**2).sum(1)) ** -beta
    return factors


def _winners(node: Node, values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Part of each output (sample, output, all inputs) that each winner gets: the first one all, or all the same."""
    options = dict(node.options)
    candidates, _ = dense(lambda *units: _WINNERS[node.op][1](*units, **options), [one.shape[1:] for one in values])
    x = torch.cat([one.flatten(1) for one in values], 1)
    x = -x if node.op in ("minimum", "min", "amin") else x
    offered = torch.where(candidates != 0, x[:, None, :], -torch.inf)
    best = (offered == offered.amax(2, keepdim=True)).double()
    return best * (best.cumsum(2) == 1) if node.op in _FIRST_WINS else best / best.sum(2, keepdim=True)


# ---------------------------------------------------------------------- relevance


class MatrixOracle:
    """Relevance of every node of a network, and what was lost on the way.

    Parameters
    ----------
    network : Network
        The network.
    x : Tensor
        Its input (sample, ...), in float64.
    start : Tensor
        Relevance of its output.
    rule : Rule
        Rule of the linear layers.
    rules : mapping of str to Rule, optional
        Other rules, by name of the node.
    stabilizer : float, optional
        Of all other affine nodes without a rule of their own, which share by contribution.

    Attributes
    ----------
    relevance : dict of str to Tensor
        What arrives at each node's output, for nodes that any arrives at; ``INPUT`` for the input.
    absorbed : dict of str to (float, float)
        What each node's bias and stabilizer take, over all samples and elements.

    Raises
    ------
    ValueError
        If an affine map gives other values than the torch module.
    """

    def __init__(
        self,
        network: Network,
        x: torch.Tensor,
        start: torch.Tensor,
        *,
        rule: Rule,
        rules: Mapping[str, Rule] | None = None,
        stabilizer: float = STABILIZER,
    ) -> None:
        self.network, self.rule, self.rules = network, rule, dict(rules or {})
        self.stabilizer = stabilizer
        self.values = network.module().values(x)
        self.absorbed: dict[str, tuple[float, float]] = {}
        self._folded = {*network.behind.values(), *network.before.values()}
        flat_relevance = {network.output: start.flatten(1)}
        for one in reversed(network.nodes):
            if one.name in flat_relevance:
                self._hand_on(network.node(one.name), flat_relevance)
        self.relevance = {name: one.reshape(self.values[name].shape) for name, one in flat_relevance.items()}

    def _hand_on(self, node: Node, arrived: dict[str, torch.Tensor]) -> None:
        """Add what the inputs of one node get to what has arrived there."""
        found = self._shared(node, arrived[node.name])
        self.absorbed[node.name] = found.bias, found.stabilizer
        sizes = [self.values[name].flatten(1).shape[1] for name in self._signals(node)]
        for name, part in zip(self._signals(node), found.inputs.split(sizes, 1), strict=True):
            arrived[name] = arrived[name] + part if name in arrived else part

    def _signals(self, node: Node) -> tuple[str, ...]:
        """Inputs that get relevance."""
        return (node.inputs[node.options["signal"]],) if node.op == "gate" else node.inputs

    def _shared(self, node: Node, relevance: torch.Tensor) -> Shared:
        """What becomes of the relevance of one node, for all its signals side by side."""
        values = [self.values[name] for name in self._signals(node)]
        shapes = [value.shape[1:] for value in values]
        if node.name in self._folded or node.op in _ACTIVATIONS:
            return Shared(relevance)
        if node.op in _LAYERS:
            return self._by_rule(node, relevance)
        if node.op in _PRODUCTS:
            return Shared(relevance @ self._copies(node) / len(values))
        if node.op in _ROUTES:
            matrix, _ = dense(lambda *units: _FUNCTIONS[node.op](*units, **node.options), shapes)
            return Shared(
                relevance @ matrix, float((relevance * (1 - matrix.sum(1))).sum())
            )  # padded zeros keep theirs
        if node.op in _WINNERS:
            return Shared(torch.einsum("boi,bo->bi", _winners(node, values), relevance))
        rule = self.rules.get(node.name, epsilon(self.stabilizer))
        return self._checked(node.name, self._affine(node), values, rule, relevance)

    def _copies(self, node: Node) -> torch.Tensor:
        """Zeros and ones (output, all signals): which element of each operand is a factor of which output."""
        shapes = [self.values[name].shape[1:] for name in node.inputs]
        like = torch.zeros((1, *self.values[node.name].shape[1:]), dtype=torch.float64)
        blocks = [dense(lambda unit: unit + like, [shape])[0] for shape in shapes]
        return blocks[node.options["signal"]] if node.op == "gate" else torch.cat(blocks, 1)

    def _by_rule(self, node: Node, relevance: torch.Tensor) -> Shared:
        """What becomes of the relevance of a layer together with the BatchNorms that belong to it."""
        network, affine = self.network, self._affine(node)
        read, written = node.inputs[0], node.name
        if node.name in network.before:
            norm = network.node(network.before[node.name])
            affine, read = affine.after(self._affine(norm)), norm.inputs[0]
        if node.name in network.behind:
            written = network.behind[node.name]
            affine = self._affine(network.node(written)).after(affine)
        rule = self.rules.get(node.name, self.rule)
        return self._checked(written, affine, [self.values[read]], rule, relevance)

    def _affine(self, node: Node) -> Affine:
        """Affine map of a node, for its inputs side by side."""
        values = [self.values[name] for name in node.inputs]
        shapes = [value.shape[1:] for value in values]
        if node.op in _LAYERS:
            return _layer(node, shapes)
        if node.op in _BATCH_NORMS or node.options.get("track_running_stats"):
            return _batch_norm(node, shapes[0])
        if node.op in NORMS:
            return _norm(node, values[0])
        weight, bias = dense(lambda *units: _SUMS[node.op](*units, **node.options), shapes)
        return Affine(weight[None], bias[None], (weight != 0).double())

    def _checked(
        self, written: str, affine: Affine, values: Sequence[torch.Tensor], rule: Rule, relevance: torch.Tensor
    ) -> Shared:
        """What a rule gives, once the affine map has given the value that torch has."""
        x = torch.cat([value.flatten(1) for value in values], 1)
        found, wanted = (affine.weight @ x[:, :, None])[:, :, 0] + affine.bias, self.values[written].flatten(1)
        if float((found - wanted).abs().max()) > AGREEMENT * (1 + float(wanted.abs().max())):
            raise ValueError(f"the matrix of {written!r} gives other values than the module")
        return rule(affine, x, relevance)
