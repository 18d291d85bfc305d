"""Accumulators of a stream of scores that do not depend on how the stream was cut: rankings, moments by exact sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from ..file.schema import MOMENTS, Array, Floats, Integers, MomentArrays
from .base import Allocate, in_memory

__all__ = ["Moments", "Ranking"]

_CELLS_AT_ONCE = 1 << 20


class Ranking:
    """The k best rows of every group and concept: highest score first, ties by sample number.

    A group holds a sample at most once. An empty place has score -inf and sample, position and target -1.

    Parameters
    ----------
    groups, concepts, k : int
    allocate : callable, optional
    targets : bool, optional
        Remember the target of every entry, for groups that do not tell it themselves.
    """

    def __init__(
        self, groups: int, concepts: int, k: int, *, allocate: Allocate = in_memory, targets: bool = False
    ) -> None:
        shape = (groups, concepts, k)
        self.score: Floats = allocate(shape, "f4", -np.inf)
        self.sample: Integers = allocate(shape, "i8", -1)
        self.position: Integers = allocate(shape, "i4", -1)
        self.target: Integers | None = allocate(shape, "i4", -1) if targets else None

    @property
    def arrays(self) -> dict[str, Array]:
        """Everything that it holds, by name: (group, concept, k) each."""
        found = {"score": self.score, "sample": self.sample, "position": self.position}
        return found if self.target is None else {**found, "target": self.target}

    def add(self, group: Integers, score: Floats, *, sample: Integers, position: Integers, target: Integers) -> None:
        """Take in rows whose samples come after all that were added before.

        Parameters
        ----------
        group, sample : numpy.ndarray
            (row,), samples ascending.
        score, position : numpy.ndarray
            (row, concept).
        target : numpy.ndarray
            (row,) or (row, concept).
        """
        rows = {"score": score, "sample": sample, "position": position, "target": target}
        for groups, members in _by_size(group):
            better = score[members] > self.score[groups, None, :, -1]  # (group, member, concept)
            place, concept = np.nonzero(better.any(1))
            if len(place):
                self._insert((groups[place], concept), {name: rows[name] for name in self.arrays}, members[place])

    def _insert(self, cell: tuple[Integers, Integers], rows: Mapping[str, Array], members: Integers) -> None:
        """Insert rows (cell, member) into different cells, behind those that are as good."""
        concept = cell[1][:, None]
        new = {name: values[members, concept] if values.ndim == 2 else values[members] for name, values in rows.items()}
        joined = np.concatenate([self.score[cell], new["score"]], 1)
        best = np.argsort(-joined, axis=1, kind="stable")[:, : self.score.shape[2]]
        for name, array in self.arrays.items():
            array[cell] = np.take_along_axis(np.concatenate([array[cell], new[name]], 1), best, 1)

    def merge(self, other: Mapping[str, Array]) -> None:
        """Take in the arrays of another ranking of the same shape that has seen other samples."""
        for part in _blocks(self.score.shape):
            joined = {name: np.concatenate([array[part], other[name][part]], -1) for name, array in self.arrays.items()}
            best = np.lexsort((joined["sample"], -joined["score"]), axis=-1)[..., : self.score.shape[2]]
            for name, array in self.arrays.items():
                array[part] = np.take_along_axis(joined[name], best, -1)


def _by_size(group: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Yield the groups that have equally many rows, (group,), and those rows in their order, (group, member)."""
    order = np.argsort(group, kind="stable")
    found, starts, sizes = np.unique(group[order], return_index=True, return_counts=True)
    for size in np.unique(sizes):
        some = sizes == size
        yield found[some], order[starts[some][:, None] + np.arange(size)]


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Divide (group, concept, …) into blocks of bounded size."""
    groups, concepts = shape[:2]
    wide = max(1, _CELLS_AT_ONCE // max(1, int(np.prod(shape[2:]))))
    step, tall = min(concepts, wide), max(1, wide // max(1, concepts))
    for group in range(0, groups, tall):
        for concept in range(0, concepts, max(1, step)):
            yield slice(group, group + tall), slice(concept, concept + step)


class Moments:
    """Count, mean, standard deviation, minimum and maximum of every group and concept, over all rows.

    Sums are exact integers (see `_ExactSum`): the result is the same, bit for bit, however the rows were divided.
    """

    def __init__(self, groups: int, concepts: int, *, allocate: Allocate = in_memory) -> None:
        self.count: Integers = np.zeros(groups, "i8")
        self.low: Floats = allocate((groups, concepts), "f4", np.inf)
        self.high: Floats = allocate((groups, concepts), "f4", -np.inf)
        self.sum = _ExactSum((groups, concepts), allocate)
        self.squares = _ExactSum((groups, concepts), allocate)

    @property
    def arrays(self) -> dict[str, Array]:
        """Everything that it holds, by name."""
        return {
            "count": self.count,
            "low": self.low,
            "high": self.high,
            **{f"sum_{name}": array for name, array in self.sum.arrays.items()},
            **{f"squares_{name}": array for name, array in self.squares.arrays.items()},
        }

    def add(self, group: Integers, score: Floats) -> None:
        """Take in rows: group (row,), score (row, concept)."""
        if not len(group):
            return
        order = np.argsort(group, kind="stable")
        found, starts = np.unique(group[order], return_index=True)
        score = score[order]
        self.count[found] += np.diff(starts, append=len(group))
        self.low[found] = np.minimum(self.low[found], np.minimum.reduceat(score, starts, axis=0))
        self.high[found] = np.maximum(self.high[found], np.maximum.reduceat(score, starts, axis=0))
        exact = score.astype("f8")
        self.sum.add(found, starts, exact)
        self.squares.add(found, starts, exact * exact)

    def merge(self, other: Mapping[str, Array]) -> None:
        """Take in the arrays of other moments of the same shape."""
        self.count += other["count"][:]
        for part in _blocks(self.low.shape):
            self.low[part] = np.minimum(self.low[part], other["low"][part])
            self.high[part] = np.maximum(self.high[part], other["high"][part])
        self.sum.merge({name: other[f"sum_{name}"] for name in self.sum.arrays})
        self.squares.merge({name: other[f"squares_{name}"] for name in self.squares.arrays})

    def _exact_spread(self, group: int, concept: int) -> np.longdouble:
        """Return the variance times the square of the count, where it is all but nothing beside the mean."""
        total = self.sum.exact(group, concept)
        spread = int(self.count[group]) * self.squares.exact(group, concept) - total * total
        return np.longdouble(float(max(spread, Fraction(0))))

    def values(self, part: slice = slice(None)) -> MomentArrays:
        """Return the moments of some groups: float32."""
        return MomentArrays(self.count[part], *(self.value(name, part) for name in MOMENTS))

    def value(self, name: str, part: slice = slice(None)) -> Floats:
        """Return one of the moments of some groups, (group, concept): float32."""
        made = np.full(self.low[part].shape, np.nan, "f4")
        held = np.flatnonzero(self.count[part])
        compute = {"mean": self._mean, "std": self._std, "min": self._min, "max": self._max}[name]
        made[held] = compute(held + (part.start or 0))
        return made

    def _min(self, groups: Integers) -> Floats:
        low: Floats = self.low[groups] + np.float32(0)  # of two zeros, that without a sign
        return low

    def _max(self, groups: Integers) -> Floats:
        high: Floats = self.high[groups] + np.float32(0)
        return high

    def _mean(self, groups: Integers) -> Floats:
        mean: Floats = (self.sum.total(groups) / self.count[groups, None]).astype("f4")
        return mean.clip(self._min(groups), self._max(groups))

    def _std(self, groups: Integers) -> Floats:
        count, total = self.count[groups, None], self.sum.total(groups)
        spread = np.maximum(count * self.squares.total(groups) - total * total, 0)
        varied = self.low[groups] != self.high[groups]
        for place, concept in zip(*np.nonzero(varied & (spread < _CANCELLED * total * total)), strict=True):
            spread[place, concept] = self._exact_spread(int(groups[place]), int(concept))
        return np.where(varied, np.sqrt(spread / (count * count)), 0).astype("f4")


_CANCELLED = 2.0**-32
"""Where a difference is this much smaller than what it is the difference of, it is taken of whole numbers."""


class _ExactSum:
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
        self.limbs: Integers = allocate((self._LIMBS, *shape), "i8", 0)
        self.top: Integers = allocate(shape, "i2", self._NONE)

    @property
    def arrays(self) -> dict[str, Array]:
        return {"limbs": self.limbs, "top": self.top}

    def add(self, groups: Integers, starts: Integers, values: Floats) -> None:
        """Add rows that are sorted by group: those from starts[i] on belong to groups[i]."""
        largest = np.maximum.reduceat(np.abs(values), starts, axis=0)
        needed = np.where(largest > 0, (np.frexp(largest)[1] - 1) // self._WIDTH, self._NONE)
        self._raise_to(groups, needed)
        places = self._WIDTH * np.repeat(self.top[groups].astype("i4"), np.diff(starts, append=len(values)), axis=0)
        rest = np.ldexp(values, np.where(values != 0, -places, 0))
        for limb in self.limbs:
            whole = np.trunc(rest)
            limb[groups] += np.add.reduceat(whole, starts, axis=0).astype("i8")
            rest = np.ldexp(rest - whole, self._WIDTH)

    def merge(self, other: Mapping[str, Array]) -> None:
        for part in _blocks(self.top.shape):
            top = other["top"][part]
            self._raise_to(part, top)
            limbs = other["limbs"][(slice(None), *part)]
            self.limbs[(slice(None), *part)] += self._lowered(limbs, self.top[part] - top)

    def _raise_to(self, part: Any, needed: Integers) -> None:
        """Make room in some groups and concepts for values below 2^(32 (needed + 1))."""
        top = self.top[part]
        shift = np.where(top == self._NONE, 0, needed - top)
        if (shift > 0).any():
            index = (slice(None), *(part if isinstance(part, tuple) else (part,)))
            self.limbs[index] = self._lowered(self.limbs[index], np.maximum(shift, 0))
        self.top[part] = np.maximum(top, needed)

    def _lowered(self, limbs: Integers, shift: Integers) -> Integers:
        """Return limbs (limb, group, concept) as many places lower as `shift` says, without those that fall out."""
        if not shift.any():
            return limbs
        kept = np.zeros_like(limbs)
        for limb in range(self._LIMBS):
            for by in range(limb + 1):
                kept[limb] += np.where(shift == by, limbs[limb - by], 0)
        return kept

    def total(self, part: Integers) -> Floats:
        """Return the sums of some groups, in the longest float there is."""
        top = np.where(self.top[part] == self._NONE, 0, self.top[part]).astype("i4")
        parts = [
            np.ldexp(self.limbs[i, part].astype(np.longdouble), self._WIDTH * (top - i)) for i in range(self._LIMBS)
        ]
        total: Floats = parts[0] + (parts[1] + parts[2])
        return total

    def exact(self, group: int, concept: int) -> Fraction:
        """Return one sum as it is."""
        limbs = [int(one) for one in self.limbs[:, group, concept]]
        whole = sum(limb << (self._WIDTH * (self._LIMBS - 1 - i)) for i, limb in enumerate(limbs))
        return whole * Fraction(2) ** (self._WIDTH * (int(self.top[group, concept]) - self._LIMBS + 1))
