"""A look at a path before it is opened: what is no ordinary file is refused, since reading it might never end."""

from __future__ import annotations

import stat
from pathlib import Path

from .errors import InputError

__all__ = ["check_file", "check_sample"]

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
