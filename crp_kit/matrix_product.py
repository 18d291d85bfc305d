"""Matrix products of float32 on the CPU by oneDNN: on AMD's processors in half the time that MKL's take.

`torch.matmul` asks MKL, which there leaves AVX-512 unused. torch's compiler calls a linear layer of oneDNN's instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

__all__ = ["linear", "matrix_product"]

_MULTIPLICATIONS = 1 << 21
"""With fewer multiplications the call costs what it saves."""
_ROWS = 8
"""With fewer rows the time is that of reading the matrix."""


def matrix_product(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return rows (…, in) times a matrix (in, out): (…, out)."""
    return linear(rows, matrix.t())


def linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return what `torch.nn.functional.linear` does, up to rounding: (…, out) for an input (…, in)."""
    plain = _is_large(input, weight) and _are_plain(input, weight, *(() if bias is None else (bias,)))
    onednn = _onednn_linear() if plain else None
    return torch.nn.functional.linear(input, weight, bias) if onednn is None else onednn(input, weight, bias)


def _is_large(rows: torch.Tensor, matrix: torch.Tensor) -> bool:
    """Return whether rows and a matrix of two axes make a product that is worth the call."""
    if rows.ndim < 2 or matrix.ndim != 2:
        return False
    count = rows.numel() // max(1, rows.shape[-1])
    return count >= _ROWS and count * matrix.numel() >= _MULTIPLICATIONS


def _are_plain(*tensors: torch.Tensor) -> bool:
    """Return whether tensors are of float32 on the CPU, and their product needs no gradient."""
    gradients = torch.is_grad_enabled()
    return all(
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and tensor.layout == torch.strided
        and not (gradients and tensor.requires_grad)
        for tensor in tensors
    )


@cache
def _onednn_linear() -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor] | None:
    """Return oneDNN's linear layer, of inputs (…, in), weights (out, in) and a bias; None where torch has none.

    torch promises nothing of this operation: a build may be without it, and another version may take other arguments.
    """

    def layer(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return product

    weight, bias = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5.0, 6.0])
    try:
        works = torch.equal(layer(torch.eye(2)[None], weight, bias), weight.t()[None] + bias)
    except (AttributeError, RuntimeError, TypeError):
        return None
    return layer if works else None
