"""Worker processes that read samples: they leave signals to the main process, end with it, and are watched by it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from types import FrameType, TracebackType
from typing import Any

__all__ = ["WorkerWatch", "become_worker", "signalled_at_end_of_parent", "without_torchs_handler"]

_PR_SET_PDEATHSIG = 1
_OF_TORCH = "torch.utils.data._utils.signal_handling"


def become_worker(_: int) -> None:
    """Leave Ctrl-C and a closed terminal to the main process, which saves what there is, and end when it has ended."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _set_signal_at_end_of_parent(signal.SIGKILL)  # where the call is missing, the thread suffices
    threading.Thread(target=_end_with_parent, daemon=True).start()


@contextmanager
def signalled_at_end_of_parent(number: signal.Signals) -> Iterator[None]:
    """Let this process get a signal when the one that started it ends, however that ends (Linux only)."""
    _set_signal_at_end_of_parent(number)
    try:
        yield
    finally:
        _set_signal_at_end_of_parent(0)


def _set_signal_at_end_of_parent(number: int) -> None:
    """Ask the kernel, whose signal comes at once, also while a library holds the interpreter; 0 for none."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def without_torchs_handler() -> Iterator[Callable[[], object]]:
    """Keep torch's handler for child processes that end away, and restore the one from before at the end.

    It raises an exception wherever the main thread is then, even where a batch is added to statistics or a file is
    written. The function that is given sets the handler again after torch has set its own.
    """
    before = _child_handler()
    calm = signal.SIG_DFL if getattr(before, "__module__", "") == _OF_TORCH else before
    try:
        _set_child_handler(calm)
        yield lambda: _set_child_handler(calm)
    finally:
        _set_child_handler(before)


class WorkerWatch:
    """A context in which an exception is raised as soon as a worker has ended that should not have.

    torch looks only every few seconds.

    Parameters
    ----------
    pids : callable
        Returns the process ids of the workers, as far as they are known; 0 for others.
    """

    def __init__(self, pids: Callable[[], Sequence[int]]) -> None:
        self._pids = pids
        self._before: Any = None
        self.ended: int | None = None
        """The worker that has ended."""
        self.how = "ended unexpectedly"

    def __enter__(self) -> WorkerWatch:
        self._before = _child_handler()
        if self._before is not None:
            _set_child_handler(self._look)
            try:
                self._look()
            except BaseException:
                _set_child_handler(self._before)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _set_child_handler(self._before)

    def wait(self, seconds: float) -> None:
        """Wait until a worker has ended, for some seconds at most: it closes its connections before it has ended."""
        end = time.monotonic() + seconds
        while not self._has_ended() and time.monotonic() < end:
            time.sleep(0.01)

    def _look(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Raise an exception if a worker has ended."""
        if self._has_ended():
            raise RuntimeError(self.how)
        if callable(self._before) and number:
            self._before(number, frame)

    def _has_ended(self) -> bool:
        """Say whether a worker has ended, and leave its status to be read by others."""
        if self.ended is None and hasattr(os, "waitid"):
            for pid in filter(None, self._pids()):
                with suppress(ChildProcessError):  # the status has been read
                    status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    if status is not None:
                        self.ended, self.how = pid, _how(status.si_code, status.si_status)
        return self.ended is not None


def _how(code: int, status: int) -> str:
    if code == os.CLD_EXITED:
        return f"ended with status {status}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(status).name}"
    return f"was killed by signal {status}"


def _child_handler() -> Any:
    """Return what is done when a child process ends; None where that cannot be set."""
    settable = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    return signal.getsignal(signal.SIGCHLD) if settable else None


def _set_child_handler(handler: Any) -> None:
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler)
