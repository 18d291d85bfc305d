"""Tree of an HDF5 file as data: attributes by group, specifications of arrays by path, and digests of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import AtlasError
from ...escapes import is_storable
from .header import Array, Attributes, Integers

__all__ = [
    "ArraySpec",
    "Tree",
    "array_spec",
    "checksum",
    "content_bytes",
    "encoded",
    "text_digest",
]

_CHUNK_BYTES = 1 << 16


@dataclass(eq=False)
class ArraySpec:
    """One dataset of a file.

    Parameters
    ----------
    shape, dtype
        Of the dataset.
    read : callable
        From a slice of the first axis to that part of the values.
    chunks : tuple of int
    attributes : dict, optional
        Of the dataset itself; an atlas has none.

    Attributes
    ----------
    digest : str
        SHA-256 of the values that `blocks` has yielded.
    """

    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[slice], Array]
    chunks: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    digest: str = field(init=False, default=hashlib.sha256().hexdigest())

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield the values in blocks of whole chunks, of bounded size, and note their digest."""
        content = hashlib.sha256()
        for part in self.parts():
            values = self.read(part)
            content.update(content_bytes(values, self.dtype))
            yield part, values
        self.digest = content.hexdigest()

    def parts(self) -> Iterator[slice]:
        """Yield the slices of the first axis that are read or written at once: whole chunks, of bounded size.

        Of an array without values there are none.
        """
        if 0 in self.shape:
            return
        bytes_per_row = max(1, int(np.prod(self.shape[1:])) * np.dtype(self.dtype).itemsize)
        step = max(self.chunks[0], (1 << 26) // bytes_per_row // self.chunks[0] * self.chunks[0])
        for start in range(0, self.shape[0], step):
            yield slice(start, min(start + step, self.shape[0]))


@dataclass(eq=False)
class Tree:
    """What a file holds: attributes by group, and datasets by path."""

    groups: dict[str, Attributes] = field(default_factory=dict)
    arrays: dict[str, ArraySpec] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, before compression."""
        return sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in self.arrays.values())


def array_spec(
    values: Any,
    *,
    rows: Integers | None = None,
    swap: bool = False,
    dtype: Any = None,
    blank: Callable[[Array], Array] = lambda values: values,
) -> ArraySpec:
    """Return how an array is stored: `rows` of it, all by default; with `swap` its first two axes change places.

    Both happen block by block. Chunks hold whole rows along the first axis as stored, about 64 KiB, so that reading one
    concept reads one chunk; rows longer than that are cut.
    """
    count = len(values) if rows is None else len(rows)
    shape = (values.shape[1], count, *values.shape[2:]) if swap else (count, *values.shape[1:])
    kind = np.dtype(dtype or values.dtype)
    taken = slice(None) if rows is None else rows

    def read(part: slice) -> Array:
        wanted = (taken, part) if swap else part if rows is None else rows[part]
        block = np.swapaxes(values[wanted], 0, 1) if swap else values[wanted]
        return np.ascontiguousarray(blank(np.asarray(block)), dtype=kind)

    return ArraySpec(tuple(shape), kind, read, _chunks(tuple(shape), kind.itemsize))


def content_bytes(values: Array, dtype: Any) -> bytes:
    """Return values, as the type that they were written as, in the form that digests are taken of."""
    kind = np.dtype(dtype)
    if kind.kind == "S":
        return b"".join(value + b"\0" for value in values.ravel().tolist())
    return values.astype(kind.newbyteorder("<"), copy=False).tobytes()


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    if len(shape) == 2 and shape[1] * itemsize * 16 > _CHUNK_BYTES:
        return min(shape[0], 256), max(1, _CHUNK_BYTES // itemsize // 256)
    row = max(1, int(np.prod(shape[1:])) * itemsize)
    rows = min(max(1, shape[0]), max(1, _CHUNK_BYTES // row))
    return rows, *(max(1, size) for size in shape[1:])


def encoded(strings: Sequence[str]) -> Array:
    """Return strings as UTF-8 of one length, so that they are stored within their dataset, not in a heap.

    Raises
    ------
    AtlasError
        If one holds a NUL, which ends a string there, or is not Unicode; names from outside are escaped before.
    """
    wrong = next((text for text in strings if not is_storable(text)), None)
    if wrong is not None:
        raise AtlasError(f"a file cannot hold the text {wrong!r:.200}")
    array: Array = np.char.encode(np.array(strings, dtype=str), "utf-8")
    return array.astype(f"S{max(1, array.dtype.itemsize)}")


def text_digest(strings: Sequence[str]) -> str:
    """Return a SHA-256 of strings: HDF5 keeps no checksum of those."""
    return hashlib.sha256("\n".join(strings).encode()).hexdigest()


def checksum(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a SHA-256 of every attribute of every group but the checksum's own.

    A reader looks for groups, those of later versions too, in the root, in ``/layers``, in each layer, and in each mode
    of a layer, and nowhere else.
    """
    plain = {
        path: {name: _plain(value) for name, value in attributes.items() if name != "checksum"}
        for path, attributes in groups.items()
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
