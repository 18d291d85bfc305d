"""Activation and relevance of a batch at some layers: one forward, one pass that stops at the lowest of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..concepts import Concept, MixedConcept
from ..errors import ConceptRangeError
from ..graph.graph import Ref
from ..numerics import working
from ..propagation.relevance_pass import relevance_pass
from ..propagation.run import Run
from ..targets import Target
from .axes import check_class_output, class_axis, known_class_axis
from .layer_values import recordable, rows_per_sample
from .mixed_layers import apart_at, concept_activation, concept_relevance, mixed_refs
from .start_relevance import StartRelevance

__all__ = ["Choice", "Observation", "Targets", "coefficients_at", "observe"]

Choice = int | Target
"""A class id, or another target."""
Targets = Callable[[torch.Tensor], Sequence[tuple[Choice, ...]]]
"""Function of the model output (sample, class, ...) that returns what the relevance of each sample starts from."""


@dataclass(frozen=True, eq=False)
class Observation:
    """Activation and relevance of a batch at some layers.

    Parameters
    ----------
    prediction : torch.Tensor
        The model's output, its classes along axis 1: (sample, class), or (sample, class, ...); as it is, where
        relevance starts from targets and no axis of it is known to enumerate classes.
    targets : torch.Tensor
        Class ids that relevance started from, or those of other targets: (sample, slot), -1 where a sample has fewer.
    activations : dict
        By layer: (sample, *shape), or (sample, concept, *position) where its concepts mix channels.
    relevances : dict
        By layer: (slot, sample, *shape) or (slot, sample, concept, *position); zero where a sample has no such slot.
    """

    prediction: torch.Tensor
    targets: torch.Tensor
    activations: Mapping[str, torch.Tensor]
    relevances: Mapping[str, torch.Tensor]


def observe(run: Run, targets: Targets, *, concepts: Mapping[str, Concept]) -> Observation:
    """Return activation and relevance of a batch at some layers; the run is used up.

    Where the concepts of a layer mix channels, these are the activation and the relevance of each concept.

    Parameters
    ----------
    run : Run
        The forward of the batch, with the plan of its relevance pass.
    targets : callable
        Chooses, from the model's output, the classes or targets that relevance starts from.
    concepts : dict
        By layer, the layer's own concept.

    Returns
    -------
    Observation

    Raises
    ------
    UnknownLayerError, UnreachableLayerError
        If a layer does not exist, or no relevance arrives there.
    ConceptRangeError
        If a target is no class of the model.
    NonFiniteRelevanceError
        If relevance becomes infinite or not-a-number.
    """
    start = run.graph.output
    refs = recordable(run, concepts, start)
    run = apart_at(run, mixed_refs(run, concepts).values())
    by_class = _by_class(run)
    chosen = targets(by_class)
    classes = {choice for sample in chosen for choice in sample if not isinstance(choice, Target)}
    if classes:
        _check(classes, run.graph.shape(start)[class_axis(run)])
    return Observation(
        by_class,
        _class_ids(chosen).to(by_class.device),
        {name: concept_activation(run, name, concept) for name, concept in concepts.items()},
        _relevances(run, refs, chosen, concepts),
    )


def coefficients_at(run: Run, targets: Targets, *, layer: str) -> torch.Tensor:
    """Return the coefficients of a layer's relevance from the first target of each sample, (sample, *shape).

    Parameters
    ----------
    run : Run
        The forward of the batch, under rules for LRP.
    targets : callable
        Chooses, from the model's output, the classes or targets that relevance starts from.
    layer : str

    Returns
    -------
    torch.Tensor
        What the activation is multiplied with to give the relevance.

    Raises
    ------
    UnknownLayerError, UnreachableLayerError
        If the layer does not exist, or no relevance arrives there.
    ConditionError
        If the relevance is no multiple of the activation.
    """
    ref = recordable(run, [layer], run.graph.output)[layer]
    run = apart_at(run, [ref])
    start, chosen = StartRelevance(run, run.graph.output), targets(_by_class(run))
    passed = relevance_pass(
        run,
        run.graph.output,
        start.seeds([[sample[:1] for sample in chosen]]),
        rows=torch.zeros(1, dtype=torch.long, device=start.values.device),
        masks={},
        coefficients=[ref],
        to_input=False,
        again=False,
    )
    return rows_per_sample(run.graph, passed.coefficients[ref])[0]


def _by_class(run: Run) -> torch.Tensor:
    """Return the output, (sample, class, ...) where it has an axis of classes."""
    output, axis = working(run.recording.value(run.graph.output)).detach(), known_class_axis(run)
    if output.shape == (run.graph.batch,):  # one number for each sample
        return output[:, None]
    check_class_output(run)
    return output if axis is None else output.movedim(axis, 1)


def _class_ids(chosen: Sequence[tuple[Choice, ...]]) -> torch.Tensor:
    """Return class ids, (sample, slot), -1 where a sample has fewer."""
    slots = max(map(len, chosen), default=0)
    # Samples of a target without a class count together, under the first id.
    ids = [
        [(choice.class_number or 0) if isinstance(choice, Target) else choice for choice in sample] for sample in chosen
    ]
    padded = [[*sample, *[-1] * (slots - len(sample))] for sample in ids]
    return torch.tensor(padded, dtype=torch.long).reshape(len(chosen), slots)


def _check(chosen: Collection[int], classes: int) -> None:
    wrong = sorted(cls for cls in chosen if not -1 <= cls < classes)
    if wrong:
        raise ConceptRangeError("y", wrong, classes, what="class")


def _relevances(
    run: Run, refs: Mapping[str, Ref], chosen: Sequence[tuple[Choice, ...]], concepts: Mapping[str, Concept]
) -> dict[str, torch.Tensor]:
    """Return relevance by layer, (slot, sample, ...), from what each sample starts from."""
    start, count = StartRelevance(run, run.graph.output), max(map(len, chosen), default=0)
    mixed = mixed_refs(run, concepts)
    if not count:
        return {
            name: start.values.new_zeros((0, *concept_activation(run, name, concept).shape))
            for name, concept in concepts.items()
        }
    seeds = start.seeds([[sample[slot : slot + 1] for sample in chosen] for slot in range(count)])
    passed = relevance_pass(
        run,
        run.graph.output,
        seeds,
        rows=torch.arange(count, device=seeds.device),
        masks={},
        record=[ref for name, ref in refs.items() if name not in mixed],
        coefficients=list(mixed.values()),
        to_input=False,
        again=False,
    )
    return {
        name: concept_relevance(run, name, concept, passed.coefficients[refs[name]])
        if isinstance(concept, MixedConcept)
        else rows_per_sample(run.graph, passed.recorded[refs[name]])
        for name, concept in concepts.items()
    }
