"""Gram matrix of the scores of concepts, and their sums by class: covariances without the scores of every sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..file.file_tree import ArraySpec, array_spec
from ..file.header import Header, Integers
from .base import Allocate, ArrayField, Block, Read, Statistic
from .exact_gram import ExactGram
from .exact_sum import ExactSum
from .group_array import GroupArray, GroupsFirst
from .scores import ModeScores

__all__ = ["Gram"]

_ROUNDING = 1e-6


class Gram(Statistic):
    """Sums over samples of the products of the scores of any two concepts, and sums of scores by class.

    They are over the rows of the matrix that have a target: each sample once, with its first target, whose class it
    counts for. They are sums of integers, the same, bit for bit, for any batches and shards; each product is right to
    2^-29 of that of the largest magnitudes of its two concepts (see `ExactGram` and `ExactSum`). Layers with more than
    4096 concepts are without it: it would have more than 128 MiB.
    """

    name, encoding, exact, most_concepts = "gram", "gram", "exact_gram", 4096
    fields = (
        ArrayField("gram/gram", ("concept", "concept"), "f"),
        ArrayField("gram/count", ("seen",), "i"),
        ArrayField("gram/sum", ("seen", "concept"), "f"),
    )

    def __init__(self, header: Header, concepts: int, samples: int, allocate: Allocate) -> None:
        self.products = ExactGram(concepts, allocate)
        self.sums = ExactSum((0, concepts), allocate)
        self._count = GroupArray((0,), "i8", 0, allocate)

    def make_room(self, rows: int) -> None:
        self._count.grow(rows)
        self.sums.grow(rows)

    def add(self, scores: ModeScores, index: Integers) -> None:
        held = scores.first.target >= 0
        rows = scores.first if held.all() else scores.first.taken(held)
        if not len(rows.sample):
            return
        group = self.seen.rows(rows.target)
        order = np.argsort(group, kind="stable")
        groups, starts = np.unique(group[order], return_index=True)
        self._count.values[groups] += np.diff(starts, append=len(group))
        self.sums.add(groups, starts, rows.score[order].astype("f8"))
        self.products.add(rows.score)

    def arrays(self) -> Mapping[str, ArraySpec]:
        order = self.seen.order
        gram = array_spec(self.products.arrays["limbs"][0], dtype="f8")
        sums = array_spec(self.sums.top, rows=order, dtype="f8")
        return {
            "gram/gram": replace(gram, read=self.products.total),
            "gram/count": array_spec(self._count.values, rows=order),
            "gram/sum": replace(sums, read=lambda part: self.sums.total(order[part]).astype("f8")),
        }

    def exact_arrays(self) -> Mapping[str, ArraySpec]:
        order, sums = self.seen.order, self.sums.arrays
        return {
            **{name: array_spec(array) for name, array in self.products.arrays.items()},
            "count": array_spec(self._count.values, rows=order),
            "sum_limbs": array_spec(sums["limbs"], rows=order, swap=True),
            "sum_top": array_spec(sums["top"], rows=order),
        }

    def merge(self, read: Read, start: int) -> None:
        stored = {name: read(f"{self.exact}/{name}") for name in ("limbs", "top", "count", "sum_limbs", "sum_top")}
        self.products.merge(stored)
        rows, count = self.seen.rows(read.classes), stored["count"][:]
        self._count.values[rows[rows >= 0]] += count[rows >= 0]
        sums: dict[str, Any] = {"limbs": GroupsFirst(stored["sum_limbs"]), "top": stored["sum_top"]}
        self.sums.merge(sums, rows)

    @classmethod
    def check(cls, block: Block) -> Iterator[str]:
        arrays = block.arrays(cls)
        gram, count, sums = arrays["gram"], arrays["count"], arrays["sum"]
        if not (np.isfinite(gram).all() and np.isfinite(sums).all()):
            yield "the Gram matrix or its sums by class have values that are not-a-number or infinite"
            return
        if not np.array_equal(gram, np.asarray(block.read("gram/gram")[:, block.part]).T):
            yield "the Gram matrix is not symmetric"
        if (count < 0).any() or (sums[:, count == 0] != 0).any():
            yield "the Gram matrix counts less than no samples of a class, or has a sum of none"
        concepts = np.arange(gram.shape[1])[block.part]
        squares = gram[np.arange(len(gram)), concepts]
        if (sums.sum(1) ** 2 > count.sum() * squares * (1 + _ROUNDING)).any():
            yield "the squares of scores in the Gram matrix are smaller than the sums of scores allow"
