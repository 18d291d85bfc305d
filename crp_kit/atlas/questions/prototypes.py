"""Prototypes of a class, and how ordinary a prediction is: percentile, over- and under-used concepts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...checks import check_integer, check_seed
from ...drawing import plots
from ...errors import InputError
from ...result_table import Column, Table, first_rows, not_a_column
from ...statistics.arrays import Bools, Floats
from ...statistics.intervals import percentile_interval
from ...statistics.prototypes import LEAST_ROWS, PrototypeFit, fit_prototypes
from ..query.selection import Selection, where_words
from ..query.stored_scores import StoredScores
from .concept_table import ConceptRows
from .groups import class_words, origin_words
from .matrix_rows import score_rows, scored
from .sample_vectors import right_samples, vectors_of

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["ConceptDifferences", "Judgement", "Prototypes", "prototype_samples", "prototypes"]

_NEAREST = 8
_NAMED = 4


@dataclass(frozen=True, eq=False, repr=False)
class ConceptDifferences(ConceptRows):
    """Concepts that a sample uses more, or less, than its prototype, the largest difference first.

    Parameters
    ----------
    concept : numpy.ndarray
    share : numpy.ndarray
        Score of the concept in the sample.
    prototype_share : numpy.ndarray
        Score of the concept in the prototype.
    difference : numpy.ndarray
        Above 0 where the sample uses the concept more.
    scores : StoredScores
        No column.
    """

    concept: Column
    share: Column
    prototype_share: Column
    difference: Column
    scores: StoredScores = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """What is compared, in one line."""
        return f"a vector beside its prototype: {origin_words(self.scores)}"

    def plot(self) -> Figure:
        """Return a matplotlib Figure: a bar for each concept."""
        names = [str(concept) for concept in self.concept.tolist()]
        title = ["more (+) or less (−) than the prototype"]
        figure: Figure = plots().bars(self.difference[None], names=names, titles=title, label="concept")
        return figure


@dataclass(frozen=True, eq=False, repr=False)
class Judgement(Table):
    """How ordinary vectors are for a class.

    Parameters
    ----------
    row : numpy.ndarray
        Number of the vector.
    prototype : numpy.ndarray
        The most probable prototype.
    percentile : numpy.ndarray
        Two-sided, above 0 and below 100: the part of the class's own samples whose held-out score is nearer to the
        median. High percentiles are unusual, less likely than others or more.
    vectors : numpy.ndarray
        (row, concept), no column.
    judge : Prototypes
        No column.
    """

    row: Column
    prototype: Column
    percentile: Column
    vectors: Floats = field(metadata=not_a_column)
    judge: Prototypes = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """The samples that vectors are judged by, in one line."""
        return f"percentiles among {len(self.judge.fit.labels)} rightly predicted samples of {self.judge.title}"

    def interval(self, confidence: float = 0.95) -> tuple[Column, Column]:
        """Return the confidence interval of each percentile among all samples of the class (Wilson), low and high.

        Parameters
        ----------
        confidence : float, optional
            Between 0 and 1.

        Raises
        ------
        InputError
            If it is not.
        """
        return percentile_interval(self.percentile, len(self.judge.fit.labels), confidence=confidence)

    def differences(self, row: int, k: int | None = 8) -> ConceptDifferences:
        """Return the concepts that a vector uses more, or less, than its prototype, the largest difference first.

        Parameters
        ----------
        row : int
            Number of the vector.
        k : int, optional
            How many concepts; all for ``None``.

        Raises
        ------
        InputError
            If there is no such vector.
        """
        row = check_integer("row", row, low=0, high=len(self.vectors) - 1)
        vector = self.vectors[row]
        mixture = self.judge.fit.mixture
        mean = mixture.means[int(mixture.log_densities(vector[None]).argmax())]
        difference = vector - mean
        order = np.argsort(-np.abs(difference), kind="stable")[: first_rows(k)]
        return ConceptDifferences(order, vector[order], mean[order], difference[order], self.judge.scores)

    def plot(self) -> Figure:
        """Return a matplotlib Figure: the percentile of each vector."""
        names = [f"row {row}: prototype {one}" for row, one in zip(self.row.tolist(), self.prototype, strict=True)]
        figure: Figure = plots().percentiles(self.percentile, names, title=self.judge.title)
        return figure


@dataclass(frozen=True, eq=False, repr=False)
class Prototypes(Table):
    """Prototypes of a class: components of a Gaussian mixture over what its rightly predicted samples use.

    Parameters
    ----------
    prototype : numpy.ndarray
        Numbers from 0, by falling weight.
    weight : numpy.ndarray
        They sum to 1.
    n : numpy.ndarray
        Samples whose most probable prototype it is.
    nearest : numpy.ndarray
        Numbers of the nearest samples in the dataset, as text; `samples` has more.
    scores : StoredScores
        No column.
    cls : int
        Number of the class; no column.
    samples : numpy.ndarray
        (prototype, sample), numbers of the nearest samples, nearest first; no column.
    fit : PrototypeFit
        The mixture and the held-out scores; no column.
    """

    prototype: Column
    weight: Column
    n: Column
    nearest: Column
    scores: StoredScores = field(metadata=not_a_column)
    cls: int = field(metadata=not_a_column)
    samples: Column = field(metadata=not_a_column)
    fit: PrototypeFit = field(metadata=not_a_column)

    @property
    def means(self) -> Floats:
        """What each prototype uses: (prototype, concept)."""
        return self.fit.mixture.means

    @property
    def weights(self) -> Floats:
        """Weight of each prototype: (prototype,)."""
        return self.fit.mixture.weights

    @property
    def title(self) -> str:
        """The class in words."""
        return class_words(self.scores, self.cls)

    @property
    def caption(self) -> str:
        """The class, what the scores are, and where relevance started, in one line."""
        return f"prototypes of {self.title}: {origin_words(self.scores)}"

    def judge(self, vectors: Any) -> Judgement:
        """Return how ordinary vectors are among the class's own samples.

        Parameters
        ----------
        vectors : array or Attribution
            Vectors (row, concept), as rows of the atlas's matrix are. Or the result of an attribution that recorded the
            layer: the scores of its channels, sums over their maps (or maxima, if the atlas has those), divided by the
            sum of magnitudes if the atlas's are.

        Raises
        ------
        InputError
            If they do not fit the layer, or are not finite.
        """
        rows = vectors_of(self.scores, vectors)
        nearest = self.fit.mixture.log_densities(rows).argmax(1)
        held_out = self.fit.held_out
        percentiles = held_out.percentiles(held_out.further_scores(rows))
        return Judgement(np.arange(len(rows)), nearest, percentiles, rows, self)

    def plot(self, k: int = 12) -> Figure:
        """Return a matplotlib Figure: what each prototype uses.

        Parameters
        ----------
        k : int, optional
            How many concepts are shown, those that the prototypes use most.
        """
        order = np.argsort(-np.abs(self.means).max(0), kind="stable")[: first_rows(k)]
        lines = zip(self.prototype.tolist(), self.weight.tolist(), self.n.tolist(), strict=True)
        titles = [f"{self.title}, prototype {number}: weight {weight:.2f}, {n} samples" for number, weight, n in lines]
        figure: Figure = plots().bars(
            self.means[self.prototype][:, order],
            names=[str(concept) for concept in order.tolist()],
            titles=titles,
            label="concept",
            shared_scale=True,
        )
        return figure


def prototypes(
    scores: StoredScores, cls: int | str, n: int | None = None, *, where: Selection | None = None, seed: int = 0
) -> Prototypes:
    """Return the prototypes of a class; see `ScoreAtlas.prototypes`."""
    seed = check_seed(seed)
    number, mask = prototype_samples(scores, cls, where)
    rows = score_rows(scores, mask).astype(np.float64)
    fit = fit_prototypes(rows, n, seed=seed)
    samples = scores.file.samples[mask][fit.nearest_rows(rows, _NEAREST)]
    weights = fit.mixture.weights
    nearest = np.array([", ".join(map(str, line[:_NAMED])) for line in samples.tolist()])
    counts = np.bincount(fit.labels, minlength=len(weights))
    return Prototypes(np.arange(len(weights)), weights, counts, nearest, scores, number, samples, fit)


def prototype_samples(scores: StoredScores, cls: int | str, where: Selection | None) -> tuple[int, Bools]:
    """Return the number of a class, and which samples are those of it that are predicted right: (sample,).

    Raises
    ------
    ConceptRangeError, InputError
        If there is no such class, or it has too few.
    """
    scores.file.check_classes("prototypes of a class")
    number = scores.file.class_number(cls)
    mask = scored(scores, where) & right_samples(scores) & (scores.file.targets == number)
    if mask.sum() < LEAST_ROWS:
        raise InputError(
            f"prototypes need at least {LEAST_ROWS} rightly predicted samples; of class {number} "
            f"{scores.file.classes[number]!r} there are {int(mask.sum())}{where_words(where)}"
        )
    return number, mask
