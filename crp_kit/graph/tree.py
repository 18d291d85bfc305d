"""Nested arguments and results of calls: tuples, lists, mappings and dataclasses with tensors in them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch


class Ref(NamedTuple):
    """One output of one node."""

    node: int
    output: int = 0


def leaves(tree: Any) -> list[Any]:
    """Return a nested structure as the flat list of what is in it; anything that is no container is a leaf."""
    if isinstance(tree, (torch.Tensor, torch.Size, Ref)):
        return [tree]
    if isinstance(tree, (tuple, list)):
        return _joined(tree)
    if isinstance(tree, Mapping):
        return _joined(tree.values())
    if _is_record(tree):
        return _joined(getattr(tree, field.name) for field in dataclasses.fields(tree))
    return [tree]


def tensors(tree: Any) -> list[torch.Tensor]:
    """Return the tensors in a nested structure, in order."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, torch.Tensor)]


def mapped(tree: Any, func: Callable[[Any], Any], kind: type = torch.Tensor) -> Any:
    """Return a nested structure with a function applied to each leaf of one type; its containers are copied."""
    if isinstance(tree, kind):
        return func(tree)
    if isinstance(tree, (torch.Tensor, torch.Size, Ref)):
        return tree
    if isinstance(tree, (tuple, list)):
        parts = [mapped(one, func, kind) for one in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, Mapping):
        found = {key: mapped(one, func, kind) for key, one in tree.items()}
        return found if type(tree) is dict else type(tree)(found)  # type: ignore[call-arg]
    if _is_record(tree):
        twin = copy.copy(tree)
        for field in dataclasses.fields(tree):
            object.__setattr__(twin, field.name, mapped(getattr(tree, field.name), func, kind))
        return twin
    return tree


def _is_record(tree: Any) -> bool:
    return dataclasses.is_dataclass(tree) and not isinstance(tree, (type, torch.nn.Module))


def _joined(trees: Iterable[Any]) -> list[Any]:
    return [leaf for one in trees for leaf in leaves(one)]
