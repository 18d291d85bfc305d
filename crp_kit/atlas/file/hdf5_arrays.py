"""Arrays of an HDF5 file: reading of a part of one, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Layout", "StoredArray"]

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Layout:
    """Shape, type and chunks of an array, and the bytes of each chunk by its number; the last may have fewer rows."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    read: Callable[[int], bytes]


class StoredArray:
    """An array in a file that is read when it is cut, and no more of it than the chunks of that part."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._kept: tuple[int, Values] | None = None

    def __getitem__(self, part: Any) -> Any:
        layout = self._layout
        region, inside = _cut(part, layout.shape)
        values = np.empty([stop - start for start, stop in region], layout.dtype)
        if values.size:
            for number, corner in self._chunks_in(region):
                self._copy(number, corner, region, values)
        return values[inside]

    def _chunks_in(self, region: Sequence[tuple[int, int]]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield number and first entry of each chunk that has a part of a region."""
        chunks = self._layout.chunks
        grid = [-(-size // chunk) for size, chunk in zip(self._layout.shape, chunks, strict=True)]
        spans = (range(start // chunk, -(-stop // chunk)) for (start, stop), chunk in zip(region, chunks, strict=True))
        for indices in product(*spans):
            number = 0
            for index, size in zip(indices, grid, strict=True):
                number = number * size + index
            yield number, tuple(index * chunk for index, chunk in zip(indices, chunks, strict=True))

    def _copy(self, number: int, corner: tuple[int, ...], region: Sequence[tuple[int, int]], values: Values) -> None:
        source, target = [], []
        for first, (start, stop), size in zip(corner, region, self._layout.chunks, strict=True):
            low, high = max(first, start), min(first + size, stop)
            source.append(slice(low - first, high - first))
            target.append(slice(low - start, high - start))
        values[tuple(target)] = self._chunk(number)[tuple(source)]

    def _chunk(self, number: int) -> Values:
        """Return a chunk; the last one is kept, since the next question is often about the next row."""
        kept = self._kept  # looked up once: another thread may replace it
        if kept is None or kept[0] != number:
            values = np.frombuffer(self._layout.read(number), self._layout.dtype)
            chunks = self._layout.chunks
            kept = self._kept = number, values.reshape(-1, *chunks[1:]) if chunks else values.reshape(())
        return kept[1]


def _cut(part: Any, shape: tuple[int, ...]) -> tuple[list[tuple[int, int]], tuple[Any, ...]]:
    """Return the region that a part of an array is in, as (start, stop) of each axis, and the part within it."""
    keys = list(part) if isinstance(part, tuple) else [part]
    if any(key is Ellipsis for key in keys):
        axis = next(number for number, key in enumerate(keys) if key is Ellipsis)
        keys[axis : axis + 1] = [slice(None)] * (len(shape) - len(keys) + 1)
    if len(keys) > len(shape):
        raise IndexError(f"an array of {len(shape)} axes has no part {part}")
    keys += [slice(None)] * (len(shape) - len(keys))
    pairs = [_axis_cut(key, size) for key, size in zip(keys, shape, strict=True)]
    return [hull for hull, _ in pairs], tuple(inside for _, inside in pairs)


def _axis_cut(key: Any, size: int) -> tuple[tuple[int, int], Any]:
    numbers = np.arange(size)[key] if not isinstance(key, slice) else range(size)[key]
    if isinstance(numbers, range):
        if not len(numbers):
            return (0, 0), slice(0, 0)
        low, high = min(numbers[0], numbers[-1]), max(numbers[0], numbers[-1])
        start = numbers[0] - low
        stop = start + len(numbers) * numbers.step
        return (low, high + 1), slice(start, stop if stop >= 0 else None, numbers.step)
    if not np.size(numbers):
        return (0, 0), numbers
    low = int(np.min(numbers))
    return (low, int(np.max(numbers)) + 1), numbers - low
