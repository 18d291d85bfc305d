"""Layers whose concepts mix channels: their splits under condition sets, and the values of their concepts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ..concepts import Concept, MixedConcept
from ..errors import ConditionError
from ..graph.graph import Ref
from ..numerics import full_float32, working
from ..propagation.coefficients import RowSplit
from ..propagation.run import Run
from .layer_values import find_layer, per_sample, rows_per_sample

__all__ = ["apart_at", "concept_activation", "concept_relevance", "mixed_refs", "row_split"]

Ids = Sequence[Any]


def mixed_refs(run: Run, concepts: Mapping[str, Any]) -> dict[str, Ref]:
    """Return the outputs of the layers whose concepts mix channels, by layer."""
    return {name: find_layer(run, name) for name, concept in concepts.items() if isinstance(concept, MixedConcept)}


def apart_at(run: Run, refs: Iterable[Ref]) -> Run:
    """Return the run in which no BatchNorm that is folded into layers behind it has one of these outputs behind it.

    There, values count as not yet scaled and shifted, and a direction of the output is none of these.
    """
    for ref in refs:
        if any(ref.node in (fold.norm, fold.relu, *fold.between) for fold in run.plan.units.before.values()):
            run = run.cut_at(ref)
    return run


def row_split(
    run: Run, name: str, concept: MixedConcept, concept_ids: Sequence[Sequence[Ids]], *, starts: bool = False
) -> RowSplit:
    """Return the split of a layer's relevance in rows.

    Parameters
    ----------
    run : Run
    name : str
    concept : MixedConcept
        The layer's own.
    concept_ids : sequence of sequence of sequence
        The ids that may pass, by row; by row and sample, or once for all samples of the row.
    starts : bool, optional
        Whether relevance starts here from the layer's own values: it is then the activation of the concepts.

    Raises
    ------
    ConditionError, ConceptRangeError
        If the concept does not fit the layer, or an id is none of its own.
    """
    graph = run.graph
    activation = _activation(run, find_layer(run, name))
    for ids in dict.fromkeys(tuple(ids) for row in concept_ids for ids in row):
        concept.numbers(ids, activation.shape[1:], layer_name=name)

    def passed(coefficients: torch.Tensor, rows: slice) -> torch.Tensor:
        own = [[*row] * (graph.batch // len(row)) for row in concept_ids[rows]]
        split = concept.split(rows_per_sample(graph, coefficients), activation)
        return (split.started(own) if starts else split.passed(own)).reshape(coefficients.shape).to(coefficients.dtype)

    return RowSplit(passed)


def concept_relevance(run: Run, name: str, concept: MixedConcept, coefficients: torch.Tensor) -> torch.Tensor:
    """Return the relevance of a layer's concepts, (row, sample, concept, *position), from coefficients (row, *shape).

    Raises
    ------
    ConditionError
        If gradients flow, which are no relevance of the mean and the rest.
    """
    if run.plan.flow.gradient:
        raise ConditionError(
            f"relevance is divided among the directions of {name!r}, and gradients are none: give a composite for LRP"
        )
    ref, rows = find_layer(run, name), rows_per_sample(run.graph, coefficients)
    activation, stated = _activation(run, ref), per_sample(run.graph, run.activation(ref))
    with _exactly(rows):
        if not concept.has_mean:
            return concept.split(rows, stated).shares()
        shares = concept.split(rows, activation).shares()
    if run.plan.units.norm_behind(run.graph, ref.node) is not None:  # its shift is a constant, as the mean is
        shares[:, :, -2] += (rows * (stated - activation)).sum(concept.channels(activation.ndim, name) + 1)
    return shares


def concept_activation(run: Run, name: str, concept: Concept) -> torch.Tensor:
    """Return what a concept's scores are of: the layer's output, or the activation of each concept that mixes channels.

    Returns
    -------
    torch.Tensor
        (sample, *shape), or (sample, concept, *position).
    """
    ref = find_layer(run, name)
    if isinstance(concept, MixedConcept):
        activation = _activation(run, ref)
        with _exactly(activation):
            return concept.values(activation).detach()
    return per_sample(run.graph, run.recording.value(ref)).detach()


@contextmanager
def _exactly(values: torch.Tensor) -> Iterator[None]:
    """Compute as relevance passes do: in the precision of the values."""
    with torch.autocast(values.device.type, enabled=False), full_float32():
        yield


def _activation(run: Run, ref: Ref) -> torch.Tensor:
    """Return the output of a layer in working precision, (sample, *shape)."""
    return per_sample(run.graph, working(run.recording.value(ref))).detach()
