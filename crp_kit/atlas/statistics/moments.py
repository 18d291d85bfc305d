"""Moments of the scores of each concept: count, mean, standard deviation, minimum and maximum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..file.file_tree import ArraySpec, array_spec
from ..file.header import MOMENTS, OVERALL, Array, Header, Integers, Mode
from .accumulators import Moments
from .base import Allocate, ArrayField, Block, Read, Statistic
from .group_array import GroupsFirst
from .rankings import ClassTop, Top
from .scores import ModeScores

__all__ = ["ClassMoments", "OverallMoments"]

_ROUNDING = 1e-6
_WITH_LIMBS = 3
"""Axes of the limbs of exact sums, which a file holds as (limb, group, concept)."""


def _fields(name: str, axis: str) -> tuple[ArrayField, ...]:
    values = (ArrayField(f"{name}/{moment}", (axis, "concept"), "f") for moment in MOMENTS)
    return (ArrayField(f"{name}/count", (axis,), "i"), *values)


class _MomentStatistic(Statistic):
    """Moments of groups of rows: float32 in the file, exact sums in shards."""

    moments: Moments

    @property
    @abstractmethod
    def order(self) -> Integers:
        """Groups in the order of the file."""

    def arrays(self) -> Mapping[str, ArraySpec]:
        like, order = array_spec(self.moments.low, rows=self.order), self.order
        values = {
            f"{self.name}/{moment}": replace(like, read=partial(self._value, moment, order)) for moment in MOMENTS
        }
        return {f"{self.name}/count": array_spec(self.moments.count, rows=order), **values}

    def _value(self, moment: str, order: Integers, part: slice) -> Array:
        return self.moments.value(moment, order[part])

    def exact_arrays(self) -> Mapping[str, ArraySpec]:
        return {
            name: array_spec(array, rows=self.order, swap=array.ndim == _WITH_LIMBS)
            for name, array in self.moments.arrays.items()
        }

    def _merge(self, read: Read, rows: Integers) -> None:
        stored: dict[str, Any] = {name: read(f"{self.exact}/{name}") for name in self.moments.arrays}
        limbs = {name: GroupsFirst(array) for name, array in stored.items() if len(array.shape) == _WITH_LIMBS}
        self.moments.merge(stored | limbs, rows)


class ClassMoments(_MomentStatistic):
    """Moments by class that has samples: over the rows (sample, target) of each. In older files by every class."""

    name, encoding, exact, optional = "moments", "moments", "exact", False
    fields = _fields("moments", "seen")

    def __init__(self, header: Header, concepts: int, samples: int, allocate: Allocate) -> None:
        self.moments = Moments(0, concepts, allocate=allocate)

    @property
    def order(self) -> Integers:
        return self.seen.order

    def make_room(self, rows: int) -> None:
        self.moments.grow(rows)

    def add(self, scores: ModeScores, index: Integers) -> None:
        self.moments.add(self.seen.rows(scores.by_class.target), scores.by_class.score)

    def merge(self, read: Read, start: int) -> None:
        self._merge(read, self.seen.rows(read.classes))

    @classmethod
    def check(cls, block: Block) -> Iterator[str]:
        moments = block.arrays(cls)
        if (moments["count"] < 0).any():
            yield "a count is negative"
        yield from _problems(moments)
        yield from _disagreements(block, moments)


class OverallMoments(_MomentStatistic):
    """Moments of activation over all samples, each counted once whatever targets it has.

    There are none of relevance, which a sample has once for each target. Older files have none at all.
    """

    name, encoding, exact = OVERALL, OVERALL, f"exact_{OVERALL}"
    fields = _fields(OVERALL, "one")
    mode: ClassVar[Mode] = "activation"

    def __init__(self, header: Header, concepts: int, samples: int, allocate: Allocate) -> None:
        self.moments = Moments(1, concepts, allocate=allocate)

    @property
    def order(self) -> Integers:
        return np.zeros(1, "i8")

    @classmethod
    def applies(cls, header: Header, mode: Mode) -> bool:
        return mode == cls.mode

    def add(self, scores: ModeScores, index: Integers) -> None:
        self.moments.add(np.zeros_like(scores.first.sample), scores.first.score)

    def merge(self, read: Read, start: int) -> None:
        self._merge(read, np.zeros(1, "i8"))

    @classmethod
    def check(cls, block: Block) -> Iterator[str]:
        moments, best = block.arrays(cls), block.arrays(Top)["score"][:, 0]
        count = moments["count"]
        for problem in _problems(moments):
            yield f"over all samples, {problem}"
        seen = int((block.prediction >= 0).sum())
        if count.any() and count[0] != seen:
            yield f"its moments over all samples count {count[0]} of {seen}"
        if count.any() and not np.array_equal(best, moments["max"][:, 0]):
            yield "the best of top is not the maximum over all samples"


def _problems(moments: Mapping[str, Array]) -> Iterator[str]:
    """Yield what is wrong with moments: count (group,), the others (concept, group)."""
    empty = moments["count"] == 0
    for name in MOMENTS:
        if (np.isnan(moments[name]) != empty).any() or np.isinf(moments[name]).any():
            yield f"{name} is missing for a class that has samples, or there for one that has none"
    mean, std, low, high = (moments[name][:, ~empty] for name in MOMENTS)
    slack = _ROUNDING * (np.abs(low) + np.abs(high))
    if ((mean < low - slack) | (mean > high + slack)).any():
        yield "a mean lies outside of minimum and maximum"
    if ((std < 0) | (std > (high - low) * (0.5 + _ROUNDING) + slack)).any():
        yield "a standard deviation is negative or larger than half the range"


def _disagreements(block: Block, moments: Mapping[str, Array]) -> Iterator[str]:
    """Yield where rankings and moments by class contradict each other."""
    top, count = block.arrays(Top), moments["count"]
    if block.header.k_class:
        yield from _ranking_disagreements(block, moments)
    if not count.any():
        return
    highest = np.fmax.reduce(np.where(count > 0, moments["max"], -np.inf), axis=1)
    if block.mode == "relevance" and not np.array_equal(top["score"][:, 0], highest):
        yield "the best of top is not the maximum over the classes"
    if block.mode == "activation":
        yield from _activation_problems(block, top, highest)


def _ranking_disagreements(block: Block, moments: Mapping[str, Array]) -> Iterator[str]:
    """Yield where rankings by class contradict the moments by class."""
    by_class, count = block.arrays(ClassTop), moments["count"]
    filled = (by_class["sample"] >= 0).sum(-1)
    if not count.any():
        if filled.any() and block.header.model_sha256:
            yield "class_top has entries, but no class has samples"
        return
    if (filled != np.minimum(count, block.header.k_class)).any():
        yield "class_top has more or fewer entries than the class has samples"
    if not np.array_equal(by_class["score"][..., 0], moments["max"], equal_nan=True):
        yield "the best of class_top is not the maximum"


def _activation_problems(block: Block, top: Mapping[str, Array], highest: Array) -> Iterator[str]:
    """Yield what contradicts that a sample's activation counts once, with its first target."""
    held = top["sample"] >= 0
    rows = np.minimum(np.searchsorted(block.samples, top["sample"][held]), len(block.samples) - 1)
    if (block.target[rows] != top["target"][held]).any():
        yield "top has targets that are not those of its samples"
    best, seen = top["score"][:, 0], block.prediction >= 0
    if (best < highest).any() or ((block.target[seen] >= 0).all() and not np.array_equal(best, highest)):
        yield "the best of top is not the maximum over the classes"
