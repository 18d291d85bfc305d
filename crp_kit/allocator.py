"""Settings of the C library's memory allocator: whether freed memory stays with the process."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

__all__ = ["FreedMemory", "keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, from glibc's malloc.h
_KEPT = 1 << 30
_MOST_OF_GLIBC = 1 << 25
"""The highest threshold that glibc chooses itself, and the highest that releases before 2.35 accept."""


class FreedMemory:
    """What `keep_freed_memory` has done; as a context manager it is undone at the end of the block.

    Parameters
    ----------
    library : ctypes.CDLL or None
        The C library if freed memory stays with the process.
    reason : str
        Why it does or does not, one sentence.
    """

    def __init__(self, library: Any, reason: str) -> None:
        self._library = library
        self.reason = reason

    @property
    def kept(self) -> bool:
        """Whether freed memory stays with the process."""
        return self._library is not None

    def undo(self) -> None:
        """Give large pieces of freed memory back to the system again, those that are free now included.

        glibc adjusts its thresholds until a program sets one; afterwards they stay at the highest that it chooses
        itself, 32 MB.
        """
        if self._library is not None:
            _set_thresholds(self._library, mmap=_MOST_OF_GLIBC, trim=2 * _MOST_OF_GLIBC)
            self._library.malloc_trim(0)
            self._library, self.reason = None, "It was undone."

    def __enter__(self) -> FreedMemory:
        return self

    def __exit__(self, *exception: object) -> None:
        self.undo()

    def __repr__(self) -> str:
        """Return what was done and why."""
        return f"<FreedMemory: {'kept' if self.kept else 'given back'}. {self.reason}>"


def keep_freed_memory() -> FreedMemory:
    """Let the C library keep freed memory for the next layer, instead of giving it back to the system.

    By default glibc gives large pieces back, and every forward and every heatmap faults them in again, page by page: on
    virtual machines that can take longer than the arithmetic. The command line does this by itself; in a notebook or a
    script call it once, before the first tensors are made. The process then holds as much memory as it has needed at
    most. Other C libraries, and what the user has set by glibc's own variables, are left as they are.

    Returns
    -------
    FreedMemory
        Says what was done, and undoes it.

    Examples
    --------
    >>> import crp_kit as crp
    >>> memory = crp.keep_freed_memory()
    >>> memory.undo()
    >>> memory.kept
    False
    """
    chosen = next((name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))), None)
    if chosen is not None:
        return FreedMemory(None, f"The environment variable {chosen} decides.")
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return FreedMemory(None, "The C library of this system is not glibc.")
    if any(_set_thresholds(library, mmap=size, trim=_KEPT) for size in (_KEPT, _MOST_OF_GLIBC)):
        return FreedMemory(library, "glibc gives memory back when the process ends.")
    return FreedMemory(None, "glibc accepts no thresholds.")


def _set_thresholds(library: Any, *, mmap: int, trim: int) -> bool:
    """Set from which size on memory comes from the system, and how much free memory goes back to it, in bytes."""
    return bool(library.mallopt(_MMAP_THRESHOLD, mmap) and library.mallopt(_TRIM_THRESHOLD, trim))
