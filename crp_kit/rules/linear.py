"""Rules given as a zennit ``BasicHook``, executed for many conditions at once.

A ``BasicHook`` declares terms (modified inputs, parameters and outputs), a gradient mapper and a reducer. The modified
forwards depend on the sample alone, so they run once. If mapper and reducer multiply element by element, which is so
for every rule of zennit and is checked for any other, relevance becomes ``sum_i h_i * J_i^T (f_i * R)`` with factors that
all conditions share. A term whose factors are zero is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from zennit import rules as zennit_rules
from zennit.core import BasicHook, Hook, ParamMod

from ..errors import CompositeError
from ..graph.nodes import Node, Ref
from ..graph.ops import Kind
from ..graph.record import Recording
from .functions import batch_norm_factors, per_channel, true_function, values_of
from .step import Backward, Given, Message, Step, Transposed, sum_to, working
from .structural import only

_EXACT = (
    zennit_rules.Epsilon,
    zennit_rules.Gamma,
    zennit_rules.ZPlus,
    zennit_rules.AlphaBeta,
    zennit_rules.ZBox,
    zennit_rules.Norm,
    zennit_rules.WSquare,
    zennit_rules.Flat,
)
"""Rules whose mapper and reducer are known to multiply element by element."""

Pull = Callable[[torch.Tensor], torch.Tensor]


# ---------------------------------------------------------------------- units


class LinearUnit(torch.nn.Module):
    """A linear node with effective weights, as the module that a zennit hook sees.

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
        self.weight = torch.nn.Parameter(weight, requires_grad=False)
        self.bias = torch.nn.Parameter(bias, requires_grad=False) if bias is not None else None
        self.node = node
        names = ("stride", "padding", "dilation", "groups", "output_padding")
        self.options = (
            {} if node.op == "linear" else {n: v for n in names if (v := _option(node, n)) is not None}
        )  # fmt: skip

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the output, (batch, ...)."""
        plain = self.bias is not None and self.bias.ndim == 1
        function = getattr(torch.nn.functional, self.node.op)
        output: torch.Tensor = function(input, self.weight, self.bias if plain else None, **self.options)
        return output if self.bias is None or plain else output + self.bias


def _option(node: Node, name: str) -> Any:
    try:
        return node.argument(name)
    except ValueError:
        return None


def effective_unit(node: Node, behind: Node | None, before: Node | None) -> LinearUnit:
    """Return a linear node together with the BatchNorms that belong to it.

    Parameters
    ----------
    node : Node
    behind, before : Node or None
        The BatchNorm that its output goes through, and the one that its input came through.
    """
    weight = working(node.argument("weight")).detach()
    bias = node.argument("bias")
    bias = working(bias).detach() if bias is not None else None
    if before is not None:
        scale, shift = batch_norm_factors(before)
        constant = per_channel(shift, len(before.shape)).expand(1, *before.shape[1:])
        bias = LinearUnit(node, weight, bias)(constant)
        groups = _option(node, "groups") if node.op != "linear" else 1
        per_input = scale.view(groups or 1, weight.shape[1])
        per_input = per_input.repeat_interleave(weight.shape[0] // (groups or 1), 0)
        weight = weight * per_input.view(*weight.shape[:2], *(1,) * (weight.ndim - 2))
    if behind is not None:
        scale, shift = batch_norm_factors(behind)
        weight = weight * _per_output(node, scale, weight)
        if bias is None or bias.ndim == 1:
            bias = shift if bias is None else bias * scale + shift
        else:
            bias = bias * per_channel(scale, bias.ndim) + per_channel(shift, bias.ndim)
    return LinearUnit(node, weight, bias)


def _per_output(node: Node, scale: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return (channel,) of the output so that it broadcasts to the weight."""
    if not node.op.startswith("conv_transpose"):
        return scale.view(-1, *(1,) * (weight.ndim - 1))
    groups = _option(node, "groups") or 1
    per_group = scale.view(groups, weight.shape[1]).repeat_interleave(weight.shape[0] // groups, 0)
    return per_group.view(*weight.shape[:2], *(1,) * (weight.ndim - 2))


class CallUnit(torch.nn.Module):
    """Any other node of one signal, as a module without parameters."""

    def __init__(self, function: Callable[[torch.Tensor], list[torch.Tensor]]) -> None:
        super().__init__()
        self.function = function

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the node's output."""
        return self.function(input)[0]


# ---------------------------------------------------------------------- transposes


def linear_transpose(unit: LinearUnit, weight: torch.Tensor, x: torch.Tensor) -> Pull | None:
    """Return the transpose of a linear unit, batched over rows, or None where no direct one is known."""
    if unit.node.op == "linear":
        return lambda s: s @ weight
    dims = weight.ndim - 2
    padding = unit.options.get("padding", 0)
    if isinstance(padding, str):
        return None

    def each(name: str, default: int) -> list[int]:
        value = unit.options.get(name, default)
        return [value] * dims if isinstance(value, int) else list(value) * (dims if len(value) == 1 else 1)

    transposed = unit.node.op.startswith("conv_transpose")
    geometry = (each("stride", 1), each("padding", 0), each("dilation", 1), transposed, each("output_padding", 0))
    groups = unit.options.get("groups", 1)

    def pull(s: torch.Tensor) -> torch.Tensor:
        rows = s.shape[0]
        sizes = x.expand(rows, *x.shape).flatten(0, 1)
        back = torch.ops.aten.convolution_backward(
            s.flatten(0, 1), sizes, weight, None, *geometry, groups, [True, False, False]
        )[0]
        return back.view(rows, *x.shape)

    return pull


# ---------------------------------------------------------------------- terms of a BasicHook


@dataclass
class _Term:
    input: torch.Tensor
    output: torch.Tensor
    pull: Pull


def _term(
    unit: torch.nn.Module,
    x: torch.Tensor,
    modifiers: tuple[Any, Any, Any],
    parameters: dict[str, torch.Tensor],
    *,
    hidden: bool,
) -> _Term:
    """Evaluate one modified forward and its transpose."""
    modify_input, _, modify_output = modifiers
    changed = modify_input(x)

    def run(value: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = modify_output(torch.func.functional_call(unit, parameters, (value,)))
        return result

    if isinstance(unit, LinearUnit):
        plain = torch.func.functional_call(unit, parameters, (changed,))
        pull = linear_transpose(unit, parameters["weight"], changed)
        output = modify_output(plain)
        if pull is not None and output is plain:
            return _Term(changed, output, pull)
    transposed = Transposed(lambda value: [run(value)], [changed], hidden=hidden)
    return _Term(changed, transposed.outputs[0], lambda s: transposed([s])[0])


def modified_parameters(rule: BasicHook, unit: torch.nn.Module) -> list[dict[str, torch.Tensor]]:
    """Return, for each term of a rule, the parameters of the unit as the rule modifies them."""
    found = []
    for modifier in rule.param_modifiers:
        with ParamMod.ensure(modifier)(unit) as modified:
            found.append({name: value.detach() for name, value in modified.named_parameters(recurse=False)})
    return found


def _as_list(mapped: Any, count: int) -> list[torch.Tensor]:
    return [mapped] * count if isinstance(mapped, torch.Tensor) else list(mapped)


def hook_backward(
    rule: BasicHook, unit: torch.nn.Module, x: torch.Tensor, parameters: Any = None, *, hidden: bool = False
) -> Pull:
    """Return the function from the relevance at a unit's output to that at its input, (row, *shape) each."""
    parameters = modified_parameters(rule, unit) if parameters is None else parameters
    modifiers = list(zip(rule.input_modifiers, rule.param_modifiers, rule.output_modifiers, strict=True))
    terms = [_term(unit, x, one, changed, hidden=hidden) for one, changed in zip(modifiers, parameters, strict=True)]
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    shared = _shared_inputs(inputs)
    if not shared and (type(rule) in _EXACT or _multiplies(rule, inputs, outputs)):
        return _factored(rule, terms)

    def one_row(relevance: torch.Tensor) -> list[torch.Tensor]:
        return _as_list(rule.gradient_mapper(relevance, outputs), len(terms))

    def pull(relevance: torch.Tensor) -> torch.Tensor:
        mapped = [one_row(row) for row in relevance]
        pulled = [
            term.pull(torch.stack([row[i] for row in mapped]).to(term.output.dtype)) for i, term in enumerate(terms)
        ]
        for group in shared:
            total = sum(pulled[i] for i in group)
            for i in group:
                pulled[i] = total
        return torch.stack([rule.reducer(inputs, [one[row] for one in pulled]) for row in range(relevance.shape[0])])

    return pull


def _shared_inputs(inputs: Sequence[torch.Tensor]) -> list[list[int]]:
    """Groups of terms that have the very same input tensor: autograd gives each of them their total gradient."""
    groups: dict[int, list[int]] = {}
    for place, value in enumerate(inputs):
        groups.setdefault(id(value), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _factored(rule: BasicHook, terms: Sequence[_Term]) -> Pull:
    """Return the rule as a sum of terms with two factors each, leaving out those that are zero."""
    inputs, outputs = [term.input for term in terms], [term.output for term in terms]
    above = _as_list(rule.gradient_mapper(torch.ones_like(outputs[0]), outputs), len(terms))
    below = _reducer_factors(rule, inputs)
    kept = [
        (f, term.pull, h) for f, term, h in zip(above, terms, below, strict=True) if bool(f.any()) and bool(h.any())
    ]
    zero = torch.zeros_like(inputs[0])

    def pull(relevance: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor | None = None
        for f, transpose, h in kept:
            part = transpose(relevance * f) * h
            total = part if total is None else total + part
        return zero.expand(relevance.shape[0], *zero.shape) if total is None else total

    return pull


def _reducer_factors(rule: BasicHook, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the factor of each term's gradient in the reducer."""
    zeros = [torch.zeros_like(value) for value in inputs]
    factors = []
    for place in range(len(inputs)):
        gradients = [torch.ones_like(value) if i == place else zeros[i] for i, value in enumerate(inputs)]
        factors.append(rule.reducer(inputs, gradients))
    return factors


def _multiplies(rule: BasicHook, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> bool:
    """Return whether mapper and reducer only multiply element by element, by trying random relevance and gradients."""
    generator = torch.Generator().manual_seed(0)

    def random(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    relevance = random(outputs[0])
    ones = _as_list(rule.gradient_mapper(torch.ones_like(relevance), list(outputs)), len(outputs))
    tried = _as_list(rule.gradient_mapper(relevance, list(outputs)), len(outputs))
    if len(ones) != len(outputs) or not all(_same(a * relevance, b) for a, b in zip(ones, tried, strict=True)):
        return False
    gradients = [random(value) for value in inputs]
    expected = sum(h * g for h, g in zip(_reducer_factors(rule, inputs), gradients, strict=True))
    return isinstance(expected, torch.Tensor) and _same(rule.reducer(list(inputs), gradients), expected)


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-4, atol=1e-6, equal_nan=True)


# ---------------------------------------------------------------------- steps


@dataclass(frozen=True, eq=False)
class LinearStep(Step):
    """A linear unit under a zennit rule, or with the plain gradient."""

    to: Ref
    hook: Hook | None
    behind: int | None = None
    before: int | None = None
    _kept: dict[str, Any] = field(default_factory=dict)

    def prepare(self, recording: Recording) -> Backward:
        unit, parameters = self._unit(recording)
        (x,) = values_of(recording, [self.to])
        if self.before is not None:
            norm = recording.graph.nodes[self.before]
            (x,) = values_of(recording, [norm.argument("input")])
        if self.hook is None:
            pull = linear_transpose(unit, unit.weight, x)
            if pull is None:
                transposed = Transposed(lambda value: [unit(value)], [x])
                pull = _single(transposed)
        elif isinstance(self.hook, BasicHook):
            pull = hook_backward(self.hook, unit, x, parameters)
        else:
            pull = foreign_backward(self.hook, unit, x)
        return lambda message: [(self.to, pull(working(only(message))))]

    def _unit(self, recording: Recording) -> tuple[LinearUnit, Any]:
        """Return the unit with its modified parameters, remade when a weight has changed."""
        node = self.node(recording)
        norms = [recording.graph.nodes[i] if i is not None else None for i in (self.behind, self.before)]
        sources = [
            value
            for one in (node, *norms)
            if one is not None
            for name in ("weight", "bias", "running_mean", "running_var")
            if (value := _option(one, name)) is not None
        ]
        key = [(id(t), t._version, t.data_ptr(), float(t.sum())) for t in sources]
        key.append(norms[1].shape[1:] if norms[1] is not None else None)
        if self._kept.get("key") != key:
            unit = effective_unit(node, *norms)
            rule = self.hook if isinstance(self.hook, BasicHook) else None
            parameters = modified_parameters(rule, unit) if rule is not None else None
            self._kept.update(key=key, unit=unit, parameters=parameters, sources=sources)
        return self._kept["unit"], self._kept["parameters"]


def _single(transposed: Transposed) -> Pull:
    return lambda s: transposed([s])[0]


@dataclass(frozen=True, eq=False)
class HookStep(Step):
    """A node of one signal without folded weights, or a whole module, under a zennit hook."""

    to: Ref
    hook: Hook

    def prepare(self, recording: Recording) -> Backward:
        node = self.node(recording)
        (x,) = values_of(recording, [self.to])
        hidden = node.kind is Kind.OPAQUE
        unit: torch.nn.Module = CallUnit(true_function(node, recording, [self.to]))
        if node.module is not None and (hidden or node.args == (self.to,)):
            unit = node.module
        pull = unit_backward(self.hook, unit, x, hidden=hidden)
        return lambda message: [(self.to, pull(working(only(message))))]


@dataclass(frozen=True, eq=False)
class StackedStep(Step):
    """A sum of several inputs under a zennit rule for ``zennit.layer.Sum``, which sees them stacked."""

    to: tuple[Ref, ...]
    hook: Hook

    def prepare(self, recording: Recording) -> Backward:
        values = values_of(recording, self.to)
        stacked = torch.stack(torch.broadcast_tensors(*values), -1)
        pull = unit_backward(self.hook, CallUnit(lambda x: [x.sum(-1)]), stacked)

        def backward(message: Message) -> Given:
            parts = pull(working(only(message))).unbind(-1)
            return [(ref, sum_to(part, x.shape)) for ref, part, x in zip(self.to, parts, values, strict=True)]

        return backward


def unit_backward(hook: Hook, unit: torch.nn.Module, x: torch.Tensor, *, hidden: bool = False) -> Pull:
    """Return the relevance pass of a hook on a unit, by the fastest way that is right for its type."""
    if isinstance(hook, BasicHook):
        return hook_backward(hook, unit, x, hidden=hidden)
    return foreign_backward(hook, unit, x)


def foreign_backward(hook: Hook, unit: torch.nn.Module, x: torch.Tensor) -> Pull:
    """Return what zennit's own hook does, through autograd on this unit alone, row by row."""

    def pull(relevance: torch.Tensor) -> torch.Tensor:
        rows = []
        for row in relevance:
            copy = hook.copy()
            handles = copy.register(unit)
            try:
                with torch.enable_grad():
                    leaf = x.detach().clone().requires_grad_()
                    output = unit(leaf)
                (found,) = torch.autograd.grad(output, leaf, row.to(output.dtype))
            except RuntimeError as error:
                raise CompositeError(f"the rule {type(hook).__name__} fails on {type(unit).__name__}: {error}") from error
            finally:
                handles.remove()
            rows.append(found)
        return torch.stack(rows)

    return pull
