"""Accumulators of a stream of scores that do not depend on how the stream was cut: rankings, moments by exact sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

import numpy as np

from ..file.header import MOMENTS, Array, Floats, Integers, MomentArrays
from .base import Allocate, in_memory
from .exact_sum import ExactSum
from .group_array import GroupArray, shared_blocks

__all__ = ["Moments", "Ranking"]

_EMPTY: dict[str, tuple[str, float]] = {
    "score": ("f4", -np.inf),
    "sample": ("i8", -1),
    "position": ("i4", -1),
    "target": ("i4", -1),
}
"""Type of each array of a ranking, and its value in an empty entry."""


class Ranking:
    """The k best rows of every group and concept: highest score first, ties by sample number.

    A group holds a sample at most once. An empty entry has score -inf and sample, position and target -1.

    Parameters
    ----------
    groups, concepts, k : int
    allocate : callable, optional
    targets : bool, optional
        Remember the target of every entry, for groups that do not say it themselves.
    """

    def __init__(
        self, groups: int, concepts: int, k: int, *, allocate: Allocate = in_memory, targets: bool = False
    ) -> None:
        columns = _EMPTY if targets else {name: _EMPTY[name] for name in _EMPTY if name != "target"}
        self._columns = {
            name: GroupArray((groups, concepts, k), dtype, fill, allocate) for name, (dtype, fill) in columns.items()
        }

    @property
    def arrays(self) -> dict[str, Array]:
        """Everything that it holds, by name: (group, concept, k) each."""
        return {name: column.values for name, column in self._columns.items()}

    @property
    def score(self) -> Floats:
        """Scores, (group, concept, k)."""
        return self._columns["score"].values

    @property
    def sample(self) -> Integers:
        """Samples, (group, concept, k)."""
        return self._columns["sample"].values

    def grow(self, groups: int) -> None:
        """Append empty groups, up to so many."""
        for column in self._columns.values():
            column.grow(groups)

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
            row, concept = np.nonzero(better.any(1))
            if len(row):
                self._insert((groups[row], concept), {name: rows[name] for name in self.arrays}, members[row])

    def _insert(self, cell: tuple[Integers, Integers], rows: Mapping[str, Array], members: Integers) -> None:
        """Insert rows (cell, member) into different cells, behind those that are as good."""
        concept = cell[1][:, None]
        new = {name: values[members, concept] if values.ndim == 2 else values[members] for name, values in rows.items()}
        joined = np.concatenate([self.score[cell], new["score"]], 1)
        best = np.argsort(-joined, axis=1, kind="stable")[:, : self.score.shape[2]]
        for name, array in self.arrays.items():
            array[cell] = np.take_along_axis(np.concatenate([array[cell], new[name]], 1), best, 1)

    def merge(self, other: Mapping[str, Array], rows: Integers | None = None) -> None:
        """Take in the arrays of another ranking of the same concepts and k that has seen other samples.

        `rows` (group,) are the groups here that the other's groups are; -1 leaves one out. By default they are the
        same.
        """
        for part, into in shared_blocks(other["score"].shape, rows):
            stored = {name: other[name][part][into >= 0] for name in self.arrays}
            here = into[into >= 0], part[1]
            joined = {name: np.concatenate([array[here], stored[name]], -1) for name, array in self.arrays.items()}
            best = np.lexsort((joined["sample"], -joined["score"]), axis=-1)[..., : self.score.shape[2]]
            for name, array in self.arrays.items():
                array[here] = np.take_along_axis(joined[name], best, -1)


def _by_size(group: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Yield the groups that have equally many rows, (group,), and those rows in their order, (group, member)."""
    order = np.argsort(group, kind="stable")
    groups, starts, sizes = np.unique(group[order], return_index=True, return_counts=True)
    for size in np.unique(sizes):
        some = sizes == size
        yield groups[some], order[starts[some][:, None] + np.arange(size)]


