"""Names of the concepts of a layer: the words that their reference samples are nearest to in a user's embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...drawing import plots
from ...printable import printable
from ...result_table import Column, not_a_column
from ...statistics.arrays import Floats, Integers
from ...statistics.embedding_names import nearest_words
from ...statistics.multiple_testing import q_values
from ..query.stored_scores import StoredScores
from .naming import NO_NAME, NamedRows

if TYPE_CHECKING:
    from ...drawing import Figure

__all__ = ["WordNames", "word_names"]

_LEVEL = 0.05
"""False discovery rate of names."""


@dataclass(frozen=True, eq=False, repr=False)
class WordNames(NamedRows):
    """Concepts with the words that their references are nearest to, the clearest first, and those without a name last.

    Parameters
    ----------
    concept : numpy.ndarray
    name : numpy.ndarray
        The word whose similarity exceeds the expected one most, or ``"not distinguishable from chance"``.
    n : numpy.ndarray
        Reference samples.
    similarity : numpy.ndarray
        Mean cosine of their embeddings with that word's.
    low, high : numpy.ndarray
        Its interval by Student's t over the references, at 95 %; not-a-number for a single one.
    expected : numpy.ndarray
        Mean cosine of the references of all concepts with that word's embedding.
    p : numpy.ndarray
        How often as many random ones of these exceed what is expected of any word by as much.
    q : numpy.ndarray
        p corrected for the number of concepts: the false discovery rate by Benjamini and Hochberg.
    scores : StoredScores
        No column.
    n_words : int
        Words to choose from; no column.
    """

    concept: Column
    name: Column
    n: Column
    similarity: Column
    low: Column
    high: Column
    expected: Column
    p: Column
    q: Column
    scores: StoredScores = field(metadata=not_a_column)
    n_words: int = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        """What is named, by what, in one line."""
        scores = self.scores
        return f"names of {scores.layer!r} among {self.n_words} words, by embeddings of references by {scores.mode}"

    def plot(self) -> Figure:
        """Return a matplotlib Figure: the similarity of each concept to its word, and the expected one."""
        pairs = zip(self.concept.tolist(), self.name.tolist(), strict=True)
        lines = [f"{concept}: {printable(name)}" for concept, name in pairs]
        title = f"names of the concepts of {printable(self.scores.layer)}, by references by {self.scores.mode}"
        ends = (self.low, self.high)
        figure: Figure = plots().word_names(lines, self.similarity, ends, self.expected, title=title)
        return figure


def word_names(
    scores: StoredScores, images: Floats, references: Sequence[Integers], words: tuple[list[str], Floats], *, seed: int
) -> WordNames:
    """Return names of all concepts of a layer; see `crp_kit.Study.name_concepts`.

    Parameters
    ----------
    scores : StoredScores
    images : array
        (sample, feature), embeddings of all references.
    references : sequence of array of int
        By concept the rows of `images`.
    words : tuple
        Words, and their embeddings (word, feature).
    seed : int
        Of the random samples.
    """
    names, vectors = words
    nearest = nearest_words(images, vectors, references, seed=seed)
    q = q_values(nearest.p)
    named = q <= _LEVEL
    order = np.lexsort((nearest.expected - nearest.similarity, ~named))
    name = np.where(named, np.array([names[number] for number in nearest.word.tolist()]), NO_NAME)
    count = np.array([len(rows) for rows in references])
    return WordNames(
        order,
        name[order],
        count[order],
        nearest.similarity[order],
        nearest.low[order],
        nearest.high[order],
        nearest.expected[order],
        nearest.p[order],
        q[order],
        scores,
        len(names),
    )
