"""The concept graph of samples under a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..attribution.call_arguments import check_data
from ..attribution.subject import Subject
from ..checks import check_integer
from ..errors import ConditionError
from .decompose import Asked, Rank, decompose
from .parts import Key, Start
from .result import ConceptGraph
from .shares import Samples

__all__ = ["concept_graph"]


def concept_graph(
    subject: Subject,
    inputs: Any,
    *,
    start: Mapping[str, Any] | Key | None = None,
    layers: Any = None,
    width: int | Sequence[int] = (5, 3),
    min_share: float = 0.0,
    rank: Rank = "absolute",
    exclude_parallel: bool = True,
    batch_size: int = 16,
    verbose: bool = False,
) -> ConceptGraph:
    """Return the concept graph of one model input, or the mean one of several; see `crp_kit.Study.concept_graph`."""
    named = subject.attribution.engine.named(inputs)
    count = check_data(named)
    asked = Asked(
        start=None if start is None else Start.of(start),
        layers=layers,
        width=_widths(width),
        min_share=min_share,
        rank=rank,
        concepts=subject.concepts,
        exclude_parallel=exclude_parallel,
        verbose=verbose,
    )
    batch_size = check_integer("batch_size", batch_size, low=1, error=ConditionError)
    samples = Samples(subject.attribution, named, count, composite=subject.composite, batch_size=batch_size)
    return ConceptGraph(decompose(samples, asked), subject.classes)


def _widths(widths: Any) -> tuple[Any, ...]:
    return tuple(widths) if isinstance(widths, Iterable) else (widths,)
