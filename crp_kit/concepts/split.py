"""Splits of relevance among directions: as if encode and decode ran behind a layer, or by what a dictionary rebuilds.

All values have their channels in the second axis and one axis of positions: activations (sample, channel, position),
coefficients (row times sample, channel, position), codes (sample, concept, position).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from .base import Split
from .mixed import MixedConcept

__all__ = ["Code", "DecoderSplit", "LinearCode", "Places", "VirtualSplit", "concept_values"]


@dataclass(frozen=True)
class Places:
    """The axes of a layer's output: which one is the channels, and the positions that the others are.

    Parameters
    ----------
    axis : int
        The channel axis, the sample axis counted.
    shape : torch.Size
        (sample, *shape).
    """

    axis: int
    shape: torch.Size

    @property
    def positions(self) -> tuple[int, ...]:
        return (*self.shape[1 : self.axis], *self.shape[self.axis + 1 :])

    def flat(self, values: torch.Tensor) -> torch.Tensor:
        """Return (n, *shape) as (n, channel, position)."""
        moved = values.movedim(self.axis, 1)
        return moved[..., None] if moved.ndim == 2 else moved.flatten(2)

    def whole(self, values: torch.Tensor) -> torch.Tensor:
        """Return (n, channel, position) as (n, *shape)."""
        return values.reshape(*values.shape[:2], *self.positions).movedim(1, self.axis)


class Code(ABC):
    """The code of a batch: what an encoder reads from its activations, and what a decoder makes of it.

    Parameters
    ----------
    values : torch.Tensor
        (sample, concept, position).
    decoder : torch.Tensor
        (concept, channel), what the decoder adds for a unit of each.
    offset : torch.Tensor
        (channel,), what it gives for a code of zeros.
    """

    values: torch.Tensor
    decoder: torch.Tensor
    offset: torch.Tensor

    @abstractmethod
    def handed_back(self, weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Return the gradient of weighted codes with respect to the activation: (n, channel, position).

        Parameters
        ----------
        weights : torch.Tensor
            (n, m, position), of m codes for each of n entries, whose samples follow each other as in the batch.
        numbers : torch.Tensor
            (n, m), which codes these are.
        """

    def decoded(self) -> torch.Tensor:
        """Return what the decoder makes of the code, (sample, channel, position)."""
        decoded_values = torch.bmm(self.decoder.mT.expand(len(self.values), -1, -1), self.values)
        return decoded_values + self.offset[:, None]


