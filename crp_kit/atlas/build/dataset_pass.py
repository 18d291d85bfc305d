"""One pass over a dataset into an atlas file: resumable, in shards, interrupted at any moment without loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...attribution.subject import Subject
from ...data.samples import Batch, Failure, batches
from ...errors import AtlasError, InputError
from .scores import Collector
from .settings import Job, Settings, origin_attributes, prepare
from ..query.concept_atlas import ConceptAtlas
from ..file.reader import check_same, has_overall, open_atlas, read_failures, read_progress
from ..file.schema import layer_path
from .pass_state import PassState
from ..file.hdf5 import write_tree
from .workplace import Interrupts, Workplace

__all__ = ["build_atlas"]

_log = logging.getLogger(__name__)
_SHARE_OF_CHECKPOINTS = 20
"""A checkpoint that took a second is followed by at least this many without one."""


def build_atlas(
    subject: Subject,
    path: str | Path,
    settings: Settings,
    *,
    num_workers: int,
    resume: bool,
    overwrite: bool,
    verbose: bool,
) -> ConceptAtlas:
    """Pass over a dataset into an atlas file, and return it; see `crp_kit.Study.build_atlas`."""
    place, rare = Workplace(Path(path), resume=resume, overwrite=overwrite), settings.rare
    job = prepare(subject, settings)
    if place.target.exists() and resume and not overwrite:
        return _already(place.target, job)
    with place:
        state = job.empty_state(rare.max_memory, place.folder)
        if place.checkpoint.exists() and resume:
            _load(state, place.checkpoint)
        done = job.samples_before(state.progress.done)
        bar = tqdm(total=len(state.index), initial=done, unit="image", disable=None if verbose else True)
        passing = _Pass(
            place,
            state,
            job.collector,
            origin_attributes(settings.origin),
            every=rare.checkpoint,
            skip=rare.skip_unreadable,
        )
        with bar, Interrupts() as interrupts:
            source = batches(job.samples, job.grid(state.progress.done), workers=num_workers)
            passing.run(source, interrupts, bar.update)
        passing.finish()
    return ConceptAtlas(place.target, incomplete=job.progress.shards > 1)


@dataclass(eq=False)
class _Pass:
    """The loop over batches, with its checkpoints."""

    place: Workplace
    state: PassState
    collector: Collector
    origin: Mapping[str, Any]
    every: float
    skip: bool
    unsaved: int = 0
    whole: bool = True
    """Whether no batch is half taken in."""

    def run(self, source: Iterable[Batch], interrupts: Interrupts, update: Callable[[int], object]) -> None:
        due = time.monotonic() + self.every
        try:
            for batch in source:
                self._add(batch)
                update(len(batch.samples) + len(batch.failures))
                if interrupts.noted is None and time.monotonic() < due:
                    continue
                began = time.monotonic()
                self.save()
                took = time.monotonic() - began
                due = began + (max(self.every, _SHARE_OF_CHECKPOINTS * took) if self.every else 0)
                if interrupts.noted is not None:
                    break
        except AtlasError:
            raise
        except BaseException:
            if self.unsaved and self.whole:
                self.save()
            if interrupts.noted is None:
                raise
        if interrupts.noted is not None and not self.state.progress.finished:
            done = self.state.progress.done - self.state.progress.first
            of = self.state.progress.end - self.state.progress.first
            interrupts.end(f"interrupted after {done} of {of} batches, which are kept; resume continues from there")

    def _add(self, batch: Batch) -> None:
        for failure in batch.failures:
            if not self.skip:
                raise InputError(_unreadable(failure, self.state))
            _log.warning("skipped sample %d: %s", failure.sample, failure.reason)
            self.state.failures[failure.sample] = failure.reason
        scores = self.collector.scores(batch) if batch.images is not None else None
        self.whole = False
        if scores is not None:
            self.state.add(scores)
        self.state.progress = replace(self.state.progress, done=self.state.progress.done + 1)
        self.whole = True
        self.unsaved += 1

    def save(self) -> None:
        write_tree(self.place.checkpoint, self.state.tree(self.origin, complete=False), compress=False)
        self.unsaved = 0

    def finish(self) -> None:
        """Write the file under its final name: the atlas, or this shard of it."""
        whole = self.state.progress.shards == 1
        try:
            write_tree(self.place.target, self.state.tree(self.origin, complete=whole), compress=whole)
        except AtlasError:
            if self.unsaved:
                with suppress(AtlasError):
                    self.save()
            raise


def _load(state: PassState, path: Path) -> None:
    """Take in a checkpoint of the same pass."""
    with open_atlas(path, incomplete=True) as file:
        check_same(file, state.header, state.layers, f"cannot resume from {path}")
        progress = read_progress(file)
        expected = state.progress
        if (progress.shard, progress.shards, progress.end) != (expected.shard, expected.shards, expected.end):
            raise AtlasError(
                f"cannot resume from {path}: it is shard {progress.shard}/{progress.shards} and not "
                f"{expected.shard}/{expected.shards}"
            )
        state.merge(file.array, overall=has_overall(file, layer_path(0, "activation")))
        state.failures.update(read_failures(file))
        state.progress = progress


def _already(path: Path, job: Job) -> ConceptAtlas:
    """Return the finished file of the same pass."""
    with open_atlas(path, incomplete=True) as file:
        check_same(file, job.header, job.layers, f"{path} is finished, but is another atlas")
        found = read_progress(file)
    if replace(found, done=job.progress.first) != job.progress:
        raise AtlasError(f"{path} is finished, but is shard {found.shard}/{found.shards} of its atlas")
    return ConceptAtlas(path, incomplete=True)


def _unreadable(failure: Failure, state: PassState) -> str:
    name = ""
    if state.identifiers is not None:
        name = f" ({state.identifiers[int(np.searchsorted(state.index, failure.sample))]})"
    return f"sample {failure.sample}{name} cannot be used: {failure.reason}; skip_unreadable leaves such samples out"
