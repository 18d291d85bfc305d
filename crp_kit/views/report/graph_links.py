"""Links from concept graphs: shares of the relevance that passes a concept in the concepts below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...attribution.layer_values import find_layer
from ...progress import Progress
from .links import LINKS, Link, Links, Matrix, strongest
from .mean_graphs import mean_graph

if TYPE_CHECKING:
    from ...concept_graph import ConceptEdge
    from .choice import Chosen
    from .samples import SampleSource

__all__ = ["concept_graph_links"]

_SAMPLES = 4
"""Of each concept, at most; an atlas may hold fewer by class."""


def concept_graph_links(source: SampleSource, chosen: Chosen, *, verbose: bool = False) -> Links | None:
    """Return the strongest edges of the mean concept graph of each concept, from both of their ends.

    Parameters
    ----------
    source : SampleSource
        The atlas, its model and samples, and the rules.
    chosen : dict of str to tuple of int
        Layers in graph order, and their concepts.
    verbose : bool, optional
        Show progress on stderr.

    Returns
    -------
    links : Links or None
        ``None`` if none of the layers feeds another one.
    """
    below = _below(source, list(chosen))
    if not below:
        return None
    samples = min(_SAMPLES, source.atlas.header.k_class or source.atlas.header.k)
    shares = {
        (upper, lower): np.zeros((len(chosen[upper]), len(chosen[lower])))
        for upper, lower_layers in below.items()
        for lower in lower_layers
    }
    rows = [(upper, row, concept) for upper in below for row, concept in enumerate(chosen[upper])]
    for upper, row, concept in Progress(len(rows), "links", unit="concept", verbose=verbose).over(rows):
        for edge in _edges(source, (upper, concept), below[upper], samples):
            layer, target = edge.target
            if target in chosen[layer]:
                shares[upper, layer][row, chosen[layer].index(target)] = edge.share

    def of(layer: str, concept: int) -> tuple[Sequence[Link], Sequence[Link]]:
        index = chosen[layer].index(concept)
        up = {upper: matrix[:, index] for (upper, lower), matrix in shares.items() if lower == layer}
        down = {lower: matrix[index] for (upper, lower), matrix in shares.items() if upper == layer}
        return _best(up, chosen), _best(down, chosen)

    meaning = (
        f"From concept graphs: how much of the relevance that passes the upper concept reaches the lower one, in the "
        f"mean over the samples of the upper concept's main class in which it is most relevant, {samples} at most. The "
        f"rest goes to other concepts, into biases, and past these layers."
    )
    return Links(meaning, of, shares=True)


def _below(source: SampleSource, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the layers of the report that each layer feeds on, directly or not; only layers with any."""
    sample = source.inputs(names[0], [int(source.atlas.samples[0])])
    run = source.subject.attribution.engine.run(sample, source.subject.composite)
    refs = {name: find_layer(run, name) for name in names}
    fed = {name: run.plan.flow.from_start(ref) - {ref} for name, ref in refs.items()}
    below = {name: [other for other in names if refs[other] in fed[name]] for name in names}
    return {name: layers for name, layers in below.items() if layers}


def _edges(source: SampleSource, root: tuple[str, int], below: Sequence[str], samples: int) -> tuple[ConceptEdge, ...]:
    """Return the edges from a concept to those of the nearest of the layers below, over its best samples."""
    (layer, concept), atlas = root, source.atlas
    scores = atlas[layer].relevance
    numbers: list[int] = []
    for cls in scores.classes(concept, 1).cls.tolist():
        if atlas.header.k_class:
            table = scores.class_top(concept, cls, samples)
            numbers = table.sample[table.score > 0].tolist()
        else:  # without rankings by class, those of its samples that are in the ranking over all
            table = scores.top(concept)
            numbers = table.sample[(table.score > 0) & (table.target == cls)][:samples].tolist()
    if not numbers:
        return ()
    width = sum(atlas[name].n_concepts for name in below)
    batch_size = source.batch_size
    graph = mean_graph(source, numbers, cls=cls, concept=root, layers=below, width=width, batch_size=batch_size)
    return () if graph is None else graph.edges


def _best(ends: Mapping[str, Matrix], chosen: Chosen) -> list[Link]:
    """Return the strongest links to the concepts at the other ends, whose weights are given by layer: (concept,)."""
    keys = [(layer, concept) for layer in ends for concept in chosen[layer]]
    values = np.concatenate([np.zeros(0), *ends.values()])
    return [Link(*keys[index], float(values[index])) for index in strongest(values, LINKS)]
