"""Channels and single neurons as concepts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..conditions import OUTPUT
from ..errors import ConceptAxisError, ConditionError
from .base import Concept, NeuronSets, along, check_ids, counted_axis, indicator

__all__ = ["ChannelConcept", "NeuronConcept"]


@dataclass(frozen=True)
class ChannelConcept(NeuronSets):
    """A concept is a channel, or a class at the model output.

    Parameters
    ----------
    axis : int or None, optional
        Axis that enumerates the channels, counted in a relevance with its row axis: 1 for
        (row, channel, height, width), -1 for (row, token, channel). ``None`` is the axis that the recorded graph knows
        of a node; without a graph it is axis 1, and an error for outputs of shape (row, a, b), where it may be a token
        axis.

    Raises
    ------
    ConceptAxisError
        By its methods, if a layer has no such axis, or the axis is ambiguous.

    References
    ----------
    Achtibat et al., "From attribution maps to human-understandable explanations through concept relevance propagation",
    Nature Machine Intelligence 5, 2023.

    Examples
    --------
    >>> relevance = torch.tensor([[[[1.0, 2.0]], [[-1.0, 0.0]]]])   # (row, channel, height, width)
    >>> ChannelConcept().attribute(relevance)
    tensor([[ 0.7500, -0.2500]])
    """

    axis: int | None = None

    @property
    def noun(self) -> str:
        return "channel"

    def resolved(self, channel_axis: Callable[[], int]) -> Concept:
        # A subclass may index channels in its own way, so its axis stays as its author wrote it.
        return ChannelConcept(channel_axis()) if self.axis is None and type(self) is ChannelConcept else self

    def _axis(self, ndim: int, layer_name: str = "relevance") -> int:
        """Return the channel axis among `ndim` axes, the row axis included."""
        if ndim < 2:
            raise ConceptAxisError(f"{layer_name!r} has no channel axis: its output is one number per sample")
        if self.axis is None:
            if ndim == 3:
                raise ConceptAxisError(
                    f"{layer_name!r} has an output of shape (row, a, b), where the channel axis is ambiguous: "
                    f"say ChannelConcept(axis=-1) for (row, token, channel), axis=1 for (row, channel, length)"
                )
            return 1
        return counted_axis(self.axis, ndim, layer_name, what="channel")

    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        axis = self._axis(len(shape) + 1, layer_name) - 1
        size = shape[axis]
        check_ids(concept_ids, size, layer_name=layer_name, what="class" if layer_name == OUTPUT else "channel")
        return along(indicator(concept_ids, size), axis, len(shape))

    def _maps(self, relevance: torch.Tensor) -> torch.Tensor:
        axis = self._axis(relevance.ndim)
        return relevance[..., None] if relevance.ndim == 2 else relevance.movedim(axis, 1).flatten(2)


@dataclass(frozen=True)
class NeuronConcept(NeuronSets):
    """A concept is one neuron of a layer: a flat index into the output without its batch axis, or an index tuple.

    Raises
    ------
    ConditionError
        By `mask`, if an index tuple has another length than the output has axes.

    Examples
    --------
    >>> NeuronConcept().mask([(0, 1)], torch.Size([2, 2]), layer_name="conv")
    tensor([[0., 1.],
            [0., 0.]])
    """

    @property
    def noun(self) -> str:
        return "neuron"

    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        flat = [_flat_index(index, shape, layer_name) if isinstance(index, tuple) else index for index in concept_ids]
        size = math.prod(shape)
        check_ids(flat, size, layer_name=layer_name, what="neuron")
        return indicator(flat, size).reshape(shape)

    def _maps(self, relevance: torch.Tensor) -> torch.Tensor:
        return relevance.flatten(1)[..., None]


def _flat_index(index: tuple[int, ...], shape: torch.Size, layer_name: str) -> int:
    """Return the flat index of an index tuple."""
    if len(index) != len(shape):
        raise ConditionError(f"neuron {index} of {layer_name!r} needs {len(shape)} indices; its shape: {tuple(shape)}")
    flat = 0
    for coordinate, size in zip(index, shape, strict=True):
        check_ids([coordinate], size, layer_name=layer_name, what=f"index {coordinate} of neuron {index}:")
        flat = flat * size + coordinate
    return flat
