"""Tables with a row for each class and concept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...drawing import plots
from ...result_table import Column, column_named, not_a_column
from ..query.stored_scores import StoredScores
from .concept_table import ClassConceptRows

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["ClassMeans", "ClassPresence"]


@dataclass(frozen=True, eq=False, repr=False)
class ClassMeans(ClassConceptRows):
    """Mean score of every concept in every class that occurs, with its confidence interval.

    Parameters
    ----------
    cls : numpy.ndarray
        Class number, in the column ``class``.
    concept : numpy.ndarray
    n : numpy.ndarray
        Samples of the class.
    mean : numpy.ndarray
    low, high : numpy.ndarray
        Interval of the mean by Student's t; not-a-number for a single sample.
    scores : StoredScores
        The layer that was asked.
    origin : str
        What the scores are, and where relevance started.
    names : tuple of str
        Names of all classes; their numbers, where no names are known.
    """

    cls: Column = field(metadata=column_named("class"))
    concept: Column
    n: Column
    mean: Column
    low: Column
    high: Column
    scores: StoredScores = field(metadata=not_a_column)
    origin: str = field(metadata=not_a_column)
    names: tuple[str, ...] = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """What the means are of, and where relevance started, in one line."""
        return f"mean {self.origin}"

    def plot(self, k: int = 16, *, classes: int = 12, width: float = 7.0) -> Figure:
        """Return a figure of the means as dots, a line for each class and a column for each concept.

        Grey rings stand where the interval holds zero. The concepts are the strongest ones of each class in turn.

        Parameters
        ----------
        k : int, optional
            Concepts at most.
        classes : int, optional
            Classes at most: those with the most samples.
        width : float, optional
            Of the figure, in inches.

        Raises
        ------
        InputError
            If there is no row to draw.
        """
        figure: Figure = plots().class_means(self, k, classes=classes, width=width)
        return figure


@dataclass(frozen=True, eq=False, repr=False)
class ClassPresence(ClassConceptRows):
    """In how many samples of each class a concept is among the strongest, with the interval of the fraction.

    Parameters
    ----------
    cls : numpy.ndarray
        Class number, in the column ``class``.
    concept : numpy.ndarray
    n : numpy.ndarray
        Samples of the class.
    count : numpy.ndarray
        Samples of the class in which the concept is among the strongest.
    fraction : numpy.ndarray
        ``count / n``.
    low, high : numpy.ndarray
        Interval of the fraction by Wilson.
    scores : StoredScores
        The layer that was asked.
    origin : str
        What the scores are, and where relevance started.
    names : tuple of str
        Names of all classes; their numbers, where no names are known.
    m : int
        How many concepts of a sample are the strongest.
    """

    cls: Column = field(metadata=column_named("class"))
    concept: Column
    n: Column
    count: Column
    fraction: Column
    low: Column
    high: Column
    scores: StoredScores = field(metadata=not_a_column)
    origin: str = field(metadata=not_a_column)
    names: tuple[str, ...] = field(metadata=not_a_column)
    m: int = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """How many concepts count, by what scores, in one line."""
        return f"fraction of samples with the concept among the {self.m} strongest: {self.origin}"

    def plot(self, k: int = 16, *, classes: int = 12, width: float = 7.0) -> Figure:
        """Return a figure of the fractions as dots, a line for each class and a column for each concept.

        The concepts are the most frequent ones of each class in turn.

        Parameters
        ----------
        k : int, optional
            Concepts at most.
        classes : int, optional
            Classes at most: those with the most samples.
        width : float, optional
            Of the figure, in inches.

        Raises
        ------
        InputError
            If there is no row to draw.
        """
        figure: Figure = plots().class_presence(self, k, classes=classes, width=width)
        return figure
