"""Outliers: samples that use concepts unlike the others of their class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_integer, check_seed
from ...class_names import class_label
from ...drawing import plots
from ...errors import InputError
from ...result_table import Column, Table, column_named, not_a_column
from ...statistics.arrays import Bools, Floats, Integers
from ...statistics.gaussian_mixture import own_coordinates
from ...statistics.intervals import percentile_interval
from ...statistics.prototypes import LEAST_ROWS
from ...statistics.threads import on_threads, single_blas_thread
from ..query.selection import Selection, where_words
from ..query.stored_scores import StoredScores
from .class_samples import held_out_of, rows_by_class
from .detection import Detection, detection
from .groups import class_words, origin_words
from .matrix_rows import scored

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["Outliers", "outliers"]

_NAMED = 3


@dataclass(frozen=True, eq=False, repr=False)
class Outliers(Table):
    """Samples that use concepts unlike the others of their class, the most extreme first.

    Parameters
    ----------
    sample : numpy.ndarray
        Numbers in the dataset.
    cls : numpy.ndarray
        The class that relevance started from, -1 in an atlas without classes, of which all samples count together; the
        column is called ``class``.
    percentile : numpy.ndarray
        Two-sided, above 0 and below 100: the part of the other rightly predicted samples of the class whose held-out
        score is nearer to the median.
    scores : StoredScores
        No column.
    left_out : tuple of int
        Classes that have too few rightly predicted samples, or only equal ones; no column.
    where : Selection or None
        The samples that took part; no column.
    seed : int
        No column.
    sizes : dict of int to int
        By class its rightly predicted samples; no column.
    """

    sample: Column
    cls: Column = field(metadata=column_named("class"))
    percentile: Column
    scores: StoredScores = field(metadata=not_a_column)
    left_out: tuple[int, ...] = field(default=(), metadata=not_a_column)
    where: Selection | None = field(default=None, metadata=not_a_column)
    seed: int = field(default=0, metadata=not_a_column)
    sizes: Mapping[int, int] = field(default_factory=dict, metadata=not_a_column)

    @property
    def n(self) -> Column:
        """Rightly predicted samples of each row's class, among which its percentile is: (row,)."""
        return np.array([self.sizes[cls] for cls in self.cls.tolist()], np.int64)

    def interval(self, confidence: float = 0.95) -> tuple[Column, Column]:
        """Return the confidence interval of each percentile among all samples of the class (Wilson), low and high.

        Parameters
        ----------
        confidence : float, optional
            Between 0 and 1.

        Raises
        ------
        InputError
            If it is not.
        """
        return percentile_interval(self.percentile, self.n, confidence=confidence)

    @property
    def caption(self) -> str:
        """What the samples are judged by, and the classes that were left out."""
        words = f"percentiles among rightly predicted samples{' of the class' * self.scores.file.has_classes}"
        words = f"{words}: {origin_words(self.scores)}{where_words(self.where)}"
        if not self.left_out:
            return words
        names = ", ".join(class_label(number, self.scores.file.classes) for number in self.left_out[:_NAMED])
        more = f" and {len(self.left_out) - _NAMED} more" if len(self.left_out) > _NAMED else ""
        return f"{words}; left out: {names}{more}, with too few rightly predicted samples that differ"

    def plot(self) -> Figure:
        """Return a matplotlib Figure: the percentile of each sample."""
        classes = self.scores.file.classes
        lines = zip(self.sample.tolist(), self.cls.tolist(), strict=True)
        names = [f"{sample}" + (f": class {class_label(cls, classes)}" if cls >= 0 else "") for sample, cls in lines]
        title = f"samples unlike others{' of their class' if self.scores.file.has_classes else ''}"
        figure: Figure = plots().percentiles(self.percentile, names, title=title)
        return figure

    def against(self, other: StoredScores, where: Selection | None = None) -> Detection:
        """Return how well scores separate the samples of another atlas from those of this one.

        Samples of both are scored in the classes that relevance started from; samples of classes that are left out here
        or were not asked for do not count. Samples of this atlas are scored by fits without them.

        Parameters
        ----------
        other : ScoreAtlas
            The same layer of the same model on other samples.
        where : Selection, optional
            Samples of the other atlas; all by default.

        Raises
        ------
        InputError
            If the other atlas is of another model or layer, or shares no class with this one.
        AtlasError
            If an atlas has no matrix.
        """
        return detection(self.scores, other, self.where, where, seed=self.seed)


@single_blas_thread
def outliers(
    scores: StoredScores, cls: int | str | None = None, k: int = 20, *, where: Selection | None = None, seed: int = 0
) -> Outliers:
    """Return the samples that are most unlike the others of their class; see `ScoreAtlas.outliers`."""
    k, seed = check_integer("k", k, low=1), check_seed(seed)
    chosen = where if cls is None else _of_class(scores, cls, where)
    mask = scored(scores, chosen)
    samples, classes, percentiles, deviations, left_out = [], [], [], [], []
    sizes: dict[int, int] = {}
    for number, rows, right, coordinates in on_threads(_located, rows_by_class(scores, mask)):
        held = held_out_of(coordinates[right], scores.n_concepts, seed)
        if held is None:
            left_out.append(number)
            continue
        sizes[number] = int(right.sum())
        percentile, deviation = np.empty(len(rows)), np.empty(len(rows))
        percentile[right], deviation[right] = held.own_percentiles(), held.deviations
        if not right.all():
            further = held.further_scores(coordinates[~right])
            percentile[~right] = held.percentiles(further)
            deviation[~right] = np.abs(further.mean(0) - np.median(held.scores))
        samples.append(scores.file.samples[rows])
        classes.append(np.full(len(rows), number))
        percentiles.append(percentile)
        deviations.append(deviation / max(float(np.median(held.deviations)), 1e-12))
    if not samples:
        raise InputError(_too_few(scores, cls, left_out) + where_words(where))
    percentile = np.concatenate(percentiles)
    order = np.lexsort((-np.concatenate(deviations), -percentile))[:k]
    numbers, kept = np.concatenate(samples)[order], np.concatenate(classes)[order]
    return Outliers(numbers, kept, percentile[order], scores, tuple(left_out), chosen, seed, sizes)


def _of_class(scores: StoredScores, cls: int | str, where: Selection | None) -> Selection:
    """Return the samples whose first target is a class."""
    scores.file.check_classes("outliers of a class")
    number = scores.file.class_number(cls)
    of_class, words = scores.file.targets == number, class_words(scores, number)
    if where is None:
        return Selection(scores.file, of_class, words)
    return Selection(scores.file, of_class & scored(scores, where), f"{words} and {where.condition}")


def _located(of_class: tuple[int, Integers, Bools, Floats]) -> tuple[int, Integers, Bools, Floats]:
    """Return the samples of a class in coordinates of their own."""
    number, rows, right, values = of_class
    return number, rows, right, own_coordinates(values)


def _too_few(scores: StoredScores, cls: int | str | None, left_out: list[int]) -> str:
    if not scores.file.has_classes:
        return f"outliers need at least {LEAST_ROWS} samples that differ; {scores.file.path} has fewer"
    if cls is None:
        return f"no class has {LEAST_ROWS} rightly predicted samples that differ, of {len(left_out)} classes"
    return f"class {cls!r} of {scores.file.path} has fewer than {LEAST_ROWS} rightly predicted samples that differ"
