"""Heaps and trees in which HDF5 keeps many links or attributes, and strings of any length."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import AtlasError
from .hdf5_bytes import UNDEFINED, Fields, FileBytes, lookup3

__all__ = ["FractalHeap", "StringHeaps", "tree_records"]

_DEEPEST = 8
_NODE = 1 << 16
_LARGEST_BLOCK = 1 << 24
_STRINGS = 1 << 24
"""Bytes of all heaps of strings: the rules of every node of a network, which is the longest text, take thousands."""


def tree_records(file: FileBytes, address: int, kind: int, most: int) -> list[bytes]:
    """Return the records of a B-tree of version 2, of which there may be so many.

    Raises
    ------
    AtlasError
        If there are more, or the tree is of another kind or damaged.
    """
    header = file.block(address, 38, b"BTHD")
    header.expect(bytes([0, kind]), "the kind of a tree of names")
    node_size, record_size, depth = header.number(4), header.number(2), header.number(2)
    header.take(2)
    root, count, total = header.number(8), header.number(2), header.number(8)
    if total > most:
        raise AtlasError(f"it has {total:,} names or attributes in one group, more than the {most:,} that it can have")
    if not (record_size and record_size + 10 <= node_size <= _NODE and depth <= _DEEPEST):
        raise AtlasError("a tree of its names is damaged")
    records = list(_Tree(file, kind, node_size, record_size).records(root, count, depth)) if total else []
    if len(records) != total:
        raise AtlasError(f"a tree of its names has {len(records):,} entries and says that it has {total:,}")
    return records


class _Tree:
    """Nodes of a B-tree of version 2."""

    def __init__(self, file: FileBytes, kind: int, node_size: int, record_size: int) -> None:
        self._file, self._kind, self._size, self._record = file, kind, node_size, record_size
        self._most = [(node_size - 10) // record_size]
        self._width = _bytes_for(self._most[0])

    def _pointer(self, depth: int) -> tuple[int, int]:
        """Return how many bytes, in a pointer of a node so deep, count its child's records, and all below it."""
        whole = self._most[0]
        below = 0
        for _ in range(1, depth):
            size = 8 + self._width + below
            here = (self._size - 10 - size) // (self._record + size)
            whole = (here + 1) * whole + here
            below = _bytes_for(whole)
        return self._width, below

    def records(self, address: int, count: int, depth: int) -> Iterator[bytes]:
        """Yield the records of a node and of what is below it."""
        own, below = self._pointer(depth) if depth else (0, 0)
        pointers = (count + 1) * (8 + own + below) if depth else 0
        node = self._file.block(address, 10 + count * self._record + pointers, b"BTIN" if depth else b"BTLF")
        node.expect(bytes([0, self._kind]), "the kind of a tree of names")
        records = [node.take(self._record) for _ in range(count)]
        yield from records
        for _ in range(count + 1 if depth else 0):
            child, children = node.number(8), node.number(own)
            node.take(below)
            yield from self.records(child, children, depth - 1)


def _bytes_for(number: int) -> int:
    return max(0, number.bit_length() - 1) // 8 + 1


