"""What a concept is in a layer: how to mask it, aggregate it and locate it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from .conditions import OUTPUT
from .errors import ConceptAxisError, ConceptRangeError, ConditionError

Aggregate = Literal["sum", "max"]


@dataclass(frozen=True)
class Reference:
    """Where and how strongly each concept shows in each row.

    Parameters
    ----------
    score : torch.Tensor
        (row, concept).
    position : torch.Tensor
        (row, concept), flat index, within the concept's own map, of the neuron with the highest value.
    """

    score: torch.Tensor
    position: torch.Tensor


class Concept(ABC):
    """What a condition selects in a layer. Subclass it to name concepts of your own.

    A subclass says how ids become a mask (`mask`) and how a relevance map becomes one number per concept (`attribute`)
    and a place (`reference`).
    """

    def __repr__(self) -> str:
        """Return a text that is the same in every process: an atlas remembers it."""
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    @abstractmethod
    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        """Return the factor that multiplies the relevance of a node's output.

        Parameters
        ----------
        concept_ids : sequence
            The ids that a condition set names; none of them lets nothing pass.
        shape : torch.Size
            Shape of the node's output without its batch axis.
        layer_name : str
            Name of the node, for error messages.

        Returns
        -------
        torch.Tensor
            Broadcasts to `shape`. Values between 0 and 1 are a soft mask.

        Raises
        ------
        ConceptRangeError
            If the layer has no such concept.
        """

    @abstractmethod
    def attribute(self, relevance: torch.Tensor, *, abs_norm: bool = True) -> torch.Tensor:
        """Return the relevance of each concept, (row, concept).

        Parameters
        ----------
        relevance : torch.Tensor
            (row, *shape), relevance or activation at the node's output.
        abs_norm : bool, optional
            Divide each row by its sum of absolute values, so that ``|shares|`` sum to 1. A row of zeros stays zero.
        """

    @abstractmethod
    def reference(self, relevance: torch.Tensor, *, aggregate: Aggregate = "sum") -> Reference:
        """Return score and position of every concept in every row.

        Parameters
        ----------
        relevance : torch.Tensor
            (row, *shape), relevance or activation at the node's output.
        aggregate : {"sum", "max"}, optional
            How the values of a concept become its score.
        """


@dataclass(frozen=True)
class ChannelConcept(Concept):
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
        axis = self.axis + ndim if self.axis < 0 else self.axis
        if not 1 <= axis < ndim:
            raise ConceptAxisError(f"axis {self.axis} is no channel axis of {layer_name!r}, which has {ndim} axes")
        return axis

    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        axis = self._axis(len(shape) + 1, layer_name) - 1
        size = shape[axis]
        _check_ids(concept_ids, size, layer_name=layer_name, what="class" if layer_name == OUTPUT else "channel")
        factor = torch.zeros(size)
        factor[torch.tensor(list(concept_ids), dtype=torch.long)] = 1
        return factor.reshape([size if i == axis else 1 for i in range(len(shape))])

    def attribute(self, relevance: torch.Tensor, *, abs_norm: bool = True) -> torch.Tensor:
        return _normalised(self._maps(relevance).sum(-1), abs_norm)

    def reference(self, relevance: torch.Tensor, *, aggregate: Aggregate = "sum") -> Reference:
        return _reference(self._maps(relevance), aggregate)

    def _maps(self, relevance: torch.Tensor) -> torch.Tensor:
        """(row, channel, neuron)."""
        axis = self._axis(relevance.ndim)
        return relevance[..., None] if relevance.ndim == 2 else relevance.movedim(axis, 1).flatten(2)


@dataclass(frozen=True)
class NeuronConcept(Concept):
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
        _check_ids(flat, size, layer_name=layer_name, what="neuron")
        factor = torch.zeros(size)
        factor[torch.tensor(flat, dtype=torch.long)] = 1
        return factor.reshape(shape)

    def attribute(self, relevance: torch.Tensor, *, abs_norm: bool = True) -> torch.Tensor:
        return _normalised(relevance.flatten(1), abs_norm)

    def reference(self, relevance: torch.Tensor, *, aggregate: Aggregate = "sum") -> Reference:
        return _reference(relevance.flatten(1)[..., None], aggregate)


def _flat_index(index: tuple[int, ...], shape: torch.Size, layer_name: str) -> int:
    """Flat index of an index tuple."""
    if len(index) != len(shape):
        raise ConditionError(f"neuron {index} of {layer_name!r} needs {len(shape)} indices; its shape: {tuple(shape)}")
    flat = 0
    for one, size in zip(index, shape, strict=True):
        _check_ids([one], size, layer_name=layer_name, what=f"index {one} of neuron {index}:")
        flat = flat * size + one
    return flat


def _check_ids(ids: Sequence[Any], size: int, *, layer_name: str, what: str) -> None:
    wrong_type = [one for one in ids if not isinstance(one, int)]
    if wrong_type:
        raise ConditionError(f"a {what} of {layer_name!r} is a whole number; got {wrong_type[0]!r}")
    wrong = [one for one in ids if not 0 <= one < size]
    if wrong:
        raise ConceptRangeError(layer_name, wrong, size, what=what)


def _normalised(values: torch.Tensor, abs_norm: bool) -> torch.Tensor:
    if not abs_norm:
        return values
    total = values.abs().sum(1, keepdim=True)
    return values / torch.where(total == 0, torch.ones_like(total), total)


def _reference(maps: torch.Tensor, aggregate: Aggregate) -> Reference:
    """Score and position from maps of shape (row, concept, neuron)."""
    highest, position = maps.max(-1)
    if aggregate == "sum":
        return Reference(maps.sum(-1), position)
    if aggregate == "max":
        return Reference(highest, position)
    raise ConditionError(f"aggregate is 'sum' or 'max'; got {aggregate!r}")
