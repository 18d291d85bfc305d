"""Moments of groups of samples: counts, means and standard deviations, from values or from the moments of parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .shifted_columns import ShiftedColumns, group_sums

__all__ = ["GroupMoments", "moments_by_group", "moments_of", "pooled_moments"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]

_VALUES_AT_ONCE = 1 << 17
"""Few enough for the processor's cache."""


@dataclass(frozen=True, eq=False)
class GroupMoments:
    """Moments of each group and concept, in float64; not-a-number where a group is empty.

    Parameters
    ----------
    count : numpy.ndarray
        Samples: (group,), or 0-d for one group.
    mean, std : numpy.ndarray
        (group, concept), or (concept,) for one group. `std` is the population's: divided by the count.
    """

    count: Integers
    mean: Floats
    std: Floats


def moments_of(values: Array) -> GroupMoments:
    """Return the moments of one group.

    Values are taken relative to the first sample, so that the standard deviation of equal values is exactly 0.

    Parameters
    ----------
    values : numpy.ndarray
        (sample, concept).

    Raises
    ------
    InputError
        If a value is infinite or not-a-number.
    """
    count, columns = values.shape
    mean, std = np.full((2, columns), np.nan)
    step = max(1, _VALUES_AT_ONCE // max(count, 1))
    for start in range(0, columns if count else 0, step):
        part = np.array(values[:, start : start + step], np.float64)
        first = part[0].copy()
        with np.errstate(invalid="ignore", over="ignore"):
            part -= first
            middle = part.mean(0)
            part -= middle
            std[start : start + step] = np.sqrt(np.square(part, out=part).mean(0))
        mean[start : start + step] = first + middle
    if count and not np.isfinite(std).all():
        raise InputError("statistics are of finite values; some are infinite or not-a-number")
    return GroupMoments(np.array(count), mean, std)


def moments_by_group(blocks: Iterable[tuple[Integers, Array]], groups: int, concepts: int) -> GroupMoments:
    """Return the moments of each group, in one pass over blocks of samples.

    Values are taken relative to the first sample of each group, so that the standard deviation of equal values is
    exactly 0. Of n samples a variance has a relative error of at most about n times float64's: their squares around
    the first one sum to at most n + 1 times those around the mean.

    Parameters
    ----------
    blocks : iterable of (array, array)
        The group of each sample, (sample,), and its values, (sample, concept).
    groups, concepts : int
        How many there are.

    Raises
    ------
    InputError
        If a value is infinite or not-a-number.
    """
    columns, squares = ShiftedColumns(groups, concepts), np.zeros((groups, concepts))
    with np.errstate(invalid="ignore", over="ignore"):
        for group, values in blocks:
            shifted = columns.add(values, group)
            squares += group_sums(np.square(shifted, out=shifted), group, groups)
        squares -= np.square(columns.scaled_means)
    if not np.isfinite(squares).all():
        raise InputError("statistics are of finite values; some are infinite or not-a-number")
    count = columns.count
    squares /= np.maximum(count, 1)[:, None]
    mean, std = columns.means, np.sqrt(np.maximum(squares, 0, out=squares), out=squares)
    mean[count == 0] = std[count == 0] = np.nan
    return GroupMoments(count, mean, std)


def pooled_moments(moments: GroupMoments) -> GroupMoments:
    """Return the moments of all groups together as those of one group; empty ones do not count."""
    held = moments.count > 0
    if not held.any():
        blank = np.full(moments.mean.shape[1:], np.nan)
        return GroupMoments(np.array(0), blank, blank.copy())
    count, mean, std = moments.count[held], moments.mean[held], moments.std[held]
    share = (count / count.sum())[:, None]
    shifted = mean - mean[0]  # equal means stay equal, exactly
    middle = (share * shifted).sum(0)
    variance = (share * (std**2 + (shifted - middle) ** 2)).sum(0)
    return GroupMoments(np.array(count.sum()), mean[0] + middle, np.sqrt(variance))
