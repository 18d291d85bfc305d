"""Gram matrices of floats that are the same, bit for bit, in any order of the rows: exact integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..file.header import Array, Floats, Integers
from .base import Allocate

__all__ = ["ExactGram"]

_ROWS = 256
"""Rows that are multiplied at once: fewer cost more for what is done once for each product, more take memory."""
_CELLS_AT_ONCE = 1 << 20


class ExactGram:
    """Sums over rows of the products of any two concepts, which are associative, because they are sums of integers.

    As in `ExactSum`, a value is cut into limbs, here of 16 bits, at places that are the same for all values of a
    concept: the highest limb is that of the concept's largest magnitude seen. The product of limbs i and j of two
    concepts counts at the place i + j; those of the first four places are kept, so that each product is right to 2^-29
    of that of the two largest magnitudes. Products of limbs are integers below 2^32: sums of less than a million of
    them are exact in the matrix products of float64, in whatever order these add, and an int64 has room for 2^29 rows.
    When a larger magnitude comes, all places of its concept move down, as if that magnitude had come first.

    Parameters
    ----------
    concepts : int
    allocate : callable
    """

    _WIDTH, _LIMBS = 16, 4
    _NONE = -(1 << 14)
    """Place of the highest limb of a concept that has seen nothing but zeros."""

    def __init__(self, concepts: int, allocate: Allocate) -> None:
        self._limbs: Integers = allocate((self._LIMBS, concepts, concepts), "i8", 0)
        self._top: Integers = allocate((concepts,), "i2", self._NONE)
        self._waiting: list[Floats] = []

    @property
    def arrays(self) -> dict[str, Array]:
        """Limbs by place, the highest first, (limb, concept, concept), and where they begin, (concept,)."""
        self._multiply()
        return {"limbs": self._limbs, "top": self._top}

    def add(self, values: Floats) -> None:
        """Add rows: (row, concept)."""
        self._waiting.append(values)
        if sum(map(len, self._waiting)) >= _ROWS:
            self._multiply()

    def _multiply(self) -> None:
        """Add the products of the rows that wait for it."""
        waiting, self._waiting = self._waiting, []
        rows = np.concatenate(waiting) if waiting else np.zeros((0, len(self._top)))
        for start in range(0, len(rows), _ROWS):
            self._add(rows[start : start + _ROWS].astype("f8"))

    def _add(self, values: Floats) -> None:
        largest = np.abs(values).max(0)
        self._raise_to(np.where(largest > 0, (np.frexp(largest)[1] - 1) // self._WIDTH, self._NONE))
        limb = self._cut(values)
        second, third = limb[0].T @ limb[1], limb[0].T @ limb[2]
        fourth = limb[0].T @ limb[3] + limb[1].T @ limb[2]
        products = (
            limb[0].T @ limb[0],
            second + second.T,
            third + third.T + limb[1].T @ limb[1],
            fourth + fourth.T,
        )
        for place, product in enumerate(products):
            self._limbs[place] += product.astype("i8")

    def _cut(self, values: Floats) -> list[Floats]:
        """Return the limbs of values, the highest first, each (row, concept)."""
        rest = np.ldexp(values, np.where(values != 0, -self._WIDTH * self._top.astype("i4"), 0))
        limbs = []
        for _ in range(self._LIMBS):
            limbs.append(np.trunc(rest))
            rest = np.ldexp(rest - limbs[-1], self._WIDTH)
        return limbs

    def _raise_to(self, needed: Integers) -> None:
        """Make room in each concept for values below 2^(16 (needed + 1))."""
        shift = np.where(self._top == self._NONE, 0, np.maximum(needed - self._top, 0))
        if shift.any():
            for part in self._parts():
                self._limbs[:, part] = self._lowered(self._limbs[:, part], shift[part, None] + shift)
        self._top[:] = np.maximum(self._top, needed)

    def _lowered(self, limbs: Integers, shift: Integers) -> Integers:
        """Return limbs (limb, concept, concept) as many places lower as `shift` says, without those that fall out."""
        if not shift.any():
            return limbs
        kept = np.zeros_like(limbs)
        for limb in range(self._LIMBS):
            for by in range(limb + 1):
                kept[limb] += np.where(shift == by, limbs[limb - by], 0)
        return kept

    def _parts(self) -> Iterator[slice]:
        """Divide the first axis of concepts into parts of bounded size."""
        step = max(1, _CELLS_AT_ONCE // max(1, len(self._top)))
        yield from (slice(start, start + step) for start in range(0, len(self._top), step))

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add the arrays of the same concepts over other rows."""
        self._multiply()
        top = other["top"][:]
        self._raise_to(top)
        shift = np.where(top == self._NONE, 0, self._top - top)
        for part in self._parts():
            self._limbs[:, part] += self._lowered(other["limbs"][:, part], shift[part, None] + shift)

    def total(self, part: slice) -> Floats:
        """Return the sums of some concepts with all, rounded once: (concept, concept) of float64."""
        self._multiply()
        carry, low = np.zeros((), "i8"), np.zeros((), "i8")
        for place, limb in enumerate(reversed(self._limbs[1:, part])):
            value = limb + carry
            low = low | (value & 0xFFFF) << (place * self._WIDTH)
            carry = value >> self._WIDTH
        total: Floats = self._limbs[0, part] + carry + low * 2.0 ** (-self._WIDTH * (self._LIMBS - 1))
        scale = np.ldexp(1.0, self._WIDTH * np.where(self._top == self._NONE, 0, self._top).astype("i4"))
        total *= scale[part, None]
        total *= scale
        return total
