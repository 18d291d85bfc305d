"""Trees of HDF5's first version, by which h5py stores the names of groups and the places of chunks by default.

Nothing in them has a checksum. What is read is bounded by the number of entries that there may be, and by the size of
the file, in which no node is there twice.

References
----------
The HDF Group: *HDF5 File Format Specification, version 3.0*, III.A.1 (version 1 B-trees), III.B (symbol table nodes),
III.D (local heaps).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import AtlasError
from .hdf5_bytes import UNDEFINED, Fields, FileBytes

__all__ = ["CHUNKS", "old_links", "tree_leaves"]

_NAMES, CHUNKS = 0, 1
"""Kinds of trees: of names in a group, and of chunks of an array."""
_DEEPEST = 8
"""Levels above the leaves: a node has up to 64 entries by HDF5's own settings, and hardly ever fewer than 6."""
_HEAP = 1 << 24
_ENTRY = 40


def tree_leaves(
    file: FileBytes, address: int, kind: int, *, key_size: int, most: int
) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield the entries of each leaf, of which there may be so many in all: (entry, words of key and address).

    Raises
    ------
    AtlasError
        If there are more, or the tree is of another kind, damaged, or in itself.
    """
    left = most
    for leaf in _leaves(file, address, kind, key_size):
        left -= len(leaf)
        if left < 0:
            raise AtlasError(f"a tree of it has more than the {most:,} entries that it can have")
        yield leaf


def _leaves(file: FileBytes, address: int, kind: int, key_size: int, *, level: int | None = None) -> Iterator[Any]:
    """Yield the leaves below a node, which has this level unless it is the root: each child's is lower by one."""
    head = Fields(file.metadata(address, 24))
    head.expect(b"TREE" + bytes([kind]), "the begin of a tree")
    own, used = head.number(1), head.number(2)
    if own > _DEEPEST or level not in (None, own):
        raise AtlasError(f"a tree of it has a node of level {own} where none can be")
    if level is not None and not used:
        raise AtlasError("a tree of it has a node without entries")
    content = file.metadata(address + 24, used * (key_size + 8) + key_size)
    entries = np.frombuffer(content[: used * (key_size + 8)], "<u8").reshape(used, key_size // 8 + 1)
    if not own:
        yield entries
    for child in entries[:, -1].tolist() if own else ():
        yield from _leaves(file, child, kind, key_size, level=own - 1)


def old_links(file: FileBytes, table: Fields, most: int) -> Iterator[tuple[str, int | None]]:
    """Yield name and address of what is in a group of HDF5 before 1.8, of which there may be so many.

    Parameters
    ----------
    file : FileBytes
    table : Fields
        Of the message of its header: addresses of a tree and of a heap of names.
    most : int

    Yields
    ------
    tuple of (str, int or None)
        No address where a name leads to another name.

    Raises
    ------
    AtlasError
        If there are more, or a part of it is damaged.
    """
    tree, heap = table.number(8), table.number(8)
    names = _name_heap(file, heap)
    left = most
    addresses = (
        int(address) for leaf in tree_leaves(file, tree, _NAMES, key_size=8, most=most) for address in leaf[:, -1]
    )
    for address in addresses:
        head = Fields(file.metadata(address, 8))
        head.expect(b"SNOD\x01\0", "the begin of a list of names")
        count = head.number(2)
        left -= count
        if left < 0:
            raise AtlasError(f"a group of it has more than the {most:,} names that it can have")
        node = Fields(file.metadata(address + 8, count * _ENTRY))
        for _ in range(count):
            offset, target = node.number(8), node.number(8)
            node.take(_ENTRY - 16)
            yield _name(names, offset), None if target == UNDEFINED else target


def _name_heap(file: FileBytes, address: int) -> bytes:
    """Return the names of a group, each of which ends with a zero byte."""
    head = Fields(file.metadata(address, 32))
    head.expect(b"HEAP\0\0\0\0", "the begin of a heap of names")
    size = head.number(8)
    head.take(8)
    if size > _HEAP:
        raise AtlasError(f"a heap of its names has {size:,} bytes; those of an atlas have at most {_HEAP:,}")
    return file.metadata(head.number(8), size)


def _name(names: bytes, offset: int) -> str:
    end = names.find(b"\0", offset)
    if end < 0:
        raise AtlasError("a heap of its names is damaged: an entry leads to nowhere")
    return names[offset:end].decode()
