"""Path exclusion: which conditioned nodes are upstream of which, and which edges no counted path uses.

A path from the start to the model input counts if and only if the conditioned nodes on it form a maximal chain of all
conditioned nodes: nodes in series must all be passed, parallel nodes mean their union. Relevance therefore walks from
the start to the conditioned nodes that it covers, from each of these to those that it covers, and at last to the input.
Whatever by-passes a conditioned node carries nothing (Achtibat et al. 2023, methods; exact here for any graph).

Why stretches, and not masks at the conditioned nodes alone: a residual connection past a conditioned layer would carry
relevance that no mask sees. Why maximal chains: a path through one of two parallel conditioned nodes passes all the
conditioned nodes that it can, while one that skips a node in series could have passed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import UnreachableLayerError
from .graph import Graph, Ref
from .operations import Kind
from .relevance_edges import Flow


@dataclass(frozen=True)
class Segment:
    """One stretch of the walk: from one output to the conditioned outputs that it covers, or to the input.

    Parameters
    ----------
    source : Ref
    targets : tuple of Ref
        Outputs where the walk ends; empty for the model input.
    nodes : frozenset of int
        The nodes on a path from `source` to a target; no other node takes part.
    """

    source: Ref
    targets: tuple[Ref, ...]
    nodes: frozenset[int]


@dataclass(frozen=True, eq=False)
class Walk:
    """The walk of relevance through a recorded graph under conditions.

    Parameters
    ----------
    flow : Flow
    start : Ref
        Where relevance starts.
    conditioned : tuple of Ref
        The conditioned outputs.
    """

    flow: Flow
    start: Ref
    conditioned: tuple[Ref, ...]

    @property
    def graph(self) -> Graph:
        return self.flow.graph

    def check(self) -> None:
        """Make sure that relevance can pass every conditioned node.

        Raises
        ------
        UnreachableLayerError
            If a conditioned node gets no relevance from the start, or cannot hand any to the input.
        """
        reached, leads = self.flow.from_start(self.start), self.flow.reaching_input
        for ref in self.conditioned:
            name, start = self.graph.label(ref), self.graph.label(self.start)
            if ref not in reached:
                raise UnreachableLayerError(
                    f"no relevance can pass {name!r}: it carries none between the start ({start!r}) and the input. It "
                    f"lies behind the start, beside it, or inside a gate (a factor that multiplies a signal)"
                )
            if ref not in leads:
                raise UnreachableLayerError(
                    f"no relevance can pass {name!r} on to the model input: every path from there ends in a gate or in "
                    f"something detached"
                )

    @cached_property
    def _above(self) -> list[int]:
        return self.flow.upstream_marks(self.conditioned)

    def _upstream(self, ref: Ref) -> frozenset[Ref]:
        """Conditioned outputs strictly upstream of an output."""
        marks = self._above[ref.node]
        return frozenset(other for position, other in enumerate(self.conditioned) if marks >> position & 1)

    def covered(self, ref: Ref) -> tuple[Ref, ...]:
        """Return the conditioned outputs upstream of `ref` with no other conditioned output between."""
        upstream = self._upstream(ref)
        between = frozenset(below for other in upstream for below in self._upstream(other))
        return tuple(sorted(upstream - between))

    def segments(self) -> tuple[Segment, ...]:
        """Return the stretches of the walk, each after all that feed it."""
        ordered = sorted({self.start, *self.conditioned} & self.flow.from_start(self.start), reverse=True)
        return tuple(self._segment(source, self.covered(source)) for source in ordered)

    def _segment(self, source: Ref, targets: tuple[Ref, ...]) -> Segment:
        nodes, carrying = self.graph.nodes, self.flow.carrying
        ends, on_path = set(targets), set[int]()
        for index in sorted({ref.node for ref in self.flow.from_start(source)}):
            if nodes[index].kind is Kind.INPUT and not targets:
                on_path.add(index)
            for ref in carrying[index]:
                if ref in ends or ref.node in on_path:
                    on_path.add(index)
        return Segment(source, targets, frozenset(on_path))


def parallel_edges(walk: Walk) -> tuple[tuple[Ref, int], ...]:
    """Return the edges (output, reader) that carry relevance without conditions but lie on no counted path."""
    counted = {
        (ref, index)
        for segment in walk.segments()
        for index in segment.nodes
        for ref in walk.flow.carrying[index]
        if ref in segment.targets or ref.node in segment.nodes
    }
    reached, leads = walk.flow.from_start(walk.start), walk.flow.reaching_input
    return tuple(
        (ref, node.index)
        for node in walk.graph
        if any(Ref(node.index, output) in reached for output in range(len(node.shapes)))
        for ref in walk.flow.carrying[node.index]
        if ref in leads and (ref, node.index) not in counted
    )


def nearest_upstream(edges: Sequence[Sequence[Ref]], layers: Sequence[Ref]) -> Mapping[Ref, tuple[Ref, ...]]:
    """For each of the layers, those of them that feed it with none of them between, in execution order; linear time.

    Parameters
    ----------
    edges : sequence of sequence of Ref
        For each node, the outputs that count as its inputs: all that it reads, or those that carry relevance.
    layers : sequence of Ref
    """
    listed = set(layers)
    nearest: list[frozenset[Ref]] = []
    for inputs in edges:
        upstream: set[Ref] = set()
        for ref in inputs:
            upstream |= {ref} if ref in listed else nearest[ref.node]
        nearest.append(frozenset(upstream))
    return {ref: tuple(sorted(nearest[ref.node])) for ref in layers}
