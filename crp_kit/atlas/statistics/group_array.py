"""Arrays of groups that are appended to while a pass runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..file.header import Array, Integers
from .base import Allocate

__all__ = ["GroupArray", "GroupsFirst", "shared_blocks"]

_CELLS_AT_ONCE = 1 << 20


class GroupArray:
    """An array (group, …) that groups are appended to. What the memory has room for beyond them is never touched.

    Parameters
    ----------
    shape : sequence of int
        With the first groups.
    dtype : str
    fill : float
        Value of a new group.
    allocate : callable
        Its method `room`, if it has one, says how many groups an array that grows gets room for.
    """

    def __init__(self, shape: Sequence[int], dtype: str, fill: float, allocate: Allocate) -> None:
        self._allocate, self._fill = allocate, fill
        self._room = allocate(tuple(shape), dtype, 0)
        self.values: Array = self._room
        self.values[:] = fill

    def grow(self, groups: int) -> None:
        """Append groups, up to so many. The array is copied a number of times that is logarithmic in their number."""
        held = len(self.values)
        if groups > len(self._room):
            wanted = (max(groups, held + held // 2), *self._room.shape[1:])
            room = getattr(self._allocate, "room", self._allocate)(wanted, str(self._room.dtype), 0)
            room[:held] = self.values
            self._room = room
        self.values = self._room[: max(groups, held)]
        self.values[held:] = self._fill


class GroupsFirst:
    """An array (limb, group, concept) of a file, cut as it is in memory: (group, limb, concept)."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __getitem__(self, part: tuple[Any, slice, slice]) -> Array:
        groups, limbs, concepts = part
        return np.swapaxes(self.array[limbs, groups, concepts], 0, 1)


def shared_blocks(shape: tuple[int, ...], rows: Integers | None) -> Iterator[tuple[tuple[slice, slice], Integers]]:
    """Divide (group, concept, …) into blocks; yield each with the row of each of its groups, without those of none."""
    rows = np.arange(shape[0]) if rows is None else rows
    for part in _blocks(shape):
        if (rows[part[0]] >= 0).any():
            yield part, rows[part[0]]


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Divide (group, concept, …) into blocks of bounded size."""
    groups, concepts = shape[:2]
    wide = max(1, _CELLS_AT_ONCE // max(1, int(np.prod(shape[2:]))))
    step, tall = min(concepts, wide), max(1, wide // max(1, concepts))
    for group in range(0, groups, tall):
        for concept in range(0, concepts, max(1, step)):
            yield slice(group, group + tall), slice(concept, concept + step)
