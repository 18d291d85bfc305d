"""Storage of the arrays of a dataset pass: memory up to a limit, then unnamed files that the system pages in."""

from __future__ import annotations

import errno
import math
import mmap
import os
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...errors import AtlasError
from ...files import reserved_file
from ..file.header import Array

__all__ = ["ArrayStorage"]

_OWN_PAGES = 1 << 20
"""Bytes from which on an array has pages of its own, which go back to the system with it."""
_SMALLEST_FILE, _LARGEST_FILE = 1 << 20, 1 << 28
_ALIGNED = 64
_GROWTH = 8
"""How many times as long as needed an array in a file may be: room takes disk, copies into more are written again."""


class ArrayStorage:
    """Makes arrays, in memory as long as all together fit, else in files; which of them never changes a value.

    Parameters
    ----------
    limit : int
        Bytes that arrays may take in memory.
    folder : Path
        Where files are made. They have no names and vanish with the process.
    groups : int, optional
        Groups that arrays which grow may have in the end.
    """

    def __init__(self, limit: int, folder: Path, groups: int = 0) -> None:
        self._limit, self._folder, self._groups = limit, folder, groups
        self._in_memory = self._in_files = 0
        self._free = memoryview(b"")
        """What is left of the last file."""

    def __call__(self, shape: tuple[int, ...], dtype: str, fill: float) -> Array:
        """Return a new array.

        Raises
        ------
        AtlasError
            If memory or disk are full.
        """
        size = _bytes(shape, dtype)
        array = self._memory(shape, dtype, size) if self._fits(size) else self._array_in_file(shape, dtype)
        if fill:
            array[...] = fill
        return array

    def room(self, shape: tuple[int, ...], dtype: str, fill: float) -> Array:
        """Return a new array (group, …) that has room for more groups where it lies in a file and the disk has it.

        Raises
        ------
        AtlasError
            If memory or disk are full.
        """
        groups = min(self._groups, _GROWTH * shape[0])
        if groups > shape[0] and not self._fits(_bytes(shape, dtype)):
            with suppress(AtlasError):
                return self._array_in_file((groups, *shape[1:]), dtype)
        return self(shape, dtype, fill)

    def _fits(self, size: int) -> bool:
        return self._in_memory + size <= self._limit

    def _array_in_file(self, shape: tuple[int, ...], dtype: str) -> Array:
        return np.frombuffer(self._file(_bytes(shape, dtype)), dtype, math.prod(shape)).reshape(shape)

    def _memory(self, shape: tuple[int, ...], dtype: str, size: int) -> Array:
        # Pages of zeros take memory when they are first written to, and a freed array leaves no hole in the heap.
        try:
            owner = _pages(size) if size >= _OWN_PAGES else np.zeros(size, "u1")
        except (OSError, MemoryError) as error:
            raise AtlasError(
                f"no memory for {size >> 20} MiB more of rankings and moments: a smaller max_memory keeps them in "
                f"files, a smaller k_class needs less"
            ) from error
        self._in_memory += size
        weakref.finalize(owner, self._released, size).atexit = False
        return np.frombuffer(owner, dtype, size // np.dtype(dtype).itemsize).reshape(shape)

    def _released(self, size: int) -> None:
        self._in_memory -= size

    def _removed(self, size: int) -> None:
        self._in_files -= size

    def _file(self, size: int) -> memoryview:
        """Return new bytes of a file, all zero. Small arrays share one: a process may have few files open."""
        size = max(-(-size // _ALIGNED) * _ALIGNED, _ALIGNED)
        if size > len(self._free):
            room = max(size, min(max(self._in_files, _SMALLEST_FILE), _LARGEST_FILE))
            mapped = self._mapped(room)
            weakref.finalize(mapped, self._removed, room).atexit = False
            self._free = memoryview(mapped)
            self._in_files += room
        taken, self._free = self._free[:size], self._free[size:]
        return taken

    def _mapped(self, size: int) -> mmap.mmap:
        try:
            with reserved_file(self._folder, size) as file:
                return mmap.mmap(file.fileno(), size)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            reason = "the disk, or what you may use of it, is full" if full else error.strerror or str(error)
            raise AtlasError(
                f"no room for {size >> 20} MiB more of rankings and moments in {self._folder}: {reason}; free some, "
                f"let more stay in memory by max_memory, or ask for a smaller k_class"
            ) from error


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def _pages(size: int) -> mmap.mmap:
    """Return new pages of memory, all zero."""
    if os.name == "posix":
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)
