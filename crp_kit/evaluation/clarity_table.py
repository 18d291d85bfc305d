"""Clarity of concepts, from a user's embedding of their reference samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ..atlas.query.layer_atlas import LayerAtlas
from ..atlas.query.reference_maps import check_origin, reference_sample
from ..attribution.subject import Subject
from ..checks import check_integer
from ..errors import InputError
from ..result_table import Column, Table, not_a_column
from ..statistics.clarity import clarity, polysemanticity
from .sample_choice import check_concept_ids

__all__ = ["ClarityTable", "EmbeddingFunction", "concept_clarity"]

Floats = npt.NDArray[np.float64]
EmbeddingFunction: TypeAlias = Callable[[list[torch.Tensor]], Any]
"""From images as the dataset gives them, (channel, height, width) each, to embeddings (image, feature)."""
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
    check_origin(layer.file, subject)
    ids = (
        list(range(layer.info.n_concepts)) if options.concept_ids is None else [int(one) for one in options.concept_ids]
    )
    samples = {concept: layer.relevance.top(concept, options.k).sample.tolist() for concept in ids}
    wanted = sorted({number for numbers in samples.values() for number in numbers})
    embedded = _embedded(subject, wanted, embed)
    rows = []
    for concept in ids:
        vectors = embedded[np.searchsorted(wanted, samples[concept])]
        rows.append((concept, len(vectors), clarity(vectors), polysemanticity(vectors, seed=options.seed)))
    rows.sort(key=lambda row: -np.nan_to_num(row[2], nan=-np.inf))
    generator = np.random.default_rng(options.seed)
    count = min(options.k, len(wanted))
    chance = [clarity(embedded[generator.choice(len(wanted), count, replace=False)]) for _ in range(_DRAWS)]
    concepts, counts, clear, many = (np.array(column) for column in zip(*rows, strict=True))
    return ClarityTable(concepts, counts, clear, many, layer=layer.name, by_chance=float(np.mean(chance)))


def _embedded(subject: Subject, numbers: Sequence[int], embed: EmbeddingFunction) -> Floats:
    """Return the embeddings of samples, (sample, feature)."""
    images = [reference_sample(subject.samples, number) for number in numbers]
    try:
        vectors = embed(images)
        vectors = vectors.detach().cpu().numpy() if isinstance(vectors, torch.Tensor) else vectors
        array = np.asarray(vectors, np.float64)
    except Exception as error:  # of the user's own
        raise InputError(f"the embedding function fails: {type(error).__name__}: {error}") from error
    if array.ndim != 2 or len(array) != len(images):
        raise InputError(f"embeddings of {len(images)} images are ({len(images)}, feature); got shape {array.shape}")
    return array
