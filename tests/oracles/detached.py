"""A torch mode in which a network is linear in its signal: every non-linear factor is a constant of the forward.

LRP-0, with relevance passed through activations, is gradient x input of the network under this mode. The rules:
an activation is ``x * const(act(x) / x)``; sigmoid, softmax and the deviations of norms are constants; of a product
the smaller factor is the gate and a constant, equal factors share the relevance; denominators are constants.
"""

# mypy: disable-error-code="no-any-return"

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from . import detached_norms
from .detached_attention import attention, multi_head_attention

GATES = {"sigmoid", "hardsigmoid", "logsigmoid", "softmax", "log_softmax"}
DEVIATIONS = {"var", "std", "sqrt", "rsqrt", "norm", "vector_norm", "reciprocal", "exp"}
ACTIVATIONS = {
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus",
    "softsign", "tanh", "tanhshrink", "hardtanh", "hardswish", "hardshrink", "softshrink", "threshold", "clamp",
    "clamp_min", "clamp_max", "clip", "abs", "pow", "square", "local_response_norm",
}  # fmt: skip
PRODUCTS = {"mul", "multiply", "matmul", "bmm", "mm", "einsum"}
SUMS_WITH_PRODUCTS = {"addmm": torch.mm, "baddbmm": torch.bmm, "addcmul": torch.mul}
QUOTIENTS = {"div", "divide", "true_divide", "truediv"}
LINEAR = {
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "add", "sub",
    "subtract", "rsub", "neg", "negative", "positive", "sum", "mean", "cumsum", "cat", "concat", "concatenate", "stack",
    "hstack", "vstack", "view", "view_as", "reshape", "reshape_as",
    "flatten", "unflatten", "permute", "transpose", "swapaxes", "swapdims", "movedim", "t", "contiguous", "clone",
    "expand", "expand_as", "repeat", "repeat_interleave", "tile", "broadcast_to", "squeeze", "unsqueeze", "roll",
    "flip", "pad", "narrow", "select", "index_select", "gather", "take_along_dim", "masked_fill", "where", "tril",
    "triu", "diagonal", "unfold", "fold", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "interpolate",
    "upsample", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "max", "amax", "maximum", "min", "amin", "minimum", "to", "type", "type_as", "float",
    "double", "as_strided", "roi_align",
}  # fmt: skip
NATIVE = {
    "__get__", "getitem", "setitem", "copy", "zero", "fill", "detach", "size", "dim", "ndimension", "numel", "stride",
    "is_floating_point", "is_complex", "is_contiguous", "element_size", "len", "repr", "format", "hash", "data_ptr",
    "argmax", "argmin", "argsort", "isnan", "isinf", "isfinite", "eq", "ne", "lt", "le", "gt", "ge", "item", "tolist",
    "requires_grad", "register_hook", "zeros_like", "ones_like", "empty_like", "full_like", "new_zeros", "new_ones",
    "new_full", "new_empty", "get_device", "bool", "sign", "stochastic_depth", "result_type", "broadcast_tensors",
}  # fmt: skip
VIEWS_OF_MANY = {"chunk", "split", "tensor_split", "unbind"}
DROPOUTS = {"dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout"}
NORMS: dict[str, Callable[..., torch.Tensor]] = {
    "batch_norm": detached_norms.batch_norm,
    "layer_norm": detached_norms.layer_norm,
    "group_norm": detached_norms.group_norm,
    "instance_norm": detached_norms.instance_norm,
    "rms_norm": detached_norms.rms_norm,
    "normalize": detached_norms.normalize,
}


