"""Targets that atlases choose for each sample in words, one for each class that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from .base import Target
from .binary import Binary
from .boxes import Box
from .regions import Region

__all__ = ["ByClass", "target_by_class"]

ByClass: TypeAlias = Callable[[int], Target]
"""From the number of a class to a target."""
_WORDS: dict[str, ByClass] = {"regions": Region, "masks": Region, "boxes": Box, "binary": Binary}


def target_by_class(words: str) -> ByClass | None:
    """Return what relevance of a class starts from in an atlas of these words; None where it is the class itself.

    Examples
    --------
    >>> target_by_class("boxes:0.5")(3)
    Box(cls=3, rank=0, iou_with=None, value='logit')
    """
    return _WORDS.get(words.partition(":")[0])
