"""The layout of one tracked dimension (channels or samples): in which axes of a tensor its positions are enumerated.

A reshape may split a dimension over several axes, or put it inside of an axis beside something else. It is therefore
kept as factors, each a digit of the position: ``index along axis // stride % size``. That is exact whatever sizes are
equal, since a reshape keeps the row-major order of all elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from ..graph import Node, Ref


class Factor(NamedTuple):
    """A digit of the position in the tracked dimension: `size` values, `stride` apart along an axis."""

    size: int
    axis: int
    stride: int = 1


Layout = tuple[Factor, ...]
"""The factors, of which the first counts most; empty if a tensor has no such dimension."""
LOST: Layout = (Factor(0, 0, 0),)
"""Samples of which some were dropped, mixed or put into another order."""


class Passage(NamedTuple):
    """One operand of a call whose layout is known, on its way into one output.

    Parameters
    ----------
    node : Node
    ref : Ref
        The operand.
    layout : Layout
    before, after : torch.Size
        Shape of the operand and of the output.
    output : int
        Number of the output.
    samples : bool
        Whether samples are tracked, which have an order and may not be mixed; channels may.
    shape_of : callable
        Shape of a floating-point output of another node.
    """

    node: Node
    ref: Ref
    layout: Layout
    before: torch.Size
    after: torch.Size
    output: int
    samples: bool
    shape_of: Callable[[Ref], torch.Size]

    def touches(self, axes: Iterable[int]) -> bool:
        """Return whether the dimension has a factor along one of these axes of the operand."""
        touched = {axis % len(self.before) for axis in axes}
        return not touched.isdisjoint([factor.axis for factor in self.layout])


Rule = Callable[[Passage], "Layout | None"]
"""From an operand to the layout of the output; None if that is unknown."""


def axis_of(layout: Layout, shape: torch.Size) -> int | None:
    """Return the axis that enumerates the dimension and nothing else, whatever the order along it."""
    axes = {factor.axis for factor in layout}
    if len(axes) != 1 or layout == LOST:
        return None
    (axis,) = axes
    return axis if math.prod([factor.size for factor in layout]) == shape[axis] else None


def carried(passage: Passage, mapping: Sequence[int | None]) -> Layout | None:
    """Return the layout behind a call that hands each axis on whole.

    Parameters
    ----------
    passage : Passage
    mapping : sequence of int or None
        For each axis of the operand the output's axis, or None where the call selects from it or sums over it. Channels
        that lose a factor so are coarser ones; samples are lost.
    """
    layout: list[Factor] = []
    for factor in passage.layout:
        axis = mapping[factor.axis]
        if axis is not None:
            layout.append(factor if axis == factor.axis else Factor(factor.size, axis, factor.stride))
        elif passage.samples:
            return LOST
    for old, axis in enumerate(mapping):
        if axis is None or passage.before[old] == passage.after[axis]:
            continue
        resized = _resized(layout, axis, passage.before[old], passage.after[axis], samples=passage.samples)
        if resized is None:
            return LOST if passage.samples else None
        layout = resized
    return tuple(layout)


def _resized(layout: list[Factor], axis: int, before: int, after: int, *, samples: bool) -> list[Factor] | None:
    """Return the layout with an axis that was sliced, padded, repeated or joined: its positions are new channels."""
    along = [factor for factor in layout if factor.axis == axis]
    if not along:
        return layout
    others = [factor for factor in layout if factor.axis != axis]
    if samples:
        return [*others, Factor(1, axis, after)] if before == 1 else None
    covered = math.prod(factor.size for factor in along) == before
    return [*others, Factor(after, axis)] if covered else None


def aligned(passage: Passage) -> Layout | None:
    """Return the layout behind a call that broadcasts its operands: axes are counted from the last."""
    if passage.before == passage.after:
        return passage.layout
    offset = len(passage.after) - len(passage.before)
    return carried(passage, range(offset, len(passage.after))) if offset >= 0 else None


def reshaped(passage: Passage) -> Layout | None:
    """Return the layout behind a reshape, which keeps the row-major order of elements."""
    before, after = passage.before, passage.after
    if before == after:
        return passage.layout
    layout: list[Factor] = []
    for factor in passage.layout:
        parts = _of_one(passage, factor) if factor.size == 1 else _digits(factor, before, after)
        if parts is not None:
            layout += parts
        elif factor.size != 1 or len(passage.layout) == 1:
            return None
    return merged(layout, samples=passage.samples)


def _digits(factor: Factor, before: torch.Size, after: torch.Size) -> list[Factor] | None:
    """Return a factor in other axes: as many elements as before lie between one position and the next."""
    low = factor.stride * math.prod(before[factor.axis + 1 :])
    high, inner, digits = low * factor.size, 1, list[Factor]()
    for axis in reversed(range(len(after))):
        outer = inner * after[axis]
        first, last = max(low, inner), min(high, outer)
        if first < last:
            if first % inner or last % first or outer % last or first % low or high % last:
                return None
            digits.append(Factor(last // first, axis, first // inner))
        inner = outer
    return digits[::-1]


def _of_one(passage: Passage, factor: Factor) -> list[Factor] | None:
    """Return a factor of size 1 in other axes: where all sizes up to it, or all behind it, stay the same."""
    before, after = passage.before, passage.after
    axis, behind = factor.axis, len(before) - factor.axis
    candidates = set[int]()
    if before[: axis + 1] == after[: axis + 1]:
        candidates.add(axis)
    if behind <= len(after) and before[axis:] == after[len(after) - behind :]:
        candidates.add(len(after) - behind)
    if len(candidates) == 1:
        return [Factor(1, candidates.pop(), factor.stride)]
    return _one_sample(factor, before, after) if passage.samples else None


def _one_sample(factor: Factor, before: torch.Size, after: torch.Size) -> list[Factor] | None:
    """Return where a single sample begins, as many elements as before belong to it: unknown if two axes agree."""
    own = factor.stride * math.prod(before[factor.axis + 1 :])
    begins = list[Factor]()
    for axis, size in enumerate(after):
        inner = math.prod(after[axis + 1 :])
        if inner and own and own % inner == 0 and inner * size % own == 0:
            begins.append(Factor(1, axis, own // inner))
    return begins if len(begins) == 1 else None


def merged(layout: Sequence[Factor], *, samples: bool) -> Layout:
    """Return neighbouring digits of one axis as one factor; channels may change their order for it."""
    ordered = layout if samples else sorted(layout, key=lambda factor: (factor.axis, -factor.stride))
    parts: list[Factor] = []
    for factor in ordered:
        last = parts[-1] if parts else None
        if last is not None and last.axis == factor.axis and last.stride == factor.stride * factor.size:
            parts[-1] = Factor(last.size * factor.size, factor.axis, factor.stride)
        else:
            parts.append(factor)
    return tuple(parts)


def joined(layouts: Sequence[Layout | None], *, samples: bool, mixing: bool = False) -> Layout | None:
    """Return the layout of an output that has one from each of its operands.

    Channels of which one operand has all and another a part (heads of attention weights) are those of the first.
    Samples along two axes, as in a similarity of each with each, are lost, and so are those that meet something mixed,
    unless `mixing` is allowed: then they stay where they are.
    """
    layouts_left = [layout for layout in layouts if layout != ()]
    if mixing and any(layout != LOST for layout in layouts_left):
        layouts_left = [layout for layout in layouts_left if layout != LOST]
    if LOST in layouts_left:
        return LOST
    widest: Layout = ()
    for layout in layouts_left:
        if layout is None:
            return None
        widest = max(widest, layout, key=len)
    if samples:
        return widest if all(layout == widest for layout in layouts_left) else LOST
    return widest if all(set(layout or ()) <= set(widest) for layout in layouts_left) else None


def by_operation(rules: Mapping[Rule, str]) -> dict[str, Rule]:
    """Return rules by the canonical names of the operations that they are for."""
    return {op: rule for rule, ops in rules.items() for op in ops.split()}