class FractalHeap:
    """A heap of links or attributes."""

    def __init__(self, file: FileBytes, address: int) -> None:
        self._file, self._address = file, address
        plain = file.read(address, 9)
        if plain[7:9] != b"\0\0":
            raise AtlasError("a heap of its names is packed, which an atlas's never is")
        header = file.block(address, 146, b"FRHP")
        header.expect(b"\0", "the version of a heap")
        self._id = header.number(2)
        header.take(2)
        self._guarded = bool(header.number(1) & 2)
        largest_object = header.number(4)
        header.take(96)
        self._columns, self._start, self._largest = header.number(2), header.number(8), header.number(8)
        bits = header.number(2)
        header.take(2)
        root, self._rows = header.number(8), header.number(2)
        if not (
            _is_power(self._columns, 1 << 10)
            and _is_power(self._start, self._largest)
            and _is_power(self._largest, _LARGEST_BLOCK)
            and bits <= 64
            and self._rows <= bits
        ):
            raise AtlasError("a heap of its names is damaged")
        self._offset = -(-bits // 8)
        self._length = min(-(-(self._largest.bit_length() - 1) // 8), _bytes_for(max(1, largest_object)))
        self._blocks = dict(self._direct(root, 0, self._start)) if not self._rows else dict(self._indirect(root, 0))

    def _direct(self, address: int, offset: int, size: int) -> Iterator[tuple[int, bytes]]:
        if address == UNDEFINED:
            return
        data = self._file.metadata(address, size)
        block = Fields(data)
        block.expect(b"FHDB\0", "the begin of a heap's block")
        self._check_owner(block, offset)
        if self._guarded:
            start = size - block.left
            if block.number(4) != lookup3(data[:start] + bytes(4) + data[start + 4 :]):
                raise AtlasError("a heap of its names is damaged: the checksum differs")
        yield offset, data

    def _indirect(self, address: int, offset: int) -> Iterator[tuple[int, bytes]]:
        """Yield the blocks of the root, whose rows double in size; blocks that are not there hold nothing."""
        most = (self._largest // self._start).bit_length() + 1
        if self._rows > most:
            raise AtlasError("a heap of its names is larger than that of any atlas")
        size = 9 + 8 + self._offset + self._rows * self._columns * 8
        block = self._file.block(address, size, b"FHIB")
        block.expect(b"\0", "the version of a heap's block")
        self._check_owner(block, offset)
        for row in range(self._rows):
            step = self._start << max(0, row - 1)
            for _ in range(self._columns):
                yield from self._direct(block.number(8), offset, step)
                offset += step

    def _check_owner(self, block: Fields, offset: int) -> None:
        if (block.number(8), block.number(self._offset)) != (self._address, offset):
            raise AtlasError("a heap of its names is damaged: a block belongs to another")

    def get(self, identity: bytes) -> bytes:
        """Return the object that an entry of a tree means."""
        fields = Fields(identity)
        if len(identity) != self._id or fields.number(1):
            raise AtlasError("a name or attribute of it is stored in a way that an atlas's never is")
        offset, length = fields.number(self._offset), fields.number(self._length)
        for start, data in self._blocks.items():
            if start <= offset and offset + length <= start + len(data):
                return data[offset - start : offset - start + length]
        raise AtlasError("a heap of its names is damaged: an entry leads to nowhere")


def _is_power(number: int, most: int) -> bool:
    """Return whether this is a power of two up to a bound."""
    return 0 < number <= most and number & (number - 1) == 0


class StringHeaps:
    """The heaps of a file that hold strings, each read once."""

    def __init__(self, file: FileBytes) -> None:
        self._file, self._left = file, _STRINGS
        self._heaps: dict[int, dict[int, bytes]] = {}

    def get(self, reference: Fields) -> bytes:
        """Return the string that an attribute refers to by length, heap and number."""
        length, address, number = reference.number(4), reference.number(8), reference.number(4)
        if not length:
            return b""
        if address not in self._heaps:
            self._heaps[address] = dict(self._entries(address))
        content = self._heaps[address].get(number, b"")
        if length > len(content):
            raise AtlasError("the texts in it are damaged")
        self._left -= length
        if self._left < 0:
            raise AtlasError(f"the texts in its attributes take more than {_STRINGS:,} bytes")
        return content[:length]

    def _entries(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Yield number and content of each entry. There is no checksum: those of an atlas are in its own."""
        head = Fields(self._file.read(address, 16))
        head.expect(b"GCOL\x01\0\0\0", "the begin of a heap of texts")
        size = head.number(8)
        if not 16 <= size <= _STRINGS:
            raise AtlasError(f"a heap of its texts has {size:,} bytes; those of an atlas have at most {_STRINGS:,}")
        heap = Fields(self._file.metadata(address, size)[16:])
        while heap.left >= 16:
            number = heap.number(2)
            heap.take(6)
            length = heap.number(8)
            if not number:
                return
            content = heap.take(length)
            heap.take(min(-length % 8, heap.left))
            yield number, content
