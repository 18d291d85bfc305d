"""Log of an evaluation: what each step gave, appended as soon as it is there; a kill loses the step in work alone.

The file is a magic line and records. A record is a prefix (length, CRC-32) and an .npz without compression: first what
the evaluation is of, then the arrays of one step each, with the name of the step.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import check_file, error_reason, sync
from ..locks import lock
from ..printable import printable

__all__ = ["Parts", "StepLog", "remove_log"]

Parts: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Arrays that a step gave, by name."""

_log = logging.getLogger(__name__)
_MAGIC = b"crp-kit evaluation log 1\n"
_PREFIX = struct.Struct("<QI")
_STEP = "step"
_SHOWN = 60


class StepLog:
    """An append-only file with a record for each step of one evaluation, of one process at a time.

    Parameters
    ----------
    path : Path
        Made if it is not there.
    identity : dict of str
        What decides what the steps give, in words by name.

    Attributes
    ----------
    steps : list of (str, dict of numpy.ndarray)
        What was in the file.

    Raises
    ------
    InputError
        If it is no such file, is of another evaluation, is used by another process, or cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        if os.path.lexists(path):
            check_file(path, "checkpoint")
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            self._file = open(path, "r+b", 0, opener=lambda name, _: os.open(name, flags, 0o666))  # noqa: SIM115
        except OSError as error:
            raise self._failed(error) from error
        try:
            self._lock()
            self.steps = self._read(identity)
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            lock(self._file)
            if not os.fstat(self._file.fileno()).st_nlink:
                raise BlockingIOError(errno.EAGAIN, "it has just been removed")
        except BlockingIOError as error:
            raise InputError(f"another process works with {self.path}") from error
        except OSError as error:
            raise self._failed(error) from error

    def _read(self, identity: Mapping[str, str]) -> list[tuple[str, Parts]]:
        """Return the steps of the file, and cut off a record that its process was killed in."""
        content = self._file.read()
        if not content.startswith(_MAGIC[: len(content)]):
            raise InputError(f"{self.path} is no checkpoint of an evaluation, and is kept; name another file")
        records, end = _records(content)
        if not records:
            self._cut(0)
            self._append({name: np.array(text) for name, text in identity.items()}, _MAGIC)
            return []
        self._check_same(records[0], identity)
        if end < len(content):
            _log.warning("the end of %s is damaged: what was done there is done again", self.path)
        self._cut(end)
        return [(str(record.pop(_STEP)), record) for record in records[1:]]

    def _check_same(self, stored: Parts, identity: Mapping[str, str]) -> None:
        names = [*identity, *(name for name in stored if name not in identity)]
        known = {name: str(text) for name, text in stored.items()}
        differing = [
            f"{printable(name)} is {_shown(known.get(name))} there and {_shown(identity.get(name))} here"
            for name in names
            if known.get(name) != identity.get(name)
        ]
        if differing:
            raise InputError(
                f"cannot go on from {self.path}, which is of another evaluation: {'; '.join(differing)}; remove it, or "
                f"name another file"
            )

    def append(self, step: str, parts: Parts) -> None:
        """Add what a step gave, so that it survives a loss of power. After an error the file is as it was.

        Raises
        ------
        InputError
            If the disk is full, or it cannot be written.
        """
        self._append({**parts, _STEP: np.array(step)})

    def _append(self, arrays: Parts, before: bytes = b"") -> None:
        """Add a record, and in a new file what is before it; one that cannot hold even that goes away."""
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        data, size = buffer.getvalue(), self._file.tell()
        try:
            self._write(before + _PREFIX.pack(len(data), zlib.crc32(data)) + data)
            sync(self._file.fileno())
        except OSError as error:
            self._cut(size)
            if not size:
                self.path.unlink(missing_ok=True)
            raise self._failed(error) from error

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]

    def _cut(self, size: int) -> None:
        self._file.truncate(size)
        self._file.seek(size)

    def close(self) -> None:
        """Let others use the file."""
        self._file.close()

    def _failed(self, error: OSError) -> InputError:
        return InputError(f"cannot write {self.path}: {error_reason(error)}; what was done before is kept")


def remove_log(path: Path) -> None:
    """Remove the file of an evaluation, if there is one.

    Raises
    ------
    InputError
        If it is something else.
    """
    if not os.path.lexists(path):
        return
    check_file(path, "checkpoint")
    with path.open("rb") as file:
        begin = file.read(len(_MAGIC))
    if not _MAGIC.startswith(begin):
        raise InputError(f"{path} is no checkpoint of an evaluation, and is kept; move it away")
    path.unlink()


def _records(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the arrays of the sound records, and where they end."""
    records, end = [], len(_MAGIC)
    while len(prefix := content[end : end + _PREFIX.size]) == _PREFIX.size:
        size, crc = _PREFIX.unpack(prefix)
        data = content[end + _PREFIX.size : end + _PREFIX.size + size]
        if len(data) < size or zlib.crc32(data) != crc:
            break
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                records.append({name: stored[name] for name in stored.files})
        except Exception:  # noqa: BLE001 - a file that somebody has made may fail in any way
            break
        end += _PREFIX.size + size
    return records, end


def _shown(text: str | None) -> str:
    if text is None:
        return "not set"
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
