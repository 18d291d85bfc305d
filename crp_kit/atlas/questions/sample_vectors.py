"""Rows of an atlas's matrix: those of a selection, of a class, or of vectors that a caller has."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ...concepts import Aggregate, ChannelConcept
from ...errors import InputError
from ...result_table import Column
from ...statistics.arrays import Bools, Floats, finite_rows
from ..query.selection import Selection, looked_at
from ..query.stored_scores import StoredScores

__all__ = ["chosen_samples", "matrix_rows", "right_samples", "vectors_of"]

_ROWS_AT_ONCE = 4096


def chosen_samples(scores: StoredScores, where: Selection | None) -> Bools:
    """Return which samples take part, those of a selection or all that the build looked at: (sample,).

    A sample without a target has no relevance, and takes no part in what is asked of that.
    """
    mask = looked_at(scores.file)
    if scores.mode == "relevance":
        mask = mask & (scores.file.targets >= 0)
    if where is None:
        return mask
    where.check_belongs(scores.file)
    return mask & where.mask


def right_samples(scores: StoredScores) -> Bools:
    """Return which samples have their first target predicted: (sample,)."""
    right: Bools = scores.file.targets == scores.file.predictions
    return right


def matrix_rows(scores: StoredScores, mask: Bools) -> Column:
    """Return the scores of some samples, (row, concept), as the file stores them; no more is read at once."""
    matrix, numbers = scores.matrix, np.flatnonzero(mask)
    rows = np.empty((len(numbers), scores.n_concepts), np.float32)
    filled = 0
    for start in range(0, len(mask), _ROWS_AT_ONCE):
        inside = numbers[(numbers >= start) & (numbers < start + _ROWS_AT_ONCE)]
        if len(inside):
            rows[filled : filled + len(inside)] = matrix[inside]
            filled += len(inside)
    return rows


def vectors_of(scores: StoredScores, vectors: Any) -> Floats:
    """Return vectors of a caller as (row, concept): an array, or what an attribution recorded at the layer.

    Raises
    ------
    InputError
        If they do not fit the layer.
    """
    field = "relevances" if scores.mode == "relevance" else "activations"
    if not hasattr(vectors, field):
        return finite_rows("vectors", vectors, columns=scores.n_concepts)
    recorded = getattr(vectors, field)
    if scores.layer not in recorded:
        raise InputError(
            f"the result has no {scores.mode} of {scores.layer!r}; record_layer=[{scores.layer!r}] records"
        )
    values, header = recorded[scores.layer], scores.file.header
    concept = ChannelConcept(_channel_axis(scores))
    if tuple(values.shape[1:]) != tuple(scores.info.output_shape):
        sizes = f"{tuple(values.shape[1:])}, and in the atlas {tuple(scores.info.output_shape)}"
        raise InputError(f"the output of {scores.layer!r} has the shape {sizes}: give inputs as the atlas had them")
    aggregate = cast(Aggregate, header.aggregate)
    score = concept.reference(values.detach().cpu().double(), aggregate=aggregate).score
    if header.abs_norm:
        total = score.abs().sum(1, keepdim=True)
        score = score / total.where(total > 0, total.new_ones(()))
    return finite_rows("vectors", score.numpy(), columns=scores.n_concepts)


def _channel_axis(scores: StoredScores) -> int:
    """Return the channel axis of a layer whose concepts are channels."""
    ndim = len(scores.info.output_shape) + 1
    axes = [axis for axis in range(1 - ndim, ndim) if scores.info.concept == ChannelConcept(axis).identity]
    if axes:
        return axes[0]
    raise InputError(
        f"the concepts of {scores.layer!r} are {scores.info.concept}, of which a result has no scores: give an array "
        f"(row, {scores.n_concepts} concepts), such as the concept's attribute() of the recorded relevance"
    )
