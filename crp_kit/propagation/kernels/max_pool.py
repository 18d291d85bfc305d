"""Max pooling as the plain gradient of many rows at once: each output's relevance goes to the input that won."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...graph.graph import Node
from ...graph.memory_format import as_batch
from ..step import Pull

__all__ = ["max_pool_transpose"]


def max_pool_transpose(node: Node, x: torch.Tensor) -> Pull | None:
    """Return the transpose of a 2-D max pooling at an input, batched over rows, or None for any other node.

    What it returns is the caller's own.

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
    winners = torch.nn.functional.max_pool2d(x, *geometry, ceil, return_indices=True)[1]

    def pull(s: torch.Tensor) -> torch.Tensor:
        flat, places = as_batch(s.to(x.dtype)), winners.expand(s.shape[0], *winners.shape)
        like = torch.empty_like(x[:1].expand(len(flat), *x.shape[1:]))
        back: torch.Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            flat, like, *geometry, ceil, as_batch(places)
        )
        return back.view(s.shape[0], *x.shape)

    return pull


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    several = (value,) if isinstance(value, int) else tuple(value)
    return several[0], several[-1]
