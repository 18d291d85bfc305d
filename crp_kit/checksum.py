"""A sum that tells values, and their order, from others: asked of every weight when a pass is prepared."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from .numerics import working

__all__ = ["checksum"]


def checksum(values: torch.Tensor) -> torch.Tensor:
    """Return a sum, of no shape, in which every place has a weight of its own.

    It is the same, up to rounding, however the values lie in memory. Of weights, and of maps channels last, little is
    copied.
    """
    values = working(values.detach())
    values = values.flatten(2) if values.ndim > 2 else values
    weights = [_place_weights(axis, size, values.device, values.dtype) for axis, size in enumerate(values.shape, 1)]
    if values.is_contiguous():
        for weight in weights:
            values = weight @ values.reshape(len(weight), -1)
    else:
        for weight in reversed(weights):
            values = values @ weight
    return values.reshape(())


@lru_cache(maxsize=256)
def _place_weights(axis: int, size: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return weights that differ from place to place and from axis to axis, or a transpose would go unseen."""
    return (torch.arange(1, size + 1, device=device, dtype=dtype) * math.sqrt(axis + 1)).cos()
