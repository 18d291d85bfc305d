"""Arguments of recorded calls that name axes: integers, lists of them, and the positions of operands."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch

from ..graph import Node, Ref
from ..nested import leaves

Operand = Ref | torch.Tensor


def option(node: Node, position: int, *names: str, default: Any = None) -> Any:
    """Return an argument by its position or by one of its names."""
    for name in names:
        if name in node.kwargs:
            return node.kwargs[name]
    return node.args[position] if position < len(node.args) else default


def integers(value: Any) -> list[int]:
    """Return one integer, or the integers of nested lists, as a list."""
    return [operator.index(leaf) for leaf in leaves(value)]


def trailing(node: Node, *names: str) -> list[int]:
    """Return the integers behind the first argument, passed one by one, as a list, or by name."""
    for name in names:
        if name in node.kwargs:
            return integers(node.kwargs[name])
    return integers(node.args[1:])


def operands(node: Node) -> list[Operand]:
    """Return the tensors that a call reads, in order, repeated ones too."""
    return [leaf for leaf in leaves((node.args, node.kwargs)) if isinstance(leaf, (Ref, torch.Tensor))]


def reduced_axes(node: Node, ndim: int, *, position: int) -> list[int] | None:
    """Return the axes over which a call reduces its first argument; None if it compares two tensors instead."""
    dim = option(node, position, "dim", "axis")
    if isinstance(dim, (Ref, torch.Tensor)) or "other" in node.kwargs:
        return None
    if dim is None or isinstance(dim, (bool, torch.dtype)) or (isinstance(dim, Sequence) and not len(dim)):
        return list(range(ndim))
    return [axis % ndim for axis in integers(dim)]


def is_norm_over_several_axes(node: Node) -> bool:
    """Return whether a call is a layer norm over more axes than the last."""
    return "normalized_shape" in node.spec.parameters and len(node.argument("normalized_shape") or ()) != 1
