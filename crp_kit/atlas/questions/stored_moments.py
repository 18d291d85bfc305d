"""Moments of classes as an atlas holds them, and contrasts of classes from these alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...statistics.moments import GroupMoments, pooled_moments
from ..query.stored_scores import StoredScores
from .contrast import contrast_of_moments
from .contrast_table import ContrastTable
from .groups import class_words

__all__ = ["moments_contrast", "stored_moments"]

Array = npt.NDArray[Any]


def stored_moments(scores: StoredScores) -> tuple[Array, GroupMoments]:
    """Return the classes that have samples, and their moments."""
    stored = scores.arrays("moments")
    count = stored["count"][:]
    held = count > 0
    mean, std = (stored[name][:][held].astype(np.float64) for name in ("mean", "std"))
    return scores.file.seen[held], GroupMoments(count[held], mean, std)


def moments_contrast(
    scores: StoredScores, stored: tuple[Array, GroupMoments], a: int, b: int | None = None
) -> ContrastTable:
    """Compare a class with another one, or with all others, as `contrast` does without a matrix: many such are quick.

    Parameters
    ----------
    scores : StoredScores
    stored : tuple
        From `stored_moments`.
    a, b : int
        Classes that have samples; without `b` at least one other class has some.
    """
    classes, moments = stored
    first = classes == a
    second = ~first if b is None else classes == b
    words = class_words(scores, a), "all other classes" if b is None else class_words(scores, b)
    return contrast_of_moments(scores, (_pooled(moments, first), _pooled(moments, second)), words)


def _pooled(moments: GroupMoments, rows: npt.NDArray[np.bool_]) -> GroupMoments:
    return pooled_moments(GroupMoments(moments.count[rows], moments.mean[rows], moments.std[rows]))
