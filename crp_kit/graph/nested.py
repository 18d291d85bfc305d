"""Nested arguments and results of calls: tuples, lists, mappings and dataclasses with tensors in them.

Written by hand: ``torch.utils._pytree`` takes subclasses of lists, mappings and dataclasses for leaves unless each
class is registered for the whole process, and a `Ref` for a container, and is slower on the arguments of a call.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

import torch


class Ref(NamedTuple):
    """One output of one node."""

    node: int
    output: int = 0


_PLAIN = frozenset({bool, int, float, str, type(None), torch.dtype, torch.device})
"""The types of most leaves that are neither tensors nor outputs of nodes, for which the type alone is looked up."""
_LEAVES = _PLAIN | {torch.Tensor, torch.nn.Parameter, Ref}
"""The types of most leaves."""


def leaves(tree: Any) -> list[Any]:
    """Return the leaves of a nested structure as a flat list; anything that is no container is a leaf."""
    flat: list[Any] = []
    waiting = [tree]  # a stack: recursion costs more than the look at a leaf
    while waiting:
        tree = waiting.pop()
        if type(tree) in _LEAVES or isinstance(tree, (torch.Tensor, torch.Size, Ref)):
            flat.append(tree)
        elif isinstance(tree, (tuple, list)):
            waiting += [*tree][::-1]
        elif isinstance(tree, (dict, Mapping)):  # a dictionary is recognised sooner than an abstract mapping
            waiting += [*tree.values()][::-1]
        elif _is_record(tree):
            waiting += [getattr(tree, field.name) for field in reversed(dataclasses.fields(tree))]
        else:
            flat.append(tree)
    return flat


def tensors(tree: Any) -> list[torch.Tensor]:
    """Return the tensors in a nested structure, in order."""
    if isinstance(tree, torch.Tensor):  # as most results are
        return [tree]
    return [leaf for leaf in leaves(tree) if isinstance(leaf, torch.Tensor)]


def mapped(tree: Any, func: Callable[[Any], Any], leaf_type: type = torch.Tensor) -> Any:
    """Return a nested structure with a function applied to each tensor, or to each `Ref`; its containers are copied."""
    if isinstance(tree, leaf_type):
        return func(tree)
    if type(tree) in _LEAVES or isinstance(tree, (torch.Tensor, torch.Size, Ref)):
        return tree
    if isinstance(tree, (tuple, list)):
        parts = [item if type(item) in _PLAIN else mapped(item, func, leaf_type) for item in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, (dict, Mapping)):
        items = {key: mapped(item, func, leaf_type) for key, item in tree.items()} if tree else {}
        if not isinstance(tree, MutableMapping):
            return type(tree)(items)  # type: ignore[call-arg]
        if type(tree) is dict:
            return items
        copied = copy.copy(tree)  # with its attributes beside the items
        for key, item in items.items():
            copied[key] = item
        return copied
    if _is_record(tree):
        copied = copy.copy(tree)
        for field in dataclasses.fields(tree):
            object.__setattr__(copied, field.name, mapped(getattr(tree, field.name), func, leaf_type))
        return copied
    return tree


def same(first: Any, second: Any) -> bool:
    """Return whether two nested structures are equal, tensors and unknown objects only to themselves."""
    if first is second:
        return True
    kind = type(first)
    if kind is not type(second):
        return False
    if kind is tuple or kind is list:
        if len(first) != len(second):
            return False
        pairs = zip(first, second, strict=True)
    elif kind is dict:
        if [*first] != [*second]:
            return False
        pairs = zip(first.values(), second.values(), strict=True)
    elif kind is slice:
        pairs = zip((first.start, first.stop, first.step), (second.start, second.stop, second.step), strict=True)
    elif kind is float:
        return bool(first.hex() == second.hex())  # 0.0 == -0.0
    else:
        return (kind in _PLAIN or kind is Ref or kind is torch.Size) and bool(first == second)
    for left, right in pairs:  # noqa: SIM110 (most are one object, for which a call would take most of the time)
        if left is not right and not same(left, right):
            return False
    return True


def _is_record(tree: Any) -> bool:
    return dataclasses.is_dataclass(tree) and not isinstance(tree, (type, torch.nn.Module))
