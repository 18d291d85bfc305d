"""Runs are interleaved: one case after the other, in each round every side once."""

from __future__ import annotations

import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .agreement import agreements
from .cases import Case
from .workers import WorkerError, Workers

Record = dict[str, Any]
EVERY_ROUND = ("ours", "saliency", "floor")
"""Sides that ratios are given to; other packages, which take much longer, run in fewer rounds."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Rounds:
    """How many rounds there are, of other packages fewer, and how many seconds a run takes at least."""

    all: int
    peer: int
    least: float


def record_of(case: Case, workers: Workers, folder: Path, rounds: Rounds) -> Record:
    """Measure a case and compare what came out.

    Returns
    -------
    record : dict
        name, part, case; `sides`: by side the seconds of each round on the clock (wall) and of all threads (cpu), and
        what else it notes; `median`: seconds; `ratio`: of a side's median to crp-kit's;
        `memory`: bytes; `failed`: what a side said; `agreement`: differences to other results, with their limits.
    """
    say(f"{case.part}: {case.name}")
    failed: dict[str, str] = {}
    sides = [
        side for side in case.sides if _tried(failed, side, lambda side=side: _prepared(workers, side, case, folder))
    ]
    times: dict[str, list[Record]] = {side: [] for side in sides}

    def run(side: str) -> None:
        times[side].append(workers[side].ask("run", least=rounds.least))

    for number in range(max(rounds.all, rounds.peer)):
        for side in sides:
            if side not in failed and number < (rounds.all if side in EVERY_ROUND else rounds.peer):
                _tried(failed, side, lambda side=side: run(side))
    times = {side: runs for side, runs in times.items() if runs and side not in failed}
    results = {side: _result(workers, side, folder) for side in times}
    record: Record = {
        "name": case.name,
        "part": case.part,
        "case": asdict(case),
        "sides": {side: _columns(runs) for side, runs in times.items()},
        "failed": failed,
        "memory": _memory(case, times, workers, folder) if case.memory else {},
        "agreement": [asdict(agreement) for agreement in agreements(case, results)],
    }
    record |= _summary(record["sides"])
    say("  " + ", ".join(f"{side} {seconds:.4g} s" for side, seconds in record["median"].items()))
    return record


def _tried(failed: dict[str, str], side: str, work: Any) -> bool:
    """Return whether a side could do its work; ours has to."""
    try:
        work()
    except WorkerError as error:
        if side == "ours":
            raise
        failed[side] = error.last_line
        say(f"  {side} failed: {error}")
        return False
    return True


def _prepared(workers: Workers, side: str, case: Case, folder: Path) -> None:
    workers[side].ask("prepare", case=asdict(case), folder=str(folder))
    workers[side].ask("warm")


def _result(workers: Workers, side: str, folder: Path) -> dict[str, Any]:
    path = folder / f"{side}.npz"
    others = workers[side].ask("result", path=str(path))
    with np.load(path) as arrays:
        return {**others, **arrays}


def _columns(runs: list[Record]) -> Record:
    """Return seconds as lists, and what else was noted in the last round."""
    return {**runs[-1], **{name: [run[name] for run in runs] for name in ("wall", "cpu")}}


def _memory(case: Case, sides: Any, workers: Workers, folder: Path) -> dict[str, int]:
    """Return how much each side needs beside the model and its forward, in a process that has done nothing else."""
    used = {}
    for side in sides:
        if side != "floor":
            worker = workers.fresh(side)
            try:
                worker.ask("prepare", case=asdict(case), folder=str(folder))
                used[side] = worker.ask("memory")["memory"]
            finally:
                worker.close()
    return used


def _summary(sides: dict[str, Record]) -> Record:
    median = {side: statistics.median(columns["wall"]) for side, columns in sides.items()}
    return {
        "median": median,
        "ratio": {side: seconds / median["ours"] for side, seconds in median.items() if side != "ours"},
    }
