"""Edges that carry relevance: which inputs of a node receive it, and what it can reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from .graph import Graph, Node, Ref
from .nested import leaves
from .operations import Kind, Trait


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
        return tuple([self._carrying(node) for node in self.graph])

    def _carrying(self, node: Node) -> tuple[Ref, ...]:
        if node.index in self.graph.detached:
            return ()
        if self.gradient or not (node.spec.factors or node.spec.fixed):
            return node.value_inputs
        live = self._live[node.index]
        if node.index in self.shared:
            return carrying_operands(self.graph, node, live, self._deviations(), every=True)
        if _weighs_constants(node, live) and live[0].node in self._multiplying:
            return ()
        return carrying_operands(self.graph, node, live, self._gates())

    @cached_property
    def _live(self) -> list[tuple[Ref, ...]]:
        """For each node the outputs that it reads and through which a gradient could flow."""
        constants = self.graph.constants
        return [tuple([ref for ref in node.value_inputs if ref.node not in constants]) for node in self.graph]

    def _gates(self) -> Iterator[Collection[int]]:
        """Yield the nodes that are gates, then those that are where that leaves no signal; most graphs need none."""
        yield self._behind_gates
        yield self._direct_gates
        yield self._behind_weights

    def _deviations(self) -> Iterator[Collection[int]]:
        """Yield the nodes that normalise others."""
        yield self._behind_deviations

    @cached_property
    def _behind_gates(self) -> frozenset[int]:
        """Nodes behind a gate through linear maps, such as the kernels of dynamic convolutions."""
        return self._behind(self._is_gate, _LINEAR_MAPS)

    @cached_property
    def _direct_gates(self) -> frozenset[int]:
        """Nodes behind a gate that was scaled, shifted and moved around; of attention weights, also mixed by layers.

        In many models sigmoid is an activation: where every factor is behind a gate, one that went through a layer
        since is the signal.
        """
        layers = {*_MOVES, Kind.LINEAR, Kind.BATCH_NORM, Kind.NORM}
        mixed = self._behind(self._is_softmax, layers)
        return self._behind(self._is_gate, _MOVES) | mixed

    @cached_property
    def _behind_weights(self) -> frozenset[int]:
        """Nodes behind a gate that is no activation, such as a softmax: the others, like sigmoids, may be signals."""
        return self._behind(lambda node: self._is_plain_gate(node) and node.kind is not Kind.ACTIVATION, _MOVES)

    def _is_gate(self, node: Node) -> bool:
        """Return whether the value of a node multiplies other signals as a constant.

        Sigmoid, softmax, exponentials, deviations; values divided by their sum, and element-wise functions of gates.
        """
        return self._is_plain_gate(node) or node.index in self._shaped_gates

    def _is_plain_gate(self, node: Node) -> bool:
        return node.spec.gate or _is_deviation(node) or self._is_divided_by_its_sum(node)

    def _is_divided_by_its_sum(self, node: Node) -> bool:
        """Return whether a quotient makes shares of its numerator: its divisor is made of the numerator's sum."""
        divisors = self._divisors(node)
        if not divisors or _is_deviation(node):
            return False
        numerators = set(node.playing(node.spec.factors))
        waiting = [(ref, False) for ref in divisors]
        while waiting:
            ref, summed = waiting.pop()
            above = self.graph.node(ref)
            if summed and ref in numerators:
                return True
            if above.kind in _MOVES or (above.kind is Kind.ACTIVATION and not summed):
                summed = summed or (above.kind is Kind.AFFINE and above.spec.has(Trait.REDUCTION))
                waiting += [(operand, summed) for operand in self._live[above.index]]
        return False

    @cached_property
    def _shaped_gates(self) -> frozenset[int]:
        """Element-wise functions of what is a gate, such as its square."""
        shaped = self._behind(self._is_plain_gate, {*_MOVES, Kind.ACTIVATION}, passed_on=True)
        return frozenset(index for index in shaped if _is_elementwise(self.graph.nodes[index]))

    @cached_property
    def _numerators(self) -> frozenset[int]:
        """Exponentials whose sum divides something, as in a softmax that is spelled out."""
        waiting, seen = [ref.node for node in self.graph for ref in self._divisors(node)], set[int]()
        while waiting:
            node = self.graph.nodes[waiting.pop()]
            if node.index not in seen:
                seen.add(node.index)
                if node.kind in _MOVES or node.kind is Kind.ACTIVATION or node.spec.has(Trait.SCALING):
                    waiting += [ref.node for ref in self._live[node.index]]
        exponentials = [node for node in self.graph if node.spec.has(Trait.EXPONENTIAL)]
        of = {node.inputs for node in exponentials if node.index in seen}
        return frozenset(node.index for node in exponentials if node.inputs in of)

    def _divisors(self, node: Node) -> tuple[Ref, ...]:
        """Return the live signals by which a node divides."""
        if node.spec.has(Trait.SCALING):
            return node.playing(node.spec.fixed)
        return self._live[node.index] if _is_deviation(node) else ()

    def _is_softmax(self, node: Node) -> bool:
        return node.spec.has(Trait.SOFTMAX) or node.index in self._numerators

    @cached_property
    def _multiplying(self) -> frozenset[int]:
        """Nodes behind gates that multiply a signal somewhere, and so are constants where they multiply constants."""
        through = _MOVES | {Kind.PRODUCT, Kind.ACTIVATION}
        behind = self._behind(self._is_weight, through, passed_on=True)
        waiting = [ref.node for node in self.graph for ref in self._held_fixed(node)]
        weighing = set[int]()
        while waiting:
            node = self.graph.nodes[waiting.pop()]
            if node.index in behind and node.index not in weighing:
                weighing.add(node.index)
                waiting += [ref.node for ref in self._live[node.index] if not self._is_weight(node)]
        return self._behind(lambda node: node.index in weighing, through, passed_on=True)

    def _is_weight(self, node: Node) -> bool:
        """Return whether a node is a gate, and no deviation, which has a rule as a signal."""
        gate = node.spec.gate and node.kind is not Kind.DEVIATION and not _is_deviation(node)
        return gate or self._is_softmax(node)

    def _held_fixed(self, node: Node) -> tuple[Ref, ...]:
        """Return the factors of a product that are fixed while others are signals."""
        live = [ref for ref in node.playing(node.spec.factors) if ref in self._live[node.index]]
        if len(live) < 2 or node.index in self.shared:
            return ()
        carrying = carrying_operands(self.graph, node, self._live[node.index], self._gates())
        return tuple(ref for ref in live if ref not in carrying)

    @cached_property
    def _behind_deviations(self) -> frozenset[int]:
        return self._behind(_is_deviation, _MOVES)

    def _behind(
        self, is_source: Callable[[Node], bool], through: Collection[Kind], *, passed_on: bool = False
    ) -> frozenset[int]:
        """Nodes whose output is that of certain nodes, perhaps through operations of some kinds."""
        behind: set[int] = set()
        for node in self.graph:
            handed_on = node.kind in through or node.spec.has(Trait.SCALING)
            handed_on = handed_on or (passed_on and node.spec.has(Trait.PASSED_ON))
            live = self._live[node.index]
            if is_source(node) or (handed_on and live and all(ref.node in behind for ref in live)):
                behind.add(node.index)
        return frozenset(behind)

    # ------------------------------------------------------------------ reachability

    @cached_property
    def reaching_input(self) -> frozenset[Ref]:
        """Every output from which relevance can flow to the model input."""
        reaches: set[int] = set()
        for node in self.graph:
            if node.kind is Kind.INPUT or not reaches.isdisjoint([ref.node for ref in self.carrying[node.index]]):
                reaches.add(node.index)
        return frozenset(Ref(i, j) for i in reaches for j in range(len(self.graph.nodes[i].shapes)))

    def upstream_marks(self, marked: Sequence[Ref]) -> list[int]:
        """For each node, a bit set of the marked outputs that lie strictly upstream of it."""
        bits = {ref: 1 << position for position, ref in enumerate(marked)}
        above = [0] * len(self.graph)
        for node in self.graph:
            for ref in self.carrying[node.index]:
                above[node.index] |= above[ref.node] | bits.get(ref, 0)
        return above

    def from_start(self, start: Ref) -> frozenset[Ref]:
        """Return every output that relevance from `start` can reach, `start` included."""
        reached, nodes = {start}, {start.node}
        for index in range(start.node, -1, -1):
            if index in nodes:
                for ref in self.carrying[index]:
                    reached.add(ref)
                    nodes.add(ref.node)
        return frozenset(reached)


