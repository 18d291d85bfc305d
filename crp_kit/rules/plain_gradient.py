"""Nodes at which relevance passes as plain gradient because no rule is known: grouped by reason, with advice."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from ..graph.graph import Graph, Node
from ..graph.operations import Kind, Trait

__all__ = ["PlainGradient", "plain_gradients"]

_SHOWN = 5


@dataclass(frozen=True)
class PlainGradient:
    """Nodes without a rule for one reason.

    Parameters
    ----------
    level : {"error", "warning"}
        A warning where the plain gradient may be what is wanted, such as at a softmax.
    what : str
    nodes : tuple of str
    advice : str
    """

    level: Literal["error", "warning"]
    what: str
    nodes: tuple[str, ...]
    advice: str

    def __str__(self) -> str:
        more = ", …" if len(self.nodes) > _SHOWN else ""
        at = ", ".join(map(repr, self.nodes[:_SHOWN]))
        return f"{self.what} (at {at}{more}): relevance passes there as plain gradient; {self.advice}"


def plain_gradients(graph: Graph, names: Collection[str]) -> Iterator[PlainGradient]:
    """Yield the reasons for which nodes of some names pass plain gradients."""
    nodes = [node for node in graph if node.name in names]
    for group in (_unknown, _opaque, _softmax_at_the_end, _nonlinear, _without_signal, _without_rule):
        members = [node for node in nodes if _group_of(graph, node) is group]
        if members:
            yield group(graph, members)


def _group_of(graph: Graph, node: Node) -> object:
    if node.kind is Kind.UNKNOWN:
        return _unknown
    if node.kind is Kind.OPAQUE:
        return _opaque
    if node.kind is Kind.GRADIENT:
        return _softmax_at_the_end if node.spec.has(Trait.PROBABILITIES) and _is_last(graph, node) else _nonlinear
    return _without_signal if node.kind in (Kind.PRODUCT, Kind.AFFINE, Kind.NORM) else _without_rule


def _is_last(graph: Graph, node: Node) -> bool:
    """Return whether what a node makes is only moved around on its way to the output."""
    last = graph.node(graph.output)
    while last.index > node.index and last.kind is Kind.STRUCTURAL and last.value_inputs:
        last = graph.node(last.value_inputs[0])
    return last.index == node.index


def _names(nodes: Collection[Node]) -> tuple[str, ...]:
    return tuple(node.name for node in nodes)


def _ops(nodes: Collection[Node]) -> str:
    ops = sorted({node.op for node in nodes})
    return f"operation{'s' if len(ops) > 1 else ''} {', '.join(ops)}"


def _unknown(graph: Graph, nodes: Collection[Node]) -> PlainGradient:
    return PlainGradient(
        "error",
        f"no rule is known for the {_ops(nodes)}",
        _names(nodes),
        "if the module is element-wise, declare it: CondAttribution(model, elementwise=...); otherwise write it with "
        "operations that have rules, or give it one with crp_kit.register_operation",
    )


def _opaque(graph: Graph, nodes: Collection[Node]) -> PlainGradient:
    return PlainGradient(
        "error",
        "modules that cannot be looked into and have no rule",
        _names(nodes),
        "scripted modules, custom autograd functions and complex numbers hide what they compute: give the composite a "
        "rule for the module, declare it with elementwise=..., or use a plain implementation",
    )


def _softmax_at_the_end(graph: Graph, nodes: Collection[Node]) -> PlainGradient:
    logits = next(iter(next(iter(nodes)).value_inputs))
    return PlainGradient(
        "warning",
        "a softmax is the end of the model",
        _names(nodes),
        f"start at the logits: start_layer={graph.label(logits)!r} with the class as its concept, or leave the softmax "
        f"out of the model",
    )


def _nonlinear(graph: Graph, nodes: Collection[Node]) -> PlainGradient:
    return PlainGradient(
        "warning",
        f"LRP has no rule for the non-linear {_ops(nodes)} as a signal",
        _names(nodes),
        "start at the logits: leave the function out, or start below it with start_layer=...; or give the composite a "
        "rule for its module",
    )


def _without_signal(graph: Graph, nodes: Collection[Node]) -> PlainGradient:
    return PlainGradient(
        "warning",
        f"nothing that the {_ops(nodes)} reads is a signal, only what LRP otherwise holds fixed (denominators, "
        f"positions, attention scores)",
        _names(nodes),
        "write the model so that the signal is multiplied, or start below it with start_layer=...",
    )


def _without_rule(graph: Graph, nodes: Collection[Node]) -> PlainGradient:
    return PlainGradient(
        "error",
        "layers to which the composite gives no rule",
        _names(nodes),
        "give the composite a rule for their types, such as zennit.types.Linear",
    )
