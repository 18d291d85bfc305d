"""Group the nodes of a recorded graph into units for which LRP is well defined. The model itself is never changed.

A linear layer and the BatchNorm behind it are one affine map; a BatchNorm in front of linear layers belongs to them;
any other BatchNorm stays an affine map of its own. Pairs are found by data flow, never by the order of registration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .nodes import Graph, Node, Ref
from .ops import Kind

_TRANSPARENT = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "contiguous", "clone"})


@dataclass(frozen=True)
class Units:
    """Which BatchNorm belongs to which linear layer.

    Parameters
    ----------
    behind : dict
        Linear node to the BatchNorm node that its output goes through.
    before : dict
        Linear node to the BatchNorm node that its input came through.
    """

    behind: Mapping[int, int] = field(default_factory=dict)
    before: Mapping[int, int] = field(default_factory=dict)

    @property
    def folded(self) -> frozenset[int]:
        """Every BatchNorm that is part of a linear unit."""
        return frozenset(self.behind.values()) | frozenset(self.before.values())


def group(graph: Graph) -> Units:
    """Find the units of a recorded graph."""
    behind: dict[int, int] = {}
    before: dict[int, int] = {}
    norms = [node for node in graph if node.kind is Kind.BATCH_NORM and _is_constant(node)]
    for norm in norms:
        linear = _producer(graph, norm)
        if linear is not None and linear.index not in behind and _channels_agree(linear, norm):
            behind[linear.index] = norm.index
    for norm in norms:
        if norm.index in behind.values():
            continue
        readers = _consumers(graph, Ref(norm.index))
        if readers and all(_takes_norm(reader, norm) for reader in readers):
            before.update((reader.index, norm.index) for reader in readers)
    return Units(behind, before)


def _is_constant(norm: Node) -> bool:
    """Return whether the factors of a BatchNorm do not depend on the input."""
    return norm.inputs == (norm.argument("input"),) and norm.argument("running_var") is not None


def _producer(graph: Graph, norm: Node) -> Node | None:
    """Return the linear node whose output only this BatchNorm reads."""
    ref = norm.argument("input")
    while len(graph.users.get(ref, ())) == 1 and ref != graph.output:
        node = graph.node(ref)
        if node.kind is Kind.LINEAR and len(node.inputs) == 1 and isinstance(node.argument("input"), Ref):
            return node
        if node.op not in _TRANSPARENT:
            return None
        ref = node.inputs[0]
    return None


def _consumers(graph: Graph, ref: Ref) -> list[Node]:
    """Return the nodes that read an output, also through dropout; none if it is the model's output."""
    found: list[Node] = []
    for index in graph.users.get(ref, ()):
        node = graph.nodes[index]
        if node.op in _TRANSPARENT:
            below = _consumers(graph, Ref(index))
            if not below:
                return []
            found += below
        else:
            found.append(node)
    return [] if ref == graph.output else found


def _channels_agree(linear: Node, norm: Node) -> bool:
    """Return whether the channels of a linear node are those that the norm scales (axis 1)."""
    return linear.op != "linear" or len(norm.shape) == 2


def _takes_norm(reader: Node, norm: Node) -> bool:
    """Return whether a BatchNorm can be folded into the weights of the node that reads it."""
    if reader.kind is not Kind.LINEAR or len(reader.inputs) != 1 or reader.op.startswith("conv_transpose"):
        return False
    if not isinstance(reader.argument("input"), Ref):
        return False
    return len(norm.shape) == 2 if reader.op == "linear" else len(norm.shape) == len(reader.shape)
