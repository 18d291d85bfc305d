"""Tables of the drift between two atlases, by class and by concept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..drawing import plots
from ..errors import InputError
from ..result_table import Column, Table, column_named, first_rows, not_a_column
from ..statistics.intervals import t_quantile
from .query.layer_atlas import ScoreAtlas
from .query.rankings import SampleRanking
from .questions.groups import class_words, origin_words

if TYPE_CHECKING:
    from ..drawing import Figure

__all__ = ["ClassDrift", "Drift"]


@dataclass(frozen=True, eq=False, repr=False)
class ClassDrift(Table):
    """How far the mean scores of each class have moved from one atlas to another.

    Parameters
    ----------
    cls : numpy.ndarray
        Class number, in the column ``class``: those that both atlases have samples of.
    n_a, n_b : numpy.ndarray
        Samples of the class in each atlas.
    total_variation : numpy.ndarray
        Half the sum over concepts of the difference of the means; of shares, how much of them has moved.
    expected : numpy.ndarray
        Its mean over random divisions of the same samples: what it is without any drift.
    p : numpy.ndarray
        How often a random division gives as much.
    q : numpy.ndarray
        p corrected for the number of classes: the false discovery rate by Benjamini and Hochberg.
    scores_a : ScoreAtlas
        The layer of the first atlas.
    """

    cls: Column = field(metadata=column_named("class"))
    n_a: Column
    n_b: Column
    total_variation: Column
    expected: Column
    p: Column
    q: Column
    scores_a: ScoreAtlas = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """What has moved, in one line."""
        return f"mean {origin_words(self.scores_a)}, in two atlases"

    def plot(self, k: int = 24, **options: Any) -> Figure:
        """Return a figure of the total variation beyond what is expected; see `crp_kit.views.plot.value_bars`.

        Parameters
        ----------
        k : int, optional
            Classes at most: those that have moved farthest.
        **options
            Of that function.
        """
        excess = self.total_variation - self.expected
        rows = np.argsort(-excess, kind="stable")[: first_rows(k)]
        words = [class_words(self.scores_a, cls) for cls in self.cls[rows].tolist()]
        settings = {
            "names": [f"q = {q:.2g}: {name}" for name, q in zip(words, self.q[rows], strict=True)],
            "label": "total variation beyond that of random divisions",
            "title": f"{self.scores_a.layer}, by {self.scores_a.mode}",
        }
        figure: Figure = plots().value_bars(excess[rows], **{**settings, **options})
        return figure


@dataclass(frozen=True, eq=False, repr=False)
class Drift(Table):
    """Concepts whose scores differ most between two atlases, class by class, the highest magnitude of t first.

    Parameters
    ----------
    cls : numpy.ndarray
        Class number, in the column ``class``.
    concept : numpy.ndarray
    n_a, n_b : numpy.ndarray
        Samples of the class in each atlas.
    mean_a, mean_b : numpy.ndarray
        Mean score of the concept in the class.
    difference : numpy.ndarray
        ``mean_a - mean_b``.
    t, df, p : numpy.ndarray
        Welch's test. Not-a-number where an atlas has a single sample of the class.
    q : numpy.ndarray
        p corrected for the number of all classes and concepts: the false discovery rate by Benjamini and Hochberg.
    g : numpy.ndarray
        Hedges' g: the difference in standard deviations.
    auc : numpy.ndarray
        How probable it is that a sample of the first atlas has the higher score.
    classes : ClassDrift
        How far each class has moved as a whole.
    overall : float
        p-value of the class that has moved farthest, among as many classes.
    scores_a, scores_b : ScoreAtlas
        The layers that were asked.
    errors : numpy.ndarray
        Standard error of the difference of every concept of each of these classes: (class, concept).
    """

    cls: Column = field(metadata=column_named("class"))
    concept: Column
    n_a: Column
    n_b: Column
    mean_a: Column
    mean_b: Column
    difference: Column
    t: Column
    df: Column
    p: Column
    q: Column
    g: Column
    auc: Column
    classes: ClassDrift = field(metadata=not_a_column)
    overall: float = field(metadata=not_a_column)
    scores_a: ScoreAtlas = field(metadata=not_a_column)
    scores_b: ScoreAtlas = field(metadata=not_a_column)
    errors: Column = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """What was compared, and how probable as much is without drift, in one line."""
        count = len(self.classes)
        where = f"{self.scores_a.mode} of {self.scores_a.layer!r}, {count} class{'es' if count > 1 else ''}"
        return f"{where}: p = {self.overall:.3g} that any has moved as far without drift"

    def interval(self, confidence: float = 0.95) -> tuple[Column, Column]:
        """Return the confidence interval of each difference, low and high.

        Parameters
        ----------
        confidence : float, optional
            Between 0 and 1.

        Raises
        ------
        InputError
            If it is not.
        """
        error = self.errors[np.searchsorted(self.classes.cls, self.cls), self.concept]
        reach = t_quantile(self.df, confidence) * error
        return self.difference - reach, self.difference + reach

    def drifted(self, level: float = 0.05) -> bool:
        """Return whether the scores of any class have moved farther than random divisions of its samples do.

        Parameters
        ----------
        level : float, optional
            How often the answer is yes where there is no drift, however many classes there are. Below one by the number
            of random divisions it is never yes.

        Raises
        ------
        InputError
            If `level` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise InputError(f"level is between 0 and 1, such as 0.05; got {level!r}")
        return self.overall <= level

    def references(self, row: int, k: int = 8) -> tuple[SampleRanking, SampleRanking]:
        """Return the samples of a row's class in which its concept is strongest, in each atlas.

        Parameters
        ----------
        row : int
            Row of the table, from 0.
        k : int, optional
            How many samples.

        Raises
        ------
        InputError
            If there is no such row, or an atlas holds fewer samples.
        AtlasError
            If one was built without rankings by class.
        """
        row = self.checked_row(row)
        concept, cls = int(self.concept[row]), int(self.cls[row])
        return self.scores_a.class_top(concept, cls, k), self.scores_b.class_top(concept, cls, k)

    def plot(self, k: int = 24, **options: Any) -> Figure:
        """Return a figure of Hedges' g of the first rows; see `crp_kit.views.plot.value_bars`.

        Parameters
        ----------
        k : int, optional
            Rows at most.
        **options
            Of that function.
        """
        rows = slice(first_rows(k))
        pairs = zip(self.concept[rows].tolist(), self.cls[rows].tolist(), strict=True)
        settings = {
            "names": [f"{concept} in {class_words(self.scores_a, cls)}" for concept, cls in pairs],
            "label": "Hedges' g, first atlas against second",
            "title": f"{self.scores_a.layer}, by {self.scores_a.mode}: p = {self.overall:.2g}",
        }
        figure: Figure = plots().value_bars(self.g[rows], **{**settings, **options})
        return figure
