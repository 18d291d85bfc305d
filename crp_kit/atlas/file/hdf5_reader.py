"""HDF5 reading without the HDF5 library, with every mistake of a file said in one sentence.

The library trusts what it reads: of atlas files in which some bytes of metadata were changed and their checksums made
to fit, one in 500 ended the process by a segmentation fault or a division by zero, or kept it busy without end (HDF5
2.0, h5py 3.16). No test beforehand finds those, unless it reads all of the metadata. An atlas has a small part of the
format (version 3 of the superblock, links and attributes in headers or heaps, chunks of a fixed number, three filters),
which is read here by Python that checks all bounds; so is what h5py makes of it by default when somebody copies it
(version 0 of the superblock, trees of names and of chunks). The rest is refused. Nothing outside of the file is ever
opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ...errors import AtlasError
from ...printable import printable
from .file_tree import text_digest
from .hdf5_arrays import Layout, StoredArray
from .hdf5_bytes import FileBytes
from .hdf5_heaps import StringHeaps
from .hdf5_layout import layout_of
from .hdf5_objects import Header, Link, group_links, header_at, root_address
from .hdf5_types import read_attributes

__all__ = ["H5File"]

_REASON = 240
"""Characters."""
_NAMES = 256
"""Names or attributes in a group at most; twenty today."""
_LAYER_BYTES = 1 << 12
"""A layer takes more of a file than this: forty headers of groups and arrays."""
_TEXT, _TEXT_PACKING, _BLOCK = 1 << 26, 64, 1 << 24
"""Bytes: of strings in any file, of strings for each byte of a larger one, and of what is read of them at once."""


class H5File:
    """An HDF5 file to read from. Every mistake of the file is an `AtlasError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not path.exists():
                raise AtlasError(f"no file {str(path)!r}")
        except OSError as error:
            raise AtlasError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        if path.is_dir():
            raise AtlasError(f"{str(path)!r} is a folder, not an atlas file")
        if not path.is_file():
            raise AtlasError(f"{str(path)!r} is a pipe or a device, not an atlas file")
        with self._unreadable():
            self._bytes = FileBytes(path)
        try:
            with self._unreadable():
                root = root_address(self._bytes)
                self._headers = {"/": header_at(self._bytes, root)}
        except BaseException:
            self._bytes.close()
            raise
        self._paths = {root: "/"}
        self._heaps = StringHeaps(self._bytes)
        self._links: dict[str, dict[str, Link]] = {}
        self._attributes: dict[str, dict[str, Any]] = {}
        self._layouts: dict[str, Layout] = {}

    def __enter__(self) -> H5File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._bytes.close()

    @property
    def state(self) -> os.stat_result:
        """The state of the file when it was opened."""
        return self._bytes.state

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say what goes wrong in reading this file as one error, with its name."""
        if self._bytes.closed:
            raise AtlasError(f"{str(self.path)!r} was closed; open it again")
        try:
            yield
        except AtlasError as error:
            raise AtlasError(self._located(str(error))) from error
        except (OSError, KeyError, ValueError, RuntimeError, TypeError, UnicodeDecodeError, OverflowError) as error:
            raise self._damaged(str(error).strip("'\"") or type(error).__name__) from error
        except MemoryError as error:
            raise AtlasError(f"{str(self.path)!r}: what is asked for takes more memory than there is") from error

    @contextmanager
    def _unreadable(self) -> Iterator[None]:
        """Say why this is no HDF5 file of the kind that an atlas is."""
        try:
            yield
        except (OSError, AtlasError) as error:
            raise self._damaged(getattr(error, "strerror", None) or str(error)) from error

    def _damaged(self, reason: str) -> AtlasError:
        return AtlasError(f"{str(self.path)!r} is no atlas file, or it is damaged: {_brief(reason.splitlines()[0])}")

    def _located(self, message: str) -> str:
        known = printable(str(self.path)) in message
        return message if known else f"{str(self.path)!r} is no sound atlas file: {_brief(message)}"

    def attributes(self, path: str) -> dict[str, Any]:
        """Return the attributes of a group."""
        with self.explained():
            if path not in self._attributes:
                self._attributes[path] = read_attributes(self._bytes, self._group(path), self._heaps, _NAMES)
            return dict(self._attributes[path])

    def groups(self, path: str = "/") -> list[str]:
        """Return the paths of a group and of the groups directly in it. It is not walked any deeper."""
        with self.explained():
            inside = (_joined(path, name) for name, link in self._names(path).items() if link.address is not None)
            return [path, *(inner for inner in inside if self._header(inner).is_group)]

    def names(self, path: str) -> list[str]:
        """Return the names of what is in a group."""
        with self.explained():
            return list(self._names(path))

    def has(self, path: str) -> bool:
        """Return whether there is, or was, such a dataset, sound or not."""
        group, _, name = path.rpartition("/")
        with self.explained():
            parent, _, own = group.rpartition("/")
            return own in self._names(parent or "/") and (
                name in self._names(group) or f"{name}_sha256" in self.attributes(group)
            )

    def array(self, path: str) -> Any:
        """Return a dataset that is read when it is cut."""
        with self.explained():
            if path not in self._layouts:
                header = self._header(path, f"it has no dataset {path!r}")
                if not header.is_dataset:
                    raise AtlasError(f"it has no dataset {path!r}")
                with _named(path):
                    self._layouts[path] = layout_of(self._bytes, header)
            return _Array(self, path, self._layouts[path])

    def strings(self, path: str) -> tuple[str, ...]:
        """Return a dataset of strings, which have to be those that were written."""
        with self.explained():
            strings = tuple(self._decoded(path))
            group, _, name = path.rpartition("/")
            if self.attributes(group).get(f"{name}_sha256") != text_digest(strings):
                raise AtlasError(f"the texts in {path} were changed or damaged")
            return strings

    def _decoded(self, path: str) -> Iterator[str]:
        """Yield strings, which a few bytes of a hostile file may stand for many of: packed blanks are no text."""
        array, left = self.array(path), max(_TEXT, _TEXT_PACKING * self._bytes.size)
        rows = max(1, _BLOCK // array.dtype.itemsize)
        for start in range(0, next(iter(array.shape), 0), rows):
            for value in array[start : start + rows].tolist():
                left -= len(value)
                if left < 0:
                    raise AtlasError(f"the texts in {path} take far more than the file")
                yield value.decode()

    def _names(self, path: str) -> dict[str, Link]:
        if path not in self._links:
            most = max(_NAMES, self._bytes.size // _LAYER_BYTES)
            with _named(path):
                self._links[path] = group_links(self._bytes, self._group(path), most)
        return self._links[path]

    def _group(self, path: str) -> Header:
        header = self._header(path, f"it has no group {path!r}")
        if not header.is_group:
            raise AtlasError(f"it has no group {path!r}")
        return header

    def _header(self, path: str, missing: str = "") -> Header:
        """Return the header of the object with a path, reached by hard links alone.

        Raises
        ------
        AtlasError
            If there is none, a name leads to another name or file, or the object has another path too.
        """
        if path not in self._headers:
            parent, _, name = path.rpartition("/")
            link = self._names(parent or "/").get(name)
            if link is None:
                raise AtlasError(missing)
            if link.address is None:
                raise AtlasError(f"{path} is a link to another name or file, which is never followed")
            if self._paths.setdefault(link.address, path) != path:
                raise AtlasError(f"{path} and {self._paths[link.address]} are the same object, which no atlas has")
            with _named(path):
                self._headers[path] = header_at(self._bytes, link.address)
        return self._headers[path]


class _Array:
    """A dataset whose reading errors are explained."""

    def __init__(self, file: H5File, path: str, layout: Layout) -> None:
        self._file, self._path, self._array = file, path, StoredArray(layout)
        self.shape: tuple[int, ...] = layout.shape
        self.dtype = layout.dtype
        self.chunks = layout.chunks

    def __getitem__(self, part: Any) -> Any:
        with self._file.explained(), _named(self._path):
            return self._array[part]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self[()], dtype=dtype)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Say of which group or dataset a mistake is."""
    try:
        yield
    except AtlasError as error:
        raise AtlasError(f"{path}: {error}") from error


def _brief(reason: str) -> str:
    """Return the begin of a reason, which may quote a long text of the file."""
    return reason if len(reason) <= _REASON else f"{reason[:_REASON]}…"


def _joined(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}"
