"""The layout of channels or samples through one node: by the definition of its operation, never by comparing sizes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch

from ..graph import Graph, Node, Ref
from ..operations import Kind, Trait
from .arguments import operands
from .layout import LOST, Layout, Passage, Rule, aligned, joined


def followed(
    graph: Graph, ref: Ref, layouts: Mapping[Ref, Layout | None], *, samples: bool, mixing: bool = False
) -> Layout | None:
    """Return the layout of one output of a node from those of what it reads.

    Parameters
    ----------
    graph : Graph
    ref : Ref
        The output.
    layouts : mapping
        Those of all outputs before it: empty for what has no such dimension, None for what is unknown.
    samples : bool
        Whether samples are tracked, not channels.
    mixing : bool, optional
        Samples stay where they are if they meet others, selected or summed ones.

    Returns
    -------
    tuple of Factor or None
    """
    node, after = graph.nodes[ref.node], graph.shape(ref)
    rule = _rule(node)
    results: list[tuple[torch.Size, Layout | None]] = []
    for source in _sources(node, ref.output):
        layout = layouts.get(source, ())
        if layout == ():
            continue
        before = graph.shape(source)
        if layout is not None and layout != LOST:
            passage = Passage(node, source, layout, before, after, ref.output, samples, graph.shape)
            layout = None if rule is None else rule(passage)
        results.append((before, layout))
    if len(results) < 2:
        return results[0][1] if results else ()
    if rule is aligned and not samples and any(before == after for before, _ in results):
        results = [entry for entry in results if entry[0] == after]  # what is broadcast only modulates the others
    return joined([layout for _, layout in results], samples=samples, mixing=mixing)


def _sources(node: Node, output: int) -> Sequence[Ref]:
    """Return the operands that an output takes its elements from."""
    if Trait.COPY in node.spec.traits:
        return [operand for operand in operands(node)[1:] if isinstance(operand, Ref)]
    if Trait.BY_OUTPUT in node.spec.traits:
        return [operand for operand in operands(node)[output : output + 1] if isinstance(operand, Ref)]
    return node.value_inputs


def _rule(node: Node) -> Rule | None:
    """Return how an operation hands a layout on, or None if that is unknown."""
    if callable(node.spec.axes):
        return node.spec.axes
    return aligned if node.kind is Kind.ACTIVATION or _is_pointwise(node.op) else None


@functools.lru_cache(maxsize=1024)
def _is_pointwise(op: str) -> bool:
    """Return whether torch declares an operation as element-wise."""
    packet = getattr(torch.ops.aten, op, None)
    names = packet.overloads() if packet is not None else []
    return any(torch.Tag.pointwise in getattr(packet, name).tags for name in names)
