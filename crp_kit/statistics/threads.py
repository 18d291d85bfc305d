"""Threads for work that spends its time in NumPy or zlib, and how many BLAS takes for itself."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ContextDecorator
from itertools import islice
from threading import Lock
from typing import Any, TypeVar

__all__ = ["on_threads", "single_blas_thread"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 4
"""Threads: each holds one result in memory that waits for its turn."""


def on_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result for each item in order; a few are worked on ahead of the one that is used.

    Examples
    --------
    >>> list(on_threads(abs, [-3, 1, -2]))
    [3, 1, 2]
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting_items = iter(items)
    with ThreadPoolExecutor(min(available, _MOST)) as pool:
        running = deque(pool.submit(work, item) for item in islice(waiting_items, min(available, _MOST)))
        while running:
            result = running.popleft().result()
            running.extend(pool.submit(work, item) for item in islice(waiting_items, 1))
            yield result


class _SingleBlasThread(ContextDecorator):
    """The limit that all who are inside share: the first to come sets it, and the last to go takes it back."""

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._limit = _blas_limited()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._limit is not None:
                self._limit.restore_original_limits()


def _blas_limited() -> Any:
    """Limit BLAS to one thread, and return what undoes that; ``None`` without threadpoolctl, a part of the extra."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None
    return threadpool_limits(1, "blas")


single_blas_thread = _SingleBlasThread()
"""Context, or decorator, in which BLAS has one thread: on small matrices two wait longer than they work."""
