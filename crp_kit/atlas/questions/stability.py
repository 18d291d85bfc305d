"""Stability of the concepts of each class between disjoint folds of the samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...checks import check_integer, check_seed
from ...drawing import plots
from ...errors import InputError
from ...result_table import Column, Table, column_named, first_rows, not_a_column
from ...statistics.intervals import correlation_interval
from ...statistics.moments import GroupMoments, moments_by_group
from ...statistics.multiple_testing import q_values
from ...statistics.stability import fold_numbers, marker_scores, rank_agreement, top_agreement
from ..query.selection import Selection, where_words
from ..query.stored_scores import StoredScores
from .groups import class_words, origin_words
from .matrix_rows import row_blocks, score_matrix, scored

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["Stability", "StableRanking", "stability"]

StableRanking = Literal["markers", "means"]
_WORDS = {"markers": "markers (t against all other classes)", "means": "mean scores"}


@dataclass(frozen=True, eq=False, repr=False)
class Stability(Table):
    """Agreement of the ranking of concepts of each class between disjoint folds of its samples.

    Parameters
    ----------
    cls : numpy.ndarray
        Class number, in the column ``class``.
    n : numpy.ndarray
        Samples of the class, in all folds.
    rank_correlation : numpy.ndarray
        Spearman's rank correlation of all concepts, mean over pairs of folds; 0 by chance.
    low, high : numpy.ndarray
        Its interval at 95 % by Fisher's transformation, over concepts, as wide as of a single pair of folds;
        not-a-number below 4 concepts.
    overlap : numpy.ndarray
        Share of the first `k` concepts that two folds have in common, mean over pairs of folds.
    expected : numpy.ndarray
        The overlap that is expected by chance: `k` by the number of concepts.
    p : numpy.ndarray
        How probable such an overlap is by chance (hypergeometric).
    q : numpy.ndarray
        p corrected for the number of classes: the false discovery rate by Benjamini and Hochberg.
    scores : StoredScores
        The layer that was asked.
    folds, k : int
    ranking : str

    A class with too few samples for a ranking in each fold is not-a-number: one in each for mean scores, two for
    markers.
    """

    cls: Column = field(metadata=column_named("class"))
    n: Column
    rank_correlation: Column
    low: Column
    high: Column
    overlap: Column
    expected: Column
    p: Column
    q: Column
    scores: StoredScores = field(metadata=not_a_column)
    folds: int = field(metadata=not_a_column)
    k: int = field(metadata=not_a_column)
    ranking: StableRanking = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """What is ranked, and how many folds there are, in one line."""
        return f"{_WORDS[self.ranking]} in {self.folds} folds, first {self.k}: {origin_words(self.scores)}"

    def plot(self, k: int = 24, **options: Any) -> Figure:
        """Return a figure of the overlap beside that by chance; see `crp_kit.views.plot.value_bars`.

        Parameters
        ----------
        k : int, optional
            Classes at most: those with the most samples.
        **options
            Of that function.
        """
        rows = np.sort(np.argsort(-self.n, kind="stable")[: first_rows(k)])
        words = [class_words(self.scores, cls) for cls in self.cls[rows].tolist()]
        settings = {
            "names": [f"n = {n}: {name}" for name, n in zip(words, self.n[rows], strict=True)],
            "label": f"share of the first {self.k} concepts in common",
            "reference": (float(self.expected[0]), "by chance"),
            "title": f"{self.scores.layer}: {_WORDS[self.ranking]}",
        }
        figure: Figure = plots().value_bars(self.overlap[rows], **{**settings, **options})
        return figure


def stability(
    scores: StoredScores,
    folds: int = 2,
    k: int = 10,
    *,
    seed: int = 0,
    ranking: StableRanking = "markers",
    where: Selection | None = None,
) -> Stability:
    """Return how far rankings agree between folds; see `ScoreAtlas.stability`."""
    if ranking not in tuple(_WORDS):
        raise InputError(f"ranking is one of {', '.join(map(repr, _WORDS))}; got {ranking!r}")
    scores.file.check_classes("rankings by class")
    folds, k = check_integer("folds", folds, low=2), check_integer("k", k, low=1, high=scores.n_concepts)
    matrix = score_matrix(scores, "stability over folds")
    rows = scored(scores, where) & (scores.file.targets >= 0)
    if not rows.any():
        raise InputError(f"stability is of classes, and {scores.file.path} has no sample of any{where_words(where)}")
    classes, group = np.unique(scores.file.targets[rows], return_inverse=True)
    cell = np.zeros(len(rows), np.int64)
    cell[rows] = fold_numbers(group, folds, check_seed(seed)) * len(classes) + group
    blocks = ((cell[numbers], values) for numbers, values in row_blocks(matrix, rows))
    moments = moments_by_group(blocks, folds * len(classes), scores.n_concepts)
    count = moments.count.reshape(folds, -1)
    mean, std = (array.reshape(folds, len(classes), -1) for array in (moments.mean, moments.std))
    if ranking == "markers":
        ranked = np.stack([marker_scores(GroupMoments(*fold)) for fold in zip(count, mean, std, strict=True)])
    else:
        ranked = mean
    agreement, (overlap, p) = rank_agreement(ranked), top_agreement(ranked, k)
    return Stability(
        classes,
        count.sum(0),
        agreement,
        *correlation_interval(agreement, scores.n_concepts, ranks=True),
        overlap,
        np.full(len(classes), k / scores.n_concepts),
        p,
        q_values(p),
        scores,
        folds,
        k,
        ranking,
    )
