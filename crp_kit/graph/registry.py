"""The registry of operations: finds what a torch call is, and takes the operations of users.

`operation_table` fills it with what crp-kit knows. Operations go by one canonical name (`operation_names`), so that
``torch.add``, ``Tensor.add_``, ``a + b`` and ``b += a`` are one; an operator can be meant by its function instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FunctionType, MappingProxyType
from typing import Any

import torch

from ..errors import OperationError
from .operation_names import canonical_name, raw_name
from .operations import OF_TORCH, Kind, OperationSpec

__all__ = ["Registration", "enter", "operation_of", "operations", "register_operation", "spec_of"]

_BY_NAME: dict[str, OperationSpec] = {}
_BY_FUNCTION: dict[Any, OperationSpec] = {}
_UNKNOWN: dict[str, OperationSpec] = {}
"""What is unknown, by name: the same object each time, since recorded structures are compared by it."""


def spec_of(name: str) -> OperationSpec:
    """Return what an operation is, from its canonical name."""
    known = _BY_NAME.get(name) or _UNKNOWN.get(name)
    return known or _UNKNOWN.setdefault(name, OperationSpec(name, Kind.UNKNOWN))


def operation_of(func: Callable[..., Any], raw: str | None = None) -> OperationSpec:
    """Return what a torch call, of a raw name, is: its function's own entry, or that of its canonical name."""
    spec = _BY_FUNCTION.get(_identity(func)) if _BY_FUNCTION else None
    name = canonical_name(raw_name(func) if raw is None else raw)
    return spec or _BY_NAME.get(name) or spec_of(name)


def operations() -> Mapping[str, OperationSpec]:
    """Return every operation that has an entry by its canonical name."""
    return MappingProxyType(_BY_NAME)


def enter(specs: Mapping[str, OperationSpec]) -> None:
    """Enter crp-kit's own table."""
    _BY_NAME.update(specs)


def register_operation(spec: OperationSpec) -> Registration:
    """Add an operation that crp-kit does not know, from now on and for all models.

    Plans that were made before are not used where a model has this operation.

    Parameters
    ----------
    spec : OperationSpec
        Its name, or its function, what it is under LRP, and perhaps a rule of its own.

    Returns
    -------
    Registration
        Its method `remove` takes the operation back; used in a ``with`` statement, that happens at the end.

    Raises
    ------
    OperationError
        If the name or the function is taken, or no torch call, or the kind is for torch's own layers.

    Examples
    --------
    ``torch.special.bessel_j1`` is unknown: relevance passes as plain gradient, with a warning. The function is odd and
    nearly linear around zero, so its relevance may as well pass unchanged:

    >>> import torch
    >>> import crp_kit as crp
    >>> class Wave(torch.nn.Module):
    ...     def forward(self, x):
    ...         return torch.special.bessel_j1(x)
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), Wave(), torch.nn.Linear(4, 2)).eval()
    >>> x = torch.ones(1, 3)
    >>> def unchanged(relevance, output, x):
    ...     return relevance
    >>> wave = crp.OperationSpec("special_bessel_j1", "activation", step=unchanged)
    >>> with crp.register_operation(wave):
    ...     attribution = crp.CondAttribution(model)(x, {"y": [0]}, "epsilon_plus", record_layer=["0", "1"])
    >>> attribution.gradient_nodes
    ()
    >>> bool((attribution.relevances["0"] == attribution.relevances["1"]).all())
    True
    """
    known = spec_of(spec.name)
    _check_new(spec, known)
    axes = spec_of(spec.axes).axes if isinstance(spec.axes, str) else spec.axes
    entered = replace(spec, axes=axes or known.axes, traits=spec.traits | known.traits)
    return Registration(entered)


class Registration:
    """An operation that was registered.

    Parameters
    ----------
    spec : OperationSpec
    """

    def __init__(self, spec: OperationSpec) -> None:
        self.spec = spec
        self._table: dict[Any, OperationSpec] = _BY_FUNCTION if spec.functions else _BY_NAME
        self._keys = tuple(map(_identity, spec.functions)) or (spec.name,)
        self._before = {key: self._table[key] for key in self._keys if key in self._table}
        self._table.update(dict.fromkeys(self._keys, spec))

    def remove(self) -> None:
        """Take the operation back; a second time has no effect."""
        for key in self._keys:
            if self._table.get(key) is self.spec:
                del self._table[key]
                if key in self._before:
                    self._table[key] = self._before[key]

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"Registration({self.spec.name!r}, {self.spec.kind.name.lower()!r})"


def _check_new(spec: OperationSpec, known: OperationSpec) -> None:
    """Make sure that an operation can be registered."""
    if not isinstance(spec.name, str) or not spec.name or canonical_name(spec.name) != spec.name:
        raise OperationError(
            f"the name of an operation is the canonical one, such as 'add' for torch.add, Tensor.add_ and +; "
            f"got {spec.name!r}: say {canonical_name(str(spec.name))!r}"
        )
    if spec.kind in OF_TORCH:
        raise OperationError(
            f"the kind {spec.kind.name.lower()!r} is for torch's own functions, which its rules recompute; operation "
            f"{spec.name!r} may be 'affine' or 'product', or any other kind with a step of its own"
        )
    if known.kind is not Kind.UNKNOWN or any(spec.name == other.name for other in _BY_FUNCTION.values()):
        raise OperationError(f"there is an operation {spec.name!r} already ({known.kind.value}): choose another name")
    for func in spec.functions:
        if not _is_torch_call(func):
            raise OperationError(
                f"functions of operation {spec.name!r} are operators of torch.library, or functions and methods of "
                f"torch, of which a call can be seen; got {func!r}, whose parts are recorded instead: make it an "
                f"operator with torch.library.custom_op"
            )
        if _identity(func) in _BY_FUNCTION:
            raise OperationError(f"{func!r} is the operation {_BY_FUNCTION[_identity(func)].name!r} already")
    if isinstance(spec.axes, str) and spec_of(spec.axes).axes is None:
        raise OperationError(f"axes names an operation whose axes are known, such as 'mean'; got {spec.axes!r}")


def _is_torch_call(func: Any) -> bool:
    """Return whether a call of a function can be seen: Python functions have to hand their calls to torch's modes."""
    if isinstance(func, FunctionType):
        return "handle_torch_function" in func.__code__.co_names
    return callable(func) and not isinstance(func, (type, torch.nn.Module))


def _identity(func: Any) -> Any:
    """Return what is equal for all forms of an operator: its qualified name; any other function is itself."""
    if isinstance(func, torch._ops.OpOverload):
        return func._schema.name
    if isinstance(func, torch._ops.OpOverloadPacket):
        return func._qualified_op_name
    return getattr(func, "_qualname", func) if isinstance(func, torch._library.custom_ops.CustomOpDef) else func
