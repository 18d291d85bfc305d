"""Along which axis an input keeps its features: the first operations that tell it are followed back to the input."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..graph import Graph, Node, Ref
from ..nested import leaves
from ..operations import Kind

__all__ = ["NO_AXIS", "feature_axis"]

NO_AXIS = 0
"""Said of an input that has no feature axis: the model itself adds one, of size 1."""
_ADDED = -1
"""The origin of an axis that the model added."""
_Origins = tuple[int | None, ...]
"""For each axis of an output the axis of the input that it is, `_ADDED`, or None if it is none of them alone."""

_CHANNELS_FIRST = frozenset("batch_norm group_norm instance_norm local_response_norm interpolate upsample".split())
_MATRIX_PRODUCTS = frozenset({"matmul", "mm", "bmm"})
_RECURRENT = frozenset("lstm gru rnn_tanh rnn_relu".split())
_RESHAPES = frozenset("reshape view flatten unflatten ravel view_as reshape_as".split())
_VIEWS = frozenset(
    "permute transpose swapaxes swapdims movedim moveaxis t T mT H squeeze getitem select narrow chunk split "
    "split_with_sizes tensor_split unbind".split()
)
_REDUCTIONS = frozenset("mean sum amax amin nanmean max min std var norm vector_norm".split())
_SAME_AXES = frozenset(
    "softmax log_softmax pow square sqrt rsqrt reciprocal exp mul div erf sin cos layer_norm rms_norm normalize expand "
    "expand_as broadcast_to broadcast_tensors contiguous clone to type_as float double half bfloat16 type dropout "
    "dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout where masked_fill cat pad roll "
    "flip tril triu index_select take_along_dim cumsum maximum minimum copy lerp".split()
)
_PRIMES = (101, 103, 107, 109, 113, 127, 131, 137)


def feature_axis(graph: Graph, source: Ref) -> int | None:
    """Return the axis of an input that holds its channels or features, `NO_AXIS` if it has none, None if unknown.

    What reads the input element-wise, moves or reshapes its axes, or takes a mean over others is followed to the first
    operations that tell: convolutions, poolings, norms, linear and recurrent layers, or an output (sample, class). They
    have to agree.
    """
    origins: dict[Ref, _Origins] = {source: tuple(range(len(graph.shape(source))))}
    waiting = list(graph.users.get(source, ()))
    heapq.heapify(waiting)
    said: set[int | None] = set()
    done = -1
    while waiting:
        index = heapq.heappop(waiting)
        if index <= done:
            continue
        done, node = index, graph.nodes[index]
        known = [ref for ref in node.inputs if ref in origins]
        telling = {ref: axis for ref in known if (axis := _telling_axis(graph, node, ref)) is not None}
        said |= {origins[ref][axis] for ref, axis in telling.items()}
        if telling:
            continue
        for output, followed in enumerate(_followed(graph, node, {ref: origins[ref] for ref in known})):
            if followed is not None:
                origins[Ref(index, output)] = followed
                for reader in graph.users.get(Ref(index, output), ()):
                    heapq.heappush(waiting, reader)
    ends = origins.get(graph.output, ())
    said |= {ends[1]} if len(ends) == 2 else set()
    certain = {NO_AXIS if origin == _ADDED else origin or None for origin in said} - {None}
    return certain.pop() if len(certain) == 1 else None


def _telling_axis(graph: Graph, node: Node, ref: Ref) -> int | None:
    """Return the axis of an operand that holds its features, if the operation says so."""
    last = len(graph.shape(ref)) - 1
    if node.op in _MATRIX_PRODUCTS:
        return last if node.args[:1] == (ref,) else None
    if node.op == "addmm":
        return last if node.args[1:2] == (ref,) else None
    if node.op == "scaled_dot_product_attention":
        return last
    if not node.args or node.args[0] != ref:
        return None if node.kwargs.get("input") != ref else _of_layer(node, last)
    return _of_layer(node, last)


def _of_layer(node: Node, last: int) -> int | None:
    """Return the feature axis of a layer's signal."""
    op = node.op
    if op == "linear" or op in _RECURRENT:
        return last
    if op in ("layer_norm", "rms_norm"):
        return last if len(node.argument("normalized_shape") or ()) == 1 else None
    if op in _CHANNELS_FIRST:
        return 1 if last else None
    dimensions = next((n for n in (1, 2, 3) if f"{n}d" in op), 0)
    if dimensions and ("conv" in op or "pool" in op):
        return last - dimensions if last > dimensions else None
    return None


