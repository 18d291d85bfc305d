"""Grouping of the nodes of a recorded graph into units for which LRP is well defined; the model is never changed.

A linear layer and the BatchNorm behind it are one affine map; a BatchNorm in front of linear layers belongs to them;
any other BatchNorm stays an affine map of its own. Pairs are found by data flow, never by the order of registration.

A unit has nodes inside of it: those whose output is not the unit's own, such as a convolution with a BatchNorm behind.
Conditions there, and relevance recorded there, refer to the unit, as with zennit's MergeBatchNorm: a BatchNorm maps
each channel and position to itself, so a mask on one side of it is a mask on the other, all channels together are no
condition, and a heatmap does not depend on what is recorded. Relevance that *starts* there is the value of that very
node, which the unit does not have: the unit is cut (`Units.cut`); below are the layer alone, or the BatchNorm alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .graph import Graph, Node, Ref
from .operations import Kind, Trait


@dataclass(frozen=True)
class Fold:
    """A BatchNorm that belongs to a linear layer behind it.

    Parameters
    ----------
    norm : int
    relu : int or None
        The ReLU between them, if there is one: norm and ReLU are then a ReLU with a threshold, whose scale and shift
        go to the linear layer (Binder; Pahde et al., CVPR workshops 2023, "Optimizing explanations by network
        canonization and hyperparameter search").
    between : tuple of int
        Every other node between them, in execution order: dropout, and behind a ReLU also average pooling and
        flattening.
    """

    norm: int
    relu: int | None = None
    between: tuple[int, ...] = ()


@dataclass(frozen=True)
class Units:
    """Which BatchNorm belongs to which linear layer.

    Parameters
    ----------
    behind : dict
        Linear node to the BatchNorm node that its output goes through.
    before : dict
        Linear node to the BatchNorm that its input came through.
    """

    behind: Mapping[int, int] = field(default_factory=dict)
    before: Mapping[int, Fold] = field(default_factory=dict)

    @cached_property
    def folded(self) -> frozenset[int]:
        """Every BatchNorm that is part of a linear unit."""
        return frozenset(self.behind.values()) | {fold.norm for fold in self.before.values()}

    def norm_behind(self, graph: Graph, index: int) -> int | None:
        """Return the BatchNorm behind a layer of a unit, if a node is that layer or between the two."""
        inside = (norm for linear, norm in self.behind.items() if index in _down_to(graph, norm, linear)[1:])
        return next(inside, None)

    def cut(self, graph: Graph, start: int) -> tuple[Units, frozenset[int]]:
        """Return the units without those that a start is inside of, and the nodes of these.

        Parameters
        ----------
        graph : Graph
        start : int
            The node at whose output relevance starts.
        """
        apart = {linear: _down_to(graph, norm, linear) for linear, norm in self.behind.items()}
        behind = {linear: nodes for linear, nodes in apart.items() if start in nodes[1:]}
        norms = {fold.norm for fold in self.before.values() if start in (fold.norm, fold.relu, *fold.between)}
        before = {linear: fold for linear, fold in self.before.items() if fold.norm in norms}
        nodes = {index for path in behind.values() for index in path}
        for linear, fold in before.items():
            nodes |= {linear, fold.norm, *fold.between} | ({fold.relu} if fold.relu is not None else set())
        kept = Units(
            {linear: norm for linear, norm in self.behind.items() if linear not in behind},
            {linear: fold for linear, fold in self.before.items() if linear not in before},
        )
        return (kept, frozenset(nodes)) if nodes else (self, frozenset())


def group(graph: Graph, *, thresholds: bool = False) -> Units:
    """Find the units of a recorded graph.

    Parameters
    ----------
    graph : Graph
    thresholds : bool, optional
        A BatchNorm with a ReLU between it and linear layers belongs to them too.
    """
    behind: dict[int, int] = {}
    before: dict[int, Fold] = {}
    norms = [node for node in graph if node.kind is Kind.BATCH_NORM and _is_constant(node)]
    for norm in norms:
        linear = _producer(graph, norm)
        if linear is not None and linear.index not in behind and _channels_agree(linear, norm):
            behind[linear.index] = norm.index
    for norm in norms:
        if norm.index not in behind.values():
            before.update(_before(graph, norm, Ref(norm.index), None))
            relu = _only_relu(graph, norm) if thresholds else None
            if relu is not None:
                before.update(_before(graph, norm, Ref(relu.index), relu))
    return Units(behind, before)


def _before(graph: Graph, norm: Node, ref: Ref, relu: Node | None) -> dict[int, Fold]:
    """Return, for each linear node that reads a BatchNorm, how it does; nothing unless all that read it are linear."""
    paths = _consumers(graph, ref, pools=relu is not None)
    if not paths or not all(_takes_norm(graph, graph.nodes[path[-1]], norm) for path in paths):
        return {}
    return {path[-1]: Fold(norm.index, relu.index if relu else None, path[:-1]) for path in paths}


def _only_relu(graph: Graph, norm: Node) -> Node | None:
    """Return the ReLU that alone reads a BatchNorm."""
    readers = graph.users.get(Ref(norm.index), ())
    if len(readers) != 1 or Ref(norm.index) == graph.output:
        return None
    (reader,) = (graph.nodes[index] for index in readers)
    return reader if reader.spec.has(Trait.RELU) else None


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
        if not node.spec.has(Trait.TRANSPARENT):
            return None
        ref = node.inputs[0]
    return None


def _consumers(graph: Graph, ref: Ref, *, pools: bool) -> list[tuple[int, ...]]:
    """Return the paths to the nodes that read an output, also through dropout; none if it is the model's output."""
    paths: list[tuple[int, ...]] = []
    for index in graph.users.get(ref, ()):
        node = graph.nodes[index]
        if node.spec.has(Trait.TRANSPARENT) or (pools and _keeps_channels(graph, node)):
            below = _consumers(graph, Ref(index), pools=pools)
            if not below:
                return []
            paths += [(index, *path) for path in below]
        else:
            paths.append((index,))
    return [] if ref == graph.output else paths


def _keeps_channels(graph: Graph, node: Node) -> bool:
    """Return whether what scales and shifts a channel in front of a node does just that behind it."""
    before = graph.shape(node.inputs[0])
    if node.spec.has(Trait.AVERAGE):
        return _is_average_of_places(node, len(before))
    return node.spec.has(Trait.FLATTENING) and len(node.shape) == 2 and node.shape[0] == before[0]


def _is_average_of_places(node: Node, ndim: int) -> bool:
    """Return whether each element of the output is a mean of elements of one channel: padding adds zeros to it."""

    def option(name: str) -> Any:
        return node.argument(name) if name in node.spec.parameters else None

    padding = option("padding") or 0
    padded = any(padding if isinstance(padding, (tuple, list)) else (padding,))
    if padded or option("ceil_mode") or option("divisor_override") is not None:
        return False
    return "dim" not in node.spec.parameters or not {0, 1} & _averaged_axes(node, ndim)


def _averaged_axes(node: Node, ndim: int) -> set[int]:
    dim = node.argument("dim")
    axes = range(ndim) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    return {axis % ndim for axis in axes}


def _down_to(graph: Graph, norm: int, linear: int) -> tuple[int, ...]:
    """Return a BatchNorm, the nodes between it and the linear node whose output it reads, and that node."""
    nodes = [norm]
    while nodes[-1] != linear:
        nodes.append(graph.nodes[nodes[-1]].inputs[0].node)
    return tuple(nodes)


def _channels_agree(linear: Node, norm: Node) -> bool:
    """Return whether the channels of a linear node are those that the norm scales (axis 1)."""
    return linear.spec.is_convolution or len(norm.shape) == 2


def _takes_norm(graph: Graph, reader: Node, norm: Node) -> bool:
    """Return whether a BatchNorm can be folded into the weights of the node that reads it."""
    if reader.kind is not Kind.LINEAR or len(reader.inputs) != 1 or reader.spec.has(Trait.TRANSPOSED):
        return False
    signal = reader.argument("input")
    if not isinstance(signal, Ref):
        return False
    return len(norm.shape) == len(reader.shape) if reader.spec.is_convolution else len(graph.shape(signal)) == 2
