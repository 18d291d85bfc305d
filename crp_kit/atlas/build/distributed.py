"""Distributed builds: the shard of each process of torchrun or of a SLURM job array, and the merge."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.distributed.rendezvous import rendezvous

from ...data.worker_process import signalled_at_end_of_parent
from ...errors import AtlasError, InputError
from ..query.concept_atlas import ConceptAtlas
from .merge import merge_atlases

__all__ = ["build_in_processes", "is_distributed", "shard_of_job_array", "shard_path"]

_PAUSE = 0.2
"""Seconds between two looks at whether the other processes are done."""


def is_distributed() -> bool:
    """Return whether torchrun, or something like it, started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def shard_of_job_array(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """Return this task's shard of a SLURM job array, or ``None`` outside of one and in one of a single task.

    Raises
    ------
    InputError
        If the variables are no numbers, or the numbers of the tasks are no series with equal steps.

    Examples
    --------
    >>> shard_of_job_array({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "1"})
    (2, 8)
    """
    if "SLURM_ARRAY_TASK_ID" not in environment or "SLURM_ARRAY_TASK_COUNT" not in environment:
        return None
    names = ("ID", "COUNT", "MIN", "STEP")
    try:
        task, count, low, step = (
            int(environment.get(f"SLURM_ARRAY_TASK_{name}", "0" if name == "MIN" else "1")) for name in names
        )
        tasks = range(low, low + count * step, step)
        last = int(environment.get("SLURM_ARRAY_TASK_MAX", tasks[-1]))
    except (ValueError, IndexError) as error:
        raise InputError(f"the variables SLURM_ARRAY_TASK_… are no numbers of tasks: {error}") from error
    if count == 1:
        return None
    if task not in tasks or last != tasks[-1]:
        raise InputError(
            f"the numbers of the {count} tasks of this job array, {low} to {last} with {task}, are no series with "
            f"equal steps: number them 0-{count - 1}, or say each one's --shard"
        )
    return tasks.index(task), count


def shard_path(path: Path, shard: int, shards: int) -> Path:
    """Return where a shard lies beside the atlas that it is a part of.

    Examples
    --------
    >>> shard_path(Path("atlas.h5"), 2, 8).name
    'atlas.shard-2-of-8.h5'
    """
    return path.with_name(f"{path.stem}.shard-{shard}-of-{shards}{path.suffix}")


def build_in_processes(
    build: Callable[[Path, tuple[int, int], bool], ConceptAtlas],
    path: Path,
    *,
    resume: bool,
    overwrite: bool,
    verbose: bool,
) -> ConceptAtlas | None:
    """Build this process's shard and wait for the others; the first process merges and returns the atlas.

    A process whose starter ends, torchrun that is killed for one, gets SIGTERM, saves and ends.

    Parameters
    ----------
    build : callable
        From a shard's path, its number and count, and whether to resume, to the shard.
    path : Path
        The atlas.
    resume, overwrite : bool
        As in `build_atlas`. A process that torchrun has started again resumes in any case.
    verbose : bool
        Show how far the merge is.

    Raises
    ------
    AtlasError
        If the atlas exists, and neither is allowed.
    """
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    again = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    part = shard_path(path, rank, world)
    if path.exists() and not overwrite:
        if not (resume or again):
            raise AtlasError(f"{path} exists; overwrite replaces it, or choose another name")
        return build(path, (0, 1), True) if rank == 0 else None
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    with signalled_at_end_of_parent(signal.SIGTERM):
        if world == 1:
            return build(path, (0, 1), resume or again)
        store = next(rendezvous("env://"))[0]
        build(part, (rank, world), resume or again).close()
        store.set(f"built/{rank}", "1")
        if rank != 0:
            return None
        while not store.check([f"built/{number}" for number in range(world)]):
            time.sleep(_PAUSE)
        parts = [shard_path(path, number, world) for number in range(world)]
        words = f"torchrun, {world} processes"
        merged = merge_atlases(parts, path, overwrite=overwrite, command=words, verbose=verbose)
    for one in parts:
        one.unlink()
    return merged
