"""Progress of a build, read from its working folder while it runs or after it was interrupted; nothing is written."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import AtlasError
from ...folders import is_in_use, is_working_folder
from ..file.reader import open_atlas, read_progress
from .batch_log import logged_batches
from .build_folder import CHECKPOINT, LOG, SUFFIX

__all__ = ["BuildProgress", "build_progress"]

_LATEST = dt.datetime(9000, 1, 1, tzinfo=dt.timezone.utc).timestamp()
"""Seconds of the latest time that is shown; a file may have any."""


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is.

    Parameters
    ----------
    target : Path
        The file that is being built.
    checkpoint : Path or None
        What the build has kept; None before the first checkpoint.
    done, batches : int
        Batches that are kept, of those of this part.
    shard, shards : int
        Which part this is, from 0, and how many there are.
    saved : datetime or None
        When the last batch, or the checkpoint, was written.
    running : bool or None
        Whether a process is at work; None where the system does not say.
    """

    target: Path
    checkpoint: Path | None
    done: int
    batches: int
    shard: int
    shards: int
    saved: dt.datetime | None
    running: bool | None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {
            "target": str(self.target),
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
            "batches_done": self.done,
            "batches": self.batches,
            "shard": self.shard,
            "shards": self.shards,
            "saved": None if self.saved is None else self.saved.isoformat(timespec="seconds"),
            "running": self.running,
        }

    def sentence(self, now: dt.datetime) -> str:
        """Return the state in one sentence for a reader at a time."""
        part = f", shard {self.shard}/{self.shards}," if self.shards > 1 else ""
        if self.saved is None:
            kept = "no checkpoint yet"
        else:
            share = f" ({self.done / self.batches:.1%})" if self.batches else ""
            age = max(0, round((now - self.saved).total_seconds()))
            kept = (
                f"{self.done:,} of {self.batches:,} batches{share} are kept, the last of "
                f"{self.saved:%Y-%m-%d %H:%M:%S} ({dt.timedelta(seconds=age)} ago)"
            )
        state = {
            True: "is being built",
            False: "was interrupted",
            None: "is being built or was interrupted",
        }[self.running]
        hint = "" if self.running else "; the same command with --resume goes on"
        return f"{self.target}{part} {state}: {kept}{hint}"


def build_progress(path: Path) -> BuildProgress | None:
    """Return the progress of a build, from the file that it makes or from its working folder.

    Parameters
    ----------
    path : Path
        Such as ``a.h5``, whether it is there or not, or ``a.h5.partial``.

    Returns
    -------
    BuildProgress or None
        None where there is no working folder.

    Raises
    ------
    AtlasError
        If the checkpoint is damaged.
    OSError
        If the log cannot be read.
    """
    if not path.name:  # "." and the root
        return None
    folder = path if path.name.endswith(SUFFIX) else path.with_name(path.name + SUFFIX)
    checkpoint, log = folder / CHECKPOINT, folder / LOG
    if not is_working_folder(folder) and not checkpoint.is_file():
        return None
    target, running = folder.with_name(folder.name.removesuffix(SUFFIX)), is_in_use(folder)
    try:
        logged = (logged_batches(log) if log.is_file() else None) or 0
        times = [path.stat().st_mtime for path in ((checkpoint, log) if logged else (checkpoint,))]
        saved = dt.datetime.fromtimestamp(min(max(0.0, *times), _LATEST)).astimezone()
        # A checkpoint is replaced by a whole one, never changed: the file that was opened stays as it is.
        with open_atlas(checkpoint, incomplete=True) as file:
            progress = read_progress(file)
    except FileNotFoundError:
        return BuildProgress(target, None, 0, 0, 0, 1, None, running)
    except AtlasError:
        if checkpoint.exists():
            raise
        return BuildProgress(target, None, 0, 0, 0, 1, None, running)  # finished a moment ago
    # A log that a new checkpoint has just made needless has fewer batches than that.
    done, batches = max(progress.done, logged) - progress.first, progress.end - progress.first
    return BuildProgress(target, checkpoint, done, batches, progress.shard, progress.shards, saved, running)
