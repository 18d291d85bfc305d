"""Axes through indexing: those of ``x[...]`` from those of `x`, and those of ``x[...] = value`` from the value's."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import torch

from ..graph import Ref
from .layout import LOST, Layout, Passage, carried


class _Indexed(NamedTuple):
    """The effect of an index on the axes of a tensor.

    Parameters
    ----------
    mapping : list
        For each axis the axis of the result, None if the index selects from it.
    steps : dict
        For each axis that is sliced, its slice.
    tensors : dict
        For each axis that a tensor indexes, that tensor.
    front : int or None
        First axis of the result that the index tensors enumerate; None if that is unknown.
    """

    mapping: list[int | None]
    steps: dict[int, slice]
    tensors: dict[int, Any]
    front: int | None


def taken(passage: Passage) -> Layout | None:
    """Return the layout behind ``x[index]``."""
    indexed = _indexed(passage.node.args[1], passage.before, passage.after)
    if indexed is None:
        return None
    along = [axis for axis in indexed.tensors if passage.touches([axis])]
    if along:
        return _by_tensor(passage, indexed, along)
    return sliced(passage, indexed.mapping, indexed.steps)


def sliced(passage: Passage, mapping: Sequence[int | None], steps: dict[int, slice]) -> Layout | None:
    """Return the layout behind slices of axes: samples stay in order if whole rounds of them are taken."""
    if not passage.samples:
        return carried(passage, mapping)
    kept = list(passage.before)
    for axis, step in steps.items():
        if not passage.touches([axis]):
            continue
        start, stop, stride = step.indices(passage.before[axis])
        rounds = [factor.stride * factor.size for factor in passage.layout if factor.axis == axis]
        if stride != 1 or any(start % size or stop % size for size in rounds):
            return LOST
        target = mapping[axis]
        if target is not None:
            kept[axis] = passage.after[target]
    return carried(passage._replace(before=torch.Size(kept)), mapping)


def written(passage: Passage) -> Layout | None:
    """Return the layout behind ``x[index] = value`` for the operand that is `x` or the value."""
    target, index, value = passage.node.args[:3]
    if isinstance(target, Ref) and target == passage.ref:
        return passage.layout
    if not isinstance(value, Ref) or value != passage.ref:
        return ()
    shape = torch.empty(passage.after, device="meta")
    if _has_tensor(index):
        return None
    part = shape[index].shape
    indexed = _indexed(index, passage.after, part)
    if indexed is None:
        return None
    offset = len(part) - len(passage.before)  # a value may have axes of size 1 too many in front
    back = {axis: old for old, axis in enumerate(indexed.mapping) if axis is not None}
    mapping = [back.get(axis + offset) for axis in range(len(passage.before))]
    return carried(passage, mapping)


def _has_tensor(index: Any) -> bool:
    items = index if isinstance(index, tuple) else (index,)
    return not all(map(_is_plain, items))


def _is_plain(item: Any) -> bool:
    """Return whether an entry of an index is no tensor and nothing that becomes one, such as a list or an array."""
    return item is None or item is Ellipsis or isinstance(item, (slice, Integral))


def _indexed(index: Any, before: torch.Size, after: torch.Size) -> _Indexed | None:
    """Return what an index does, by the order of torch: integers first, then slices, then index tensors."""
    items = list(index) if isinstance(index, tuple) else [index]
    tensors = (Ref, torch.Tensor)
    items = [item if _is_plain(item) or isinstance(item, tensors) else torch.as_tensor(item) for item in items]
    if any(isinstance(item, bool) for item in items):
        return None
    unknown = [item for item in items if isinstance(item, Ref)]
    if len(unknown) > 1 or (unknown and any(_is_index(item) for item in items if item is not unknown[0])):
        return None
    used = sum(_consumed(item) for item in items if not isinstance(item, Ref)) + len(unknown)
    if used > len(before) or (unknown and not _takes_one_axis(items, before, after)):
        return None
    rest: list[Any] = [slice(None)] * (len(before) - used)
    spread = next((i for i, item in enumerate(items) if item is Ellipsis), None)
    items = [*items, *rest] if spread is None else [*items[:spread], *rest, *items[spread + 1 :]]
    return _walked(items, before, after)


def _walked(items: list[Any], before: torch.Size, after: torch.Size) -> _Indexed | None:
    mapping: list[int | None] = [None] * len(before)
    steps, tensors, order = dict[int, slice](), dict[int, Any](), list[int | str]()
    axis = 0
    for item in items:
        if item is None:
            order.append("new")
            continue
        if isinstance(item, slice):
            order.append(axis)
            steps[axis] = item
        elif isinstance(item, Ref) or _is_index(item):
            order.append("index")
            tensors.update(dict.fromkeys(range(axis, axis + _consumed(item)), item))
        axis += _consumed(item)
    positions = [i for i, entry in enumerate(order) if entry == "index"]
    plain = [entry for entry in order if entry != "index"]
    wide = len(after) - len(plain)
    together = not positions or positions[-1] - positions[0] == len(positions) - 1
    front = positions[0] if positions and together else 0
    for i, entry in enumerate(plain):
        if isinstance(entry, int):
            mapping[entry] = i if i < front else i + wide
    return _Indexed(mapping, steps, tensors, front if wide >= 0 else None)


def _is_index(item: Any) -> bool:
    return isinstance(item, torch.Tensor) and (item.ndim > 0 or item.dtype in (torch.bool, torch.uint8))


def _consumed(item: Any) -> int:
    """Return how many axes an entry of an index takes."""
    if item is None or item is Ellipsis:
        return 0
    mask = isinstance(item, torch.Tensor) and item.dtype in (torch.bool, torch.uint8)
    return item.ndim if mask else 1


def _takes_one_axis(items: list[Any], before: torch.Size, after: torch.Size) -> bool:
    """Return whether an index tensor that depends on the input takes one axis: a mask of several leaves fewer axes."""
    selected = sum(_consumed(item) for item in items if not isinstance(item, (Ref, slice)))
    return len(after) >= len(before) - selected + items.count(None)


def _by_tensor(passage: Passage, indexed: _Indexed, along: list[int]) -> Layout | None:
    """Return the layout of an axis that an index tensor enumerates."""
    index = indexed.tensors[along[0]]
    known = isinstance(index, torch.Tensor) and index.dtype not in (torch.bool, torch.uint8)
    if len(along) != 1 or indexed.front is None or not known:
        return None
    others = [other for other in indexed.tensors.values() if other is not index]
    if any(not isinstance(other, torch.Tensor) or other.ndim > 1 for other in others) or index.ndim != 1:
        return None
    (axis,) = along
    if passage.samples:
        in_order = index.tolist() == list(range(passage.before[axis]))
        if not in_order:
            return LOST
    elif len(index) == 1 and passage.after[indexed.front] != 1:
        return None
    mapping = list(indexed.mapping)
    mapping[axis] = indexed.front
    return carried(passage, mapping)
