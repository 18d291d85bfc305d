"""Steps of the relevance pass: the way in which one node hands the relevance of its outputs to its inputs.

A step is made once per recorded structure, prepared once per forward, and run for every batch of conditions. Relevance
has a leading axis of rows in front of the node's own shape: (row, *shape).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from zennit.core import Hook

from ..graph.graph import Node, Ref
from ..graph.recording.record import Recording
from .relevance import Relevance

Message = list[Relevance | None]
"""Relevance at each output of a node, or None where none arrived."""
Given = Sequence[tuple[Ref, Relevance | torch.Tensor]]
"""Relevance for inputs of the node; a bare tensor, (row, *shape), may have other readers."""
Backward = Callable[[Message], Given]
Pull = Callable[[torch.Tensor], torch.Tensor]
"""From relevance or factors at an output to those at an input, (row, *shape) each."""
Quality = Literal["exact", "approximate", "gradient", ""]
"""How well a rule is defined at a node.

``"exact"``: the node is affine in what receives relevance, moves it, or is element-wise, so the rule is LRP's own.
``"approximate"``: a factor that depends on the input counts as a constant (gates, attention weights, deviations of
norms), or several signals share a product. ``"gradient"``: no rule is known, relevance passes as plain gradient. Empty:
no relevance arrives.
"""


@dataclass(frozen=True, eq=False)
class Absorbed:
    """The parts of the relevance at a node's output that the node absorbs, instead of handing them on.

    Parameters
    ----------
    constants : torch.Tensor or None
        The part that biases and other constants absorb, which broadcasts to the output; ``None`` if all that is
        missing goes to them.
    stabilizer : torch.Tensor or float
        The part that the stabilized denominator absorbs.
    """

    constants: torch.Tensor | None = None
    stabilizer: torch.Tensor | float = 0.0


@dataclass(frozen=True, eq=False)
class Step(ABC):
    """How one node hands relevance on.

    Parameters
    ----------
    index : int
        Index of the node.
    rule : str
        Name of the rule, for people.
    quality : str
        How well the rule is defined there, see `Quality`.
    """

    index: int
    rule: str
    quality: Quality = field(default="exact", kw_only=True)

    @abstractmethod
    def prepare(self, recording: Recording) -> Backward:
        """Compute everything that all conditions share, and return the function that hands relevance on."""

    def absorbed(self, recording: Recording) -> Absorbed | None:
        """Return what the rule absorbs, from its own formula; ``None`` where that is not a part of each element."""
        return None

    @property
    def parameters_in(self) -> Hook | Callable[..., Any] | None:
        """The holder of the rule's parameters: a zennit hook, a function, or nothing."""
        return None

    def node(self, recording: Recording) -> Node:
        return recording.graph.nodes[self.index]


def arriving(message: Message) -> Relevance:
    """Return the relevance of a node with one output."""
    return next(part for part in message if part is not None)


def only(message: Message) -> torch.Tensor:
    """Return the relevance of a node with one output, (row, *shape)."""
    return arriving(message).whole()


def sum_to(relevance: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Sum (row, *broadcast shape) over the axes along which `shape` was broadcast."""
    if relevance.shape[1:] == shape:
        return relevance
    extra = relevance.ndim - 1 - len(shape)
    if extra:
        relevance = relevance.sum(tuple(range(1, 1 + extra)))
    wide = tuple(i for i, size in enumerate(shape, start=1) if size == 1 and relevance.shape[i] != 1)
    return relevance.sum(wide, keepdim=True) if wide else relevance
