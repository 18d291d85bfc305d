"""Progress of long work on stderr: a bar on a terminal; elsewhere a line at the start, every minute and at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

__all__ = ["Progress", "rate_text"]

_PAUSE = 60.0
"""Seconds between two lines."""

Item = TypeVar("Item")


class Progress:
    """Progress of work that is done in steps; a context, at whose end the work has ended.

    Parameters
    ----------
    total : int
        Units of the whole work.
    what : str
        Name of the work.
    unit : str
        What is counted, in the singular, such as ``"image"``.
    initial : int, optional
        Units that were done before, by an earlier process.
    verbose : bool, optional
        Whether anything is shown.
    clock : callable, optional
        Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        total: int,
        what: str,
        *,
        unit: str,
        initial: int = 0,
        verbose: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        stream: TextIO | None = sys.stderr if verbose else None  # None too in a process without a console
        self._bar: tqdm[Any] | None = None
        self._lines: _Lines | None = None
        if stream is None:
            return
        if stream.isatty():
            self._bar = tqdm(total=total, desc=what, unit=unit, initial=initial, file=stream)
        else:
            self._lines = _Lines(stream, what, unit, total=total, done=initial, clock=clock)

    def update(self, count: int = 1) -> None:
        """Count units that have been done."""
        if self._bar is not None:
            self._bar.update(count)
        if self._lines is not None:
            self._lines.update(count)

    def saved(self) -> None:
        """Note that what has been done so far would survive the process."""
        if self._lines is not None:
            self._lines.saved()

    def ending(self, words: str) -> None:
        """Say what is done when everything has been counted, if it takes long."""
        if self._bar is not None:
            self._bar.set_postfix_str(words)
        if self._lines is not None:
            self._lines.ending(words)

    def written(self, share: float) -> None:
        """Say from time to time how much of the file that holds the result has been written and read again."""
        words = f"{share:.0%} of the file written and read again"
        if self._bar is not None:
            self._bar.set_postfix_str(words)
        if self._lines is not None and self._lines.is_due():
            self._lines.ending(words)

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items, each of which is one unit, inside of this context."""
        with self:
            for item in items:
                yield item
                self.update()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        # An error says itself where the work has ended; after a signal nothing else might.
        if self._lines is not None and (kind is None or issubclass(kind, KeyboardInterrupt | SystemExit)):
            self._lines.end(stopped=kind is not None)


class _Lines:
    """Lines for a file or a pipe, which is read later or from far away."""

    def __init__(
        self, stream: TextIO, what: str, unit: str, *, total: int, done: int, clock: Callable[[], float]
    ) -> None:
        self._stream: TextIO | None = stream
        self._what, self._unit, self._total, self._clock = what, unit, total, clock
        self._initial = self._done = done
        self._began = clock()
        self._due = self._began + _PAUSE
        self._last_save: float | None = None
        self._print(self._count())

    def is_due(self) -> bool:
        """Return whether a minute is over; then the next one begins."""
        over = (self._clock() - self._due) // _PAUSE + 1
        self._due += _PAUSE * max(0, over)
        return over > 0

    def update(self, count: int) -> None:
        self._done += count
        if self._done >= self._total or not self.is_due():
            return
        now = self._clock()
        rate = (self._done - self._initial) / (now - self._began)
        parts = [self._count(), f"{rate_text(rate)} {self._unit}s/s"]
        if rate:
            parts.append(f"{_time((self._total - self._done) / rate)} left")
        if self._last_save is not None:
            parts.append(f"last checkpoint {now - self._last_save:.0f} s ago")
        self._print(", ".join(parts))

    def saved(self) -> None:
        self._last_save = self._clock()

    def ending(self, words: str) -> None:
        self._print(f"{self._count()}, {words}")

    def end(self, *, stopped: bool) -> None:
        seconds = self._clock() - self._began
        parts = [f"{self._count()}{' (stopped)' if stopped else ''} after {_time(seconds)}"]
        if seconds > 0 and self._done > self._initial:
            parts.append(f"{rate_text((self._done - self._initial) / seconds)} {self._unit}s/s")
        self._print(", ".join(parts))

    def _count(self) -> str:
        share = f" ({self._done / self._total:.1%})" if 0 < self._done < self._total else ""
        return f"{self._done:,} of {self._total:,} {self._unit}s{share}"

    def _print(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(f"{self._what}: {line}\n")
            self._stream.flush()
        except (OSError, ValueError):  # the other end of a pipe has gone, or the stream is closed: work goes on unseen
            self._stream = None


def rate_text(rate: float) -> str:
    """Return a rate per second as text, with at least two digits."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.2g}"


def _time(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
