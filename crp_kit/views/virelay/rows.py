"""Rows of an export: the reference samples of a few concepts of a layer, or the samples of a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ...atlas.file.header import Mode
from ...atlas.query.atlas_start import own_target, starts_by_class
from ...atlas.query.reference_starts import reference_labels
from ...errors import InputError

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas
    from ...atlas.file.atlas_file import AtlasFile
    from ...atlas.questions.strategies import Strategies

__all__ = ["ProjectRows", "choose_rows", "strategy_rows"]

Array = npt.NDArray[Any]

_FEWEST = 3
"""Reference samples of a concept; fewer have no embedding."""
_MOST_CLASSES = 1 << 16
"""ViRelAy reads labels as unsigned numbers of 16 bits."""


@dataclass(frozen=True, eq=False)
class ProjectRows:
    """Samples, each as the reference of a concept, or with its strategy: (row,).

    Parameters
    ----------
    group : {"concept", "strategy"}
        What rows are put together by.
    number : array
        Of the concept, which relevance passes, or of the strategy.
    sample : array
        Number of the sample in the dataset.
    start : array
        Class that the relevance starts from.
    label : array
        The sample's own class, or the predicted one where that is not known.
    score : array
        In the concept's ranking; not-a-number without one.
    by_class : bool
        Whether relevance starts from the sample's own class, and not from the predicted one.
    coordinates : array, optional
        Two spectral coordinates of strategies: (row, 2).
    """

    group: Literal["concept", "strategy"]
    number: Array
    sample: Array
    start: Array
    label: Array
    score: Array
    by_class: bool
    coordinates: Array | None = None

    def __len__(self) -> int:
        return len(self.number)

    @property
    def groups(self) -> list[int]:
        """Numbers of the groups that are large enough for an embedding, in the order of the rows."""
        numbers, sizes = np.unique(self.number, return_counts=True)
        large = set(numbers[sizes >= _FEWEST].tolist())
        return [number for number in dict.fromkeys(self.number.tolist()) if number in large]


def choose_rows(
    atlas: ConceptAtlas,
    layer: str,
    concepts: Sequence[int] | None,
    *,
    top: int,
    k: int,
    mode: Mode,
    conditioned_on: Literal["class", "prediction"],
) -> ProjectRows:
    """Return the reference samples of all concepts, concept by concept, best first."""
    scores = atlas[layer].score(mode)
    if concepts is None:
        concepts = scores.statistics().sorted("mean", top).concept.tolist()
    if not len(concepts) or len(set(concepts)) != len(concepts):
        raise InputError(f"concepts are at least one number, each named once; got {list(concepts)}")
    _check_numbered(atlas)
    if conditioned_on == "class":
        _check_starts(atlas)
    parts = []
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
    number, sample, start, label, score = (np.concatenate(column) for column in zip(*parts, strict=True))
    return ProjectRows("concept", number, sample, start, label, score, by_class=conditioned_on == "class")


def strategy_rows(strategies: Strategies) -> ProjectRows:
    """Return the samples of a class, strategy by strategy."""
    atlas = strategies.scores.file
    _check_numbered(atlas)
    _check_starts(atlas)
    order = np.argsort(strategies.strategy, kind="stable")
    start = np.full(len(order), strategies.cls)
    coordinates = np.stack([strategies.x, strategies.y], 1)[order]
    sample, number = strategies.sample[order], strategies.strategy[order]
    blank = np.full(len(order), np.nan)
    return ProjectRows("strategy", number, sample, start, start, blank, by_class=True, coordinates=coordinates)


def _check_numbered(atlas: AtlasFile) -> None:
    """Make sure that ViRelAy can number the classes."""
    if atlas.header.n_classes > _MOST_CLASSES:
        raise InputError(f"ViRelAy knows at most {_MOST_CLASSES} classes, and the atlas has {atlas.header.n_classes}")


def _check_starts(atlas: AtlasFile) -> None:
    """Make sure that relevance starts from classes themselves."""
    if (starts_by_class(atlas) or own_target(atlas)) is not None:
        raise InputError(
            f"rows of a project start from classes, and relevance of {atlas.path} from {atlas.header.target}; concepts "
            f"can be exported with conditioned_on='prediction'"
        )
