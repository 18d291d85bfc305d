"""Axes through parts, joins and copies of tensors."""

from __future__ import annotations

from ..graph import Ref
from .arguments import operands, option
from .indexing import sliced, taken, written
from .layout import LOST, Factor, Layout, Passage, aligned, by_operation, carried
from .moves import padded_axes


def _narrow(passage: Passage) -> Layout | None:
    dim, start, length = (option(passage.node, i, name) for i, name in ((1, "dim"), (2, "start"), (3, "length")))
    axis = dim % len(passage.before)
    start = int(start) % max(passage.before[axis], 1)
    return sliced(passage, range(len(passage.before)), {axis: slice(start, start + int(length))})


def _divided(passage: Passage) -> Layout | None:
    """Follow one part of a split; the parts before it say where it begins."""
    node = passage.node
    ndim = len(passage.before)
    axis = {"hsplit": 1 if ndim > 1 else 0, "vsplit": 0, "dsplit": 2}.get(node.op)
    if axis is None:
        axis = option(node, 2, "dim", "axis", default=0) % ndim
    parts = [shape[axis] for shape in node.shapes if shape is not None]
    start = sum(parts[: passage.output])
    return sliced(passage, range(ndim), {axis: slice(start, start + passage.after[axis])})


def _index_select(passage: Passage) -> Layout | None:
    dim = option(passage.node, 1, "dim", "axis") % len(passage.before)
    if passage.samples and passage.touches([dim]):
        return None
    return carried(passage, range(len(passage.before)))


def _gather(passage: Passage) -> Layout | None:
    dim = option(passage.node, 2 if passage.node.op == "take_along_dim" else 1, "dim")
    if dim is None or len(passage.before) != len(passage.after) or passage.touches([dim]):
        return None
    return carried(passage, range(len(passage.before)))


def _along_axis(passage: Passage) -> Layout | None:
    """Follow a call that changes the order along one axis, differently at each position of the others."""
    place = 2 if passage.node.op == "topk" else 1
    default = 0 if passage.node.op == "msort" else -1
    axis = option(passage.node, place, "dim", "axis", default=default)
    if passage.touches([default if isinstance(axis, bool) else axis]):
        return LOST if passage.samples else None
    return aligned(passage)


def _cat(passage: Passage) -> Layout | None:
    if len(passage.before) != len(passage.after):
        return ()
    default = {"vstack": 0, "row_stack": 0, "hstack": 1, "column_stack": 1, "dstack": 2}.get(passage.node.op, 0)
    dim = option(passage.node, 1, "dim", "axis", default=default)
    axis = min(dim % len(passage.after), len(passage.after) - 1)
    if passage.samples and passage.touches([axis]) and _all_alike(passage):
        return passage.layout
    return carried(passage, range(len(passage.before)))


def _all_alike(passage: Passage) -> bool:
    """Return whether all operands are signals of one shape: whole rounds of samples, one behind the other."""
    return all(isinstance(one, Ref) and passage.shape_of(one) == passage.before for one in operands(passage.node))


def _stacked(passage: Passage) -> Layout | None:
    """Follow ``hstack`` and its kind, which give tensors with few axes some more."""
    ndim = len(passage.before)
    if ndim == len(passage.after):
        return _cat(passage)
    if passage.node.op == "column_stack":
        mapping = [0]
    else:
        mapping = padded_axes({"dstack": "3d"}.get(passage.node.op, "2d"), ndim)
    return carried(passage, mapping)


def _stack(passage: Passage) -> Layout | None:
    place = option(passage.node, 1, "dim", "axis", default=0) % len(passage.after)
    return carried(passage, [axis + (axis >= place) for axis in range(len(passage.before))])


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
    return tuple(one._replace(stride=one.stride * count) if one.axis == axis else one for one in passage.layout)


def _windows(passage: Passage) -> Layout | None:
    """Follow `Tensor.unfold`, which adds an axis with the inside of each window."""
    dim = option(passage.node, 1, "dimension") % len(passage.before)
    if passage.touches([dim]):
        return None
    return carried(passage, range(len(passage.before)))


RULES = by_operation(
    {
        taken: "getitem",
        written: "setitem",
        _narrow: "narrow",
        _divided: "chunk split split_with_sizes tensor_split hsplit vsplit dsplit",
        _index_select: "index_select",
        _gather: "gather take_along_dim",
        _along_axis: "sort topk msort",
        _cat: "cat",
        _stacked: "hstack vstack dstack column_stack row_stack",
        _stack: "stack",
        _repeat: "repeat tile",
        _repeat_each: "repeat_interleave",
        _windows: "unfold",
    }
)
