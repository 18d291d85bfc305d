"""Digests (SHA-256) of the content of every dataset of a file, kept in the file itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np

from ...errors import AtlasError
from .expected_groups import expected_groups
from .file_tree import ArraySpec, Tree, content_bytes, encoded
from .hdf5_reader import H5File
from .header import ENCODING, VERSION, Array

__all__ = ["DIGESTS", "add_digests", "digest_problems", "has_digests", "noted_digests"]

DIGESTS = "/digests/sha256"
"""Dataset with a line for every other dataset: digest, type of the values, path."""
_BYTES_AT_ONCE = 1 << 25


def add_digests(tree: Tree, expected: Mapping[str, str] = MappingProxyType({})) -> None:
    """Let a file end with the digest of each of its datasets.

    They are taken of the values that are handed to HDF5. The checksums of HDF5 itself are made of what it stores: they
    do not show that a block was never written, and take 0x0000 for 0xFFFF.

    Parameters
    ----------
    tree : Tree
    expected : dict of str to str, optional
        Digests by path, from which those of the same datasets may not differ: an `AtlasError` ends the writing then.
    """
    paths = list(tree.arrays)
    width = max(len(_line(tree.arrays[path], path).encode()) for path in paths)

    def lines(part: slice) -> Array:
        # Called last, when all others have been written and their digests are known.
        wrong = next((path for path, digest in expected.items() if tree.arrays[path].digest != digest), None)
        if wrong is not None:
            raise AtlasError(f"the dataset {wrong} is not what was written first: it has another SHA-256")
        return encoded([_line(tree.arrays[path], path) for path in paths[part]]).astype(f"S{width}")

    group = DIGESTS.rpartition("/")[0]
    tree.groups[group] = {
        "encoding-type": f"{ENCODING}-digests",
        "encoding-version": VERSION,
        "datasets": len(paths),
    }
    tree.arrays[DIGESTS] = ArraySpec((len(paths),), np.dtype(f"S{width}"), lines, (len(paths),))


def _line(spec: ArraySpec, path: str) -> str:
    return f"{spec.digest} {_type_text(spec.dtype)} {path}"


def _type_text(dtype: Any) -> str:
    """Return a type as text, whatever the byte order in which its values are stored."""
    text: str = np.dtype(dtype).newbyteorder("<").str
    return text


def _written_type(text: str, stored: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the type in a line, or None if it is damaged or not one whose values the stored type holds."""
    try:
        written = np.dtype(text)
    except (TypeError, SyntaxError, ValueError):
        return None
    same = _type_text(written) == text and written.kind == stored.kind and np.can_cast(written, stored)
    return written if same else None


def has_digests(file: H5File) -> bool:
    """Return whether a file has digests; those of older versions have none."""
    return DIGESTS.split("/")[1] in file.names("/")


def digest_problems(file: H5File) -> Iterator[str]:
    """Yield which datasets are not what was written. Every one is read whole, in pieces of bounded size.

    Files of older versions have no digests. There it is HDF5 that compares its checksums with what is read.

    Raises
    ------
    AtlasError
        If one cannot be read.
    """
    paths = set(_datasets(file))
    if not has_digests(file):
        for path in paths:
            _digest(file.array(path), file.array(path).dtype)
        return
    for digest, dtype, path in _lines(file):
        array = file.array(path)
        written = _written_type(dtype, array.dtype)
        if written is None:
            yield f"the dataset {path} is not of the type that was written, or the line of its digest is damaged"
        elif digest != _digest(array, written):
            yield f"the dataset {path} is not what was written: it has another SHA-256"
        paths.discard(path)
    for path in sorted(paths - {DIGESTS}):
        yield f"{path} has no digest: it was added later"


def noted_digests(file: H5File) -> dict[str, str]:
    """Return the digest of each dataset by its path; nothing for a file of an older version."""
    return {path: digest for digest, _, path in _lines(file)} if has_digests(file) else {}


def _lines(file: H5File) -> Iterator[tuple[str, str, str]]:
    """Yield digest, type of the values and path of each dataset."""
    for line in file.array(DIGESTS)[:].tolist():
        digest, _, rest = line.decode(errors="replace").partition(" ")
        dtype, _, path = rest.partition(" ")
        yield digest, dtype, path


def _datasets(file: H5File) -> Iterator[str]:
    """Yield the paths of all datasets where an atlas has any; what else there may be is not walked."""
    groups = expected_groups(file)
    for group in groups:
        paths = (f"{group.rstrip('/')}/{name}" for name in file.names(group))
        yield from (path for path in paths if path not in groups)


def _digest(array: Any, dtype: np.dtype[Any]) -> str:
    content = hashlib.sha256()
    for piece in _pieces(array.shape, array.dtype.itemsize):
        content.update(content_bytes(np.asarray(array[piece]), dtype))
    return content.hexdigest()


def _pieces(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Divide an array into pieces of bounded size, in the order of its values."""
    if not shape or 0 in shape:
        return
    axis, inner = len(shape) - 1, itemsize
    while axis and inner * shape[axis] <= _BYTES_AT_ONCE:
        inner *= shape[axis]
        axis -= 1
    step = max(1, _BYTES_AT_ONCE // inner)
    for outer in product(*map(range, shape[:axis])):
        for start in range(0, shape[axis], step):
            yield (*(slice(place, place + 1) for place in outer), slice(start, start + step))
