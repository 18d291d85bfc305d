"""Samples of each class with their vectors, and scores of the class's samples by fits without them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...errors import InputError
from ...statistics.arrays import Bools, Floats, Integers
from ...statistics.prototypes import HeldOut, held_out_scores
from ..query.stored_scores import StoredScores
from .matrix_rows import score_rows
from .sample_vectors import right_samples

__all__ = ["held_out_of", "rows_by_class"]


def rows_by_class(scores: StoredScores, mask: Bools) -> Iterator[tuple[int, Integers, Bools, Floats]]:
    """Yield each class with its rows among all samples, which of them are predicted right, and their vectors.

    Without classes all samples are one group, of the number -1, in which none is wrong.
    """
    targets, right = scores.file.targets, right_samples(scores)
    if not scores.file.has_classes:
        targets, right = np.full_like(targets, -1), np.ones_like(right)
    chosen = np.flatnonzero(mask)
    vectors = score_rows(scores, mask)
    order = np.argsort(targets[chosen], kind="stable")
    classes, starts = np.unique(targets[chosen][order], return_index=True)
    for number, part in zip(classes.tolist(), np.split(order, starts)[1:], strict=True):
        rows = chosen[part]
        yield number, rows, right[rows], vectors[part].astype(np.float64)


def held_out_of(values: Floats, features: int, seed: int) -> HeldOut | None:
    """Return held-out scores; ``None`` for too few rows, or rows that differ too little for that."""
    try:
        return held_out_scores(values, features=features, seed=seed)
    except InputError:
        return None
