"""The layers of a run by name: checked for relevance, their channels located, their values one entry per sample."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch

from ..concepts import ChannelConcept
from ..conditions import OUTPUT
from ..errors import ConceptAxisError, ConditionError, InputError, UnreachableLayerError
from ..graph.axes.feature_axis import NO_AXIS, feature_axis
from ..graph.axes.output_axes import MIXED
from ..graph.graph import Graph, Ref
from ..graph.operations import Kind
from ..propagation.run import Run

__all__ = [
    "channel_concept",
    "class_axis",
    "find_layer",
    "heatmap_axis",
    "is_folded",
    "main_input",
    "per_class",
    "per_sample",
    "recordable",
    "rows_per_sample",
]


def find_layer(run: Run, name: str) -> Ref:
    """Return the output that a name means, ``"y"`` included, whose first axis holds the samples.

    Raises
    ------
    UnknownLayerError
        If there is no such name.
    ConditionError
        If its samples lie along another axis, so that they could be mixed up.
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
    """Return the output of each layer, in the order given.

    Raises
    ------
    UnknownLayerError
        If there is no such layer.
    UnreachableLayerError
        If no relevance from the start can arrive there.
    """
    found = {name: find_layer(run, name) for name in names}
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
    return rows_per_sample(graph, value[None])[0]


def rows_per_sample(graph: Graph, rows: torch.Tensor) -> torch.Tensor:
    """Return rows of values, (row, *shape), as (row, sample, ...)."""
    return rows if rows.shape[1] == graph.batch else rows.reshape(len(rows), graph.batch, -1, *rows.shape[2:])


def channel_concept(run: Run, name: str) -> ChannelConcept:
    """Return the concept of a layer's channels, along the axis that the graph knows, for values as of `per_sample`.

    Raises
    ------
    ConceptAxisError
        If the graph cannot tell the axis.
    """
    ref = find_layer(run, name)
    axis = run.channel_axes.get(ref)
    if axis is None:
        raise ConceptAxisError(
            f"the graph cannot tell which axis of {name!r} (shape {tuple(run.graph.shape(ref))}) enumerates its "
            f"channels; name it by a concept of your own, such as {{{name!r}: ChannelConcept(axis=...)}}"
        )
    return ChannelConcept(axis=axis + 1 if is_folded(run.graph, ref) else axis)


def class_axis(run: Run) -> int:
    """Return the axis of the model's output that enumerates its classes, the batch axis counted.

    It is the one that the attribution was made with (``class_axis=``); otherwise axis 1 of (sample, class), and of an
    output with more axes the channel axis that the graph knows.

    Raises
    ------
    ConceptAxisError
        If the graph does not know it, or there is no such axis.
    """
    shape, chosen = tuple(run.graph.shape(run.graph.output)), run.chosen.classes
    if chosen is not None:
        return _counted("class_axis", chosen, shape, what="the model's output")
    known = 1 if len(shape) == 2 else run.channel_axes.get(run.graph.output)
    if len(shape) < 2 or not known:
        raise ConceptAxisError(
            f"which axis of the model's output, of shape {shape}, enumerates its classes is not known: name it with "
            f"CondAttribution(model, class_axis=...), choose a part with output=..., or name single neurons with "
            f"mask_map={{'y': NeuronConcept()}}"
        )
    return known


def per_class(output: torch.Tensor, axis: int) -> torch.Tensor:
    """Return one number for each class, (sample, class), the sum over places if an output has any."""
    return output.movedim(axis, 1).flatten(2).sum(2) if output.ndim > 2 else output


def heatmap_axis(run: Run, source: Ref) -> int | None:
    """Return the axis of an input over which its heatmap is the sum, its channels or features; None if there is none.

    It is the one that the attribution was made with (``feature_axis=``); otherwise the one that the graph knows. Of an
    input with four axes or more, which nothing in the graph contradicts, it is that of torch's images: axis 1.

    Raises
    ------
    ConceptAxisError
        If the graph does not know the axis of an input (sample, a, b), or there is no such axis.
    """
    shape, chosen = tuple(run.graph.shape(source)), run.chosen.features
    if chosen == "none":
        return None
    if chosen is not None:
        return _counted("feature_axis", chosen, shape, what=f"the input {run.graph.label(source)!r}")
    if run.graph.node(source).kwargs["embedded"]:
        return len(shape) - 1
    if len(shape) < 3:
        return None
    known = feature_axis(run.graph, source)
    if known is None and len(shape) == 3:
        raise ConceptAxisError(
            f"which axis of the input {run.graph.label(source)!r}, of shape {shape}, holds its features is not known, "
            f"and a heatmap is the sum over it: say CondAttribution(model, feature_axis=-1) for (batch, token, feature)"
            f", feature_axis=1 for (batch, channel, length), or feature_axis='none' for relevance that is not summed"
        )
    return 1 if known is None else None if known == NO_AXIS else known


def _counted(name: str, axis: int, shape: tuple[int, ...], *, what: str) -> int:
    """Return an axis counted from the front, if it is one behind the batch axis."""
    counted = axis + len(shape) if axis < 0 else axis
    if not 1 <= counted < len(shape):
        raise ConceptAxisError(
            f"{name}={axis} is no axis of {what}, whose shape is {shape}: it is one of those behind the batch axis, "
            f"1 to {len(shape) - 1} or -1"
        )
    return counted
