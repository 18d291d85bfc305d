"""Plans: the rule of each node of a recorded graph. A zennit composite decides, module by module, in execution order.

Functional operations are shown to the composite as stand-in modules (``zennit.layer.Sum`` for ``+``, ``torch.nn.ReLU``
for ``relu`` …). Where a composite for LRP says nothing of an operation, the operation keeps a rule of its own, so that
relevance is neither doubled at a ``+`` nor lost in a norm; where it says nothing of a layer, that layer has the plain
gradient, as in zennit. An operation that was registered with a step of its own keeps that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import nn
from zennit import rules as zennit_rules
from zennit.core import Composite, Hook, Stabilizer
from zennit.layer import Sum

from ..graph.axes.output_axes import channel_axes
from ..graph.batch_norm_folding import Units, group
from ..graph.graph import Graph, Node, Ref
from ..graph.operations import Kind, Trait
from ..graph.registry import spec_of
from ..graph.relevance_edges import Flow
from ..rules.attnlrp import SoftmaxTaylor, Uniform
from ..rules.maps.base import NodeRules, RuleMap, resolved
from ..rules.module_stand_ins import FAMILY, STAND_INS
from ..rules.stabilizer import quick
from .attention import AttentionStep, SoftmaxStep
from .closed_form import known_rule
from .own_steps import (
    ConcatenationStep,
    ContributionStep,
    GateStep,
    GradientStep,
    Mapper,
    PassStep,
    StopStep,
)
from .registered_step import RegisteredStep
from .rule_steps import HookStep, KeptUnit, LinearStep, StackedStep
from .step import Quality, Step
from .view_step import ViewStep, shown_parts

BatchNormRule = Literal["affine", "pass", "epsilon", "threshold"]
"""What is done at a BatchNorm that belongs to no linear layer.

