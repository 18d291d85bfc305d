"""What a batch of samples shows at some layers: one forward, one relevance pass that stops at the lowest of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..concepts import ChannelConcept, Concept
from ..errors import ConceptRangeError, ConditionError
from ..graph.graph import Ref
from ..numerics import working
from ..propagation.engine import Engine
from ..propagation.relevance_pass import relevance_pass
from ..propagation.run import Run
from ..rules.presets import Composite
from .layer_values import channel_concept, class_axis, per_sample, recordable, rows_per_sample

__all__ = ["Observation", "Targets", "observe"]

Targets = Callable[[torch.Tensor], torch.Tensor]
"""From the model output (sample, class, ...) to class ids (sample, slot), -1 where a sample has fewer."""


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


def observe(
    engine: Engine, data: Any, targets: Targets, *, composite: Composite | None, layers: Sequence[str]
) -> Observation:
    """Return what a batch shows at some layers.

    Parameters
    ----------
    engine : Engine
    data : torch.Tensor
        Model inputs, (sample, ...).
    targets : callable
        Chooses, from the model's output, the classes that relevance starts from.
    composite : zennit Composite or None
    layers : sequence of str

    Raises
    ------
    UnknownLayerError, UnreachableLayerError
        If a layer does not exist, or no relevance arrives there.
    ConceptRangeError
        If a target is no class of the model.
    NonFiniteRelevanceError
        If relevance becomes infinite or not-a-number.
    """
    run = engine.run(data, composite)
    start = run.graph.output
    refs = recordable(run, layers, start)
    output = working(run.recording.value(start))
    if output.ndim < 2 or output.shape[0] != run.graph.batch:
        raise ConditionError(
            f"the model's output has shape {tuple(output.shape)}; (sample, class) is needed: choose with output=..."
        )
    by_class = output.detach().movedim(class_axis(run), 1)
    chosen = targets(by_class)
    _check(chosen, by_class.shape[1])
    return Observation(
        by_class,
        chosen,
        {name: per_sample(run.graph, run.recording.value(ref)).detach() for name, ref in refs.items()},
        _relevances(run, refs, chosen, by_class),
    )


def layer_concepts(
    run: Run, layers: Sequence[str], concepts: Concept | Mapping[str, Concept] | None
) -> dict[str, Concept]:
    """Return the concept of each layer: the one given, or its channels along the axis that the graph knows."""
    found: dict[str, Concept] = {}
    for name in layers:
        given = concepts.get(name) if isinstance(concepts, Mapping) else concepts
        plain = given is None or given == ChannelConcept()
        found[name] = channel_concept(run, name) if plain or given is None else given
    return found


def _check(targets: torch.Tensor, classes: int) -> None:
    wrong = targets[(targets < -1) | (targets >= classes)]
    if len(wrong):
        raise ConceptRangeError("y", sorted(set(wrong.tolist())), classes, what="class")


def _relevances(
    run: Run, refs: Mapping[str, Ref], targets: torch.Tensor, output: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return relevance by layer, (slot, sample, *shape), of an output with its classes along axis 1."""
    slots = targets.T  # (slot, sample)
    if not len(slots):
        shapes = {name: (0, run.graph.batch, *run.graph.sample_shape(ref)) for name, ref in refs.items()}
        return {name: output.new_zeros(shape) for name, shape in shapes.items()}
    chosen = torch.zeros((*slots.shape, output.shape[1]), dtype=output.dtype, device=output.device)
    chosen.scatter_(2, slots.clamp_min(0)[..., None], (slots >= 0).to(output.dtype)[..., None])
    seeds = (output * chosen.reshape(*chosen.shape, *(1,) * (output.ndim - 2))).movedim(2, class_axis(run) + 1)
    rows = torch.arange(len(slots), device=output.device)
    passed = relevance_pass(
        run, run.graph.output, seeds, rows=rows, masks={}, record=list(refs.values()), to_input=False, again=False
    )
    return {name: rows_per_sample(run.graph, passed.recorded[ref]) for name, ref in refs.items()}
