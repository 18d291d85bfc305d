"""Where relevance can flow: which inputs of a node carry it, and what can be reached."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from .nodes import Graph, Node, Ref
from .ops import DEVIATIONS, GATE_SOURCES, SHAPED_LIKE, Kind
from .tree import leaves


@dataclass(frozen=True, eq=False)
class Flow:
    """The edges of a recorded graph that carry relevance.

    Parameters
    ----------
    graph : Graph
    gradient : bool
        Every differentiable edge carries (plain gradients), instead of those that LRP uses: signals, not the gates that
        multiply them, numerators, not denominators, values, not attention weights.
    shared : frozenset of int, optional
        Products whose factors all carry, gates and attention weights included; deviations and denominators do not.
    """

    graph: Graph
    gradient: bool = False
    shared: frozenset[int] = frozenset()

    @cached_property
    def carrying(self) -> tuple[tuple[Ref, ...], ...]:
        """For each node, the inputs that receive relevance from it."""
        return tuple(self._carrying(node) for node in self.graph)

    def _carrying(self, node: Node) -> tuple[Ref, ...]:
        if node.kind is Kind.DETACHED:
            return ()
        if self.gradient or node.kind is not Kind.PRODUCT:
            return _read(node)
        if node.index in self.shared:
            return signals(self.graph, node, self._behind(DEVIATIONS), every=True)
        return signals(self.graph, node, self._gates)

    @cached_property
    def _gates(self) -> frozenset[int]:
        weights = self._behind(frozenset({"softmax"}), through=(Kind.LINEAR, Kind.BATCH_NORM, Kind.NORM))
        return self._behind(GATE_SOURCES) | weights

    def _behind(self, sources: frozenset[str], *, through: tuple[Kind, ...] = ()) -> frozenset[int]:
        """Nodes whose output is that of one of the operations, perhaps scaled, shifted, moved around.

        Attention weights stay such also `through` layers that mix them between heads. What is behind a sigmoid and
        then a layer is a signal: in many models sigmoid is an activation.
        """
        found: set[int] = set()
        for node in self.graph:
            handed_on = node.kind in (Kind.STRUCTURAL, Kind.AFFINE, Kind.SUM, *through) or node.op in ("mul", "div")
            behind = bool(node.inputs) and all(ref.node in found for ref in _read(node))
            if node.op in sources or (handed_on and behind):
                found.add(node.index)
        return frozenset(found)

    # ------------------------------------------------------------------ reachability

    @cached_property
    def reaching_input(self) -> frozenset[Ref]:
        """Return every output from which relevance can walk to the model input."""
        reaches: set[int] = set()
        for node in self.graph:
            if node.kind is Kind.INPUT or any(ref.node in reaches for ref in self.carrying[node.index]):
                reaches.add(node.index)
        return frozenset(Ref(i, j) for i in reaches for j in range(len(self.graph.nodes[i].shapes)))

    def upstream_marks(self, marked: Sequence[Ref]) -> list[int]:
        """For each node, a bit set of the marked outputs that lie strictly upstream of it."""
        bits = {ref: 1 << place for place, ref in enumerate(marked)}
        above = [0] * len(self.graph)
        for node in self.graph:
            for ref in self.carrying[node.index]:
                above[node.index] |= above[ref.node] | bits.get(ref, 0)
        return above

    def from_start(self, start: Ref) -> frozenset[Ref]:
        """Return every output that relevance from `start` can reach, `start` included."""
        reached = {start}
        for index in range(start.node, -1, -1):
            node = self.graph.nodes[index]
            if any(Ref(index, output) in reached for output in range(len(node.shapes))):
                reached.update(self.carrying[index])
        return frozenset(reached)


def _read(node: Node) -> tuple[Ref, ...]:
    """Return the outputs whose values a node reads, without one of which it takes only the shape or the type."""
    return node.inputs[:1] if node.op in SHAPED_LIKE and isinstance(node.args[0], Ref) else node.inputs


def signals(graph: Graph, node: Node, gates: Collection[int], *, every: bool = False) -> tuple[Ref, ...]:
    """Return the operands of a product that are signals.

    A gate (something behind a sigmoid, softmax or reciprocal deviation) multiplies a signal; of two operands of
    different size the smaller, broadcast one is the gate; in a hand-written activation, ``h * g(h)``, ``g(h)`` is; two
    signals of one size share.

    Parameters
    ----------
    graph : Graph
    node : Node
    gates : collection of int
        Nodes whose outputs are gates.
    every : bool, optional
        All other operands are signals, whatever their sizes, queries and keys included.
    """
    if node.op == "div":
        return tuple(ref for ref in node.args[:1] if isinstance(ref, Ref))
    if node.op == "scaled_dot_product_attention":
        names = ("query", "key", "value") if every else ("value",)
        return tuple(dict.fromkeys(ref for name in names if isinstance(ref := node.argument(name), Ref)))
    if node.op == "einsum":
        operands = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], (tuple, list)) else node.args[1:]
    elif node.op == "baddbmm":
        operands = node.args[1:3]
    else:
        operands = (*node.args[:2], *node.kwargs.values())
    live = tuple(dict.fromkeys(one for one in operands if isinstance(one, Ref)))
    kept = tuple(ref for ref in live if ref.node not in gates) or live[:1]
    if node.op == "mul" and len(kept) == 2:
        sizes = [math.prod(graph.shape(ref)) for ref in kept]
        wider = kept[sizes.index(max(sizes))]
        kept = _without_own_gate(graph, kept) if every or sizes[0] == sizes[1] else (wider,)
    if node.op == "baddbmm" and isinstance(node.args[0], Ref) and node.args[0].node not in gates:
        kept = (node.args[0], *kept)
    return kept


def _without_own_gate(graph: Graph, factors: tuple[Ref, ...]) -> tuple[Ref, ...]:
    """Return the factors of a product without the one that is a non-linear function, value by value, of the other's."""
    first, second = (_value_by_value(graph, ref) for ref in factors)
    for ref in first.keys() & second.keys():
        if first[ref] != second[ref]:
            return (factors[int(first[ref])],)
    return factors


def _value_by_value(graph: Graph, ref: Ref) -> dict[Ref, bool]:
    """Return the outputs of which alone an output is a function value by value, and whether that is no mere factor."""
    found, bent, shape = {ref: False}, False, graph.shape(ref)
    needed = {ref}
    while True:
        last = max(needed)
        node = graph.node(last)
        steps = node.kind is Kind.ACTIVATION or node.op in ("add", "sub", "mul", "div", "pow", "square", "erf", "exp")
        if not steps or not node.inputs or any(graph.shape(one) != shape for one in node.inputs):
            return found
        operands = [one for one in leaves((node.args, dict(node.kwargs))) if isinstance(one, Ref)]
        bent = bent or node.op not in ("mul", "div") or len(operands) > 1
        needed = needed - {last} | set(node.inputs)
        if len(needed) == 1:
            found[next(iter(needed))] = bent