``"affine"``: it is the affine map ``a x + c`` under an epsilon rule, with the stabilizer of sums; the shift takes its
share. ``"epsilon"``: zennit's Epsilon on the module, with a stabilizer of 1e-6. ``"pass"``: relevance passes unchanged;
the shift takes nothing. ``"threshold"``: with the ReLU behind it, and the linear layers behind that, it becomes a ReLU
with a threshold (`crp_kit.graph.batch_norm_folding.Fold`); elsewhere it is affine.
"""


@dataclass(frozen=True, eq=False)
class Plan:
    """The steps of all nodes of one recorded structure under a composite.

    Parameters
    ----------
    steps : tuple of Step
        By node.
    flow : Flow
        The edges that carry relevance under this composite.
    units : Units
    plain_gradient_nodes : frozenset of str
        Names of the nodes that hand the relevance of LRP on as plain gradient, since no rule is known for them.
    maps : frozenset of Ref
        Outputs that are maps of channels, (sample, channel, height, width), in a network with convolutions.
    step_under : callable
        Returns the step of a node, by its index, under other units.
    """

    steps: tuple[Step, ...]
    flow: Flow
    units: Units
    plain_gradient_nodes: frozenset[str]
    maps: frozenset[Ref]
    step_under: Callable[[Units, int], Step]
    _cut: dict[int, Plan | None] = field(default_factory=dict)

    def cut_at(self, start: Ref) -> Plan:
        """Return the plan for relevance that starts at an output: another one where that is inside of a unit.

        The unit is cut there (`Units.cut`). All other steps are the very steps of this plan.
        """
        if start.node not in self._cut:
            units, apart = self.units.cut(self.flow.graph, start.node)
            steps = tuple(self.step_under(units, step.index) if step.index in apart else step for step in self.steps)
            self._cut[start.node] = replace(self, steps=steps, units=units, _cut={}) if apart else None
        return self._cut[start.node] or self


def stabilized(epsilon: float | Stabilizer = 1e-6) -> Mapper:
    """Return division by ``z + sign(z) epsilon``, where the sign of zero is positive."""
    stabilize = quick(Stabilizer.ensure(epsilon))
    return lambda multiplied, z: multiplied / stabilize(z)


def rule_name(hook: Hook | None) -> str:
    """Return the name of a rule in tables."""
    return "gradient" if hook is None else type(hook).__name__


class _Chooser:
    """Asks a composite for the rule of each node, in execution order."""

    def __init__(self, composite: Composite | None, graph: Graph) -> None:
        self.composite, self.graph = composite, graph
        self.context: dict[Any, Any] = {}

    def ask(self, name: str, module: nn.Module) -> Hook | None:
        if self.composite is None:
            return None
        hook: Hook | None = self.composite.module_map(self.context, name, module)
        return hook

    def try_out(self, name: str, module: nn.Module) -> Hook | None:
        """Ask without consequences for later questions, such as which layer counts as the first."""
        if self.composite is None:
            return None
        hook: Hook | None = self.composite.module_map(_copied(self.context), name, module)
        return hook

    def rule(self, node: Node) -> Hook | None:
        """Return the rule of a node, by its module, its stand-in or its family."""
        if isinstance(self.composite, NodeRules):
            return self.composite.rules.get(node.name)
        shown = [node.module] if node.module is not None else []
        has_own_step = node.spec.step is not None
        of_other_kind = node.kind is not spec_of(node.op).kind  # by its arguments: such a clamp is no activation
        stand_in = None if has_own_step or of_other_kind else STAND_INS.get(node.op)
        if stand_in is not None and not any(isinstance(module, type(stand_in())) for module in shown):
            shown.append(stand_in())
        for module in shown:
            hook = self.ask(self._name(node, module), module)
            if hook is not None:
                return hook
        family = None if has_own_step else FAMILY.get(node.kind)
        return self.try_out("", family()) if family is not None else None

    def _name(self, node: Node, module: nn.Module) -> str:
        """Return the name to ask with: the node's own, unless only the module's path means something."""
        path = node.owner if node.module is not None else ""
        if not path or path == node.name:
            return node.name
        unnamed, by_node, by_path = (self.try_out(name, module) for name in ("", node.name, path))
        return node.name if by_node is not unnamed or by_path is unnamed else path


def _copied(context: dict[Any, Any]) -> dict[Any, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in context.items()}


def is_lrp(composite: Composite | None) -> bool:
    """Return whether a composite propagates relevance, rather than a modified gradient: it has a rule for layers."""
    if composite is None:
        return False
    return any(composite.module_map({}, "", STAND_INS[op]()) is not None for op in ("linear", "conv2d", "conv1d"))


def modules_with_rule_of_their_own(composite: Composite | None, graph: Graph, shadow: nn.Module) -> frozenset[str]:
    """Return the paths of modules that ran and have a rule in the composite, but of which no node is the whole.

    Such a module has to be one node, or else its rule would be applied nowhere.
    """
    if composite is None or isinstance(composite, RuleMap):
        return frozenset()
    whole = {id(node.module) for node in graph}
    inside = tuple(f"{node.owner}." for node in graph if node.is_module and node.owner)
    return frozenset(
        path
        for path, module in shadow.named_modules()
        if (not path or path in graph.names)
        and id(module) not in whole
        and not path.startswith(inside)
        and not isinstance(module, (nn.MultiheadAttention, nn.modules.batchnorm._BatchNorm))  # calls in it have rules
        and composite.module_map({}, path, module) is not None
    )


def make_plan(
    graph: Graph,
    composite: Composite | None,
    batch_norm: BatchNormRule,
    kept: MutableMapping[Any, KeptUnit],
) -> Plan:
    """Give each node of a recorded graph its step.

    Relevance that is recorded or masked inside of a unit of `Units` is the unit's; where relevance starts there, the
    unit is cut: see `Plan.cut_at`.

    Parameters
    ----------
    graph : Graph
    composite : zennit Composite or None
    batch_norm : str
    kept : mapping
        Units of other plans for this composite, to which this one's are added.

    Raises
    ------
    CompositeError, UnknownLayerError
        If the composite asks for layers that the graph does not have.
    """
    composite = resolved(composite, graph)
    chooser = _Chooser(composite, graph)
    hooks = [None if node.kind is Kind.INPUT else chooser.rule(node) for node in graph]
    named = any(hook is not None for node, hook in zip(graph, hooks, strict=True) if node.kind is Kind.LINEAR)
    relevance = composite is not None and (named or is_lrp(composite))
    units = _units(graph, hooks, thresholds=batch_norm == "threshold") if relevance else Units()
    shared = frozenset(index for index, hook in enumerate(hooks) if relevance and isinstance(hook, Uniform))
    flow = Flow(graph, gradient=not relevance, shared=shared)
    maker = _Maker(graph, flow, units, relevance, _common_mapper(chooser), batch_norm, kept)

    def step_under(units: Units, index: int) -> Step:
        return replace(maker, units=units).step(graph.nodes[index], hooks[index])

    steps = tuple([maker.step(node, hook) for node, hook in zip(graph, hooks, strict=True)])
    plain = _plain_gradient_nodes(graph, steps) if relevance else frozenset()
    return Plan(steps, flow, units, plain, _maps(graph), step_under)


def _plain_gradient_nodes(graph: Graph, steps: Sequence[Step]) -> frozenset[str]:
    """Return the names of the nodes that pass plain gradients.

    A ReLU's gradient is its rule: where it is off, its output is zero and so is the relevance that is left out.
    """
    plain = (node for node, step in zip(graph, steps, strict=True) if step.quality == "gradient")
    return frozenset(node.name for node in plain if not node.spec.has(Trait.RELU))


def _maps(graph: Graph) -> frozenset[Ref]:
    if not any(node.spec.is_convolution and node.spec.spatial_axes == 2 for node in graph):
        return frozenset()
    return frozenset(ref for ref, axis in channel_axes(graph).items() if axis == 1 and len(graph.shape(ref)) == 4)


def _units(graph: Graph, hooks: Sequence[Hook | None], *, thresholds: bool) -> Units:
    """Return the units of a graph, without the norms and ReLUs to which the composite gives a rule that is not Pass."""
    units = group(graph, thresholds=thresholds)
    own = {i for i, hook in enumerate(hooks) if hook is not None and type(hook) is not zennit_rules.Pass}
    behind = {linear: norm for linear, norm in units.behind.items() if norm not in own}
    before = {linear: fold for linear, fold in units.before.items() if own.isdisjoint({fold.norm, fold.relu})}
    return Units(behind, before)


def _common_mapper(chooser: _Chooser) -> Mapper:
    """Return the mapper of crp-kit's own rules: that of the composite's rule for sums, or division with 1e-6."""
    hook = chooser.try_out("", Sum())
    return _mapper_of(hook) if type(hook) is zennit_rules.Norm else stabilized()


def _mapper_of(hook: Any) -> Mapper:
    """Return a Norm rule's gradient mapper, for its one term."""
    known = known_rule(hook)
    rule = hook if known is None else known.quick
    return lambda multiplied, z: rule.gradient_mapper(multiplied.expand_as(z), [z])


