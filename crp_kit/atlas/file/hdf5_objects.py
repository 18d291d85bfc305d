"""Objects of an HDF5 file: the superblock, headers of groups and datasets, and the links of a group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import AtlasError
from .hdf5_bytes import UNDEFINED, Fields, FileBytes
from .hdf5_heaps import FractalHeap, tree_records
from .hdf5_old_trees import old_links

__all__ = ["Header", "Link", "group_links", "header_at", "root_address"]

SPACE, LINK_INFO, TYPE, FILL, LINK, EXTERNAL, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, OLD_GROUP, ATTRIBUTES = (
    1, 2, 3, 5, 6, 7, 8, 11, 12, 16, 17, 21,
)  # fmt: skip
"""Types of messages in headers that are read; others, such as times, are passed over."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BLOCK = 1 << 20
"""Bytes of a header; each of HDF5's messages has at most 64 KiB, and more than eight attributes are kept elsewhere."""
_NAME_INDEX_OF_LINKS = 5


def root_address(file: FileBytes) -> int:
    """Return the address of the root group.

    Raises
    ------
    AtlasError
        If this is no HDF5 file, one of another version than an atlas has, one whose writing did not end, a part of
        several files, or one that was cut off.
    """
    if file.size < len(_SIGNATURE) + 1 or not (begin := file.read(0, 9)).startswith(_SIGNATURE):
        raise AtlasError("it does not begin as an HDF5 file does")
    if begin[-1] in (0, 1):
        return _old_root(file, begin[-1])
    if begin[-1] not in (2, 3):
        raise AtlasError(f"it is of HDF5's superblock version {begin[-1]}, an atlas of version 3 or before")
    fields = file.block(0, 48, _SIGNATURE[:8])
    fields.take(1)
    fields.expect(b"\x08\x08", "the size of its addresses")
    if fields.number(1):
        raise AtlasError("it was not closed by the program that wrote it, or that is still writing")
    fields.expect(bytes(8), "its base address")
    fields.expect(b"\xff" * 8, "the address of an extension, as files that are split have it,")
    _check_end(file, fields.number(8))
    return fields.number(8)


def _old_root(file: FileBytes, version: int) -> int:
    """Return the address of the root group of a file as h5py makes it by default, whose superblock has no checksum."""
    fields = Fields(file.metadata(9, 63 + 4 * version))
    fields.expect(bytes(4), "the version of its groups")
    fields.expect(b"\x08\x08\0", "the size of its addresses")
    fields.take(4)
    fields.expect(bytes(4), "the state in which it was closed")
    fields.take(4 * version)
    fields.expect(bytes(8), "its base address")
    fields.take(8)
    _check_end(file, fields.number(8))
    fields.expect(b"\xff" * 8, "the address of a driver, as files that are split have it,")
    fields.take(8)  # the name of the root, which is empty
    return fields.number(8)


def _check_end(file: FileBytes, end: int) -> None:
    if end > file.size:
        raise AtlasError("it was cut off: it is shorter than it says")


@dataclass(frozen=True)
class Header:
    """The messages of a group or dataset: (type, flags, content)."""

    messages: tuple[tuple[int, int, bytes], ...]

    def all(self, kind: int) -> list[bytes]:
        """Return the contents of the messages of one type, which have to be stored here."""
        chosen = [(flags, content) for number, flags, content in self.messages if number == kind]
        if any(flags & 2 for flags, _ in chosen):
            raise AtlasError("it shares parts of its metadata, such as named types, which an atlas never does")
        return [content for _, content in chosen]

    def only(self, kind: int) -> bytes | None:
        """Return the content of the only message of a type, if there is any."""
        chosen = self.all(kind)
        if len(chosen) > 1:
            raise AtlasError("a part of its metadata is there twice")
        return chosen[0] if chosen else None

    def has(self, *kinds: int) -> bool:
        return any(number in kinds for number, _, _ in self.messages)

    @property
    def is_group(self) -> bool:
        return self.has(LINK_INFO, OLD_GROUP) and not self.has(LAYOUT)

    @property
    def is_dataset(self) -> bool:
        return self.has(LAYOUT) and not self.has(LINK_INFO, OLD_GROUP)


