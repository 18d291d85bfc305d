"""Mean concept graphs of samples of an atlas, under the study's concepts of the layers that are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...atlas.query.atlas_start import starts_by_class
from ...concept_graph import ConceptGraph, concept_graph
from ...errors import ConditionError

if TYPE_CHECKING:
    from ...concept_graph.parts import Key
    from .samples import SampleSource

__all__ = ["mean_graph"]


def mean_graph(
    source: SampleSource,
    numbers: Sequence[int],
    *,
    cls: int,
    concept: Key | None = None,
    layers: Sequence[str],
    width: int | Sequence[int],
    batch_size: int,
) -> ConceptGraph | None:
    """Return the graph of a class, or of a concept as far as it serves the class, over samples.

    ``None`` where no relevance arrives at the start, as may be by other rules than those of the atlas.
    """
    concepts, by_class = source.subject.concepts, starts_by_class(source.atlas)
    above = layers if concept is None else [concept[0], *layers]
    if isinstance(concepts, Mapping):
        concepts = {name: own for name, own in concepts.items() if name in above}
    start = {} if concept is None else {concept[0]: [concept[1]]}
    try:
        return concept_graph(
            replace(source.subject, concepts=concepts),
            source.inputs(above[0], numbers),
            start={**start, "y": [cls if by_class is None else by_class(cls)]},
            layers=layers,
            width=width,
            batch_size=batch_size,
        )
    except ConditionError:
        return None
