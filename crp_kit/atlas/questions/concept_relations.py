"""Tables of pairs of similar concepts, of clusters and of redundancy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...checks import check_integer
from ...drawing import plots
from ...errors import InputError
from ...result_table import Column, Table, first_rows, not_a_column
from ...statistics.intervals import correlation_interval
from ...statistics.similarity import Metric
from ..query.rankings import SampleRanking
from ..query.stored_scores import StoredScores
from .concept_table import ConceptRows

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["ConceptClusters", "ConceptPairs", "Redundancy", "SimilarConcepts", "SimilarityBasis"]

_BARS = 24
"""Bars of a figure."""
_LISTED = 6
"""Concepts by which a cluster is named."""


@dataclass(frozen=True)
class SimilarityBasis:
    """What similarities are, and of how many samples.

    Parameters
    ----------
    metric : str
    n_samples : int
    n_groups : int
        Classes whose means were removed; 1 for the mean of all.
    """

    metric: Metric
    n_samples: int
    n_groups: int = 1

    def interval(self, similarity: Column, confidence: float) -> tuple[Column, Column]:
        """Return the interval of similarities, low and high.

        Raises
        ------
        InputError
            If the confidence is out of range, or they are cosines.
        """
        if self.metric == "cosine":
            raise InputError("intervals are of correlations, not of cosines: ask for another metric")
        count = self.n_samples - self.n_groups + 1
        return correlation_interval(similarity, count, ranks=self.metric == "spearman", confidence=confidence)


class _SimilarityRows:
    """Rows with a similarity each, whose interval follows from what the similarities are of."""

    basis: SimilarityBasis
    _measured = "similarity"

    def interval(self, confidence: float = 0.95) -> tuple[Column, Column]:
        """Return the confidence interval of each similarity, as one that was not chosen, low and high.

        Parameters
        ----------
        confidence : float, optional
            Between 0 and 1.

        Raises
        ------
        InputError
            If it is not, or the similarity is a cosine.
        """
        return self.basis.interval(getattr(self, self._measured), confidence)


@dataclass(frozen=True, eq=False, repr=False)
class ConceptPairs(_SimilarityRows, Table):
    """Pairs of concepts.

    Parameters
    ----------
    concept_a, concept_b : numpy.ndarray
        The first one is the smaller.
    similarity : numpy.ndarray
    scores : StoredScores
        The layer that was asked; no column.
    title : str
        The layer, the metric and the number of samples in words; no column.
    basis : SimilarityBasis
        The metric, and of how many samples it is; no column.
    """

    concept_a: Column
    concept_b: Column
    similarity: Column
    scores: StoredScores = field(metadata=not_a_column)
    title: str = field(metadata=not_a_column)
    basis: SimilarityBasis = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """The layer, the metric and the number of samples, in one line."""
        return self.title

    def references(self, row: int, k: int = 8) -> tuple[SampleRanking, SampleRanking]:
        """Return the samples in which each concept of a row is strongest.

        Parameters
        ----------
        row : int
            Row of the table, from 0.
        k : int, optional
            How many samples of each.

        Raises
        ------
        InputError
            If there is no such row, or the atlas holds fewer samples.
        """
        row = self.checked_row(row)
        first, second = (self.scores.top(int(concepts[row]), k) for concepts in (self.concept_a, self.concept_b))
        return first, second

    def plot(self, k: int = _BARS, **options: Any) -> Figure:
        """Return a figure with a bar for each of the `k` most similar pairs; see `crp_kit.views.plot.value_bars`."""
        first = self.sorted("similarity", k)
        names = [f"{a} ~ {b}" for a, b in zip(first.concept_a, first.concept_b, strict=True)]
        settings = {"names": names, "label": "similarity", "title": self.title, **options}
        figure: Figure = plots().value_bars(first.similarity, **settings)
        return figure


@dataclass(frozen=True, eq=False, repr=False)
class _ConceptTable(ConceptRows):
    """A row for each concept."""

    concept: Column
    scores: StoredScores = field(metadata=not_a_column)
    title: str = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        return self.title

    def _bars(self, values: Column, **options: Any) -> Figure:
        settings = {"label": "similarity", "title": self.title, **options}
        figure: Figure = plots().value_bars(values, **settings)
        return figure


@dataclass(frozen=True, eq=False, repr=False)
class SimilarConcepts(_SimilarityRows, _ConceptTable):
    """The concepts that are most similar to a concept, most similar first.

    Parameters
    ----------
    concept, similarity : numpy.ndarray
    scores : StoredScores
        The layer that was asked; no column.
    title : str
        The layer, the metric and the number of samples in words; no column.
    basis : SimilarityBasis
        The metric, and of how many samples it is; no column.
    """

    similarity: Column
    basis: SimilarityBasis = field(metadata=not_a_column)

    def plot(self, **options: Any) -> Figure:
        """Return a figure with a bar for each row; see `crp_kit.views.plot.value_bars`."""
        return self._bars(self.similarity, **{"names": [f"concept {concept}" for concept in self.concept], **options})


@dataclass(frozen=True, eq=False, repr=False)
class ConceptClusters(_ConceptTable):
    """The cluster of each concept.

    Parameters
    ----------
    concept : numpy.ndarray
    cluster : numpy.ndarray
        Number from 0: the largest cluster first, those of equal size by their first concept.
    scores : StoredScores
        The layer that was asked; no column.
    title : str
        The layer, the metric and the number of samples in words; no column.
    """

    cluster: Column

    @property
    def members(self) -> tuple[Column, ...]:
        """Concepts of each cluster."""
        return tuple(self.concept[self.cluster == number] for number in range(int(self.cluster.max(initial=-1)) + 1))

    def plot(self, k: int = _BARS, **options: Any) -> Figure:
        """Return a figure with a bar for the size of each of the `k` largest clusters, named by its concepts."""
        members = self.members[: first_rows(k)]
        names = [f"{number}: {_listed(concepts)}" for number, concepts in enumerate(members)]
        sizes = np.array([len(concepts) for concepts in members])
        return self._bars(sizes, **{"names": names, "label": "concepts in the cluster", **options})


@dataclass(frozen=True, eq=False, repr=False)
class Redundancy(_SimilarityRows, _ConceptTable):
    """How similar each concept is to the one that is most similar to it, the most redundant first.

    Parameters
    ----------
    concept : numpy.ndarray
    redundancy : numpy.ndarray
        The highest similarity to another concept; NaN for a concept that is similar to none, as a constant one.
    nearest : numpy.ndarray
        That concept, -1 for none.
    scores : StoredScores
        The layer that was asked; no column.
    title : str
        The layer, the metric and the number of samples in words; no column.
    basis : SimilarityBasis
        The metric, and of how many samples it is; no column.
    """

    redundancy: Column
    nearest: Column
    basis: SimilarityBasis = field(metadata=not_a_column)
    _measured = "redundancy"

    def plot(self, k: int = _BARS, **options: Any) -> Figure:
        """Return a figure with a bar for each of the `k` first rows; see `crp_kit.views.plot.value_bars`."""
        k = check_integer("k", k, low=1)
        pairs = zip(self.concept[:k], self.nearest[:k], strict=True)
        names = [f"{concept} ~ {nearest}" if nearest >= 0 else f"{concept}" for concept, nearest in pairs]
        return self._bars(self.redundancy[:k], **{"names": names, "label": "highest similarity", **options})


def _listed(concepts: Column) -> str:
    """Return the first numbers of concepts as text."""
    return ", ".join(map(str, concepts[:_LISTED])) + (", …" if len(concepts) > _LISTED else "")
