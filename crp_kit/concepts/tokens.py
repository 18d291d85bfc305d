"""Tokens and attention heads as concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..checks import check_integer
from ..errors import ConceptAxisError, ConditionError
from .base import NeuronSets, along, check_ids, counted_axis, indicator

__all__ = ["HeadConcept", "TokenConcept"]


@dataclass(frozen=True)
class TokenConcept(NeuronSets):
    """A concept is a token: a position in a sequence, such as a patch of the image or the class token.

    Parameters
    ----------
    axis : int, optional
        Axis that enumerates the tokens, counted in a relevance with its row axis: 1 for (row, token, channel), 2 for
        (row, head, token, channel). The output needs three axes at least.

    Raises
    ------
    ConceptAxisError
        By its methods, if a layer has no such axis.

    Examples
    --------
    >>> relevance = torch.tensor([[[1.0, 2.0], [-1.0, 0.0]]])   # (row, token, channel)
    >>> TokenConcept().attribute(relevance)
    tensor([[ 0.7500, -0.2500]])
    """

    axis: int = 1

    @property
    def noun(self) -> str:
        return "token"

    def _axis(self, ndim: int, layer_name: str = "relevance") -> int:
        """Return the token axis among `ndim` axes, the row axis included."""
        if ndim < 3:
            raise ConceptAxisError(
                f"{layer_name!r} has no token axis: its output has {ndim} axes, and (row, token, channel) are three"
            )
        return counted_axis(self.axis, ndim, layer_name, what="token")

    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        axis = self._axis(len(shape) + 1, layer_name) - 1
        check_ids(concept_ids, shape[axis], layer_name=layer_name, what="token")
        return along(indicator(concept_ids, shape[axis]), axis, len(shape))

    def _maps(self, relevance: torch.Tensor) -> torch.Tensor:
        return relevance.movedim(self._axis(relevance.ndim), 1).flatten(2)


@dataclass(frozen=True)
class HeadConcept(NeuronSets):
    """A concept is an attention head.

    Parameters
    ----------
    heads : int or None, optional
        Number of heads, where the heads are consecutive groups of channels of equal size: at the input of the output
        projection, and behind linear layers that make queries, keys or values. ``None`` where the output has a head
        axis of its own.
    axis : int or None, optional
        With `heads` the channel axis, by default the last; without, the head axis, by default 1 of
        (row, head, token, channel). Counted in a relevance with its row axis.
    parts : int, optional
        Number of blocks of channels each of which holds all heads: 3 for one linear layer that makes queries, keys and
        values, (row, token, 3 * heads * channel). A head is then its channels in every block. It is 1 where the
        query, key and value of one head are consecutive.

    Raises
    ------
    ConditionError
        If `heads` or `parts` is not a positive integer, or `parts` is given without `heads`.
    ConceptAxisError
        By its methods, if a layer has no such axis, or its channels are not so many groups.

    Examples
    --------
    >>> relevance = torch.tensor([[[1.0, 2.0, -1.0, 0.0]]])   # (row, token, channel)
    >>> HeadConcept(heads=2).attribute(relevance)
    tensor([[ 0.7500, -0.2500]])
    >>> HeadConcept(heads=2).mask([1], torch.Size([1, 4]), layer_name="proj")
    tensor([[0., 0., 1., 1.]])
    """

    heads: int | None = None
    axis: int | None = None
    parts: int = 1

    @property
    def noun(self) -> str:
        return "head"

    def __post_init__(self) -> None:
        for name in ("parts",) if self.heads is None else ("heads", "parts"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=1, error=ConditionError))
        if self.heads is None and self.parts != 1:
            raise ConditionError(f"parts={self.parts} are blocks of channels with heads in each: say heads= too")

    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        axis = self._axis(len(shape) + 1, layer_name) - 1
        size = self._number(shape[axis], layer_name)
        check_ids(concept_ids, size, layer_name=layer_name, what="head")
        factor = indicator(concept_ids, size)
        if self.heads is not None:
            factor = factor.repeat_interleave(shape[axis] // size // self.parts).repeat(self.parts)
        return along(factor, axis, len(shape))

    def _axis(self, ndim: int, layer_name: str = "relevance") -> int:
        """Return the axis of the heads, or of the channels that they group, among `ndim` axes."""
        if self.heads is None and self.axis is None and ndim < 4:
            raise ConceptAxisError(
                f"{layer_name!r} has no head axis of its own: its output has {ndim} axes, and "
                f"(row, head, token, channel) are four; say HeadConcept(heads=...) for heads along the channels"
            )
        default, what = (1, "head") if self.heads is None else (-1, "channel")
        return counted_axis(default if self.axis is None else self.axis, ndim, layer_name, what=what)

    def _number(self, size: int, layer_name: str = "relevance") -> int:
        """Return the number of heads along an axis of this size."""
        if self.heads is None:
            return size
        if size % (self.heads * self.parts):
            blocks = f" in each of {self.parts} parts" if self.parts > 1 else ""
            raise ConceptAxisError(f"the {size} channels of {layer_name!r} are not {self.heads} equal heads{blocks}")
        return self.heads

    def _maps(self, relevance: torch.Tensor) -> torch.Tensor:
        axis = self._axis(relevance.ndim)
        size = self._number(relevance.shape[axis])
        if self.heads is not None:
            shape = (*relevance.shape[:axis], self.parts, size, -1, *relevance.shape[axis + 1 :])
            relevance, axis = relevance.reshape(shape), axis + 1
        return relevance.movedim(axis, 1).flatten(2)
