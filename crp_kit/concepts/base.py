"""Base of all concepts: a mask or a split, one value per concept, a position, an identity and a noun."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ..checks import is_integer
from ..errors import ConceptAxisError, ConceptRangeError, ConditionError

__all__ = [
    "Aggregate",
    "Concept",
    "NeuronSets",
    "Reference",
    "Split",
    "along",
    "check_ids",
    "counted_axis",
    "indicator",
]

Aggregate = Literal["sum", "max"]
_SHORT = 128
"""Neurons of a concept that are searched at once: with fewer, what is done once for each call costs more."""


@dataclass(frozen=True)
class Reference:
    """Score and position of each concept in each row.

    Parameters
    ----------
    score : torch.Tensor
        (row, concept), relevance or activation of the concept.
    position : torch.Tensor
        (row, concept), flat index, within the concept's own map, of the neuron with the highest value.
    """

    score: torch.Tensor
    position: torch.Tensor


class Split(ABC):
    """Relevance of a batch at a layer, divided among concepts that mix its channels. Made by `Concept.split`."""

    @abstractmethod
    def passed(self, concept_ids: Sequence[Sequence[Sequence[Any]]]) -> torch.Tensor:
        """Return what passes some concepts, as it was given: (row, sample, *shape), relevance by activation.

        Parameters
        ----------
        concept_ids : sequence of sequence of sequence
            The ids that may pass, by row and by sample.
        """

    @abstractmethod
    def started(self, concept_ids: Sequence[Sequence[Sequence[Any]]]) -> torch.Tensor:
        """Return the same for relevance that starts at the concepts, from their own activation; arguments alike."""

    @abstractmethod
    def shares(self) -> torch.Tensor:
        """Return the relevance of every concept: (row, sample, concept, *position)."""


class Concept(ABC):
    """What a condition selects in a layer. Subclass it to define concepts of your own.

    A subclass defines how ids become a mask (`mask`), how a relevance map becomes one value per concept (`attribute`),
    and the score and position of each concept (`reference`). Atlases store its `identity`, reports use its `noun`.
    Concepts that mix channels are subclasses of `crp_kit.concepts.MixedConcept`, which have a `split` instead of masks.

    References
    ----------
    Achtibat et al., "From attribution maps to human-understandable explanations through concept relevance propagation",
    Nature Machine Intelligence 5, 2023.

    Examples
    --------
    A concept is a half of the image, left (0) or right (1):

    >>> class Half(Concept):
    ...     noun = "half"
    ...
    ...     def _halves(self, shape):
    ...         left = torch.arange(shape[-1]) < shape[-1] // 2
    ...         return torch.stack([left, ~left]).float()
    ...
    ...     def mask(self, concept_ids, shape, *, layer_name):
    ...         return self._halves(shape)[list(concept_ids)].sum(0)
    ...
    ...     def attribute(self, relevance, *, abs_norm=True):
    ...         by_half = torch.einsum("rcyx,hx->rh", relevance, self._halves(relevance.shape))
    ...         return by_half / by_half.abs().sum(1, keepdim=True) if abs_norm else by_half
    ...
    ...     def reference(self, relevance, *, aggregate="sum"):
    ...         maps = relevance[:, None] * self._halves(relevance.shape)[:, None, None]
    ...         return Reference(maps.flatten(2).sum(2), maps.flatten(2).argmax(2))
    >>> Half().attribute(torch.tensor([[[[3.0, 0.0, 1.0, 0.0]]]]))
    tensor([[0.7500, 0.2500]])
    >>> Half().identity, Half().noun
    ('Half()', 'half')

    It is used like the concepts of crp-kit:

    >>> from crp_kit import CondAttribution
    >>> from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
    >>> image, label = ShapesDataset(1)[0]
    >>> attr = CondAttribution(demo_resnet())(
    ...     demo_preprocess(image)[None], [{"layer3.1.conv2": [0], "y": [label]}], "epsilon_plus", mask_map=Half()
    ... )
    >>> attr.heatmap.shape
    torch.Size([1, 64, 64])
    """

    def __repr__(self) -> str:
        """Return the class with its attributes; the same in every process if their own representations are."""
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    @property
    def identity(self) -> str:
        """String that identifies this concept, the same in every process: atlases store and compare it.

        By default the class and its attributes, such as ``"ChannelConcept(axis=1)"``. Override it where attributes are
        tensors, arrays or functions, for example with a name and a checksum.

        Raises
        ------
        ConditionError
            If an attribute's representation does not identify its value.
        """
        for name, value in vars(self).items():
            if " at 0x" in repr(value) or getattr(value, "ndim", None):
                raise ConditionError(
                    f"the identity of {type(self).__qualname__} cannot be derived from its attribute {name!r}, of type "
                    f"{type(value).__name__}: define a property `identity` that is the same in every process"
                )
        return Concept.__repr__(self)

    @property
    def noun(self) -> str:
        """The noun for one of these concepts in graphs and reports, such as ``"channel"``; ``"concept"`` by default."""
        return "concept"

    def title(self, concept_id: int, n_concepts: int) -> str:
        """Return what stands for noun and number of one of a layer's concepts in graphs; empty where these do.

        Parameters
        ----------
        concept_id : int
            Its number.
        n_concepts : int
            How many concepts the layer has.
        """
        return ""

    def split(self, relevance: torch.Tensor, activation: torch.Tensor) -> Split:
        """Return relevance divided among concepts that mix channels.

        Parameters
        ----------
        relevance : torch.Tensor
            (row, sample, *shape), the coefficient of the relevance: relevance is this times the activation.
        activation : torch.Tensor
            (sample, *shape), the layer's output.

        Returns
        -------
        Split

        Raises
        ------
        ConditionError
            If the concepts do not mix channels, so that a mask says all, or do not fit the layer.
        """
        raise ConditionError(f"{type(self).__qualname__} is a mask of relevance, and does not split it")

    def resolved(self, channel_axis: Callable[[], int]) -> Concept:
        """Return the concept with what the recorded graph knows of its layer filled in; by default itself.

        Parameters
        ----------
        channel_axis : callable
            Returns the axis that enumerates the layer's channels, the row axis counted. Raises `ConceptAxisError` if
            the graph does not know it.
        """
        return self

    @abstractmethod
    def mask(self, concept_ids: Sequence[Any], shape: torch.Size, *, layer_name: str) -> torch.Tensor:
        """Return the factor that multiplies the relevance of a node's output.

        Parameters
        ----------
        concept_ids : sequence
            The ids that a condition set names; an empty sequence lets nothing pass.
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
        """Return the relevance of each concept.

        Parameters
        ----------
        relevance : torch.Tensor
            (row, *shape), relevance or activation at the node's output.
        abs_norm : bool, optional
            Divide each row by its sum of absolute values, so that ``|shares|`` sum to 1. A row of zeros stays zero.

        Returns
        -------
        torch.Tensor
            (row, concept).
        """

    @abstractmethod
    def reference(self, relevance: torch.Tensor, *, aggregate: Aggregate = "sum") -> Reference:
        """Return score and position of every concept in every row.

        Parameters
        ----------
        relevance : torch.Tensor
            (row, *shape), relevance or activation at the node's output.
        aggregate : {"sum", "max"}, optional
            Whether a concept's score is the sum or the maximum of its values.

        Returns
        -------
        Reference
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
    if not is_integer(axis):
        raise ConceptAxisError(
            f"the {what} axis of {layer_name!r} is a whole number, the row axis counted; got {axis!r}"
        )
    from_front = axis + ndim if axis < 0 else axis
    if not 1 <= from_front < ndim:
        raise ConceptAxisError(f"axis {axis} is no {what} axis of {layer_name!r}, which has {ndim} axes")
    return from_front


def indicator(ids: Sequence[int], size: int) -> torch.Tensor:
    """Return (concept,), 1 for the ids and 0 for all others."""
    factor = torch.zeros(size)
    factor[torch.tensor(list(ids), dtype=torch.long)] = 1
    return factor


def along(factor: torch.Tensor, axis: int, ndim: int) -> torch.Tensor:
    """Return (size,) so that it broadcasts along one of `ndim` axes."""
    return factor.reshape([-1 if i == axis else 1 for i in range(ndim)])


def check_ids(ids: Sequence[Any], size: int, *, layer_name: str, what: str) -> None:
    """Raise an error unless all ids are integers from 0 to `size` - 1."""
    wrong_type = [concept for concept in ids if not is_integer(concept)]
    if wrong_type:
        raise ConditionError(f"a {what} of {layer_name!r} is a whole number; got {wrong_type[0]!r}")
    wrong = [concept for concept in ids if not 0 <= concept < size]
    if wrong:
        raise ConceptRangeError(layer_name, wrong, size, what=what)


def _normalised(values: torch.Tensor, abs_norm: bool) -> torch.Tensor:
    if not abs_norm:
        return values
    total = values.abs().sum(1, keepdim=True)
    return values / torch.where(total == 0, torch.ones_like(total), total)


def _reference(maps: torch.Tensor, aggregate: Aggregate) -> Reference:
    """Return score and position from maps of shape (row, concept, neuron)."""
    if aggregate not in ("sum", "max"):
        raise ConditionError(f"aggregate is 'sum' or 'max'; got {aggregate!r}")
    return Reference(maps.sum(-1) if aggregate == "sum" else maps.amax(-1), _argmax(maps))


def _argmax(maps: torch.Tensor) -> torch.Tensor:
    """Return the position of the first of the highest values, (row, concept). NumPy takes a tenth of torch's time."""
    if maps.device.type != "cpu" or maps.dtype not in (torch.float32, torch.float64):
        return maps.argmax(-1)
    maps = maps.detach()
    if maps.is_contiguous() or maps.shape[-1] < _SHORT:
        return torch.from_numpy(maps.numpy().argmax(-1))
    return _strided_argmax(maps.transpose(1, 2))


def _strided_argmax(values: torch.Tensor) -> torch.Tensor:
    """Return the same of maps channels last, (row, neuron, concept): the first highest part, and the place in that.

    The maximum of each part is taken of many concepts at once, and what is left to search is small.
    """
    size = values.shape[1]
    width = math.isqrt(size)
    whole = size // width * width
    highest = values[:, :whole].view(len(values), -1, width, values.shape[2]).amax(2)
    if whole < size:
        highest = torch.cat([highest, values[:, whole:].amax(1, keepdim=True)], 1)
    part = torch.from_numpy(highest.numpy().argmax(1))[:, None]
    within = (part * width + torch.arange(width)[:, None]).clamp_(max=size - 1)
    return part[:, 0] * width + torch.from_numpy(values.gather(1, within).numpy().argmax(1))
