"""Clarity of concepts, from a user's embedding of their reference samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..atlas.query.embeddings import EmbeddingFunction, embedded_references
from ..atlas.query.layer_atlas import LayerAtlas
from ..attribution.subject import Subject
from ..checks import check_integer
from ..result_table import Column, Table, not_a_column
from ..statistics.clarity import clarity, polysemanticity
from .sample_choice import check_concept_ids

__all__ = ["ClarityTable", "concept_clarity"]

_DRAWS = 50


@dataclass(frozen=True, eq=False, repr=False)
class ClarityTable(Table):
    """Clarity of concepts, the clearest first.

    Parameters
    ----------
    concept : numpy.ndarray
        Number of the concept.
    n : numpy.ndarray
        Reference samples that were embedded.
    clarity : numpy.ndarray
        Mean cosine of all pairs of their embeddings.
    polysemanticity : numpy.ndarray
        1 minus the cosine of the centres of two clusters of them.
    layer : str
    by_chance : float
        Mean clarity of as many samples drawn at random from those of all concepts.
    """

    concept: Column
    n: Column
    clarity: Column
    polysemanticity: Column
    layer: str = field(metadata=not_a_column)
    by_chance: float = field(metadata=not_a_column)

    @property
    def caption(self) -> str:
        return f"concepts of {self.layer!r}; clarity of random samples is {self.by_chance:.3g}"


@dataclass(frozen=True)
class ClarityOptions:
    """Settings of `concept_clarity`, checked."""

    concept_ids: Sequence[int] | None
    k: int
    seed: int

    def __post_init__(self) -> None:
        check_integer("k", self.k, low=2)
        check_integer("seed", self.seed, low=0)
        check_concept_ids(self.concept_ids)


def concept_clarity(
    subject: Subject, layer: LayerAtlas, embed: EmbeddingFunction, options: ClarityOptions
) -> ClarityTable:
    """Return the clarity of concepts; see `crp_kit.evaluation.Evaluation.clarity`."""
    ids = (
        list(range(layer.info.n_concepts)) if options.concept_ids is None else [int(one) for one in options.concept_ids]
    )
    embedded = embedded_references(subject, layer, ids, embed, k=options.k, mode="relevance")
    rows = []
    for concept in ids:
        vectors = embedded.vectors[embedded.rows[concept]]
        rows.append((concept, len(vectors), clarity(vectors), polysemanticity(vectors, seed=options.seed)))
    rows.sort(key=lambda row: -np.nan_to_num(row[2], nan=-np.inf))
    generator = np.random.default_rng(options.seed)
    pool = len(embedded.vectors)
    count = min(options.k, pool)
    chance = [clarity(embedded.vectors[generator.choice(pool, count, replace=False)]) for _ in range(_DRAWS)]
    concepts, counts, clear, many = (np.array(column) for column in zip(*rows, strict=True))
    return ClarityTable(concepts, counts, clear, many, layer=layer.name, by_chance=float(np.mean(chance)))