_MOVES = frozenset({Kind.STRUCTURAL, Kind.AFFINE, Kind.SUM})
_LINEAR_MAPS = _MOVES | {Kind.LINEAR, Kind.BATCH_NORM, Kind.NORM, Kind.PRODUCT}


def _weighs_constants(node: Node, live: tuple[Ref, ...]) -> bool:
    """Return whether a product has one live factor, and tensors that are constants for others."""
    if node.kind is not Kind.PRODUCT or len(live) != 1 or live[0] not in node.playing(node.spec.factors):
        return False
    factors = node.spec.arguments(node.args, node.kwargs, node.spec.factors)
    return any(isinstance(f, torch.Tensor) or (isinstance(f, Ref) and f != live[0]) for f in factors)


def _is_elementwise(node: Node) -> bool:
    return node.kind is Kind.ACTIVATION or node.spec.has(Trait.PASSED_ON)


def _is_deviation(node: Node) -> bool:
    """Return whether the value of a node normalises others, reciprocals and negative powers included."""
    deviation = node.spec.deviation
    return deviation(node) if callable(deviation) else deviation


def carrying_operands(
    graph: Graph, node: Node, live: tuple[Ref, ...], gates: Iterable[Collection[int]], *, every: bool = False
) -> tuple[Ref, ...]:
    """Return the operands of a product that carry relevance: summands, and those factors that are signals.

    LRP has no rule for a product of two signals, so that a gate is recognised by how it was computed. A
    gate (something behind a sigmoid, softmax or reciprocal deviation) multiplies a signal; of two operands of different
    size the smaller, broadcast one is the gate; in a hand-written activation, ``h * g(h)``, ``g(h)`` is; two signals of
    one size share. Without any signal, relevance can only go to what is otherwise held fixed.

    Parameters
    ----------
    graph : Graph
    node : Node
    live : tuple of Ref
        Its operands through which a gradient could flow.
    gates : iterable of collection of int
        Nodes whose outputs are gates; where a collection leaves no factor, the next one counts. Looked at only where
        there are several factors.
    every : bool, optional
        All other operands are signals, whatever their sizes, queries and keys included.
    """
    spec = node.spec
    factors = [ref for ref in node.playing(spec.factors) if ref in live]
    fixed = [ref for ref in node.playing(spec.fixed) if ref in live and ref not in factors]
    if every and spec.has(Trait.ATTENTION):
        factors = [ref for ref in node.playing(("query", "key", "value")) if ref in live]
    kept = factors
    for behind in gates if len(factors) > 1 else ():
        candidates = [ref for ref in factors if ref.node not in behind]
        if candidates:
            kept = candidates
            break
    if spec.has(Trait.SCALING) and len(kept) == 2:
        sizes = [math.prod(graph.shape(ref)) for ref in kept]
        wider = kept[sizes.index(max(sizes))]
        kept = _without_own_gate(graph, kept) if every or sizes[0] == sizes[1] else [wider]
    summands = {ref for ref in live if ref not in factors and ref not in fixed}
    return tuple(ref for ref in live if ref in kept or ref in summands) or tuple(fixed)


