"""Outliers: samples that use concepts unlike the others of their class, and detection of another dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_integer
from ...class_names import class_label
from ...drawing import plots
from ...errors import InputError
from ...result_table import Column, Table, column_named, not_a_column
from ...statistics.arrays import Bools, Floats, Integers
from ...statistics.detection import auroc, fit_class_distances
from ...statistics.gaussian_mixture import own_coordinates
from ...statistics.prototypes import LEAST_ROWS, HeldOut, held_out_scores
from ..query.selection import Selection
from ..query.stored_scores import StoredScores
from .matrix_rows import score_rows, scored
from .sample_vectors import right_samples

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["Detection", "Outliers", "outliers"]

_NAMED = 3


@dataclass(frozen=True, eq=False, repr=False)
class Detection(Table):
    """How well scores separate the samples of another atlas from those of this one.

    Parameters
    ----------
    method : numpy.ndarray
        ``"prototypes"``: deviation of −log p from the median of the class. ``"density"``: −log p itself.
        ``"mahalanobis"``: distance from the mean of the class, with one covariance for all classes.
    auroc : numpy.ndarray
        The chance that a sample of the other atlas has the higher score; 0.5 by chance.
    n : numpy.ndarray
        Samples of this atlas, each scored by fits without it.
    n_other : numpy.ndarray
        Samples of the other atlas.
    """

    method: Column
    auroc: Column
    n: Column
    n_other: Column

    @property
    def caption(self) -> str:
        """What is not compared, and why."""
        return "highest softmax and energy are not compared: the atlases hold no outputs of the model"


@dataclass(frozen=True, eq=False, repr=False)
class Outliers(Table):
    """Samples that use concepts unlike the others of their class, the most extreme first.

    Parameters
    ----------
    sample : numpy.ndarray
        Numbers in the dataset.
    cls : numpy.ndarray
        The class that relevance started from; the column is called ``class``.
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
    """

    sample: Column
    cls: Column = field(metadata=column_named("class"))
    percentile: Column
    scores: StoredScores = field(metadata=not_a_column)
    left_out: tuple[int, ...] = field(default=(), metadata=not_a_column)
    where: Selection | None = field(default=None, metadata=not_a_column)
    seed: int = field(default=0, metadata=not_a_column)

    @property
    def caption(self) -> str:
        """The classes that were left out, if there are any."""
        if not self.left_out:
            return ""
        names = ", ".join(class_label(number, self.scores.file.classes) for number in self.left_out[:_NAMED])
        more = f" and {len(self.left_out) - _NAMED} more" if len(self.left_out) > _NAMED else ""
        return f"left out: {names}{more}, with too few rightly predicted samples that differ"

    def plot(self) -> Figure:
        """Return a matplotlib Figure: the percentile of each sample."""
        classes = self.scores.file.classes
        lines = zip(self.sample.tolist(), self.cls.tolist(), strict=True)
        names = [f"{sample}: class {class_label(cls, classes)}" for sample, cls in lines]
        figure: Figure = plots().percentiles(self.percentile, names, title="samples unlike others of their class")
        return figure

    def against(self, other: StoredScores, where: Selection | None = None) -> Detection:
        """Return how well scores separate the samples of another atlas from those of this one.

        Samples of both are scored in the classes that relevance started from; samples of classes that are left out here
        do not count. Samples of this atlas are scored by fits without them.

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
        return _detection(self.scores, other, self.where, where, seed=self.seed)


def outliers(
    scores: StoredScores, cls: int | str | None = None, k: int = 20, *, where: Selection | None = None, seed: int = 0
) -> Outliers:
    """Return the samples that are most unlike the others of their class; see `ScoreAtlas.outliers`."""
    k = check_integer("k", k, low=1)
    mask = scored(scores, where)
    if cls is not None:
        mask = mask & (scores.file.targets == scores.file.class_number(cls))
    samples, classes, percentiles, deviations, left_out = [], [], [], [], []
    for number, rows, right, values in _by_class(scores, mask):
        coordinates = own_coordinates(values)
        held = _held_out(coordinates[right], values.shape[1], seed)
        if held is None:
            left_out.append(number)
            continue
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
        raise InputError(_too_few(scores, cls, left_out))
    percentile = np.concatenate(percentiles)
    order = np.lexsort((-np.concatenate(deviations), -percentile))[:k]
    numbers, kept = np.concatenate(samples)[order], np.concatenate(classes)[order]
    return Outliers(numbers, kept, percentile[order], scores, tuple(left_out), where, seed)


