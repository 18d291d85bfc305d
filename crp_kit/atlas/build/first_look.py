"""First look at the samples of a pass: the form that they have, how their labels are read, and fingerprints."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...attribution.subject import Subject
from ...data.class_map import ClassLabels, ModelClasses, class_labels
from ...data.dataset_names import is_of_folders
from ...data.fingerprints import evenly_spread, short_digest, tensor_bytes
from ...data.labels import LabelReader, LenientReader, label_ids, label_or_none, no_label
from ...data.preprocess import Normalise, Preprocess
from ...data.samples import Failure, Form, NumberedSamples
from ...errors import InputError
from ...escapes import is_writable
from ...targets import Target
from ..file.header import Integers, LayerInfo
from .target_policy import TargetRule

__all__ = ["check_names", "first_look", "input_digests", "label_reader", "labels_fingerprint", "needs_labels"]

_log = logging.getLogger(__name__)
_BY_LABEL = ("label", "masks", "binary")
"""What relevance starts from by labels."""
_INPUTS = 3
"""Samples whose model inputs go into a fingerprint."""
_LONGEST = 4096
"""Bytes of a name of a sample or class: all names of a kind take as much room as the longest."""


def first_look(
    samples: NumberedSamples, index: Integers, preprocess: Preprocess | Normalise | None
) -> tuple[Form, dict[int, torch.Tensor]]:
    """Return the form of the samples of a pass, and a few images in it by number.

    It is the form that most of a few samples have, spread over the whole pass, so that one of another size is the odd
    one, wherever it is and however the pass is cut into batches and shards. Of equally many, a `Preprocess` decides.

    Raises
    ------
    InputError
        If no sample can be read.
    """
    read = [samples[number] for number in evenly_spread(index.tolist())]
    images = dict(sample[:2] for sample in read if not isinstance(sample, Failure)) or dict([samples.first(index)[:2]])
    preferred = (preprocess.channels, *preprocess.size) if isinstance(preprocess, Preprocess) else None
    form = Form.usual(list(images.values()), preferred)
    fitting = {number: image.to(form.dtype) for number, image in images.items() if tuple(image.shape) == form.shape}
    return form, dict(list(fitting.items())[:_INPUTS])


def check_names(layers: Sequence[LayerInfo], identifiers: Sequence[str], classes: Sequence[str]) -> None:
    """Make sure, before a pass, that a file can hold all names.

    Raises
    ------
    InputError
        If a layer or its concept has a name with control characters or without UTF-8, or another name is too long.
    """
    for layer in layers:
        for what, text in (("the layer", layer.name), ("what a concept is in a layer", layer.concept)):
            if not is_writable(text):
                raise InputError(
                    f"{what} is called {text!r:.200}: a file holds no control characters, line breaks or text that is "
                    f"not UTF-8; call it another name"
                )
    for what, names in (("sample", identifiers), ("class", classes), *(("concept", layer.titles) for layer in layers)):
        longest = max(range(len(names)), key=lambda number: len(names[number]), default=None)
        if longest is not None and len(names[longest].encode()) > _LONGEST:
            raise InputError(
                f"the name of {what} {longest} has {len(names[longest])} characters, and a file holds {_LONGEST} bytes "
                f"of each: {names[longest][:60]!r}…"
            )


def input_digests(subject: Subject, images: Mapping[int, torch.Tensor]) -> dict[int, str]:
    """Return digests, by number, of the model inputs that images become: another preprocessing gives others."""
    inputs = {number: subject.normalised(image[None]).detach() for number, image in images.items()}
    return {
        number: short_digest(f"{tuple(tensor.shape)} {tensor.dtype}\n".encode() + tensor_bytes(tensor))
        for number, tensor in inputs.items()
    }


def needs_labels(target: str | Target | TargetRule) -> bool:
    """Return whether relevance may start from labels, so that one that cannot be read is a mistake."""
    return target in _BY_LABEL if isinstance(target, str) else not isinstance(target, Target)


def label_reader(dataset: Any, model: ModelClasses, target: str | Target | TargetRule) -> LabelReader:
    """Return how labels are read for a target: not at all, as class ids, or as the classes that the dataset names.

    Where relevance starts from predictions, labels are kept where they can be read, and are no mistake where not.

    Raises
    ------
    InputError
        If relevance is to start from labels that are no classes of the model.
    """
    needless = not needs_labels(target)
    try:
        labels = class_labels(dataset, model)
    except InputError as error:
        if isinstance(target, str) and target in _BY_LABEL:
            raise
        if needless:
            _log.info("the atlas is without labels: %s", error)
        else:
            _log.warning("the function that chooses targets gets no labels: %s", error)
        return no_label
    if labels is None:
        return label_or_none if needless else label_ids
    if labels.how == "position" and is_of_folders(dataset):
        _log.warning(
            "the names of the model's classes are not known: its %d outputs are taken to be %s, in this order",
            model.count,
            _ends(labels.names),
        )
    return LenientReader(labels) if needless else labels


def _ends(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names if len(names) <= 4 else [*names[:2], "…", names[-1]]))


def labels_fingerprint(labels: LabelReader) -> str:
    """Return a SHA-256 of the classes that labels stand for; empty where they are the classes themselves."""
    labels = labels.reader if isinstance(labels, LenientReader) else labels
    if not isinstance(labels, ClassLabels):
        return ""
    return hashlib.sha256(json.dumps([labels.names, labels.numbers]).encode()).hexdigest()
