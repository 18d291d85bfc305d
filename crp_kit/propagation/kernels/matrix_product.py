"""Matrix products of float32 on the CPU by oneDNN: on AMD's processors in half the time that MKL's take.

`torch.matmul` asks MKL, which there leaves AVX-512 unused. torch's compiler calls a linear layer of oneDNN's instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

__all__ = ["matrix_product"]

_MULTIPLICATIONS = 1 << 21
"""With fewer multiplications the call costs what it saves."""
_ROWS = 8
"""With fewer rows the time is that of reading the matrix."""


def matrix_product(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return rows (…, in) times a matrix (in, out): (…, out)."""
    count = rows.numel() // max(1, matrix.shape[0])
    large = count >= _ROWS and count * matrix.numel() >= _MULTIPLICATIONS
    linear = _onednn_linear() if large and _is_plain(rows) and _is_plain(matrix) else None
    return rows @ matrix if linear is None else linear(rows, matrix.t())


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is one of float32 on the CPU, and its product needs no gradient."""
    needs_gradient = tensor.requires_grad and torch.is_grad_enabled()
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and not needs_gradient


@cache
def _onednn_linear() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None:
    """Return oneDNN's linear layer, of inputs (…, in) and weights (out, in); None where torch has none that works.

    torch promises nothing of this operation: a build may be without it, and another version may take other arguments.
    """

    def linear(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], "")
        return product

    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    try:
        works = torch.equal(linear(torch.eye(2)[None], weight), weight.t()[None])
    except (AttributeError, RuntimeError, TypeError):
        return None
    return linear if works else None
