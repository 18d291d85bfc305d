"""What the torch calls of a recorded graph are: one canonical name for each, and the kind of operation it is.

Classification goes by name, so that ``torch.add``, ``Tensor.add_``, ``a + b`` and ``b += a`` are one operation.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import functional

from .nested import leaves


class Kind(Enum):
    """The part that an operation plays for relevance."""

    INPUT = "input"
    LINEAR = "linear layer"
    BATCH_NORM = "batch norm"
    NORM = "norm with its deviation detached"
    DEVIATION = "deviation or distance, by contribution with itself detached"
    SUM = "sum of signals"
    AFFINE = "affine map without weights"
    PRODUCT = "product of a signal and a gate"
    ACTIVATION = "activation"
    STRUCTURAL = "moves values without changing them"
    GRADIENT = "known to be differentiated plainly"
    DETACHED = "carries no relevance"
    OPAQUE = "module whose inside cannot be seen"
    UNKNOWN = "unknown operation"


@dataclass(frozen=True)
class OperationSpec:
    """What one operation is under LRP, and which of its arguments play which part.

    Parameters
    ----------
    kind : Kind
    parameters : tuple of str, optional
        Parameter names in positional order, where arguments are looked up by name.
    factors : tuple of str, optional
        Arguments whose product it is; those that are signals share relevance. ``("*",)``: all of them.
    fixed : tuple of str, optional
        Arguments that a gradient reaches but LRP holds fixed: interpolation weights, sampling positions, denominators.
    like : tuple of str, optional
        Arguments of which only the shape, the type or the device is read. ``("*",)``: all of them.
    gate : bool, optional
        The value multiplies other signals as a constant: sigmoid, softmax, deviations.
    deviation : bool, optional
        The value normalises others; it is a constant factor under every rule.
    """

    kind: Kind
    parameters: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    gate: bool = False
    deviation: bool = False


_OPERATIONS: dict[str, OperationSpec] = {}


def _register(kind: Kind, names: str, parameters: str = "", **roles: Any) -> None:
    """Enter operations that are alike; names are canonical ones, as `canonical_name` gives them."""
    spec = OperationSpec(kind, tuple(parameters.split()), **roles)
    _OPERATIONS.update(dict.fromkeys(names.split(), spec))


_CONVOLUTION = "input weight bias stride padding dilation groups"
_TRANSPOSED = "input weight bias stride padding output_padding groups dilation"
_WEIGHTED = ("input", "weight")
_register(Kind.INPUT, "input")
_register(Kind.LINEAR, "linear", "input weight bias", factors=_WEIGHTED)
_register(Kind.LINEAR, "conv1d conv2d conv3d", _CONVOLUTION, factors=_WEIGHTED)
_register(Kind.LINEAR, "conv_transpose1d conv_transpose2d conv_transpose3d", _TRANSPOSED, factors=_WEIGHTED)
_AFFINE = ("weight", "bias")
_STATISTICS = ("running_mean", "running_var")
_register(
    Kind.BATCH_NORM,
    "batch_norm",
    "input running_mean running_var weight bias training momentum eps",
    fixed=(*_STATISTICS, *_AFFINE),
)

_register(Kind.NORM, "layer_norm", "input normalized_shape weight bias eps", fixed=_AFFINE)
_register(Kind.NORM, "group_norm", "input num_groups weight bias eps", fixed=_AFFINE)
_register(Kind.NORM, "rms_norm", "input normalized_shape weight eps", fixed=("weight",))
_register(
    Kind.NORM,
    "instance_norm",
    "input running_mean running_var weight bias use_input_stats momentum eps",
    fixed=(*_STATISTICS, *_AFFINE),
)
_register(Kind.NORM, "local_response_norm", "input size alpha beta k")
_register(Kind.NORM, "normalize", "input p dim eps")

_register(Kind.DEVIATION, "var std", "input dim unbiased keepdim correction", gate=True, deviation=True)
_register(Kind.DEVIATION, "norm", "input p dim keepdim out dtype", gate=True, deviation=True)
_register(Kind.DEVIATION, "vector_norm linalg_norm linalg_matrix_norm", "x ord dim keepdim", gate=True, deviation=True)
_register(Kind.DEVIATION, "cdist pairwise_distance", "x1 x2 p")

_register(Kind.SUM, "add sub", "input other")
_register(Kind.SUM, "addcmul", "input tensor1 tensor2", factors=("tensor1", "tensor2"))
_register(Kind.SUM, "addcdiv", "input tensor1 tensor2", fixed=("tensor2",))
_POOLED = "input kernel_size stride padding ceil_mode count_include_pad"
_register(Kind.AFFINE, "avg_pool1d", _POOLED)
_register(Kind.AFFINE, "avg_pool2d avg_pool3d", f"{_POOLED} divisor_override")
_register(Kind.AFFINE, "mean", "input dim keepdim")
_register(
    Kind.AFFINE,
    "sum adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d lp_pool1d lp_pool2d lp_pool3d interpolate "
    "upsample fold cumsum nanmean nansum diff trace index_add scatter_add deg2rad rad2deg",
)
_register(Kind.AFFINE, "lerp", "input end weight", fixed=("weight",))
_register(Kind.AFFINE, "grid_sample", "input grid", fixed=("grid",))
_register(Kind.AFFINE, "roi_align ps_roi_align", "input boxes", fixed=("boxes",))
_register(Kind.AFFINE, "addmm", "input mat1 mat2", factors=("mat1", "mat2"))
_register(Kind.AFFINE, "addmv", "input mat vec", factors=("mat", "vec"))
_register(Kind.AFFINE, "addr", "input vec1 vec2", factors=("vec1", "vec2"))

_register(Kind.PRODUCT, "mul", "input other", factors=("input", "other"))
_register(Kind.PRODUCT, "div", "input other", factors=("input",), fixed=("other",))
_register(
    Kind.PRODUCT,
    "matmul mm bmm mv dot vdot inner outer ger kron einsum tensordot chain_matmul multi_dot",
    factors=("*",),
)
_register(Kind.PRODUCT, "addbmm baddbmm", "input batch1 batch2", factors=("batch1", "batch2"))
_register(Kind.PRODUCT, "cosine_similarity", "x1 x2 dim eps", factors=("x1", "x2"))
_register(Kind.PRODUCT, "bilinear", "input1 input2 weight bias", factors=("input1", "input2", "weight"))
_register(
    Kind.PRODUCT,
    "scaled_dot_product_attention",
    "query key value attn_mask dropout_p is_causal scale enable_gqa",
    factors=("value",),
    fixed=("query", "key", "attn_mask"),
)

_register(
    Kind.ACTIVATION,
    "relu relu6 hardtanh clamp clamp_min clamp_max hardswish silu gelu elu celu selu leaky_relu prelu rrelu mish "
    "softplus softsign softshrink hardshrink tanhshrink tanh logsigmoid log_sigmoid threshold abs neg elementwise",
)
_register(Kind.ACTIVATION, "sigmoid hardsigmoid", gate=True)
_register(
    Kind.STRUCTURAL,
    "identity reshape flatten unflatten permute transpose swapaxes swapdims movedim moveaxis t T mT H squeeze "
    "unsqueeze expand repeat repeat_interleave tile contiguous clone float double half bfloat16 getitem select narrow "
    "index_select gather take_along_dim stack hstack vstack dstack chunk split split_with_sizes tensor_split "
    "hsplit vsplit dsplit unbind pad roll flip fliplr flipud rot90 diagonal diag diag_embed tril triu dropout "
    "dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout pixel_shuffle pixel_unshuffle "
    "channel_shuffle native_channel_shuffle unfold im2col where masked_fill masked_select masked_scatter broadcast_to "
    "broadcast_tensors atleast_1d atleast_2d atleast_3d max_pool1d max_pool3d adaptive_max_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
    "adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices "
    "fractional_max_pool2d fractional_max_pool3d fractional_max_pool2d_with_indices "
    "fractional_max_pool3d_with_indices embedding fmax fmin positive nan_to_num max_unpool1d max_unpool2d "
    "max_unpool3d max min amax amin maximum minimum aminmax topk sort msort kthvalue median nanmedian mode setitem "
    "copy index_put scatter index_copy index_fill slice_scatter select_scatter diagonal_scatter write_through ravel "
    "block_diag meshgrid",
)
_register(Kind.STRUCTURAL, "view", "input dtype")
_register(Kind.STRUCTURAL, "as_strided", "input size stride storage_offset")
_register(Kind.STRUCTURAL, "to type type_as expand_as view_as reshape_as", "input other", like=("other",))
_register(Kind.STRUCTURAL, "cat", "tensors dim")
_register(
    Kind.STRUCTURAL, "max_pool2d", "input kernel_size stride padding dilation ceil_mode return_indices"
)
_register(Kind.STRUCTURAL, "roi_pool ps_roi_pool", "input boxes", fixed=("boxes",))
_register(Kind.GRADIENT, "softmax log_softmax softmin", "input dim", gate=True)
_register(Kind.GRADIENT, "rsqrt reciprocal", gate=True, deviation=True)
_register(Kind.GRADIENT, "sqrt square exp logsumexp prod cumprod logcumsumexp")
_register(Kind.GRADIENT, "pow float_power", "input exponent")
_register(Kind.DETACHED, "detach data sign sgn heaviside floor ceil round trunc")
_register(
    Kind.DETACHED,
    "zero zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty "
    "new_full new_tensor",
    like=("*",),
)
_register(Kind.STRUCTURAL, "fill", "input value", like=("input",))
_register(Kind.OPAQUE, "opaque")
_UNKNOWN = OperationSpec(Kind.UNKNOWN)
_OF_NUMPY = {"dim": "axis"}
"""Another name that torch accepts for a parameter, since NumPy has it."""
OPAQUE, ELEMENTWISE = "opaque", "elementwise"
"""Operations that are whole modules: not looked into, or declared to be element-wise."""
IN_MEMORY_ORDER = frozenset({"view", "view_as", "as_strided"})
"""Operations that may fail, or give something else, if values are stored in another order."""


def spec_of(op: str) -> OperationSpec:
    """Return what an operation is, from its canonical name."""
    return _OPERATIONS.get(op, _UNKNOWN)


def operations() -> Mapping[str, OperationSpec]:
    """Return every operation that is known, by canonical name."""
    return MappingProxyType(_OPERATIONS)


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


def argument(op: str, args: Sequence[Any], kwargs: Mapping[str, Any], name: str, *, default: Any = None) -> Any:
    """Return one argument of a call by its parameter name, however it was passed."""
    for keyword in (name, _OF_NUMPY.get(name, name)):
        if keyword in kwargs:
            return kwargs[keyword]
    index = spec_of(op).parameters.index(name)
    return args[index] if index < len(args) else default


def values_read(op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the arguments of which a call reads the values, without those that give a shape, a type or a device."""
    spec = spec_of(op)
    if not spec.like:
        return args, kwargs
    if spec.like == ("*",):
        return ()
    positions = {spec.parameters.index(name) for name in spec.like}
    kept = [value for place, value in enumerate(args) if place not in positions]
    return kept, [value for name, value in kwargs.items() if name not in spec.like]


def arguments(op: str, args: Sequence[Any], kwargs: Mapping[str, Any], roles: tuple[str, ...]) -> list[Any]:
    """Return the arguments of a call that play a part, such as ``spec_of(op).factors``, as a flat list."""
    if roles == ("*",):
        return leaves((args, dict(kwargs)))
    return leaves([argument(op, args, kwargs, name) for name in roles])


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
