"""Concepts as options name them: channels, tokens, heads, neurons, or a file of directions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import numbers

if TYPE_CHECKING:
    from ..concepts import Concept

__all__ = ["FORMS", "chosen_concepts", "concept_ids_of", "ids_and_concepts"]

FORMS = "channels, tokens, neurons, heads, heads:12, or a file of directions"
_CONCEPT = re.compile(r"channels|tokens|neurons|heads(:.*)?|.*\.h5|.*=.*")


def chosen_concepts(specs: Sequence[str]) -> Concept | dict[str, Concept] | None:
    """Return the concepts that ``--concept`` means, for all layers or by layer.

    Directions are those of the layer that their file names, unless another one is named.

    Raises
    ------
    InputError
        If a spec has no meaning, or concepts for all layers are given beside others.
    """
    by_layer: dict[str, Concept] = {}
    common: list[Concept] = []
    for spec in specs:
        layer, concept = _read(spec)
        if layer is None:
            common.append(concept)
        elif layer in by_layer:
            raise InputError(f"--concept names {layer} twice")
        else:
            by_layer[layer] = concept
    if common and (by_layer or len(common) > 1):
        raise InputError(
            "--concept for all layers stands alone; name a layer in each, such as --concept blocks.3=tokens"
        )
    return common[0] if common else by_layer or None


def ids_and_concepts(specs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which of some values are ids of concepts, such as ``3,8-10``, and which say what a concept is."""
    concepts = [spec for spec in specs if _CONCEPT.fullmatch(spec) or Path(spec).is_file()]
    return [spec for spec in specs if spec not in concepts], concepts


def concept_ids_of(options: dict[str, Any]) -> list[int]:
    """Return the ids of ``--concept``, and keep in the options what it says of what a concept is."""
    texts, options["concept_specs"] = ids_and_concepts(options["concept"])
    return [number for text in texts for number in numbers(text)]


def _read(text: str) -> tuple[str | None, Concept]:
    """Return the layer that a text names, or None, and the concept."""
    from ..concepts import ChannelConcept, HeadConcept, NeuronConcept, TokenConcept, load_directions

    layer, equals, form = ("", "", text) if Path(text).is_file() else text.rpartition("=")
    if equals and not layer:
        raise InputError(f"--concept names no layer before =; got {text!r}")
    known = {"channels": ChannelConcept, "tokens": TokenConcept, "neurons": NeuronConcept, "heads": HeadConcept}
    if form in known:
        return layer if equals else None, known[form]()
    if form.startswith("heads:"):
        number = form.removeprefix("heads:")
        if not re.fullmatch(r"[1-9]\d*", number):
            raise InputError(f"--concept heads:12 says how many heads there are, at least 1; got {text!r}")
        return layer if equals else None, HeadConcept(heads=int(number))
    if not Path(form).is_file():
        raise InputError(f"--concept is {FORMS}, for one layer as LAYER=…; got {text!r}, and there is no file {form!r}")
    directions = load_directions(form)
    return layer if equals else directions.provenance.get("layer"), directions
