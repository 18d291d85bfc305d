"""Arguments of recorded calls that name axes: integers, lists of them, and the slots in which an operand stands."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch

from ..graph import Node, Ref
from ..nested import leaves

Operand = Ref | torch.Tensor


def option(node: Node, position: int, *names: str, default: Any = None) -> Any:
    """Return an argument by its place or by one of its names."""
    for name in names:
        if name in node.kwargs:
            return node.kwargs[name]
    return node.args[position] if position < len(node.args) else default


def integers(value: Any) -> list[int]:
    """Return one integer, or the integers of nested lists, as a list."""
    return [operator.index(one) for one in leaves(value)]


def trailing(node: Node, *names: str) -> list[int]:
    """Return the integers behind the first argument, passed one by one, as a list, or by name."""
    for name in names:
        if name in node.kwargs:
            return integers(node.kwargs[name])
    return integers(node.args[1:])


def operands(node: Node) -> list[Operand]:
    """Return the tensors that a call reads, in order, repeated ones too."""
    return [one for one in leaves((node.args, node.kwargs)) if isinstance(one, (Ref, torch.Tensor))]


def reduced_axes(node: Node, ndim: int) -> list[int] | None:
    """Return the axes over which a call reduces its first argument; None if it compares two tensors instead."""
    place = 2 if node.op in ("norm", "vector_norm") else 1
    wanted = option(node, place, "dim", "axis")
    if isinstance(wanted, (Ref, torch.Tensor)) or "other" in node.kwargs:
        return None
    if wanted is None or isinstance(wanted, (bool, torch.dtype)) or (isinstance(wanted, Sequence) and not len(wanted)):
        return list(range(ndim))
    return [axis % ndim for axis in integers(wanted)]
