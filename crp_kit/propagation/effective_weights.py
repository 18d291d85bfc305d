"""Nodes as the modules that a zennit hook sees: a linear layer with effective weights, a BatchNorm, any other call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..graph.graph import Node
from ..graph.memory_format import laid_out
from ..graph.operations import Trait
from ..matrix_product import linear
from ..numerics import checksum, working
from .node_functions import batch_norm_factors, per_channel, spelled_norm

_OPTIONS = ("stride", "padding", "dilation", "groups", "output_padding")
_STATE = ("weight", "bias", "running_mean", "running_var")


class LinearUnit(torch.nn.Module):
    """A linear node with effective weights.

    Parameters
    ----------
    node : Node
        A convolution or linear layer.
    weight : torch.Tensor
    bias : torch.Tensor or None
        (channel,), or a whole map that broadcasts to the output.
    """

    def __init__(self, node: Node, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(laid_out(weight), requires_grad=False)
        self.dims = weight.ndim - 2
        self.bias = torch.nn.Parameter(bias, requires_grad=False) if bias is not None else None
        self.op = node.op
        options = {name: optional_argument(node, name) for name in _OPTIONS} if node.spec.is_convolution else {}
        self.options = {name: value for name, value in options.items() if value is not None}

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the output, (batch, ...)."""
        return self.output(input, self.weight, self.bias)

    def output(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Return the output under other parameters, (batch, ...)."""
        per_channel_bias = bias is not None and bias.ndim == 1
        function = linear if self.op == "linear" else getattr(torch.nn.functional, self.op)
        output: torch.Tensor = function(input, weight, bias if per_channel_bias else None, **self.options)
        return output if bias is None or per_channel_bias else output + bias

    def of_zeros(self, parameters: Mapping[str, torch.Tensor], like: torch.Tensor) -> torch.Tensor:
        """Return the output for an input of zeros under another bias, in the shape of another output."""
        bias = parameters.get("bias")
        if bias is None:
            return like.new_zeros(()).expand_as(like)
        broadcast = bias.view(-1, *(1,) * self.dims) if bias.ndim == 1 else bias
        return broadcast.expand_as(like)

    def without_values(self) -> LinearUnit:
        """Free the weights, and return the unit; it can still be called with other parameters."""
        self.weight = torch.nn.Parameter(self.weight.new_empty(0), requires_grad=False)
        return self


class NormUnit(torch.nn.Module):
    """A BatchNorm with running statistics, as ``(x - mean) / deviation * weight + bias``.

    Parameters
    ----------
    node : Node
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        weight, bias = (optional_argument(node, name) for name in ("weight", "bias"))
        self.weight = None if weight is None else torch.nn.Parameter(working(weight).detach(), requires_grad=False)
        self.bias = None if bias is None else torch.nn.Parameter(working(bias).detach(), requires_grad=False)
        mean, variance = working(node.argument("running_mean")), working(node.argument("running_var"))
        self.mean, self.scale = mean.detach(), torch.rsqrt(variance + node.argument("eps", 1e-5)).detach()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the output, (batch, channel, ...)."""
        output = (input - per_channel(self.mean, input.ndim)) * per_channel(self.scale, input.ndim)
        if self.weight is not None:
            output = output * per_channel(self.weight, input.ndim)
        return output if self.bias is None else output + per_channel(self.bias, input.ndim)


class SpelledNorm(torch.nn.Module):
    """Any other norm in primitive operations.

    Parameters
    ----------
    node : Node
        Its weights are values.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node
        for name in ("weight", "bias"):
            value = optional_argument(node, name)
            own = None if value is None else torch.nn.Parameter(working(value).detach(), requires_grad=False)
            self.register_parameter(name, own)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the output, (batch, ...)."""
        own = dict(self.named_parameters(recurse=False))
        return spelled_norm(replace(self.node, kwargs={**self.node.kwargs, **own}), input)


class CallUnit(torch.nn.Module):
    """Any other node of one signal, without parameters.

    Parameters
    ----------
    function : callable
    label : str
        The operation with its options.
    """

    def __init__(self, function: Callable[[torch.Tensor], list[torch.Tensor]], label: str) -> None:
        super().__init__()
        self.function, self.label = function, label

    def extra_repr(self) -> str:
        """Return the operation with its options."""
        return self.label

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the node's output."""
        return self.function(input)[0]


def optional_argument(node: Node, name: str) -> Any:
    """Return an argument by name, or None if the operation has none of that name."""
    try:
        return node.argument(name)
    except (ValueError, KeyError):
        return None


# ---------------------------------------------------------------------- effective weights


def effective_unit(
    node: Node, behind: Node | None = None, before: tuple[torch.Tensor, torch.Tensor] | None = None
) -> LinearUnit:
    """Return a linear node together with the BatchNorms that belong to it.

    Parameters
    ----------
    node : Node
    behind : Node or None
        The BatchNorm that its output goes through.
    before : tuple of torch.Tensor or None
        The affine map of the BatchNorm in front: scale, (channel,), and shift, (1, *shape).
    """
    weight = working(node.argument("weight")).detach()
    bias = node.argument("bias")
    bias = working(bias).detach() if bias is not None else None
    if before is not None:
        scale, shift = before
        bias = LinearUnit(node, weight, bias)(shift).detach()
        weight = weight * _per_second_axis(node, scale, weight)
    if behind is not None:
        scale, shift = batch_norm_factors(behind)
        weight = weight * _per_output(node, scale, weight)
        if bias is None or bias.ndim == 1:
            bias = shift if bias is None else bias * scale + shift
        else:
            bias = bias * per_channel(scale, bias.ndim) + per_channel(shift, bias.ndim)
    return LinearUnit(node, weight, bias)


def _per_second_axis(node: Node, scale: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return (channel,) so that it broadcasts to the weight, whose second axis has the channels of one group."""
    groups = int(node.argument("groups") or 1) if node.spec.is_convolution else 1
    per_group = scale.view(groups, weight.shape[1]).repeat_interleave(weight.shape[0] // groups, 0)
    return per_group.view(*weight.shape[:2], *(1,) * (weight.ndim - 2))


def _per_output(node: Node, scale: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return (channel,) of the output so that it broadcasts to the weight."""
    if not node.spec.has(Trait.TRANSPOSED):
        return scale.view(-1, *(1,) * (weight.ndim - 1))
    return _per_second_axis(node, scale, weight)


def layer_of(node: Node, unit: LinearUnit) -> torch.nn.Module:
    """Return the node's own layer with the unit's weights, for hooks that look at more than those.

    The unit itself, where it has no layer of torch's or a bias that is a whole map.
    """
    module = node.module
    whole_map = unit.bias is not None and unit.bias.ndim != 1
    if module is None or whole_map or not type(module).__module__.startswith("torch.nn.modules."):
        return unit
    layer: torch.nn.Module = type(module).__new__(type(module))
    torch.nn.Module.__init__(layer)
    own = vars(layer)
    own.update({name: value for name, value in vars(module).items() if name not in own and name not in _STATE})
    layer.register_parameter("weight", unit.weight)
    layer.register_parameter("bias", unit.bias)
    return layer.eval()


# ---------------------------------------------------------------------- changes of weights


def state_of(*nodes: Node | None) -> list[torch.Tensor]:
    """Return the tensors that effective weights are made of."""
    values = (optional_argument(node, name) for node in nodes if node is not None for name in _STATE)
    return [value for value in values if isinstance(value, torch.Tensor)]


def settings_of(*nodes: Node | None) -> list[Any]:
    """Return what effective weights and the shape of a layer depend on besides tensors."""
    names = (*_OPTIONS, "eps")
    return [[optional_argument(node, name) for name in names] for node in nodes if node is not None]


def identities_of(tensors: Sequence[torch.Tensor]) -> list[Any]:
    """Return a value that changes when a tensor is another one or was written to, but for writes through ``.data``."""
    return [(id(t), t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]


def checksums_of(tensors: Sequence[torch.Tensor]) -> list[float]:
    """Return a value that changes when a tensor was written to, even through ``.data``."""
    sums: list[float] = torch.stack([checksum(tensor) for tensor in tensors]).tolist()
    return sums


def shares_memory(unit: LinearUnit, tensors: Sequence[torch.Tensor]) -> bool:
    """Return whether a unit's parameters are the very memory of given tensors: it then sees what is written to them."""
    memory = {(tensor.data_ptr(), tensor.stride()) for tensor in tensors}
    return all((own.data_ptr(), own.stride()) in memory for own in unit.parameters())