def header_at(file: FileBytes, address: int) -> Header:
    """Return the header of the object at an address."""
    begin = file.read(address, 12)
    if begin.startswith(b"OHDR"):
        flags = begin[5]
        start = 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
        width = 1 << (flags & 3)
        size = start + width + _bounded(int.from_bytes(file.read(address + start, width), "little"))
        block = file.block(address, size + 4, b"OHDR")
        block.expect(b"\x02", "the version of a header")
        block.take(start + width - 5)
        return Header(tuple(_messages(file, block, _Chunks(b"OCHK", ordered=bool(flags & 4)))))
    if not begin.startswith(b"\x01\x00"):
        raise AtlasError(f"there is no group or dataset at byte {address:,}")
    size = _bounded(int.from_bytes(begin[8:12], "little"))
    block = Fields(file.metadata(address + 16, size))
    return Header(tuple(_messages(file, block, _Chunks(b"", ordered=False))))


def _bounded(size: int) -> int:
    if size > _BLOCK:
        raise AtlasError(f"a header of {size:,} bytes is larger than any that an atlas has")
    return size


@dataclass(frozen=True)
class _Chunks:
    """How the chunks of a header are stored: their signature (none before HDF5 1.8), whether messages have numbers."""

    signature: bytes
    ordered: bool

    @property
    def prefix(self) -> int:
        """Bytes before the content of a message."""
        return (6 if self.ordered else 4) if self.signature else 8

    def next(self, file: FileBytes, content: bytes) -> Fields:
        """Return the chunk to which a message points."""
        fields = Fields(content)
        address, size = fields.number(8), _bounded(fields.number(8))
        if self.signature:
            return file.block(address, size, self.signature)
        return Fields(file.metadata(address, size))


def _messages(file: FileBytes, block: Fields, chunks: _Chunks) -> Iterator[tuple[int, int, bytes]]:
    waiting = [block]
    while waiting:
        block = waiting.pop()
        while block.left >= chunks.prefix:
            fields = Fields(block.take(chunks.prefix))
            kind = fields.number(1 if chunks.signature else 2)
            size, flags = fields.number(2), fields.number(1)
            content = block.take(size)
            if kind == CONTINUATION:
                waiting.append(chunks.next(file, content))
            elif kind:
                yield kind, flags, content


@dataclass(frozen=True)
class Link:
    """A name in a group: the address of its object, or none where it leads to another name or another file."""

    name: str
    address: int | None


def group_links(file: FileBytes, header: Header, most: int) -> dict[str, Link]:
    """Return the links of a group by name, of which there may be so many. None is followed.

    Raises
    ------
    AtlasError
        If there are more, or a name is there twice.
    """
    table = header.only(OLD_GROUP)
    if table is not None:
        links = [Link(*pair) for pair in old_links(file, Fields(table), most)]
    else:
        links = _new_links(file, header, most)
    by_name = {link.name: link for link in links}
    if len(by_name) != len(links):
        raise AtlasError("a group of it has a name twice")
    return by_name


def _new_links(file: FileBytes, header: Header, most: int) -> list[Link]:
    contents = header.all(LINK)
    info = Fields(header.only(LINK_INFO) or b"")
    info.expect(b"\0", "the version of its links")
    info.take(8 if info.number(1) & 1 else 0)
    heap, index = info.number(8), info.number(8)
    if heap != UNDEFINED:
        texts = FractalHeap(file, heap)
        contents += [texts.get(record[4:]) for record in tree_records(file, index, _NAME_INDEX_OF_LINKS, most)]
    if len(contents) > most:
        raise AtlasError(f"a group of it has {len(contents):,} names, more than the {most:,} that it can have")
    return [_link(Fields(content)) for content in contents]


def _link(fields: Fields) -> Link:
    fields.expect(b"\x01", "the version of a link")
    flags = fields.number(1)
    kind = fields.number(1) if flags & 8 else 0
    fields.take((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    name = fields.take(fields.number(1 << (flags & 3))).decode()
    return Link(name, fields.number(8) if kind == 0 else None)
