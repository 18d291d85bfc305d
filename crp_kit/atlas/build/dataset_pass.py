"""Build of an atlas: one pass over a dataset, resumable, in shards, interrupted at any moment without loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
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
from ..file.file_tree import Tree
from ..file.hdf5_writer import Note
from ..file.reader import check_same, open_atlas, read_progress
from ..query.concept_atlas import ConceptAtlas
from .batch_log import BatchLog, LoggedBatch, pass_digest
from .build_folder import BuildFolder
from .estimate import say_estimate
from .pass_state import PassState
from .preparation import PreparedPass, prepare
from .scores import Collector
from .seen import batch_scores
from .settings import Settings, origin_attributes

__all__ = ["build_atlas"]

_log = logging.getLogger(__name__)
_SHARE_OF_CHECKPOINTS = 20
"""Seconds without a checkpoint for each second that the last one took."""
_SMALL = 1 << 26
"""Bytes of a state that is written at a signal, and at the end without a word: about a second."""


def build_atlas(
    subject: Subject, path: str | Path, settings: Settings, *, overwrite: bool, verbose: bool
) -> ConceptAtlas:
    """Pass over a dataset into an atlas file, and return it; see `crp_kit.Study.build_atlas`."""
    folder = BuildFolder(Path(path), resume=settings.resume, overwrite=overwrite)
    prepared = prepare(subject, settings)
    if folder.target.exists() and settings.resume and not overwrite:
        return _finished(folder, prepared)
    say_estimate(prepared.header, prepared.layers, folder.target, settings.max_memory)
    origin = origin_attributes(settings.origin)
    with folder:
        state, log = _begin(folder, prepared, settings, origin)
        done = prepared.samples_before(state.progress.done)
        bar = Progress(len(state.index), "atlas", unit="image", initial=done, verbose=verbose)
        running = _Pass(folder, state, log, prepared.collector, origin, settings)
        with log, bar, Interrupts() as interrupts:
            grid = prepared.batches_from(state.progress.done)
            with closing(batches(prepared.samples, grid, workers=settings.num_workers)) as source:
                running.run(source, interrupts, bar)
            if state.nbytes >= _SMALL:
                bar.ending(f"writing {folder.target} ({state.nbytes / 1e9:.1f} GB before compression)")
            running.finish(bar)
    return ConceptAtlas(folder.target, incomplete=prepared.progress.shards > 1)


def _begin(
    folder: BuildFolder, prepared: PreparedPass, settings: Settings, origin: Mapping[str, Any]
) -> tuple[PassState, BatchLog]:
    """Return the state to go on from, and the log: nothing, or what an interrupted build has kept."""
    fresh = not folder.checkpoint.exists()
    if fresh:
        folder.discard()
        # Of no samples, so that it is small: what batches give is in the log.
        empty = prepared.empty_state(settings.max_memory, folder.path, samples=0)
        folder.save(empty.tree(origin, complete=False), compress=True)
        del empty
    state = prepared.empty_state(settings.max_memory, folder.path)
    if not fresh:
        _load(state, folder.checkpoint)
    log = BatchLog(folder.log, pass_digest(state.header, state.layers, state.progress), state.layers)
    try:
        for record in log.replay(state.progress.done, prepared.batches_from(state.progress.done)):
            _take_in(state, record)
    except BaseException:
        log.close()
        raise
    if log.damage is not None:
        _log.warning("%s is damaged: %d batches in it are computed again", log.path, log.damage)
    return state, log


def _take_in(state: PassState, batch: LoggedBatch) -> None:
    """Add what the next batch gave to a state."""
    state.failures.update(batch.failures)
    if batch.seen is not None:
        state.add(batch_scores(batch.seen))
    state.progress = replace(state.progress, done=batch.number + 1)


@dataclass(eq=False)
class _Pass:
    """The loop over batches, with its log and its checkpoints."""

    folder: BuildFolder
    state: PassState
    log: BatchLog
    collector: Collector
    origin: Mapping[str, Any]
    settings: Settings
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
                self._add(batch, interrupts)
                bar.update(len(batch.samples) + len(batch.failures))
                if interrupts.noted is not None:
                    break
                if time.monotonic() >= due:
                    began = time.monotonic()
                    self._save(bar)
                    bar.saved()
                    took = time.monotonic() - began
                    due = began + (max(pause, _SHARE_OF_CHECKPOINTS * took) if pause else 0)
        except BaseException:
            if interrupts.noted is None:
                self._keep()
                raise
        if interrupts.noted is not None and not self.state.progress.finished:
            self._keep()
            done = self.state.progress.done - self.state.progress.first
            of = self.state.progress.end - self.state.progress.first
            interrupts.end(f"interrupted after {done} of {of} batches, which are kept; resume continues from there")

    def _add(self, batch: Batch, interrupts: Interrupts) -> None:
        for failure in batch.failures:
            if failure.fatal or not self.settings.skip_unreadable:
                raise InputError(_unreadable(failure, self.state))
            _log.warning("skipped sample %d: %s", failure.sample, failure.reason)
        with interrupts.hurried():  # a batch that takes long is given up, and computed again
            seen = self.collector.seen(batch) if batch.images is not None else None
        failures = {failure.sample: failure.reason for failure in batch.failures}
        record = LoggedBatch(self.state.progress.done, seen, failures)
        self.log.append(record)
        self.consistent = False
        _take_in(self.state, record)
        self.consistent = True

    def _save(self, bar: Progress) -> None:
        """Make sure that all batches survive a loss of power; in a checkpoint, if their log has outgrown the state."""
        self.log.sync()
        state = self.state.nbytes
        if self.log.size > self.folder.checkpoint_size() and (state < _SMALL or self.log.size > state):
            tree = self.state.tree(self.origin, complete=False)
            if self.log.size > tree.nbytes:
                self._compact(tree, lambda _: bar.update(0))

    def _compact(self, tree: Tree, note: Note = lambda _: None) -> None:
        """Write a checkpoint and empty the log; a process that is killed between them leaves records of both."""
        self.folder.save(tree, note)
        self.log.clear()

    def _keep(self) -> None:
        """Save everything before the end: the log, and a checkpoint that anyone can open if that takes no time."""
        self.log.sync()
        if self.consistent and self.log.size and self.state.nbytes < _SMALL:
            try:
                self._compact(self.state.tree(self.origin, complete=False))
            except AtlasError as error:
                _log.warning("%s; the batches are kept in %s", error, self.log.path)
            except (KeyboardInterrupt, SystemExit):
                _log.info("the checkpoint was given up; the batches are kept in %s", self.log.path)

    def finish(self, bar: Progress) -> None:
        """Write the file under its final name: the atlas, or this shard of it.

        Raises
        ------
        KeyboardInterrupt, SystemExit
            After a signal. The file is complete, or is not there and everything is kept.
        """
        complete = self.state.progress.shards == 1
        self.log.sync()
        self.log.close()
        try:
            self.folder.write(self.state.tree(self.origin, complete=complete), bar.written, compress=complete)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(
                f"interrupted while {self.folder.target} was written; all batches are kept; resume continues from there"
            ) from error


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


def _finished(folder: BuildFolder, prepared: PreparedPass) -> ConceptAtlas:
    """Return the finished file of the same pass."""
    path = folder.target
    with open_atlas(path, incomplete=True) as file:
        check_same(file, prepared.header, prepared.layers, f"{path} is finished, but is another atlas")
        progress = read_progress(file)
    if replace(progress, done=prepared.progress.first) != prepared.progress:
        raise AtlasError(f"{path} is finished, but is shard {progress.shard}/{progress.shards} of its atlas")
    if folder.path.exists():  # a process was killed between the two
        with folder:
            pass
    return ConceptAtlas(path, incomplete=True)


def _unreadable(failure: Failure, state: PassState) -> str:
    name = ""
    if state.identifiers is not None:
        name = f" ({state.identifiers[int(np.searchsorted(state.index, failure.sample))]})"
    skipping = "" if failure.fatal else "; skip_unreadable leaves such samples out"
    return f"sample {failure.sample}{name} cannot be used: {failure.reason}{skipping}; resume continues from there"