def _followed(graph: Graph, node: Node, known: Mapping[Ref, _Origins]) -> Sequence[_Origins | None]:
    """Return where the axes of each output come from, None for an output that cannot be followed."""
    if len(known) == 1:
        ((ref, origins),) = known.items()
        first = node.args[:1] == (ref,) or node.kwargs.get("input") == ref
        for ops, follow in ((_RESHAPES, _reshaped), (_VIEWS, _viewed), (_REDUCTIONS, _reduced)):
            if node.op in ops and first:
                return follow(node, graph.shape(ref), origins)
        if node.op == "unsqueeze" and first:
            return _unsqueezed(node, origins)
        constant_first = not first and not (node.args and isinstance(node.args[0], Ref))
        if node.op in _MATRIX_PRODUCTS and constant_first and len(node.shape) == len(origins):
            return [origins]  # a constant matrix mixes places
    same = node.op in _SAME_AXES or node.kind in (Kind.ACTIVATION, Kind.SUM)
    return [shape if shape is None else _aligned(len(shape), known.values()) for shape in node.shapes] if same else []


def _aligned(ndim: int, operands: Any) -> _Origins:
    """Return the origins of operands that were broadcast to as many axes."""
    padded = [(_ADDED,) * (ndim - len(one)) + tuple(one) for one in operands]
    together = [{origin for origin in axis if origin != _ADDED} or {_ADDED} for axis in zip(*padded, strict=True)]
    return tuple(next(iter(axis)) if len(axis) == 1 else None for axis in together)


def _unsqueezed(node: Node, origins: _Origins) -> Sequence[_Origins | None]:
    dim = node.args[1] if len(node.args) > 1 else node.kwargs["dim"]
    axes = list(origins)
    axes.insert(dim if dim >= 0 else dim + len(origins) + 1, _ADDED)
    return [tuple(axes)]


def _reduced(node: Node, before: torch.Size, origins: _Origins) -> Sequence[_Origins | None]:
    """Follow axes through a mean or the like over some of them."""
    dims = node.kwargs.get("dim", node.kwargs.get("axis", node.args[1] if len(node.args) > 1 else None))
    if not isinstance(dims, (int, tuple, list)) or not all(isinstance(one, int) for one in leaves(dims)):
        return []
    gone = {one % len(before) for one in leaves(dims)}
    kept = origins if len(node.shape) == len(before) else tuple(o for i, o in enumerate(origins) if i not in gone)
    return [kept if shape is not None and len(shape) == len(kept) else None for shape in node.shapes]


def _viewed(node: Node, before: torch.Size, origins: _Origins) -> Sequence[_Origins | None]:
    """Follow axes through a view by their strides: the call is repeated without values, each axis with a prime one."""
    options = (node.args[1:], node.kwargs)
    if any(isinstance(one, (Ref, torch.Tensor)) for one in leaves(options)) or len(before) > len(_PRIMES):
        return [origins if shape is not None and len(shape) == len(origins) else None for shape in node.shapes]
    probe = torch.empty_strided(tuple(before), _PRIMES[: len(before)], device="meta")
    views = leaves(node.func(probe, *node.args[1:], **node.kwargs))
    return [tuple(_by_stride(view, axis, origins) for axis in range(view.ndim)) for view in views]


def _by_stride(view: torch.Tensor, axis: int, origins: _Origins) -> int | None:
    """Return the origin of one axis of a view; an added axis has the stride of all that lies behind it."""
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
    found: list[int | None] = []
    i = j = 0
    while j < len(after):
        if i < len(before) and before[i] == after[j]:
            found.append(origins[i] if before[i] != 1 or len(before) == len(after) or i == j == 0 else None)
            i, j = i + 1, j + 1
        elif after[j] == 1:
            found.append(_ADDED)
            j += 1
        elif i < len(before) and before[i] == 1:
            i += 1
        else:
            i, width = _joined(before, after, (i, j))
            found += [None] * width
            j += width
    return [tuple(found)]


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
