"""In which order the values of maps lie in memory: channels last, in which convolutions on the CPU are fastest."""

from __future__ import annotations

from typing import Any

import torch

from .record import Recording
from .tree import mapped, tensors

__all__ = ["agree", "as_batch", "laid_out", "with_maps_laid_out"]


def laid_out(value: torch.Tensor) -> torch.Tensor:
    """Return a map, (sample, channel, height, width), in the order in which convolutions on the CPU are fastest."""
    on_cpu = value.device.type == "cpu" and value.ndim == 4
    return value.contiguous(memory_format=torch.channels_last) if on_cpu else value


def as_batch(rows: torch.Tensor) -> torch.Tensor:
    """Return (row, sample, *shape) as one batch, (row * sample, *shape).

    The stride of an axis of one element is arbitrary, but torch tells the order of a map by it: it is set right.
    """
    flat = rows.flatten(0, 1)
    if flat.shape[0] != 1 or flat.ndim != 4 or not flat.is_contiguous(memory_format=torch.channels_last):
        return flat
    return flat.as_strided(flat.shape, (flat.numel(), *flat.stride()[1:]))


def with_maps_laid_out(data: Any) -> Any:
    """Return a model's input with its images laid out."""
    return mapped(data, laid_out)


def agree(first: Recording, second: Recording) -> bool:
    """Return whether two recordings are of the same calls, and none of their values differs by more than rounding.

    Rounding is less than the root of the precision, 3e-4 for float32, of the largest value of the same output.
    """
    if first.structure != second.structure:
        return False
    pairs = zip(tensors(first.values), tensors(second.values), strict=True)
    return all(_are_close(one, other) for one, other in pairs if one.is_floating_point())


def _are_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or not one.numel():
        return one.shape == other.shape
    within = torch.finfo(one.dtype).eps ** 0.5 * one.abs().amax()
    return bool((one - other).abs().amax() <= within)
