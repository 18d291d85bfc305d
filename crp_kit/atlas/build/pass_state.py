"""Everything that a pass over a dataset has found so far: it takes in batches, and becomes a file or comes from one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...atlas.file.schema import Array, Floats, Integers
from ..file.schema import (
    ENCODING,
    KINDS,
    OVERALL,
    VERSION,
    ArraySpec,
    Header,
    Kind,
    LayerInfo,
    Progress,
    Tree,
    array_spec,
    checksum,
    encoded,
    layer_path,
    text_digest,
)
from .accumulators import Allocate, Moments, Ranking, in_memory

__all__ = ["BatchScores", "KindScores", "PassState", "Rows", "allocator", "state_bytes"]

_ROWS_AT_ONCE = 4096

_EXACT = {"moments": "exact", OVERALL: "exact_overall"}
"""Group of the exact sums behind moments, which parts keep for a merge."""
Read = Callable[[str], Any]
"""From a path to an array that can be cut, perhaps without being in memory."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Scores of concepts, samples ascending.

    Parameters
    ----------
    sample, target : numpy.ndarray
        (row,).
    score, position : numpy.ndarray
        (row, concept).
    """

    sample: Integers
    target: Integers
    score: Floats
    position: Integers

    def taken(self, rows: Array, target: Integers | None = None) -> Rows:
        """Return some of the rows, perhaps with other targets."""
        targets = self.target[rows] if target is None else target
        return Rows(self.sample[rows], targets, self.score[rows], self.position[rows])


@dataclass(frozen=True, eq=False)
class KindScores:
    """Relevance or activation of one layer in a batch.

    Parameters
    ----------
    by_class : Rows
        One row for each sample and target.
    first : Rows
        One row for each sample: that of its first target.
    best : Rows
        One row for each sample: for each concept, the highest score that any target gives. Its `target` may be
        (sample, concept).
    """

    by_class: Rows
    first: Rows
    best: Rows


@dataclass(frozen=True, eq=False)
class BatchScores:
    """What one batch gives.

    Parameters
    ----------
    sample, target, prediction : numpy.ndarray
        (sample,): number in the dataset, first target and predicted class, -1 for none.
    layers : dict
        By layer name, relevance and activation.
    """

    sample: Integers
    target: Integers
    prediction: Integers
    layers: Mapping[str, Mapping[Kind, KindScores]]


@dataclass(eq=False)
class _KindState:
    """Relevance or activation of one layer, so far."""

    top: Ranking
    class_top: Ranking
    moments: Moments
    matrix: Array | None
    overall: Moments | None
    """Moments over all samples, each once whatever targets it has; of relevance, none: it has one for each target."""

    @classmethod
    def empty(cls, header: Header, concepts: int, rows: int, allocate: Allocate, *, kind: Kind) -> _KindState:
        return cls(
            Ranking(1, concepts, header.k, allocate=allocate, targets=True),
            Ranking(header.n_classes, concepts, header.k_class, allocate=allocate),
            Moments(header.n_classes, concepts, allocate=allocate),
            allocate((rows, concepts), "f4", np.nan) if header.matrix else None,
            Moments(1, concepts, allocate=allocate) if kind == "activation" else None,
        )

    def add(self, scores: KindScores, index: Integers) -> None:
        """Take in a batch; `index` has the numbers of all samples of this part."""
        best, rows = scores.best, scores.by_class
        self.top.add(
            np.zeros_like(best.sample), best.score, sample=best.sample, position=best.position, target=best.target
        )
        self.class_top.add(rows.target, rows.score, sample=rows.sample, position=rows.position, target=rows.target)
        self.moments.add(rows.target, rows.score)
        if self.overall is not None:
            self.overall.add(np.zeros_like(scores.first.sample), scores.first.score)
        if self.matrix is not None:
            self.matrix[np.searchsorted(index, scores.first.sample)] = scores.first.score

    def arrays(self, base: str) -> Iterator[tuple[str, ArraySpec]]:
        """Yield what readers look for."""
        for name, array in self.top.arrays.items():
            yield f"{base}/top/{name}", array_spec(array[0], blank=_without_infinity)
        for name, array in self.class_top.arrays.items():
            yield f"{base}/class_top/{name}", array_spec(array, swap=True, blank=_without_infinity)
        for group, moments in self.held():
            yield f"{base}/{group}/count", array_spec(moments.count)
            like = array_spec(moments.low)
            for name in ("mean", "std", "min", "max"):
                yield f"{base}/{group}/{name}", replace(like, read=partial(moments.value, name))
        if self.matrix is not None:
            yield f"{base}/matrix", array_spec(self.matrix)

    def held(self) -> list[tuple[str, Moments]]:
        """Return the moments by the name of their group in a file."""
        return [("moments", self.moments), *([] if self.overall is None else [(OVERALL, self.overall)])]

    def exact(self, base: str) -> Iterator[tuple[str, ArraySpec]]:
        """Yield what a merge needs beyond that."""
        for group, moments in self.held():
            for name, array in moments.arrays.items():
                yield f"{base}/{_EXACT[group]}/{name}", array_spec(array)

    def merge(self, base: str, read: Read, start: int) -> None:
        """Take in a part whose samples begin at place `start`."""
        self.top.merge({name: _with_infinity(read(f"{base}/top/{name}")[:])[None] for name in self.top.arrays})
        self.class_top.merge(
            {name: _ClassesFirst(read(f"{base}/class_top/{name}")) for name in self.class_top.arrays}  # type: ignore[misc]
        )
        for group, moments in self.held():
            moments.merge({name: read(f"{base}/{_EXACT[group]}/{name}") for name in moments.arrays})
        if self.matrix is not None:
            found = read(f"{base}/matrix")
            for row in range(0, found.shape[0], _ROWS_AT_ONCE):
                some = found[row : row + _ROWS_AT_ONCE]
                self.matrix[start + row : start + row + len(some)] = some


class _ClassesFirst:
    """An array (concept, class, k) of a file, cut as it is in memory: (class, concept, k)."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __getitem__(self, part: tuple[slice, slice]) -> Array:
        groups, concepts = part
        return np.swapaxes(_with_infinity(self.array[concepts, groups]), 0, 1)