def _passes_on(hook: Hook) -> bool:
    """Return whether a hook does what the rule Pass does: it is one, or of a subclass that changes nothing of it."""
    names = ("register", "pre_forward", "post_forward", "pre_backward", "forward", "backward")
    return all(getattr(type(hook), name) is getattr(zennit_rules.Pass, name) for name in names)


@dataclass(frozen=True)
class _Maker:
    """Makes the step of each node from the rule that a composite has for it."""

    graph: Graph
    flow: Flow
    units: Units
    relevance: bool
    mapper: Mapper
    batch_norm: BatchNormRule
    kept: MutableMapping[Any, KeptUnit]

    def step(self, node: Node, hook: Hook | None) -> Step:
        """Return the step of one node."""
        to = self.flow.carrying[node.index]
        if node.kind is Kind.INPUT or not to:
            return StopStep(node.index, "", quality="")
        step = self._step(node, hook, to)
        return replace(step, quality=_quality(node, step))

    def _step(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step:
        if node.spec.step is not None and hook is None and self.relevance:
            return RegisteredStep(node.index, f"step of {node.op}", to, node.spec.step)
        makers: Mapping[Kind, Callable[[Node, Hook | None, tuple[Ref, ...]], Step | None]] = {
            Kind.LINEAR: self._linear,
            Kind.BATCH_NORM: self._batch_norm,
            Kind.SUM: self._contributions,
            Kind.AFFINE: self._contributions,
            Kind.PRODUCT: self._product,
            Kind.NORM: self._norm,
            Kind.DEVIATION: self._norm,
        }
        fixed = set(node.playing(node.spec.fixed)) - set(node.playing(node.spec.factors))
        if self.relevance and set(to) <= fixed and not isinstance(hook, Uniform):
            return self._gradient(node, to)
        step = makers[node.kind](node, hook, to) if node.kind in makers else None
        return step or self._by_hook(node, hook, to) or self._gradient(node, to)

    def _gradient(self, node: Node, to: tuple[Ref, ...]) -> Step:
        rule = "gradient (unknown operation)" if node.kind is Kind.UNKNOWN and self.relevance else "gradient"
        if node.spec.has(Trait.CONCATENATION) and all(len(self.graph.shape(ref)) == len(node.shape) for ref in to):
            return ConcatenationStep(node.index, rule, to)
        parts = shown_parts(node, self.graph.shape(to[0]))
        return GradientStep(node.index, rule, to) if parts is None else ViewStep(node.index, rule, to, parts)

    def _by_hook(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if hook is None:
            same = len(to) == 1 and len(node.shapes) == 1 and node.shape == self.graph.shape(to[0])
            if same and node.spec.has(Trait.SAME_VALUES):  # without rounding relevance to another precision
                return PassStep(node.index, "gradient", to[0])
            signal = same and to[0] == next(iter((*node.args, *node.kwargs.values())))
            passed_on = self.relevance and signal and node.spec.has(Trait.PASSED_ON)
            return PassStep(node.index, "Pass", to[0]) if passed_on else None
        if _passes_on(hook) and len(node.shapes) == 1:
            return PassStep(node.index, "Pass", to[0])
        if isinstance(hook, SoftmaxTaylor) and node.spec.has(Trait.SOFTMAX) and len(to) == 1:
            return SoftmaxStep(node.index, rule_name(hook), to[0], hook)
        return HookStep(node.index, rule_name(hook), to[0], hook) if len(to) == 1 else None

    def _linear(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if to != (node.argument("input"),):
            return self._contribution(node, "Epsilon (weights from the input)", to)
        if type(hook) is zennit_rules.Pass:
            return None
        behind, before = self.units.behind.get(node.index), self.units.before.get(node.index)
        shape = None if before is None else self.graph.shape(to[0])[1:]
        key = (node.name, node.op, id(hook), behind is None, before is None, shape)
        kept = self.kept.setdefault(key, KeptUnit())
        return LinearStep(node.index, rule_name(hook), to[0], hook, kept, behind, before)

    def _contribution(self, node: Node, rule: str, to: tuple[Ref, ...]) -> Step | None:
        """Return crp-kit's own rule, where relevance is what flows."""
        return ContributionStep(node.index, rule, to, self.mapper) if self.relevance else None

    def _batch_norm(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if node.index in self.units.folded:
            return PassStep(node.index, "part of a linear layer", to[0])
        if (hook is not None and type(hook) is not zennit_rules.Pass) or not self.relevance:
            return None
        if self.batch_norm == "pass" and len(to) == 1:
            return PassStep(node.index, "Pass", to[0])
        if self.batch_norm == "epsilon" and len(to) == 1:
            return HookStep(node.index, "Epsilon", to[0], zennit_rules.Epsilon())
        return self._contribution(node, "Epsilon (affine)", to)

    def _norm(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        return self._contribution(node, "Epsilon (deviation detached)", to) if hook is None else None

    def _contributions(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if type(hook) is zennit_rules.Norm:
            return ContributionStep(node.index, "Norm", to, _mapper_of(hook))
        if hook is None or type(hook) is zennit_rules.Pass:
            return self._contribution(node, "Norm", to)
        if node.spec.signs and len(node.args) == 2 and set(node.kwargs) <= {"alpha"}:
            return StackedStep(node.index, rule_name(hook), to, hook)
        return None if len(to) == 1 else self._contribution(node, "Norm", to)

    def _product(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if not self.relevance:
            return None
        if isinstance(hook, Uniform):
            uniform = AttentionStep if node.spec.has(Trait.ATTENTION) else ContributionStep
            return uniform(node.index, rule_name(hook), to, stabilized(hook.stabilizer_fn))
        if node.spec.has(Trait.SCALING):
            return GateStep(node.index, "gate" if len(to) == 1 else "equal split", to)
        return self._contribution(node, "Epsilon (weights detached)", to)


_OWN_RULE = (Kind.LINEAR, Kind.BATCH_NORM, Kind.SUM, Kind.AFFINE, Kind.ACTIVATION, Kind.STRUCTURAL)
"""Operations for which LRP has rules: affine maps, what moves values, and what is element-wise."""


def _quality(node: Node, step: Step) -> Quality:
    """Return how well a rule is defined at a node."""
    linear = node.kind is Kind.PRODUCT and len(node.inputs) == 1
    if isinstance(step, (PassStep, RegisteredStep)) or (linear and not isinstance(step, GradientStep)):
        return "exact"
    if step.rule.startswith("gradient"):
        return "exact" if node.kind is Kind.STRUCTURAL else "gradient"
    return "exact" if node.kind in _OWN_RULE else "approximate"
