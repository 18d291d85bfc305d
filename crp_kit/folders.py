"""Folders of crp-kit's own beside what it writes: marked, of one process at a time, and emptied of its own files alone.

The lock is that of `locks` and not the package filelock: a lock here goes away together with its folder, so that what
counts is whether the locked file still has its name, and the system ends it with the process, after a ``kill -9`` too.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import InputError
from .interrupts import Interrupts
from .locks import is_locked, lock

__all__ = ["WorkingFolder", "atomic_folder", "is_in_use", "is_working_folder"]

_LOCK = "lock"
_MARK = b"This folder belongs to crp-kit while it works; crp-kit removes it.\n"
_KEPT = b"The folder was there before and stays.\n"
"""Second line of the mark of a folder that crp-kit did not make."""
_HELD: weakref.WeakSet[WorkingFolder] = weakref.WeakSet()


class WorkingFolder:
    """A folder for the work on one thing, of one process at a time.

    Its file ``lock`` is the mark that says whose it is, and the lock, which the system releases when the process ends
    in any way. Nothing but the names given here is ever removed from it.

    Parameters
    ----------
    path : Path
    files, folders : collection of str
        What crp-kit makes in it.
    """

    def __init__(self, path: Path, files: Collection[str] = (), folders: Collection[str] = ()) -> None:
        self.path, self._files, self._folders = path, tuple(files), tuple(folders)
        self._file: IO[bytes] | None = None
        self._kept = False

    def acquire(self, *, adopt: bool = False) -> None:
        """Make the folder if there is none, and lock it.

        Parameters
        ----------
        adopt : bool, optional
            Take over a folder without a mark whose files have the names of crp-kit's own, as somebody may have copied
            them there.

        Raises
        ------
        BlockingIOError
            If another process has locked it.
        InputError
            If it is not crp-kit's, or holds something else than crp-kit makes under one of its names.
        OSError
            If it cannot be made or locked.
        """
        new = self._make()
        fresh = not self._path_of(_LOCK).is_symlink() and not self._path_of(_LOCK).exists()
        file, locked = self._open_lock(), False
        try:
            _lock(file)
            locked = True
            mark = file.read(len(_MARK) + len(_KEPT))
            if not mark.startswith(_MARK):
                self._check_free(mark, fresh=fresh, adopt=adopt)
                mark = _MARK if new or not fresh else _MARK + _KEPT
                file.write(mark)
            self._check_names()
        except BaseException:
            if fresh and locked:
                self._path_of(_LOCK).unlink(missing_ok=True)
            file.close()
            raise
        self._file, self._kept = file, mark.endswith(_KEPT)
        _HELD.add(self)

    def _make(self) -> bool:
        """Make the folder, and return whether there was none."""
        try:
            self.path.mkdir()
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(self.path).st_mode):
                raise InputError(f"{self.path} is in the way: crp-kit needs a folder of this name; move it") from None
            return False
        return True

    def _open_lock(self) -> IO[bytes]:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            file = open(self._path_of(_LOCK), "r+b", 0, opener=lambda path, _: os.open(path, flags, 0o666))  # noqa: SIM115
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise InputError(self._foreign(_LOCK)) from error
            raise
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise InputError(self._foreign(_LOCK))
        return file

    def _check_free(self, mark: bytes, *, fresh: bool, adopt: bool) -> None:
        """Refuse a folder without a mark that holds what crp-kit would take for its own."""
        names = set(os.listdir(self.path)) - {_LOCK}
        taken = (
            names & {*self._files, *self._folders} if fresh else names
        )  # a killed process leaves a lock without a mark, alone
        if mark or (taken and not (fresh and adopt)):
            raise InputError(self._foreign(sorted(taken or {_LOCK})[0]))

    def _foreign(self, name: str) -> str:
        return f"{self.path} was not made by crp-kit (it holds {name}) and is kept; move it, or choose another name"

    def _check_names(self) -> None:
        for names, is_ours in ((self._files, stat.S_ISREG), (self._folders, stat.S_ISDIR)):
            for path in map(self._path_of, names):
                if os.path.lexists(path) and not is_ours(path.lstat().st_mode):
                    raise InputError(f"{path} is something that crp-kit did not make, and is kept; move it")

    def _path_of(self, name: str) -> Path:
        return self.path / name

    def clear(self) -> None:
        """Remove crp-kit's files and folders from it."""
        for path in map(self._path_of, self._files):
            with suppress(IsADirectoryError, PermissionError):  # a folder, which is not ours
                path.unlink(missing_ok=True)
        for path in map(self._path_of, self._folders):
            shutil.rmtree(path, ignore_errors=True)

    def release(self, *, remove: bool) -> None:
        """Let others lock it; before that, remove what is crp-kit's, and the folder if it made it and it is empty."""
        try:
            if remove and self._file is not None and _is_named(self._file):
                self.clear()
                self._path_of(_LOCK).unlink(missing_ok=True)
                if not self._kept:
                    with suppress(OSError):  # not empty: something in it is not ours
                        self.path.rmdir()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the lock."""
        if self._file is not None:
            self._file.close()
        self._file = None


def _forget_locks() -> None:
    """Close locks in a child process: one that outlives its parent would keep everybody away from the folder."""
    for folder in tuple(_HELD):
        folder.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def _lock(file: IO[bytes]) -> None:
    """Lock a file, which has to be there still under its name: an unnamed one keeps nobody away."""
    lock(file)
    # The process that had the lock may have removed the folder since.
    if not _is_named(file):
        raise BlockingIOError(errno.EAGAIN, "another process has just removed it", os.path.dirname(file.name))


def is_working_folder(folder: Path) -> bool:
    """Return whether a folder has the file by which a working folder is locked."""
    return (folder / _LOCK).is_file()


def is_in_use(folder: Path) -> bool | None:
    """Return whether a process has locked a working folder; None where the system does not say.

    Nothing is written or locked, so that a process that begins at this moment is not refused (see `locks.is_locked`).
    """
    try:
        return is_locked(folder / _LOCK)
    except FileNotFoundError:
        return False


def _is_named(file: IO[bytes]) -> bool:
    """Return whether an open file is still there under its name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(file.name, follow_symlinks=False))
    except FileNotFoundError:
        return False


@contextmanager
def atomic_folder(path: Path, check: Callable[[Path], object]) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its name at the end, or is removed after an error.

    A process that is killed leaves the folder ``.NAME.partial`` and never half a folder under the final name. The next
    one clears it away; if the kill fell between the two renamings, it puts the earlier folder back first.

    Parameters
    ----------
    path : Path
    check : callable
        Raises if the folder at a path may not be replaced; called at the beginning, and for the earlier folder when it
        has been moved aside, where nobody adds to it.

    Raises
    ------
    BlockingIOError
        If another process is writing the same folder.
    InputError
        If ``.NAME.partial`` is not crp-kit's.
    OSError
        If it cannot be written.
    """
    path = Path(os.path.abspath(path))
    work = WorkingFolder(path.with_name(f".{path.name}.partial"), folders=("new", "before"))
    new, before = work.path / "new", work.path / "before"

    def end() -> None:
        _settle(path, before)
        work.release(remove=True)

    with Interrupts() as interrupts:
        work.acquire()
        with interrupts.leftover(end):
            try:
                _settle(path, before)
                work.clear()
                check(path)
                new.mkdir()
                yield new
                if os.path.lexists(path):
                    check(path)
                    path.rename(before)
                    check(before)
                new.rename(path)
            finally:
                end()


def _settle(path: Path, before: Path) -> None:
    """Put back an earlier folder whose place is empty."""
    if before.exists() and not path.exists():
        before.rename(path)