def _without_own_gate(graph: Graph, factors: list[Ref]) -> list[Ref]:
    """Return the factors of a product without the one that is a non-linear, element-wise function of the other's."""
    first, second = (_elementwise_sources(graph, ref) for ref in factors)
    for ref in first.keys() & second.keys():
        if first[ref] != second[ref]:
            return [factors[int(first[ref])]]
    return factors


def _elementwise_sources(graph: Graph, ref: Ref) -> dict[Ref, bool]:
    """Return the outputs of which alone an output is an element-wise function, and whether it is more than a multiple.

    Going upstream, the output is a function of all that is needed at one time; where that is a single output, it is one
    of those asked for.
    """
    sources, nonlinear, shape = {ref: False}, False, graph.shape(ref)
    needed = {ref}
    while True:
        last = max(needed)
        node = graph.node(last)
        elementwise = node.kind is Kind.ACTIVATION or node.spec.has(Trait.ELEMENTWISE)
        if not elementwise or not node.inputs or any(graph.shape(operand) != shape for operand in node.inputs):
            return sources
        operands = [leaf for leaf in leaves((node.args, dict(node.kwargs))) if isinstance(leaf, Ref)]
        nonlinear = nonlinear or not node.spec.has(Trait.SCALING) or len(operands) > 1
        needed = needed - {last} | set(node.inputs)
        if len(needed) == 1:
            sources[next(iter(needed))] = nonlinear
