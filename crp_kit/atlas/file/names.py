"""Names of concepts in a JSON file beside an atlas, with the identity of the atlas that they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import AtlasError, InputError
from ...files import atomic_file, check_file, error_reason
from .atlas_file import AtlasFile

__all__ = ["check_replaceable", "names_path", "read_names", "write_names"]

_ENCODING = "crp-kit-names"
_VERSION = "1"
_MOST_BYTES = 1 << 26
_MOST_LETTERS = 1000
_DIGITS = 9


def names_path(file: AtlasFile) -> Path:
    """Return where the names of an atlas's concepts are: ``ATLAS.names.json``."""
    return file.path.with_name(f"{file.path.name}.names.json")


def read_names(file: AtlasFile, layer: str) -> dict[int, str]:
    """Return the names of a layer's concepts, by number: those that were saved, else those that they have of their own.

    Raises
    ------
    AtlasError
        If the file is damaged, too large, or belongs to another atlas.
    """
    titles = next((info.titles for _, info in file._infos.values() if info.name == layer), ())
    return {concept: title for concept, title in enumerate(titles) if title} | _layers(file).get(layer, {})


def write_names(file: AtlasFile, layer: str, names: Mapping[int, str], *, overwrite: bool = False) -> Path:
    """Save the names of a layer's concepts beside the atlas; those of other layers stay. The file is whole or absent.

    Raises
    ------
    AtlasError
        If the layer has names and they may not be replaced, or the file is damaged or cannot be written.
    """
    path, layers = names_path(file), check_replaceable(file, layer, overwrite=overwrite)
    layers[layer] = dict(sorted(names.items()))
    content = {
        "encoding-type": _ENCODING,
        "encoding-version": _VERSION,
        "atlas": file.identity,
        "layers": {key: {str(concept): name for concept, name in value.items()} for key, value in layers.items()},
    }
    _checked(file, content)
    try:
        with atomic_file(path) as beside:
            beside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise AtlasError(f"cannot write {path}: {error_reason(error)}") from error
    return path


def check_replaceable(file: AtlasFile, layer: str, *, overwrite: bool) -> dict[str, dict[int, str]]:
    """Make sure that names of a layer may be written, and return all that the file has, by layer.

    Raises
    ------
    AtlasError
        If the layer has names and they may not be replaced, or the file is damaged.
    """
    layers = _layers(file)
    if layers.get(layer) and not overwrite:
        raise AtlasError(f"{names_path(file)} has names for {layer!r}; overwrite=True (--overwrite) replaces them")
    return layers


def _layers(file: AtlasFile) -> dict[str, dict[int, str]]:
    """Return all names by layer."""
    path = names_path(file)
    if not path.exists() and not path.is_symlink():
        return {}
    try:
        check_file(path, "names")
        with path.open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise AtlasError(f"it is larger than {_MOST_BYTES >> 20} MiB")
        return _checked(file, json.loads(data))
    except (OSError, InputError, RecursionError, ValueError) as error:
        reason = str(error) if isinstance(error, (AtlasError, InputError)) else "it cannot be read as JSON"
        raise AtlasError(f"the names in {path} cannot be used: {reason}; remove the file to do without") from error


def _checked(file: AtlasFile, content: Any) -> dict[str, dict[int, str]]:
    """Return the names of a file's content, every one of which is a text for a concept that the atlas has."""
    if not isinstance(content, dict) or content.get("encoding-type") != _ENCODING:
        raise AtlasError(f"it is no file of the type {_ENCODING!r}")
    if content.get("encoding-version") != _VERSION:
        raise AtlasError(f"it is of the version {content.get('encoding-version')!r}, and this crp-kit reads {_VERSION}")
    if content.get("atlas") != file.identity:
        raise AtlasError(f"they belong to another atlas than {file.path}")
    layers, sizes = content.get("layers"), {info.name: info.n_concepts for _, info in file._infos.values()}
    if not isinstance(layers, dict) or not set(layers) <= set(sizes):
        raise AtlasError("its layers are not those of the atlas")
    return {layer: _layer_names(layer, names, sizes[layer]) for layer, names in layers.items()}


def _layer_names(layer: str, names: Any, size: int) -> dict[int, str]:
    if not isinstance(names, dict):
        raise AtlasError(f"the names of {layer!r} are no mapping from concepts")
    for concept, name in names.items():
        if not (concept.isascii() and concept.isdecimal() and len(concept) <= _DIGITS and int(concept) < size):
            raise AtlasError(f"{layer!r} has no concept {concept!r:.40}")
        if not isinstance(name, str) or not 0 < len(name) <= _MOST_LETTERS:
            raise AtlasError(
                f"the name of concept {concept} of {layer!r} is no text of 1 to {_MOST_LETTERS} characters"
            )
    return {int(concept): name for concept, name in names.items()}
