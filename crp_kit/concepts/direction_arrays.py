"""Arrays of directions: checked copies in float64, and their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from ..errors import InputError

__all__ = ["checked_array", "checked_directions", "checked_matrix", "digest_of"]


def checked_array(name: str, values: Any) -> torch.Tensor:
    """Return finite numbers in float64, in memory of their own.

    Raises
    ------
    InputError
        If these are no finite numbers.
    """
    try:
        own = values if isinstance(values, torch.Tensor) else torch.from_numpy(np.array(values))
        if own.is_complex():
            raise TypeError("complex numbers are no coordinates")
        array = own.detach().cpu().to(torch.float64, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is an array of numbers; got {type(values).__name__}: {error}") from error
    if not bool(array.isfinite().all()):
        raise InputError(f"{name} has values that are NaN or infinite")
    return array


def checked_matrix(name: str, values: Any) -> torch.Tensor:
    """Return the same of a matrix, (direction, channel).

    Raises
    ------
    InputError
        If these are no finite numbers, or no such matrix.
    """
    array = checked_array(name, values)
    if array.ndim != 2 or not array.numel():
        raise InputError(f"{name} is (direction, channel), at least one of each; got shape {tuple(array.shape)}")
    return array


def checked_directions(name: str, values: Any) -> torch.Tensor:
    """Return the same of directions, none of which is zero everywhere.

    Raises
    ------
    InputError
        If these are no finite numbers, no such matrix, or a row is zero.
    """
    array = checked_matrix(name, values)
    empty = (~array.any(1)).nonzero().flatten().tolist()
    if empty:
        shown = ", ".join(map(str, empty[:5])) + (", …" if len(empty) > 5 else "")
        raise InputError(
            f"row {shown} of {name} is zero in every channel, which is no direction: leave it out, or look why it is"
        )
    return array


def digest_of(arrays: Iterable[torch.Tensor]) -> str:
    """Return the beginning of a SHA-256 of values and shapes in float64."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(tuple(array.shape)).encode())
        digest.update(array.detach().cpu().double().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
