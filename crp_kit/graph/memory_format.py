"""The memory format of maps of channels: channels last, in which convolutions on the CPU are fastest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from ..numerics import checksum
from .nested import mapped, tensors
from .recording.record import Recording

__all__ = ["Outline", "as_batch", "laid_out", "with_maps_laid_out"]


def laid_out(value: torch.Tensor) -> torch.Tensor:
    """Return a map, (sample, channel, height, width), in the order in which convolutions on the CPU are fastest."""
    on_cpu = value.device.type == "cpu" and value.ndim == 4
    return value.contiguous(memory_format=torch.channels_last) if on_cpu else value


def as_batch(rows: torch.Tensor) -> torch.Tensor:
    """Return (row, sample, *shape) as one batch, (row * sample, *shape).

    The stride of an axis of one element is arbitrary, but torch recognises the memory format by it: it is set right.
    """
    flat = rows.flatten(0, 1)
    if flat.shape[0] != 1 or flat.ndim != 4 or not flat.is_contiguous(memory_format=torch.channels_last):
        return flat
    return flat.as_strided(flat.shape, (flat.numel(), *flat.stride()[1:]))


def with_maps_laid_out(data: Any) -> Any:
    """Return a model's input with its images laid out."""
    return mapped(data, laid_out)


@dataclass(frozen=True)
class Outline:
    """A summary of a recording, in little memory, by which two are compared.

    Parameters
    ----------
    signature : tuple
        Of the graph.
    sums : tuple of float
        For each value its position-dependent checksum.
    tolerances : tuple of float
        By how much rounding may change these sums: the root of the precision times the largest value, for each of as
        many values as would add up if they were independent.
    """

    signature: tuple[Any, ...]
    sums: tuple[float, ...]
    tolerances: tuple[float, ...]

    @classmethod
    def of(cls, recording: Recording) -> Outline:
        """Return the outline of a recording."""
        values = [value for value in tensors(recording.values) if value.is_floating_point() and value.numel()]
        sums = tuple(float(checksum(value)) for value in values)
        return cls(recording.graph.signature, sums, tuple(map(_tolerance, values)))

    def agrees(self, other: Outline) -> bool:
        """Return whether two outlines are of the same calls, and their values differ by no more than rounding."""
        if self.signature != other.signature or len(self.sums) != len(other.sums):
            return False
        triples = zip(self.sums, other.sums, self.tolerances, strict=True)
        return all(abs(first - second) <= tolerance for first, second, tolerance in triples)


def _tolerance(value: torch.Tensor) -> float:
    largest = max(abs(float(bound)) for bound in torch.aminmax(value))
    return largest * math.sqrt(torch.finfo(value.dtype).eps * value.numel())
