"""Threads for work that spends its time in NumPy or zlib, which run beside each other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["on_threads"]

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
