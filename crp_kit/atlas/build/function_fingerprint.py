"""Fingerprints of functions that choose targets: another code, another constant or another value gives another one."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch

from .function_code import code_text, globals_read

__all__ = ["function_fingerprint"]

_LIBRARIES = frozenset({*sys.stdlib_module_names, "torch", "torchvision", "numpy", "zennit", "crp_kit"})
"""Packages whose functions and classes are known by their names."""


def function_fingerprint(function: Any) -> str:
    """Return a SHA-256 of what a function does: its code, and the values that it holds or reads.

    Code counts as the syntax tree of its source, without names of functions, comments, docstrings and annotations, so
    that it is the same under all versions of Python; where there is no source, as its constants, names and operators in
    their order. Of values count those in closures, defaults, global variables, attributes of objects and bound
    arguments; functions and classes of other packages count by their names.

    Examples
    --------
    >>> first, second = (lambda output, label: [0]), (lambda output, label: [1])
    >>> function_fingerprint(first) == function_fingerprint(second)
    False
    """
    digest = hashlib.sha256()
    for part in _parts(function, frozenset()):
        digest.update(f"{len(part)}:{part}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _parts(value: Any, within: frozenset[int]) -> Iterator[str]:
    """Yield what an object consists of, as text; what holds itself is not walked again."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        yield f"{type(value).__name__} {value!r}"
    elif isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        yield _array(value)
    elif isinstance(value, ModuleType):
        yield f"module {value.__name__}"
    elif _is_of_a_library(value):
        yield f"{value.__module__}.{value.__qualname__}"
    elif id(value) in within:
        yield "itself"
    else:
        yield type(value).__name__
        for name, inner in _contents(value):
            yield name
            yield from _parts(inner, within | {id(value)})


def _contents(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of an object by name, in an order that is the same in each process."""
    if isinstance(value, FunctionType):
        yield from _of_function(value)
    elif isinstance(value, MethodType):
        yield from (("function", value.__func__), ("self", value.__self__))
    elif isinstance(value, functools.partial):
        yield from (("function", value.func), ("arguments", value.args), ("keywords", value.keywords))
    elif isinstance(value, (list, tuple)):
        yield from (("", item) for item in value)
    elif isinstance(value, (set, frozenset)):
        yield from (("", item) for item in sorted(value, key=lambda item: "".join(_parts(item, frozenset()))))
    elif isinstance(value, Mapping):
        yield from ((f"{type(key).__name__} {key!s}", item) for key, item in value.items())
    elif isinstance(value, torch.nn.Module):
        yield from (("class", type(value)), ("training", value.training))
        yield from value.state_dict().items()
    elif isinstance(value, type):
        yield from _of_class(value)
    else:
        yield from _of_object(value)


def _of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the code of a function, what it has from around it, its defaults, and the global values that it reads."""
    yield "code", code_text(function)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # not assigned yet
            yield name, cell.cell_contents
    yield "defaults", function.__defaults__
    yield from (function.__kwdefaults__ or {}).items()
    names = globals_read(function.__code__)
    yield from ((name, function.__globals__[name]) for name in names if name in function.__globals__)


def _of_class(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the methods, values and bases of a class, without what Python adds to it."""
    for name, value in sorted(vars(cls).items()):
        if isinstance(value, (staticmethod, classmethod)):
            yield name, value.__func__
        elif isinstance(value, property):
            yield name, value.fget
        elif isinstance(value, (MemberDescriptorType, GetSetDescriptorType)):
            continue
        elif isinstance(value, FunctionType) or (not name.startswith("_abc_") and not name.startswith("__")):
            yield name, value
    yield from (("base", base) for base in cls.__bases__)


def _of_object(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the class and the attributes of an object; of one without any, its representation."""
    yield "class", type(value)
    attributes = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        attributes |= {name: getattr(value, name) for name in slots if isinstance(name, str) and hasattr(value, name)}
    yield from sorted(attributes.items())
    if not attributes and " at 0x" not in repr(value):
        yield "value", repr(value)


def _is_of_a_library(value: Any) -> bool:
    """Return whether a function or class is known by its name."""
    if isinstance(value, BuiltinFunctionType):
        return True
    if "<" in getattr(value, "__qualname__", ""):  # made in a function, or a lambda
        return False
    named = isinstance(value, (type, FunctionType)) or (
        hasattr(value, "__qualname__") and not isinstance(value, MethodType)
    )
    return named and str(getattr(value, "__module__", "")).partition(".")[0] in _LIBRARIES


def _array(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    else:
        data = value.tobytes()
    return f"array {tuple(value.shape)} {value.dtype} {hashlib.sha256(data).hexdigest()}"
