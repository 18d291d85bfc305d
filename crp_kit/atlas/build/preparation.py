"""Preparation of a dataset pass: checks of samples, model and layers, the header of the file, and the batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...attribution.layer_choice import select_layers
from ...attribution.layer_concepts import layer_concepts
from ...attribution.layer_values import per_sample
from ...attribution.mixed_layers import concept_activation
from ...attribution.subject import Subject
from ...concepts import DictionaryConcept
from ...data.class_map import ClassLabels, ModelClasses
from ...data.fingerprints import fingerprint, names_fingerprint, sample_digests
from ...data.labels import LabelIds, LabelReader, LenientReader, label_ids, label_or_none
from ...data.sample_attributes import sample_attributes
from ...data.samples import NumberedSamples
from ...errors import InputError
from ...escapes import escaped
from ...graph.activations import activation_behind, is_activated
from ...models.state_dict import state_digest
from ...models.weights import device_and_dtype
from ...propagation.plan_description import describe_plan
from ...propagation.run import Run
from ...targets import Target, Value
from ..file.attribute_columns import AttributeColumn, attribute_column
from ..file.header import Header, Integers, LayerInfo, Progress, digests_text
from .array_storage import ArrayStorage
from .first_look import check_names, first_look, input_digests, label_reader, labels_fingerprint, needs_labels
from .function_fingerprint import function_fingerprint
from .matrix_choice import chosen_matrix
from .pass_state import PassState, most_classes
from .sample_facts import class_count
from .scores import Collector
from .settings import Origin, Settings
from .target_policy import TargetRule, known_target, target_policy

__all__ = ["PreparedPass", "prepare"]


@dataclass(frozen=True, eq=False)
class PreparedPass:
    """A dataset pass that is ready to run.

    Parameters
    ----------
    samples : NumberedSamples
    index : numpy.ndarray
        (sample,), numbers of all samples of the pass, ascending; those of this shard are some of them.
    collector : Collector
    layers : tuple of LayerInfo
    header : Header
    progress : Progress
        With no batch done.
    classes : tuple of str
    attributes : dict
        What the data knows of the samples of the pass, by name.
    """

    samples: NumberedSamples
    index: Integers
    collector: Collector
    layers: tuple[LayerInfo, ...]
    header: Header
    progress: Progress
    classes: tuple[str, ...]
    attributes: Mapping[str, AttributeColumn]

    def batches_from(self, done: int) -> list[list[int]]:
        """Return the sample numbers of each batch of this shard from batch `done` on."""
        size = self.header.batch_size
        return [self.index[batch * size : (batch + 1) * size].tolist() for batch in range(done, self.progress.end)]

    def samples_before(self, batch: int) -> int:
        """Return how many samples of this shard come before a batch."""
        size = self.header.batch_size
        return min(batch * size, len(self.index)) - self.progress.first * size

    def empty_state(self, max_memory: int, folder: Path, samples: int | None = None) -> PassState:
        """Return a state that has seen nothing; its arrays are in files in a folder if they take more than that.

        With `samples` it has room for the first samples of this shard alone.
        """
        size = self.header.batch_size
        first, end = self.progress.first * size, self.progress.end * size
        part = slice(first, end if samples is None else min(end, first + samples))
        own = self.index[part]
        names = self.samples.identifiers()
        return PassState(
            self.header,
            self.layers,
            self.progress,
            own,
            None if names is None else tuple(names[number] for number in own),
            self.classes,
            ArrayStorage(max_memory, folder, most_classes(self.header)),
            attributes={name: column.taken(part) for name, column in self.attributes.items()},
        )


def prepare(subject: Subject, settings: Settings) -> PreparedPass:
    """Check the arguments of a build against model and dataset, and return the pass.

    Raises
    ------
    InputError
        If `target` has another form, the dataset is empty, or no sample can be read.
    UnknownLayerError, UnreachableLayerError, ConceptAxisError
        If a layer cannot be recorded.
    """
    attribution, samples = subject.attribution, subject.samples
    index, subset = _chosen_samples(len(samples), settings)
    progress = _progress(-(-len(index) // settings.batch_size), *settings.part)
    target = known_target(settings.target, subject.class_number)
    if needs_labels(target):
        samples = replace(samples, labels=label_ids)
    collector = Collector(subject, {}, target_policy(target), settings.aggregate, settings.abs_norm)
    form, images = first_look(samples, index, subject.preprocess)
    run = collector.run(next(iter(images.values()))[None])
    names = select_layers(run, attribution.model, settings.layers)
    collector = replace(collector, concepts=layer_concepts(run, names, subject.concepts), at_once=2 * run.rows_at_once)
    infos = tuple(_layer_info(run, name, collector) for name in names)
    matrix, matrix_dtype = chosen_matrix(settings.matrix, len(index), infos, abs_norm=settings.abs_norm)
    origin = settings.origin
    n_classes = class_count(run, target)
    collector = replace(collector, classes=n_classes)
    labels = label_reader(subject.dataset, ModelClasses(n_classes, _model_names(subject, origin, n_classes)), target)
    usable = replace(samples, form=form, labels=_usable_labels(labels, target, n_classes))
    header = Header(
        model=origin.model or attribution.model._get_name(),  # type: ignore[no-untyped-call]
        model_sha256=state_digest(attribution.model),
        composite=json.dumps(describe_plan(run.graph, run.plan)),
        dataset=origin.dataset or type(subject.dataset).__name__,
        dataset_sha256=fingerprint(subject.samples),
        subset=subset,
        n_samples=len(index),
        n_classes=n_classes,
        k=min(settings.k, len(index)),
        k_class=min(settings.k_class, len(index)),
        batch_size=settings.batch_size,
        target=_target_words(target),
        no_classes=isinstance(target, Target) and (target.class_number is None or isinstance(target, Value)),
        abs_norm=settings.abs_norm,
        aggregate=settings.aggregate,
        matrix=matrix,
        dtype=str(device_and_dtype(attribution.model)[1]).removeprefix("torch."),
        target_sha256="" if isinstance(target, str) else function_fingerprint(target),
        labels_sha256=labels_fingerprint(labels),
        names_sha256=names_fingerprint(samples),
        sample_digests=digests_text(sample_digests(usable, index.tolist())),
        input_digests=digests_text(input_digests(subject, images)),
        matrix_dtype=matrix_dtype,
    )
    samples = replace(samples, form=form, labels=labels)
    classes = _class_names(subject, origin, labels, n_classes)
    check_names(infos, samples.identifiers() or (), classes)
    known = sample_attributes(subject.dataset, index.tolist())
    attributes = {escaped(name): attribute_column(name, values) for name, values in known.items()}
    return PreparedPass(samples, index, collector, infos, header, progress, classes, attributes)


def _usable_labels(labels: LabelReader, target: str | Target | TargetRule, n_classes: int) -> LabelReader:
    """Return how labels are read for digests: those with which a sample cannot be used may be mended, and have none.

    The others count as the dataset gives them: what they mean has a fingerprint of its own.
    """

    def reader(label: Any) -> LabelIds:
        known = labels(label)
        if target == "label" and (known is None or any(cls >= n_classes for cls in known)):
            raise InputError("it has no class to start from")
        return label_or_none(label)

    return reader


def _target_words(target: str | Target | TargetRule) -> str:
    """Return what relevance starts from, in words."""
    if isinstance(target, str):
        return target
    return escaped(
        target.identity if isinstance(target, Target) else getattr(target, "__qualname__", type(target).__name__)
    )


def _progress(batches: int, shard: int, shards: int) -> Progress:
    """Return which of the batches a shard owns: whole and consecutive ones."""
    if shards > batches:
        raise InputError(f"{shards} shards for {batches} batches leave some empty; use at most {batches}")
    first, end = (batches * (shard + step) // shards for step in (0, 1))
    return Progress(shard, shards, first, first, end, batches)


def _chosen_samples(count: int, settings: Settings) -> tuple[Integers, str]:
    """Return the numbers of the samples to pass over, (sample,) ascending, and a description of the choice."""
    if count == 0:
        raise InputError("the dataset is empty")
    description = ""
    if settings.subset is None:
        index = _numbers(count if settings.limit is None else min(count, settings.limit))
    else:
        index = np.unique(np.array(settings.subset, "i8"))
        if not len(index) or index[0] < 0 or index[-1] >= count:
            raise InputError(f"subset is numbers of samples, from 0 to {count - 1}; got {len(index)} of them")
        description = f"{len(index)} samples, SHA-256 {_digest(index)}"
    if settings.limit is not None:
        index = index[: settings.limit]
        description = ", ".join(filter(None, [description, f"the first {settings.limit}"]))
    return index, description


def _numbers(count: int) -> Integers:
    try:
        return np.arange(count, dtype="i8")
    except MemoryError as error:
        raise InputError(
            f"the dataset says that it has {count} samples, more than there is memory to number them; take some by "
            f"subset or limit"
        ) from error


def _digest(index: Integers) -> str:
    return hashlib.sha256(index.tobytes()).hexdigest()[:16]


def _layer_info(run: Run, name: str, collector: Collector) -> LayerInfo:
    ref = run.graph.find(name)
    value = per_sample(run.graph, run.recording.value(ref))
    concept = collector.concepts[name]
    activation = concept_activation(run, name, concept).float()
    count = concept.reference(activation, aggregate=collector.aggregate).score.shape[1]
    activated = is_activated(run.graph, ref)
    behind = None if activated else activation_behind(run.graph, ref)
    behind_name = "" if behind is None else run.graph.label(behind)
    # A dictionary has codes of its own, behind its own activation function.
    signed = not activated and behind is None and not isinstance(concept, DictionaryConcept)
    titles = tuple(concept.title(number, count) for number in range(count))
    shape = tuple(value.shape[1:])
    own = titles if any(titles) else ()
    return LayerInfo(name, concept.identity, int(count), shape, behind_name, signed, own)


def _model_names(subject: Subject, origin: Origin, count: int) -> tuple[str, ...]:
    """Return the names of the model's classes, empty where they are not known, or are not as many as outputs."""
    if origin.classes is None and subject.classes_are_datas:
        return ()
    names = subject.classes if origin.classes is None else origin.classes
    return names if len(names) == count else ()


def _class_names(subject: Subject, origin: Origin, labels: LabelReader, count: int) -> tuple[str, ...]:
    """Return the names of the classes that the file keeps: the model's, or the dataset's if they fit."""
    labels = labels.reader if isinstance(labels, LenientReader) else labels
    if isinstance(labels, ClassLabels):
        return _model_names(subject, origin, count) or labels.by_class(count)
    return _model_names(subject, origin, count) or (subject.classes if len(subject.classes) == count else ())
