"""Along which axis each node of a recorded graph keeps its channels, and along which its samples."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from .nodes import Graph, Node, Ref
from .ops import Kind

MIXED = -1
"""Samples lie side by side inside of an axis, with something else around them."""


def batch_axes(graph: Graph) -> Mapping[Ref, int | None]:
    """Return, for each output, the axis along which its samples lie, `MIXED`, or None if that is unknown.

    Windows or heads that are folded into the batch axis behind the samples leave it the first one. A model whose layers
    take (token, batch, channel) has them along axis 1.
    """
    axes: dict[Ref, int | None] = {}
    for node in graph:
        for output, shape in enumerate(node.shapes):
            if shape is not None:
                axes[Ref(node.index, output)] = _batch_axis(graph, node, shape, axes)
    return axes


def _batch_axis(graph: Graph, node: Node, shape: torch.Size, axes: Mapping[Ref, int | None]) -> int | None:
    if node.kind is Kind.INPUT:
        return 0
    sources = [ref for ref in node.inputs if axes.get(ref) is not None]
    if not sources or node.kind is Kind.OPAQUE:
        return None
    source = max(sources, key=lambda ref: math.prod(graph.shape(ref)))
    before, axis = graph.shape(source), axes[source]
    if node.op in ("reshape", "view", "flatten", "unflatten"):
        if axis in (0, MIXED):
            return axis
        moved = _reshaped(before, shape, axis) if axis is not None else None
        return MIXED if moved is None else moved
    if axis == MIXED:
        return MIXED if len(shape) == len(before) else None
    if axis == 0 and len(shape) != len(before) and shape[:1] == before[:1]:
        return 0
    return _moved(node, before, shape, axis)


def channel_axes(graph: Graph) -> Mapping[Ref, int | None]:
    """Return, for each output, the axis along which it keeps its channels (batch axis counted), or None if unknown.

    Convolutions, their norms and poolings keep channels on axis 1, linear layers and layer norms on the last; other
    operations inherit from what they read.
    """
    axes: dict[Ref, int | None] = {}
    for node in graph:
        for output, shape in enumerate(node.shapes):
            if shape is not None:
                axes[Ref(node.index, output)] = _channel_axis(graph, node, shape, axes)
    return axes


def _channel_axis(graph: Graph, node: Node, shape: torch.Size, axes: Mapping[Ref, int | None]) -> int | None:
    if len(shape) < 2:
        return None
    if node.kind in (Kind.INPUT, Kind.OPAQUE):
        return {2: 1, 4: 1, 5: 1}.get(len(shape))
    if node.op in ("linear", "addmm"):
        return len(shape) - 1
    if node.kind is Kind.LINEAR or node.op in ("batch_norm", "group_norm", "instance_norm", "local_response_norm"):
        return 1
    if node.op in ("layer_norm", "rms_norm") and len(node.argument("normalized_shape") or ()) == 1:
        return len(shape) - 1
    if len(shape) == 2:
        return 1
    sources = [ref for ref in node.inputs if axes.get(ref) is not None]
    if not sources:
        return None
    source = max(sources, key=lambda ref: math.prod(graph.shape(ref)))
    return _moved(node, graph.shape(source), shape, axes[source])


def _moved(node: Node, before: torch.Size, after: torch.Size, axis: int | None) -> int | None:
    """Follow an axis through one operation."""
    if axis is None:
        return None
    if node.op in ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT"):
        probe = torch.empty(tuple(range(2, 2 + len(before))), device="meta")
        moved = node.func(probe, *node.args[1:], **node.kwargs)
        return next((i for i, size in enumerate(moved.shape) if size == axis + 2), None)
    if node.op in ("reshape", "view", "flatten", "unflatten"):
        return _reshaped(before, after, axis)
    if len(before) == len(after):
        same = before[axis] == after[axis] or node.op in ("cat", "chunk", "split", "getitem", "narrow", "mul", "add")
        return axis if same else None
    if node.op in ("mean", "sum", "amax", "max", "squeeze", "getitem", "select", "unsqueeze", "cat"):
        kept = [i for i, size in enumerate(after) if size == before[axis]]
        return kept[0] if len(kept) == 1 and before.numel() and list(before).count(before[axis]) == 1 else None
    return None


def _reshaped(before: torch.Size, after: torch.Size, axis: int) -> int | None:
    """Follow an axis through a reshape that leaves it whole: the same elements before it and after it."""
    outer, inner = math.prod(before[:axis]), math.prod(before[axis + 1 :])
    for i, size in enumerate(after):
        if size == before[axis] and math.prod(after[:i]) == outer and math.prod(after[i + 1 :]) == inner:
            return i
    return None
