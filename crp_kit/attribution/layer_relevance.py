"""Activation and relevance of a batch at some layers: one forward, one pass that stops at the lowest of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..errors import ConceptRangeError
from ..graph.graph import Ref
from ..numerics import working
from ..propagation.relevance_pass import relevance_pass
from ..propagation.run import Run
from .axes import check_class_output, class_axis
from .layer_values import per_sample, recordable, rows_per_sample
from .start_relevance import StartRelevance

__all__ = ["Observation", "Targets", "observe"]

Targets = Callable[[torch.Tensor], torch.Tensor]
"""Function of the model output (sample, class, ...) that returns class ids (sample, slot), -1 for none."""


@dataclass(frozen=True, eq=False)
class Observation:
    """Activation and relevance of a batch at some layers.

    Parameters
    ----------
    prediction : torch.Tensor
        The model's output, its classes along axis 1: (sample, class), or (sample, class, ...).
    targets : torch.Tensor
        Class ids that relevance started from: (sample, slot), -1 where a sample has fewer.
    activations : dict
        By layer: (sample, *shape).
    relevances : dict
        By layer: (slot, sample, *shape); zero where a sample has no such slot.
    """

    prediction: torch.Tensor
    targets: torch.Tensor
    activations: Mapping[str, torch.Tensor]
    relevances: Mapping[str, torch.Tensor]


def observe(run: Run, targets: Targets, *, layers: Sequence[str]) -> Observation:
    """Return activation and relevance of a batch at some layers; the run is used up.

    Parameters
    ----------
    run : Run
        The forward of the batch, with the plan of its relevance pass.
    targets : callable
        Chooses, from the model's output, the classes that relevance starts from.
    layers : sequence of str

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
    refs = recordable(run, layers, start)
    check_class_output(run)
    by_class = working(run.recording.value(start)).detach().movedim(class_axis(run), 1)
    chosen = targets(by_class)
    _check(chosen, by_class.shape[1])
    return Observation(
        by_class,
        chosen,
        {name: per_sample(run.graph, run.recording.value(ref)).detach() for name, ref in refs.items()},
        _relevances(run, refs, chosen),
    )


def _check(targets: torch.Tensor, classes: int) -> None:
    wrong = targets[(targets < -1) | (targets >= classes)]
    if len(wrong):
        raise ConceptRangeError("y", sorted(set(wrong.tolist())), classes, what="class")


def _relevances(run: Run, refs: Mapping[str, Ref], targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return relevance by layer, (slot, sample, *shape), from class ids (sample, slot)."""
    start = StartRelevance(run, run.graph.output)
    if not targets.shape[1]:
        shapes = {name: (0, run.graph.batch, *run.graph.sample_shape(ref)) for name, ref in refs.items()}
        return {name: start.values.new_zeros(shape) for name, shape in shapes.items()}
    slots = targets.T.tolist()
    seeds = start.seeds([[(cls,) if cls >= 0 else () for cls in slot] for slot in slots])
    rows = torch.arange(len(slots), device=seeds.device)
    passed = relevance_pass(
        run, run.graph.output, seeds, rows=rows, masks={}, record=list(refs.values()), to_input=False, again=False
    )
    return {name: rows_per_sample(run.graph, passed.recorded[ref]) for name, ref in refs.items()}
