"""Descriptions of planned steps: the rule of each node, for fingerprints and for tables."""

from __future__ import annotations

from zennit.core import Hook

from ..graph.graph import Graph
from ..rules.description import describe_hook, described_numbers, epsilon_in
from ..rules.parameters import short_rule
from .plan import Plan
from .step import Step

__all__ = ["describe_plan", "step_description"]

_REMARKS = {
    "affine": "own affine rule",
    "deviation detached": "constant deviation",
    "weights detached": "constant weights",
}


def describe_plan(graph: Graph, plan: Plan) -> dict[str, list[str]]:
    """Return the names of the nodes of each rule, with all numbers in the rule."""
    nodes_by_rule: dict[str, list[str]] = {}
    for node, step in zip(graph, plan.steps, strict=True):
        holder = step.parameters_in
        if isinstance(holder, Hook):
            rule = describe_hook(holder)
        else:
            rule = step.rule if holder is None else f"{step.rule}({described_numbers(holder)})"
        if rule:
            nodes_by_rule.setdefault(rule, []).append(node.name)
    return nodes_by_rule


def step_description(step: Step) -> tuple[str, str]:
    """Return the rule of a step with its parameters, and a remark on what it takes for constant at the node."""
    holder = step.parameters_in
    if isinstance(holder, Hook):
        return short_rule(holder), ""
    rule, _, remark = step.rule.removesuffix(")").partition(" (")
    epsilon = epsilon_in(holder)
    return rule if epsilon is None else f"{rule}(epsilon={epsilon})", _REMARKS.get(remark, remark)
