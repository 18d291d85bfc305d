"""The channel axis and the sample axis of each node of a recorded graph.

Both are followed from where they are known, operation by operation; that two sizes agree is no evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..graph import Graph, Node, Ref, kept_on_graph
from ..operations import Kind
from .arguments import is_norm_over_several_axes
from .follow import followed
from .layout import LOST, Factor, Layout, axis_of

MIXED = -1
"""No axis has the samples for itself: they are inside of one with something around them, out of order, or summed."""

_CHANNELS_OF_RANK = {2: 1, 4: 1, 5: 1}
"""Of inputs and opaque modules: (sample, feature) and (sample, channel, height, width, ...)."""


def batch_axes(graph: Graph, *, mixing: bool = False) -> Mapping[Ref, int | None]:
    """Return, for each output, the axis along which its samples lie, `MIXED`, or None if that is unknown.

    Windows or heads that are folded into the batch axis behind the samples leave it the first one. A model whose layers
    take (token, batch, channel) has them along axis 1. With `mixing`, samples that meet others (``x - x.mean(0)``) stay
    along their axis, though each then depends on all; where samples were taken one by one, it is unknown.
    """
    return _axes_of_mixed_samples(graph) if mixing else _axes_of_samples(graph)


@kept_on_graph
def _axes_of_samples(graph: Graph) -> Mapping[Ref, int | None]:
    layouts = _sample_layouts(graph)
    return {ref: _sample_axis(layout, graph.shape(ref), graph.batch) for ref, layout in layouts.items()}


@kept_on_graph
def _axes_of_mixed_samples(graph: Graph) -> Mapping[Ref, int | None]:
    layouts = _sample_layouts(graph, mixing=True)
    return {
        ref: None if layout == LOST else _sample_axis(layout, graph.shape(ref), graph.batch)
        for ref, layout in layouts.items()
    }


@kept_on_graph
def channel_axes(graph: Graph) -> Mapping[Ref, int | None]:
    """Return, for each output, the axis along which it keeps its channels (batch axis counted), or None if unknown.

    Convolutions make channels along axis 1, linear layers along the last; so does a weight in a matrix product or an
    einsum. Norms of unknown channels take axis 1, layer norms the last. Other operations hand on what they read: an
    axis enumerates channels if each of its positions takes from channels that no other position takes from, and no
    other axis does. So a pixel shuffle and a slice have channels of their own, and heads whose channels are spread over
    two axes have none. Of (sample, feature) the features are the channels.
    """
    layouts = dict[Ref, Layout | None]()
    samples: Mapping[Ref, Layout | None] | None = None
    axes: dict[Ref, int | None] = {}
    for node in graph:
        for output, shape in enumerate(node.shapes):
            if shape is None:
                continue
            ref = Ref(node.index, output)
            layout = layouts[ref] = _channel_layout(graph, ref, layouts)
            axes[ref] = None if layout is None or len(shape) < 2 else axis_of(layout, shape)
            if (axes[ref] is None and len(shape) == 2) or _is_grouped(node, graph.batch):
                samples = _sample_layouts(graph) if samples is None else samples
                layouts[ref], axes[ref] = _beside_samples(graph, ref, layout, samples[ref])
    return axes


def _sample_layouts(graph: Graph, *, mixing: bool = False) -> dict[Ref, Layout | None]:
    layouts = dict[Ref, Layout | None]()
    for node in graph:
        for output, shape in enumerate(node.shapes):
            if shape is None:
                continue
            ref = Ref(node.index, output)
            if node.kind is Kind.INPUT:
                by_sample = shape[:1] == (graph.batch,) and not node.kwargs["shared"]
                layouts[ref] = (Factor(graph.batch, 0),) if by_sample else ()
            else:
                known = node.kind is not Kind.OPAQUE
                layouts[ref] = followed(graph, ref, layouts, samples=True, mixing=mixing) if known else None
    return layouts


def _sample_axis(layout: Layout | None, shape: torch.Size, batch: int) -> int | None:
    """Return the axis if samples have it for themselves, or lie in front there."""
    if not layout:
        return None
    size, axis, stride = layout[0]
    if layout == LOST or len(layout) > 1 or size != batch:
        return MIXED
    alone = shape[axis] == batch and stride == 1
    return axis if alone or (axis == 0 and shape[0] == batch * stride) else MIXED


def _channel_layout(graph: Graph, ref: Ref, layouts: Mapping[Ref, Layout | None]) -> Layout | None:
    node, shape = graph.nodes[ref.node], graph.shape(ref)
    if node.kind is Kind.INPUT and node.kwargs["embedded"]:
        return (Factor(shape[-1], len(shape) - 1),)
    if node.kind in (Kind.INPUT, Kind.OPAQUE):
        axis = _CHANNELS_OF_RANK.get(len(shape))
        return None if axis is None else (Factor(shape[axis], axis),)
    if node.spec.channel_axis is not None:
        axis = node.spec.channel_axis % len(shape)
        return (Factor(shape[axis], axis),)
    layout = followed(graph, ref, layouts, samples=False)
    unknown = not layout or axis_of(layout, shape) is None
    if len(shape) > 1 and (unknown or node.kind is Kind.BATCH_NORM):  # which has a factor for each channel
        layout = _of_a_norm(node, shape) or layout
    return layout


def _of_a_norm(node: Node, shape: torch.Size) -> Layout:
    """Return the channels that a norm is made for."""
    axis = node.spec.feature_axis
    if node.kind not in (Kind.NORM, Kind.BATCH_NORM) or axis is None or is_norm_over_several_axes(node):
        return ()
    return (Factor(shape[axis], axis % len(shape)),)


def _is_grouped(node: Node, batch: int) -> bool:
    """Return whether samples may be groups of a convolution, so that its channel axis has samples in it."""
    return batch > 1 and node.spec.is_convolution and node.argument("groups", 1) % batch == 0


def _beside_samples(
    graph: Graph, ref: Ref, layout: Layout | None, samples: Layout | None
) -> tuple[Layout | None, int | None]:
    """Return channels beside samples: what a convolution's axis has inside of each sample, or (sample, feature)."""
    shape, axis = graph.shape(ref), _sample_axis(samples, graph.shape(ref), graph.batch)
    if graph.nodes[ref.node].kind is not Kind.LINEAR:
        return layout, 1 if axis in (0, None) else None
    inside = [factor.stride for factor in samples or () if factor.axis == 1]
    layout = (Factor(inside[0], 1),) if inside else layout
    return layout, axis_of(layout or (), shape)
