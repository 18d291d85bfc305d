"""A piece of work as one side does it, and what it costs there."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import torch


def nothing() -> None:
    """Do nothing."""


@dataclass
class Work:
    """A piece of work.

    Parameters
    ----------
    run : callable
        What is measured. It returns something for `result`.
    warm : callable, optional
        A smaller run, before the first one.
    before : callable, optional
        What has to be done before each run and does not count.
    result : callable, optional
        From what `run` returned to what is compared: arrays and what JSON can say, by name.
    facts : callable, optional
        What else to note after a run, by name.
    per : int, optional
        How many times `run` does the work.
    """

    run: Callable[[], Any]
    warm: Callable[[], Any] = nothing
    before: Callable[[], None] = nothing
    result: Callable[[Any], dict[str, Any]] = lambda _: {}
    facts: Callable[[], dict[str, Any]] = dict
    per: int = 1


def measured(work: Work, wait: Callable[[], None], least: float) -> tuple[Any, dict[str, Any]]:
    """Run, and return what came out and the seconds that one piece of work takes: on the clock, and of all threads.

    What takes less than `least` is repeated until it has taken so long; the mean counts.
    """
    wall = cpu = 0.0
    runs = 0
    while not runs or wall < least:
        work.before()
        wait()
        clock, used = time.perf_counter(), time.process_time()
        found = work.run()
        wait()
        wall, cpu, runs = wall + time.perf_counter() - clock, cpu + time.process_time() - used, runs + 1
    pieces = runs * work.per
    return found, {"wall": wall / pieces, "cpu": cpu / pieces, "runs": runs, **work.facts()}


def memory(work: Work, device: str) -> int:
    """Return how many bytes a run needs at most beside what the process holds before it."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work.run()
        return torch.cuda.max_memory_allocated() - before
    _forget_the_peak()
    before = _peak()
    work.run()
    return _peak() - before


def _forget_the_peak() -> None:
    """Give freed memory back, and let the peak be what is held now: on Linux; elsewhere the first peak stays."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Return the most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def follow(owner: Any, name: str, seconds: list[float]) -> None:
    """Let a function note how long each of its calls takes, here alone."""
    work = getattr(owner, name)
    work = getattr(work, "__wrapped__", work)

    @wraps(work)
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return work(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(owner, name, timed)


def disk(folder: Path) -> dict[str, int]:
    """Return how many files a folder has, and how large they are."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}
