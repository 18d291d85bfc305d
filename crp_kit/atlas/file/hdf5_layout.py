"""Storage of an array in an HDF5 file: where its chunks are and how they are packed; only what an atlas has."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import AtlasError
from .hdf5_arrays import Layout
from .hdf5_bytes import UNDEFINED, Fields, FileBytes
from .hdf5_indices import FixedIndex, Stored, TreeIndex
from .hdf5_objects import EXTERNAL, FILL, FILTERS, LAYOUT, SPACE, TYPE, Header
from .hdf5_types import shape_of, type_of

__all__ = ["layout_of"]

_LARGEST_CHUNK = 1 << 26
"""Bytes. A chunk has 64 KiB or one row; the widest row is 20,000 classes of 400 samples of 8 bytes."""
_LONGEST_TEXT = 1 << 20
_BLOCK = 1 << 16
"""Bytes that are read at once of values in one piece."""
_BEST_PACKING = 1032
"""What deflate saves at most: 258 bytes take two bits."""
_COMPACT, _CONTIGUOUS, _CHUNKED, _VIRTUAL = range(4)
_TREE, _SINGLE, _FIXED = 0, 1, 3
"""Indices of chunks: a tree, as h5py makes it by default; there is one chunk; or there is a fixed number of them."""
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_FILTERS = {_DEFLATE: "gzip", _SHUFFLE: "shuffle", _FLETCHER32: "fletcher32"}

_WEIGHTS = np.arange(1 << 15, 0, -1, dtype=np.float64)
"""How often Fletcher's second sum counts each word of a block: sums of so many are exact in float64."""


def layout_of(file: FileBytes, header: Header) -> Layout:
    """Return how the array of a dataset is stored. Its values are not read.

    Raises
    ------
    AtlasError
        If its values are in other files, not all there, or stored in a way that an atlas's never are, or it says that
        it has more than the file can hold.
    """
    if header.has(EXTERNAL):
        raise AtlasError("its values are in another file, which is never opened")
    shape, dtype = shape_of(_needed(header, SPACE)), type_of(Fields(_needed(header, TYPE)))
    if dtype.hasobject or dtype.itemsize > _LONGEST_TEXT:
        raise AtlasError(f"it has texts of any length; those of an atlas's arrays have at most {_LONGEST_TEXT:,} bytes")
    fields = Fields(_needed(header, LAYOUT))
    version, kind = fields.number(1), fields.number(1)
    if kind == _VIRTUAL:
        raise AtlasError("it is put together from arrays of other files, which are never opened")
    if version not in (3, 4) or kind > _VIRTUAL:
        raise AtlasError(f"its values are stored in a way that an atlas's never are (layout {version}.{kind})")
    if kind == _CHUNKED:
        filters = _filters(header.only(FILTERS), dtype.itemsize)
        chunking = _Chunking.with_tree(fields) if version == 3 else _Chunking.with_index(fields)
        return _chunked(file, shape, dtype, _Storage(chunking, filters, _fill(header.only(FILL), dtype.itemsize)))
    return _in_one_piece(file, shape, dtype, fields, compact=kind == _COMPACT)


def _needed(header: Header, kind: int) -> bytes:
    content = header.only(kind)
    if content is None:
        raise AtlasError("a part of its metadata is missing")
    return content


