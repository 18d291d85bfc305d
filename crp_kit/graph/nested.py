"""Nested arguments and results of calls: tuples, lists, mappings and dataclasses with tensors in them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple

import torch


class Ref(NamedTuple):
    """One output of one node."""

    node: int
    output: int = 0


_LEAVES = frozenset(
    {bool, int, float, str, type(None), torch.Tensor, torch.nn.Parameter, torch.dtype, torch.device, Ref}
)
"""The types of most leaves, which are told apart by their type alone."""


def leaves(tree: Any) -> list[Any]:
    """Return a nested structure as the flat list of what is in it; anything that is no container is a leaf."""
    found: list[Any] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Any]) -> None:
    """Put the leaves of a nested structure into a list."""
    if type(tree) in _LEAVES or isinstance(tree, (torch.Tensor, torch.Size, Ref)):
        found.append(tree)
    elif isinstance(tree, (tuple, list)):
        _collect_each(tree, found)
    elif isinstance(tree, Mapping):
        _collect_each(tree.values(), found)
    elif _is_record(tree):
        _collect_each((getattr(tree, field.name) for field in dataclasses.fields(tree)), found)
    else:
        found.append(tree)


def _collect_each(trees: Iterable[Any], found: list[Any]) -> None:
    for one in trees:
        if type(one) in _LEAVES:  # most are, and are told apart sooner than called for
            found.append(one)
        else:
            _collect(one, found)


def tensors(tree: Any) -> list[torch.Tensor]:
    """Return the tensors in a nested structure, in order."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, torch.Tensor)]


def mapped(tree: Any, func: Callable[[Any], Any], kind: type = torch.Tensor) -> Any:
    """Return a nested structure with a function applied to each leaf of one type; its containers are copied."""
    if isinstance(tree, kind):
        return func(tree)
    if type(tree) in _LEAVES or isinstance(tree, (torch.Tensor, torch.Size, Ref)):
        return tree
    if isinstance(tree, (tuple, list)):
        parts = [mapped(one, func, kind) for one in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, Mapping):
        found = {key: mapped(one, func, kind) for key, one in tree.items()}
        if not isinstance(tree, MutableMapping):
            return type(tree)(found)  # type: ignore[call-arg]
        if type(tree) is dict:
            return found
        twin = copy.copy(tree)  # with what it has beside its items
        for key, one in found.items():
            twin[key] = one
        return twin
    if _is_record(tree):
        twin = copy.copy(tree)
        for field in dataclasses.fields(tree):
            object.__setattr__(twin, field.name, mapped(getattr(tree, field.name), func, kind))
        return twin
    return tree


def _is_record(tree: Any) -> bool:
    return dataclasses.is_dataclass(tree) and not isinstance(tree, (type, torch.nn.Module))
