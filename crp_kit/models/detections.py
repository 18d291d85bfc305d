"""Detections as one tensor, (sample, detection, 6 + class), and calls that choose them without carrying relevance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.nn import functional

from ..targets.boxes import FIRST_CLASS, NO_CLASS

__all__ = ["described", "padded", "unrecorded"]


@contextmanager
def unrecorded() -> Iterator[None]:
    """Run calls as constants: without gradients, and unseen by the mode that records what carries relevance."""
    with torch.no_grad(), torch._C.DisableTorchFunction():
        yield


def padded(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Return numbers of candidates, followed by zeros: (count,)."""
    return functional.pad(rows, (0, count - len(rows)))


def described(detected: Mapping[str, torch.Tensor], count: int) -> torch.Tensor:
    """Return box, label and score of each detection, and rows without a class behind them: (count, 6).

    Parameters
    ----------
    detected : dict
        Of one sample: boxes (detection, 4), labels and scores (detection,).
    count : int
    """
    boxes, labels, scores = detected["boxes"], detected["labels"], detected["scores"]
    none = boxes.new_zeros(count - len(boxes), FIRST_CLASS)
    none[:, FIRST_CLASS - 2] = NO_CLASS
    return torch.cat([torch.cat([boxes, labels[:, None].to(boxes), scores[:, None].to(boxes)], 1), none])
