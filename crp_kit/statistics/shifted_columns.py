"""Columns relative to the first row of each group, so that removing means costs no digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["ShiftedColumns", "check_finite", "group_sums"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]


class ShiftedColumns:
    """Sums of rows in groups, each row relative to the first one of its group.

    Of n rows, the squares around the first one sum to at most n + 1 times those around the mean, whatever the level of
    a column: so much can be lost when the mean is removed, and no more.

    Memory for a block is taken once: the system takes longer to hand out new pages than NumPy to fill them.

    Parameters
    ----------
    groups, concepts : int
    """

    def __init__(self, groups: int, concepts: int) -> None:
        self.count = np.zeros(groups, np.int64)
        self._first, self._sums = np.zeros((groups, concepts)), np.zeros((groups, concepts))
        self._block, self._rounding = np.empty((0, concepts)), 0.0

    def add(self, values: Array, group: Integers) -> Floats:
        """Add rows (row, concept) of some groups (row,), and return them shifted. The next call overwrites them.

        Raises
        ------
        InputError
            If a value is not finite.
        """
        check_finite(values)
        self._rounding = float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 0.0
        present, row = np.unique(group, return_index=True)
        new = self.count[present] == 0
        self._first[present[new]] = values[row[new]]
        self.count += np.bincount(group, minlength=len(self.count))
        if len(self._block) < len(values):
            self._block = np.empty(values.shape)
        shifted = self._block[: len(values)]
        np.take(self._first, group, axis=0, out=shifted, mode="clip")
        np.subtract(values, shifted, out=shifted)
        self._sums += group_sums(shifted, group, len(self.count))
        return shifted

    @property
    def means(self) -> Floats:
        """Mean of each group, 0 where it is empty: (group, concept)."""
        means: Floats = self._first + self._sums / np.maximum(self.count, 1)[:, None]
        return means

    @property
    def scaled_means(self) -> Floats:
        """Shifted mean times the root of the count, whose products are what means add to sums: (group, concept)."""
        scaled: Floats = self._sums / np.sqrt(np.maximum(self.count, 1))[:, None]
        return scaled

    def varies(self, squares: Floats) -> Mask:
        """Return which columns vary, by their squares around the means: (concept,).

        A column is constant where its standard deviation is at most the spacing of floats at the first rows.
        """
        level = np.abs(self._first).max(0, initial=0)
        varies: Mask = squares > self.count.sum() * (self._rounding * level) ** 2
        return varies


def check_finite(values: Array) -> None:
    """Make sure that no value is NaN or infinite; the sum is tested first, which is quick.

    Raises
    ------
    InputError
        If one is.
    """
    if not np.isfinite(values.sum(dtype="f8")) and not np.isfinite(values).all():
        raise InputError("statistics are of finite values; some are infinite or not-a-number")


def group_sums(values: Floats, group: Integers, groups: int) -> Floats:
    """Return the sum of the rows of each group: (group, concept)."""
    from scipy.sparse import csr_array

    if groups == 1:
        return np.asarray(values.sum(0, keepdims=True))
    rows = np.arange(len(group))
    return np.asarray(csr_array((np.ones(len(rows)), (group, rows)), shape=(groups, len(rows))) @ values)
