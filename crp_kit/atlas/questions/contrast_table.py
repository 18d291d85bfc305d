"""Table of the concepts by how much their scores differ between two groups of samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...drawing import plots
from ...result_table import Column, not_a_column
from ...statistics.intervals import t_quantile
from ..query.stored_scores import StoredScores
from .concept_table import ConceptRows

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["ContrastTable"]


@dataclass(frozen=True, eq=False, repr=False)
class ContrastTable(ConceptRows):
    """Concepts by how much their scores differ between two groups of samples, the highest magnitude of t first.

    Parameters
    ----------
    concept : numpy.ndarray
    n_a, n_b : numpy.ndarray
        Samples of each group.
    mean_a, mean_b : numpy.ndarray
        Mean score of the concept in each group.
    difference : numpy.ndarray
        ``mean_a - mean_b``.
    t, df, p : numpy.ndarray
        Welch's test: t, degrees of freedom, two-sided p-value. Not-a-number where a group has a single sample.
    q : numpy.ndarray
        p corrected for the number of concepts: the false discovery rate by Benjamini and Hochberg.
    g : numpy.ndarray
        Hedges' g: the difference in standard deviations.
    auc : numpy.ndarray
        How probable it is that a sample of the first group has the higher score. Not-a-number without a matrix.
    scores : StoredScores
        The layer that was asked.
    groups : tuple of str
        Both groups in words.
    origin : str
        What the scores are, and where relevance started.
    errors : numpy.ndarray
        Standard error of the difference of every concept of the layer, by its number.
    """

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
    scores: StoredScores = field(metadata=not_a_column)
    groups: tuple[str, str] = field(metadata=not_a_column)
    origin: str = field(metadata=not_a_column)
    errors: Column = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """Both groups, what the scores are, and where relevance started, in one line."""
        if not len(self):
            return f"no concept of {self.groups[0]} against {self.groups[1]}: {self.origin}"
        first, second = (
            f"{words} ({count[0]} sample{'' if count[0] == 1 else 's'})"
            for words, count in zip(self.groups, (self.n_a, self.n_b), strict=True)
        )
        return f"{first} against {second}: {self.origin}"

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
        reach = t_quantile(self.df, confidence) * self.errors[self.concept]
        return self.difference - reach, self.difference + reach

    def plot(self, k: int = 12, *, confidence: float = 0.95, width: float = 7.0) -> Figure:
        """Return a figure of the first rows: both means, and the difference with its interval.

        Parameters
        ----------
        k : int, optional
            Rows at most.
        confidence : float, optional
            Of the intervals, between 0 and 1.
        width : float, optional
            Of the figure, in inches.

        Raises
        ------
        InputError
            If there is no row to draw.
        """
        figure: Figure = plots().contrast(self, k, confidence=confidence, width=width)
        return figure
