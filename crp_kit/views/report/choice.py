"""Choice of the layers and concepts of an atlas that a report is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ...checks import check_integer
from ...errors import ConceptRangeError, InputError, UnknownLayerError
from ...graph.name_patterns import is_plain, matching

if TYPE_CHECKING:
    from ...atlas import ConceptAtlas

__all__ = ["Chosen", "choose"]

Chosen = dict[str, tuple[int, ...]]
"""Layers in graph order, and their concepts, ascending."""


def choose(
    atlas: ConceptAtlas,
    layers: str | Iterable[str] | None,
    concept_ids: Iterable[int] | Mapping[str, Iterable[int]] | None,
) -> Chosen:
    """Return the chosen layers and concepts; see `crp_kit.build_report`.

    Raises
    ------
    UnknownLayerError
        If the atlas has no such layer.
    ConceptRangeError
        If a layer has no such concept.
    InputError
        If nothing is chosen, or an id is no whole number.
    """
    names = _layers(atlas, layers)
    if concept_ids is None:
        return {name: tuple(range(atlas[name].n_concepts)) for name in names}
    if not isinstance(concept_ids, Mapping):
        wanted = list(concept_ids)
        return {name: _ids(atlas, name, wanted) for name in names}
    by_layer = {name: list(ids) for name, ids in concept_ids.items()}
    for name in by_layer:
        if name not in names:
            raise UnknownLayerError(name, names, f"concepts are chosen of {name!r}, which is no layer of the report")
    return {name: _ids(atlas, name, by_layer[name]) for name in names if layers is not None or name in by_layer}


def _layers(atlas: ConceptAtlas, wanted: str | Iterable[str] | None) -> list[str]:
    if wanted is None:
        wanted = atlas.layers
    patterns = [wanted] if isinstance(wanted, str) else list(wanted)
    if not patterns:
        raise InputError("no layers: name one at least, by its name or a pattern, or leave layers out for all")
    chosen: set[str] = set()
    for pattern in patterns:
        names = [pattern] if pattern in atlas.layers else [] if is_plain(pattern) else matching(pattern, atlas.layers)
        if not names:
            advice = f"its layers are {', '.join(atlas.layers)}"
            raise UnknownLayerError(pattern, atlas.layers, f"{atlas.path} has no layer {pattern!r}", advice)
        chosen.update(names)
    return [name for name in atlas.layers if name in chosen]


def _ids(atlas: ConceptAtlas, layer: str, wanted: list[int]) -> tuple[int, ...]:
    ids = {check_integer("a concept", concept) for concept in wanted}
    if not ids:
        raise InputError(f"no concepts of {layer!r}: name one at least")
    size = atlas[layer].n_concepts
    wrong = sorted(concept for concept in ids if not 0 <= concept < size)
    if wrong:
        raise ConceptRangeError(layer, wrong, size, what="concept")
    return tuple(sorted(ids))
