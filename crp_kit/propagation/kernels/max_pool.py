"""Transpose of max pooling for many rows at once: each output's relevance goes to the maximum of its window."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...graph.graph import Node
from ...graph.memory_format import as_batch
from ..step import Pull

__all__ = ["max_pool_transpose"]


def max_pool_transpose(node: Node, x: torch.Tensor) -> Pull | None:
    """Return the transpose of a 2-D max pooling at an input, batched over rows, or None for any other node.

    The result of the transpose is new memory, which the caller owns.

    Parameters
    ----------
    node : Node
    x : torch.Tensor
        (sample, channel, height, width).
    """
    if node.op != "max_pool2d" or x.ndim != 4:
        return None
    kernel = _pair(node.argument("kernel_size"))
    stride = _pair(node.argument("stride") or kernel)
    geometry = (kernel, stride, _pair(node.argument("padding", 0)), _pair(node.argument("dilation", 1)))
    ceil = bool(node.argument("ceil_mode", False))
    indices = torch.nn.functional.max_pool2d(x, *geometry, ceil, return_indices=True)[1]

    def pull(s: torch.Tensor) -> torch.Tensor:
        flat, by_row = as_batch(s.to(x.dtype)), indices.expand(s.shape[0], *indices.shape)
        like = torch.empty_like(x[:1].expand(len(flat), *x.shape[1:]))
        below: torch.Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            flat, like, *geometry, ceil, as_batch(by_row)
        )
        return below.view(s.shape[0], *x.shape)

    return pull


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Return an option by axis."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values[0], values[-1]
