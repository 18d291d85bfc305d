"""Axes through products that sum over axes: matrix products, einsum, attention, each written as labelled axes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from ..graph import Node, Ref
from .arguments import Operand, integers, operands, option
from .layout import Factor, Layout, Passage, by_operation, carried, joined

Labels = tuple[Hashable, ...]


class Product(NamedTuple):
    """A product of operands: axes of one label are multiplied, and summed over if the output lacks the label."""

    operands: tuple[tuple[Operand, Labels], ...]
    output: Labels


_Reader = Callable[[Node, list[Operand], list[int]], Product | None]
"""From a call, its operands and their numbers of axes to a product of labelled axes; None if it cannot be read so."""


def _through_product(passage: Passage, *, read: _Reader) -> Layout | None:
    """Return the layout behind a product; a weight that sums over channels makes new ones along its own axes.

    A weight is a tensor that does not depend on the input, as that of a linear layer.
    """
    tensors = operands(passage.node)
    ndims = [len(passage.shape_of(operand)) if isinstance(operand, Ref) else operand.ndim for operand in tensors]
    product = read(passage.node, tensors, ndims)
    if product is None:
        return None
    own = [labels for operand, labels in product.operands if isinstance(operand, Ref) and operand == passage.ref]
    results = [_through(passage, product, labels) for labels in own]
    return joined(results, samples=passage.samples)


def _through(passage: Passage, product: Product, labels: Labels) -> Layout | None:
    output = {label: axis for axis, label in enumerate(product.output)}
    layout = carried(passage, [output.get(label) for label in labels])
    if layout is None or passage.samples:
        return layout
    summed = {label for axis, label in enumerate(labels) if label not in output and passage.touches([axis])}
    fresh = [
        Factor(passage.after[output[label]], output[label])
        for operand, own in product.operands
        if isinstance(operand, torch.Tensor) and summed.intersection(own)
        for label in own
        if label in output and not any(label in labels for other, labels in product.operands if other is not operand)
    ]
    return (*layout, *fresh)


def _leading(count: int) -> Labels:
    """Return labels of batch axes, counted from the last."""
    return tuple(("batch", axis) for axis in range(-count, 0))


def _matmul(first: tuple[Operand, int], second: tuple[Operand, int]) -> Product:
    (a, a_ndim), (b, b_ndim) = first, second
    a_labels = _leading(a_ndim - 2) + ("row", "sum")[-a_ndim:]
    b_labels = _leading(b_ndim - 2) + (("sum", "column") if b_ndim > 1 else ("sum",))
    shared = _leading(max(a_ndim, b_ndim, 2) - 2)
    output = shared + ("row",) * (a_ndim > 1) + ("column",) * (b_ndim > 1)
    return Product(((a, a_labels), (b, b_labels)), output)


def _two(node: Node, tensors: list[Operand], ndims: list[int]) -> Product | None:
    return _matmul((tensors[0], ndims[0]), (tensors[1], ndims[1])) if len(tensors) == 2 else None


def _with_summand(node: Node, tensors: list[Operand], ndims: list[int]) -> Product | None:
    if len(tensors) != 3:
        return None
    product = _matmul((tensors[1], ndims[1]), (tensors[2], ndims[2]))
    start = len(product.output) - ndims[0]
    return product._replace(operands=((tensors[0], product.output[start:]), *product.operands)) if start >= 0 else None


def _linear(node: Node, tensors: list[Operand], ndims: list[int]) -> Product:
    signal, weight, bias = (option(node, i, name) for i, name in enumerate(("input", "weight", "bias")))
    kept = _leading(ndims[0] - 1)
    parts: list[tuple[Operand, Labels]] = [(signal, (*kept, "sum")), (weight, ("column", "sum")[-ndims[1] :])]
    parts += [] if bias is None else [(bias, ("column",))]
    return Product(tuple(parts), (*kept, "column") if ndims[1] > 1 else kept)


def _bilinear(node: Node, tensors: list[Operand], ndims: list[int]) -> Product:
    kept = _leading(ndims[0] - 1)
    parts = [(tensors[0], (*kept, "first")), (tensors[1], (*kept, "second")), (tensors[2], ("new", "first", "second"))]
    return Product((*parts, *((bias, ("new",)) for bias in tensors[3:])), (*kept, "new"))


def _distances(node: Node, tensors: list[Operand], ndims: list[int]) -> Product:
    kept = _leading(max(ndims) - 2)
    labels = [(_leading(ndim - 2), row) for ndim, row in zip(ndims, ("row", "column"), strict=False)]
    parts = [(operand, (*lead, row, "sum")) for operand, (lead, row) in zip(tensors, labels, strict=False)]
    return Product(tuple(parts), (*kept, "row", "column"))


def _outer(node: Node, tensors: list[Operand], ndims: list[int]) -> Product:
    return Product(((tensors[0], ("row",)), (tensors[1], ("column",))), ("row", "column"))


def _attention(node: Node, tensors: list[Operand], ndims: list[int]) -> Product | None:
    query, key, value = (option(node, i, name) for i, name in enumerate(("query", "key", "value")))
    if not isinstance(query, (Ref, torch.Tensor)):
        return None
    kept = _leading(ndims[0] - 2)
    parts: list[tuple[Operand, Labels]] = [
        (query, (*kept, "row", "inner")), (key, (*kept, "sum", "inner")), (value, (*kept, "sum", "column")),
    ]  # fmt: skip
    for mask, ndim in zip(tensors[3:], ndims[3:], strict=True):
        parts.append((mask, (*_leading(ndim - 2), "row", "sum")[-ndim:]))
    return Product(tuple(parts), (*kept, "row", "column"))


def _tensordot(node: Node, tensors: list[Operand], ndims: list[int]) -> Product | None:
    dims = option(node, 2, "dims", default=2)
    if isinstance(dims, (Ref, torch.Tensor)):
        return None
    first, second = ndims
    if isinstance(dims, int):
        summed = list(range(first - dims, first)), list(range(dims))
    else:
        summed = [axis % first for axis in integers(dims[0])], [axis % second for axis in integers(dims[1])]
    pairs = [{axis: ("sum", i) for i, axis in enumerate(axes)} for axes in summed]
    labels = [
        tuple(pair.get(axis, (side, axis)) for axis in range(ndim))
        for side, pair, ndim in zip(("row", "column"), pairs, ndims, strict=True)
    ]
    output = tuple(label for label in (*labels[0], *labels[1]) if label[0] != "sum")
    return Product(tuple(zip(tensors, labels, strict=True)), output)


def _einsum(node: Node, tensors: list[Operand], ndims: list[int]) -> Product | None:
    equation = option(node, 0, "equation")
    parsed = _letters(equation) if isinstance(equation, str) else _sublists(node)
    if parsed is None or len(parsed[0]) != len(tensors):
        return None
    inputs, output = parsed
    labels = [_spread(letters, ndim) for letters, ndim in zip(inputs, ndims, strict=True)]
    spans = [ndim - len(letters) + 1 for letters, ndim in zip(inputs, ndims, strict=True) if ... in letters]
    if output is None:
        counts = Counter(itertools.chain.from_iterable(inputs))
        output = [...] if spans else []
        output += sorted(letter for letter, count in counts.items() if count == 1 and letter is not ...)
    return Product(tuple(zip(tensors, labels, strict=True)), _spread(output, len(output) - 1 + max(spans, default=0)))


def _letters(equation: str) -> tuple[list[list[Any]], list[Any] | None]:
    """Return an equation as lists of letters, with an Ellipsis for three dots."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    return [_split(part) for part in left.split(",")], _split(right) if arrow else None


