"""Files and folders: checked before they are read, written beside their place and renamed, locked by one process.

The lock is `fcntl.flock` and not the package filelock: a lock here goes away together with its folder, so that what
counts is whether the locked file still has its name, and the system ends it with the process, after a ``kill -9`` too.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import InputError

__all__ = ["FolderLock", "atomic_file", "atomic_folder", "check_file", "check_sample"]

try:
    import fcntl
except ImportError:  # on Windows, where two processes that write one thing are not noticed
    fcntl = None  # type: ignore[assignment]

_OTHERS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_file(path: Path, noun: str) -> None:
    """Make sure that a path leads to an ordinary file; `noun` says what it should hold, such as ``"image"``.

    Raises
    ------
    InputError
        If there is nothing, it cannot be reached, or it is a folder, a pipe, a device or a socket.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        dangling = ": it is a link to what is not there" if path.is_symlink() else ""
        raise InputError(f"no {noun} file {str(path)!r}{dangling}") from error
    except OSError as error:
        raise InputError(f"the {noun} file {str(path)!r} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{str(path)!r} is no name of a file: {error}") from error
    if stat.S_ISDIR(mode):
        inside = "a file" if noun.endswith("s") else f"the {noun}s"
        raise InputError(f"{str(path)!r} is a folder; name {inside} in it")
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{str(path)!r} is {_OTHERS.get(stat.S_IFMT(mode), 'something else')} and no file; reading it might never "
            f"end: write the {noun} into a file and name that"
        )


def check_sample(path: Path) -> None:
    """Make sure that a path leads to an ordinary file, which is to hold an image, or an array by its ending."""
    check_file(path, "array" if path.suffix.lower() == ".npy" else "image")


@contextmanager
def atomic_file(path: Path, *, beside: Path | None = None) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of `path` at the end; after an error it is removed.

    So `path` holds a whole file at any moment, the earlier one or the new one, also after a loss of power.

    Parameters
    ----------
    path : Path
    beside : Path, optional
        Where to write, in the same file system; by default a new name in the folder, with the same suffix. A fixed name
        is used again after a kill, and needs a caller who keeps other processes away.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    beside = beside or path.with_name(f".crp-kit-{secrets.token_hex(8)}{path.suffix}")
    try:
        yield beside
        _sync(beside)
        os.replace(beside, path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Make sure that what was written to a file, or the names in a folder, survive a loss of power."""
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FolderLock:
    """An exclusive lock on a folder, by a file ``lock`` in it. The system releases it when the process ends in any way.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._held = ExitStack()

    def acquire(self) -> None:
        """Make the folder if there is none, and lock it.

        Raises
        ------
        BlockingIOError
            If another process has locked it.
        OSError
            If it cannot be made or locked.
        """
        self.path.parent.mkdir(exist_ok=True)
        with ExitStack() as stack:
            file = stack.enter_context(open(self.path, "wb"))
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that had the lock may have removed the folder since; an unnamed file keeps nobody away.
            if not _is_named(file):
                raise BlockingIOError(errno.EAGAIN, "another process has just removed it", str(self.path.parent))
            self._held = stack.pop_all()

    def release(self) -> None:
        self._held.close()


def _is_named(file: IO[bytes]) -> bool:
    """Return whether an open file is still there under its name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(file.name))
    except FileNotFoundError:
        return False


@contextmanager
def atomic_folder(path: Path, check: Callable[[], object]) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its name at the end, or is removed after an error.

    A process that is killed leaves the folder ``.NAME.partial`` and never half a folder under the final name. The next
    one clears it away; if the kill fell between the two renamings, it puts the earlier folder back first.

    Parameters
    ----------
    path : Path
    check : callable
        Raises if `path` may not be replaced; called at the beginning and right before the renaming.

    Raises
    ------
    BlockingIOError
        If another process is writing the same folder.
    OSError
        If it cannot be written.
    """
    path = Path(os.path.abspath(path))
    partial = path.with_name(f".{path.name}.partial")
    new, before, lock = partial / "new", partial / "before", FolderLock(partial)
    lock.acquire()
    try:
        _settle(path, new, before)
        check()
        new.mkdir()
        yield new
        check()
        if path.exists():
            path.rename(before)
        new.rename(path)
    finally:
        _settle(path, new, before)
        lock.path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: something in it is not ours
            partial.rmdir()
        lock.release()


def _settle(path: Path, new: Path, before: Path) -> None:
    """Put back an earlier folder whose place is empty, and clear away the rest."""
    if before.exists() and not path.exists():
        before.rename(path)
    for folder in (before, new):
        shutil.rmtree(folder, ignore_errors=True)
