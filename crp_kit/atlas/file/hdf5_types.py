"""Types, shapes and attributes as an HDF5 file stores them; only those that an atlas has."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import AtlasError
from .hdf5_bytes import UNDEFINED, Fields, FileBytes
from .hdf5_heaps import FractalHeap, StringHeaps, tree_records
from .hdf5_objects import ATTRIBUTE, ATTRIBUTES, Header

__all__ = ["read_attributes", "shape_of", "type_of"]

_AXES = 8
_LARGEST = 1 << 60
_LONGEST = 1 << 12
"""Entries of an attribute that is an array."""
_NAME_INDEX_OF_ATTRIBUTES = 8
_FLOATS = {
    2: (0, 16, 10, 5, 0, 10, 15),
    4: (0, 32, 23, 8, 0, 23, 127),
    8: (0, 64, 52, 11, 0, 52, 1023),
}
"""By size: offset, precision, and places and sizes of exponent and mantissa, and bias of IEEE 754."""
_CLASSES = (
    "integer", "floating point", "time", "string", "bit field", "opaque", "compound", "reference", "enumeration",
    "variable-length", "array", "complex",
)  # fmt: skip
_BYTE = (b"\x10", b"\x30")
_TRUTH = (b"FALSE\0TRUE\0\x00\x01", b"FALSE\0\0\0TRUE\0\0\0\0\x00\x01")
"""How an enumeration of a byte that stands for a truth value goes on: names, padded or not, and values."""


def shape_of(content: bytes) -> tuple[int, ...]:
    """Return the shape of a dataset or attribute.

    Raises
    ------
    AtlasError
        If it is empty, has more axes than any array of an atlas, or more entries than any memory has.
    """
    fields = Fields(content)
    version, rank, flags = fields.number(1), fields.number(1), fields.number(1)
    if version not in (1, 2) or rank > _AXES:
        raise AtlasError("a shape in it is damaged")
    kind = fields.number(1)
    if version == 1:
        fields.take(4)
    elif kind == 2:
        raise AtlasError("an array or attribute of it is empty")
    shape = tuple(fields.number(8) for _ in range(rank))
    if any(size > _LARGEST for size in shape) or math.prod(shape) > _LARGEST:
        raise AtlasError(f"an array of it says that it has the shape {shape}, which no memory has")
    if flags & 1 and tuple(fields.number(8) for _ in range(rank)) != shape:
        raise AtlasError("an array of it can grow, which an atlas's never can")
    return shape


def type_of(fields: Fields) -> np.dtype[Any]:
    """Return the type of a dataset or attribute; strings of any length are objects.

    Raises
    ------
    AtlasError
        If it is none that an atlas has.
    """
    begin = fields.number(1)
    bits, size = fields.take(3), fields.number(4)
    order = ">" if bits[0] & 1 else "<"
    kind = begin & 15
    if kind == 0 and size in (1, 2, 4, 8) and (fields.number(2), fields.number(2)) == (0, 8 * size):
        return np.dtype(f"{order}{'i' if bits[0] & 8 else 'u'}{size}")
    if kind == 1 and size in _FLOATS and not bits[0] & 64 and (bits[0] & 48, bits[1]) == (32, 8 * size - 1):
        layout = (*(fields.number(2) for _ in range(2)), *(fields.number(1) for _ in range(4)), fields.number(4))
        if layout == _FLOATS[size]:
            return np.dtype(f"{order}f{size}")
    if kind == 3 and size:
        return np.dtype(f"S{size}")
    if kind == 8 and size == 1 and fields.take(12)[:1] in _BYTE and fields.take(fields.left) in _TRUTH:
        return np.dtype(bool)
    if kind == 9 and size == 16 and bits[0] & 15 == 1:
        return np.dtype(object)
    name = _CLASSES[kind] if kind < len(_CLASSES) else "unknown"
    raise AtlasError(f"it has values of a type that an atlas never has: {name} of {size:,} bytes")


def read_attributes(file: FileBytes, header: Header, heaps: StringHeaps, most: int) -> dict[str, Any]:
    """Return the attributes of a group by name, of which there may be so many.

    Raises
    ------
    AtlasError
        If there are more, or one is of a type that an atlas has not.
    """
    contents = header.all(ATTRIBUTE)
    info = header.only(ATTRIBUTES)
    if info is not None:
        contents += _dense(file, Fields(info), most)
    if len(contents) > most:
        raise AtlasError(f"it has {len(contents):,} attributes in one group, more than the {most:,} that it can have")
    pairs = [_attribute(Fields(content), heaps) for content in contents]
    attributes = dict(pairs)
    if len(attributes) != len(pairs):
        raise AtlasError("it has an attribute twice")
    return attributes


def _dense(file: FileBytes, info: Fields, most: int) -> list[bytes]:
    info.expect(b"\0", "the version of its attributes")
    info.take(2 if info.number(1) & 1 else 0)
    heap, index = info.number(8), info.number(8)
    if heap == UNDEFINED:
        return []
    texts = FractalHeap(file, heap)
    records = tree_records(file, index, _NAME_INDEX_OF_ATTRIBUTES, most)
    if any(record[8] & 2 for record in records if len(record) > 8):
        raise AtlasError("its attributes are shared with other objects, which an atlas's never are")
    return [texts.get(record[:8]) for record in records]


def _attribute(fields: Fields, heaps: StringHeaps) -> tuple[str, Any]:
    version, flags = fields.number(1), fields.number(1)
    if version not in (1, 2, 3) or (flags and version > 1):
        raise AtlasError("an attribute of it is stored in a way that an atlas's never is")
    sizes = [fields.number(2) for _ in range(3)]
    fields.take(1 if version == 3 else 0)
    padded = [-(-size // 8) * 8 if version == 1 else size for size in sizes]
    name, kind, space = (fields.take(whole)[:size] for whole, size in zip(padded, sizes, strict=True))
    label = name.partition(b"\0")[0].decode()
    try:
        return label, _value(type_of(Fields(kind)), shape_of(space), fields, heaps)
    except AtlasError as error:
        raise AtlasError(f"its attribute {label!r}: {error}") from error


def _value(kind: np.dtype[Any], shape: tuple[int, ...], fields: Fields, heaps: StringHeaps) -> Any:
    count = math.prod(shape)
    if len(shape) > 1 or count > _LONGEST:
        raise AtlasError(f"it has the shape {shape}, which no attribute of an atlas has")
    if kind.hasobject:
        if shape:
            raise AtlasError("it is a list of texts, which no attribute of an atlas is")
        return heaps.get(fields).partition(b"\0")[0].decode()
    values = np.frombuffer(fields.take(count * kind.itemsize), kind).reshape(shape)
    if kind.kind == "S":
        return values.item().decode() if not shape else values
    return values[()] if not shape else values.copy()
