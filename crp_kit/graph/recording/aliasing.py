"""Storage aliasing: which tensors share elements of memory, and the effect on one of writing to another."""

from __future__ import annotations

from collections.abc import Callable

import torch

_Geometry = tuple[torch.Size, tuple[int, ...], int]


def memory_of(tensor: torch.Tensor) -> int:
    """Return the address of the storage that a tensor is a view of; 0 if it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return 0


def overlaps(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Return whether two tensors have an element of memory in common."""
    if not memory_of(first) == memory_of(second) != 0 or first.dtype != second.dtype:
        return False
    if not first.numel() or not second.numel():
        return False
    shapes = _geometry(first), _geometry(second)
    lows, ends = [offset for _, _, offset in shapes], [_end(geometry) for geometry in shapes]
    if max(lows) >= min(ends):
        return False
    dense = [t.numel() == end - low for t, low, end in zip((first, second), lows, ends, strict=True)]
    if any(dense):
        return True
    occupied = torch.zeros(max(ends), dtype=torch.bool)
    positions = torch.arange(max(ends))
    occupied[positions.as_strided(*shapes[0]).flatten()] = True
    return bool(occupied.as_strided(*shapes[1]).any())


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
    size = max(map(_end, shapes))

    def merged(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(size, device=old.device)
        of_view, of_written = (positions.as_strided(*shape) for shape in shapes)
        source = torch.full_like(positions, -1)
        source[of_written.flatten()] = torch.arange(new.numel(), device=old.device)
        read = source[of_view]  # several elements of an expanded view may be one in memory
        return torch.where(read < 0, old, new.flatten().to(old.dtype)[read.clamp(min=0)])

    return merged


def _geometry(tensor: torch.Tensor) -> _Geometry:
    return tensor.shape, tensor.stride(), int(tensor.storage_offset())


def _end(geometry: _Geometry) -> int:
    """Place behind the last element."""
    shape, stride, offset = geometry
    return offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) + 1
