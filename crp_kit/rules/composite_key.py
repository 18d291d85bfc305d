"""Keys of composites by content: equal for composites made alike, and different after any change in place.

Rules keep their parameters in attributes, in closures and defaults of functions, in tensors: the key is a walk through
all of it. Keys may differ for composites with the same rules (two rules of one share a tensor, and those of another
have one each), which costs a plan; they never agree for different ones, which would give wrong results. A key compares
some objects by identity, so that it is for one process; for fingerprints see `crp_kit.rules.description`.
"""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MappingProxyType, MethodType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from zennit.core import Composite, Hook
from zennit.types import SubclassMeta

from ..numerics import checksum
from .description import RUN_STATE

__all__ = ["Content", "Same", "content_of"]

_COMPOSITE_STATE = ("handles", "hook_refs")
"""Attributes of a zennit composite that belong to a run, not to its rules."""
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, type(...), torch.dtype, torch.device})
"""Types of values that are compared by ``==``."""
_LIBRARIES = frozenset({*sys.stdlib_module_names, "torch", "numpy", "zennit", "crp_kit"})
"""Packages whose functions and classes are taken as constant."""
_RULES = ("zennit.", "crp_kit.rules.")
"""Modules with those of their classes whose objects are rules, or parts of rules."""
_OF_PYTHON = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__"})
_SMALL, _LARGE = 1 << 10, 1 << 24
"""Bytes of a tensor up to which it is part of a key itself, and up to which it is compared with other tensors."""
_MOST = 20_000
"""Parts of a key; what has more is equal to nothing."""


@dataclass(frozen=True)
class Content:
    """The content of a composite, or of anything else.

    Parameters
    ----------
    key : tuple
        Hashable. It keeps alive what it compares by identity.
    hooks : tuple of zennit Hook
        The hooks in it, in the order of the walk.
    has_own_code : bool
        Functions or objects of the user's own classes are in it. They may write to what they hold when they run, and
        the user may read it there.
    """

    key: tuple[Any, ...]
    hooks: tuple[Hook, ...]
    has_own_code: bool

    def has_hooks_of(self, other: Content) -> bool:
        """Return whether the very same hooks are in both."""
        return len(self.hooks) == len(other.hooks) and all(map(_is, self.hooks, other.hooks))


class Same:
    """Something that is equal to itself only."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is Same and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _is(first: Any, second: Any) -> bool:
    return first is second


def content_of(value: Any) -> Content:
    """Return the content of a composite, or of anything else.

    Examples
    --------
    >>> from zennit.composites import EpsilonPlus
    >>> content_of(EpsilonPlus()).key == content_of(EpsilonPlus()).key != content_of(EpsilonPlus(epsilon=0.1)).key
    True
    """
    key: list[Any] = []
    hooks: list[Hook] = []
    met: dict[int, tuple[int, Any]] = {}
    waiting, own_code = [value], False
    while waiting and len(key) < _MOST:
        value = waiting.pop()
        cls: Any = type(value)
        if cls in _PLAIN:
            key += cls, value
        elif id(value) in met:
            key += Same, met[id(value)][0]
        else:
            met[id(value)] = len(met), value  # with the object, so that its id stays its own
            read, of_a_library = _reader(cls)
            label, parts = read(value)
            key += cls, label, len(parts)
            if parts:
                waiting += parts[::-1]
            if isinstance(value, Hook):
                hooks.append(value)
            own_code = own_code or not (_is_of_a_library(value) if cls is FunctionType else of_a_library)
    if waiting:
        key.append(Same(object()))
    return Content(tuple(key), tuple(hooks), own_code)


# ---------------------------------------------------------------------- readers of types

Parts = tuple[Any, Sequence[Any]]
"""A hashable label of an object, which is compared by ``==``, and the objects in it, through which the walk goes on."""


@lru_cache(maxsize=1024)
def _reader(cls: type) -> tuple[Callable[[Any], Parts], bool]:
    """Return the function that reads objects of a type, and whether the type is a library's."""
    of_a_library = _is_of_a_library(cls)
    for bases, read in _READERS:
        if issubclass(cls, bases):
            return read, of_a_library
    for bases, read in _CONTAINERS:
        if issubclass(cls, bases):
            return (partial(_with_attributes, read) if cls.__dictoffset__ else read), of_a_library
    walked = cls.__module__.startswith(_RULES) if of_a_library else not issubclass(cls, torch.nn.Module)
    return (_object if walked else _itself), of_a_library


def _itself(value: Any) -> Parts:
    return Same(value), ()


def _sequence(value: Iterable[Any]) -> Parts:
    return None, list(value)


def _set(value: Iterable[Any]) -> Parts:
    """Return the items of a set, by value or by identity, whatever their order."""
    return frozenset(item if type(item) in _PLAIN else Same(item) for item in value), ()


def _mapping(value: Any) -> Parts:
    """Return the keys, if all of them are plain, and the values."""
    items = dict(value)
    if all(type(key) in _PLAIN for key in items):
        return tuple(items), list(items.values())
    return None, [*items, *items.values()]