@dataclass(frozen=True, eq=False)
class LinearCode(Code):
    """A code that is linear in the activation; `encoder` is (concept, channel)."""

    values: torch.Tensor
    decoder: torch.Tensor
    offset: torch.Tensor
    encoder: torch.Tensor

    @classmethod
    def of(
        cls, activation: torch.Tensor, encoder: torch.Tensor, decoder: torch.Tensor, offset: torch.Tensor
    ) -> LinearCode:
        """Return the code of activations, (sample, channel, position)."""
        centred = activation - offset[:, None]
        return cls(torch.bmm(encoder.expand(len(activation), -1, -1), centred), decoder, offset, encoder)

    def handed_back(self, weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return torch.bmm(self.encoder[numbers].mT, weights)


@dataclass(frozen=True, eq=False)
class _Division(Split):
    """Coefficients of a batch with its code.

    Parameters
    ----------
    concept : MixedConcept
    code : Code
    activation : torch.Tensor
        (sample, channel, position).
    coefficient : torch.Tensor
        (row times sample, channel, position).
    places : Places
    """

    concept: MixedConcept
    code: Code
    activation: torch.Tensor
    coefficient: torch.Tensor
    places: Places

    @property
    def _directions(self) -> int:
        return len(self.code.decoder)

    def _each_row(self, values: torch.Tensor) -> torch.Tensor:
        """Return values of samples, (sample, ...), for each row too: (row times sample, ...)."""
        return values.repeat(len(self.coefficient) // len(values), *(1,) * (values.ndim - 1))

    def _split_rows(self, values: torch.Tensor) -> torch.Tensor:
        return values.reshape(-1, len(self.activation), *values.shape[1:])

    def passed(self, concept_ids: Sequence[Sequence[Sequence[Any]]]) -> torch.Tensor:
        return self._split_rows(self.places.whole(self._passed(self._numbers(concept_ids))))

    def started(self, concept_ids: Sequence[Sequence[Sequence[Any]]]) -> torch.Tensor:
        alike = replace(self, coefficient=torch.ones_like(self.coefficient))
        return self._split_rows(self.places.whole(alike._started(self._numbers(concept_ids))))

    def _numbers(self, concept_ids: Sequence[Sequence[Sequence[Any]]]) -> list[list[int]]:
        """Return the numbers of the concepts that pass, by row times sample."""
        shape = torch.Size(self.places.shape[1:])
        known = {tuple(ids): self.concept.numbers(ids, shape, layer_name="layer") for row in concept_ids for ids in row}
        return [known[tuple(ids)] for row in concept_ids for ids in row]

    def shares(self) -> torch.Tensor:
        parts = torch.cat(self._shares(), 1)
        return self._split_rows(parts.reshape(*parts.shape[:2], *self.places.positions))

    @abstractmethod
    def _passed(self, numbers: Sequence[list[int]]) -> torch.Tensor:
        """Return the coefficient that passes, (row times sample, channel, position)."""

    def _started(self, numbers: Sequence[list[int]]) -> torch.Tensor:
        """Return the same for relevance that starts at the concepts; the coefficients are one."""
        return self._passed(numbers)

    @abstractmethod
    def _shares(self) -> list[torch.Tensor]:
        """Return relevance of directions, mean and rest, (row times sample, concept, position) each."""

    def _chosen(self, numbers: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return which directions pass, (n, m), and 0 where there are fewer, (n, m); None if all have m."""
        own = [[number for number in dict.fromkeys(ids) if number < self._directions] for ids in numbers]
        most, like = max(map(len, own), default=0), self.coefficient
        filled = [[*ids, *[0] * (most - len(ids))] for ids in own]
        index = torch.tensor(filled, dtype=torch.long, device=like.device).reshape(len(own), most)
        if all(len(ids) == most for ids in own):
            return index, None
        return index, like.new_tensor([[1.0] * len(ids) + [0.0] * (most - len(ids)) for ids in own])

    def _with(self, number: int, numbers: Sequence[list[int]]) -> list[int]:
        """Return the entries that mean (0) or rest (1) may pass."""
        return [entry for entry, ids in enumerate(numbers) if self._directions + number in ids]


class VirtualSplit(_Division):
    """Relevance as if encode and decode ran behind the layer; biases and the mean absorb their share.

    References
    ----------
    Chormai et al., "Disentangled explanations of neural network predictions by finding relevant subspaces", IEEE
    Transactions on Pattern Analysis and Machine Intelligence 46, 2024.
    """

    def _passed(self, numbers: Sequence[list[int]]) -> torch.Tensor:
        return self._with_rest(self._through(*self._chosen(numbers)), numbers)

    def _started(self, numbers: Sequence[list[int]]) -> torch.Tensor:
        index, counted = self._chosen(numbers)
        ones = self.coefficient.new_ones(*index.shape, self.coefficient.shape[2])
        return self._with_rest(self._handed_back(ones, index, counted), numbers)

    def _with_rest(self, passed: torch.Tensor, numbers: Sequence[list[int]]) -> torch.Tensor:
        """Return coefficients to which those of the rest are added where it may pass."""
        rest = self._with(1, numbers)
        if rest:
            passed[rest] += (self.coefficient - self._through_all())[rest]
        return passed

    def _through(self, index: torch.Tensor, counted: torch.Tensor | None = None) -> torch.Tensor:
        return self._handed_back(torch.bmm(self.code.decoder[index], self.coefficient), index, counted)

    def _handed_back(self, weights: torch.Tensor, index: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
        if not index.shape[1]:
            return torch.zeros_like(self.coefficient)
        return self.code.handed_back(weights if counted is None else weights * counted[..., None], index)

    def _through_all(self) -> torch.Tensor:
        every = torch.arange(self._directions, device=self.coefficient.device)
        return self._through(every.expand(len(self.coefficient), -1))

    def _shares(self) -> list[torch.Tensor]:
        written = torch.bmm(self.code.decoder.expand(len(self.coefficient), -1, -1), self.coefficient)
        rest = self._each_row(self.activation - self.code.decoded())
        return [
            written * self._each_row(self.code.values),
            (self.coefficient * self.code.offset[:, None]).sum(1, keepdim=True),
            (self.coefficient * rest).sum(1, keepdim=True),
        ]


class DecoderSplit(_Division):
    """Relevance of each channel, divided by what each concept contributes to the channel's reconstruction.

    A channel in which the reconstruction is zero belongs to the rest.
    """

    def _parts(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one by the reconstruction of each channel, 0 where that is zero, and 1 there; for each row too."""
        decoded = self._each_row(self.code.decoded())
        empty = decoded == 0
        return torch.where(empty, 0.0, 1 / torch.where(empty, 1.0, decoded)), empty.to(decoded.dtype)

    def _passed(self, numbers: Sequence[list[int]]) -> torch.Tensor:
        inverse, empty = self._parts()
        index, counted = self._chosen(numbers)
        codes = self._each_row(self.code.values).gather(1, index[..., None].expand(-1, -1, self.activation.shape[2]))
        result = torch.bmm(self.code.decoder[index].mT, codes if counted is None else codes * counted[..., None])
        mean, rest = self._with(0, numbers), self._with(1, numbers)
        result[mean] += self.code.offset[:, None]
        share = result * inverse
        share[rest] += empty[rest]
        return self.coefficient * share

    def _shares(self) -> list[torch.Tensor]:
        inverse, empty = self._parts()
        relevance = self.coefficient * self._each_row(self.activation)
        by_reconstruction = relevance * inverse
        written = torch.bmm(self.code.decoder.expand(len(relevance), -1, -1), by_reconstruction)
        return [
            written * self._each_row(self.code.values),
            (by_reconstruction * self.code.offset[:, None]).sum(1, keepdim=True),
            (relevance * empty).sum(1, keepdim=True),
        ]


def concept_values(code: Code, activation: torch.Tensor, places: Places) -> torch.Tensor:
    """Return maps (sample, concept, *position): the code, then 0 for the mean, and the norm of the rest."""
    rest = torch.linalg.vector_norm(activation - code.decoded(), dim=1, keepdim=True)
    parts = torch.cat([code.values, torch.zeros_like(activation[:, :1]), rest], 1)
    return parts.reshape(*parts.shape[:2], *places.positions)
