"""HDF5 reading, with every mistake of a file said in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from ...errors import AtlasError
from .schema import text_digest

__all__ = ["H5File"]

_HEAPS_WITHIN, _HEAP_ENTRY = 1 << 22, 16
"""Bytes: where heaps of strings are, and what stands before each string."""


def _check_heaps(path: Path) -> None:
    """Make sure that HDF5 can walk through the heaps in which it keeps strings: in a damaged one it walks without end.

    There is no checksum over heaps. Those of an atlas are at its beginning, since attributes are written first.

    Raises
    ------
    AtlasError
        If the entries of one do not fill it.
    """
    with open(path, "rb") as file:
        for match in re.finditer(rb"GCOL\x01\0{3}", file.read(_HEAPS_WITHIN)):
            file.seek(match.end())
            size = int.from_bytes(file.read(8), "little")
            file.seek(match.start())
            heap = file.read(min(size, _HEAPS_WITHIN))
            if len(heap) != size or not _is_filled(heap):
                raise AtlasError("the texts in it are damaged")


def _is_filled(heap: bytes) -> bool:
    """Return whether the entries of a heap, the last of which is free space, end where the heap does."""
    offset = _HEAP_ENTRY
    while offset + _HEAP_ENTRY <= len(heap):
        size = int.from_bytes(heap[offset + 8 : offset + _HEAP_ENTRY], "little")
        if heap[offset : offset + 2] == b"\0\0":
            return offset + size == len(heap)
        offset += _HEAP_ENTRY + -(-size // 8) * 8
    return offset <= len(heap)


class H5File:
    """An HDF5 file to read from. Every mistake of the file is an `AtlasError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise AtlasError(f"no file {str(path)!r}")
        if path.is_dir():
            raise AtlasError(f"{str(path)!r} is a folder, not an atlas file")
        if not path.is_file():
            raise AtlasError(f"{str(path)!r} is a pipe or a device, not an atlas file")
        with self.explained():
            _check_heaps(path)
            self._h5 = h5py.File(path, "r")

    def __enter__(self) -> H5File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._h5.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say what goes wrong in reading this file as one error, with its name."""
        try:
            yield
        except AtlasError as error:
            raise AtlasError(_located(self.path, str(error))) from error
        except (OSError, KeyError, ValueError, RuntimeError, TypeError, UnicodeDecodeError, OverflowError) as error:
            reason = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
            raise AtlasError(f"{str(self.path)!r} is no atlas file, or it is damaged: {reason}") from error

    def attributes(self, path: str) -> dict[str, Any]:
        """Return the attributes of a group."""
        with self.explained():
            return {name: _text(value) for name, value in self._group(path).attrs.items()}

    def groups(self, path: str = "/") -> list[str]:
        """Return the paths of all groups, the given one first."""
        with self.explained():
            paths = [path]
            for name, item in self._group(path).items():
                if isinstance(item, h5py.Group):
                    paths += self.groups(f"{path.rstrip('/')}/{name}")
            return paths

    def names(self, path: str) -> list[str]:
        """Return the names of what is in a group."""
        with self.explained():
            return list(self._group(path))

    def _group(self, path: str) -> Any:
        group = self._h5.get(path)
        if not isinstance(group, h5py.Group):
            raise AtlasError(f"it has no group {path!r}")
        return group

    def has(self, path: str) -> bool:
        """Return whether there is, or was, such a dataset, sound or not."""
        group, _, name = path.rpartition("/")
        with self.explained():
            return group in self._h5 and (name in self.names(group) or f"{name}_sha256" in self.attributes(group))

    def array(self, path: str) -> Any:
        """Return a dataset that is read when it is cut."""
        with self.explained():
            array = self._h5.get(path)
            if not isinstance(array, h5py.Dataset):
                raise AtlasError(f"it has no dataset {path!r}")
            return _Array(self, array)

    def strings(self, path: str) -> tuple[str, ...]:
        """Return a dataset of strings, which have to be those that were written."""
        with self.explained():
            strings = tuple(value.decode() for value in self.array(path)[:].tolist())
            group, _, name = path.rpartition("/")
            if self.attributes(group).get(f"{name}_sha256") != text_digest(strings):
                raise AtlasError(f"the texts in {path} were changed or damaged")
            return strings


class _Array:
    """A dataset whose reading errors are explained."""

    def __init__(self, file: H5File, array: Any) -> None:
        self._file, self._array = file, array
        self.shape: tuple[int, ...] = array.shape
        self.dtype = array.dtype

    def __getitem__(self, part: Any) -> Any:
        with self._file.explained():
            return self._array[part]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        with self._file.explained():
            return np.asarray(self._array[()], dtype=dtype)


def _located(path: Path, message: str) -> str:
    return message if str(path) in message else f"{str(path)!r} is no sound atlas file: {message}"


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
