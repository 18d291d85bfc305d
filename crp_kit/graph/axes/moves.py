"""Axes that change places, come, go, split or become one."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def _reordered(passage: Passage) -> Layout | None:
    """Follow a roll or a flip."""
    axes = option(passage.node, 2 if passage.node.op == "roll" else 1, "dims")
    axes = {"fliplr": 1, "flipud": 0}.get(passage.node.op, axes)
    axes = trailing(passage.node, "dims") if passage.node.op == "flip" else integers([] if axes is None else axes)
    if not axes and passage.node.op == "roll":
        return LOST if passage.samples else None
    return LOST if passage.samples and passage.touches(axes) else passage.layout


def _unsqueeze(passage: Passage) -> Layout | None:
    place = option(passage.node, 1, "dim", "axis") % len(passage.after)
    return carried(passage, [axis + (axis >= place) for axis in range(len(passage.before))])


def _squeeze(passage: Passage) -> Layout | None:
    ndim, wanted = len(passage.before), trailing(passage.node, "dim", "axis")
    axes = {axis % ndim for axis in wanted} if wanted else set(range(ndim))
    return _without(passage, [axis for axis in axes if passage.before[axis] == 1])


def _without(passage: Passage, gone: Sequence[int]) -> Layout | None:
    """Follow a call that drops axes."""
    kept = [axis for axis in range(len(passage.before)) if axis not in gone]
    return carried(passage, [kept.index(axis) if axis in kept else None for axis in range(len(passage.before))])


def _select(passage: Passage) -> Layout | None:
    position = 0 if passage.node.op == "unbind" else None
    dim = option(passage.node, 1, "dim", "axis", default=position)
    return _without(passage, [dim % len(passage.before)])


def _reduce(passage: Passage) -> Layout | None:
    axes = reduced_axes(passage.node, len(passage.before))
    if axes is None:
        return aligned(passage)
    if len(passage.after) != len(passage.before):
        return _without(passage, axes)
    return carried(passage, [None if axis in axes else axis for axis in range(len(passage.before))])


def _reshape(passage: Passage) -> Layout | None:
    if passage.node.op == "view" and isinstance(option(passage.node, 1, "dtype"), torch.dtype):
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
    place = option(passage.node, 1, "dim") % len(passage.before)
    more = len(passage.after) - len(passage.before)
    if passage.touches([place]) and more:
        return reshaped(passage)
    return carried(passage, [axis + more * (axis > place) for axis in range(len(passage.before))])


def _atleast(passage: Passage) -> Layout | None:
    return carried(passage, padded_axes(passage.node.op[-2:], len(passage.before)))


def padded_axes(wanted: str, ndim: int) -> list[int]:
    """Return where ``atleast_1d`` to ``atleast_3d`` put the axes of a tensor."""
    if ndim == 1 and wanted in ("2d", "3d"):
        return [1]
    return list(range(ndim))


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
        _reordered: "roll flip fliplr flipud",
        _unsqueeze: "unsqueeze",
        _squeeze: "squeeze",
        _select: "select unbind",
        _reduce: (
            "mean sum amax amin max min nanmean nansum prod std var std_mean var_mean logsumexp norm vector_norm "
            "median nanmedian"
        ),
        _reshape: "reshape view view_as reshape_as ravel",
        _flatten: "flatten",
        _unflatten: "unflatten",
        _atleast: "atleast_1d atleast_2d atleast_3d",
        _diagonal: "diagonal",
    }
)
