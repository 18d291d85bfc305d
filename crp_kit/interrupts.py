"""Ctrl-C, SIGTERM and SIGHUP noted during work that saves its results, or ends a file, before the process ends.

A handler runs between any two steps of the main thread, also inside of `threading`, whose locks this thread may hold
then: a timer, an event or a thread of that module would wait for itself for ever. Here a bare thread sleeps instead,
and the only lock is one that its own thread may take twice.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, NoReturn

__all__ = ["Interrupts"]

_NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_PATIENCE = 5.0
"""Seconds after a signal in which a write or a batch may end; one that takes longer is given up."""


@dataclass(eq=False)
class _Handlers:
    """Signal handlers of this process while any `Interrupts` is entered: signals belong to a process, not to a block.

    Parameters
    ----------
    epoch : int
        Changes when the blocks that are entered have lost their say: in a child process, and after a second signal.
    depth : int
        Blocks that are entered, one in the other.
    noted : int or None
        The last signal.
    count : int
        How many there were.
    since : float
        When the last one came.
    careful : int
        Blocks in which no exception may be raised by a handler.
    careful_since : float
        When the last of them began.
    hurried : int
        Blocks that are given up some seconds after a signal.
    timer : object or None
        What ends them: a mark of the thread that does it, if it has not been called off.
    overdue : bool
        Whether it has.
    lock : threading.RLock
        Of these two.
    before : dict
        Handlers that were there before, by signal.
    leftovers : list of callable
        What a process which ends at once does before, the last one first: each removes something unfinished.
    """

    epoch: int = 0
    depth: int = 0
    noted: int | None = None
    count: int = 0
    since: float = 0.0
    careful: int = 0
    careful_since: float = 0.0
    hurried: int = 0
    timer: object | None = None
    overdue: bool = False
    lock: Any = field(default_factory=threading.RLock)
    before: dict[int, Any] = field(default_factory=dict)
    leftovers: list[Callable[[], object]] = field(default_factory=list)

    def install(self) -> None:
        self.noted, self.count, self.hurried, self.overdue = None, 0, 0, False
        for number in _NUMBERS:
            # What is ignored (nohup) stays ignored; what was not installed from Python cannot be put back from it.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self.before[number] = signal.signal(number, self.note)

    def restore(self) -> None:
        self.calm()
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before.clear()

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal and end at once at the second; in a careful block the work is to notice it itself."""
        if self.overdue:  # it is the timer that sends this one
            self.overdue = False
            if self.hurried:
                _end(self.noted, "interrupted in a block that took long")
            return
        self.noted, self.since = number, time.monotonic()
        self.count += 1
        if self.count > 2 or (self.count == 2 and not self.careful):
            self._end_at_once(number)
        self.hurry()

    def hurry(self) -> None:
        """Let a hurried block end some seconds after a signal that has come."""
        if self.hurried and self.noted is not None and self.timer is None:
            self.timer = object()
            with suppress(RuntimeError):  # no thread can be started; a second signal still ends the block
                _thread.start_new_thread(self._interrupt_later, (self.timer, self.noted))

    def _interrupt_later(self, timer: object, number: int) -> None:
        """Let the handler run in the main thread, from another one."""
        time.sleep(_PATIENCE)
        with self.lock:
            if self.timer is timer:
                self.overdue = True
                _thread.interrupt_main(signal.Signals(number))

    def calm(self) -> None:
        """Let the end of a block that has ended not come any more."""
        with self.lock:  # after it, no signal of the timer comes any more
            self.timer = None

    def _end_at_once(self, number: int) -> None:
        """Hand a signal to the handler that was there before; a process that this ends runs no more Python."""
        before = self.before.get(number, signal.SIG_DFL)
        if self.careful or before == signal.SIG_DFL:
            for remove in reversed(self.leftovers):
                with suppress(Exception):  # it may be half done already
                    remove()
            before = signal.SIG_DFL
        self.restore()
        signal.signal(number, before)
        try:
            signal.raise_signal(number)
        except BaseException:
            self.dismiss()
            raise

    def forget(self) -> None:
        """Leave signals to the handlers before, in a child process that a fork has made: the work is the parent's."""
        self.lock = threading.RLock()  # a thread that is not in the child may have it
        self.restore()
        self.dismiss()
        self.noted = None

    def dismiss(self) -> None:
        """Count no block any more: an exception may end one between any two steps of its beginning or its end."""
        self.epoch += 1
        self.depth, self.careful, self.hurried = 0, 0, 0
        self.leftovers.clear()


