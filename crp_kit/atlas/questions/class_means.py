"""Concepts of every class: mean scores, and how often a concept is among the strongest of a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...checks import check_integer
from ...errors import InputError
from ...statistics.intervals import check_confidence, mean_interval, wilson_interval
from ...statistics.moments import GroupMoments, moments_by_group
from ...statistics.top_concepts import among_top
from ..query.selection import Mask, Selection, where_words
from ..query.stored_scores import StoredScores
from .class_tables import ClassMeans, ClassPresence
from .groups import origin_words
from .matrix_rows import row_blocks, score_matrix, scored
from .stored_moments import stored_moments

__all__ = ["class_means", "class_presence"]

Array = npt.NDArray[Any]


def class_means(scores: StoredScores, confidence: float = 0.95, where: Selection | None = None) -> ClassMeans:
    """Return the mean score of every concept in every class; see `ScoreAtlas.class_means`."""
    check_confidence(confidence)
    scores.file.check_classes("means by class")
    classes, moments = stored_moments(scores) if where is None else _selected_moments(scores, where)
    if not len(classes):
        raise InputError(f"means are of classes, and no sample of {scores.file.path} has one")
    low, high = mean_interval(moments.count[:, None], moments.mean, moments.std, confidence=confidence)
    cls, concept, count = _rows(classes, moments.count, scores.n_concepts)
    columns = (cls, concept, count, moments.mean.ravel(), low.ravel(), high.ravel())
    return ClassMeans(*columns, scores, origin_words(scores) + where_words(where), scores.file.classes)


def class_presence(
    scores: StoredScores, m: int = 5, confidence: float = 0.95, where: Selection | None = None
) -> ClassPresence:
    """Return in how many samples of every class a concept is strong; see `ScoreAtlas.class_presence`."""
    m, concepts = check_integer("m", m, low=1, high=scores.n_concepts), scores.n_concepts
    check_confidence(confidence)
    scores.file.check_classes("fractions by class")
    matrix = score_matrix(scores, "how often a concept is among the strongest")
    mask, classes, group = _classes(scores, where)
    hits = np.zeros(len(classes) * concepts, np.int64)
    for numbers, values in row_blocks(matrix, mask):
        sample, concept = np.nonzero(among_top(values, m))
        hits += np.bincount(group[numbers][sample] * concepts + concept, minlength=len(hits))
    cls, concept, count = _rows(classes, np.bincount(group[mask], minlength=len(classes)), concepts)
    low, high = wilson_interval(hits, count, confidence=confidence)
    columns = (cls, concept, count, hits, hits / count, low, high)
    return ClassPresence(*columns, scores, origin_words(scores) + where_words(where), scores.file.classes, m)


def _selected_moments(scores: StoredScores, where: Selection) -> tuple[Array, GroupMoments]:
    """Return the classes of the chosen samples, and their moments from the matrix."""
    matrix = score_matrix(scores, "a selection of samples")
    mask, classes, group = _classes(scores, where)
    blocks = ((group[numbers], values) for numbers, values in row_blocks(matrix, mask))
    return classes, moments_by_group(blocks, len(classes), scores.n_concepts)


def _classes(scores: StoredScores, where: Selection | None) -> tuple[Mask, Array, Array]:
    """Return the samples that have a class, the classes, and for each sample the index of its class among them."""
    mask = scored(scores, where) & (scores.file.targets >= 0)
    if not mask.any():
        raise InputError(f"no sample of {scores.file.path} that counts has a class{where_words(where)}")
    classes = np.unique(scores.file.targets[mask])
    return mask, classes, np.searchsorted(classes, scores.file.targets)


def _rows(classes: Array, count: Array, concepts: int) -> tuple[Array, Array, Array]:
    """Return class, concept and number of samples of each row, all concepts of the first class first."""
    cls, samples = np.repeat(classes, concepts), np.repeat(count, concepts)
    return cls, np.tile(np.arange(concepts), len(classes)), samples
