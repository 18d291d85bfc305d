"""Positions of the nodes of a layered graph: columns, an order in each with few crossings, lanes for long edges.

By hand, because networkx has columns only (`multipartite_layout`): no order with few crossings, no lanes for edges that
pass a column, no nodes of different heights.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import TypeVar

__all__ = ["Columns", "arrange"]

Node = TypeVar("Node", bound=Hashable)
_SWEEPS = 6


@dataclass(frozen=True)
class Columns:
    """Heights of nodes and edges.

    Parameters
    ----------
    heights : dict
        Middle of each node; larger is higher, 0 is the middle of the figure.
    lanes : dict
        For each edge that passes columns, the height at which it passes each of them, left to right.
    total : float
        Height of the highest column.
    """

    heights: Mapping[Hashable, float]
    lanes: Mapping[tuple[Hashable, Hashable], tuple[float, ...]]
    total: float


def arrange(
    columns: Sequence[Sequence[Node]], edges: Sequence[tuple[Node, Node]], sizes: Mapping[Node, float], *, lane: float
) -> Columns:
    """Return heights for nodes whose columns are known; edges go from left to right.

    Parameters
    ----------
    columns : sequence of sequence
        The nodes of each column, left to right.
    edges : sequence of (node, node)
    sizes : dict
        Height of each node, with the gap to the next one.
    lane : float
        Height that an edge needs where it passes a column.

    References
    ----------
    Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures", IEEE Transactions
    on Systems, Man, and Cybernetics 11, 1981: an edge that passes columns gets a dummy node in each, and the columns
    are sorted by the mean height of the neighbours, in sweeps to and fro.
    """
    column_of = {node: number for number, nodes in enumerate(columns) for node in nodes}
    contents: list[list[Hashable]] = [list(nodes) for nodes in columns]
    segments: list[tuple[Hashable, Hashable]] = []
    dummies: dict[tuple[Hashable, Hashable], list[Hashable]] = {}
    for source, target in edges:
        passed = range(column_of[source] + 1, column_of[target])
        between: list[Hashable] = [("passes", source, target, number) for number in passed]
        for number, dummy in zip(passed, between, strict=True):
            contents[number].append(dummy)
        segments += pairwise([source, *between, target])
        if between:
            dummies[source, target] = between
    size: dict[Hashable, float] = {node: lane for nodes in contents for node in nodes}
    size |= dict[Hashable, float](sizes.items())
    heights = _with_few_crossings(contents, segments, size)
    return Columns(
        {node: heights[node] for nodes in columns for node in nodes},
        {edge: tuple(heights[dummy] for dummy in between) for edge, between in dummies.items()},
        max(sum(size[node] for node in nodes) for nodes in contents),
    )


def _with_few_crossings(
    columns: Sequence[list[Hashable]], segments: Sequence[tuple[Hashable, Hashable]], size: Mapping[Hashable, float]
) -> dict[Hashable, float]:
    """Sort the columns by the mean height of their neighbours, and return the middle of each node."""
    heights = _stacked(columns, size)
    for sweep in range(_SWEEPS):
        rightwards = sweep % 2 == 0
        neighbours: dict[Hashable, list[Hashable]] = {}
        for left, right in segments:
            node, neighbour = (right, left) if rightwards else (left, right)
            neighbours.setdefault(node, []).append(neighbour)
        for nodes in columns if rightwards else reversed(columns):
            nodes.sort(key=lambda node: -fmean(heights[near] for near in neighbours.get(node, [node])))
            heights |= _stacked([nodes], size)
    return heights


def _stacked(columns: Sequence[Sequence[Hashable]], size: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """Return the middle of each node when each column is stacked from the top, about 0."""
    heights: dict[Hashable, float] = {}
    for nodes in columns:
        top = sum(size[node] for node in nodes) / 2
        for node in nodes:
            heights[node] = top - size[node] / 2
            top -= size[node]
    return heights
