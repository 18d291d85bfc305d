"""The feature axis of an input: the first operations that determine it are followed back to the input."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..graph import Graph, Node, Ref
from ..nested import leaves
from ..operations import Kind, Trait
from .arguments import is_norm_over_several_axes

__all__ = ["NO_AXIS", "feature_axis"]

NO_AXIS = 0
"""Stands for an input that has no feature axis: the model itself adds one, of size 1."""
_ADDED = -1
"""The origin of an axis that the model added."""
_Origins = tuple[int | None, ...]
"""For each axis of an output the axis of the input that it is, `_ADDED`, or None if it is none of them alone."""

_PRIMES = (101, 103, 107, 109, 113, 127, 131, 137)


def feature_axis(graph: Graph, source: Ref) -> int | None:
    """Return the axis of an input that holds its channels or features, `NO_AXIS` if it has none, None if unknown.

    What reads the input element-wise, moves or reshapes its axes, or takes a mean over others is followed to the first
    operations that determine it: convolutions, poolings, norms, linear and recurrent layers, or an output (sample,
    class). They have to agree.
    """
    origins: dict[Ref, _Origins] = {source: tuple(range(len(graph.shape(source))))}
    waiting = list(graph.users.get(source, ()))
    heapq.heapify(waiting)
    candidates: set[int | None] = set()
    done = -1
    while waiting:
        index = heapq.heappop(waiting)
        if index <= done:
            continue
        done, node = index, graph.nodes[index]
        known = [ref for ref in node.inputs if ref in origins]
        features = {ref: axis for ref in known if (axis := _axis_of_features(graph, node, ref)) is not None}
        candidates |= {origins[ref][axis] for ref, axis in features.items()}
        if features:
            continue
        for output, followed in enumerate(_followed(graph, node, {ref: origins[ref] for ref in known})):
            if followed is not None:
                origins[Ref(index, output)] = followed
                for reader in graph.users.get(Ref(index, output), ()):
                    heapq.heappush(waiting, reader)
    ends = origins.get(graph.output, ())
    candidates |= {ends[1]} if len(ends) == 2 else set()
    certain = {NO_AXIS if origin == _ADDED else origin or None for origin in candidates} - {None}
    return certain.pop() if len(certain) == 1 else None


def _axis_of_features(graph: Graph, node: Node, ref: Ref) -> int | None:
    """Return the axis of an operand that holds its features, if the operation determines it."""
    last = len(graph.shape(ref)) - 1
    if node.spec.has(Trait.ATTENTION):
        return last
    return _of_layer(node, last) if _is_signal(node, ref) else None


def _is_signal(node: Node, ref: Ref) -> bool:
    """Return whether an operand is the one whose features an operation takes: its first factor, else its first one."""
    factor = node.spec.factors[:1]
    if factor and factor != ("*",):
        return bool(node.argument(*factor) == ref)
    return bool(node.args[:1] == (ref,) or node.kwargs.get("input") == ref)


def _of_layer(node: Node, last: int) -> int | None:
    """Return the feature axis of a layer's signal, whose last axis is given; a norm over several axes has none."""
    axis = node.spec.feature_axis
    if axis is None or is_norm_over_several_axes(node):
        return None
    counted = axis if axis >= 0 else last + 1 + axis
    return counted if 0 < counted <= last or axis == -1 else None


def _followed(graph: Graph, node: Node, known: Mapping[Ref, _Origins]) -> Sequence[_Origins | None]:
    """Return where the axes of each output come from, None for an output that cannot be followed."""
    if len(known) == 1:
        ((ref, origins),) = known.items()
        first = node.args[:1] == (ref,) or node.kwargs.get("input") == ref
        for trait, follow in _FOLLOWED.items():
            if node.spec.has(trait) and first:
                return follow(node, graph.shape(ref), origins)
        constant_first = not first and not (node.args and isinstance(node.args[0], Ref))
        if node.spec.has(Trait.MATRIX_PRODUCT) and constant_first and len(node.shape) == len(origins):
            return [origins]  # a constant matrix mixes positions
    same = node.spec.has(Trait.SAME_AXES) or node.kind in (Kind.ACTIVATION, Kind.SUM)
    return [shape if shape is None else _aligned(len(shape), known.values()) for shape in node.shapes] if same else []


