"""Layers of a run by name: their outputs, whether relevance arrives there, and their values one entry per sample."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch

from ..conditions import OUTPUT
from ..errors import ConditionError, InputError, UnreachableLayerError
from ..graph.axes.output_axes import MIXED
from ..graph.graph import Graph, Ref
from ..graph.operations import Kind
from ..propagation.run import Run

__all__ = [
    "find_layer",
    "is_folded",
    "main_input",
    "per_sample",
    "recordable",
    "rows_per_sample",
]


def find_layer(run: Run, name: str) -> Ref:
    """Return the output that a name means, ``"y"`` included; its first axis holds the samples.

    Raises
    ------
    UnknownLayerError
        If there is no such name.
    ConditionError
        If its samples are along another axis than the first, so that they could be mixed up.
    """
    ref = run.graph.output if name == OUTPUT else run.graph.find(name)
    if ref.node not in _of_samples(run.graph):
        raise ConditionError(
            f"{name!r} depends only on inputs that belong to all samples alike, so that it has no relevance of a "
            f"sample: it can be neither conditioned nor recorded"
        )
    axis = run.batch_axes.get(ref)
    if run.graph.batch > 1 and axis not in (0, None):
        where = "inside of an axis" if axis == MIXED else f"along axis {axis}"
        raise ConditionError(
            f"{name!r} has its samples {where} of its output of shape {tuple(run.graph.shape(ref))}, not along the "
            f"first one: attribute one sample at a time, or make the model with batch_first=True"
        )
    return ref


def main_input(graph: Graph) -> Ref:
    """Return the input of which heatmaps are: the first one that has an entry for each sample."""
    inputs = [node for node in graph if node.kind is Kind.INPUT and not node.kwargs["shared"]]
    if not inputs:
        raise InputError("no input with an entry for each sample is floating point, so that none can carry relevance")
    return Ref(min(inputs, key=lambda node: int(node.kwargs["order"])).index)


def _of_samples(graph: Graph) -> Collection[int]:
    """Return the nodes that depend on an input with an entry for each sample."""
    inputs = [node for node in graph if node.kind is Kind.INPUT]
    if not any(node.kwargs["shared"] for node in inputs):
        return range(len(graph))
    depending = {node.index for node in inputs if not node.kwargs["shared"]}
    for node in graph:
        if any(ref.node in depending for ref in node.inputs):
            depending.add(node.index)
    return depending


def recordable(run: Run, names: Iterable[str], start: Ref) -> dict[str, Ref]:
    """Return the output of each layer, in the order of the names.

    Raises
    ------
    UnknownLayerError
        If there is no such layer.
    UnreachableLayerError
        If no relevance from the start can arrive there.
    """
    refs = {name: find_layer(run, name) for name in names}
    reached = run.plan.flow.from_start(start)
    for name, ref in refs.items():
        if ref not in reached:
            raise UnreachableLayerError(
                f"no relevance can arrive at {name!r}, so there is nothing to record: it lies behind the start "
                f"({run.graph.label(start)!r}), beside it, or inside a gate (a factor of a signal)"
            )
    return refs


def is_folded(graph: Graph, ref: Ref) -> bool:
    """Return whether an output folds windows or heads into its batch axis."""
    return len(graph.sample_shape(ref)) == len(graph.shape(ref))


def per_sample(graph: Graph, value: torch.Tensor) -> torch.Tensor:
    """Return a value with the batch as its first axis, folded windows or heads behind it."""
    return rows_per_sample(graph, value[None])[0]


def rows_per_sample(graph: Graph, rows: torch.Tensor) -> torch.Tensor:
    """Return rows of values, (row, *shape), as (row, sample, ...)."""
    return rows if rows.shape[1] == graph.batch else rows.reshape(len(rows), graph.batch, -1, *rows.shape[2:])