def _split(part: str) -> list[Any]:
    before, dots, after = part.partition("...")
    return [*before, *([...] if dots else []), *after]


def _sublists(node: Node) -> tuple[list[list[Any]], list[Any] | None] | None:
    """Return the lists of axis numbers of ``einsum(a, [0, 1], b, [1, 2], [0, 2])``."""
    lists = [list(arg) for arg in node.args if isinstance(arg, (list, tuple)) and not isinstance(arg, Ref)]
    count = sum(isinstance(arg, (Ref, torch.Tensor)) for arg in node.args)
    return (lists[:count], lists[count] if len(lists) > count else None) if len(lists) >= count else None


def _spread(letters: Sequence[Any], ndim: int) -> Labels:
    """Return letters with batch labels for the axes that an Ellipsis stands for."""
    if ... not in letters:
        return tuple(letters)
    index = list(letters).index(...)
    return (*letters[:index], *_leading(ndim - len(letters) + 1), *letters[index + 1 :])


_READERS: dict[_Reader, str] = {
    _two: "matmul mm bmm mv dot vdot",
    _with_summand: "addmm baddbmm addmv",
    _outer: "outer ger",
    _linear: "linear",
    _bilinear: "bilinear",
    _distances: "cdist",
    _attention: "scaled_dot_product_attention",
    _tensordot: "tensordot",
    _einsum: "einsum",
}
RULES = by_operation({partial(_through_product, read=read): names for read, names in _READERS.items()})
