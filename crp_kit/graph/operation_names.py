"""Names of torch calls: the raw one that torch gives, and the canonical one of the operation; arguments in one order.

Operations are recognised by name, so that ``torch.add``, ``Tensor.add_``, ``a + b`` and ``b += a`` are one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.nn import functional

__all__ = ["IN_PLACE_OPERATORS", "canonical_name", "in_reading_order", "raw_name"]

_SYNONYMS = {
    "true_divide": "div", "truediv": "div", "divide": "div", "subtract": "sub", "multiply": "mul", "concat": "cat",
    "concatenate": "cat", "clip": "clamp", "negative": "neg", "linalg_vector_norm": "vector_norm", "absolute": "abs",
    "upsample_nearest": "upsample", "upsample_bilinear": "upsample", "unsafe_chunk": "chunk",
    "unsafe_split": "split", "unsafe_split_with_sizes": "split_with_sizes", "narrow_copy": "narrow",
    "linalg_matmul": "matmul", "sparse_mm": "mm", "linalg_multi_dot": "multi_dot", "linalg_vecdot": "vecdot",
    "cross": "linalg_cross", "arctan": "atan", "arcsinh": "asinh",
    "special_expit": "sigmoid", "special_softmax": "softmax",
    "special_log_softmax": "log_softmax", "special_logsumexp": "logsumexp", "special_exp2": "exp2",
    "special_expm1": "expm1", "special_erf": "erf", "special_log1p": "log1p", "special_logit": "logit",
    "special_round": "round", "special_sinc": "sinc",
}  # fmt: skip


def _difference(first: Any, second: Any, *, alpha: Any = 1) -> Any:
    """Return what ``torch.sub`` does, which takes no number as its first operand."""
    return first - (second if alpha == 1 else alpha * second)


_REVERSED: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "__rsub__": ("sub", operator.sub),
    "rsub": ("sub", _difference),
    "__rtruediv__": ("div", operator.truediv),
    "__rdiv__": ("div", operator.truediv),
    "__rmatmul__": ("matmul", operator.matmul),
    "__rpow__": ("pow", operator.pow),
}
"""Calls that take their operands the other way round, and the call that takes them in reading order."""

IN_PLACE_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "__iadd__": operator.add,
    "__isub__": operator.sub,
    "__imul__": operator.mul,
    "__itruediv__": operator.truediv,
    "__idiv__": operator.truediv,
    "__ipow__": operator.pow,
    "__ifloordiv__": operator.floordiv,
    "__imod__": operator.mod,
    "__iand__": operator.and_,
    "__ior__": operator.or_,
    "__ixor__": operator.xor,
    "__ilshift__": operator.lshift,
    "__irshift__": operator.rshift,
}


def raw_name(func: Callable[..., Any]) -> str:
    """Return the name that torch gives a call; for a property, that of the property, for an overload, its operation's.

    Exported modules call overloads, such as ``aten.linear.default``.
    """
    if isinstance(func, torch._ops.OpOverload):
        return func._schema.name.rpartition("::")[2]
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        owner = getattr(func, "__self__", None)
        return str(getattr(owner, "__name__", name)) if name == "__get__" else "__set__"
    return str(name)


def is_quantised(func: Callable[..., Any]) -> bool:
    """Return whether a call is an operator of torch's quantised models, which computes with integers."""
    if isinstance(func, torch._ops.OpOverload):
        return func._schema.name.startswith("quantized::")
    return str(getattr(func, "_qualified_op_name", "")).startswith("quantized::")


@cache
def canonical_name(raw: str) -> str:
    """Return the one name of an operation.

    Examples
    --------
    >>> [canonical_name(raw) for raw in ("__iadd__", "add_", "__radd__", "add", "__getitem__", "true_divide")]
    ['add', 'add', 'add', 'add', 'getitem', 'div']
    """
    if raw in _REVERSED:
        return _REVERSED[raw][0]
    name = raw.strip("_")
    if raw in IN_PLACE_OPERATORS or raw in ("__radd__", "__rmul__"):
        name = name[1:]
    return _SYNONYMS.get(name, name)


_NORMS_IN_C: tuple[Callable[..., Any], ...] = (
    torch.batch_norm,
    torch.instance_norm,
    torch.ops.aten.batch_norm.default,
    torch.ops.aten.instance_norm.default,
)
"""Norms that take their weight and bias in front of the statistics."""


def in_reading_order(
    raw: str, func: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the call in one order of arguments, even if torch saw ``b.__rsub__(a)``, or a norm's C++ function."""
    if func in _NORMS_IN_C and len(args) >= 8:
        value, weight, bias, mean, variance, *options = args
        return getattr(functional, raw), (value, mean, variance, weight, bias, *options[:3])
    if raw not in _REVERSED:
        return func, args
    return _REVERSED[raw][1], (args[1], args[0], *args[2:])
