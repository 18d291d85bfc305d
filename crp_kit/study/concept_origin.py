"""Check of a study's concepts: that they are concepts, and whether directions are of its model and their layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch

from ..concepts import Concept, MixedConcept
from ..errors import CrpKitWarning, InputError
from ..models.state_dict import state_digest

__all__ = ["check_concepts"]


def check_concepts(concepts: Any, model: torch.nn.Module) -> None:
    """Refuse what is no concept, and warn of directions that were fitted to another layer or model.

    Raises
    ------
    InputError
        If it is neither a concept, nor concepts by layer.
    """
    by_layer = concepts if isinstance(concepts, Mapping) else {None: concepts}
    own_digest = cache(lambda: state_digest(model))  # of all weights: taken once, and only where directions have one
    for layer, concept in by_layer.items():
        if concept is not None and not isinstance(concept, Concept):
            shown = f"the class {concept.__name__}" if isinstance(concept, type) else repr(concept)
            raise InputError(f"concepts is a Concept, or a dictionary of them by layer; got {shown:.80}")
        if isinstance(concept, MixedConcept):
            _warn_of_origin(concept, layer, own_digest)


def _warn_of_origin(concept: MixedConcept, layer: str | None, own_digest: Callable[[], str]) -> None:
    own, digest = (concept.provenance.get(name) for name in ("layer", "model_sha256"))
    differs = []
    inside = f"{own}.".startswith(f"{layer}.")  # the output of a container is that of its last node
    if layer is not None and own is not None and not inside:
        differs.append(f"to the layer {own!r}")
    if digest and digest != own_digest():
        differs.append("to another model, or to this one with other weights or another precision")
    if differs:
        where = "" if layer is None else f" of {layer!r}"
        warnings.warn(
            f"the directions{where} were fitted {' and '.join(differs)}: what they stand for here is not known",
            CrpKitWarning,
            stacklevel=4,
        )
