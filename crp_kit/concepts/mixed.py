"""Concepts that mix the channels of a layer: what directions and dictionaries have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..checks import is_integer
from ..errors import ConceptAxisError, ConceptRangeError, ConditionError, InputError
from .base import Aggregate, Concept, Reference, _normalised, _reference, counted_axis

__all__ = ["MEAN", "REST", "MixedConcept"]

MEAN, REST = "mean", "rest"
"""The ids of what belongs to no direction: the share of the mean, and that of the reconstruction error."""
_Mixed = TypeVar("_Mixed", bound="MixedConcept")


class MixedConcept(Concept):
    """Concepts each of which mixes the channels of a layer, such as directions.

    Their ids are the numbers of the directions from 0, or their names where they have some; behind these ``"mean"`` and
    ``"rest"``, which are also the next two numbers. The engine calls `split` for conditions and for the relevance of
    the concepts. Where concepts are scored, values are maps of concepts, (row, concept, *position), instead of the
    layer's own.

    Parameters
    ----------
    axis : int or None
        The axis of the layer that enumerates the channels, the row axis counted; None is the one of the recorded graph.
    names : tuple of str
        Names of the directions, which are ids too; empty if they have none.
    """

    def __init__(self, axis: int | None, names: Sequence[str] | None) -> None:
        if axis is not None and not is_integer(axis):
            raise InputError(f"axis is a whole number, the channel axis with the row axis counted; got {axis!r}")
        self.axis = axis
        self.provenance: Mapping[str, Any] = {}
        """Where the directions come from: layer, method, model, data. No part of the identity."""
        self.names = _checked_names(names)

    def __repr__(self) -> str:
        return self.identity

    @property
    def noun(self) -> str:
        return "direction"

    def title(self, concept_id: int, n_concepts: int) -> str:
        """Return the name of a direction, which mean and rest always have; empty without one.

        Parameters
        ----------
        concept_id : int
            Its number.
        n_concepts : int
            How many concepts the layer has.
        """
        known = dict(enumerate(self.names)) | {n_concepts - 2: MEAN, n_concepts - 1: REST}
        return known.get(concept_id, "")

    def resolved(self: _Mixed, channel_axis: Callable[[], int]) -> _Mixed:
        if self.axis is not None:
            return self
        here = copy(self)
        here.axis = channel_axis()
        return here

    @property
    def has_mean(self) -> bool:
        """Whether they have a constant part, to which other constants at the layer belong."""
        return True

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the directions to a small HDF5 file, which `crp_kit.load_directions` reads.

        Parameters
        ----------
        path : str or Path
            Usually with the ending ``.h5``.
        overwrite : bool, optional
            Replace a file that is there.

        Raises
        ------
        InputError
            If the file cannot be written, exists, or the concept has a module of one's own.
        """
        from .direction_file import StoredDirections, write_directions

        settings, arrays = self._stored()
        values = {name: array.cpu().numpy() for name, array in arrays.items()}
        settings |= {"axis": self.axis, "names": list(self.names)}
        write_directions(path, StoredDirections(values, settings, self.provenance), overwrite=overwrite)

    def _stored(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return the settings and the arrays that a file keeps.

        Raises
        ------
        InputError
            If the concept is more than arrays.
        """
        raise InputError(f"a file of directions holds arrays, and {type(self).__name__} has no form for it")

    @abstractmethod
    def count(self, width: int, *, layer_name: str) -> int:
        """Return the number of directions, without mean and rest.

        Parameters
        ----------
        width : int
            Number of channels of the layer.
        layer_name : str
            For error messages.

        Raises
        ------
        ConditionError
            If they are not for as many channels.
        """

    @abstractmethod
    def values(self, activation: torch.Tensor) -> torch.Tensor:
        """Return the activation of every concept, (sample, concept, *position).

        Of the mean it is 0; of the rest it is the norm of the reconstruction error.

        Parameters
        ----------
        activation : torch.Tensor
            (sample, *shape), the layer's output.
        """

    def numbers(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> list[int]:
        """Return concept ids as numbers, in which mean and rest come last.

        Parameters
        ----------
        concept_ids : sequence of int or str
            Numbers or names.
        shape : torch.Size
            Shape of the layer's output without its batch axis.
        layer_name : str
            For error messages.

        Raises
        ------
        ConditionError
            If an id is neither a number nor a name, or the directions are not for as many channels.
        ConceptRangeError
            If there is no such direction.
        """
        count = self.count(shape[self.channels(len(shape) + 1, layer_name) - 1], layer_name=layer_name)
        known = {name: number for number, name in enumerate(self.names)} | {MEAN: count, REST: count + 1}
        numbers: list[Any] = [
            known.get(identifier, identifier) if isinstance(identifier, str) else identifier
            for identifier in concept_ids
        ]
        wrong = [number for number in numbers if not is_integer(number)]
        if wrong:
            raise ConditionError(
                f"a direction of {layer_name!r} is a number from 0 to {count - 1}, {MEAN!r}, {REST!r}"
                f"{', or a name: ' + ', '.join(self.names) if self.names else ''}; got {wrong[0]!r}"
            )
        outside = [number for number in numbers if not 0 <= number < count + 2]
        if outside:
            raise ConceptRangeError(layer_name, outside, count + 2, what=self.noun)
        return list(map(int, numbers))

    def channels(self, ndim: int, layer_name: str = "activation") -> int:
        """Return the channel axis, counted from the front with the row axis.

        Parameters
        ----------
        ndim : int
            Number of axes of the layer's values, the row axis included.
        layer_name : str, optional
            For error messages.

        Raises
        ------
        ConceptAxisError
            If there is no such axis.
        """
        if ndim < 2:
            raise ConceptAxisError(f"{layer_name!r} has no channel axis: its output is one number per sample")
        return counted_axis(1 if self.axis is None else self.axis, ndim, layer_name, what="channel")

    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        """Refuse: there is no mask of channels that is a direction; parameters as for other concepts.

        Raises
        ------
        ConditionError
            Always.
        """
        raise ConditionError(f"directions of {layer_name!r} mix its channels, so that no mask of the channels is one")

    def attribute(self, relevance: torch.Tensor, *, abs_norm: bool = True) -> torch.Tensor:
        """Return one value for each concept.

        Parameters
        ----------
        relevance : torch.Tensor
            (row, concept, *position), maps of the concepts, such as `Attribution.by_concept` has them.
        abs_norm : bool, optional
            Divide each row by its sum of absolute values.

        Returns
        -------
        torch.Tensor
            (row, concept).
        """
        return _normalised(_flat(relevance).sum(-1), abs_norm)

    def reference(self, relevance: torch.Tensor, *, aggregate: Aggregate = "sum") -> Reference:
        """Return score and position of every concept in every row.

        Parameters
        ----------
        relevance : torch.Tensor
            (row, concept, *position), maps of the concepts.
        aggregate : {"sum", "max"}, optional
            Whether a concept's score is the sum or the maximum of its values.

        Returns
        -------
        Reference
        """
        return _reference(_flat(relevance), aggregate)


def _checked_names(names: Any) -> tuple[str, ...]:
    """Return names of directions, none of which can be taken for another id."""
    if isinstance(names, (str, Mapping)) or not isinstance(names, Iterable | None):
        raise InputError(f"names of directions are a list of strings, one for each; got {names!r}")
    checked: tuple[Any, ...] = () if names is None else tuple(names)
    for name in checked:
        if not isinstance(name, str) or name in (MEAN, REST):
            raise InputError(f"names of directions are strings other than {MEAN!r} and {REST!r}; got {name!r}")
        if not name.strip() or name.strip().isdecimal():
            raise InputError(f"the name of a direction is neither empty nor a number, which is its id; got {name!r}")
    if len(set(checked)) < len(checked):
        raise InputError(f"each direction needs a name of its own; got {checked}")
    return checked


def _flat(maps: torch.Tensor) -> torch.Tensor:
    return maps[..., None] if maps.ndim == 2 else maps.flatten(2)
