"""Along which axis each node of a recorded graph keeps its channels, and along which its samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch

from .nodes import Graph, Node, Ref
from .ops import Kind
from .tree import leaves

_RESHAPES = frozenset({"reshape", "view", "flatten", "unflatten"})
_MOVES = frozenset({"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT"})
MIXED = -1
"""Samples lie side by side inside of an axis, with something else around them."""


def batch_axes(graph: Graph) -> Mapping[Ref, int | None]:
    """Return, for each output, the axis along which its samples lie, `MIXED`, or None if that is unknown.

    Windows or heads that are folded into the batch axis behind the samples leave it the first one. A model whose layers
    take (token, batch, channel) has them along axis 1.
    """
    places: dict[Ref, _Place | None] = {}
    for node in graph:
        for output, shape in enumerate(node.shapes):
            if shape is not None:
                places[Ref(node.index, output)] = _batch_place(graph, node, shape, places)
    return {ref: place and place.as_axis(graph.shape(ref), graph.batch) for ref, place in places.items()}


class _Place(NamedTuple):
    """Where samples lie: along an axis, the next sample `step` places further on."""

    axis: int
    step: int = 1

    def as_axis(self, shape: torch.Size, batch: int) -> int:
        """Return the axis if samples have it for themselves, or lie in front there."""
        alone = shape[self.axis] == batch
        return self.axis if alone or (self.axis == 0 and shape[0] == batch * self.step) else MIXED


def _batch_place(graph: Graph, node: Node, shape: torch.Size, places: Mapping[Ref, _Place | None]) -> _Place | None:
    if node.kind is Kind.INPUT:
        return _Place(0) if shape[:1] == (graph.batch,) and not node.kwargs["shared"] else None
    sources = [ref for ref in node.inputs if places.get(ref) is not None]
    if not sources or node.kind is Kind.OPAQUE:
        return None
    source = max(sources, key=lambda ref: math.prod(graph.shape(ref)))
    before, place = graph.shape(source), places[source]
    assert place is not None
    if node.op in _RESHAPES:
        return _reshaped_place(before, shape, place, graph.batch)
    if place == (0, 1) and len(shape) != len(before) and shape[:1] == before[:1]:
        return place
    axis = _moved(node, before, shape, place.axis)
    return None if axis is None else _Place(axis, place.step)


def _reshaped_place(before: torch.Size, after: torch.Size, place: _Place, batch: int) -> _Place | None:
    """Follow samples through a reshape, where as many elements as before lie between one sample and the next."""
    stride = place.step * math.prod(before[place.axis + 1 :])
    for axis in range(len(after)):
        inner = math.prod(after[axis + 1 :])
        if stride % inner == 0 and (inner * after[axis]) % (stride * batch) == 0:
            return _Place(axis, stride // inner)
    return None


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
    if node.op in _MOVES:
        return _longer(node, before, axis)
    if node.op in _RESHAPES:
        return _reshaped(before, after, axis)
    if len(before) == len(after):
        same = before[axis] == after[axis] or node.op in ("cat", "chunk", "split", "getitem", "narrow", "mul", "add")
        return axis if same else None
    if node.op in ("squeeze", "getitem", "select", "unsqueeze", "unbind"):
        return _longer(node, before, axis)
    if node.op in ("mean", "sum", "amax", "max", "cat"):
        kept = [i for i, size in enumerate(after) if size == before[axis]]
        return kept[0] if len(kept) == 1 and before.numel() and list(before).count(before[axis]) == 1 else None
    return None


def _longer(node: Node, before: torch.Size, axis: int) -> int | None:
    """Follow an axis by what becomes longer when it is: the call is repeated without values."""
    options = (node.args[1:], node.kwargs)
    if any(isinstance(one, (Ref, torch.Tensor)) for one in leaves(options)):
        return None
    shapes = []
    for size in (before[axis], before[axis] + 1):
        probe = torch.empty((*before[:axis], size, *before[axis + 1 :]), device="meta")
        shapes.append(leaves(node.func(probe, *node.args[1:], **node.kwargs))[0].shape)
    changed = [i for i, (one, other) in enumerate(zip(*shapes, strict=False)) if one != other]
    return changed[0] if len(changed) == 1 and len(shapes[0]) == len(shapes[1]) else None


def _reshaped(before: torch.Size, after: torch.Size, axis: int) -> int | None:
    """Follow an axis through a reshape that leaves it whole: the same elements before it and after it."""
    outer, inner = math.prod(before[:axis]), math.prod(before[axis + 1 :])
    for i, size in enumerate(after):
        if size == before[axis] and math.prod(after[:i]) == outer and math.prod(after[i + 1 :]) == inner:
            return i
    return None
