"""The books of one relevance pass: what arrived at each node, and where the rest of it went."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from ..numerics import is_finite
from .step import Losses

__all__ = ["Entry", "Ledger"]


@dataclass
class Entry:
    """What happened to relevance at one node, summed over all elements.

    Parameters
    ----------
    arrived : float
        At the node's outputs.
    masked : float
        Taken away by the node's own mask.
    constants : float
        Taken by biases and other constants.
    stabilizer : float
        Taken by stabilized denominators.
    cut : float
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
    cut: float = 0.0
    handed_on: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    finite: bool = True

    @property
    def other(self) -> float:
        """What neither arrived anywhere nor is explained by the rule: nodes without a rule that conserves."""
        spent = self.masked + self.constants + self.stabilizer + self.cut + self.handed_on
        return self.arrived - spent


@dataclass
class Ledger:
    """What happened to relevance at every node that it reached, by index of node."""

    entries: dict[int, Entry] = field(default_factory=dict)

    def arrive(self, index: int, relevance: torch.Tensor) -> None:
        """Note relevance that arrived at an output, before the node's own mask."""
        entry = self.entries.setdefault(index, Entry())
        entry.arrived += total(relevance)
        lowest, highest = map(float, torch.aminmax(relevance)) if relevance.numel() else (0.0, 0.0)
        entry.lowest = min(lowest, entry.lowest)  # a NaN stays, since nothing is below it
        entry.highest = max(highest, entry.highest)
        entry.finite = entry.finite and is_finite(relevance)

    def mask(self, index: int, before: torch.Tensor, after: torch.Tensor) -> None:
        """Note what a mask took away."""
        self.entries[index].masked += total(before) - total(after)

    def hand_on(self, index: int, relevance: torch.Tensor, *, counted: bool) -> None:
        """Note what a node handed to an input, and whether a counted path leads on from there."""
        entry = self.entries[index]
        entry.finite = entry.finite and is_finite(relevance)
        if counted:
            entry.handed_on += total(relevance)
        else:
            entry.cut += total(relevance)

    def lose(self, index: int, relevance: torch.Tensor, given: torch.Tensor | float, losses: Losses | None) -> None:
        """Note what a rule kept of the relevance at a node, of which it gave the inputs `given` in all."""
        if losses is None:
            return
        entry = self.entries[index]
        stabilizer = total(relevance * losses.stabilizer)
        entry.stabilizer += stabilizer
        missing = total(relevance) - float(given) - stabilizer
        entry.constants += missing if losses.constants is None else total(relevance * losses.constants)


def total(relevance: torch.Tensor) -> float:
    """Return the sum of all elements, in float64."""
    return float(relevance.sum(dtype=torch.float64))
