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
    sums : list of float
        For each value its position-dependent checksum.
    """

    signature: tuple[Any, ...]
    sums: list[float]

    @classmethod
    def of(cls, recording: Recording) -> Outline:
        """Return the outline of a recording."""
        return cls(recording.graph.signature, [float(checksum(value)) for value in _floats(recording)])

    def agrees(self, recording: Recording) -> bool:
        """Return whether a recording is of the same calls, and its values differ by no more than rounding."""
        values = _floats(recording)
        if self.signature != recording.graph.signature or len(self.sums) != len(values):
            return False
        pairs = zip(self.sums, values, strict=True)
        return all(abs(float(checksum(value)) - expected) <= _tolerance(value) for expected, value in pairs)


def _floats(recording: Recording) -> list[torch.Tensor]:
    return [value for value in tensors(recording.values) if value.is_floating_point() and value.numel()]


def _tolerance(value: torch.Tensor) -> float:
    """Return by how much rounding may change a checksum.

    It is the root of the precision times the largest value, for each of as many values as would add up if they were
    independent.
    """
    low, high = float(value.amin()), float(value.amax())  # channels last, `aminmax` takes ten times as long
    return max(abs(low), abs(high)) * math.sqrt(torch.finfo(value.dtype).eps * value.numel())
