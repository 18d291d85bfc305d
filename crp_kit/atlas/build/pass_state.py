"""State of a dataset pass: statistics that batches are added to, written to a file and merged from files."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..file.attribute_columns import AttributeColumn, add_attributes
from ..file.digests import add_digests
from ..file.file_tree import Tree, array_spec, checksum, encoded, text_digest
from ..file.hdf5_reader import H5File
from ..file.header import (
    ENCODING,
    MODES,
    VERSION,
    Array,
    Header,
    Integers,
    LayerInfo,
    Mode,
    Progress,
    layer_path,
    titles_path,
)
from ..file.reader import has_seen, has_statistics, read_failures, read_seen
from ..file.stored_mode import StoredMode
from ..statistics.base import Allocate, Read, Statistic, in_memory
from ..statistics.rankings import ClassTop, Top
from ..statistics.scores import BatchScores, ModeScores
from ..statistics.seen import SeenClasses
from ..statistics.table import statistics_of
from .sample_columns import SampleColumns

__all__ = ["PassState", "most_classes", "state_bytes"]


@dataclass(eq=False)
class _ModeState:
    """Statistics of relevance or activation of one layer, so far, by name."""

    statistics: dict[str, Statistic]

    @classmethod
    def empty(cls, header: Header, concepts: int, samples: int, allocate: Allocate, *, mode: Mode) -> _ModeState:
        return cls(
            {
                statistic.name: statistic(header, concepts, samples, allocate)
                for statistic in statistics_of(header, mode, concepts)
            }
        )

    def attach(self, seen: SeenClasses) -> None:
        for statistic in self.statistics.values():
            statistic.seen = seen

    def make_room(self, rows: int) -> None:
        for statistic in self.statistics.values():
            statistic.make_room(rows)

    def add(self, scores: ModeScores, index: Integers) -> None:
        """Add a batch; `index` (sample,) has the numbers of all samples of this part."""
        for statistic in self.statistics.values():
            statistic.add(scores, index)

    def merge(self, read: Read, names: Container[str], start: int) -> None:
        """Add a part with these groups, whose samples begin at `start`. What an older part lacks, the whole lacks."""
        for name, statistic in list(self.statistics.items()):
            if statistic.optional and name not in names:
                del self.statistics[name]
            else:
                statistic.merge(read, start)


@dataclass(eq=False)
class PassState:
    """What a pass, or one shard of it, has accumulated so far.

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
    attributes : dict
        What else is known of this part's samples, by name.
    """

    header: Header
    layers: tuple[LayerInfo, ...]
    progress: Progress
    index: Integers
    identifiers: tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()
    allocate: Allocate = in_memory
    failures: dict[int, str] = field(default_factory=dict)
    attributes: Mapping[str, AttributeColumn] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = SampleColumns(self.header, self.index)
        self.seen = SeenClasses(self.header.n_classes)
        self._modes = {
            (info.name, mode): _ModeState.empty(self.header, info.n_concepts, len(self.index), self.allocate, mode=mode)
            for info in self.layers
            for mode in MODES
        }
        for state in self._modes.values():
            state.attach(self.seen)

    @property
    def nbytes(self) -> int:
        """Bytes that its statistics take: to write them takes about as many, and to prepare that takes long."""
        return state_bytes(self.header, self.layers, len(self.index), len(self.seen))

    def see(self, classes: Integers) -> None:
        """Make room for classes that have samples; if there is none, nothing has changed.

        Raises
        ------
        AtlasError
            If memory or disk are full.
        """
        unseen = self.seen.unseen(classes)
        if len(unseen):
            for state in self._modes.values():
                state.make_room(len(self.seen) + len(unseen))
            self.seen.append(unseen)

    def add(self, batch: BatchScores) -> None:
        """Take in the samples of a batch.

        Raises
        ------
        AtlasError
            If there is no room for a class that appears for the first time; then nothing has been added.
        """
        targets = [scores.by_class.target for modes in batch.layers.values() for scores in modes.values()]
        self.see(np.concatenate(targets))
        self.columns.add(batch)
        for (name, mode), state in self._modes.items():
            state.add(batch.layers[name][mode], self.index)

    def merge(self, file: H5File, note: Callable[[], object] = lambda: None) -> None:
        """Add a shard or checkpoint that has seen other samples, which are consecutive ones of this state.

        Parameters
        ----------
        file : H5File
        note : callable, optional
            Called after each layer.
        """
        classes = _classes_of_rows(file)
        self.see(classes)
        index = file.array("/samples/index")[:]
        start = int(np.searchsorted(self.index, index[0])) if len(index) else 0
        self.columns.merge(file, start)
        whole = has_statistics(file)
        for number, info in enumerate(self.layers):
            for mode in MODES if whole else ():
                base = layer_path(number, mode)
                self._modes[info.name, mode].merge(StoredMode(file, base, classes), file.names(base), start)
            note()
        self.failures.update(read_failures(file))

    def take_rankings(
        self, name: str, mode: Mode, top: Mapping[str, Array], by_class: Iterable[tuple[int, Mapping[str, Array]]]
    ) -> None:
        """Add rankings of one layer that were made elsewhere, (1, concept, k), over all samples and of seen classes.

        They are as wide as the header says. Optional statistics, of which such a source says nothing, are left out.
        """
        statistics = self._modes[name, mode].statistics
        for statistic in list(statistics.values()):
            if isinstance(statistic, Top):
                statistic.ranking.merge(top)
            elif isinstance(statistic, ClassTop):
                for cls, ranking in by_class:
                    statistic.ranking.merge(ranking, self.seen.rows(np.array([cls])))
            elif statistic.optional:
                del statistics[statistic.name]

    def tree(self, origin: Mapping[str, Any], *, complete: bool) -> Tree:
        """Return the file: the atlas, or, if it is not complete, a part with what a merge needs.

        A part that has seen no batch has no statistics, so that the first checkpoint of a build takes no time.

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
        tree.arrays.update(self.columns.arrays())
        tree.arrays["/classes/seen"] = array_spec(self.seen.numbers)
        strings = {
            "/samples/id": self.identifiers,
            "/classes/name": self.classes or None,
        }
        if self.failures:
            self._group(tree, "/skipped", "-skipped")
            samples = sorted(self.failures)
            tree.arrays["/skipped/sample"] = array_spec(np.array(samples, "i8"))
            strings["/skipped/reason"] = tuple(self.failures[one] for one in samples)
        for path, values in strings.items():
            if values is not None:
                self._strings(tree, path, values)
        add_attributes(tree, self.attributes)
        self._layers(tree, complete)
        if not complete:
            self._group(tree, "/progress", "-progress", self.progress.attributes())
        add_digests(tree)
        tree.groups["/"]["checksum"] = checksum(tree.groups)
        return tree

    @staticmethod
    def _group(tree: Tree, path: str, suffix: str, attributes: Mapping[str, Any] | None = None) -> None:
        encoding = {"encoding-type": f"{ENCODING}{suffix}", "encoding-version": VERSION}
        tree.groups[path] = {**encoding, **(attributes or {})}

    @staticmethod
    def _strings(tree: Tree, path: str, values: Sequence[str]) -> None:
        tree.arrays[path] = array_spec(encoded(values))
        group, _, name = path.rpartition("/")
        tree.groups[group][f"{name}_sha256"] = text_digest(values)

    def _exact(self, tree: Tree, base: str, statistics: Iterable[Statistic]) -> None:
        """Add what a merge needs beyond the statistics themselves."""
        exact = [statistic for statistic in statistics if statistic.exact]
        for statistic in exact:
            self._group(tree, f"{base}/{statistic.exact}", f"-exact-{statistic.encoding}")
        for statistic in exact:
            for name, spec in statistic.exact_arrays().items():
                tree.arrays[f"{base}/{statistic.exact}/{name}"] = spec

    def _layers(self, tree: Tree, complete: bool) -> None:
        empty = not complete and self.progress.done == self.progress.first
        for number, info in enumerate(self.layers):
            self._group(tree, layer_path(number), "-layer", info.attributes())
            if info.titles:
                self._strings(tree, titles_path(number), info.titles)
            for mode in MODES:
                base, state = layer_path(number, mode), self._modes[info.name, mode]
                self._group(tree, base, f"-{mode}")
                statistics = () if empty else state.statistics.values()
                for statistic in statistics:
                    if statistic.encoding:
                        self._group(tree, f"{base}/{statistic.name}", f"-{statistic.encoding}")
                for statistic in statistics:
                    tree.arrays.update({f"{base}/{path}": spec for path, spec in statistic.arrays().items()})
                if not complete:
                    self._exact(tree, base, statistics)


def _classes_of_rows(file: H5File) -> Integers:
    """Return the class of each row of a file; -1 for classes without samples, which have rows in older files."""
    classes = read_seen(file)
    if has_seen(file):
        return classes
    counts = file.array(f"{layer_path(0, MODES[0])}/moments/count")[:]
    return np.where(counts > 0, classes, -1)


def most_classes(header: Header) -> int:
    """Return how many classes have samples at most, where each sample has one class."""
    return min(header.n_classes, header.n_samples)


def state_bytes(header: Header, layers: tuple[LayerInfo, ...], samples: int, classes: int) -> int:
    """Return how many bytes a state takes, of so many samples, when so many classes have samples."""
    total = 0

    def count(shape: tuple[int, ...], dtype: str, _: float) -> Array:
        nonlocal total
        total += int(np.prod(shape, dtype=float)) * np.dtype(dtype).itemsize
        return as_strided(np.zeros(1, dtype), shape, (0,) * len(shape))

    states = [_ModeState.empty(header, info.n_concepts, samples, count, mode=mode) for info in layers for mode in MODES]
    without_classes = total
    for state in states:
        state.make_room(1)
    return without_classes + (total - without_classes) * classes
