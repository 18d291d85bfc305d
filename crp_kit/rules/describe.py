"""Rules in words: a text that differs when a rule, or a parameter of it, differs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import torch
from zennit.core import Hook

from ..graph.nodes import Graph
from .assign import Plan

__all__ = ["describe_hook", "describe_plan"]

_STATE = ("active", "stored_tensors", "tensor_handles")
"""Attributes of a zennit hook that belong to a run, not to the rule."""


def describe_plan(graph: Graph, plan: Plan) -> dict[str, list[str]]:
    """Return what is done where: for each rule the names of its nodes."""
    found: dict[str, list[str]] = {}
    for node, step in zip(graph, plan.steps, strict=True):
        hook = getattr(step, "hook", None)
        rule = describe_hook(hook) if isinstance(hook, Hook) else step.rule
        if rule:
            found.setdefault(rule, []).append(node.name)
    return found


def describe_hook(hook: Hook) -> str:
    """Return a rule's name with every number that it was made with.

    zennit keeps most of them in the functions that a rule is made of, so these are looked into.

    Examples
    --------
    >>> from zennit.rules import Epsilon
    >>> "epsilon=0.5" in describe_hook(Epsilon(epsilon=0.5))
    True
    """
    found = [f"{name}={value}" for name, value in _parameters(hook, "", set())]
    return f"{type(hook).__name__}({', '.join(found)})"


def _parameters(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    """Yield the numbers in an object, a function's own ones included, with the names they have there."""
    if value is None or isinstance(value, (bool, int, float, str)):
        yield name, str(value)
    elif isinstance(value, torch.Tensor):
        yield name, f"tensor{tuple(value.shape)}:{_digest(value.detach().cpu().contiguous().numpy().tobytes())}"
    elif id(value) not in seen:
        seen.add(id(value))
        for inner_name, inner in _parts(value, name):
            yield from _parameters(inner, inner_name, seen)


def _parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        yield from ((name, one) for one in value)
    elif isinstance(value, dict):
        yield from ((str(key), one) for key, one in value.items())
    elif isinstance(value, FunctionType):
        if not value.__module__.startswith("zennit."):
            yield f"{value.__qualname__}_code", _digest(_code(value.__code__))
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from ((free, cell.cell_contents) for free, cell in cells)
        yield from ((name, default) for default in value.__defaults__ or ())
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from ((key, one) for key, one in vars(value).items() if key not in _STATE and not key.startswith("_"))


def _code(code: CodeType) -> bytes:
    """What a function does: its instructions and constants, those of functions inside it included."""
    inner = [_code(one) if isinstance(one, CodeType) else repr(one).encode() for one in code.co_consts]
    return b"\0".join([code.co_code, *inner, repr(code.co_names).encode()])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
