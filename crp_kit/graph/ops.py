"""What the torch calls of a recorded graph are: one canonical name for each, and the kind of operation it is.

Classification goes by name, so that ``torch.add``, ``Tensor.add_``, ``a + b`` and ``b += a`` are one operation.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import torch
from torch.nn import functional


class Kind(Enum):
    """The part that an operation plays for relevance."""

    INPUT = "input"
    LINEAR = "linear layer"
    BATCH_NORM = "batch norm"
    NORM = "norm with its deviation detached"
    SUM = "sum of signals"
    AFFINE = "affine map without weights"
    PRODUCT = "product of a signal and a gate"
    ACTIVATION = "activation"
    STRUCTURAL = "moves values without changing them"
    GRADIENT = "known to be differentiated plainly"
    DETACHED = "carries no relevance"
    OPAQUE = "module whose inside cannot be seen"
    UNKNOWN = "unknown operation"


_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_NAMES: dict[str, tuple[str, ...]] = {
    "linear": ("input", "weight", "bias"),
    "conv1d": _CONVOLUTION,
    "conv2d": _CONVOLUTION,
    "conv3d": _CONVOLUTION,
    "conv_transpose1d": _TRANSPOSED,
    "conv_transpose2d": _TRANSPOSED,
    "conv_transpose3d": _TRANSPOSED,
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
    "instance_norm": (
        "input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps",
    ),
    "local_response_norm": ("input", "size", "alpha", "beta", "k"),
    "normalize": ("input", "p", "dim", "eps"),
    "avg_pool1d": ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "avg_pool3d": ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "mean": ("input", "dim", "keepdim"),
    "cat": ("tensors", "dim"),
    "scaled_dot_product_attention": (
        "query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa",
    ),
}  # fmt: skip
"""Parameter names, in positional order, of the calls whose arguments are looked up by name."""
_OF_NUMPY = {"dim": "axis"}
"""Another name that torch accepts for a parameter, since NumPy has it."""

_KINDS: dict[Kind, str] = {
    Kind.INPUT: "input",
    Kind.LINEAR: "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    Kind.BATCH_NORM: "batch_norm",
    Kind.NORM: "layer_norm group_norm rms_norm instance_norm local_response_norm normalize",
    Kind.SUM: "add sub addcmul",
    Kind.AFFINE: (
        "mean sum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
        "lp_pool2d interpolate upsample fold cumsum addmm nanmean"
    ),
    Kind.PRODUCT: "mul div matmul mm bmm baddbmm einsum scaled_dot_product_attention",
    Kind.ACTIVATION: (
        "relu relu6 hardtanh clamp clamp_min clamp_max hardswish silu gelu elu celu selu leaky_relu prelu rrelu mish "
        "softplus softsign softshrink hardshrink tanhshrink tanh logsigmoid log_sigmoid threshold sigmoid hardsigmoid "
        "abs neg elementwise"
    ),
    Kind.STRUCTURAL: (
        "view reshape flatten unflatten permute transpose swapaxes swapdims movedim moveaxis t T mT H squeeze "
        "unsqueeze expand expand_as repeat repeat_interleave tile contiguous clone to type_as float double half "
        "bfloat16 type getitem select narrow index_select gather take_along_dim cat stack hstack vstack dstack "
        "chunk split split_with_sizes tensor_split unbind pad roll flip rot90 diagonal tril triu dropout dropout1d "
        "dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout pixel_shuffle pixel_unshuffle "
        "channel_shuffle native_channel_shuffle unfold im2col where masked_fill masked_select broadcast_to "
        "broadcast_tensors atleast_1d atleast_2d atleast_3d view_as reshape_as max_pool1d max_pool2d max_pool3d "
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool1d_with_indices "
        "max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d_with_indices "
        "adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices max min amax amin maximum minimum topk "
        "sort setitem copy index_put scatter index_copy write_through as_strided ravel"
    ),
    Kind.GRADIENT: "softmax log_softmax rsqrt sqrt reciprocal var std norm vector_norm pow square exp fill",
    Kind.DETACHED: "detach data zero sign floor ceil round trunc",
    Kind.OPAQUE: "opaque",
}
OPAQUE, ELEMENTWISE = "opaque", "elementwise"
"""Operations that are whole modules: not looked into, or declared to work value by value."""
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split()}

CONSTANTS = frozenset(
    "zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty new_full "
    "new_tensor".split()
)
"""Operations that take only shape, type and device from their input."""

SHAPED_LIKE = frozenset("expand_as view_as reshape_as type_as".split())
"""Operations that give their first argument the shape or the type of the second."""
IN_MEMORY_ORDER = frozenset({"view", "view_as", "as_strided"})
"""Operations that may fail, or give something else, if values lie in memory in another order."""
DEVIATIONS = frozenset("rsqrt reciprocal var std norm vector_norm".split())
"""Operations whose value normalises others."""
GATE_SOURCES = DEVIATIONS | frozenset("sigmoid hardsigmoid softmax log_softmax".split())
"""Operations whose value is a factor for others, and so carries no relevance where it multiplies a signal."""

_SYNONYMS = {
    "true_divide": "div", "truediv": "div", "divide": "div", "subtract": "sub", "multiply": "mul", "concat": "cat",
    "concatenate": "cat", "clip": "clamp", "negative": "neg", "linalg_vector_norm": "vector_norm", "absolute": "abs",
    "upsample_nearest": "upsample", "upsample_bilinear": "upsample",
}  # fmt: skip

_REVERSED: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "__rsub__": ("sub", operator.sub),
    "rsub": ("sub", operator.sub),
    "__rtruediv__": ("div", operator.truediv),
    "__rdiv__": ("div", operator.truediv),
    "__rmatmul__": ("matmul", operator.matmul),
    "__rpow__": ("pow", operator.pow),
}
"""Calls that take their operands the other way round, and the call that takes them in reading order."""

_INPLACE_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
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
MOVING = frozenset({"resize_", "set_"})
"""Methods that let a tensor stand for other memory."""
_METADATA_METHODS = MOVING | {"requires_grad_", "retain_grad", "rename_"}
RESHAPING = frozenset("squeeze_ unsqueeze_ transpose_ t_ swapaxes_ swapdims_ as_strided_ detach_".split())
"""In-place calls that give a tensor another shape and leave its memory as it is."""


def raw_name(func: Callable[..., Any]) -> str:
    """Return the name that torch gives a call; for a property, that of the property."""
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        owner = getattr(func, "__self__", None)
        return str(getattr(owner, "__name__", name)) if name == "__get__" else "__set__"
    return str(name)


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
    if raw in _INPLACE_OPERATORS or raw in ("__radd__", "__rmul__"):
        name = name[1:]
    return _SYNONYMS.get(name, name)


def kind_of(op: str) -> Kind:
    """Return the kind of an operation from its canonical name."""
    return _KIND_OF.get(op, Kind.UNKNOWN)


def argument(op: str, args: Sequence[Any], kwargs: Mapping[str, Any], name: str, *, default: Any = None) -> Any:
    """Return one argument of a call by its parameter name, however it was passed."""
    for given in (name, _OF_NUMPY.get(name, name)):
        if given in kwargs:
            return kwargs[given]
    index = _NAMES[op].index(name)
    return args[index] if index < len(args) else default


def in_reading_order(
    raw: str, func: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the call in one order of arguments, even if torch saw ``b.__rsub__(a)``, or a norm's C++ function."""
    if func in (torch.batch_norm, torch.instance_norm) and len(args) >= 8:
        value, weight, bias, mean, variance, *options = args
        return getattr(functional, raw), (value, mean, variance, weight, bias, *options[:3])
    if raw not in _REVERSED:
        return func, args
    return _REVERSED[raw][1], (args[1], args[0], *args[2:])


