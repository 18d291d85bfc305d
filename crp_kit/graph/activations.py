"""Activation functions around a node: whether one made its values, and which node is behind the one that follows."""

from __future__ import annotations

from .graph import Graph, Node, Ref
from .operations import Kind, Trait

__all__ = ["activation_behind", "is_activated"]

_KEPT = (Trait.SAME_VALUES, Trait.DROPOUT, Trait.TRANSPARENT, Trait.MAXIMUM, Trait.AVERAGE, Trait.RESHAPE)
"""Traits of what leaves values behind an activation such values: none of them makes another combination."""


def is_activated(graph: Graph, ref: Ref) -> bool:
    """Return whether values are those of an activation function, or what is picked or averaged of them."""
    node = graph.node(ref)
    while node.kind is not Kind.ACTIVATION:
        if len(node.value_inputs) != 1 or not (node.kind is Kind.STRUCTURAL or _keeps(node)):
            return False
        node = graph.node(node.value_inputs[0])
    return True


def activation_behind(graph: Graph, ref: Ref) -> Ref | None:
    """Return the activation function that a node's values go into alone, perhaps normalised channel by channel."""
    while True:
        readers = graph.users.get(ref, ())
        if len(readers) != 1 or graph.nodes[readers[0]].shapes[0] != graph.shape(ref):
            return None
        node = graph.nodes[readers[0]]
        ref = Ref(node.index, 0)
        if node.kind is Kind.ACTIVATION:
            return ref
        if node.kind is not Kind.BATCH_NORM and not _keeps(node):
            return None


def _keeps(node: Node) -> bool:
    return any(node.spec.has(trait) for trait in _KEPT)
