"""Vectors of concepts that a caller has, and the samples that are predicted right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ...errors import InputError
from ...statistics.arrays import Bools, Floats, finite_rows
from ..query.stored_scores import StoredScores

if TYPE_CHECKING:
    from ...concepts import Aggregate, ChannelConcept

__all__ = ["right_samples", "vectors_of"]


def right_samples(scores: StoredScores) -> Bools:
    """Return which samples have their first target predicted: (sample,)."""
    right: Bools = scores.file.targets == scores.file.predictions
    return right


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
    concept = _channels(scores)
    if tuple(values.shape[1:]) != tuple(scores.info.output_shape):
        sizes = f"{tuple(values.shape[1:])}, and in the atlas {tuple(scores.info.output_shape)}"
        raise InputError(f"the output of {scores.layer!r} has the shape {sizes}: give inputs as the atlas had them")
    aggregate = cast("Aggregate", header.aggregate)
    score = concept.reference(values.detach().cpu().double(), aggregate=aggregate).score
    if header.abs_norm:
        total = score.abs().sum(1, keepdim=True)
        score = score / total.where(total > 0, total.new_ones(()))
    return finite_rows("vectors", score.numpy(), columns=scores.n_concepts)


def _channels(scores: StoredScores) -> ChannelConcept:
    """Return what a concept is in a layer whose concepts are channels."""
    from ...concepts import ChannelConcept

    ndim = len(scores.info.output_shape) + 1
    for concept in map(ChannelConcept, range(1 - ndim, ndim)):
        if scores.info.concept == concept.identity:
            return concept
    raise InputError(
        f"the concepts of {scores.layer!r} are {scores.info.concept}, of which a result has no scores: give an array "
        f"(row, {scores.n_concepts} concepts), such as the concept's attribute() of the recorded relevance"
    )
