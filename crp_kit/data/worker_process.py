"""Worker processes that read samples: they leave signals to the main process and end with it, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing import parent_process

__all__ = ["become_worker"]

_PR_SET_PDEATHSIG = 1


def become_worker(_: int) -> None:
    """Leave Ctrl-C and a closed terminal to the main process, which saves what there is, and end when it has ended."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":
        # At once, also while a library holds the interpreter; where the call is missing, the thread suffices.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
