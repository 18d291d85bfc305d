"""What a build has to do, made from what was asked for: samples, batches, layers, and what the file says of itself."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...attribution.subject import Subject
from ...checks import check_integer
from ...concepts import Aggregate
from ...data.samples import Failure, NumberedSamples, fingerprint
from ...errors import InputError
from ...attribution.axes import class_axis
from ...attribution.layer_concepts import layer_concepts
from ...attribution.layer_values import per_sample
from ...propagation.run import Run
from ...models.weights import device_and_dtype
from ...propagation.plan_description import describe_plan
from ...models.state_dict import state_digest
from ...version import __version__
from ...atlas.file.schema import Integers
from .scores import Collector
from ...data.preprocess import Normalise
from ..file.schema import Header, LayerInfo, Progress
from ...attribution.layer_choice import LayerChoice, select_layers
from .pass_state import PassState, allocator, state_bytes
from .target_policy import TargetRule, target_policy

__all__ = ["BuildOptions", "Job", "Origin", "Settings", "origin_attributes", "parse_shard", "prepare"]


@dataclass(frozen=True)
class Origin:
    """Words for where an atlas comes from; they have no influence on it.

    Parameters
    ----------
    model, dataset, command : str, optional
        By default the names of the classes, and that of this function.
    classes : tuple of str, optional
        Names of the model's outputs, by default the dataset's.
    """

    model: str | None = None
    dataset: str | None = None
    command: str = "crp_kit.Study.build_atlas"
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class BuildOptions:
    """Rare settings of a build.

    Parameters
    ----------
    aggregate : {"sum", "max"}, optional
        How the values of a concept become its score.
    abs_norm : bool, optional
        Divide the scores of a sample by their sum of magnitudes over all concepts of the layer.
    subset : sequence of int, optional
        Only these samples, by number.
    limit : int, optional
        Only the first samples.
    skip_unreadable : bool, optional
        Leave out samples that cannot be read, and list them in the file, instead of stopping at the first.
    max_memory : int, optional
        Bytes that rankings and moments may take in memory; larger ones are kept in files beside the atlas.
    checkpoint : float, optional
        Seconds between saves of what there is so far; large states are saved less often, 0 saves after every batch.
    """

    aggregate: Aggregate = "sum"
    abs_norm: bool = True
    subset: Sequence[int] | None = None
    limit: int | None = None
    skip_unreadable: bool = False
    max_memory: int = 2 << 30
    checkpoint: float = 60.0


@dataclass(frozen=True, eq=False)
class Settings:
    """Everything that decides what a build computes; see `crp_kit.Study.build_atlas`."""

    layers: LayerChoice | Iterable[LayerChoice]
    target: str | TargetRule
    k: int
    k_class: int
    batch_size: int
    shard: tuple[int, int]
    matrix: bool
    rare: BuildOptions
    origin: Origin


@dataclass(frozen=True, eq=False)
class Job:
    """A pass, ready to run.

    Parameters
    ----------
    samples : NumberedSamples
    index : numpy.ndarray
        Numbers of all samples of the pass, ascending; this part's are some of them.
    collector : Collector
    layers : tuple of LayerInfo
    header : Header
    progress : Progress
        Nothing done yet.
    classes : tuple of str
    """

    samples: NumberedSamples
    index: Integers
    collector: Collector
    layers: tuple[LayerInfo, ...]
    header: Header
    progress: Progress
    classes: tuple[str, ...]

    def grid(self, done: int) -> list[list[int]]:
        """Return the sample numbers of each batch of this part that is left when those before `done` are done."""
        size = self.header.batch_size
        return [self.index[batch * size : (batch + 1) * size].tolist() for batch in range(done, self.progress.end)]

    def samples_before(self, batch: int) -> int:
        """Return how many samples of this part lie before a batch."""
        size = self.header.batch_size
        return min(batch * size, len(self.index)) - self.progress.first * size

    def empty_state(self, max_memory: int, folder: Path) -> PassState:
        """Return a state that has seen nothing; if it needs more memory than that, it lies in files in a folder."""
        size = self.header.batch_size
        mine = self.index[self.progress.first * size : self.progress.end * size]
        names = self.samples.identifiers()
        return PassState(
            self.header,
            self.layers,
            self.progress,
            mine,
            None if names is None else tuple(names[one] for one in mine),
            self.classes,
            allocator(state_bytes(self.header, self.layers, len(mine)), max_memory, folder),
        )


def prepare(subject: Subject, settings: Settings) -> Job:
    """Check what was asked for, and return the pass.

    Raises
    ------
    InputError
        If a number or word is none that is possible, the dataset is empty, or no sample can be read.
    UnknownLayerError, UnreachableLayerError, ConceptAxisError
        If a layer cannot be recorded.
    """
    for name in ("k", "k_class", "batch_size"):
        check_integer(name, getattr(settings, name), low=1)
    attribution, rare, samples = subject.attribution, settings.rare, subject.samples
    if rare.aggregate not in ("sum", "max"):
        raise InputError(f"aggregate is 'sum' or 'max'; got {rare.aggregate!r}")
    index, subset = _chosen(len(samples), rare.subset, rare.limit)
    progress = _progress(-(-len(index) // settings.batch_size), *settings.shard)
    device, dtype = device_and_dtype(attribution.model)
    policy = target_policy(settings.target)
    collector = Collector(
        attribution.engine, subject.composite, {}, policy, subject.normalise, rare.aggregate, rare.abs_norm, device, dtype
    )
    run = attribution.engine.run(collector.inputs(_first_image(samples, index)), subject.composite)
    names = select_layers(run, attribution.model, settings.layers)
    concepts = layer_concepts(run, names, subject.concepts)
    collector = replace(collector, concepts=concepts, at_once=2 * run.rows_at_once)
    target, origin = settings.target, settings.origin
    header = Header(
        model=origin.model or type(attribution.model).__name__,
        model_sha256=state_digest(attribution.model),
        composite=json.dumps(describe_plan(run.graph, run.plan)),
        dataset=origin.dataset or type(subject.dataset).__name__,
        dataset_sha256=fingerprint(samples),
        subset=subset,
        n_samples=len(index),
        n_classes=run.graph.shape(run.graph.output)[class_axis(run)],
        k=settings.k,
        k_class=settings.k_class,
        batch_size=settings.batch_size,
        target=target if isinstance(target, str) else getattr(target, "__qualname__", type(target).__name__),
        abs_norm=rare.abs_norm,
        aggregate=rare.aggregate,
        matrix=settings.matrix,
        dtype=str(dtype).removeprefix("torch."),
    )
    layers = tuple(_layer_info(run, name, collector) for name in names)
    return Job(samples, index, collector, layers, header, progress, _class_names(subject, origin, header.n_classes))


def origin_attributes(origin: Origin) -> dict[str, Any]:
    """Return what a file says of where it comes from."""
    now = dt.datetime.now(dt.timezone.utc)
    return {"crp_kit_version": __version__, "created": now.isoformat(timespec="seconds"), "command": origin.command}


def parse_shard(shard: tuple[int, int] | str | None) -> tuple[int, int]:
    """Return which part of how many a shard is, counted from 0.

    Raises
    ------
    InputError
        If it is no such pair.

    Examples
    --------
    >>> parse_shard("2/8")
    (2, 8)
    """
    if shard is None:
        return 0, 1
    try:
        part, parts = shard.split("/") if isinstance(shard, str) else shard
        found = int(part), int(parts)
    except (TypeError, ValueError) as error:
        raise InputError(f"a shard is 'i/n' or (i, n), such as '0/4'; got {shard!r}") from error
    if not 0 <= found[0] < found[1]:
        raise InputError(f"shards are counted from 0: of {found[1]} there are 0 to {found[1] - 1}; got {found[0]}")
    return found


def _progress(batches: int, shard: int, shards: int) -> Progress:
    """Return which of the batches a shard owns: whole ones, side by side."""
    if shards > batches:
        raise InputError(f"{shards} shards for {batches} batches leave some empty; use at most {batches}")
    first, end = (batches * (shard + step) // shards for step in (0, 1))
    return Progress(shard, shards, first, first, end, batches)


def _chosen(count: int, subset: Sequence[int] | None, limit: int | None) -> tuple[Integers, str]:
    """Return the numbers of the samples to pass over, ascending, and words for the choice."""
    if count == 0:
        raise InputError("the dataset is empty")
    index, words = np.arange(count, dtype="i8"), ""
    if subset is not None:
        index = np.unique(np.array(list(subset), "i8"))
        if not len(index) or index[0] < 0 or index[-1] >= count:
            raise InputError(f"subset is numbers of samples, from 0 to {count - 1}; got {len(index)} of them")
        words = f"{len(index)} samples, SHA-256 {_digest(index)}"
    if limit is not None:
        index = index[: check_integer("limit", limit, low=1)]
        words = ", ".join(filter(None, [words, f"the first {limit}"]))
    return index, words


def _digest(index: Integers) -> str:
    return hashlib.sha256(index.tobytes()).hexdigest()[:16]


def _first_image(samples: NumberedSamples, index: Integers) -> torch.Tensor:
    """Return the first image that can be read, as a batch."""
    failure: Failure | None = None
    for number in index:
        read = samples[int(number)]
        if not isinstance(read, Failure):
            return read[1][None]
        failure = failure or read
    assert failure is not None
    raise InputError(f"no sample can be read; sample {failure.sample}: {failure.reason}")


def _layer_info(run: Run, name: str, collector: Collector) -> LayerInfo:
    ref = run.graph.find(name)
    value = per_sample(run.graph, run.recording.value(ref))
    concept = collector.concepts[name]
    count = concept.reference(value.float(), aggregate=collector.aggregate).score.shape[1]
    return LayerInfo(name, concept.identity, int(count), tuple(value.shape[1:]))


def _class_names(subject: Subject, origin: Origin, n_classes: int) -> tuple[str, ...]:
    names = origin.classes if origin.classes is not None else subject.classes
    return tuple(names) if len(names) == n_classes else ()