def _without_infinity(values: Array) -> Array:
    """Write an empty place as not-a-number."""
    return np.where(values == -np.inf, np.float32(np.nan), values) if values.dtype.kind == "f" else values


def _with_infinity(values: Array) -> Array:
    return np.where(np.isnan(values), np.float32(-np.inf), values) if values.dtype.kind == "f" else values


@dataclass(eq=False)
class PassState:
    """What a pass, or one shard of it, has found so far.

    Parameters
    ----------
    header : Header
    layers : tuple of LayerInfo
        In graph order.
    progress : Progress
    index : numpy.ndarray
        (sample,), the numbers of this part's samples in the dataset, ascending.
    identifiers : tuple of str or None
        A name for each of them.
    classes : tuple of str
        Their names, where the dataset or the model has any.
    allocate : callable
    """

    header: Header
    layers: tuple[LayerInfo, ...]
    progress: Progress
    index: Integers
    identifiers: tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()
    allocate: Allocate = in_memory
    failures: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.target: Integers = np.full(len(self.index), -1, "i8")
        self.prediction: Integers = np.full(len(self.index), -1, "i8")
        self._kinds = {
            (info.name, kind): _KindState.empty(self.header, info.n_concepts, len(self.index), self.allocate, kind=kind)
            for info in self.layers
            for kind in KINDS
        }

    def add(self, batch: BatchScores) -> None:
        """Take in the samples of a batch."""
        places = np.searchsorted(self.index, batch.sample)
        self.target[places], self.prediction[places] = batch.target, batch.prediction
        for (name, kind), state in self._kinds.items():
            state.add(batch.layers[name][kind], self.index)

    def merge(self, read: Read, *, overall: bool) -> None:
        """Take in the arrays of a part that has seen other samples, which lie side by side in this one.

        A part of an older version has no moments over all samples (`overall`); then the whole has none either.
        """
        if not overall:
            for kind_state in self._kinds.values():
                kind_state.overall = None
        index = read("/samples/index")[:]
        start = int(np.searchsorted(self.index, index[0])) if len(index) else 0
        rows = slice(start, start + len(index))
        self.target[rows] = read("/samples/target")[:]
        self.prediction[rows] = read("/samples/prediction")[:]
        for number, info in enumerate(self.layers):
            for kind in KINDS:
                self._kinds[info.name, kind].merge(layer_path(number, kind), read, start)

    def take_rankings(self, name: str, kind: Kind, top: Mapping[str, Array], class_top: Mapping[str, Array]) -> None:
        """Take in rankings of one layer that were made elsewhere: (1, concept, k) and (class, concept, k_class)."""
        self._kinds[name, kind].top.merge(top)
        self._kinds[name, kind].class_top.merge(class_top)
        self._kinds[name, kind].overall = None

    def tree(self, origin: Mapping[str, Any], *, complete: bool) -> Tree:
        """Return the file: the atlas, or, if it is not complete, a part with what a merge needs.

        Parameters
        ----------
        origin : dict
            Attributes that say where the file comes from.
        complete : bool
        """
        tree = Tree()
        self._group(tree, "/", "", {**origin, **self.header.attributes(), "complete": complete})
        self._group(tree, "/samples", "-samples")
        self._group(tree, "/classes", "-classes")
        self._group(tree, "/layers", "-layers")
        tree.arrays["/samples/index"] = array_spec(self.index)
        tree.arrays["/samples/target"] = array_spec(self.target)
        tree.arrays["/samples/prediction"] = array_spec(self.prediction)
        texts = {
            "/samples/id": self.identifiers,
            "/classes/name": self.classes or None,
        }
        if self.failures:
            self._group(tree, "/skipped", "-skipped")
            samples = sorted(self.failures)
            tree.arrays["/skipped/sample"] = array_spec(np.array(samples, "i8"))
            texts["/skipped/reason"] = tuple(self.failures[one] for one in samples)
        for path, values in texts.items():
            if values is not None:
                tree.arrays[path] = array_spec(encoded(values))
                group, _, name = path.rpartition("/")
                tree.groups[group][f"{name}_sha256"] = text_digest(values)
        self._layers(tree, complete)
        if not complete:
            self._group(tree, "/progress", "-progress", self.progress.attributes())
        tree.groups["/"]["checksum"] = checksum(tree.groups)
        return tree

    @staticmethod
    def _group(tree: Tree, path: str, suffix: str, attributes: Mapping[str, Any] | None = None) -> None:
        encoding = {"encoding-type": f"{ENCODING}{suffix}", "encoding-version": VERSION}
        tree.groups[path] = {**encoding, **(attributes or {})}

    def _layers(self, tree: Tree, complete: bool) -> None:
        for number, info in enumerate(self.layers):
            self._group(tree, layer_path(number), "-layer", info.attributes())
            for kind in KINDS:
                base, state = layer_path(number, kind), self._kinds[info.name, kind]
                self._group(tree, base, f"-{kind}")
                self._group(tree, f"{base}/top", "-ranking")
                self._group(tree, f"{base}/class_top", "-ranking")
                for group, _ in state.held():
                    self._group(tree, f"{base}/{group}", f"-{group}")
                tree.arrays.update(state.arrays(base))
                if not complete:
                    for group, _ in state.held():
                        self._group(tree, f"{base}/{_EXACT[group]}", f"-exact-{group}")
                    tree.arrays.update(state.exact(base))


def state_bytes(header: Header, layers: tuple[LayerInfo, ...], samples: int) -> int:
    """Return how much memory a state takes."""
    total = 0

    def count(shape: tuple[int, ...], dtype: str, _: float) -> Array:
        nonlocal total
        total += int(np.prod(shape, dtype=float)) * np.dtype(dtype).itemsize
        return np.broadcast_to(np.zeros((), dtype), shape)

    for info in layers:
        for kind in KINDS:
            _KindState.empty(header, info.n_concepts, samples, count, kind=kind)
    return total


def allocator(needed: int, limit: int, folder: Path) -> Allocate:
    """Return how arrays are made: in memory if all fit, else in files without names that the system pages in and out.

    Parameters
    ----------
    needed, limit : int
        Bytes.
    folder : Path
        Where such files lie; they vanish with the process.
    """
    if needed <= limit:
        return in_memory

    def mapped(shape: tuple[int, ...], dtype: str, fill: float) -> Array:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(max(size, 1))
            array = np.memmap(file, dtype, mode="r+", shape=shape)
        for start in range(0, shape[0], max(1, (1 << 26) * shape[0] // max(size, 1))):
            array[start : start + max(1, (1 << 26) * shape[0] // max(size, 1))] = fill
        return array

    return mapped
