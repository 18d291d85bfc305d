"""Locks on files, which the system ends with their process in any way, and a question about one that takes none.

On Linux it is a lock of an open file description (``F_OFD_SETLK``): as with ``flock`` it belongs to what was opened,
not to the process, so that closing the same file elsewhere does not end it; unlike there the system can be asked
whether somebody is in the way (``F_OFD_GETLK``) without locking anything.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # on Windows, where two processes that write one thing are not noticed
    fcntl = None  # type: ignore[assignment]

__all__ = ["is_locked", "lock"]

_FLOCK = struct.Struct("@hhqqi4x")
"""Type, whence, start, length (0 for the whole file) and process of a lock, as Linux has it."""
_UNKNOWN = {errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
"""Errors of systems and file systems without these locks."""


def lock(file: IO[bytes]) -> None:
    """Lock a file that is open for writing, or raise at once.

    Raises
    ------
    BlockingIOError
        If another open file has the lock.
    OSError
        If the file system has no locks.
    """
    if hasattr(fcntl, "F_OFD_SETLK"):
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            return
        except PermissionError as error:  # as POSIX lets a system say the same
            raise BlockingIOError(errno.EAGAIN, error.strerror, file.name) from error
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(path: Path) -> bool | None:
    """Return whether a process has locked a file; None where the system can only answer by locking it.

    No lock is taken, not for an instant and not a shared one, so that whoever locks the file meanwhile is never refused
    because of the question: ``F_OFD_GETLK`` reads the system's list of locks. It needs no right to write.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    with open(path, "rb") as file:
        if not hasattr(fcntl, "F_OFD_GETLK"):
            return None
        try:
            answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
            return None
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
