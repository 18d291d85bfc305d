"""The layers of a run by name: checked for relevance, their channels located, their values one entry per sample."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from .concepts import ChannelConcept
from .engine import Run
from .errors import ConceptAxisError, UnreachableLayerError
from .graph.nodes import Graph, Ref

__all__ = ["channel_concept", "is_folded", "per_sample", "recordable"]


def recordable(run: Run, names: Iterable[str], start: Ref) -> dict[str, Ref]:
    """Return the output of each layer, in the order given.

    Raises
    ------
    UnknownLayerError
        If there is no such layer.
    UnreachableLayerError
        If no relevance from the start can arrive there.
    """
    found = {name: run.graph.find(name) for name in names}
    reached = run.plan.flow.from_start(start)
    for name, ref in found.items():
        if ref not in reached:
            raise UnreachableLayerError(
                f"no relevance can arrive at {name!r}, so there is nothing to record: it lies behind the start "
                f"({run.graph.label(start)!r}), beside it, or inside a gate (a factor of a signal)"
            )
    return found


def is_folded(graph: Graph, ref: Ref) -> bool:
    """Return whether an output folds windows or heads into its batch axis."""
    return len(graph.sample_shape(ref)) == len(graph.shape(ref))


def per_sample(graph: Graph, value: torch.Tensor) -> torch.Tensor:
    """Return a value with the batch as its first axis, folded windows or heads behind it."""
    return value if value.shape[0] == graph.batch else value.reshape(graph.batch, -1, *value.shape[1:])


def channel_concept(run: Run, name: str) -> ChannelConcept:
    """Return the concept of a layer's channels, along the axis that the graph knows, for values as of `per_sample`.

    Raises
    ------
    ConceptAxisError
        If the graph cannot tell the axis.
    """
    ref = run.graph.find(name)
    axis = run.channel_axes.get(ref)
    if axis is None:
        raise ConceptAxisError(
            f"the graph cannot tell which axis of {name!r} (shape {tuple(run.graph.shape(ref))}) enumerates its "
            f"channels; name it by a concept of your own, such as {{{name!r}: ChannelConcept(axis=...)}}"
        )
    return ChannelConcept(axis=axis + 1 if is_folded(run.graph, ref) else axis)
