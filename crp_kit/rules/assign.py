"""Which rule each node of a recorded graph gets: a zennit composite decides, module by module, in execution order.

Functional operations are shown to the composite as stand-in modules (``zennit.layer.Sum`` for ``+``, ``torch.nn.ReLU``
for ``relu`` …). Where a composite for LRP says nothing of an operation, the operation keeps a rule of its own, so that
relevance is neither doubled at a ``+`` nor lost in a norm; where it says nothing of a layer, that layer has the plain
gradient, as in zennit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from zennit import rules as zennit_rules
from zennit.core import Composite, Hook, Stabilizer
from zennit.layer import Sum

from ..graph.canonize import Units, group
from ..graph.flow import Flow
from ..graph.nodes import Graph, Node, Ref
from ..graph.ops import Kind
from .linear import HookStep, LinearStep, StackedStep
from .step import Step
from .structural import ContributionStep, Factor, GateStep, GradientStep, MixingStep, PassStep, StopStep

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "hardtanh": nn.Hardtanh, "clamp": nn.Hardtanh, "clamp_min": nn.ReLU,
    "clamp_max": nn.Hardtanh, "hardswish": nn.Hardswish, "silu": nn.SiLU, "gelu": nn.GELU, "elu": nn.ELU,
    "celu": nn.CELU, "selu": nn.SELU, "leaky_relu": nn.LeakyReLU, "prelu": nn.PReLU, "rrelu": nn.RReLU,
    "mish": nn.Mish, "softplus": nn.Softplus, "softsign": nn.Softsign, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid, "logsigmoid": nn.LogSigmoid, "softshrink": nn.Softshrink,
    "hardshrink": nn.Hardshrink, "tanhshrink": nn.Tanhshrink, "threshold": lambda: nn.Threshold(0, 0),
}  # fmt: skip
_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(1, 1, device="meta"),
    "conv1d": lambda: nn.Conv1d(1, 1, 1, device="meta"),
    "conv2d": lambda: nn.Conv2d(1, 1, 1, device="meta"),
    "conv3d": lambda: nn.Conv3d(1, 1, 1, device="meta"),
    "conv_transpose1d": lambda: nn.ConvTranspose1d(1, 1, 1, device="meta"),
    "conv_transpose2d": lambda: nn.ConvTranspose2d(1, 1, 1, device="meta"),
    "conv_transpose3d": lambda: nn.ConvTranspose3d(1, 1, 1, device="meta"),
    "batch_norm": lambda: nn.BatchNorm2d(1, device="meta"),
    "layer_norm": lambda: nn.LayerNorm(1, device="meta"),
    "group_norm": lambda: nn.GroupNorm(1, 1, device="meta"),
    "add": Sum,
    "sub": Sum,
    "sum": Sum,
    "mean": lambda: nn.AdaptiveAvgPool2d(1),
    "avg_pool1d": lambda: nn.AvgPool1d(1),
    "avg_pool2d": lambda: nn.AvgPool2d(1),
    "avg_pool3d": lambda: nn.AvgPool3d(1),
    "adaptive_avg_pool1d": lambda: nn.AdaptiveAvgPool1d(1),
    "adaptive_avg_pool2d": lambda: nn.AdaptiveAvgPool2d(1),
    "adaptive_avg_pool3d": lambda: nn.AdaptiveAvgPool3d(1),
    "interpolate": nn.Upsample,
    "max_pool1d": lambda: nn.MaxPool1d(1),
    "max_pool2d": lambda: nn.MaxPool2d(1),
    "max_pool3d": lambda: nn.MaxPool3d(1),
    "adaptive_max_pool2d": lambda: nn.AdaptiveMaxPool2d(1),
    "softmax": lambda: nn.Softmax(-1),
    "flatten": nn.Flatten,
    "dropout": nn.Dropout,
}
_STAND_INS = {**_ACTIVATIONS, **_LAYERS}
_FAMILY: dict[Kind, Callable[[], nn.Module]] = {
    Kind.ACTIVATION: nn.ReLU,
    Kind.AFFINE: lambda: nn.AvgPool2d(1),
    Kind.SUM: Sum,
}
"""The module whose rule an operation inherits if the composite does not know its own type."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done at each node of one recorded structure.

    Parameters
    ----------
    steps : tuple of Step
        By node.
    flow : Flow
        Which edges carry relevance under this composite.
    units : Units
    unknown : tuple of str
        Names of nodes whose operation has no rule and that hand relevance on as plain gradient.
    """

    steps: tuple[Step, ...]
    flow: Flow
    units: Units
    unknown: tuple[str, ...]


def stabilized(epsilon: float = 1e-6) -> Factor:
    """Return the factor ``1 / (z + sign(z) epsilon)``, where the sign of zero is positive."""
    stabilize = Stabilizer(epsilon)
    return lambda z: 1 / stabilize(z)


def rule_name(hook: Hook | None) -> str:
    """Return how people call a rule."""
    return "gradient" if hook is None else type(hook).__name__


class _Chooser:
    """Asks a composite for the rule of one node after the other."""

    def __init__(self, composite: Composite | None, graph: Graph) -> None:
        self.composite, self.graph = composite, graph
        self.context: dict[Any, Any] = {}

    def ask(self, name: str, module: nn.Module) -> Hook | None:
        if self.composite is None:
            return None
        hook: Hook | None = self.composite.module_map(self.context, name, module)
        return hook

    def try_out(self, name: str, module: nn.Module) -> Hook | None:
        """Ask without consequences for what is asked later, such as which layer counts as the first."""
        if self.composite is None:
            return None
        hook: Hook | None = self.composite.module_map(_copied(self.context), name, module)
        return hook

    def rule(self, node: Node) -> Hook | None:
        """Return the rule of a node, by its module, its stand-in or its family."""
        stand_in = _STAND_INS.get(node.op)
        shown = [node.module] if node.module is not None else []
        if stand_in is not None and not any(isinstance(module, type(stand_in())) for module in shown):
            shown.append(stand_in())
        for module in shown:
            hook = self.ask(self._name(node, module), module)
            if hook is not None:
                return hook
        family = _FAMILY.get(node.kind)
        return self.try_out("", family()) if family is not None else None

    def _name(self, node: Node, module: nn.Module) -> str:
        """Return the name to ask with: the node's own, unless only the module's path means something."""
        path = node.owner if node.module is not None else ""
        if not path or path == node.name:
            return node.name
        anybody, own, shared = (self.try_out(name, module) for name in ("", node.name, path))
        return node.name if own is not anybody or shared is anybody else path


def _copied(context: dict[Any, Any]) -> dict[Any, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in context.items()}


def is_lrp(composite: Composite | None) -> bool:
    """Return whether a composite propagates relevance, rather than a modified gradient: it has a rule for layers."""
    if composite is None:
        return False
    return any(composite.module_map({}, "", _LAYERS[op]()) is not None for op in ("linear", "conv2d", "conv1d"))


def mapped_containers(composite: Composite | None, shadow: nn.Module) -> frozenset[str]:
    """Return the paths of modules with modules inside that a composite gives a rule of their own."""
    if composite is None:
        return frozenset()
    return frozenset(
        path
        for path, module in shadow.named_modules()
        if any(True for _ in module.children())
        and not isinstance(module, nn.MultiheadAttention)
        and composite.module_map({}, path, module) is not None
    )


def make_plan(graph: Graph, composite: Composite | None) -> Plan:
    """Give each node of a recorded graph its step."""
    chooser = _Chooser(composite, graph)
    hooks = [None if node.kind is Kind.INPUT else chooser.rule(node) for node in graph]
    named = any(hook is not None for node, hook in zip(graph, hooks, strict=True) if node.kind is Kind.LINEAR)
    relevance = composite is not None and (named or is_lrp(composite))
    maker = _Maker(graph, Flow(graph, gradient=not relevance), group(graph), relevance, _common_factor(chooser))
    steps = tuple(maker.step(node, hook) for node, hook in zip(graph, hooks, strict=True))
    unknown = tuple(node.name for node, step in zip(graph, steps, strict=True) if step.rule == _UNKNOWN)
    return Plan(steps, maker.flow, maker.units, unknown)


_UNKNOWN = "gradient (unknown operation)"


def _common_factor(chooser: _Chooser) -> Factor:
    """Return the factor of crp-kit's own rules: that of the composite's rule for sums, or 1e-6."""
    hook = chooser.try_out("", Sum())
    return _factor_of(hook) if type(hook) is zennit_rules.Norm else stabilized()


def _factor_of(hook: Any) -> Factor:
    """Return the factor by which a Norm or Epsilon rule multiplies relevance, given the output."""
    return lambda z: hook.gradient_mapper(torch.ones_like(z), [z])  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Maker:
    graph: Graph
    flow: Flow
    units: Units
    relevance: bool
    factor: Factor

    def step(self, node: Node, hook: Hook | None) -> Step:
        """Return the step of one node."""
        to = self.flow.carrying[node.index]
        if node.kind is Kind.INPUT or not to:
            return StopStep(node.index, "")
        makers: Mapping[Kind, Callable[[Node, Hook | None, tuple[Ref, ...]], Step | None]] = {
            Kind.LINEAR: self._linear,
            Kind.BATCH_NORM: self._batch_norm,
            Kind.SUM: self._contributions,
            Kind.AFFINE: self._contributions,
            Kind.PRODUCT: self._product,
            Kind.NORM: self._norm,
        }
        made = makers[node.kind](node, hook, to) if node.kind in makers else None
        return made or self._by_hook(node, hook, to) or self._gradient(node, to)

    def _gradient(self, node: Node, to: tuple[Ref, ...]) -> Step:
        rule = _UNKNOWN if node.kind is Kind.UNKNOWN and self.relevance else "gradient"
        return GradientStep(node.index, rule, to)

    def _by_hook(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if hook is None:
            if node.op in ("neg", "abs") and self.relevance:
                return PassStep(node.index, "Pass", to[0])
            return None
        if type(hook) is zennit_rules.Pass and len(node.shapes) == 1:
            return PassStep(node.index, "Pass", to[0])
        return HookStep(node.index, rule_name(hook), to[0], hook) if len(to) == 1 else None

    def _linear(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if to != (node.argument("input"),):
            return None
        if type(hook) is zennit_rules.Pass:
            return None
        behind, before = self.units.behind.get(node.index), self.units.before.get(node.index)
        return LinearStep(node.index, rule_name(hook), to[0], hook, behind, before)

    def _batch_norm(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if node.index in self.units.folded:
            return PassStep(node.index, "part of a linear layer", to[0])
        if hook is not None and type(hook) is not zennit_rules.Pass:
            return None
        return ContributionStep(node.index, "Epsilon (affine)", to, self.factor) if self.relevance else None

    def _norm(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if hook is not None or not self.relevance:
            return None
        return ContributionStep(node.index, "Epsilon (deviation detached)", to, self.factor)

    def _contributions(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if hook is not None and type(hook) not in (zennit_rules.Norm, zennit_rules.Pass):
            summed = node.op == "add" and not node.kwargs and node.module is None
            return StackedStep(node.index, rule_name(hook), to, hook) if summed else None
        if type(hook) is zennit_rules.Norm:
            return ContributionStep(node.index, "Norm", to, _factor_of(hook))
        return ContributionStep(node.index, "Norm", to, self.factor) if self.relevance else None

    def _product(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if not self.relevance:
            return None
        if node.op in ("mul", "div"):
            return GateStep(node.index, "gate" if len(to) == 1 else "equal split", to)
        return MixingStep(node.index, "Epsilon (weights detached)", to, self.factor)
