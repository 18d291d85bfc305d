"""HDF5 writing: a file is written beside its place, whole or not at all, and renamed."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from ...errors import AtlasError
from ...files import atomic_file
from .schema import Tree

__all__ = ["write_tree"]

# Since HDF5 1.10 the format has checksums over all metadata.
_FORMAT = ("v110", "v110")


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
