"""Rankings, moments and matrix of the concepts of one layer, by relevance or by activation, as the file holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ...checks import check_integer
from ...errors import AtlasError, ConceptRangeError, InputError
from ...result_table import Column
from ..file.activation_notes import activation_note
from ..file.atlas_file import AtlasFile
from ..file.hdf5_reader import H5File
from ..file.header import MOMENTS, OVERALL, LayerInfo, Mode, MomentArrays, layer_path
from ..file.reader import has_statistics
from ..file.single_precision import FiniteScores, SinglePrecision
from ..statistics.rankings import ClassTop
from ..statistics.table import statistic_named, statistics_in
from .atlas_start import start_words
from .concept_names import known_names
from .rankings import ClassRanking, ConceptRanking, ConceptStatistics, SampleRanking

__all__ = ["StoredScores"]


class StoredScores:
    """What a file holds of one layer by relevance or by activation. Arrays are read when they are asked for.

    Attributes
    ----------
    file : AtlasFile
        The open file.
    info : LayerInfo
        Name, concept, number of concepts and output shape (without the batch axis) of the layer.
    mode : {"relevance", "activation"}
    """

    def __init__(self, file: AtlasFile, info: LayerInfo, mode: Mode, *, number: int) -> None:
        self.file, self.info, self.mode = file, info, mode
        self._base = layer_path(number, mode)

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.info.name

    @property
    def n_concepts(self) -> int:
        return self.info.n_concepts

    @property
    def _hdf5(self) -> H5File:
        return self.file.hdf5

    def top(self, concept: int, k: int | None = None) -> SampleRanking:
        """Return the samples in which a concept is strongest, over the whole dataset.

        Parameters
        ----------
        concept : int
        k : int, optional
            How many; by default all that the file has.

        Raises
        ------
        ConceptRangeError
            If the layer has no such concept.
        InputError
            If the file has fewer, and not all samples.
        """
        concept = self._concept(concept)
        ranking = {name: array[concept] for name, array in self.arrays("top").items()}
        return self._ranking(ranking, k, self.file.header.k)

    def class_top(self, concept: int, cls: int | str, k: int | None = None) -> SampleRanking:
        """Return the samples of one class in which a concept is strongest; parameters as in `top`.

        Raises
        ------
        AtlasError, InputError
            If the atlas was built without rankings by class, or has no classes.
        """
        self.file.check_classes("rankings by class")
        concept, number = self._concept(concept), self.file.class_number(cls)
        row = self._row(number)
        part = slice(0, 0) if row is None else row
        ranking = {name: array[concept, part].reshape(-1) for name, array in self.arrays("class_top").items()}
        ranking["target"] = np.where(ranking["sample"] >= 0, number, -1)
        return self._ranking(ranking, k, self.file.header.k_class)

    def _row(self, cls: int) -> int | None:
        """Return the row of a class in rankings and moments by class, ``None`` if it has no samples."""
        seen = self.file.seen
        row = int(np.searchsorted(seen, cls))
        return row if row < len(seen) and seen[row] == cls else None

    def _ranking(self, columns: dict[str, Column], k: int | None, most: int) -> SampleRanking:
        # A ranking as long as the dataset has every sample, and whoever asks for more gets them all.
        whole = most >= self.file.header.n_samples
        if k is not None and (check_integer("k", k) < 1 or (k > most and not whole)):
            raise InputError(f"the atlas holds {most} per ranking; k is 1 to {most}, got {k}")
        held = columns["sample"][: k or most] >= 0
        ranking = {name: column[: k or most][held] for name, column in columns.items()}
        if not self.file.has_classes:  # whose number in the file stands for the target, and for no class
            ranking["target"] = np.full_like(ranking["target"], -1)
        return SampleRanking(**ranking, note=self._note(), classes=self.file.has_classes)

    def _note(self) -> str:
        """Say what relevance of all samples started from, and where activation is before the activation function."""
        if self.mode != "relevance":
            return activation_note(self.info)
        start = start_words(self.file)
        return f"relevance started from {start}" if start else ""

    @property
    def moments(self) -> MomentArrays:
        """Moments of every class: count (class,), mean, std, min, max (class, concept).

        A class without samples has the count 0 and not-a-number. `arrays` has those of the classes with samples alone.
        """
        return self._by_class(slice(None))

    def _moments(self, rows: slice, concept: slice, *, group: str = "moments") -> MomentArrays:
        """Return moments of some rows, of classes that have samples."""
        arrays = self.arrays(group)
        return MomentArrays(arrays["count"][rows], **{name: arrays[name][rows, concept] for name in MOMENTS})

    def _by_class(self, concept: slice) -> MomentArrays:
        """Return moments of every class."""
        rows, file = self._moments(slice(None), concept), self.file
        count = np.zeros(file.header.n_classes, rows.count.dtype)
        count[file.seen] = rows.count
        values = {}
        for name in MOMENTS:
            stored = getattr(rows, name)
            values[name] = np.full((len(count), stored.shape[1]), np.nan, stored.dtype)
            values[name][file.seen] = stored
        return MomentArrays(count, **values)

    def _of_class(self, cls: int) -> MomentArrays:
        """Return moments of one class, (1, concept)."""
        row = self._row(cls)
        if row is None:
            blank = np.full((1, self.n_concepts), np.nan, "f4")
            return MomentArrays(np.zeros(1, "i8"), **dict.fromkeys(MOMENTS, blank))
        return self._moments(slice(row, row + 1), slice(None))

    def classes(self, concept: int, k: int | None = None, *, by: Literal["mean", "top"] = "mean") -> ClassRanking:
        """Return the classes that a concept serves, strongest first.

        Parameters
        ----------
        concept : int
        k : int, optional
            How many; by default all classes that have samples.
        by : {"mean", "top"}, optional
            Mean score over all samples of the class, or over those of its ranking.

        Raises
        ------
        ConceptRangeError
            If the layer has no such concept.
        AtlasError, InputError
            If `by` is "top" and the atlas was built without rankings by class, or it has no classes.
        """
        self.file.check_classes("classes that a concept serves")
        concept = self._concept(concept)
        moments = self._moments(slice(None), slice(concept, concept + 1))
        if by == "mean":
            mean = moments.mean[:, 0]
        elif by == "top":
            score = self.arrays("class_top")["score"][concept]
            filled = (~np.isnan(score)).sum(1)
            mean = np.where(filled > 0, np.nansum(score, 1) / np.maximum(filled, 1), np.nan).astype("f4")
        else:
            raise InputError(f"by is 'mean' or 'top'; got {by!r}")
        order = _best(mean, k)
        cls, names = self.file.seen[order], np.array(self.file.classes)
        return ClassRanking(cls, names[cls], mean[order], moments.count[order])

    def concepts(self, cls: int | str, k: int | None = None) -> ConceptRanking:
        """Return the concepts that serve a class, the highest mean score first.

        Parameters
        ----------
        cls : int or str
            Number or name.
        k : int, optional
            How many; by default all.

        Raises
        ------
        AtlasError, InputError
            If no sample of the class was looked at, or the atlas has no classes.
        """
        self.file.check_classes("concepts of a class")
        number = self.file.class_number(cls)
        moments = self._of_class(number)
        if not moments.count[0]:
            raise AtlasError(f"the atlas has no sample of the class {self.file.classes[number]!r} ({number})")
        order = _best(moments.mean[0], k)
        return ConceptRanking(order, moments.mean[0][order], moments.std[0][order], self._names)

    def statistics(self, cls: int | str | None = None) -> ConceptStatistics:
        """Return mean, std, min and max of every concept, over the whole dataset or one class.

        Over the whole dataset each sample counts once by activation, and once for each of its targets by relevance. An
        atlas of an older version has activation by class alone: there too a sample counts once for each target.
        """
        if cls is None:
            whole = OVERALL in self._hdf5.names(self._base)
            moments = self._moments(slice(None), slice(None), group=OVERALL) if whole else _joined(self.moments)
        else:
            self.file.check_classes("moments of a class")
            moments = self._of_class(self.file.class_number(cls))
        values = {name: getattr(moments, name)[0] for name in MOMENTS}
        return ConceptStatistics(np.arange(self.n_concepts), **values, names=self._names)

    @property
    def _names(self) -> Mapping[int, str]:
        return known_names(self.file, self.layer)

    @property
    def matrix(self) -> Any:
        """Scores of every sample, (sample, concept), float32, read when it is cut; rows as `ConceptAtlas.samples`.

        Raises
        ------
        AtlasError
            If the atlas was built without, or is damaged.
        """
        if not self.file.header.matrix:
            raise AtlasError(f"{self.file.path} has no matrix; Study.add_matrix adds it")
        name = f"the matrix of {self.layer!r} by {self.mode} in {self.file.path}"
        return FiniteScores(self.arrays("matrix")["matrix"], name)

    def has(self, statistic: str) -> bool:
        """Return whether the file holds a statistic, by its name as in `arrays`."""
        held = statistics_in(self._hdf5.names(self._base), self.file.header, self.mode)
        return statistic in {known.name for known in held}

    def arrays(self, statistic: str) -> dict[str, Any]:
        """Return the arrays of a statistic by name, each read when it is cut.

        Parameters
        ----------
        statistic : str
            ``"top"``, ``"class_top"``, ``"moments"``, ``"overall"``, ``"matrix"``, ``"gram"``, or one that was
            registered by `crp_kit.atlas.statistics.register_statistic`.

        Returns
        -------
        dict of str to array
            Those of ``"class_top"`` and ``"moments"`` are by class that has samples, in the order of
            `ConceptAtlas.seen`: (concept, class, k) and (class,), (class, concept). Those of ``"gram"``, over the
            samples that have a target, each with its first: ``"gram"`` (concept, concept), the sums of products of
            scores, ``"count"`` (class,) and ``"sum"`` (class, concept), the sums of scores; of float64.

        Raises
        ------
        InputError
            If there is no such statistic.
        AtlasError
            If this atlas is without it.
        """
        file, known = self.file, statistic_named(statistic)
        if not known.applies(file.header, self.mode):
            hint = "; build it with a k_class of 1 or more" if statistic == ClassTop.name else ""
            raise AtlasError(f"{file.path} has no {statistic} by {self.mode}{hint}")
        if not has_statistics(self._hdf5):
            raise AtlasError(f"{file.path} has no {statistic} yet: no batch has been counted; resume its build")
        if known.optional and known.name not in self._hdf5.names(self._base):
            many = known.most_concepts is not None and self.n_concepts > known.most_concepts
            reason = f"layers with more than {known.most_concepts} concepts have none" if many else "build it anew"
            raise AtlasError(f"{file.path} has no {statistic} of {self.layer!r} by {self.mode}: {reason}")
        arrays = {field.name: self._hdf5.array(f"{self._base}/{field.path}") for field in known.fields}
        return {name: SinglePrecision(array) if array.dtype == "f2" else array for name, array in arrays.items()}

    def _concept(self, concept: int) -> int:
        concept = check_integer("a concept", concept)
        if not 0 <= concept < self.n_concepts:
            raise ConceptRangeError(self.layer, [concept], self.n_concepts, what="concept")
        return concept


def _best(values: Column, k: int | None) -> Column:
    """Return the numbers of the highest values, best first, without those that are not-a-number."""
    if k is not None and check_integer("k", k) < 1:
        raise InputError(f"k is at least 1; got {k}")
    order = np.argsort(-values, kind="stable")
    return order[~np.isnan(values[order])][:k]


def _joined(moments: MomentArrays) -> MomentArrays:
    """Return the moments of all groups together, as one group."""
    held = moments.count > 0
    if not held.any():
        held[:1] = True  # whose moments are not-a-number
    count = np.maximum(moments.count[held], 0).astype("f8")[:, None]
    total = max(float(count.sum()), 1.0)
    mean = (count * moments.mean[held]).sum(0, keepdims=True) / total
    spread = moments.std[held].astype("f8") ** 2 + (moments.mean[held] - mean) ** 2
    std = np.sqrt((count * spread).sum(0, keepdims=True) / total)
    low, high = moments.min[held].min(0, keepdims=True), moments.max[held].max(0, keepdims=True)
    return MomentArrays(np.array([count.sum()], "i8"), mean.astype("f4"), std.astype("f4"), low, high)