def is_inplace(raw: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call overwrites its first argument."""
    if raw in _METADATA_METHODS:
        return False
    if raw in _INPLACE_OPERATORS or raw == "__setitem__":
        return True
    if raw.endswith("_") and not raw.startswith("_") and not raw.endswith("__"):
        return True
    place = _inplace_place(func)
    return bool(kwargs.get("inplace")) or (place is not None and len(args) > place and bool(args[place]))


@functools.lru_cache(maxsize=1024)
def _inplace_place(func: Callable[..., Any]) -> int | None:
    """Position of a functional's ``inplace`` parameter."""
    if not inspect.isfunction(func):
        return None
    try:
        parameters = list(inspect.signature(func).parameters)
    except ValueError:  # a wrapper around something in C, such as Tensor.__pow__
        return None
    return parameters.index("inplace") if "inplace" in parameters else None


def out_of_place(raw: str, func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that gives the value which an in-place call would have left behind."""
    if raw in _INPLACE_OPERATORS:
        return _INPLACE_OPERATORS[raw]
    place = _inplace_place(func)
    if place is not None:
        return _WithoutInplace(func, place)
    plain = raw.rstrip("_")
    method = getattr(torch.Tensor, plain, None) if raw.endswith("_") and not raw.startswith("_") else None
    return method if callable(method) and plain != "copy" else OnCopy(func)


class _WithoutInplace:
    """A functional with its ``inplace`` argument forced to False."""

    def __init__(self, func: Callable[..., Any], place: int) -> None:
        self.func, self.place, self.__name__ = func, place, func.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("inplace", None)
        kept = tuple(False if i == self.place else value for i, value in enumerate(args))
        return self.func(*kept, **kwargs)


class OnCopy:
    """An in-place call, run on a copy of what it would overwrite; returns the copy."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func, self.__name__ = func, getattr(func, "__name__", "inplace")

    def __call__(self, target: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        others = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        wanted = any(value.requires_grad for value in others)
        copy = target.clone() if not wanted else target + torch.zeros_like(target)
        self.func(copy, *args, **kwargs)
        return copy
