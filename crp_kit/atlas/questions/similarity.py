"""Similarity of the concepts of a layer: nearest ones, clusters, redundancy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...checks import check_integer, is_real
from ...drawing import plots, png_of
from ...errors import ConceptRangeError, InputError
from ...statistics.clusters import average_linkage, cut_by_number, cut_by_similarity, leaf_order
from ...statistics.similarity import (
    Metric,
    check_metric,
    correlation,
    cosine,
    gram_similarity,
    rank_correlation,
)
from ...tables import data_frame
from ..query.selection import Mask, Selection, where_words
from ..query.stored_scores import StoredScores
from .concept_relations import ConceptClusters, ConceptPairs, Redundancy, SimilarConcepts, SimilarityBasis
from .matrix_rows import column_blocks, row_blocks, score_matrix, scored

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["Similarity", "similarity"]

Floats = npt.NDArray[np.float64]

_GRAM = "gram"
_GRAM_ROUNDING = 2.0**-29
"""Error of a product in the Gram matrix, in units of the product of the largest magnitudes of both concepts."""
_EXACT, _KNOWN = 1e6, 1e4
"""By how much a sum of squares exceeds its error: where the matrix of scores is not needed, and where it is known."""


@dataclass(frozen=True, eq=False, repr=False)
class Similarity:
    """Similarity of the concepts of a layer to each other.

    Parameters
    ----------
    values : numpy.ndarray
        (concept, concept), symmetric, from -1 to 1. Row and column of a concept that is constant are NaN.
    metric : str
    n_samples : int
        Samples that it was taken over.
    scores : StoredScores
        The layer that was asked.
    n_groups : int
        Classes whose means were removed; 1 for the mean of all.
    """

    values: Floats
    metric: Metric
    n_samples: int
    scores: StoredScores
    n_groups: int = 1

    @property
    def basis(self) -> SimilarityBasis:
        """What the similarities are, and of how many samples; its `interval` has theirs."""
        return SimilarityBasis(self.metric, self.n_samples, self.n_groups)

    @property
    def title(self) -> str:
        """The layer, the metric and the number of samples in words."""
        return f"{self.scores.layer}: {self.metric} of {self.scores.mode}, {self.n_samples:,} samples"

    def pairs(self) -> ConceptPairs:
        """Return each pair of different concepts once."""
        concept_a, concept_b = np.triu_indices(len(self.values), 1)
        return ConceptPairs(
            concept_a, concept_b, self.values[concept_a, concept_b], self.scores, self.title, self.basis
        )

    def to_frame(self, *, square: bool = False) -> Any:
        """Return a data frame with a row for each pair of concepts, or one that is square.

        Parameters
        ----------
        square : bool, optional
            Whether rows and columns are concepts; by default the columns are concept_a, concept_b and similarity.

        Raises
        ------
        CrpKitError
            If pandas is not installed.
        """
        if not square:
            return self.pairs().to_frame()
        concepts = np.arange(len(self.values))
        frame = data_frame(self.values, index=concepts, columns=concepts)
        return frame.rename_axis(index="concept", columns="concept")

    def to_numpy(self) -> Floats:
        """Return the values: (concept, concept)."""
        return self.values

    def nearest(self, concept: int, k: int = 5) -> SimilarConcepts:
        """Return the concepts that are most similar to a concept, without itself.

        Parameters
        ----------
        concept : int
        k : int, optional
            How many at most. Those whose similarity is NaN are left out.

        Raises
        ------
        ConceptRangeError
            If there is no such concept.
        InputError
            If `k` is not positive.
        """
        concept, k = check_integer("a concept", concept), check_integer("k", k, low=1)
        if not 0 <= concept < len(self.values):
            raise ConceptRangeError(self.scores.layer, [concept], len(self.values), what="concept")
        others = np.delete(np.arange(len(self.values)), concept)
        similar = self.values[concept, others]
        order = np.argsort(-similar, kind="stable")
        order = order[~np.isnan(similar[order])][:k]
        title = f"nearest to concept {concept} in {self.title}"
        return SimilarConcepts(others[order], self.scores, title, similar[order], self.basis)

    def clusters(self, n: int | None = None, threshold: float | None = None) -> ConceptClusters:
        """Return clusters of similar concepts, by average linkage on 1 - similarity.

        Parameters
        ----------
        n : int, optional
            How many clusters; fewer where similarities are equal.
        threshold : float, optional
            The lowest mean similarity at which clusters are joined; 0.5 if `n` is not given either.

        Raises
        ------
        InputError
            If both are given, or one is out of range.
        """
        if n is not None and threshold is not None:
            raise InputError("clusters are cut by their number n, or by a threshold of similarity; got both")
        concepts = np.arange(len(self.values))
        if n is not None:
            n = check_integer("n, the number of clusters,", n, low=1, high=len(concepts))
            return ConceptClusters(concepts, self.scores, self.title, cut_by_number(self._linkage, n))
        level = 0.5 if threshold is None else threshold
        if not is_real(level, -1, 1):
            raise InputError(f"threshold is a similarity, from -1 to 1; got {level!r}")
        return ConceptClusters(concepts, self.scores, self.title, cut_by_similarity(self._linkage, level))

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """The concepts in the order of the dendrogram: (concept,). Similar ones stand beside each other."""
        return leaf_order(self._linkage, self.values)

    @cached_property
    def _linkage(self) -> Floats:
        """Linkage of the concepts: (concept - 1, 4)."""
        return average_linkage(self.values)

    def redundancy(self) -> Redundancy:
        """Return the similarity of each concept to the one that is most similar to it, the highest first."""
        others = self.values.copy()
        np.fill_diagonal(others, np.nan)
        without = np.isnan(others).all(1)
        others = np.where(np.isnan(others), -np.inf, others)
        nearest = np.where(without, -1, others.argmax(1))
        highest = np.where(without, np.nan, others.max(1))
        order = np.argsort(-highest, kind="stable")
        return Redundancy(order, self.scores, self.title, highest[order], nearest[order], self.basis)

    def plot(self, **options: Any) -> Figure:
        """Return a figure of the similarities in the order of the dendrogram; see `crp_kit.views.plot.similarities`.

        Parameters
        ----------
        **options
            Of that function.
        """
        figure: Figure = plots().similarities(self.values, order=self.order, **{"title": self.title, **options})
        return figure

    def _repr_png_(self) -> bytes:
        return png_of(self.plot())

    def __repr__(self) -> str:
        concepts, samples = len(self.values), self.n_samples
        return f"Similarity of {concepts} concepts of {self.scores.layer!r}: {self.metric} over {samples:,} samples"


def similarity(scores: StoredScores, metric: Metric = "pearson-within", where: Selection | None = None) -> Similarity:
    """Return the similarity of concepts; see `ScoreAtlas.similarity`."""
    check_metric(metric)
    file = scores.file
    answer = _from_gram(scores, metric) if where is None and metric != "spearman" else None
    if answer is not None:
        return answer
    rows = scored(scores, where)
    if metric == "pearson-within":
        rows = rows & (file.targets >= 0)
    if not rows.any():
        raise InputError(f"similarity is taken over samples, and {file.path} has none that count{where_words(where)}")
    groups = len(np.unique(file.targets[rows])) if metric == "pearson-within" else 1
    return Similarity(_from_matrix(scores, metric, rows), metric, int(rows.sum()), scores, groups)


def _from_matrix(scores: StoredScores, metric: Metric, rows: Mask) -> Floats:
    """Return the similarity over some samples."""
    matrix, concepts = score_matrix(scores, f"the similarity {metric!r}"), scores.n_concepts
    if metric == "cosine":
        return cosine((values for _, values in row_blocks(matrix, rows)), concepts)
    if metric == "spearman":
        columns = ((part, values) for part, (values,) in column_blocks(matrix, [rows]))
        return rank_correlation(columns, int(rows.sum()), concepts)
    group = scores.file.targets if metric == "pearson-within" else np.zeros(len(rows), int)
    classes, index = np.unique(group[rows], return_inverse=True)
    within = np.zeros(len(rows), int)
    within[rows] = index
    blocks = ((within[numbers], values) for numbers, values in row_blocks(matrix, rows))
    return correlation(blocks, len(classes), concepts)


def _from_gram(scores: StoredScores, metric: Metric) -> Similarity | None:
    """Return the similarity by the Gram matrix; nothing where there is none, or where the matrix of scores has more.

    The Gram matrix leaves samples without a target out, and it loses what varies little.
    """
    if not scores.has(_GRAM):
        return None
    arrays = scores.arrays(_GRAM)
    gram, count, total = (np.asarray(arrays[name][:], "f8") for name in ("gram", "count", "sum"))
    if not count.any():
        return None
    answer, samples = partial(gram_similarity, gram, count, total, metric), int(count.sum())
    groups = int((count > 0).sum()) if metric == "pearson-within" else 1
    error = _gram_error(scores, count)
    if not scores.has("matrix"):
        return Similarity(answer(least=_KNOWN * error), metric, samples, scores, groups)
    values = answer(least=_EXACT * error)
    lost = np.isnan(np.diag(values)) & (np.diag(gram) > 0)
    missing = metric != "pearson-within" and samples < int(scored(scores).sum())
    return None if missing or lost.any() else Similarity(values, metric, samples, scores, groups)


def _gram_error(scores: StoredScores, count: Floats) -> Floats:
    """Return about how far the sum of squares of each concept is off: (concept,). Errors of samples are independent."""
    moments = scores.arrays("moments")
    largest = np.zeros(scores.n_concepts)
    for name in ("min", "max"):
        values = np.nan_to_num(moments[name][:].astype("f8"))
        largest = np.maximum(largest, np.abs(values).max(0, initial=0))
    return np.asarray(_GRAM_ROUNDING * largest**2 * np.sqrt(count.sum()))
