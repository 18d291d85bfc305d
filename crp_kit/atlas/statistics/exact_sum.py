"""Sums of floats that are the same, bit for bit, in any order: exact integers."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from ..file.header import Array, Floats, Integers
from .base import Allocate
from .group_array import GroupArray, shared_blocks

__all__ = ["ExactSum"]


class ExactSum:
    """Sums of floats, for each group and concept, that are associative, because they are sums of integers.

    A value is cut into limbs of 32 bits, at places that are the same for all values of a sum: the highest limb is that
    of the largest magnitude seen, two follow, and what lies below is cut off from every value alike: 64 bits or more
    under the largest magnitude. Each limb has an int64 of its own, with room for 2^31 values. When a larger magnitude
    comes, the lowest limb is dropped, as if that magnitude had come first. The idea of reproducible summation in bins
    is that of J. Demmel and H. D. Nguyen (Parallel Reproducible Summation, IEEE Transactions on Computers 64, 2015).
    """

    _WIDTH, _LIMBS = 32, 3
    _NONE = -(1 << 14)
    """Place of the highest limb of a sum that has seen nothing but zeros."""

    def __init__(self, shape: tuple[int, int], allocate: Allocate) -> None:
        self._limbs = GroupArray((shape[0], self._LIMBS, shape[1]), "i8", 0, allocate)
        self._top = GroupArray(shape, "i2", self._NONE, allocate)

    @property
    def limbs(self) -> Integers:
        """Limbs, the highest first: (group, limb, concept)."""
        return self._limbs.values

    @property
    def top(self) -> Integers:
        """Where the highest limb begins, in limbs before the point: (group, concept)."""
        return self._top.values

    @property
    def arrays(self) -> dict[str, Array]:
        return {"limbs": self.limbs, "top": self.top}

    def grow(self, groups: int) -> None:
        self._limbs.grow(groups)
        self._top.grow(groups)

    def add(self, groups: Integers, starts: Integers, values: Floats) -> None:
        """Add rows that are sorted by group: those from starts[i] on belong to groups[i]."""
        largest = np.maximum.reduceat(np.abs(values), starts, axis=0)
        needed = np.where(largest > 0, (np.frexp(largest)[1] - 1) // self._WIDTH, self._NONE)
        self._raise_to(groups, slice(None), needed)
        places = self._WIDTH * np.repeat(self.top[groups].astype("i4"), np.diff(starts, append=len(values)), axis=0)
        rest = np.ldexp(values, np.where(values != 0, -places, 0))
        for limb in range(self._LIMBS):
            whole = np.trunc(rest)
            self.limbs[groups, limb] += np.add.reduceat(whole, starts, axis=0).astype("i8")
            rest = np.ldexp(rest - whole, self._WIDTH)

    def merge(self, other: Mapping[str, Array], rows: Integers) -> None:
        for (groups, concepts), into in shared_blocks(other["top"].shape, rows):
            held = into >= 0
            top = other["top"][groups, concepts][held]
            self._raise_to(into[held], concepts, top)
            limbs = other["limbs"][groups, :, concepts][held]
            self.limbs[into[held], :, concepts] += self._lowered(limbs, self.top[into[held], concepts] - top)

    def _raise_to(self, groups: Integers, concepts: slice, needed: Integers) -> None:
        """Make room in some groups and concepts for values below 2^(32 (needed + 1))."""
        top = self.top[groups, concepts]
        shift = np.where(top == self._NONE, 0, needed - top)
        if (shift > 0).any():
            limbs = self.limbs[groups, :, concepts]
            self.limbs[groups, :, concepts] = self._lowered(limbs, np.maximum(shift, 0))
        self.top[groups, concepts] = np.maximum(top, needed)

    def _lowered(self, limbs: Integers, shift: Integers) -> Integers:
        """Return limbs (group, limb, concept) as many places lower as `shift` says, without those that fall out."""
        if not shift.any():
            return limbs
        kept = np.zeros_like(limbs)
        for limb in range(self._LIMBS):
            for by in range(limb + 1):
                kept[:, limb] += np.where(shift == by, limbs[:, limb - by], 0)
        return kept

    def total(self, groups: Integers) -> Floats:
        """Return the sums of some groups, in the longest float there is."""
        top = np.where(self.top[groups] == self._NONE, 0, self.top[groups]).astype("i4")
        parts = [
            np.ldexp(self.limbs[groups, i].astype(np.longdouble), self._WIDTH * (top - i)) for i in range(self._LIMBS)
        ]
        total: Floats = parts[0] + (parts[1] + parts[2])
        return total

    def exact(self, group: int, concept: int) -> Fraction:
        """Return one sum as it is."""
        limbs = [int(limb) for limb in self.limbs[group, :, concept]]
        whole = sum(limb << (self._WIDTH * (self._LIMBS - 1 - i)) for i, limb in enumerate(limbs))
        return whole * Fraction(2) ** (self._WIDTH * (int(self.top[group, concept]) - self._LIMBS + 1))