class Moments:
    """Count, mean, standard deviation, minimum and maximum of every group and concept, over all rows.

    Sums are exact integers (see `ExactSum`): the result is the same, bit for bit, however the rows were divided.
    """

    def __init__(self, groups: int, concepts: int, *, allocate: Allocate = in_memory) -> None:
        self._count = GroupArray((groups,), "i8", 0, allocate)
        self._low = GroupArray((groups, concepts), "f4", np.inf, allocate)
        self._high = GroupArray((groups, concepts), "f4", -np.inf, allocate)
        self.sum = ExactSum((groups, concepts), allocate)
        self.squares = ExactSum((groups, concepts), allocate)

    @property
    def count(self) -> Integers:
        """Rows of each group, (group,)."""
        return self._count.values

    @property
    def low(self) -> Floats:
        """Minimum, (group, concept), inf in an empty group."""
        return self._low.values

    @property
    def high(self) -> Floats:
        """Maximum, (group, concept), -inf in an empty group."""
        return self._high.values

    @property
    def arrays(self) -> dict[str, Array]:
        """Everything that it holds, by name: (group, …), limbs (group, limb, concept)."""
        return {
            "count": self.count,
            "low": self.low,
            "high": self.high,
            **{f"sum_{name}": array for name, array in self.sum.arrays.items()},
            **{f"squares_{name}": array for name, array in self.squares.arrays.items()},
        }

    def grow(self, groups: int) -> None:
        """Append empty groups, up to so many."""
        for part in (self._count, self._low, self._high, self.sum, self.squares):
            part.grow(groups)

    def add(self, group: Integers, score: Floats) -> None:
        """Take in rows: group (row,), score (row, concept)."""
        if not len(group):
            return
        order = np.argsort(group, kind="stable")
        present, starts = np.unique(group[order], return_index=True)
        score = score[order]
        self.count[present] += np.diff(starts, append=len(group))
        self.low[present] = np.minimum(self.low[present], np.minimum.reduceat(score, starts, axis=0))
        self.high[present] = np.maximum(self.high[present], np.maximum.reduceat(score, starts, axis=0))
        exact = score.astype("f8")
        self.sum.add(present, starts, exact)
        self.squares.add(present, starts, exact * exact)

    def merge(self, other: Mapping[str, Array], rows: Integers | None = None) -> None:
        """Take in the arrays of other moments of the same concepts; `rows` as in `Ranking.merge`."""
        count = other["count"][:]
        rows = np.arange(len(count)) if rows is None else rows
        self.count[rows[rows >= 0]] += count[rows >= 0]
        for part, into in shared_blocks(other["low"].shape, rows):
            here = into[into >= 0], part[1]
            self.low[here] = np.minimum(self.low[here], other["low"][part][into >= 0])
            self.high[here] = np.maximum(self.high[here], other["high"][part][into >= 0])
        self.sum.merge({name: other[f"sum_{name}"] for name in self.sum.arrays}, rows)
        self.squares.merge({name: other[f"squares_{name}"] for name in self.squares.arrays}, rows)

    def _exact_spread(self, group: int, concept: int) -> np.longdouble:
        """Return the variance times the square of the count, where it is all but nothing beside the mean."""
        total = self.sum.exact(group, concept)
        spread = int(self.count[group]) * self.squares.exact(group, concept) - total * total
        return np.longdouble(float(max(spread, Fraction(0))))

    def values(self, groups: Integers | slice = slice(None)) -> MomentArrays:
        """Return the moments of some groups: float32."""
        return MomentArrays(self.count[groups], *(self.value(name, groups) for name in MOMENTS))

    def value(self, name: str, groups: Integers | slice = slice(None)) -> Floats:
        """Return one of the moments of some groups, (group, concept): float32."""
        rows = np.arange(len(self.count))[groups]
        held = self.count[rows] > 0
        values = np.full((len(rows), self.low.shape[1]), np.nan, "f4")
        compute = {"mean": self._mean, "std": self._std, "min": self._min, "max": self._max}[name]
        values[held] = compute(rows[held])
        return values

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
        for row, concept in zip(*np.nonzero(varied & (spread < _CANCELLED * total * total)), strict=True):
            spread[row, concept] = self._exact_spread(int(groups[row]), int(concept))
        return np.where(varied, np.sqrt(spread / (count * count)), 0).astype("f4")


_CANCELLED = 2.0**-32
"""Where a difference is this much smaller than what it is the difference of, it is taken of whole numbers."""
