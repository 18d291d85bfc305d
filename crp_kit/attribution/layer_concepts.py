"""The concept of a layer: the one that is chosen, by default its channels, or the classes of the model output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from ..concepts import ChannelConcept, Concept
from ..conditions import OUTPUT
from ..errors import ConceptAxisError
from ..propagation.run import Run
from .axes import class_axis
from .layer_values import find_layer, is_folded

__all__ = ["Concepts", "layer_concept", "layer_concepts"]

Concepts: TypeAlias = Concept | Mapping[str, Concept] | None
"""One concept for all layers, concepts by layer, or channels everywhere."""


def layer_concepts(run: Run, names: Iterable[str], concepts: Concepts) -> dict[str, Concept]:
    """Return the concept of each layer. One concept for all layers does not mean the output, ``"y"``."""
    common = None if isinstance(concepts, Mapping) else concepts
    by_layer = concepts if isinstance(concepts, Mapping) else {OUTPUT: None}
    return {name: layer_concept(run, name, by_layer.get(name, common)) for name in names}


def layer_concept(run: Run, name: str, concept: Concept | None = None) -> Concept:
    """Return the concept of one layer, for values as of `per_sample`.

    Parameters
    ----------
    run : Run
    name : str
        The layer; ``"y"`` for the model output, whose channels are its classes.
    concept : Concept, optional
        The concept that is chosen; channels by default.

    Raises
    ------
    ConceptAxisError
        If it is channels, and the graph does not know their axis.
    """
    return (ChannelConcept() if concept is None else concept).resolved(lambda: _channel_axis(run, name))


def _channel_axis(run: Run, name: str) -> int:
    """Return the axis that enumerates a layer's channels, or the classes of the output, the row axis counted."""
    shape = tuple(run.graph.shape(ref := find_layer(run, name)))
    if name == OUTPUT:
        return class_axis(run) if len(shape) > 1 else 1
    axis = run.channel_axes.get(ref)
    if axis is None:
        raise ConceptAxisError(
            f"the graph cannot tell which axis of {name!r} (shape {shape}) enumerates its channels; name it by a "
            f"concept of your own, such as {{{name!r}: ChannelConcept(axis=...)}}"
        )
    return axis + 1 if is_folded(run.graph, ref) else axis
