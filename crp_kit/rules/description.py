"""Descriptions of rules: text that differs when a rule, or a parameter of it, differs. Part of fingerprints.

It has to be the same in another process and another release of crp-kit, unlike the key of a composite
(`crp_kit.rules.composite_key`), which compares objects of one process also by identity, and it says more than the
constructor arguments of a rule (`crp_kit.rules.parameters`), which a user's rule need not have.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from zennit.core import Hook

__all__ = ["closure_of", "describe_hook", "described_numbers", "epsilon_in"]

RUN_STATE = ("active", "stored_tensors", "tensor_handles")
"""Attributes of a zennit hook that belong to a run, not to the rule."""


def describe_hook(hook: Hook) -> str:
    """Return a rule's name with every number that it was made with.

    zennit keeps most of them in closures of the functions that a rule consists of, so these are read.

    Examples
    --------
    >>> from zennit.rules import Epsilon
    >>> "epsilon=0.5" in describe_hook(Epsilon(epsilon=0.5))
    True
    """
    return f"{type(hook).__name__}({described_numbers(hook)})"


def epsilon_in(value: Any) -> str | None:
    """Return the epsilon that a function or rule adds to its denominators, if it holds one number of that name."""
    epsilons = {number for name, number in _parameters(value, "", ()) if name == "epsilon"}
    return epsilons.pop() if len(epsilons) == 1 else None


def described_numbers(value: Any) -> str:
    """Return the numbers in a function or rule with their names, as text."""
    return ", ".join(f"{name}={number}" for name, number in _parameters(value, "", ()))


def closure_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the variables that a function has from around it, by name."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    yield from ((name, cell.cell_contents) for name, cell in cells)


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
    """Return the content of a tensor or array."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    data: bytes = value.tobytes()
    return data


def _parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield what an object consists of, with its names; what has none there gets that of the object."""
    if isinstance(value, (list, tuple)):
        yield from ((name, item) for item in value)
    elif isinstance(value, (set, frozenset)):
        yield from ((name, item) for item in sorted(value, key=repr))
    elif isinstance(value, dict):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, functools.partial):
        yield from ((name, value.func), (name, value.args), (name, value.keywords))
    elif isinstance(value, MethodType):
        yield from ((name, value.__func__), (name, value.__self__))
    elif isinstance(value, FunctionType):
        if not _is_known(value):
            yield f"{value.__qualname__}_code", _digest(_code(value.__code__))
        yield from closure_of(value)
        yield from ((name, default) for default in value.__defaults__ or ())
        yield from (value.__kwdefaults__ or {}).items()
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        yield from ((key, attribute) for key, attribute in vars(value).items() if key not in RUN_STATE)
        for base in type(value).__mro__:
            if not _is_known(base):
                yield from ((key, attribute) for key, attribute in vars(base).items() if _counts(key, attribute))


def _counts(name: str, value: Any) -> bool:
    """Return whether an attribute of a class is a method or a number of the user's, not one that Python adds."""
    return isinstance(value, FunctionType) or (isinstance(value, (int, float, torch.Tensor)) and name[:2] != "__")


def _is_known(value: type | FunctionType) -> bool:
    """Return whether a class or function is in a package whose version fixes its code, which is then left out."""
    return value.__module__.partition(".")[0] in ("builtins", "torch", "zennit", "crp_kit")


def _code(code: CodeType) -> bytes:
    """Return the instructions and constants of a function, those of functions inside it included.

    Instructions differ between Python versions: a user's own rule has another fingerprint under each of them.
    """
    constants = [
        _code(constant) if isinstance(constant, CodeType) else _constant(constant).encode()
        for constant in code.co_consts
    ]
    return b"\0".join([code.co_code, *constants, repr(code.co_names).encode()])


def _constant(value: Any) -> str:
    """Return a constant as text; a set of strings has another order in each process."""
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
