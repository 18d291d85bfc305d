"""The relevance balance of one pass: for each node, what arrived there, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from ..graph.graph import Ref
from ..numerics import is_finite
from .relevance import Relevance
from .step import Absorbed, Message

__all__ = ["NodeBalance", "RelevanceBalance"]


@dataclass
class NodeBalance:
    """What became of relevance at one node, summed over all elements.

    Parameters
    ----------
    arrived : float
        At the node's outputs.
    masked : float
        Taken away by the node's own mask.
    constants : float
        Absorbed by biases and other constants.
    stabilizer : float
        Absorbed by stabilized denominators.
    excluded : float
        Handed to inputs from which no counted path leads on.
    handed_on : float
        Handed to all other inputs.
    lowest, highest : float
        Smallest and largest value that arrived at an element; NaN if one is, 0 if there are no elements.
    finite : bool
        Whether all values that arrived, and all that were handed on, are finite.
    """

    arrived: float = 0.0
    masked: float = 0.0
    constants: float = 0.0
    stabilizer: float = 0.0
    excluded: float = 0.0
    handed_on: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    finite: bool = True

    @property
    def other(self) -> float:
        """What neither arrived anywhere nor is explained by the rule: nodes without a rule that conserves."""
        explained = self.masked + self.constants + self.stabilizer + self.excluded + self.handed_on
        return self.arrived - explained


@dataclass
class RelevanceBalance:
    """What became of relevance at every node that it reached, by index of node."""

    nodes: dict[int, NodeBalance] = field(default_factory=dict)

    def arrive(self, index: int, relevance: torch.Tensor) -> None:
        """Note relevance that arrived at an output, before the node's own mask."""
        node = self.nodes.setdefault(index, NodeBalance())
        node.arrived += _total(relevance)
        lowest, highest = (float(relevance.amin()), float(relevance.amax())) if relevance.numel() else (0.0, 0.0)
        node.lowest = min(lowest, node.lowest)  # a NaN stays, since nothing is below it
        node.highest = max(highest, node.highest)
        node.finite = node.finite and is_finite(relevance)

    def mask(self, index: int, before: torch.Tensor, after: torch.Tensor) -> None:
        """Note what a mask took away."""
        self.nodes[index].masked += _total(before) - _total(after)

    def hand_on(self, index: int, relevance: torch.Tensor, *, counted: bool) -> None:
        """Note what a node handed to an input, and whether a counted path leads on from there."""
        node = self.nodes[index]
        node.finite = node.finite and is_finite(relevance)
        if counted:
            node.handed_on += _total(relevance)
        else:
            node.excluded += _total(relevance)

    def absorb(
        self, index: int, message: Message, handed_on: Iterable[tuple[Ref, Relevance]], absorbed: Absorbed | None
    ) -> None:
        """Note what a rule absorbed of the relevance at a node's outputs, where its formula says so."""
        if absorbed is None:
            return
        parts = [part.whole() for part in message if part is not None]
        arrived = parts[0] if len(parts) == 1 else torch.cat([part.flatten() for part in parts])
        node = self.nodes[index]
        stabilizer = _total(arrived * absorbed.stabilizer)
        node.stabilizer += stabilizer
        missing = _total(arrived) - sum(_total(relevance.whole()) for _, relevance in handed_on) - stabilizer
        node.constants += missing if absorbed.constants is None else _total(arrived * absorbed.constants)


def _total(relevance: torch.Tensor) -> float:
    """Return the sum of all elements, in float64."""
    return float(relevance.sum(dtype=torch.float64))
