"""Indices of the chunks of an array in an HDF5 file: where each chunk is, checked before any of them is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ...errors import AtlasError
from .hdf5_bytes import UNDEFINED, FileBytes
from .hdf5_old_trees import CHUNKS, tree_leaves

__all__ = ["FixedIndex", "Stored", "TreeIndex"]

Stored = tuple[int, int, int]
"""Address of a chunk, its bytes as they are stored, and the filters that were left out."""


class FixedIndex:
    """Where each chunk is, of a fixed number.

    Large indices are cut into pages with a checksum each, which are checked when a chunk of theirs is asked for.
    """

    def __init__(self, file: FileBytes, address: int, count: int, plain: int) -> None:
        header = file.block(address, 28, b"FAHD")
        header.expect(b"\0", "the version of an index")
        client, self._entry, bits = (header.number(1) for _ in range(3))
        entries, self._block = header.number(8), header.number(8)
        widths = range(13, 21) if client else (8,)
        if entries != count or self._entry not in widths or bool(plain) == bool(client) or not 0 < bits < 32:
            raise AtlasError("the index of its chunks is damaged")
        self._file, self._address, self._count, self._plain = file, address, count, plain
        self._client, self._page = client, 1 << bits
        file.check(self._block, count * self._entry)

    def __call__(self, number: int) -> Stored:
        address, size, left_out = (int(column[number]) for column in self._columns)
        return address, size, left_out

    @cached_property
    def _columns(self) -> tuple[Any, Any, Any]:
        """Addresses, bytes, and filters left out of all chunks: (chunk,) each."""
        raw = np.frombuffer(self._content(), np.uint8).reshape(self._count, self._entry)
        address = np.ascontiguousarray(raw[:, :8]).view("<u8")[:, 0]
        if self._plain:
            size, left_out = np.full(self._count, self._plain, "u8"), np.zeros(self._count, "u4")
        else:
            padded = np.zeros((self._count, 8), np.uint8)
            padded[:, : self._entry - 12] = raw[:, 8:-4]
            size, left_out = padded.view("<u8")[:, 0], np.ascontiguousarray(raw[:, -4:]).view("<u4")[:, 0]
        if (address == UNDEFINED).any():
            raise AtlasError("a part of its values was never written")
        _check_apart(self._file, address, size)
        return address, size, left_out

    def _content(self) -> bytes:
        begin = b"\0" + bytes([self._client]) + self._address.to_bytes(8, "little")
        pages = -(-self._count // self._page)
        if pages <= 1:
            block = self._file.block(self._block, 18 + self._count * self._entry, b"FADB")
            block.expect(begin, "the begin of an index")
            return block.take(self._count * self._entry)
        prefix = 18 + -(-pages // 8)
        self._file.block(self._block, prefix, b"FADB").expect(begin, "the begin of an index")
        start, content = self._block + prefix, []
        for first in range(0, self._count, self._page):
            size = min(self._page, self._count - first) * self._entry
            content.append(self._file.block(start, size + 4, b"").take(size))
            start += size + 4
        return b"".join(content)


class TreeIndex:
    """Where each chunk is that was written, in a tree of HDF5's first version; the others hold the fill value.

    Parameters
    ----------
    file : FileBytes
    address : int
        Of the tree.
    grid, chunks : sequence of int
        How many chunks there are along each axis, and the shape of each.
    plain : int
        Bytes of a chunk if there are no filters, else 0.
    """

    def __init__(
        self, file: FileBytes, address: int, *, grid: Sequence[int], chunks: Sequence[int], plain: int
    ) -> None:
        self._file, self._address, self._plain = file, address, plain
        self._grid, self._chunks = grid, chunks

    def __call__(self, number: int) -> Stored | None:
        numbers, *columns = self._columns
        row = int(np.searchsorted(numbers, number))
        if row == len(numbers) or numbers[row] != number:
            return None
        address, size, left_out = (int(column[row]) for column in columns)
        return address, size, left_out

    @cached_property
    def _columns(self) -> tuple[Any, Any, Any, Any]:
        """Numbers, ascending, addresses, bytes, and filters left out of the chunks that are stored: (chunk,) each."""
        width = len(self._grid) + 3
        most = math.prod(self._grid)
        leaves = tree_leaves(self._file, self._address, CHUNKS, key_size=8 * (width - 1), most=most)
        words = np.concatenate([np.zeros((0, width), "<u8"), *leaves])
        number = self._numbers(words[:, 1:-1])
        address, size, left_out = words[:, -1], words[:, 0] & 0xFFFFFFFF, words[:, 0] >> 32
        if self._plain and (size != self._plain).any():
            raise AtlasError(
                f"a part of its values has another size than the {self._plain:,} bytes that it should have"
            )
        _check_apart(self._file, address, size)
        return number, address, size, left_out

    def _numbers(self, offsets: Any) -> Any:
        """Return the numbers of the chunks that begin at offsets of axes, and within a value, (chunk, axis)."""
        index, rest = np.divmod(offsets, np.array([*self._chunks, 1], "u8"))
        if rest.any() or (index >= np.array([*self._grid, 1], "u8")).any():
            raise AtlasError("the index of its chunks is damaged: it has a chunk where none can be")
        steps = [math.prod(self._grid[axis + 1 :]) for axis in range(len(self._grid))]
        number = (index[:, :-1] * np.array(steps, "u8")).sum(axis=1, dtype="u8")
        if (number[1:] <= number[:-1]).any():
            raise AtlasError("the index of its chunks is damaged: it has a chunk twice, or not in its order")
        return number


def _check_apart(file: FileBytes, address: Any, size: Any) -> None:
    """Make sure that parts of values, (chunk,) each, are in the file and none in another."""
    order = np.argsort(address)
    if (address >= file.size).any() or (size > file.size).any():
        raise AtlasError("a part of its values should be behind its end")
    if (np.diff(address[order]) < size[order][:-1]).any():
        raise AtlasError("parts of its values are stored in the same place")
