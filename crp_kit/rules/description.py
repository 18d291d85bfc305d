"""Rules in words: a text that differs when a rule, or a parameter of it, differs."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from zennit.core import Hook

__all__ = ["describe_hook", "described_numbers", "epsilon_in"]

RUN_STATE = ("active", "stored_tensors", "tensor_handles")
"""Attributes of a zennit hook that belong to a run, not to the rule."""


def describe_hook(hook: Hook) -> str:
    """Return a rule's name with every number that it was made with.

    zennit keeps most of them in the functions that a rule is made of, so these are looked into.

    Examples
    --------
    >>> from zennit.rules import Epsilon
    >>> "epsilon=0.5" in describe_hook(Epsilon(epsilon=0.5))
    True
    """
    return f"{type(hook).__name__}({described_numbers(hook)})"


def epsilon_in(value: Any) -> str | None:
    """Return the epsilon that a function or rule adds to its denominators, if it holds one number of that name."""
    found = {text for name, text in _parameters(value, "", ()) if name == "epsilon"}
    return found.pop() if len(found) == 1 else None


def described_numbers(value: Any) -> str:
    """Return the numbers in a function or rule with their names, as text."""
    return ", ".join(f"{name}={one}" for name, one in _parameters(value, "", ()))


def _parameters(value: Any, name: str, within: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Yield the numbers in an object, a function's own ones included, with the names they have there."""
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        yield name, str(value)
    elif isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        yield name, f"tensor{tuple(value.shape)}:{_digest(_bytes(value))}"
    elif isinstance(value, BuiltinFunctionType):
        yield name, value.__qualname__
    elif id(value) not in within:
        for inner_name, inner in _parts(value, name):
            yield from _parameters(inner, inner_name, (*within, id(value)))


def _bytes(value: Any) -> bytes:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    data: bytes = value.tobytes()
    return data


def _parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        yield from ((name, one) for one in value)
    elif isinstance(value, (set, frozenset)):
        yield from ((name, one) for one in sorted(value, key=repr))
    elif isinstance(value, dict):
        yield from ((str(key), one) for key, one in value.items())
    elif isinstance(value, functools.partial):
        yield from ((name, value.func), (name, value.args), (name, value.keywords))
    elif isinstance(value, MethodType):
        yield from ((name, value.__func__), (name, value.__self__))
    elif isinstance(value, FunctionType):
        if not _is_known(value):
            yield f"{value.__qualname__}_code", _digest(_code(value.__code__))
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from ((free, cell.cell_contents) for free, cell in cells)
        yield from ((name, default) for default in value.__defaults__ or ())
        yield from (value.__kwdefaults__ or {}).items()
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from ((key, one) for key, one in vars(value).items() if key not in RUN_STATE)
        for base in type(value).__mro__:
            if not _is_known(base):
                yield from ((key, one) for key, one in vars(base).items() if _counts(key, one))


def _counts(name: str, value: Any) -> bool:
    """Return whether something in a class is a method or a number, not what Python itself writes there."""
    return isinstance(value, FunctionType) or (isinstance(value, (int, float, torch.Tensor)) and name[:2] != "__")


def _is_known(value: type | FunctionType) -> bool:
    """Return whether a class or function belongs to a package that has a version, and its code needs no words."""
    return value.__module__.partition(".")[0] in ("builtins", "torch", "zennit", "crp_kit")


def _code(code: CodeType) -> bytes:
    """What a function does: its instructions and constants, those of functions inside it included."""
    inner = [_code(one) if isinstance(one, CodeType) else _constant(one).encode() for one in code.co_consts]
    return b"\0".join([code.co_code, *inner, repr(code.co_names).encode()])


def _constant(value: Any) -> str:
    """Return a constant in words; a set of texts has another order in each process."""
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
