"""Stability of the prototypes of a class: how alike those of disjoint folds of its samples are."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ...checks import check_integer, check_seed
from ...drawing import plots
from ...errors import InputError
from ...result_table import Column, Table, not_a_column
from ...statistics.gaussian_mixture import fit_mixture
from ...statistics.matching import one_to_one
from ...statistics.prototypes import LEAST_ROWS, held_out_scores
from ...statistics.similarity import cosine
from ...statistics.stability import fold_numbers
from ..query.selection import Selection, where_words
from ..query.stored_scores import StoredScores
from .groups import class_words, origin_words
from .matrix_rows import score_rows
from .prototypes import prototype_samples

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["PrototypeStability", "prototype_stability"]


@dataclass(frozen=True, eq=False, repr=False)
class PrototypeStability(Table):
    """Prototypes of two folds of a class that match one to one, for each pair of different folds.

    Parameters
    ----------
    fold_a, fold_b : numpy.ndarray
        Numbers of the folds, from 0; the first one is the smaller.
    prototype_a, prototype_b : numpy.ndarray
        Prototypes of either fold, by falling weight.
    cosine : numpy.ndarray
        Of their means.
    expected : numpy.ndarray
        Mean cosine of the prototypes of both folds that do not match: what all of the class have in common.
        Not-a-number for a single prototype.
    scores : StoredScores
        No column.
    cls : int
        Number of the class; no column.
    n_samples : int
        Samples of all folds; no column.
    """

    fold_a: Column
    fold_b: Column
    prototype_a: Column
    prototype_b: Column
    cosine: Column
    expected: Column
    scores: StoredScores = field(metadata=not_a_column)
    cls: int = field(metadata=not_a_column)
    n_samples: int = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """The class, its samples and its folds, what the scores are, and where relevance started, in one line."""
        words = f"prototypes of {class_words(self.scores, self.cls)}, {self.n_samples} samples"
        return f"{words} in {int(self.fold_b.max()) + 1} folds: {origin_words(self.scores)}"

    def plot(self) -> Figure:
        """Return a matplotlib Figure: the cosine of each pair of prototypes beside that of others."""
        rows = zip(self.fold_a, self.prototype_a, self.fold_b, self.prototype_b, strict=True)
        common = float(np.mean(self.expected))
        figure: Figure = plots().value_bars(
            self.cosine,
            names=[f"{a} of fold {fold_a} ~ {b} of fold {fold_b}" for fold_a, a, fold_b, b in rows],
            label="cosine of the means",
            reference=None if np.isnan(common) else (common, "of others"),
            title=class_words(self.scores, self.cls),
        )
        return figure


def prototype_stability(
    scores: StoredScores, cls: int | str, n: int | None = None, folds: int = 2, *, where: Selection | None, seed: int
) -> PrototypeStability:
    """Return how alike the prototypes of disjoint folds are; see `ScoreAtlas.prototype_stability`."""
    folds, seed = check_integer("folds", folds, low=2), check_seed(seed)
    number, mask = prototype_samples(scores, cls, where)
    rows = score_rows(scores, mask).astype(np.float64)
    if n is None:
        n = len(held_out_scores(rows, seed=seed).mixtures[0].weights)
    least = max(LEAST_ROWS, 2 * check_integer("n", n, low=1))
    if len(rows) < folds * least:
        raise InputError(
            f"{n} prototypes of each of {folds} folds need {folds * least} rightly predicted samples; of "
            f"{class_words(scores, number)} there are {len(rows)}{where_words(where)}"
        )
    fold = fold_numbers(np.zeros(len(rows), np.int64), folds, seed)
    means = [fit_mixture(rows[fold == one], n, seed=seed).means for one in range(folds)]
    lines = [(a, b, *line) for a, b in combinations(range(folds), 2) for line in _matched(means[a], means[b])]
    first, second, mine, yours, similar, expected = map(np.array, zip(*lines, strict=True))
    return PrototypeStability(first, second, mine, yours, similar, expected, scores, number, len(rows))


def _matched(a: Column, b: Column) -> list[tuple[int, int, float, float]]:
    """Return matching prototypes of two folds, with their cosine and the mean of those that do not match."""
    values = cosine([np.concatenate([a, b]).T], 2 * len(a))[: len(a), len(a) :]
    mine, yours = one_to_one(values, -1.0)
    others = np.ones(values.shape, bool)
    others[mine, yours] = False
    expected = float(values[others].mean()) if others.any() else float("nan")
    return [(i, j, float(values[i, j]), expected) for i, j in zip(mine.tolist(), yours.tolist(), strict=True)]
