"""Axes that change places, come, go, split or become one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch

from .arguments import integers, option, reduced_axes, trailing
from .layout import LOST, Factor, Layout, Passage, aligned, by_operation, carried, merged, reshaped


def _permute(passage: Passage) -> Layout | None:
    ndim = len(passage.before)
    order = [axis % ndim for axis in trailing(passage.node, "dims")]
    return carried(passage, [order.index(axis) for axis in range(ndim)])


def _exchanged(passage: Passage, first: int, second: int) -> Layout | None:
    order = list(range(len(passage.before)))
    order[first], order[second] = order[second], order[first]
    return carried(passage, order)


def _transpose(passage: Passage) -> Layout | None:
    node = passage.node
    pair = [option(node, 1, "dim0", "axis0"), option(node, 2, "dim1", "axis1")]
    first, second = integers(pair)
    return _exchanged(passage, first, second)


def _matrix_transpose(passage: Passage) -> Layout | None:
    return _exchanged(passage, -2, -1) if len(passage.before) > 1 else passage.layout


def _reversed_axes(passage: Passage) -> Layout | None:
    return carried(passage, range(len(passage.before))[::-1])


def _moveaxis(passage: Passage) -> Layout | None:
    node, ndim = passage.node, len(passage.before)
    old = [axis % ndim for axis in integers(option(node, 1, "source"))]
    new = [axis % ndim for axis in integers(option(node, 2, "destination"))]
    order: list[int | None] = [None] * ndim
    for source, target in zip(old, new, strict=True):
        order[target] = source
    rest = (axis for axis in range(ndim) if axis not in old)
    filled = [next(rest) if axis is None else axis for axis in order]
    return carried(passage, [filled.index(axis) for axis in range(ndim)])


def _rot90(passage: Passage) -> Layout | None:
    turns = option(passage.node, 1, "k", default=1) % 4
    axes = integers(option(passage.node, 2, "dims", default=(0, 1)))
    if turns and passage.samples and passage.touches(axes):
        return LOST
    return _exchanged(passage, *axes) if turns % 2 else passage.layout


def _rolled(passage: Passage) -> Layout | None:
    axes = option(passage.node, 2, "dims")
    if axes is None or not integers(axes):  # rolls the flattened tensor
        return LOST if passage.samples else None
    return _reordered(passage, integers(axes))


def _flipped(passage: Passage) -> Layout | None:
    return _reordered(passage, trailing(passage.node, "dims"))


def _reordered(passage: Passage, axes: Sequence[int]) -> Layout | None:
    """Follow a call that changes the order along axes."""
    return LOST if passage.samples and passage.touches(axes) else passage.layout


def _unsqueeze(passage: Passage) -> Layout | None:
    new = option(passage.node, 1, "dim", "axis") % len(passage.after)
    return carried(passage, [axis + (axis >= new) for axis in range(len(passage.before))])


def _squeeze(passage: Passage) -> Layout | None:
    ndim, dims = len(passage.before), trailing(passage.node, "dim", "axis")
    axes = {axis % ndim for axis in dims} if dims else set(range(ndim))
    return _without(passage, [axis for axis in axes if passage.before[axis] == 1])


def _without(passage: Passage, gone: Sequence[int]) -> Layout | None:
    """Follow a call that drops axes."""
    kept = [axis for axis in range(len(passage.before)) if axis not in gone]
    return carried(passage, [kept.index(axis) if axis in kept else None for axis in range(len(passage.before))])


def _select(passage: Passage, *, default: int | None = None) -> Layout | None:
    dim = option(passage.node, 1, "dim", "axis", default=default)
    return _without(passage, [dim % len(passage.before)])


def _reduce(passage: Passage, *, position: int = 1) -> Layout | None:
    """Follow a reduction over the axes that an argument names."""
    axes = reduced_axes(passage.node, len(passage.before), position=position)
    if axes is None:
        return aligned(passage)
    if len(passage.after) != len(passage.before):
        return _without(passage, axes)
    return carried(passage, [None if axis in axes else axis for axis in range(len(passage.before))])


def _reshape(passage: Passage) -> Layout | None:
    if isinstance(option(passage.node, 1, "dtype"), torch.dtype):  # of `Tensor.view`: the same memory, read otherwise
        return passage.layout if passage.before == passage.after else None
    return reshaped(passage)


def _flatten(passage: Passage) -> Layout | None:
    ndim = len(passage.before)
    start = option(passage.node, 1, "start_dim", default=0) % ndim
    end = option(passage.node, 2, "end_dim", default=-1) % ndim
    layout: list[Factor] = []
    for size, axis, stride in passage.layout:
        if start <= axis <= end:
            layout.append(Factor(size, start, stride * math.prod(passage.before[axis + 1 : end + 1])))
        else:
            layout.append(Factor(size, axis if axis < start else axis - (end - start), stride))
    return merged(layout, samples=passage.samples)


def _unflatten(passage: Passage) -> Layout | None:
    split = option(passage.node, 1, "dim") % len(passage.before)
    more = len(passage.after) - len(passage.before)
    if passage.touches([split]) and more:
        return reshaped(passage)
    return carried(passage, [axis + more * (axis > split) for axis in range(len(passage.before))])


def _atleast(passage: Passage, *, axes: int) -> Layout | None:
    return carried(passage, padded_axes(axes, len(passage.before)))


def padded_axes(axes: int, ndim: int) -> list[int]:
    """Return where ``atleast_1d`` to ``atleast_3d`` put the axes of a tensor."""
    return [1] if ndim == 1 and axes > 1 else list(range(ndim))


def _diagonal(passage: Passage) -> Layout | None:
    ndim = len(passage.before)
    pair = [option(passage.node, 2, "dim1", default=0), option(passage.node, 3, "dim2", default=1)]
    first, second = (axis % ndim for axis in integers(pair))
    kept = [axis for axis in range(ndim) if axis not in (first, second)]
    tracked = [axis for axis in (first, second) if passage.touches([axis])]
    offset = option(passage.node, 1, "offset", default=0)
    if len(tracked) == 2 or (tracked and offset and passage.samples):
        return LOST if passage.samples else None
    order = [*kept, *tracked]
    return carried(passage, [order.index(axis) if axis in order else None for axis in range(ndim)])


RULES = by_operation(
    {
        _permute: "permute",
        _transpose: "transpose swapaxes swapdims",
        _matrix_transpose: "t mT mH adjoint",
        _reversed_axes: "T H",
        _moveaxis: "movedim moveaxis",
        _rot90: "rot90",
        _rolled: "roll",
        _flipped: "flip",
        partial(_reordered, axes=[1]): "fliplr",
        partial(_reordered, axes=[0]): "flipud",
        _unsqueeze: "unsqueeze",
        _squeeze: "squeeze",
        _select: "select",
        partial(_select, default=0): "unbind",
        _reduce: (
            "mean sum amax amin max min nanmean nansum prod std var std_mean var_mean logsumexp median nanmedian"
        ),
        partial(_reduce, position=2): "norm vector_norm",
        _reshape: "reshape view view_as reshape_as ravel",
        _flatten: "flatten",
        _unflatten: "unflatten",
        partial(_atleast, axes=1): "atleast_1d",
        partial(_atleast, axes=2): "atleast_2d",
        partial(_atleast, axes=3): "atleast_3d",
        _diagonal: "diagonal",
    }
)
