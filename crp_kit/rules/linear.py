"""Steps under a zennit rule: linear layers with their BatchNorms, single calls and whole modules, sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from zennit.core import BasicHook, Hook

from ..graph.nodes import Node, Ref
from ..graph.ops import Kind
from ..graph.record import Recording
from .functions import true_function, values_of
from .hooks import Parameters, hook_backward, modified_parameters
from .step import Backward, Given, Message, Pull, Step, Transposed, only, sum_to, working
from .units import CallUnit, LinearUnit, NormUnit, effective_unit, layer_of, linear_transpose, state_key, state_of


@dataclass(frozen=True, eq=False)
class LinearStep(Step):
    """A linear unit under a zennit rule, or with the plain gradient.

    Parameters
    ----------
    to : Ref
        The linear node's input.
    hook : zennit Hook or None
    behind, before : int or None
        The BatchNorm nodes that belong to it.
    """

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
            pull = linear_transpose(unit, unit.weight, x) or _transposed(unit, x)
        else:
            node = self.node(recording)
            seen = unit if isinstance(self.hook, BasicHook) else layer_of(node, unit)
            pull = hook_backward(self.hook, seen, x, where=node.name, parameters=parameters)
        dtype = unit.weight.dtype
        return lambda message: [(self.to, pull(only(message).to(dtype)))]

    def _unit(self, recording: Recording) -> tuple[LinearUnit, Parameters | None]:
        """Return the unit with its modified parameters, remade when a weight has changed."""
        node = self.node(recording)
        behind, before = (recording.graph.nodes[i] if i is not None else None for i in (self.behind, self.before))
        sources = state_of(node, behind, before)
        key = (state_key(sources), before.shape[1:] if before is not None else None)
        if self._kept.get("key") != key:
            unit = effective_unit(node, behind, before)
            rule = self.hook if isinstance(self.hook, BasicHook) else None
            parameters = modified_parameters(rule, unit, where=node.name) if rule is not None else None
            self._kept.update(key=key, unit=unit, parameters=parameters, sources=sources)
        return self._kept["unit"], self._kept["parameters"]


def _transposed(unit: LinearUnit, x: torch.Tensor) -> Pull:
    transposed = Transposed(lambda value: [unit(value)], [x])
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
        pull = hook_backward(self.hook, self._unit(recording, node), x, where=node.name, hidden=hidden)
        return lambda message: [(self.to, pull(working(only(message))))]

    def _unit(self, recording: Recording, node: Node) -> torch.nn.Module:
        """Return the module itself, where calling it does what the node did; in-place modules would overwrite."""
        if node.kind is Kind.BATCH_NORM:
            return NormUnit(node)
        value = recording.value(self.to)
        plain = node.args == (self.to,) and not node.kwargs and not getattr(node.module, "inplace", False)
        if node.module is not None and plain and working(value) is value:
            return node.module
        return CallUnit(true_function(node, recording, [self.to]))


@dataclass(frozen=True, eq=False)
class StackedStep(Step):
    """A sum or difference under a zennit rule for ``zennit.layer.Sum``, which sees the summands stacked.

    Constant summands are part of the stack, and keep their share.
    """

    to: tuple[Ref, ...]
    hook: Hook

    def prepare(self, recording: Recording) -> Backward:
        node = self.node(recording)
        summands = list(self._summands(node, recording))
        stacked = torch.stack(torch.broadcast_tensors(*summands), -1)  # type: ignore[no-untyped-call]
        pull = hook_backward(self.hook, CallUnit(lambda x: [x.sum(-1)]), stacked, where=node.name)

        def backward(message: Message) -> Given:
            parts = pull(working(only(message))).unbind(-1)
            return [
                (ref, sum_to(part, recording.graph.shape(ref)))
                for ref, part in zip(node.args, parts, strict=True)
                if isinstance(ref, Ref)
            ]

        return backward

    @staticmethod
    def _summands(node: Node, recording: Recording) -> Iterator[torch.Tensor]:
        like = working(recording.values[node.index][0])
        factors = (1, node.kwargs.get("alpha", 1) * (-1 if node.op == "sub" else 1))
        for operand, factor in zip(node.args, factors, strict=True):
            value = recording.value(operand) if isinstance(operand, Ref) else operand
            yield torch.as_tensor(value, dtype=like.dtype, device=like.device) * factor
