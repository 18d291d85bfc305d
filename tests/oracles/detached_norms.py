"""Normalisation layers with their deviation as a constant; each takes, before its own arguments, what makes one."""

from collections.abc import Callable, Sequence

import torch

Constant = Callable[[torch.Tensor], torch.Tensor]
Parameter = torch.Tensor | None


def batch_norm(
    constant: Constant,
    input: torch.Tensor,
    running_mean: Parameter,
    running_var: Parameter,
    weight: Parameter = None,
    bias: Parameter = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Batch normalisation in evaluation mode as ``x * a + c``."""
    if training or running_mean is None or running_var is None:
        raise NotImplementedError("the oracle wants batch norms with running statistics, in evaluation mode")
    scale = 1 / torch.sqrt(running_var + eps)
    if weight is not None:
        scale = scale * weight
    shift = -running_mean * scale
    if bias is not None:
        shift = shift + bias
    shape = (1, -1) + (1,) * (input.ndim - 2)
    return input * constant(scale).reshape(shape) + constant(shift).reshape(shape)


def layer_norm(
    constant: Constant,
    input: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: Parameter = None,
    bias: Parameter = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Layer normalisation; the subtracted mean stays part of the signal."""
    dims = tuple(range(-len(normalized_shape), 0))
    return _affine(_standardised(constant, input, dims, eps), weight, bias)


def group_norm(
    constant: Constant,
    input: torch.Tensor,
    num_groups: int,
    weight: Parameter = None,
    bias: Parameter = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Group normalisation; the subtracted mean stays part of the signal."""
    grouped = input.reshape(input.shape[0], num_groups, -1)
    result = _standardised(constant, grouped, (-1,), eps).reshape(input.shape)
    return _affine(result, *(_by_channel(parameter, input) for parameter in (weight, bias)))


def instance_norm(
    constant: Constant,
    input: torch.Tensor,
    running_mean: Parameter = None,
    running_var: Parameter = None,
    weight: Parameter = None,
    bias: Parameter = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Instance normalisation; the subtracted mean, where it is the input's, stays part of the signal."""
    if not use_input_stats:
        return batch_norm(constant, input, running_mean, running_var, weight, bias, eps=eps)
    result = _standardised(constant, input, tuple(range(2, input.ndim)), eps)
    return _affine(result, *(_by_channel(parameter, input) for parameter in (weight, bias)))


def rms_norm(
    constant: Constant,
    input: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: Parameter = None,
    eps: float | None = None,
) -> torch.Tensor:
    """Root-mean-square normalisation."""
    epsilon = torch.finfo(input.dtype).eps if eps is None else eps
    dims = tuple(range(-len(normalized_shape), 0))
    deviation = torch.sqrt(input.detach().pow(2).mean(dims, keepdim=True) + epsilon)
    return _affine(input / constant(deviation), weight, None)


def normalize(
    constant: Constant, input: torch.Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None
) -> torch.Tensor:
    """Signal divided by its constant norm."""
    norm = input.detach().norm(p, dim, keepdim=True).clamp_min(eps)
    return input / constant(norm)


def _standardised(constant: Constant, x: torch.Tensor, dims: tuple[int, ...], eps: float) -> torch.Tensor:
    """Signal minus its mean, divided by its constant deviation."""
    deviation = torch.sqrt(x.detach().var(dims, unbiased=False, keepdim=True) + eps)
    return (x - x.mean(dims, keepdim=True)) / constant(deviation)


def _affine(x: torch.Tensor, weight: Parameter, bias: Parameter) -> torch.Tensor:
    """Signal times weight plus bias, where there are any."""
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


def _by_channel(parameter: Parameter, x: torch.Tensor) -> Parameter:
    """Parameter of one value a channel, in a shape that broadcasts with the signal."""
    return None if parameter is None else parameter.reshape((1, -1) + (1,) * (x.ndim - 2))
