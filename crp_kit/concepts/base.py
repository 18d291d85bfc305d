"""What every concept can do: be masked, aggregated and located."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ..checks import is_integer
from ..errors import ConceptAxisError, ConceptRangeError, ConditionError

__all__ = ["Aggregate", "Concept", "NeuronSets", "Reference", "along", "check_ids", "chosen", "counted_axis"]

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


class NeuronSets(Concept):
    """Concepts each of which is a set of neurons, all of one size."""

    @abstractmethod
    def _maps(self, relevance: torch.Tensor) -> torch.Tensor:
        """Return the values of each concept in the order of the output, (row, concept, neuron)."""

    def attribute(self, relevance: torch.Tensor, *, abs_norm: bool = True) -> torch.Tensor:
        return _normalised(self._maps(relevance).sum(-1), abs_norm)

    def reference(self, relevance: torch.Tensor, *, aggregate: Aggregate = "sum") -> Reference:
        return _reference(self._maps(relevance), aggregate)


def counted_axis(axis: int, ndim: int, layer_name: str, *, what: str) -> int:
    """Return an axis counted from the front, if it is one behind the row axis."""
    found = axis + ndim if axis < 0 else axis
    if not 1 <= found < ndim:
        raise ConceptAxisError(f"axis {axis} is no {what} axis of {layer_name!r}, which has {ndim} axes")
    return found


def chosen(ids: Sequence[int], size: int) -> torch.Tensor:
    """Return (concept,), 1 for the ids and 0 for all others."""
    factor = torch.zeros(size)
    factor[torch.tensor(list(ids), dtype=torch.long)] = 1
    return factor


def along(factor: torch.Tensor, axis: int, ndim: int) -> torch.Tensor:
    """Return (size,) so that it broadcasts along one of `ndim` axes."""
    return factor.reshape([-1 if i == axis else 1 for i in range(ndim)])


def check_ids(ids: Sequence[Any], size: int, *, layer_name: str, what: str) -> None:
    """Make sure that ids are numbers of concepts that a layer has."""
    wrong_type = [concept for concept in ids if not is_integer(concept)]
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
    if aggregate not in ("sum", "max"):
        raise ConditionError(f"aggregate is 'sum' or 'max'; got {aggregate!r}")
    return Reference(maps.sum(-1) if aggregate == "sum" else maps.amax(-1), _highest(maps))


def _highest(maps: torch.Tensor) -> torch.Tensor:
    """Return where the first of the highest values is, (row, concept). NumPy finds it in a tenth of torch's time."""
    plain = maps.device.type == "cpu" and maps.is_contiguous() and maps.dtype in (torch.float32, torch.float64)
    return torch.from_numpy(maps.detach().numpy().argmax(-1)) if plain else maps.argmax(-1)
