"""Channels and single neurons as concepts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..conditions import OUTPUT
from ..errors import ConceptAxisError, ConditionError
from .base import NeuronSets, along, check_ids, chosen, counted_axis

__all__ = ["ChannelConcept", "NeuronConcept"]


@dataclass(frozen=True)
class ChannelConcept(NeuronSets):
    """A concept is a channel (Achtibat et al., Nature Machine Intelligence 5, 2023).

    Parameters
    ----------
    axis : int or None, optional
        Axis that enumerates the channels, counted in a relevance with its row axis: 1 for
        (row, channel, height, width), -1 for (row, token, channel). ``None`` takes axis 1 and refuses outputs of shape
        (row, a, b), where it cannot be told apart from a token axis. A condition on a node of a recorded graph does not
        need it: the graph knows where each node keeps its channels.

    Examples
    --------
    >>> relevance = torch.tensor([[[[1.0, 2.0]], [[-1.0, 0.0]]]])   # (row, channel, height, width)
    >>> ChannelConcept().attribute(relevance)
    tensor([[ 0.7500, -0.2500]])
    """

    axis: int | None = None

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
        return along(chosen(concept_ids, size), axis, len(shape))

    def _maps(self, relevance: torch.Tensor) -> torch.Tensor:
        axis = self._axis(relevance.ndim)
        return relevance[..., None] if relevance.ndim == 2 else relevance.movedim(axis, 1).flatten(2)


@dataclass(frozen=True)
class NeuronConcept(NeuronSets):
    """A concept is one neuron of a layer: a flat index into the output without its batch axis, or an index tuple.

    Examples
    --------
    >>> NeuronConcept().mask([(0, 1)], torch.Size([2, 2]), layer_name="conv")
    tensor([[0., 1.],
            [0., 0.]])
    """

    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        flat = [_flat_index(one, shape, layer_name) if isinstance(one, tuple) else one for one in concept_ids]
        size = math.prod(shape)
        check_ids(flat, size, layer_name=layer_name, what="neuron")
        return chosen(flat, size).reshape(shape)

    def _maps(self, relevance: torch.Tensor) -> torch.Tensor:
        return relevance.flatten(1)[..., None]


def _flat_index(index: tuple[int, ...], shape: torch.Size, layer_name: str) -> int:
    """Flat index of an index tuple."""
    if len(index) != len(shape):
        raise ConditionError(f"neuron {index} of {layer_name!r} needs {len(shape)} indices; its shape: {tuple(shape)}")
    flat = 0
    for one, size in zip(index, shape, strict=True):
        check_ids([one], size, layer_name=layer_name, what=f"index {one} of neuron {index}:")
        flat = flat * size + one
    return flat
