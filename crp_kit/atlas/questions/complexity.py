"""Complexity of each sample's scores, and of each class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...drawing import plots
from ...errors import InputError
from ...result_table import Column, Table, column_named, first_rows, not_a_column
from ...statistics.complexity import row_complexity
from ...statistics.intervals import mean_interval
from ...statistics.moments import moments_by_group
from ..query.selection import Selection, where_words
from ..query.stored_scores import StoredScores
from .groups import class_words, origin_words
from .matrix_rows import row_blocks, score_matrix, scored

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["ClassComplexity", "Complexity", "complexity"]

Array = npt.NDArray[Any]
_MEASURES = ("gini", "hoyer", "n90")
_LABELS = {
    "gini": "Gini index of |scores|",
    "hoyer": "sparseness of scores by Hoyer",
    "n90": "concepts that hold 90 % of |scores|",
}


@dataclass(frozen=True, eq=False, repr=False)
class ClassComplexity(Table):
    """Mean complexity of the samples of each class, with confidence intervals.

    Parameters
    ----------
    cls : numpy.ndarray
        Class number, in the column ``class``; -1 for samples without a class.
    n : numpy.ndarray
        Samples of the class; those whose scores are all zero do not count.
    gini, hoyer, n90 : numpy.ndarray
        Means; see `Complexity`.
    gini_low, gini_high, hoyer_low, hoyer_high, n90_low, n90_high : numpy.ndarray
        Intervals of the means by Student's t; not-a-number for a single sample.
    scores : StoredScores
        The layer that was asked.
    """

    cls: Column = field(metadata=column_named("class"))
    n: Column
    gini: Column
    gini_low: Column
    gini_high: Column
    hoyer: Column
    hoyer_low: Column
    hoyer_high: Column
    n90: Column
    n90_low: Column
    n90_high: Column
    scores: StoredScores = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """What the complexity is of, in one line."""
        return f"complexity of {origin_words(self.scores)}"

    def plot(self, measure: str = "n90", *, k: int = 24, **options: Any) -> Figure:
        """Return a figure of the means of a measure with their intervals; see `crp_kit.views.plot.value_bars`.

        Parameters
        ----------
        measure : {"gini", "hoyer", "n90"}, optional
        k : int, optional
            Classes at most: those with the most samples.
        **options
            Of that function.

        Raises
        ------
        InputError
            If there is no such measure, or no class.
        """
        if measure not in _MEASURES:
            raise InputError(f"measure is one of {', '.join(map(repr, _MEASURES))}; got {measure!r}")
        rows = np.sort(np.argsort(-self.n, kind="stable")[: first_rows(k)])
        ends = getattr(self, f"{measure}_low")[rows], getattr(self, f"{measure}_high")[rows]
        words = [class_words(self.scores, cls) if cls >= 0 else "no class" for cls in self.cls[rows].tolist()]
        settings = {
            "names": [f"n = {n}: {name}" for name, n in zip(words, self.n[rows], strict=True)],
            "interval": ends,
            "label": f"{_LABELS[measure]}, mean",
            "title": f"{self.scores.layer}, by {self.scores.mode}",
        }
        figure: Figure = plots().value_bars(getattr(self, measure)[rows], **{**settings, **options})
        return figure


@dataclass(frozen=True, eq=False, repr=False)
class Complexity(Table):
    """Complexity of the scores of each sample: over how many concepts they are spread.

    Parameters
    ----------
    sample : numpy.ndarray
        Numbers in the dataset.
    cls : numpy.ndarray
        First target, in the column ``class``; -1 for none.
    gini, hoyer : numpy.ndarray
        Gini index and Hoyer's sparseness of the magnitudes, from 0 (all concepts count the same) to 1 (a single one).
        Not-a-number where all scores are zero.
    n90 : numpy.ndarray
        The smallest number of concepts that hold 90 % of the magnitudes.
    scores : StoredScores
        The layer that was asked.
    """

    sample: Column
    cls: Column = field(metadata=column_named("class"))
    gini: Column
    hoyer: Column
    n90: Column
    scores: StoredScores = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """What the complexity is of, in one line."""
        return f"complexity of {origin_words(self.scores)}"

    def by_class(self, confidence: float = 0.95) -> ClassComplexity:
        """Return the mean complexity of each class.

        Parameters
        ----------
        confidence : float, optional
            Of the intervals, between 0 and 1.

        Raises
        ------
        InputError
            If `confidence` is out of range.
        """
        held = ~np.isnan(self.gini)
        classes, group = np.unique(self.cls[held], return_inverse=True)
        # The sparseness of a single concept is not-a-number in every sample, and so is then its mean.
        undefined = np.isnan(self.hoyer[held]).any()
        columns = [getattr(self, name)[held].astype("f8") for name in _MEASURES]
        moments = moments_by_group([(group, np.nan_to_num(np.stack(columns, 1)))], len(classes), len(_MEASURES))
        ends = mean_interval(moments.count[:, None], moments.mean, moments.std, confidence=confidence)
        values: dict[str, Column] = {}
        for suffix, means in zip(("", "_low", "_high"), (moments.mean, *ends), strict=True):
            values |= {f"{name}{suffix}": means[:, column] for column, name in enumerate(_MEASURES)}
            if undefined:
                values[f"hoyer{suffix}"] = np.full(len(classes), np.nan)
        return ClassComplexity(cls=classes, n=moments.count, scores=self.scores, **values)

    def plot(self, **options: Any) -> Figure:
        """Return a figure of the distribution of each measure; see `crp_kit.views.plot.distributions`.

        Parameters
        ----------
        **options
            Of that function.
        """
        columns = {_LABELS[name]: getattr(self, name) for name in _MEASURES}
        settings = {"title": f"{self.scores.layer}, by {self.scores.mode}, {len(self):,} samples", **options}
        figure: Figure = plots().distributions(columns, **settings)
        return figure


def complexity(scores: StoredScores, where: Selection | None = None) -> Complexity:
    """Return the complexity of each sample; see `ScoreAtlas.complexity`."""
    matrix, rows = score_matrix(scores, "the complexity of each sample"), scored(scores, where)
    parts = [row_complexity(values) for _, values in row_blocks(matrix, rows)]
    if not parts:
        raise InputError(f"complexity is of samples, and {scores.file.path} has none that count{where_words(where)}")
    values = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _MEASURES}
    targets = scores.file.targets[rows]
    cls = targets if scores.file.has_classes else np.full_like(targets, -1)
    return Complexity(sample=scores.file.samples[rows], cls=cls, scores=scores, **values)
