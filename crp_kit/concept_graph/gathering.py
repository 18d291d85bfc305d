"""Small shares of a concept graph, gathered, and words for the relevance that no shown concept gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .parts import ConceptEdge, ConceptNode, Key

__all__ = ["LEAST", "Gathered", "Shown", "left_over", "shown_part"]

LEAST = 0.01
"""Edges of smaller shares are gathered where a graph is drawn or written out."""
_BESIDE_STRONGEST = 1 / 3
"""Where a wide layer has no larger ones, those that have so much of the strongest are shown."""
_NOTHING = 5e-4
"""A share that is written as zero."""


@dataclass(frozen=True)
class Gathered:
    """Children of a concept that are not shown apart."""

    count: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class Shown:
    """The part of a graph that is shown: its nodes and edges, and what is gathered at each concept."""

    nodes: tuple[ConceptNode, ...]
    edges: tuple[ConceptEdge, ...]
    gathered: Mapping[Key, Gathered]

    def at(self, key: Key) -> Gathered:
        """Return what is gathered at a concept."""
        return self.gathered.get(key, Gathered())

    def ends(self, key: Key, *, below: bool) -> tuple[ConceptEdge, ...]:
        """Return the edges of a concept to those below it, or above it."""
        return tuple(edge for edge in self.edges if (edge.source if below else edge.target) == key)


def shown_part(nodes: Sequence[ConceptNode], edges: Sequence[ConceptEdge], least: float) -> Shown:
    """Return the nodes, the root first, that edges of at least this share, in magnitude, connect with the root.

    A concept without such an edge has those that are at least a third of its strongest one.
    """
    strongest: dict[Key, float] = {}
    for edge in edges:
        strongest[edge.source] = max(strongest.get(edge.source, 0.0), abs(edge.share))
    bounds = {key: least if share >= least else _BESIDE_STRONGEST * share or least for key, share in strongest.items()}
    large = [edge for edge in edges if abs(edge.share) >= bounds[edge.source]]
    reached, waiting = {nodes[0].key}, [nodes[0].key]
    while waiting:
        key = waiting.pop()
        new = {edge.target for edge in large if edge.source == key} - reached
        reached |= new
        waiting += new
    kept = tuple(edge for edge in large if edge.source in reached)
    gathered: dict[Key, Gathered] = {}
    for edge in edges:
        if edge.source in reached and abs(edge.share) < bounds[edge.source]:
            known = gathered.get(edge.source, Gathered())
            gathered[edge.source] = Gathered(known.count + 1, known.share + edge.share)
    return Shown(tuple(node for node in nodes if node.key in reached), kept, gathered)


def left_over(node: ConceptNode, gathered: Gathered) -> tuple[float, float]:
    """Return the shares of a decomposed concept that other concepts of the layers below get, and that is absorbed.

    What biases, stabilizers and paths beside these layers absorb is negative where its sign is opposite: the concepts
    below then get more than what passes the concept.
    """
    others = (node.others or 0.0) + gathered.share
    absorbed = (node.unexplained or 0.0) - (node.others or 0.0)
    return others if abs(others) >= _NOTHING else 0.0, absorbed if abs(absorbed) >= _NOTHING else 0.0
