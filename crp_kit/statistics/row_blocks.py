"""Reading of a matrix of scores in blocks of rows, so that memory does not grow with the number of samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["check_finite", "group_sums", "row_blocks", "row_numbers"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]

_BLOCK_BYTES = 1 << 26
"""Size of a block in float64."""
_CHUNK_ROWS = 256
"""Rows of a chunk of a wide matrix in a file: blocks are whole chunks, so that none is read twice."""


def row_numbers(matrix: Any, rows: Mask | None) -> Integers:
    """Return the numbers of the rows that a mask chooses, of all rows without one: (row,).

    Raises
    ------
    InputError
        If `matrix` is not (sample, concept), or the mask is not (sample,).
    """
    if len(matrix.shape) != 2:
        raise InputError(f"a matrix of scores is (sample, concept); got shape {tuple(matrix.shape)}")
    if rows is None:
        return np.arange(matrix.shape[0])
    mask = np.asarray(rows)
    if mask.dtype != bool or mask.shape != (matrix.shape[0],):
        raise InputError(f"rows is a mask of {matrix.shape[0]} samples; got {mask.dtype} of shape {mask.shape}")
    return np.flatnonzero(mask)


def row_blocks(matrix: Any, rows: Mask | None = None) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Yield the chosen rows in blocks, in their order: which of the chosen rows they are, and their values.

    Parameters
    ----------
    matrix : array
        (sample, concept), in memory or read when it is cut.
    rows : numpy.ndarray, optional
        Mask (sample,); all by default.

    Raises
    ------
    InputError
        If a shape does not fit, or a chosen row has a value that is not finite.
    """
    numbers = row_numbers(matrix, rows)
    samples, concepts = matrix.shape
    step = max(_CHUNK_ROWS, _BLOCK_BYTES // (8 * max(concepts, 1)) // _CHUNK_ROWS * _CHUNK_ROWS)
    for start in range(0, samples, step):
        first, last = np.searchsorted(numbers, [start, start + step]).tolist()
        if first == last:
            continue
        values = np.asarray(matrix[start : start + step])
        if last - first < len(values):
            values = values[numbers[first:last] - start]
        check_finite(values)
        yield slice(first, last), values


def check_finite(values: npt.NDArray[Any]) -> None:
    """Make sure that no value is NaN or infinite; the sum is tested first, which is quick.

    Raises
    ------
    InputError
        If one is.
    """
    if not np.isfinite(values.sum(dtype="f8")) and not np.isfinite(values).all():
        raise InputError("the scores have values that are not finite; leave those samples out")


def group_sums(values: Floats, groups: Integers, count: int) -> Floats:
    """Return the sum of the rows of each group: (group, concept). `groups` (row,) are from 0 to `count` - 1."""
    from scipy.sparse import csr_array

    if count == 1:
        return np.asarray(values.sum(0, keepdims=True))
    ones = csr_array((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=(count, len(groups)))
    sums: Floats = ones @ values
    return sums
