"""Places for the nodes of a layered graph: columns, an order in each with few crossings, and ways for long edges."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

__all__ = ["Columns", "arrange"]

Node = TypeVar("Node", bound=Hashable)
_SWEEPS = 6


@dataclass(frozen=True)
class Columns:
    """Where things stand.

    Parameters
    ----------
    heights : dict
        Middle of each node; larger is higher, 0 is the middle of the figure.
    ways : dict
        For each edge that passes columns, the height at which it passes each of them, left to right.
    total : float
        Height of the highest column.
    """

    heights: Mapping[Hashable, float]
    ways: Mapping[tuple[Hashable, Hashable], tuple[float, ...]]
    total: float


def arrange(
    columns: Sequence[Sequence[Node]], edges: Sequence[tuple[Node, Node]], sizes: Mapping[Node, float], *, lane: float
) -> Columns:
    """Return places for nodes whose columns are known; edges go from left to right.

    Parameters
    ----------
    columns : sequence of sequence
        The nodes of each column, left to right.
    edges : sequence of (node, node)
    sizes : dict
        Height of each node, with the gap to the next one.
    lane : float
        Height that an edge needs where it passes a column.

    Notes
    -----
    As Sugiyama, Tagawa and Toda (IEEE Transactions on Systems, Man, and Cybernetics 11, 1981): an edge that passes
    columns gets a place of its own in each, and every column is sorted by the mean place of the neighbours, to and fro.
    """
    column_of = {node: number for number, nodes in enumerate(columns) for node in nodes}
    lists: list[list[Hashable]] = [list(nodes) for nodes in columns]
    steps: list[tuple[Hashable, Hashable]] = []
    passing: dict[tuple[Hashable, Hashable], list[Hashable]] = {}
    for source, target in edges:
        between = [("passes", source, target, number) for number in range(column_of[source] + 1, column_of[target])]
        for place in between:
            lists[place[3]].append(place)
        chain = [source, *between, target]
        steps += pairwise(chain)
        if between:
            passing[source, target] = list(between)
    size: dict[Hashable, float] = {one: lane for several in lists for one in several}
    size |= dict[Hashable, float](sizes.items())
    heights = _stacked(lists, size)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        neighbours: dict[Hashable, list[Hashable]] = {}
        for left, right in steps:
            mine, other = (right, left) if forward else (left, right)
            neighbours.setdefault(mine, []).append(other)
        for several in lists if forward else reversed(lists):
            several.sort(key=lambda one: -_mean([heights[near] for near in neighbours.get(one, [one])]))
            heights |= _stacked([several], size)
    ways = {edge: tuple(heights[one] for one in between) for edge, between in passing.items()}
    return Columns(
        {node: heights[node] for nodes in columns for node in nodes},
        ways,
        max(sum(size[one] for one in several) for several in lists),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _stacked(lists: Sequence[Sequence[Hashable]], size: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """Return the middle of each thing when each column is stacked from the top, about 0."""
    heights: dict[Hashable, float] = {}
    for nodes in lists:
        top = sum(size[one] for one in nodes) / 2
        for one in nodes:
            heights[one] = top - size[one] / 2
            top -= size[one]
    return heights
