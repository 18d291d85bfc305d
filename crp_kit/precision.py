"""The precision in which rules and sums run."""

from __future__ import annotations

import torch

__all__ = ["working"]


def working(value: torch.Tensor) -> torch.Tensor:
    """Return a value in the precision in which rules run: float32 or better."""
    return value if value.dtype in (torch.float32, torch.float64) else value.float()
