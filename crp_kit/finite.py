"""Whether values are finite: asked of every image and every result, so it has to cost little."""

from __future__ import annotations

import torch

__all__ = ["count_not_finite", "is_finite"]


def is_finite(values: torch.Tensor) -> bool:
    """Return whether no value is NaN or infinite.

    A sum is finite only if all its terms are, and takes a small part of the time that a look at each of them does. Each
    is looked at if it is not: finite values may sum to more than a float holds.
    """
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def count_not_finite(values: torch.Tensor) -> int:
    """Return how many values are NaN or infinite."""
    return 0 if is_finite(values) else int((~torch.isfinite(values)).sum())
