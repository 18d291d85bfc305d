"""Files: checked before they are read, written beside their place and renamed, and their space reserved."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from .errors import InputError
from .interrupts import Interrupts

__all__ = [
    "atomic_file",
    "check_file",
    "check_free",
    "check_sample",
    "error_reason",
    "is_address",
    "reserved_file",
    "sync",
]

_log = logging.getLogger(__name__)

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of file systems on which a file has one name only."""
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of file systems that cannot say when something has reached the disk, such as some of networks."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LISTED = 1000
"""Names of a folder among which a missing one is looked for."""
_ZEROS = bytes(1 << 20)
_OTHERS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_ADDRESS = re.compile(r"(https?|ftp|s3|gs|hf):/", re.IGNORECASE)
"""Beginning of an address; a path has one slash of its two."""


def is_address(text: str) -> bool:
    """Return whether a text is an address of the web or of a store rather than a path."""
    return bool(_ADDRESS.match(text))


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
        if is_address(str(path)):
            raise InputError(
                f"the {noun} is an address, {str(path)!r}: fetch it by other means and name the file"
            ) from error
        dangling = ": it is a link to what is not there" if path.is_symlink() else ""
        raise InputError(f"no {noun} file {str(path)!r}{dangling or _near(path)}") from error
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


def _near(path: Path) -> str:
    """Return the end of an error message: the names in the folder that are nearest to the one of a missing file."""
    try:
        names = [one.name for one in islice(path.parent.iterdir(), _LISTED)]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.stem, list(dict.fromkeys(Path(name).stem for name in names)), n=3)
    matches = [name for stem in near for name in names if Path(name).stem == stem][:3]  # all endings are alike
    return f"; did you mean {' or '.join(repr(str(path.with_name(name))) for name in matches)}?" if matches else ""


def check_sample(path: Path) -> None:
    """Make sure that a path leads to an ordinary file, which is to hold an image, or an array by its ending."""
    check_file(path, "array" if path.suffix.lower() == ".npy" else "image")


def check_free(path: Path, *, replace: bool, instead_of: os.stat_result | None = None) -> None:
    """Make sure that a file may get a name: nothing but an ordinary file is ever replaced.

    Parameters
    ----------
    path : Path
    replace : bool
        Whether an ordinary file may be replaced.
    instead_of : os.stat_result, optional
        The state that it has to have then.

    Raises
    ------
    FileExistsError
        If there is a link, a folder, a pipe or a device of this name, or a file and it may not be replaced.
    """
    try:
        state = path.lstat()
    except FileNotFoundError:
        return
    mode = state.st_mode
    if stat.S_ISLNK(mode):
        raise FileExistsError(errno.EEXIST, "it is a symbolic link; name the file that it leads to", str(path))
    if stat.S_ISDIR(mode):
        raise FileExistsError(errno.EEXIST, "it is a folder; name a file in it", str(path))
    if not stat.S_ISREG(mode):
        noun = _OTHERS.get(stat.S_IFMT(mode), "something else")
        raise FileExistsError(errno.EEXIST, f"it is {noun} and no file; choose another name", str(path))
    if not replace:
        raise FileExistsError(errno.EEXIST, "a file of this name has appeared meanwhile", str(path))
    if instead_of is not None and _version(state) != _version(instead_of):
        raise FileExistsError(errno.EEXIST, "it has been changed or replaced meanwhile; do this again", str(path))


def _version(state: os.stat_result) -> tuple[int, ...]:
    """Return what differs between two files, and between two contents of one."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def error_reason(error: BaseException) -> str:
    """Return in words why a file could not be written."""
    number = getattr(error, "errno", None)
    if number in _FULL:
        return "the disk, or what you may use of it, is full"
    if number == errno.ENOENT:
        name = os.path.abspath(getattr(error, "filename", None) or ".")
        folder = os.path.dirname(name)
        return f"there is no folder {name if os.path.isdir(folder) else folder}"
    return getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def atomic_file(
    path: Path, *, beside: Path | None = None, replace: bool = True, instead_of: os.stat_result | None = None
) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of `path` at the end; after an error it is removed.

    So `path` holds a whole file at any moment, the earlier one or the new one, also after a loss of power. Signals are
    noted until then, and take their effect afterwards.

    Parameters
    ----------
    path : Path
    beside : Path, optional
        Where to write, in the same file system; by default a new name in the folder, with the same suffix. A fixed name
        is used again after a kill, and needs a caller who keeps other processes away and owns its folder.
    replace : bool, optional
        Whether an ordinary file may be replaced. If not, a file that has appeared meanwhile is kept.
    instead_of : os.stat_result, optional
        The state of the file that is replaced, whose permissions the new one gets; one that has changed is kept.

    Raises
    ------
    FileExistsError
        If something of this name may not be replaced.
    OSError
        If it cannot be written.
    """
    with Interrupts() as interrupts:
        check_free(path, replace=replace)
        if beside is None:
            beside = path.with_name(f".crp-kit-{secrets.token_hex(8)}{path.suffix}")
        else:
            beside.unlink(missing_ok=True)
        # Not opened again by its name before it is known to be a new file of ours, and no link to something else.
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        with interrupts.leftover(beside.unlink):
            try:
                yield beside
                if instead_of is not None:
                    beside.chmod(stat.S_IMODE(instead_of.st_mode))
                _sync(beside, os.O_RDWR)
                check_free(path, replace=replace, instead_of=instead_of)
                _take_name(beside, path, replace=replace)
                _sync_names(path.parent)
            finally:
                beside.unlink(missing_ok=True)


def _take_name(beside: Path, path: Path, *, replace: bool) -> None:
    """Give a file its final name."""
    if not replace:
        try:
            os.link(beside, path)  # unlike a renaming it never replaces what is there
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
    os.replace(beside, path)


def reserved_file(folder: Path, size: int) -> IO[bytes]:
    """Return a new file without a name whose space on the disk is taken, so that writing to it cannot fail for space.

    Parameters
    ----------
    folder : Path
    size : int
        Bytes, at least one.

    Raises
    ------
    OSError
        If the disk has no such space, or the folder cannot be written to.
    """
    file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - the caller's
    try:
        _reserve(file.fileno(), size)
    except BaseException:
        file.close()
        raise
    return file


def _reserve(handle: int, size: int) -> None:
    """Take the space of a file, which reads as zeros."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot
                raise
    for start in range(0, size, len(_ZEROS)):
        os.write(handle, _ZEROS[: size - start])
    os.lseek(handle, 0, os.SEEK_SET)


def sync(handle: int) -> None:
    """Make sure that what was written to an open file survives a loss of power, where the file system can say so.

    Raises
    ------
    OSError
        If it could not be written.
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        sync(handle)
    finally:
        os.close(handle)


def _sync_names(folder: Path) -> None:
    """Let the names in a folder survive a loss of power; the files are there, so that an error is no failure."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        try:
            _sync(folder, os.O_RDONLY)
        except OSError as error:
            _log.warning("the names of new files in %s may not survive a loss of power: %s", folder, error.strerror)
