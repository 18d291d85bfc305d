"""One pass over a dataset into an atlas file: resumable, in shards, interrupted at any moment without loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...attribution.cond_attribution import CondAttribution
from ...concepts import Aggregate, Concept
from ...data.samples import Batch, Failure, batches
from ...errors import AtlasError, InputError
from ...data.preprocess import Preprocess
from ...rules.presets import Composite
from .scores import Collector
from ...data.preprocess import Normalise
from .settings import Job, Options, Origin, origin_attributes, parse_shard, prepare
from ..query.concept_atlas import ConceptAtlas
from ..file.reader import check_same, has_overall, open_atlas, read_failures, read_progress
from ..file.schema import layer_path
from ...attribution.layer_choice import LayerChoice
from .pass_state import PassState
from ..file.hdf5 import write_tree
from .target_policy import TargetRule
from .workplace import Interrupts, Workplace

__all__ = ["build_atlas"]

_log = logging.getLogger(__name__)
_GIB = 1 << 30
_SHARE_OF_CHECKPOINTS = 20
"""A checkpoint that took a second is followed by at least this many without one."""


def build_atlas(
    attribution: CondAttribution,
    dataset: Any,
    path: str | Path,
    *,
    layers: LayerChoice | Iterable[LayerChoice],
    composite: Composite | str | None,
    concepts: Concept | Mapping[str, Concept] | None = None,
    preprocess: Preprocess | Normalise | None = None,
    target: str | TargetRule = "label",
    k: int = 40,
    k_class: int = 8,
    aggregate: Aggregate = "sum",
    abs_norm: bool = True,
    batch_size: int = 32,
    num_workers: int = 0,
    shard: tuple[int, int] | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    matrix: bool = False,
    limit: int | None = None,
    verbose: bool = True,
    subset: Sequence[int] | None = None,
    skip_unreadable: bool = False,
    max_memory: int = 2 * _GIB,
    checkpoint: float = 60.0,
    origin: Origin | None = None,
) -> ConceptAtlas:
    """Collect relevance and activation of every concept over a dataset into an atlas file, and return it.

    One forward and one relevance pass per batch give, for every chosen layer and concept, the samples of highest
    relevance and of highest activation, over all and by class, and the moments over all samples by class. The file is
    the same, bit for bit, for any number of workers, shards and interruptions, on the same device and number of
    threads.

    Parameters
    ----------
    attribution : CondAttribution
    dataset : map-style dataset
        Gives ``(image, label)`` or dictionaries with both, images as they are to be shown: not normalised.
    path : str or Path
        The file to make. While it is made, ``path.partial/`` holds what there is so far.
    layers : str, module type, or several of them
        Names, patterns (``"layer[34].*conv3"``, ``"features.*"``) or types (``torch.nn.Conv2d``).
    composite : zennit Composite, str or None
        Rules; a preset name; ``None`` for plain gradients.
    concepts : Concept or dict of str to Concept, optional
        What a concept is, by layer; channels by default.
    preprocess : callable, optional
        Makes model inputs from a batch of images, (sample, channel, height, width); or a `Preprocess`, which also makes
        tensors from pictures of Pillow.
    target : str or callable, optional
        From which classes relevance starts: ``"label"``, ``"prediction"``, ``"top:P"`` or ``"top:P:N"`` (every class of
        a probability above P, at most N), or a function of one sample's output and label ids that returns class ids.
        A sample may have several; its activation counts once.
    k, k_class : int, optional
        Length of the rankings over all samples, and by class.
    aggregate : {"sum", "max"}, optional
        How the values of a concept become its score.
    abs_norm : bool, optional
        Divide the scores of a sample by their sum of magnitudes over all concepts of the layer.
    batch_size : int, optional
        Another one may change the last bits of scores.
    num_workers : int, optional
        Processes that read images.
    shard : (int, int) or str, optional
        ``(i, n)`` or ``"i/n"``, from 0: only this part of the batches, to be joined by `merge_atlases`.
    resume : bool, optional
        Go on where an interrupted build stopped.
    overwrite : bool, optional
        Replace what is there.
    matrix : bool, optional
        Keep the scores of every sample as well.
    limit : int, optional
        Only the first samples.
    verbose : bool, optional
        A progress bar, where somebody watches.
    subset : sequence of int, optional
        Only these samples.
    skip_unreadable : bool, optional
        Leave out samples that cannot be read, and list them in the file, instead of stopping at the first.
    max_memory : int, optional
        Bytes that rankings and moments may take in memory; larger ones are kept in files beside the atlas.
    checkpoint : float, optional
        Seconds between saves of what there is so far; large states are saved less often, 0 saves after every batch.
    origin : Origin, optional
        Words for the file.

    Returns
    -------
    ConceptAtlas
        For a shard, one that is not complete.

    Raises
    ------
    AtlasError
        If the file cannot be written, exists, or cannot be resumed because something differs; the message says what.
    InputError
        If the dataset is empty, or a sample cannot be used; the message names it.
    UnknownLayerError, UnreachableLayerError, ConceptAxisError
        If a layer cannot be recorded.
    KeyboardInterrupt, SystemExit
        After Ctrl-C or SIGTERM, when the batch at hand has been finished and everything has been saved.

    References
    ----------
    R. Achtibat et al., From attribution maps to human-understandable explanations through Concept Relevance
    Propagation, Nature Machine Intelligence 5, 2023: relevance maximization.
    """
    place = Workplace(Path(path), resume=resume, overwrite=overwrite)
    options = Options(
        layers=layers,
        composite=composite,
        concepts=concepts,
        preprocess=preprocess,
        target=target,
        k=k,
        k_class=k_class,
        aggregate=aggregate,
        abs_norm=abs_norm,
        batch_size=batch_size,
        shard=parse_shard(shard),
        matrix=matrix,
        subset=subset,
        limit=limit,
        origin=origin or Origin(),
    )
    job = prepare(attribution, dataset, options)
    if place.target.exists() and resume and not overwrite:
        return _already(place.target, job)
    with place:
        state = job.empty_state(max_memory, place.folder)
        if place.checkpoint.exists() and resume:
            _load(state, place.checkpoint)
        done = job.samples_before(state.progress.done)
        bar = tqdm(total=len(state.index), initial=done, unit="image", disable=None if verbose else True)
        passing = _Pass(
            place,
            state,
            job.collector,
            origin_attributes(options.origin),
            every=checkpoint,
            skip=skip_unreadable,
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