_HANDLERS = _Handlers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_HANDLERS.forget)


class Interrupts:
    """A context in which Ctrl-C, SIGTERM and SIGHUP are noted instead of ending the process; a second one ends it.

    Contexts may be entered one in the other; they note the same signals. What was noted takes its effect at the end of
    the outermost one, if nothing has raised `end` before. Outside of the main thread nothing changes.
    """

    def __init__(self) -> None:
        self._epoch: int | None = None

    @property
    def _entered(self) -> bool:
        return self._epoch == _HANDLERS.epoch

    @property
    def noted(self) -> int | None:
        """The signal that has come, if any."""
        return None if self._epoch is None else _HANDLERS.noted

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            if _HANDLERS.depth == 0:
                _HANDLERS.install()
            _HANDLERS.depth += 1
            self._epoch = _HANDLERS.epoch
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered, self._epoch = self._entered, None
        if not entered:
            return
        _HANDLERS.depth -= 1
        if _HANDLERS.depth == 0:
            _HANDLERS.restore()  # before the last look: a signal that comes meanwhile is not lost
            noted, _HANDLERS.noted = _HANDLERS.noted, None
            if noted is not None and kind is None:
                signal.raise_signal(noted)

    @contextmanager
    def careful(self) -> Iterator[None]:
        """Raise no exception from a signal inside of the block, which calls `check` often instead."""
        if not self._entered:
            yield
            return
        _HANDLERS.careful, _HANDLERS.careful_since = _HANDLERS.careful + 1, time.monotonic()
        try:
            yield
        finally:
            _HANDLERS.careful -= self._entered

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Give the block up, wherever it is then, by what `end` raises, some seconds after a signal."""
        if not self._entered:
            yield
            return
        _HANDLERS.hurried += 1
        try:
            _HANDLERS.hurry()
            yield
        finally:
            _HANDLERS.hurried -= self._entered
            _HANDLERS.calm()

    @contextmanager
    def leftover(self, remove: Callable[[], object]) -> Iterator[None]:
        """Have something unfinished removed also where a second signal ends the process before the block can do it."""
        if not self._entered:
            yield
            return
        _HANDLERS.leftovers.append(remove)
        try:
            yield
        finally:
            if self._entered:
                _HANDLERS.leftovers.remove(remove)

    def check(self) -> None:
        """Give up the work of a careful block: after a second signal, or some seconds after the first.

        Raises
        ------
        KeyboardInterrupt, SystemExit
            As for `end`.
        """
        began = max(_HANDLERS.since, _HANDLERS.careful_since)
        if self.noted is not None and (_HANDLERS.count > 1 or time.monotonic() > began + _PATIENCE):
            self.end("interrupted before the file was written")

    def stop(self, message: str) -> None:
        """End the work if a signal has come.

        Raises
        ------
        KeyboardInterrupt, SystemExit
            As for `end`.
        """
        if self.noted is not None:
            self.end(message)

    def end(self, message: str) -> NoReturn:
        """Raise the exception that the noted signal stands for.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C.
        SystemExit
            After SIGTERM and SIGHUP, with the status that shells report.
        """
        _end(self.noted, message)


def _end(number: int | None, message: str) -> NoReturn:
    """Raise the exception that a signal stands for."""
    if number not in (None, signal.SIGINT):
        raise SystemExit(128 + int(number or 0))
    raise KeyboardInterrupt(message)
