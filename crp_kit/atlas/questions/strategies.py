"""Strategies of a class: groups of samples that use concepts alike, as spectral relevance analysis sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_integer, check_seed
from ...class_names import class_label
from ...drawing import plots
from ...errors import InputError
from ...result_table import Column, Table, first_rows, not_a_column
from ...statistics.intervals import auc_interval
from ...statistics.multiple_testing import q_values
from ...statistics.ranks import mid_ranks, rank_sum_p
from ...statistics.strategies import spectral_clusters
from ...statistics.two_groups import auc
from ..query.selection import Selection, where_words
from ..query.stored_scores import StoredScores
from .concept_table import ConceptRows
from .groups import origin_words
from .matrix_rows import score_rows, scored

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["Strategies", "StrategyConcepts", "strategies"]

_LEAST = 3


@dataclass(frozen=True, eq=False, repr=False)
class StrategyConcepts(ConceptRows):
    """Concepts that tell a strategy from the other samples of its class, the clearest first.

    Parameters
    ----------
    concept : numpy.ndarray
    mean, mean_elsewhere : numpy.ndarray
        Mean score in the strategy, and in the other strategies.
    auc : numpy.ndarray
        The chance that a sample of the strategy has the higher score; below 0.5 where the strategy uses it less.
    low, high : numpy.ndarray
        Its interval at 95 %, by `crp_kit.statistics.intervals.auc_interval` (Newcombe).
    p : numpy.ndarray
        Two-sided, that the AUC is 0.5, by the test of Mann and Whitney; not-a-number where all scores are equal.
    q : numpy.ndarray
        p corrected for the number of concepts: the false discovery rate by Benjamini and Hochberg. Strategies are found
        in the same scores, so that it says which concepts tell them apart, and not whether there are strategies.
    n, n_elsewhere : numpy.ndarray
        Samples of the strategy, and of the others.
    scores : StoredScores
        No column.
    """

    concept: Column
    mean: Column
    mean_elsewhere: Column
    auc: Column
    low: Column
    high: Column
    p: Column
    q: Column
    n: Column
    n_elsewhere: Column
    scores: StoredScores = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """What is compared, in one line."""
        return f"samples of a strategy against the others of its class: {origin_words(self.scores)}"

    def plot(self) -> Figure:
        """Return a matplotlib Figure: the difference of means of each concept."""
        names = [str(concept) for concept in self.concept.tolist()]
        titles = ["mean in the strategy − mean elsewhere"]
        difference = (self.mean - self.mean_elsewhere)[None]
        figure: Figure = plots().bars(difference, names=names, titles=titles, label="concept")
        return figure


@dataclass(frozen=True, eq=False, repr=False)
class Strategies(Table):
    """Samples of a class with the strategy that each belongs to.

    Parameters
    ----------
    sample : numpy.ndarray
        Numbers in the dataset.
    strategy : numpy.ndarray
        Numbers from 0, the largest strategy first.
    x, y : numpy.ndarray
        Two spectral coordinates: samples that use concepts alike are near.
    scores : StoredScores
        No column.
    cls : int
        Number of the class; no column.
    eigenvalues : numpy.ndarray
        The lowest ones of the normalised Laplacian, whose widest gap suggests the number of strategies; no column.
    """

    sample: Column
    strategy: Column
    x: Column
    y: Column
    scores: StoredScores = field(metadata=not_a_column)
    cls: int = field(metadata=not_a_column)
    eigenvalues: Column = field(metadata=not_a_column)

    @property
    def sizes(self) -> Column:
        """Samples of each strategy: (strategy,)."""
        return np.bincount(self.strategy)

    @property
    def caption(self) -> str:
        """The class, and how many strategies it has."""
        name = class_label(self.cls, self.scores.file.classes)
        count = f"{len(self.sizes)} strateg{'y' if len(self.sizes) == 1 else 'ies'}"
        return f"class {name}: {count} of {len(self)} samples"

    def concepts(self, strategy: int, k: int | None = 10) -> StrategyConcepts:
        """Return the concepts that tell a strategy from the other samples of the class, the clearest first.

        Parameters
        ----------
        strategy : int
        k : int, optional
            How many; all for ``None``.

        Raises
        ------
        InputError
            If there is no such strategy, or it is the only one.
        """
        strategy = check_integer("strategy", strategy, low=0, high=max(len(self.sizes) - 1, 0))
        if len(self.sizes) < 2:
            raise InputError("all samples follow one strategy: there are no others that concepts could tell it from")
        order = np.argsort(self.sample)
        mask = np.isin(self.scores.file.samples, self.sample)
        inside = (self.strategy == strategy)[order]
        rows = score_rows(self.scores, mask).astype(np.float64)
        areas, ranks = auc(rows[inside], rows[~inside]), mid_ranks(rows)
        p = rank_sum_p(areas, ranks, inside.sum())
        best = np.argsort(-np.abs(areas - 0.5), kind="stable")[: first_rows(k)]
        mean, elsewhere = rows[inside].mean(0)[best], rows[~inside].mean(0)[best]
        count = np.full(len(best), int(inside.sum()))
        others = len(rows) - count
        ends = auc_interval(areas[best], count, others)
        tests = p[best], q_values(p)[best]
        return StrategyConcepts(best, mean, elsewhere, areas[best], *ends, *tests, count, others, self.scores)

    def plot(self) -> Figure:
        """Return a matplotlib Figure: the samples in two spectral coordinates, coloured by strategy."""
        figure: Figure = plots().strategies(np.stack([self.x, self.y], 1), self.strategy, title=self.caption)
        return figure


def strategies(
    scores: StoredScores,
    cls: int | str,
    n: int | None = None,
    *,
    k: int = 10,
    where: Selection | None = None,
    seed: int = 0,
) -> Strategies:
    """Return the strategies of a class; see `ScoreAtlas.strategies`."""
    scores.file.check_classes("strategies of a class")
    seed = check_seed(seed)
    number = scores.file.class_number(cls)
    mask = scored(scores, where) & (scores.file.targets == number)
    if mask.sum() < _LEAST:
        raise InputError(
            f"strategies need at least {_LEAST} samples; of class {class_label(number, scores.file.classes)} there are "
            f"{int(mask.sum())}{where_words(where)}"
        )
    clusters = spectral_clusters(score_rows(scores, mask), n, neighbours=k, seed=seed)
    x, y = clusters.coordinates.T
    return Strategies(scores.file.samples[mask], clusters.labels, x, y, scores, number, clusters.eigenvalues)
