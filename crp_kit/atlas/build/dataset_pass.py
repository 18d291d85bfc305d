"""Build of an atlas: one pass over a dataset, resumable, in shards, interrupted at any moment without loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...attribution.subject import Subject
from ...data.batches import Batch, batches
from ...data.samples import Failure
from ...errors import AtlasError, InputError
from ...interrupts import Interrupts
from ...progress import Progress
from ..file.hdf5_writer import write_tree
from ..file.reader import check_same, open_atlas, read_progress
from ..query.concept_atlas import ConceptAtlas
from .build_folder import BuildFolder
from .pass_state import PassState
from .preparation import PreparedPass, prepare
from .scores import Collector
from .settings import Settings, origin_attributes

__all__ = ["build_atlas"]

_log = logging.getLogger(__name__)
_SHARE_OF_CHECKPOINTS = 20
"""Seconds without a checkpoint for each second that the last one took."""


def build_atlas(
    subject: Subject, path: str | Path, settings: Settings, *, overwrite: bool, verbose: bool
) -> ConceptAtlas:
    """Pass over a dataset into an atlas file, and return it; see `crp_kit.Study.build_atlas`."""
    folder = BuildFolder(Path(path), resume=settings.resume, overwrite=overwrite)
    prepared = prepare(subject, settings)
    if folder.target.exists() and settings.resume and not overwrite:
        return _finished(folder.target, prepared)
    with folder:
        state = prepared.empty_state(settings.max_memory, folder.path)
        if folder.checkpoint.exists() and settings.resume:
            _load(state, folder.checkpoint)
        done = prepared.samples_before(state.progress.done)
        bar = Progress(len(state.index), "atlas", unit="image", initial=done, verbose=verbose)
        running = _Pass(folder, state, prepared.collector, origin_attributes(settings.origin), settings)
        with bar, Interrupts() as interrupts:
            grid = prepared.batches_from(state.progress.done)
            running.run(batches(prepared.samples, grid, workers=settings.num_workers), interrupts, bar)
        running.finish()
    return ConceptAtlas(folder.target, incomplete=prepared.progress.shards > 1)


@dataclass(eq=False)
class _Pass:
    """The loop over batches, with its checkpoints."""

    folder: BuildFolder
    state: PassState
    collector: Collector
    origin: Mapping[str, Any]
    settings: Settings
    unsaved: int = 0
    """Batches since the last checkpoint."""
    consistent: bool = True
    """Whether every batch has been added to all statistics or to none."""

    def run(self, source: Iterable[Batch], interrupts: Interrupts, bar: Progress) -> None:
        """Add the batches that are left, until a signal.

        Raises
        ------
        KeyboardInterrupt, SystemExit
            After a signal, if batches are left.
        """
        pause = self.settings.checkpoint
        due = time.monotonic() + pause
        try:
            for batch in source:
                self._add(batch)
                bar.update(len(batch.samples) + len(batch.failures))
                if interrupts.noted is None and time.monotonic() < due:
                    continue
                began = time.monotonic()
                self.save()
                bar.saved()
                took = time.monotonic() - began
                due = began + (max(pause, _SHARE_OF_CHECKPOINTS * took) if pause else 0)
                if interrupts.noted is not None:
                    break
        except AtlasError:
            raise
        except BaseException:
            if self.unsaved and self.consistent:
                self.save()
            if interrupts.noted is None:
                raise
        if interrupts.noted is not None and not self.state.progress.finished:
            done = self.state.progress.done - self.state.progress.first
            of = self.state.progress.end - self.state.progress.first
            interrupts.end(f"interrupted after {done} of {of} batches, which are kept; resume continues from there")

    def _add(self, batch: Batch) -> None:
        for failure in batch.failures:
            if failure.fatal or not self.settings.skip_unreadable:
                raise InputError(_unreadable(failure, self.state))
            _log.warning("skipped sample %d: %s", failure.sample, failure.reason)
            self.state.failures[failure.sample] = failure.reason
        scores = self.collector.scores(batch) if batch.images is not None else None
        self.consistent = False
        if scores is not None:
            self.state.add(scores)
        self.state.progress = replace(self.state.progress, done=self.state.progress.done + 1)
        self.consistent = True
        self.unsaved += 1

    def save(self) -> None:
        write_tree(self.folder.checkpoint, self.state.tree(self.origin, complete=False), compress=False)
        self.unsaved = 0

    def finish(self) -> None:
        """Write the file under its final name: the atlas, or this shard of it."""
        complete = self.state.progress.shards == 1
        try:
            write_tree(self.folder.target, self.state.tree(self.origin, complete=complete), compress=complete)
        except AtlasError:
            if self.unsaved:
                with suppress(AtlasError):
                    self.save()
            raise


def _load(state: PassState, path: Path) -> None:
    """Merge a checkpoint of the same pass into an empty state."""
    with open_atlas(path, incomplete=True) as file:
        check_same(file, state.header, state.layers, f"cannot resume from {path}")
        progress = read_progress(file)
        expected = state.progress
        if (progress.shard, progress.shards, progress.end) != (expected.shard, expected.shards, expected.end):
            raise AtlasError(
                f"cannot resume from {path}: it is shard {progress.shard}/{progress.shards} and not "
                f"{expected.shard}/{expected.shards}"
            )
        state.merge(file)
        state.progress = progress


def _finished(path: Path, prepared: PreparedPass) -> ConceptAtlas:
    """Return the finished file of the same pass."""
    with open_atlas(path, incomplete=True) as file:
        check_same(file, prepared.header, prepared.layers, f"{path} is finished, but is another atlas")
        progress = read_progress(file)
    if replace(progress, done=prepared.progress.first) != prepared.progress:
        raise AtlasError(f"{path} is finished, but is shard {progress.shard}/{progress.shards} of its atlas")
    return ConceptAtlas(path, incomplete=True)


def _unreadable(failure: Failure, state: PassState) -> str:
    name = ""
    if state.identifiers is not None:
        name = f" ({state.identifiers[int(np.searchsorted(state.index, failure.sample))]})"
    skipping = "" if failure.fatal else "; skip_unreadable leaves such samples out"
    return f"sample {failure.sample}{name} cannot be used: {failure.reason}{skipping}; resume continues from there"
