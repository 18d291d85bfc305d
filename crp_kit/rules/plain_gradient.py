"""Nodes at which relevance passes as plain gradient because no rule is known: grouped by reason, with advice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
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
        The reason, in words.
    nodes : tuple of str
        Names of the nodes.
    advice : str
        How to give them a rule, or to do without them.
    """

    level: Literal["error", "warning"]
    what: str
    nodes: tuple[str, ...]
    advice: str

    def __str__(self) -> str:
        more = ", …" if len(self.nodes) > _SHOWN else ""
        at = ", ".join(map(repr, self.nodes[:_SHOWN]))
        return f"{self.what} (at {at}{more}): relevance passes there as plain gradient; {self.advice}"


@dataclass(frozen=True)
class _Reason:
    """A reason for which nodes have no rule; ``{ops}`` and ``{logits}`` in its text are filled in."""

    holds: Callable[[Graph, Node], bool]
    level: Literal["error", "warning"]
    what: str
    advice: str


def plain_gradients(graph: Graph, names: Collection[str]) -> Iterator[PlainGradient]:
    """Yield the reasons for which nodes of some names pass plain gradients."""
    members: dict[int, list[Node]] = {number: [] for number in range(len(_REASONS))}
    for node in graph:
        if node.name in names:
            members[next(number for number, reason in enumerate(_REASONS) if reason.holds(graph, node))].append(node)
    for reason, nodes in zip(_REASONS, members.values(), strict=True):
        if nodes:
            words = {"ops": _ops(nodes), "logits": graph.label(next(iter(nodes[0].value_inputs), graph.output))}
            what, advice = (text.format(**words) for text in (reason.what, reason.advice))
            yield PlainGradient(reason.level, what, tuple(node.name for node in nodes), advice)


def _is_softmax_at_the_end(graph: Graph, node: Node) -> bool:
    """Return whether a softmax's output is only moved around on its way to the model's."""
    if not node.spec.has(Trait.PROBABILITIES):
        return False
    last = graph.node(graph.output)
    while last.index > node.index and last.kind is Kind.STRUCTURAL and last.value_inputs:
        last = graph.node(last.value_inputs[0])
    return last.index == node.index


def _ops(nodes: Collection[Node]) -> str:
    ops = sorted({node.op for node in nodes})
    return f"operation{'s' if len(ops) > 1 else ''} {', '.join(ops)}"


_REASONS = (
    _Reason(
        lambda graph, node: node.kind is Kind.UNKNOWN,
        "error",
        "no rule is known for the {ops}",
        "if the module is element-wise, declare it: CondAttribution(model, elementwise=...); otherwise write it with "
        "operations that have rules, or give it one with crp_kit.register_operation",
    ),
    _Reason(
        lambda graph, node: node.kind is Kind.OPAQUE,
        "error",
        "modules that cannot be looked into and have no rule",
        "scripted modules, custom autograd functions, sparse tensors and writes to parts of complex ones hide what is "
        "computed: give the composite a rule for the module, declare it with elementwise=..., or use a plain "
        "implementation",
    ),
    _Reason(
        lambda graph, node: node.kind is Kind.GRADIENT and _is_softmax_at_the_end(graph, node),
        "warning",
        "a softmax is the end of the model",
        "start at the logits: start_layer={logits!r} with the class as its concept, or leave the softmax out of the "
        "model",
    ),
    _Reason(
        lambda graph, node: node.kind is Kind.GRADIENT,
        "warning",
        "LRP has no rule for the non-linear {ops} as a signal",
        "start at the logits: leave the function out, or start below it with start_layer=...; or give the composite a "
        "rule for its module",
    ),
    _Reason(
        lambda graph, node: node.kind in (Kind.PRODUCT, Kind.AFFINE, Kind.NORM),
        "warning",
        "nothing that the {ops} reads is a signal, only what LRP otherwise holds fixed (denominators, positions, "
        "attention scores)",
        "write the model so that the signal is multiplied, or start below it with start_layer=...",
    ),
    _Reason(
        lambda graph, node: True,
        "error",
        "layers to which the composite gives no rule",
        "give the composite a rule for their types, such as zennit.types.Linear",
    ),
)
"""In the order in which they are reported; of those that hold for a node, the first is its reason."""
