"""Reference samples: the samples of highest score of each concept, over all samples (RelMax, ActMax) and by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..file.file_tree import ArraySpec, array_spec
from ..file.header import Array, Header, Integers, Mode
from .accumulators import Ranking
from .base import Allocate, ArrayField, Block, Read, Statistic
from .scores import ModeScores

__all__ = ["ClassTop", "Top"]

_COLUMNS = {"score": "f", "sample": "i", "position": "i", "target": "i"}


class Top(Statistic):
    """The `k` samples of highest score of each concept, best first, each with its highest score over its targets.

    Ties are in the order of samples. Empty entries have score NaN and sample, position and target -1.
    """

    name, encoding, optional = "top", "ranking", False
    fields = tuple(ArrayField(f"top/{column}", ("concept", "k"), kind) for column, kind in _COLUMNS.items())

    def __init__(self, header: Header, concepts: int, samples: int, allocate: Allocate) -> None:
        self.ranking = Ranking(1, concepts, header.k, allocate=allocate, targets=True)

    def add(self, scores: ModeScores, index: Integers) -> None:
        best = scores.best
        self.ranking.add(
            np.zeros_like(best.sample), best.score, sample=best.sample, position=best.position, target=best.target
        )

    def arrays(self) -> Mapping[str, ArraySpec]:
        return {
            f"top/{name}": array_spec(array[0], blank=_without_infinity) for name, array in self.ranking.arrays.items()
        }

    def merge(self, read: Read, start: int) -> None:
        self.ranking.merge({name: _with_infinity(read(f"top/{name}")[:])[None] for name in self.ranking.arrays})

    @classmethod
    def check(cls, block: Block) -> Iterator[str]:
        return _problems(cls.name, block.arrays(cls), block)


class ClassTop(Statistic):
    """The `k_class` samples of highest score of each concept among the samples of each class, as in `Top`.

    A sample is in the ranking of each of its targets. Only classes that have samples have rankings. An atlas that was
    built with `k_class` 0 has none.
    """

    name, encoding, optional = "class_top", "ranking", False
    fields = tuple(
        ArrayField(f"class_top/{column}", ("concept", "seen", "k_class"), kind)
        for column, kind in _COLUMNS.items()
        if column != "target"
    )

    def __init__(self, header: Header, concepts: int, samples: int, allocate: Allocate) -> None:
        self.ranking = Ranking(0, concepts, header.k_class, allocate=allocate)

    @classmethod
    def applies(cls, header: Header, mode: Mode) -> bool:
        return header.k_class > 0

    def make_room(self, rows: int) -> None:
        self.ranking.grow(rows)

    def add(self, scores: ModeScores, index: Integers) -> None:
        rows = scores.by_class
        group = self.seen.rows(rows.target)
        self.ranking.add(group, rows.score, sample=rows.sample, position=rows.position, target=rows.target)

    def arrays(self) -> Mapping[str, ArraySpec]:
        return {
            f"class_top/{name}": array_spec(array, rows=self.seen.order, swap=True, blank=_without_infinity)
            for name, array in self.ranking.arrays.items()
        }

    def merge(self, read: Read, start: int) -> None:
        stored: Any = {name: _ClassesFirst(read(f"class_top/{name}")) for name in self.ranking.arrays}
        self.ranking.merge(stored, self.seen.rows(read.classes))

    @classmethod
    def check(cls, block: Block) -> Iterator[str]:
        return _problems(cls.name, block.arrays(cls), block)


class _ClassesFirst:
    """An array (concept, class, k) of a file, cut as it is in memory: (class, concept, k)."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape = (array.shape[1], array.shape[0], *array.shape[2:])

    def __getitem__(self, part: tuple[slice, slice]) -> Array:
        groups, concepts = part
        return np.swapaxes(_with_infinity(self.array[concepts, groups]), 0, 1)


def _without_infinity(values: Array) -> Array:
    """Return scores with NaN for -inf, which marks an empty entry in memory."""
    return np.where(values == -np.inf, np.float32(np.nan), values) if values.dtype.kind == "f" else values


def _with_infinity(values: Array) -> Array:
    return np.where(np.isnan(values), np.float32(-np.inf), values) if values.dtype.kind == "f" else values


def _problems(name: str, ranking: Mapping[str, Array], block: Block) -> Iterator[str]:
    """Yield what is wrong with a ranking: arrays (concept, …, k)."""
    score, sample, position = ranking["score"], ranking["sample"], ranking["position"]
    held = sample >= 0
    if (held[..., 1:] & ~held[..., :-1]).any():
        yield f"{name} has a gap before an entry"
    if (np.isnan(score) == held).any() or np.isinf(score).any():
        yield f"{name} has scores without samples, samples without scores, or infinite scores"
    if not np.isin(sample[held], block.samples).all():
        yield f"{name} names samples that were not looked at"
    number = np.arange(sample.shape[-1])
    if (np.diff(np.sort(np.where(held, sample, -1 - number), -1), axis=-1) == 0).any():
        yield f"{name} names a sample twice"
    if (held & ((position < 0) | (position >= _map_size(block, position)))).any():
        yield f"{name} has positions outside of the layer"
    falling = score[..., :-1] > score[..., 1:]
    tied = (score[..., :-1] == score[..., 1:]) & (sample[..., :-1] < sample[..., 1:])
    if (held[..., 1:] & ~(falling | tied)).any():
        yield f"{name} is not in order"
    target = ranking.get("target")
    if target is not None and (held & ((target < -1) | (target >= block.header.n_classes))).any():
        yield f"{name} has targets that are no class"


def _map_size(block: Block, position: Array) -> int:
    """Return how many neurons a concept's own map has at most."""
    layer = block.layer
    size = int(np.prod(layer.output_shape)) if layer.output_shape else int(np.iinfo(position.dtype).max)
    whole = layer.concept.startswith(("ChannelConcept(", "HeadConcept(", "TokenConcept("))
    return size // layer.n_concepts if whole else size
