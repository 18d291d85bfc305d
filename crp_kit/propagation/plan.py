"""Plans: the steps of all nodes of a recorded graph under a composite."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zennit import rules as zennit_rules
from zennit.core import Composite, Hook

from ..graph.axes.output_axes import channel_axes
from ..graph.batch_norm_folding import Units, group
from ..graph.graph import Graph, Ref
from ..graph.operations import Kind, Trait
from ..graph.relevance_edges import Flow
from ..rules.attnlrp import Uniform
from ..rules.maps.base import resolved
from .rule_choice import RuleChooser, is_lrp
from .rule_steps import KeptUnit
from .step import Step
from .step_choice import BatchNormRule, StepMaker, common_mapper

__all__ = ["Plan", "make_plan"]


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
    chooser = RuleChooser(composite, graph)
    hooks = [None if node.kind is Kind.INPUT else chooser.rule(node) for node in graph]
    named = any(hook is not None for node, hook in zip(graph, hooks, strict=True) if node.kind is Kind.LINEAR)
    relevance = composite is not None and (named or is_lrp(composite))
    units = _units(graph, hooks, thresholds=batch_norm == "threshold") if relevance else Units()
    shared = frozenset(index for index, hook in enumerate(hooks) if relevance and isinstance(hook, Uniform))
    flow = Flow(graph, gradient=not relevance, shared=shared)
    maker = StepMaker(graph, flow, units, relevance, common_mapper(chooser), batch_norm, kept)

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
