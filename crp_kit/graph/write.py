"""Views of one piece of memory: which tensors share it, and what writing to one does to another."""

from __future__ import annotations

from collections.abc import Callable

import torch

_Geometry = tuple[torch.Size, tuple[int, ...], int]


def _geometry(tensor: torch.Tensor) -> _Geometry:
    return tensor.shape, tensor.stride(), tensor.storage_offset()


def overlaps(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Return whether two tensors lie in the same storage."""
    try:
        return first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr() != 0
    except (NotImplementedError, RuntimeError):
        return False


def write_through(view: torch.Tensor, written: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the function that gives `view` after `written`, another view of the same memory, was overwritten.

    Parameters
    ----------
    view, written : torch.Tensor
        Only their sizes, strides and offsets are used.

    Returns
    -------
    callable
        ``(old value of view, new value of written) -> new value of view``, differentiable in both.
    """
    shapes = _geometry(view), _geometry(written)

    def merged(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        reach = [
            offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) + 1
            for shape, stride, offset in shapes
        ]
        places = torch.arange(max(reach), device=old.device)
        of_view, of_written = (places.as_strided(*shape) for shape in shapes)
        memory = old.new_zeros(max(reach))
        memory = memory.index_copy(0, of_view.flatten(), old.flatten())
        memory = memory.index_copy(0, of_written.flatten(), new.flatten().to(old.dtype))
        return memory[of_view]

    return merged
