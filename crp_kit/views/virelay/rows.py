"""Rows of an export: the reference samples of a few concepts of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ...atlas.file.header import Mode
from ...atlas.query.reference_starts import own_target, reference_labels, starts_by_class
from ...errors import InputError

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas

__all__ = ["ReferenceRows", "choose_rows"]

Array = npt.NDArray[Any]

_FEWEST = 3
"""Reference samples of a concept; fewer have no embedding."""
_MOST_CLASSES = 1 << 16
"""ViRelAy reads labels as unsigned numbers of 16 bits."""


@dataclass(frozen=True, eq=False)
class ReferenceRows:
    """Samples, each as the reference of a concept: (row,).

    Parameters
    ----------
    concept : array
    sample : array
        Number of the sample in the dataset.
    start : array
        Class that the relevance starts from.
    label : array
        The sample's own class, or the predicted one where that is not known.
    score : array
        In the concept's ranking.
    """

    concept: Array
    sample: Array
    start: Array
    label: Array
    score: Array

    def __len__(self) -> int:
        return len(self.concept)


def choose_rows(
    atlas: ConceptAtlas,
    layer: str,
    concepts: Sequence[int] | None,
    *,
    top: int,
    k: int,
    mode: Mode,
    conditioned_on: Literal["class", "prediction"],
) -> ReferenceRows:
    """Return the reference samples of all concepts, concept by concept, best first."""
    scores = atlas[layer].score(mode)
    if concepts is None:
        concepts = scores.statistics().sorted("mean", top).concept.tolist()
    if not len(concepts) or len(set(concepts)) != len(concepts):
        raise InputError(f"concepts are at least one number, each named once; got {list(concepts)}")
    if atlas.header.n_classes > _MOST_CLASSES:
        raise InputError(f"ViRelAy knows at most {_MOST_CLASSES} classes, and the atlas has {atlas.header.n_classes}")
    parts = []
    if conditioned_on == "class" and (starts_by_class(atlas) or own_target(atlas)) is not None:
        raise InputError(
            f"rows of a project start from classes, and relevance of {atlas.path} from {atlas.header.target}; use "
            f"conditioned_on='prediction' or 'layer'"
        )
    for concept in concepts:
        table = scores.top(concept, min(k, atlas.header.k))
        if len(table) < _FEWEST:
            raise InputError(
                f"concept {concept} of {layer!r} has {len(table)} reference samples; an embedding needs {_FEWEST}"
            )
        stored = atlas.places(table.sample)
        own, predicted = atlas.targets[stored], atlas.predictions[stored]
        start = np.array(reference_labels(atlas, table, conditioned_on))
        label = np.where(own >= 0, own, np.where(predicted >= 0, predicted, start))
        parts.append((np.full(len(table), concept), table.sample, start, label, table.score))
    return ReferenceRows(*(np.concatenate(column) for column in zip(*parts, strict=True)))
