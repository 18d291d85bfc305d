"""Transposes of linear units: from relevance or factors at an output to those at the input, for many rows at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from torch.nn import functional

from ...graph.memory_format import as_batch
from ...matrix_product import matrix_product
from ..effective_weights import LinearUnit
from ..step import Pull
from .winograd import winograd_transpose, winograd_wins

__all__ = ["ChannelPull", "channel_transpose", "linear_transpose"]

ChannelPull = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The result of a `Pull` from one channel of each row, (row, sample, height, width), and its number, (row,)."""


def linear_transpose(unit: LinearUnit, weight: torch.Tensor, shape: torch.Size, *, flat: bool = False) -> Pull | None:
    """Return the transpose of a linear unit for inputs of a shape, or None where no direct one is known.

    The result of the transpose is new memory, which the caller owns. `flat` says that the weights are likely to be all
    the same number, which is then tried: all channels of an input get the same.
    """
    if unit.op == "linear":
        return lambda s: matrix_product(s, weight)
    if not _has_geometry(unit, weight, shape):
        return None
    stride, padding, dilation = _geometry(unit)
    groups = unit.options.get("groups", 1)
    if unit.op.startswith("conv_transpose"):
        more = _each(unit, "output_padding", 0)
        geometry = (None, stride, padding, dilation, True, more, groups, [True, False, False])

        def back(s: torch.Tensor) -> torch.Tensor:
            like = weight.new_empty(1).expand(s.shape[0] * shape[0], *shape[1:])
            below: torch.Tensor = torch.ops.aten.convolution_backward(as_batch(s), like, weight, *geometry)[0]
            return below.view(s.shape[0], *shape)

        return back
    alike = flat and groups == 1 and _all_alike(weight)
    kernel = weight[:1, :1] if alike else weight
    small = weight.shape[2:] == (3, 3) and stride == dilation == [1, 1] and max(padding) <= 2
    fast = cache(partial(winograd_transpose, weight, padding))

    def pull(s: torch.Tensor) -> torch.Tensor:
        if small and groups == 1 and not alike and winograd_wins(weight, s):
            return fast()(as_batch(s)).view(s.shape[0], *shape)
        flat = as_batch(s).sum(1, keepdim=True) if alike else as_batch(s)
        sizes = zip(shape[2:], flat.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        rest = [to - ((of - 1) * step - 2 * edge + wide * (k - 1) + 1) for to, of, k, step, edge, wide in sizes]
        below: torch.Tensor = torch.ops.aten.convolution(
            flat, kernel, None, stride, padding, dilation, True, rest, groups
        )
        if alike:
            below = below.repeat(1, shape[1], *(1,) * unit.dims)
        return below.view(s.shape[0], *shape)

    return pull


def channel_transpose(unit: LinearUnit, weight: torch.Tensor, shape: torch.Size) -> ChannelPull | None:
    """Return the transpose of a 2-D convolution for rows of one channel each, or None where it would not be faster.

    Each position of the input gets a sum over the k * k positions of that channel whose window it is in: a matrix
    product with k * k terms instead of k * k * channels. It takes k * k values at each position, so it is used where
    these are not more than the channels of the input.
    """
    if unit.op != "conv2d" or not _has_geometry(unit, weight, shape) or unit.options.get("groups", 1) != 1:
        return None
    if math.prod(weight.shape[2:]) > shape[1]:
        return None
    stride, padding, dilation = map(tuple, _geometry(unit))
    kernel = tuple(weight.shape[2:])

    def pull(s: torch.Tensor, channel: torch.Tensor) -> torch.Tensor:
        rows, samples, *positions = s.shape
        apart = [(of - 1) * step + 1 for of, step in zip(positions, stride, strict=True)]
        spread = s.new_zeros((rows * samples, 1, *apart))
        spread[:, 0, :: stride[0], :: stride[1]] = s.flatten(0, 1)
        edges: list[int] = []
        for to, of, k, edge, wide in zip(shape[2:], apart, kernel, padding, dilation, strict=True):
            before = wide * (k - 1) - edge
            edges = [before, to + wide * (k - 1) - before - of, *edges]
        windows = functional.unfold(functional.pad(spread, edges), kernel, dilation)
        windows = windows.view(rows, samples, -1, *shape[2:])
        weights = weight[channel].flip(2, 3).flatten(2)
        below = windows.flatten(3).transpose(2, 3) @ weights.transpose(1, 2)[:, None]
        return below.view(rows, samples, *shape[2:], shape[1]).permute(0, 1, 4, 2, 3)

    return pull


def _has_geometry(unit: LinearUnit, weight: torch.Tensor, shape: torch.Size) -> bool:
    """Return whether a convolution has a batch axis, and its padding is given in numbers."""
    return len(shape) == weight.ndim and not isinstance(unit.options.get("padding", 0), str)


def _geometry(unit: LinearUnit) -> tuple[list[int], list[int], list[int]]:
    """Return stride, padding and dilation by axis."""
    return _each(unit, "stride", 1), _each(unit, "padding", 0), _each(unit, "dilation", 1)


def _each(unit: LinearUnit, name: str, default: int) -> list[int]:
    """Return an option of a convolution by axis."""
    value = unit.options.get(name, default)
    return [value] * unit.dims if isinstance(value, int) else list(value) * (unit.dims if len(value) == 1 else 1)


def _all_alike(weight: torch.Tensor) -> bool:
    """Return whether all weights are the same number."""
    return all(bool((part == weight[(0,) * weight.ndim]).all()) for part in (weight[0], weight))