def _too_few(scores: StoredScores, cls: int | str | None, left_out: list[int]) -> str:
    if cls is None:
        return f"no class has {LEAST_ROWS} rightly predicted samples that differ, of {len(left_out)} classes"
    return f"class {cls!r} of {scores.file.path} has fewer than {LEAST_ROWS} rightly predicted samples that differ"


def _by_class(scores: StoredScores, mask: Bools) -> Iterator[tuple[int, Integers, Bools, Floats]]:
    """Yield each class with its rows among all samples, which of them are predicted right, and their vectors."""
    targets, right = scores.file.targets, right_samples(scores)
    chosen = np.flatnonzero(mask)
    vectors = score_rows(scores, mask)
    order = np.argsort(targets[chosen], kind="stable")
    classes, starts = np.unique(targets[chosen][order], return_index=True)
    for number, part in zip(classes.tolist(), np.split(order, starts)[1:], strict=True):
        rows = chosen[part]
        yield number, rows, right[rows], vectors[part].astype(np.float64)


def _held_out(values: Floats, features: int, seed: int) -> HeldOut | None:
    """Return held-out scores; ``None`` for too few rows, or rows that differ too little for that."""
    try:
        return held_out_scores(values, features=features, seed=seed)
    except InputError:
        return None


def _detection(
    scores: StoredScores, other: StoredScores, where: Selection | None, other_where: Selection | None, *, seed: int
) -> Detection:
    """Return AUROCs of three scores; see `Outliers.against`."""
    same = (scores.layer, scores.mode, scores.n_concepts) == (other.layer, other.mode, other.n_concepts)
    if not same or scores.file.header.model_sha256 != other.file.header.model_sha256:
        raise InputError(
            f"{other.file.path} has to be of the same model, layer and mode: {scores.mode} of {scores.layer!r}; got "
            f"{other.mode} of {other.layer!r}"
        )
    theirs = {number: values for number, _, _, values in _by_class(other, scored(other, other_where))}
    own: list[tuple[HeldOut, Floats, int]] = []
    for number, _, right, values in _by_class(scores, scored(scores, where)):
        held = _held_out(values[right], values.shape[1], seed) if number in theirs else None
        if held is not None:
            own.append((held, values[right], number))
    if not own:
        raise InputError(f"{other.file.path} has no sample of a class that {scores.file.path} has prototypes of")
    pairs = {"prototypes": _deviations(own, theirs), "density": _densities(own, theirs)}
    pairs["mahalanobis"] = _distances(own, theirs)
    areas = np.array([auroc(*pair) for pair in pairs.values()])
    sizes = np.array([[len(mine), len(yours)] for mine, yours in pairs.values()])
    return Detection(np.array(list(pairs)), areas, sizes[:, 0], sizes[:, 1])


def _deviations(own: list[tuple[HeldOut, Floats, int]], theirs: dict[int, Floats]) -> tuple[Floats, Floats]:
    """Return two-sided deviations of both, in units of the class's median deviation."""
    mine, yours = [], []
    for held, _, number in own:
        unit = max(float(np.median(held.deviations)), 1e-12)
        mine.append(held.deviations / unit)
        yours.append(np.abs(held.further_scores(theirs[number]).mean(0) - np.median(held.scores)) / unit)
    return np.concatenate(mine), np.concatenate(yours)


def _densities(own: list[tuple[HeldOut, Floats, int]], theirs: dict[int, Floats]) -> tuple[Floats, Floats]:
    """Return −log p of both."""
    mine = np.concatenate([held.scores for held, _, _ in own])
    return mine, np.concatenate([held.further_scores(theirs[number]).mean(0) for held, _, number in own])


def _distances(own: list[tuple[HeldOut, Floats, int]], theirs: dict[int, Floats]) -> tuple[Floats, Floats]:
    """Return Mahalanobis distances of both, those of this atlas by fits without the sample's fold."""
    values = np.concatenate([rows for _, rows, _ in own])
    classes = np.concatenate([np.full(len(rows), number) for _, rows, number in own])
    fold = np.concatenate([held.fold for held, _, _ in own])
    other = np.concatenate([theirs[number] for _, _, number in own])
    other_classes = np.concatenate([np.full(len(theirs[number]), number) for _, _, number in own])
    mine, yours = np.empty(len(values)), np.zeros(len(other))
    folds = np.unique(fold).tolist()
    for number in folds:
        fit = fit_class_distances(values[fold != number], classes[fold != number])
        mine[fold == number] = fit.distances(values[fold == number], classes[fold == number])
        yours += fit.distances(other, other_classes) / len(folds)
    return mine, yours
