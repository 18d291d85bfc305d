"""Axes through operations on maps of channels: convolutions, poolings, shuffles of pixels, norms."""

from __future__ import annotations

from ..graph import Ref
from .arguments import operands, option
from .layout import LOST, Factor, Layout, Passage, axis_of, by_operation, carried


def _pooling(passage: Passage) -> Layout | None:
    return _over_space(passage, axes=passage.node.spec.spatial_axes)


def _over_space(passage: Passage, *, axes: int) -> Layout | None:
    """Follow a call that mixes along its last axes."""
    if passage.touches(range(-axes, 0)):
        return LOST if passage.samples else None
    return carried(passage, range(len(passage.before)))


def _resampled(passage: Passage) -> Layout | None:
    return _over_space(passage, axes=len(passage.before) - 2)


def _convolution(passage: Passage) -> Layout | None:
    """Follow samples through a convolution: they may also be groups of its channels, as in dynamic convolutions."""
    signal, weight = option(passage.node, 0, "input"), option(passage.node, 1, "weight")
    if signal != passage.ref:
        return () if weight == passage.ref else None
    channel = len(passage.before) - 1 - passage.node.spec.spatial_axes
    if not passage.touches([channel]):
        return _over_space(passage, axes=len(passage.before) - channel)
    groups = passage.node.argument("groups", 1)
    along = [factor for factor in passage.layout if factor.axis == channel]
    first = along[0]
    if len(along) > 1 or groups % first.size or first.size * first.stride != passage.before[channel]:
        return LOST
    fresh = first._replace(stride=passage.after[channel] // first.size)
    return tuple(fresh if factor is first else factor for factor in passage.layout)


def _shuffled(passage: Passage) -> Layout | None:
    """Follow a pixel shuffle: each of its channels takes from as many others, or gives to them."""
    if passage.touches((-2, -1)) or (passage.samples and passage.touches([-3])):
        return LOST if passage.samples else None
    return carried(passage, range(len(passage.before)))


def patches(passage: Passage) -> Layout | None:
    """Follow ``F.unfold``: behind each channel lie the positions of its patch."""
    if passage.touches(range(2, len(passage.before))) or len(passage.before) != 4:
        return LOST if passage.samples else None
    inside = passage.after[1] // passage.before[1]
    return tuple(
        factor._replace(stride=factor.stride * inside) if factor.axis == 1 else factor for factor in passage.layout
    )


def _folded(passage: Passage) -> Layout | None:
    """Follow ``F.fold``, the transpose of `patches`: the positions of a patch are the inside of a channel."""
    if passage.touches([2]) or len(passage.before) != 3:
        return LOST if passage.samples else None
    if passage.samples:
        return LOST if passage.touches([1]) else passage.layout
    return (Factor(passage.after[1], 1),) if axis_of(_outer(passage), passage.after) == 1 else None


def _outer(passage: Passage) -> Layout:
    """Return a layout along the patches' axis as one along the channels'."""
    inside = passage.before[1] // passage.after[1]
    if axis_of(passage.layout, passage.before) == 1:
        return (Factor(passage.after[1], 1),)
    return tuple(factor._replace(stride=factor.stride // inside) for factor in passage.layout)


def _first(passage: Passage) -> Layout | None:
    """Follow a call that gives its first operand other elements and leaves its axes as they are."""
    first = operands(passage.node)[0]
    if not isinstance(first, Ref):
        return None
    return carried(passage, range(len(passage.before))) if first == passage.ref else ()


_POOLINGS = (
    "avg_pool{0}d max_pool{0}d max_pool{0}d_with_indices lp_pool{0}d max_unpool{0}d adaptive_avg_pool{0}d "
    "adaptive_max_pool{0}d adaptive_max_pool{0}d_with_indices fractional_max_pool{0}d "
    "fractional_max_pool{0}d_with_indices"
)
POOLINGS = {name: axes for axes in (1, 2, 3) for name in _POOLINGS.format(axes).split()}
"""Number of the axes that a pooling mixes along."""
RULES = by_operation(
    {
        _pooling: " ".join(POOLINGS),
        _resampled: "interpolate upsample grid_sample",
        _convolution: "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
        _shuffled: "pixel_shuffle pixel_unshuffle",
        patches: "im2col",
        _folded: "fold",
        _first: (
            "pad index_put index_copy index_add scatter scatter_add masked_scatter write_through batch_norm group_norm "
            "instance_norm layer_norm rms_norm local_response_norm prelu"
        ),
    }
)