def _with_attributes(read: Callable[[Any], Parts], value: Any) -> Parts:
    """Return the items of a container of a user's type, and its attributes."""
    (label, parts), (names, attributes) = read(value), _object(value)
    return (label, len(parts), names), [*parts, *attributes]


def _tensor(value: torch.Tensor) -> Parts:
    """Return the content of a tensor, or for a large one its identity, version and checksum."""
    label = value.dtype, value.device, value.shape
    if value.layout != torch.strided or value.is_meta or value.is_quantized or value.nbytes > _LARGE:
        version = 0 if value.is_inference() else value._version
        total = float(checksum(value)) if value.nbytes > _LARGE and value.is_floating_point() else None
        return (*label, version, total, Same(value)), ()
    plain = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return (*label, _digest(plain.reshape(-1).view(torch.uint8).numpy())), ()


def _array(value: Any) -> Parts:
    if value.dtype.hasobject:
        return value.shape, value.ravel().tolist()
    return (value.dtype.str, value.shape, _digest(value)), ()


def _digest(values: Any) -> bytes:
    data: bytes = values.tobytes()
    return data if len(data) <= _SMALL else hashlib.sha256(data).digest()


def _function(value: FunctionType) -> Parts:
    """Return the code of a function, and what it reads from around it."""
    parts = [] if value.__closure__ is None else [_contents(cell) for cell in value.__closure__]
    extras = value.__defaults__, value.__kwdefaults__, value.__dict__
    if any(extras):
        parts += extras
    if not _is_of_a_library(value):
        parts += _globals_of(value.__code__, value.__globals__)
    return value.__code__, parts


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _Missing


class _Missing:
    """Stands for a variable or an attribute without a value."""


def _globals_of(code: CodeType, names: dict[str, Any]) -> list[Any]:
    """Return the global variables that a function, and those inside of it, may read."""
    read = [names[name] for name in code.co_names if name in names]
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return read + [value for function in inner for value in _globals_of(function, names)]


def _method(value: MethodType) -> Parts:
    return None, [value.__func__, value.__self__]


def _partial(value: Any) -> Parts:
    return None, [value.func, value.args, value.keywords, vars(value)]


def _class(value: type) -> Parts:
    """Return the types that one of zennit's types lists, and of a user's class its bases, methods and attributes."""
    if isinstance(value, SubclassMeta):
        listed = vars(value).get("__subclass__", ())
        listed = listed if isinstance(listed, tuple) else (listed,)
        return (value, listed), [cls for cls in listed if isinstance(cls, SubclassMeta)]
    if _is_of_a_library(value) or issubclass(value, torch.nn.Module):
        return value, ()
    own = {name: attribute for name, attribute in vars(value).items() if name not in _OF_PYTHON}
    return (value, *own), [*value.__bases__, *own.values()]


def _object(value: Any) -> Parts:
    """Return the attributes, without those of a run, and the object's class where that is the user's own."""
    hidden = RUN_STATE if isinstance(value, Hook) else _COMPOSITE_STATE if isinstance(value, Composite) else ()
    own = {name: attribute for name, attribute in getattr(value, "__dict__", {}).items() if name not in hidden}
    cls: Any = type(value)
    slots, is_of_user = _slots(cls)
    names = (*own, *slots) if slots else tuple(own)
    parts = [*own.values(), *(getattr(value, name, _Missing) for name in slots)]
    if is_of_user:
        parts.append(cls)
    return names, parts


@lru_cache(maxsize=1024)
def _slots(cls: type) -> tuple[tuple[str, ...], bool]:
    """Return the slots of a type, and whether it is the user's own."""
    names: list[str] = []
    for base in cls.__mro__:
        slots = vars(base).get("__slots__", ())
        names += (slots,) if isinstance(slots, str) else slots
    return tuple(name for name in names if name not in ("__dict__", "__weakref__")), not _is_of_a_library(cls)


def _is_of_a_library(value: Any) -> bool:
    return (value.__module__ or "").partition(".")[0] in _LIBRARIES


_READERS: tuple[tuple[Any, Callable[[Any], Parts]], ...] = (
    (torch.Tensor, _tensor),
    ((np.ndarray, np.generic), _array),
    (FunctionType, _function),
    (MethodType, _method),
    (partial, _partial),
    (type, _class),
    ((BuiltinFunctionType, range), lambda value: (value, ())),
    (slice, lambda value: (None, [value.start, value.stop, value.step])),
    (bytearray, lambda value: (bytes(value), ())),
    (property, lambda value: (None, [value.fget, value.fset])),
    ((staticmethod, classmethod), lambda value: (None, [value.__func__])),
    (SimpleNamespace, lambda value: (None, [vars(value)])),
)
_CONTAINERS: tuple[tuple[Any, Callable[[Any], Parts]], ...] = (
    ((list, tuple, deque), _sequence),
    ((set, frozenset), _set),
    ((dict, MappingProxyType), _mapping),
)
