"""Checks of the arrays that statistics take, which become float64."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["Bools", "Floats", "Integers", "finite_rows", "truth_columns"]

_LARGEST = 1e100
"""Magnitude of a value whose square can be summed, and divided by a small variance."""

Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]


def finite_rows(name: str, values: Any, *, columns: int | None = None, axis: str = "concept") -> Floats:
    """Return an array (row, concept) of finite numbers.

    Parameters
    ----------
    name : str
        What the array is, at the beginning of the message.
    values : array
        (row, concept).
    columns : int, optional
        How many concepts it has to have.
    axis : str, optional
        What its columns are.

    Raises
    ------
    InputError
        If it is another shape, or a value is NaN, infinite, or so large that sums of squares are.

    Examples
    --------
    >>> finite_rows("a matrix", [[0, 1]]).dtype
    dtype('float64')
    """
    try:
        array = np.asarray(values)
        array = array if np.iscomplexobj(array) else np.asarray(array, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is an array of numbers, (row, {axis}); got {type(values).__name__}") from error
    if np.iscomplexobj(array):
        raise InputError(f"{name} is an array of real numbers, (row, {axis}); got complex ones")
    if array.ndim != 2 or not array.shape[1] or columns not in (None, array.shape[1]):
        wanted = axis if columns is None else f"{columns} {axis}s"
        raise InputError(f"{name} is an array (row, {wanted}); got the shape {array.shape}")
    size = np.abs(array).max(1)
    bad = np.flatnonzero(~np.isfinite(size))
    if len(bad):
        raise InputError(f"{name} has values that are NaN or infinite in {len(bad)} rows, the first is {bad[0]}")
    large = np.flatnonzero(size > _LARGEST)
    if len(large):
        raise InputError(
            f"{name} has values beyond {_LARGEST:g} in {len(large)} rows, the first is {large[0]}: their squares "
            f"cannot be summed; divide the values by a common factor"
        )
    return array


def truth_columns(name: str, values: Any, *, rows: int) -> Bools:
    """Return an array (row, attribute) of booleans.

    Raises
    ------
    InputError
        If it is another shape or type.

    Examples
    --------
    >>> truth_columns("attributes", np.array([[True], [False]]), rows=2).shape
    (2, 1)
    """
    array = np.asarray(values)
    if array.dtype != np.bool_ or array.ndim != 2 or len(array) != rows or not array.shape[1]:
        raise InputError(
            f"{name} is an array of booleans, ({rows} rows, attribute); got {array.dtype}, of shape {array.shape}"
        )
    return array
