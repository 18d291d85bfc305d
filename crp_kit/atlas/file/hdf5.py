"""HDF5: files written whole or not at all, and read with their mistakes said in a sentence. Nothing else opens HDF5."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from ...errors import AtlasError
from ...files import atomic_file
from .schema import Tree, text_digest

__all__ = ["H5File", "write_tree"]

# Since HDF5 1.10 the format has checksums over all metadata.
_FORMAT = ("v110", "v110")
_HEAPS_WITHIN, _HEAP_ENTRY = 1 << 22, 16
"""Bytes: where heaps of strings are, and what stands before each string."""


def write_tree(path: Path, tree: Tree, *, compress: bool) -> None:
    """Write a file beside its place and rename it, so that its place holds a whole file at any moment, or none.

    Parameters
    ----------
    path : Path
    tree : Tree
    compress : bool
        Smaller and slower.

    Raises
    ------
    AtlasError
        If the disk is full, or the folder is gone or cannot be written. What was in the place stays there.
    """
    beside = path.with_name(f".{path.name}.writing")
    try:
        with atomic_file(path, beside=beside), open(beside, "w+b", buffering=0) as file:
            sink = _Sink(file)
            with h5py.File(sink, "w", libver=_FORMAT) as h5:
                _write(h5, tree, compress, sink)
            sink.check()
    except (OSError, RuntimeError, ValueError) as error:
        raise AtlasError(f"cannot write {path}: {_reason(error)}; what was there before is kept") from error


class _Sink:
    """A file for HDF5 to write into that never fails in its hands: after a failed write in C, HDF5 may crash.

    The first error is kept, everything after it goes nowhere, and `check` raises it.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file, self._error = file, OSError()
        self.failed = False

    def _tried(self, action: Callable[[], int], otherwise: int) -> int:
        if not self.failed:
            try:
                return action()
            except OSError as error:
                self._error, self.failed = error, True
        return otherwise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size) or b""

    def readinto(self, buffer: memoryview) -> int:
        return self._file.readinto(buffer) or 0

    def write(self, data: memoryview) -> int:
        return self._tried(lambda: self._all(data), len(data))

    def _all(self, data: memoryview) -> int:
        written = 0
        while written < len(data):
            written += self._file.write(data[written:]) or 0
        return written

    def truncate(self, size: int) -> int:
        return self._tried(lambda: self._file.truncate(size), size)

    def flush(self) -> None:
        """Nothing is held back."""

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.failed:
            raise self._error


def _write(h5: Any, tree: Tree, compress: bool, sink: _Sink) -> None:
    for path, attributes in tree.groups.items():
        group = h5.require_group(path)
        for name, value in attributes.items():
            group.attrs[name] = value
    # Packed also where that saves nothing: the checksum of HDF5 alone takes a page of zeros for sound.
    packing = {"compression": "gzip", "compression_opts": int(compress), "shuffle": compress}
    for path, spec in tree.arrays.items():
        dtype = h5py.string_dtype("utf-8", spec.dtype.itemsize) if spec.dtype.kind == "S" else spec.dtype
        if 0 in spec.shape:
            h5.create_dataset(path, shape=spec.shape, dtype=dtype)
            continue
        array = h5.create_dataset(path, shape=spec.shape, dtype=dtype, chunks=spec.chunks, fletcher32=True, **packing)
        for name, value in spec.attributes.items():
            array.attrs[name] = value
        for part, values in spec.blocks():
            array[part] = values.astype(dtype) if dtype is not spec.dtype else values
            if sink.failed:
                return


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk, or what you may use of it, is full"
    if number == errno.ENOENT:
        return f"the folder {getattr(error, 'filename', '') or ''} is gone".replace("  ", " ")
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


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
