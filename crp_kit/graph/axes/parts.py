"""Axes through parts, joins and copies of tensors."""

from __future__ import annotations

from functools import partial

from torch.nn import functional

from ..graph import Ref
from .arguments import operands, option
from .indexing import sliced, taken, written
from .layout import LOST, Factor, Layout, Passage, aligned, by_operation, carried
from .maps import patches
from .moves import padded_axes


def _narrow(passage: Passage) -> Layout | None:
    dim, start, length = (option(passage.node, i, name) for i, name in ((1, "dim"), (2, "start"), (3, "length")))
    axis = dim % len(passage.before)
    start = int(start) % max(passage.before[axis], 1)
    return sliced(passage, range(len(passage.before)), {axis: slice(start, start + int(length))})


def _split(passage: Passage) -> Layout | None:
    return _divided(passage, axis=option(passage.node, 2, "dim", "axis", default=0))


def _hsplit(passage: Passage) -> Layout | None:
    return _divided(passage, axis=1 if len(passage.before) > 1 else 0)


def _divided(passage: Passage, *, axis: int) -> Layout | None:
    """Follow one part of a split; the parts before it show where it begins."""
    ndim = len(passage.before)
    axis %= ndim
    sizes = [shape[axis] for shape in passage.node.shapes if shape is not None]
    start = sum(sizes[: passage.output])
    return sliced(passage, range(ndim), {axis: slice(start, start + passage.after[axis])})


def _index_select(passage: Passage) -> Layout | None:
    dim = option(passage.node, 1, "dim", "axis") % len(passage.before)
    if passage.samples and passage.touches([dim]):
        return None
    return carried(passage, range(len(passage.before)))


def _gather(passage: Passage, *, position: int = 1) -> Layout | None:
    dim = option(passage.node, position, "dim")
    if dim is None or len(passage.before) != len(passage.after) or passage.touches([dim]):
        return None
    return carried(passage, range(len(passage.before)))


def _along_axis(passage: Passage, *, position: int = 1, default: int = -1) -> Layout | None:
    """Follow a call that changes the order along one axis, differently at each position of the others."""
    axis = option(passage.node, position, "dim", "axis", default=default)
    if passage.touches([default if isinstance(axis, bool) else axis]):
        return LOST if passage.samples else None
    return aligned(passage)


def _cat(passage: Passage, *, default: int = 0) -> Layout | None:
    if len(passage.before) != len(passage.after):
        return ()
    dim = option(passage.node, 1, "dim", "axis", default=default)
    axis = min(dim % len(passage.after), len(passage.after) - 1)
    if passage.samples and passage.touches([axis]) and _all_alike(passage):
        return passage.layout
    return carried(passage, range(len(passage.before)))


def _all_alike(passage: Passage) -> bool:
    """Return whether all operands are signals of one shape: whole rounds of samples, one behind the other."""
    parts = operands(passage.node)
    return all(isinstance(part, Ref) and passage.shape_of(part) == passage.before for part in parts)


def _stacked(passage: Passage, *, axis: int, axes: int = 2) -> Layout | None:
    """Follow ``hstack`` and the like, which join along an axis after giving the parts as many axes at least."""
    ndim = len(passage.before)
    if ndim == len(passage.after):
        return _cat(passage, default=axis)
    return carried(passage, padded_axes(axes, ndim))


def _column_stack(passage: Passage) -> Layout | None:
    """Follow ``column_stack``, for which vectors are columns."""
    return _cat(passage, default=1) if len(passage.before) == len(passage.after) else carried(passage, [0])


def _stack(passage: Passage) -> Layout | None:
    new = option(passage.node, 1, "dim", "axis", default=0) % len(passage.after)
    return carried(passage, [axis + (axis >= new) for axis in range(len(passage.before))])


def _repeat(passage: Passage) -> Layout | None:
    """Follow copies of the whole along axes: channels are as many more, samples begin again."""
    if not passage.samples:
        return aligned(passage)
    offset = len(passage.after) - len(passage.before)
    return tuple(Factor(size, axis + offset, stride) for size, axis, stride in passage.layout)


def _repeat_each(passage: Passage) -> Layout | None:
    dim, count = option(passage.node, 2, "dim"), option(passage.node, 1, "repeats")
    if dim is None:
        return None
    if not passage.samples or not passage.touches([dim]):
        return carried(passage, range(len(passage.before)))
    if not isinstance(count, int):
        return None
    axis = dim % len(passage.before)
    return tuple(
        factor._replace(stride=factor.stride * count) if factor.axis == axis else factor for factor in passage.layout
    )


def _windows(passage: Passage) -> Layout | None:
    """Follow `Tensor.unfold`, which adds an axis with the inside of each window; ``F.unfold`` is another operation."""
    if passage.node.func is functional.unfold:
        return patches(passage)
    dim = option(passage.node, 1, "dimension") % len(passage.before)
    if passage.touches([dim]):
        return None
    return carried(passage, range(len(passage.before)))


RULES = by_operation(
    {
        taken: "getitem",
        written: "setitem",
        _narrow: "narrow",
        _split: "chunk split split_with_sizes tensor_split",
        _hsplit: "hsplit",
        partial(_divided, axis=0): "vsplit",
        partial(_divided, axis=2): "dsplit",
        _index_select: "index_select",
        _gather: "gather",
        partial(_gather, position=2): "take_along_dim",
        _along_axis: "sort",
        partial(_along_axis, position=2): "topk",
        partial(_along_axis, default=0): "msort",
        _cat: "cat",
        partial(_stacked, axis=0): "vstack row_stack",
        partial(_stacked, axis=1): "hstack",
        partial(_stacked, axis=2, axes=3): "dstack",
        _column_stack: "column_stack",
        _stack: "stack",
        _repeat: "repeat tile",
        _repeat_each: "repeat_interleave",
        _windows: "unfold",
    }
)
