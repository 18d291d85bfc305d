"""Choice of steps: what a node does with relevance under the rule that a composite has for it.

Where a composite for LRP says nothing of an operation, the operation keeps a rule of its own, so that relevance is
neither doubled at a ``+`` nor lost in a norm; where it says nothing of a layer, that layer has the plain gradient, as
in zennit. An operation that was registered with a step of its own keeps that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from zennit import rules as zennit_rules
from zennit.core import Hook, Stabilizer
from zennit.layer import Sum

from ..graph.batch_norm_folding import Units
from ..graph.graph import Graph, Node, Ref
from ..graph.operations import Kind, Trait
from ..graph.relevance_edges import Flow
from ..rules.attnlrp import SoftmaxTaylor, Uniform
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
from .rule_choice import RuleChooser
from .rule_steps import HookStep, KeptUnit, LinearStep, StackedStep
from .step import Quality, Step
from .view_step import ViewStep, shown_parts

__all__ = ["BatchNormRule", "StepMaker", "common_mapper"]

BatchNormRule = Literal["affine", "pass", "epsilon", "threshold"]
"""What is done at a BatchNorm that belongs to no linear layer.

``"affine"``: it is the affine map ``a x + c`` under an epsilon rule, with the stabilizer of sums; the shift takes its
share. ``"epsilon"``: zennit's Epsilon on the module, with a stabilizer of 1e-6. ``"pass"``: relevance passes unchanged;
the shift takes nothing. ``"threshold"``: with the ReLU behind it, and the linear layers behind that, it becomes a ReLU
with a threshold (`crp_kit.graph.batch_norm_folding.Fold`); elsewhere it is affine.
"""


def _stabilized(epsilon: float | Stabilizer = 1e-6) -> Mapper:
    """Return division by ``z + sign(z) epsilon``, where the sign of zero is positive."""
    stabilize = quick(Stabilizer.ensure(epsilon))
    return lambda multiplied, z: multiplied / stabilize(z)


def _rule_name(hook: Hook | None) -> str:
    """Return the name of a rule in tables."""
    return "gradient" if hook is None else type(hook).__name__


def common_mapper(chooser: RuleChooser) -> Mapper:
    """Return the mapper of crp-kit's own rules: that of the composite's rule for sums, or division with 1e-6."""
    hook = chooser.try_out("", Sum())
    return _mapper_of(hook) if type(hook) is zennit_rules.Norm else _stabilized()


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
class StepMaker:
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
            return SoftmaxStep(node.index, _rule_name(hook), to[0], hook)
        return HookStep(node.index, _rule_name(hook), to[0], hook) if len(to) == 1 else None

    def _linear(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if to != (node.argument("input"),):
            return self._contribution(node, "Epsilon (weights from the input)", to)
        if type(hook) is zennit_rules.Pass:
            return None
        behind, before = self.units.behind.get(node.index), self.units.before.get(node.index)
        shape = None if before is None else self.graph.shape(to[0])[1:]
        key = (node.name, node.op, id(hook), behind is None, before is None, shape)
        kept = self.kept.setdefault(key, KeptUnit())
        return LinearStep(node.index, _rule_name(hook), to[0], hook, kept, behind, before)

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
            return StackedStep(node.index, _rule_name(hook), to, hook)
        return None if len(to) == 1 else self._contribution(node, "Norm", to)

    def _product(self, node: Node, hook: Hook | None, to: tuple[Ref, ...]) -> Step | None:
        if not self.relevance:
            return None
        if isinstance(hook, Uniform):
            uniform = AttentionStep if node.spec.has(Trait.ATTENTION) else ContributionStep
            return uniform(node.index, _rule_name(hook), to, _stabilized(hook.stabilizer_fn))
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
