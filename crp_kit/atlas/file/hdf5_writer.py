"""HDF5 writing: a file is written beside its place, whole or not at all, and renamed."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import h5py
import numpy as np

from ...errors import AtlasError
from ...files import atomic_file, error_reason
from ...interrupts import Interrupts
from .file_tree import Tree, content_bytes
from .hdf5_datasets import NewDatasets, attribute_at, dataset_at, read_part, write_part

__all__ = ["Note", "write_tree"]

# Since HDF5 1.10 the format has checksums over all metadata.
_FORMAT = ("v110", "v110")
T = TypeVar("T")
Count: TypeAlias = Callable[[int], None]
Note: TypeAlias = Callable[[float], object]


def write_tree(
    path: Path,
    tree: Tree,
    *,
    compress: bool,
    beside: Path | None = None,
    replace: bool = True,
    instead_of: os.stat_result | None = None,
    note: Note = lambda _: None,
) -> None:
    """Write a file beside its place and rename it, so that its place holds a whole file at any moment, or none.

    It gets its name when it has been read again and holds what was to be written. A signal during that is noted, and
    takes its effect afterwards; where writing takes some seconds more, or at a second signal, it is given up.

    Parameters
    ----------
    path : Path
    tree : Tree
    compress : bool
        Smaller and slower.
    beside : Path, optional
        Where to write, in a folder that is the caller's alone.
    replace : bool, optional
        Whether an earlier file may be replaced.
    instead_of : os.stat_result, optional
        The state of that file, whose permissions the new one gets; one that has changed meanwhile is kept.
    note : callable, optional
        Called, again and again, with the share of the bytes that has been written and read again, up to 1.

    Raises
    ------
    AtlasError
        If the disk is full, the folder is gone or cannot be written, a file may not be replaced, or it does not hold
        what was written. What was in the place stays there.
    """
    handled, both_ways = 0, 2 * tree.nbytes

    def count(nbytes: int) -> None:
        nonlocal handled
        handled += nbytes
        note(handled / both_ways)

    try:
        with (
            atomic_file(path, beside=beside, replace=replace, instead_of=instead_of) as new,
            Interrupts() as interrupts,
        ):
            _write_file(new, tree, compress, interrupts, count=count)
            _check_read(new, tree, interrupts, count=count)
    except (OSError, RuntimeError, ValueError) as error:
        raise AtlasError(f"cannot write {path}: {error_reason(error)}; what was there before is kept") from error


def _write_file(path: Path, tree: Tree, compress: bool, interrupts: Interrupts, *, count: Count) -> None:
    """Write a file; each array then knows the digest of its values."""
    with open(path, "r+b", buffering=0) as file:
        sink = _Sink(file, interrupts)
        with interrupts.careful():
            try:
                with h5py.File(sink, "w", libver=_FORMAT) as h5:
                    _write(h5, tree, compress, sink, count=count)
            finally:
                sink.check()  # the first error, of which others are consequences


class _Sink:
    """A file for HDF5 to write into that never fails in its hands: after a failed call of it, HDF5 may crash.

    The first exception of any kind is kept, everything after it goes nowhere, and `check` raises it.
    """

    def __init__(self, file: io.FileIO, interrupts: Interrupts) -> None:
        self._file, self._interrupts = file, interrupts
        self._error: BaseException | None = None

    @property
    def failed(self) -> bool:
        return self._error is not None

    def _tried(self, action: Callable[[], T], otherwise: T) -> T:
        try:
            if self._error is None:
                self._interrupts.check()
                return action()
        except BaseException as error:  # noqa: BLE001 - raised by `check`, when HDF5 has let go of the file
            self._error = error
        return otherwise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._tried(lambda: self._file.seek(offset, whence), offset)

    def tell(self) -> int:
        return self._tried(self._file.tell, 0)

    def read(self, size: int = -1) -> bytes:
        return self._tried(lambda: self._file.read(size) or b"", b"")

    def readinto(self, buffer: memoryview) -> int:
        size = self._tried(lambda: self._file.readinto(buffer) or 0, 0)
        if self.failed:
            buffer[:] = bytes(len(buffer))
        return size

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
        """Raise the first exception, if there was one."""
        if self._error is not None:
            raise self._error


class _Groups:
    """The groups of an open file, each looked up once: HDF5 walks a path from its root, which takes as long as a write.

    Parameters
    ----------
    h5 : h5py.File
    new : bool
        Whether the file is new, and a group is made where its path is first named.
    """

    def __init__(self, h5: Any, *, new: bool) -> None:
        self._groups: dict[str, Any] = {"": h5}
        self._new = new

    def at(self, path: str) -> Any:
        """Return the group of a path."""
        path = path.rstrip("/")
        if path not in self._groups:
            parent, _, name = path.rpartition("/")
            group = self.at(parent)
            self._groups[path] = group.create_group(name) if self._new else group[name]
        return self._groups[path]

    def around(self, path: str) -> tuple[Any, str]:
        """Return the group that a dataset of a path is in, and its name there."""
        parent, _, name = path.rpartition("/")
        return self.at(parent), name


def _write(h5: Any, tree: Tree, compress: bool, sink: _Sink, *, count: Count) -> None:
    groups, new_dataset = _Groups(h5, new=True), NewDatasets(compress=compress)
    for path, attributes in tree.groups.items():
        group = groups.at(path)
        for name, value in attributes.items():
            group.attrs[name] = value
    for path, spec in tree.arrays.items():
        dataset = new_dataset(*groups.around(path), spec)
        for name, value in spec.attributes.items():
            h5py.Dataset(dataset).attrs[name] = value
        for part, values in spec.blocks():
            write_part(dataset, spec, part, values)
            if sink.failed:
                return
            count(values.nbytes)


def _check_read(path: Path, tree: Tree, interrupts: Interrupts, *, count: Count) -> None:
    """Make sure that a file has all groups, and the values whose digests were noted as they were written.

    Raises
    ------
    OSError
        If it does not.
    """
    with h5py.File(path, "r") as h5:
        groups = _Groups(h5, new=False)
        whole = all(_has_attributes(groups.at(path), attributes) for path, attributes in tree.groups.items())
        for name, spec in tree.arrays.items():
            dataset, content = dataset_at(*groups.around(name)), hashlib.sha256()
            whole = whole and dataset.shape == spec.shape
            for part in spec.parts() if whole else ():
                interrupts.check()
                values = read_part(dataset, spec, part)
                content.update(content_bytes(values, spec.dtype))
                count(values.nbytes)
            whole = whole and content.hexdigest() == spec.digest
    if not whole:
        raise OSError(errno.EIO, "what was read again is not what was written; the disk may be failing")


def _has_attributes(group: Any, attributes: Mapping[str, Any]) -> bool:
    for name, value in attributes.items():
        written = attribute_at(group, name)
        if not np.array_equal(written, value.encode() if isinstance(value, str) else value):
            return False
    return True