def _aligned(ndim: int, operands: Any) -> _Origins:
    """Return the origins of operands that were broadcast to as many axes."""
    padded = [(_ADDED,) * (ndim - len(operand)) + tuple(operand) for operand in operands]
    together = [{origin for origin in axis if origin != _ADDED} or {_ADDED} for axis in zip(*padded, strict=True)]
    return tuple(next(iter(axis)) if len(axis) == 1 else None for axis in together)


def _unsqueezed(node: Node, before: torch.Size, origins: _Origins) -> Sequence[_Origins | None]:
    dim = node.args[1] if len(node.args) > 1 else node.kwargs["dim"]
    axes = list(origins)
    axes.insert(dim if dim >= 0 else dim + len(origins) + 1, _ADDED)
    return [tuple(axes)]


def _reduced(node: Node, before: torch.Size, origins: _Origins) -> Sequence[_Origins | None]:
    """Follow axes through a mean or the like over some of them."""
    dims = node.kwargs.get("dim", node.kwargs.get("axis", node.args[1] if len(node.args) > 1 else None))
    if not isinstance(dims, (int, tuple, list)) or not all(isinstance(dim, int) for dim in leaves(dims)):
        return []
    gone = {dim % len(before) for dim in leaves(dims)}
    kept = origins if len(node.shape) == len(before) else tuple(o for i, o in enumerate(origins) if i not in gone)
    return [kept if shape is not None and len(shape) == len(kept) else None for shape in node.shapes]


def _viewed(node: Node, before: torch.Size, origins: _Origins) -> Sequence[_Origins | None]:
    """Follow axes through a view by their strides: the call is repeated without values, each axis with a prime one."""
    options = (node.args[1:], node.kwargs)
    if any(isinstance(option, (Ref, torch.Tensor)) for option in leaves(options)) or len(before) > len(_PRIMES):
        return [origins if shape is not None and len(shape) == len(origins) else None for shape in node.shapes]
    probe = torch.empty_strided(tuple(before), _PRIMES[: len(before)], device="meta")
    views = leaves(node.func(probe, *node.args[1:], **node.kwargs))
    return [tuple(_by_stride(view, axis, origins) for axis in range(view.ndim)) for view in views]


def _by_stride(view: torch.Tensor, axis: int, origins: _Origins) -> int | None:
    """Return the origin of one axis of a view; an added axis has the stride of all behind it."""
    strides, known = view.stride(), dict(zip(_PRIMES, origins, strict=False))
    own = strides[axis]
    if own in known:
        return _ADDED if own in strides[axis + 1 :] else known[own]
    stepped = [prime for prime in known if own and own % prime == 0 and prime not in strides]
    return known[stepped[0]] if len(stepped) == 1 else _ADDED


def _reshaped(node: Node, before: torch.Size, origins: _Origins) -> Sequence[_Origins | None]:
    """Follow axes through a reshape: those that stay whole keep their origin, those that are joined or cut have none.

    An axis of size 1 has none either where their number changes: which of them it is cannot be seen.
    """
    after = node.shape
    if before == after:
        return [origins]
    axes: list[int | None] = []
    i = j = 0
    while j < len(after):
        if i < len(before) and before[i] == after[j]:
            axes.append(origins[i] if before[i] != 1 or len(before) == len(after) or i == j == 0 else None)
            i, j = i + 1, j + 1
        elif after[j] == 1:
            axes.append(_ADDED)
            j += 1
        elif i < len(before) and before[i] == 1:
            i += 1
        else:
            i, width = _joined(before, after, (i, j))
            axes += [None] * width
            j += width
    return [tuple(axes)]


def _joined(before: torch.Size, after: torch.Size, at: tuple[int, int]) -> tuple[int, int]:
    """Return where the smallest group of axes with the same number of elements ends, and its width behind."""
    i, j = at
    left, right = before[i] if i < len(before) else 0, after[j]
    i, j = i + 1, j + 1
    while left != right and (i < len(before) or j < len(after)):
        if (left < right and i < len(before)) or j == len(after):
            left, i = left * before[i], i + 1
        else:
            right, j = right * after[j], j + 1
    return i, j - at[1]


_FOLLOWED = {
    Trait.RESHAPE: _reshaped,
    Trait.STRIDED_VIEW: _viewed,
    Trait.REDUCTION: _reduced,
    Trait.ADDED_AXIS: _unsqueezed,
}
