"""Starts of the relevance of reference samples: their classes, the target of the atlas, or the layer itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ...data.labels import LabelMask
from ...data.samples import Failure, NumberedSamples
from ...errors import AtlasError
from ...result_table import Column
from ...targets import Region, Target
from ..file.atlas_file import AtlasFile
from .atlas_start import own_target, starts_by_class
from .rankings import SampleRanking

__all__ = ["ConditionedOn", "known_labels", "reference_labels", "reference_starts"]

ConditionedOn = Literal["class", "prediction", "layer"]


def reference_labels(atlas: AtlasFile, table: SampleRanking, conditioned_on: ConditionedOn | Target) -> tuple[int, ...]:
    """Return the class that each sample stands for; -1 for none, which only a start at no class allows."""
    targets: list[int] = table.target.tolist()
    if conditioned_on == "layer" or isinstance(conditioned_on, Target):
        return tuple(targets)
    if conditioned_on == "class" and not atlas.has_classes:
        return tuple(targets)
    labels = known_labels(atlas, table.sample, targets, conditioned_on)
    if any(label < 0 for label in labels):
        nameless = table.sample[labels.index(min(labels))]
        raise AtlasError(
            f"{atlas.path} knows neither target nor prediction of sample {nameless}, so that no class is there to "
            f"start from; use conditioned_on='layer'"
        )
    return tuple(labels)


def known_labels(
    atlas: AtlasFile, samples: Column, targets: Sequence[int], conditioned_on: Literal["class", "prediction"]
) -> list[int]:
    """Return the predicted class of samples, or their target where they have one and it counts; -1 for neither."""
    predicted: list[int] = atlas.predictions[atlas.places(samples)].tolist()
    if conditioned_on == "prediction":
        return predicted
    return [target if target >= 0 else guess for target, guess in zip(targets, predicted, strict=True)]


def reference_starts(
    atlas: AtlasFile,
    labels: Sequence[int],
    conditioned_on: ConditionedOn | Target,
    *,
    samples: NumberedSamples,
    numbers: Sequence[int],
) -> Sequence[int | Target | None]:
    """Return what the heatmap of each sample starts from: its class, a target, or None for the layer.

    Parameters
    ----------
    atlas : AtlasFile
    labels : sequence of int
        From `reference_labels`.
    conditioned_on : str or Target
    samples : NumberedSamples
        Of the atlas, read again where their labels are masks.
    numbers : sequence of int
        Which sample each label is of.
    """
    if isinstance(conditioned_on, Target):
        return [conditioned_on] * len(labels)
    if conditioned_on == "layer":
        return [None] * len(labels)
    if conditioned_on == "class" and atlas.header.target == "masks":
        return _mask_starts(samples, numbers, labels)
    by_class = starts_by_class(atlas) if conditioned_on == "class" else None
    if by_class is not None:
        return [by_class(label) for label in labels]
    target = own_target(atlas) if conditioned_on == "class" else None
    return labels if target is None else [target] * len(labels)


def _mask_starts(samples: NumberedSamples, numbers: Sequence[int], labels: Sequence[int]) -> list[Target]:
    """Return the region of the class of each sample, in the mask that is its label."""
    starts: list[Target] = []
    for number, cls in zip(numbers, labels, strict=True):
        read = samples[number]
        mask = read[2].mask == cls if not isinstance(read, Failure) and isinstance(read[2], LabelMask) else None
        starts.append(Region(cls, mask))
    return starts
