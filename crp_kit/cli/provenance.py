"""Options of a study that an atlas knows: what its build was asked for, as far as it is safe to do again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..errors import InputError
from ..printable import printable
from ..study.stored_options import OPTION_TYPES, OPTIONS_OF_MODEL, whole_path

if TYPE_CHECKING:
    from ..atlas import ConceptAtlas

__all__ = ["options_of_atlas", "with_atlas"]

_MODELS = ("demo", "torchvision", "timm", "hf")
_DATA = ("demo", "imagefolder", "npyfolder", "torchvision")
"""Schemes that are read from an atlas; every other spec names code, which is never run from there."""
_SEVERAL = ("size", "crop", "mean", "std", "elementwise")


def options_of_atlas(options: Mapping[str, Any], atlas: ConceptAtlas) -> dict[str, Any]:
    """Return options in which those that were not said are what the atlas was made with.

    Raises
    ------
    InputError
        If the atlas does not say its model or data, or only code of a file could make them.
    """
    context = click.get_current_context()
    said = {name for name in OPTION_TYPES if context.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)}
    known = _known(atlas)
    if "model" in said and whole_path(options["model"]) != known.get("model"):
        known = {name: value for name, value in known.items() if name not in OPTIONS_OF_MODEL}
    chosen = dict(options) | {name: value for name, value in known.items() if name not in said}
    asked = [name for name, schemes in (("model", _MODELS), ("data", _DATA)) if name not in said and
             str(chosen.get(name)).partition(":")[0] not in schemes]  # fmt: skip
    if asked:
        raise InputError(_missing(atlas, {name: known.get(name) for name in asked}))
    return chosen


def with_atlas(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a command with ``--atlas``, which then knows what is not said.

    Raises
    ------
    InputError
        As for `options_of_atlas`.
    """
    if options["atlas"] is None:
        return dict(options)
    from ..atlas import ConceptAtlas

    with ConceptAtlas(options["atlas"]) as atlas:
        return options_of_atlas(options, atlas)


def _missing(atlas: ConceptAtlas, specs: Mapping[str, str | None]) -> str:
    """Say which options are needed, and why the atlas is not enough."""
    code = [f"--{name} {printable(str(spec))}" for name, spec in specs.items() if spec and ":" in spec]
    unknown = " and ".join(f"--{name}" for name, spec in specs.items() if not spec or ":" not in spec)
    parts = [f"does not say what {unknown} it was made with"] * bool(unknown)
    parts += [f"was made with {' and '.join(code)}, which is code that is not run because a file says so"] * bool(code)
    return f"{atlas.path} {', and '.join(parts)}: say {' and '.join(f'--{name}' for name in specs)}"


def _known(atlas: ConceptAtlas) -> dict[str, Any]:
    """Return what an atlas says of its options; of an older one the words for model, weights and data."""
    text = atlas.metadata.get("options")
    if text is None:
        model, _, weights = atlas.header.model.partition(" ")
        return {"model": model, "data": atlas.header.dataset} | ({"weights": weights} if weights else {})
    try:
        stored = json.loads(text)
        return {name: _checked(name, value) for name, value in stored.items() if name in OPTION_TYPES}
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{atlas.path} has no sound options of its build: say --model and --data") from error


def _checked(name: str, value: Any) -> Any:
    """Return the value of an option as the command line gives it."""
    several = name in _SEVERAL
    if not all(isinstance(part, OPTION_TYPES[name]) for part in (value if several else [value])):
        raise ValueError(name)
    return tuple(value) if several else value