class DetachedNonlinearities(TorchFunctionMode):
    """Runs torch functions such that gradient x input of the signal is its LRP-0 relevance.

    In-place functions compute their result apart and copy it into their tensor, so that aliases see it, as they do
    outside this mode. A function without a rule raises instead of passing a plain gradient on.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name, in_place = _plain_name(func)
        in_place = bool(kwargs.pop("inplace", False)) or in_place
        if name in NATIVE or not any(_live(value) for value in _leaves((args, kwargs))):
            if in_place and not _is_in_place_function(func):
                kwargs["inplace"] = True
            return func(*args, **kwargs)
        if kwargs.get("out") is not None:
            raise NotImplementedError(f"the oracle has no rule for {name} with out=")
        if not in_place:
            return self.apply_rule(name, func, args, kwargs)
        return args[0].copy_(self.apply_rule(name, _on_a_clone(func), args, kwargs))

    def constant(self, value: torch.Tensor) -> torch.Tensor:
        """Value as a constant factor of the signal."""
        return value.detach()

    def apply_rule(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Result of a function of a live signal, linear in that signal."""
        if name in GATES or name in DEVIATIONS:
            return self.constant(func(*_detached(args), **_detached(kwargs)))
        if name in ACTIVATIONS:
            return self._activation(func, args, kwargs)
        if name in PRODUCTS:
            return self._product(func, args, kwargs, elementwise=name in {"mul", "multiply"})
        if name in QUOTIENTS:
            return self._quotient(func, args, kwargs)
        if name in NORMS and func is not torch.batch_norm:
            return NORMS[name](self.constant, *args, **kwargs)
        if name == "scaled_dot_product_attention":
            return attention(self.constant, *args, **kwargs)
        if name == "multi_head_attention_forward":
            return multi_head_attention(self.constant, *args, **kwargs)
        if name in DROPOUTS:
            if kwargs.get("training", args[2] if len(args) > 2 else False):
                raise NotImplementedError("the oracle wants a model in evaluation mode")
            return args[0].clone()
        return self._apply_linear_rule(name, func, args, kwargs)

    def _apply_linear_rule(
        self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Result of a function that is linear in the signal, but for products in it."""
        if name in LINEAR:
            return func(*args, **kwargs)
        if name in VIEWS_OF_MANY:
            return _plain_views(name, func, args, kwargs)
        if name in SUMS_WITH_PRODUCTS:
            return self._sum_with_product(name, *args, **kwargs)
        raise NotImplementedError(f"the oracle has no rule for {name} ({func}) of a live signal")

    def _activation(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        """Input times the constant ratio of output and input; what the ratio cannot say is a constant summand."""
        x = args[0]
        fixed = x.detach()
        value = func(fixed.clone(), *_detached(args[1:]), **_detached(kwargs))
        ratio = self.constant(torch.where(fixed == 0, 0.0, value / torch.where(fixed == 0, 1.0, fixed)))
        return x * ratio + self.constant(value - fixed * ratio)

    def _product(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, elementwise: bool
    ) -> torch.Tensor:
        """Product with one live factor, or the mean of the two products with one constant factor."""
        places = [place for place, value in enumerate(args) if _live(value)]
        plain = all(isinstance(args[place], torch.Tensor) for place in places) and not _live(kwargs)
        if not plain or len(places) > 2:
            raise NotImplementedError(f"the oracle has no rule for {func} with these live factors")
        if len(places) == 1:
            return func(*args, **kwargs)
        sizes = [args[place].numel() for place in places]
        if elementwise and sizes[0] != sizes[1]:
            gate = places[sizes[0] > sizes[1]]
            return func(*_replaced(args, gate, self.constant), **kwargs)
        halves = [func(*_replaced(args, place, self.constant), **kwargs) for place in places]
        return (halves[0] + halves[1]) / 2

    def _sum_with_product(
        self, name: str, summand: torch.Tensor, one: torch.Tensor, other: torch.Tensor, **factors: float
    ) -> torch.Tensor:
        """Sum of a signal and a product, each by its own rule."""
        product = self._product(SUMS_WITH_PRODUCTS[name], (one, other), {}, elementwise=name == "addcmul")
        return summand * factors.get("beta", 1) + product * factors.get("alpha", factors.get("value", 1))

    def _quotient(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        """Quotient with a constant denominator."""
        denominator = 0 if func.__name__.startswith("__r") else 1
        if len(args) < 2:
            raise NotImplementedError(f"the oracle has no rule for {func} with a denominator given by name")
        return func(*_replaced(args, denominator, self.constant), **kwargs)


def _plain_name(func: Callable[..., Any]) -> tuple[str, bool]:
    """Name of a function without marks of operators and in-place variants, and whether it is in place."""
    name = getattr(func, "__name__", str(func))
    if name == "__get__":
        return name, False
    if name.startswith("__") and name.endswith("__"):
        core = name[2:-2]
        if core[0] in "ir" and core[1:] in PRODUCTS | QUOTIENTS | LINEAR | {"pow"}:
            return core[1:], core[0] == "i"
        return core, False
    if name.startswith("_"):
        name = name.lstrip("_")
    in_place = name.endswith("_")
    return name.rstrip("_"), in_place and name not in {"requires_grad_"}


def _on_a_clone(func: Callable[..., Any]) -> Callable[..., Any]:
    """Function that works on a clone of its first argument."""

    @wraps(func)
    def apart(first: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return func(first.clone(), *args, **kwargs)

    return apart


def _is_in_place_function(func: Callable[..., Any]) -> bool:
    """Whether the function itself, not a flag given to it, works in place."""
    return _plain_name(func)[1]


def _leaves(value: Any) -> Iterator[Any]:
    """Values inside nested tuples, lists and dictionaries."""
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def _live(value: Any) -> bool:
    """Whether a value carries the signal, or contains a tensor that does."""
    return any(isinstance(item, torch.Tensor) and item.requires_grad for item in _leaves(value))


def _detached(value: Any) -> Any:
    """Same nested value with its tensors detached."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, (tuple, list)):
        return type(value)(_detached(item) for item in value)
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    return value


def _replaced(args: tuple[Any, ...], place: int, change: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Arguments with the tensor at one place changed."""
    value = args[place]
    return (*args[:place], change(value) if isinstance(value, torch.Tensor) else value, *args[place + 1 :])


def _plain_views(
    name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor, ...]:
    """Same parts of a tensor as separate views, into which autograd lets a model write, unlike parts of one call."""
    x, *rest = args
    place = 0 if name == "unbind" else 1
    dim = kwargs.get("dim", rest[place] if len(rest) > place else 0)
    parts = func(x.detach(), *rest, **kwargs)
    if name == "unbind":
        return tuple(x.select(dim, index) for index in range(len(parts)))
    starts = [sum(part.shape[dim] for part in parts[:index]) for index in range(len(parts))]
    return tuple(x.narrow(dim, start, part.shape[dim]) for start, part in zip(starts, parts, strict=True))