def _in_one_piece(
    file: FileBytes, shape: tuple[int, ...], dtype: np.dtype[Any], fields: Fields, *, compact: bool
) -> Layout:
    total = math.prod(shape) * dtype.itemsize
    row = math.prod(shape[1:]) * dtype.itemsize
    rows = max(1, _BLOCK // row) if row else 1
    chunks = (rows, *(max(1, size) for size in shape[1:])) if shape else ()
    if compact:
        content = fields.take(fields.number(2))
        size, begin = len(content), 0
    else:
        begin, size = fields.number(8), fields.number(8)
    if size != total or (total and begin == UNDEFINED):
        raise AtlasError(f"its values take {size:,} bytes and should take {total:,}; they are not all there")
    step = rows * row if shape else total

    def read(number: int) -> bytes:
        start, stop = number * step, min((number + 1) * step, total)
        return content[start:stop] if compact else file.read(begin + start, stop - start)

    if not compact and total:
        file.check(begin, total)
    return Layout(shape, dtype, chunks, read)


@dataclass(frozen=True)
class _Chunking:
    """What the header of a dataset says of its chunks."""

    sizes: tuple[int, ...]
    """The shape of a chunk, and the bytes of a value."""
    index: int
    address: int
    size: int = 0
    left_out: int = 0

    @classmethod
    def with_tree(cls, fields: Fields) -> _Chunking:
        """Read version 3 of the message."""
        rank, address = fields.number(1), fields.number(8)
        return cls(tuple(fields.number(4) for _ in range(rank)), _TREE, address)

    @classmethod
    def with_index(cls, fields: Fields) -> _Chunking:
        """Read version 4 of the message."""
        flags, rank, width = fields.number(1), fields.number(1), fields.number(1)
        if flags & 1:
            raise AtlasError("its last chunks are stored in a way that an atlas's never are")
        sizes = tuple(fields.number(width) for _ in range(rank))
        index = fields.number(1)
        if index not in (_SINGLE, _FIXED):
            raise AtlasError(f"its chunks are indexed in a way that an atlas's never are (index {index})")
        size, left_out = (fields.number(8), fields.number(4)) if flags & 2 else (0, 0)
        if index == _FIXED:
            fields.take(1)
        return cls(sizes, index, fields.number(8), size, left_out)


@dataclass(frozen=True)
class _Storage:
    """How the chunks of an array are stored: where, packed by which filters, and the value of what was not written."""

    chunking: _Chunking
    filters: tuple[int, ...]
    fill: bytes | None


def _chunked(file: FileBytes, shape: tuple[int, ...], dtype: np.dtype[Any], storage: _Storage) -> Layout:
    chunking = storage.chunking
    *chunks, itemsize = chunking.sizes or (0,)
    if len(chunks) != len(shape) or itemsize != dtype.itemsize or not all(chunks) or not chunks:
        raise AtlasError("its chunks do not fit its shape")
    size = math.prod(chunks) * itemsize
    if size > _LARGEST_CHUNK:
        raise AtlasError(f"its chunks have {size:,} bytes; those of an atlas have at most {_LARGEST_CHUNK:,}")
    grid = [-(-whole // chunk) for whole, chunk in zip(shape, chunks, strict=True)]
    count = math.prod(grid)
    saving = _BEST_PACKING if _DEFLATE in storage.filters or chunking.index == _TREE else 1
    if count * size > file.size * saving:
        raise AtlasError(f"it says that it has the shape {shape}, for which the file is too small")
    if count and chunking.address == UNDEFINED:
        raise AtlasError("its values were never written")
    plain = 0 if storage.filters else size
    where: Callable[[int], Stored | None]
    if chunking.index == _TREE:
        where = TreeIndex(file, chunking.address, grid=grid, chunks=chunks, plain=plain)
    elif chunking.index == _FIXED:
        where = FixedIndex(file, chunking.address, count, plain)
    elif count <= 1:
        where = lambda number: (chunking.address, plain or chunking.size, chunking.left_out)  # noqa: E731
    else:
        raise AtlasError("its chunks do not fit its shape")
    return Layout(shape, dtype, tuple(chunks), _Unpacked(file, where, storage, size, itemsize))


def _fill(content: bytes | None, itemsize: int) -> bytes | None:
    """Return the value of what was not written, if there is any: none where HDF5 leaves memory as it is."""
    if content is None:
        return None
    fields = Fields(content)
    version, times = fields.number(1), fields.number(1)
    if version == 3:
        never, defined, stored = times >> 2 & 3 == 1, not times & 16, bool(times & 32)
    elif version in (1, 2):
        never, defined = fields.number(1) == 1, bool(fields.number(1))
        stored = defined
    else:
        raise AtlasError("its fill value is damaged")
    if never or not defined:
        return None
    size = fields.number(4) if stored else 0
    if size not in (0, itemsize):
        raise AtlasError("its fill value is damaged")
    return fields.take(size) or bytes(itemsize)


def _filters(content: bytes | None, itemsize: int) -> tuple[int, ...]:
    """Return the filters of the chunks of an array in the order of writing."""
    if content is None:
        return ()
    fields = Fields(content)
    version, count = fields.number(1), fields.number(1)
    if version not in (1, 2) or count > len(_FILTERS):
        raise AtlasError("its values are packed in a way that an atlas's never are")
    fields.take(6 if version == 1 else 0)
    filters = tuple(_filter(fields, version, itemsize) for _ in range(count))
    if len(set(filters)) != count:
        raise AtlasError("its values are packed twice in the same way, which an atlas's never are")
    return filters


def _filter(fields: Fields, version: int, itemsize: int) -> int:
    number = fields.number(2)
    name = fields.number(2) if version == 1 or number > 255 else 0
    fields.take(2)
    count = fields.number(2)
    if number not in _FILTERS:
        raise AtlasError(
            f"its values are packed by filter {number}, an atlas's by {', '.join(_FILTERS.values())} alone; "
            f"h5repack -f GZIP=1 packs them so"
        )
    fields.take(-(-name // 8) * 8)
    values = [fields.number(4) for _ in range(count)]
    fields.take(4 if version == 1 and count % 2 else 0)
    if number == _SHUFFLE and values != [itemsize]:
        raise AtlasError("its values are shuffled by another size than theirs")
    return number


class _Unpacked:
    """The bytes of each chunk, unpacked and checked; never more than a chunk has."""

    def __init__(self, file: FileBytes, where: Callable[[int], Stored | None], storage: _Storage, *sizes: int) -> None:
        self._file, self._where, self._filters, self._fill = file, where, storage.filters, storage.fill
        self._size, self._itemsize = sizes

    def __call__(self, number: int) -> bytes:
        stored = self._where(number)
        if stored is None:
            if self._fill is None:
                raise AtlasError("a part of its values was never written")
            return self._fill * (self._size // self._itemsize)
        address, size, left_out = stored
        if size > 2 * self._size + 64:
            raise AtlasError("a packed part of its values is larger than the part itself")
        data = self._file.read(address, size)
        for rank in reversed(range(len(self._filters))):
            if not left_out >> rank & 1:
                data = self._undone(self._filters[rank], data)
        if len(data) != self._size:
            raise AtlasError(f"a part of its values has {len(data):,} bytes and should have {self._size:,}")
        return data

    def _undone(self, number: int, data: bytes) -> bytes:
        if number == _DEFLATE:
            return _inflated(data, self._size + 4)
        if number == _SHUFFLE:
            return _unshuffled(data, self._itemsize)
        if _fletcher32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise AtlasError("a part of its values is damaged: the checksum differs")
        return data[:-4]


def _inflated(data: bytes, most: int) -> bytes:
    """Return what was packed by deflate; a bomb is not unpacked further than its chunk may have."""
    unpacking = zlib.decompressobj()
    try:
        values = unpacking.decompress(data, most + 1)
    except zlib.error as error:
        raise AtlasError(f"a packed part of its values is damaged: {error}") from error
    if len(values) > most or not unpacking.eof:
        raise AtlasError("a packed part of its values has more, or fewer, bytes than it should have")
    return values


def _unshuffled(data: bytes, itemsize: int) -> bytes:
    if len(data) % itemsize:
        raise AtlasError("a packed part of its values has another size than it should have")
    planes = np.frombuffer(data, np.uint8).reshape(itemsize, -1)
    values = np.empty(planes.shape[::-1], np.uint8)
    # By planes, which NumPy copies four times as quickly as it transposes, while other threads run.
    for number, plane in enumerate(planes):
        values[:, number] = plane
    return values.tobytes()


def _fletcher32(data: bytes) -> int:
    """Return Fletcher's checksum of the 16-bit words of a chunk, of HDF5's kind: high bytes first, sums modulo 65535.

    Sums are folded, not divided: 65535 stands for a multiple of it, and 0 for zeros alone.
    """
    words = np.frombuffer(data if len(data) % 2 == 0 else data + b"\0", ">u2").astype(np.float64)
    first = second = 0
    for start in range(0, len(words), len(_WEIGHTS)):
        block = words[start : start + len(_WEIGHTS)]
        # Not by @, for which BLAS wakes its threads up: they take more time than the sum.
        second += first * len(block) + int(np.einsum("i,i->", block, _WEIGHTS[-len(block) :]))
        first += int(block.sum())
    if not first:
        return 0
    return (second % 65535 or 65535) << 16 | (first % 65535 or 65535)
