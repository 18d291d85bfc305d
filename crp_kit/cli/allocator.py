"""Settings of the C library's memory allocator for the process of the command line."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, from glibc's malloc.h
_KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Let glibc keep freed maps for the next layer; return whether it will.

    By default it gives large pieces back to the system, and every forward then faults them in again. Other C libraries,
    and what the user has set by glibc's own variables, are left as they are.
    """
    if not sys.platform.startswith("linux") or any(
        name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ
    ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(option, _KEPT) for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
