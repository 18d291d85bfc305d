"""Options that make a study again, as an atlas keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..atlas import Origin
    from ..data.preprocess import Preprocess
    from ..models import LoadedModel

__all__ = ["OPTIONS_OF_MODEL", "OPTION_TYPES", "origin_of", "stored_options", "whole_path"]

_FOLDERS = ("imagefolder", "npyfolder", "hf")
OPTIONS_OF_MODEL = {
    "weights": str,
    "classes": str,
    "size": int,
    "crop": int,
    "mean": float,
    "std": float,
    "channels": int,
    "elementwise": str,
    "class_axis": int,
    "feature_axis": (int, str),
    "batch_norm": str,
    "model_output": str,
}
"""Options that mean something for one model alone, and the type of their values, or of the parts of these."""
OPTION_TYPES: dict[str, Any] = {
    "model": str,
    "data": str,
    "class_map": str,
    "composite": str,
    "biases": str,
    **OPTIONS_OF_MODEL,
}
"""All options that an atlas keeps."""


def stored_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a build as an atlas keeps them: those that say something, with whole paths."""
    kept = {name: options.get(name) for name in OPTION_TYPES}
    for name in ("model", "data"):
        kept[name] = whole_path(kept[name])
    for name in ("weights", "classes", "class_map"):
        value = kept[name]
        if value is not None and Path(value).is_file():
            kept[name] = str(Path(value).absolute())
    return {name: value for name, value in kept.items() if value not in (None, ())}


def whole_path(spec: str | None) -> str | None:
    """Return a spec with the whole path of the folder that it names."""
    scheme, _, rest = (spec or "").partition(":")
    return f"{scheme}:{Path(rest).absolute()}" if scheme in _FOLDERS and Path(rest).is_dir() else spec


def origin_of(loaded: LoadedModel, data: Any, settings: Mapping[str, Any]) -> Origin | None:
    """Return the origin of a study of a model and data that were loaded by name; None where either was not."""
    from ..atlas import Origin

    spec = getattr(data, "spec", None)
    if loaded.spec is None or not isinstance(spec, str):
        return None
    options = {"model": loaded.spec, "weights": loaded.weights, "data": spec, **settings, **_sizes(loaded.preprocess)}
    words = " ".join(filter(None, [loaded.spec, loaded.weights]))
    return Origin(model=words, dataset=spec, classes=loaded.classes, options=stored_options(options))


def _sizes(preprocess: Preprocess) -> dict[str, Any]:
    """Return a preprocessing as options, where they can say it; else the model's own counts."""
    resize, crop = preprocess.resize, preprocess.crop
    if preprocess.shape is not None or resize is None or crop is None:
        return {}
    sides = {"size": resize, "crop": crop}
    listed = {name: [side] if isinstance(side, int) else list(side) for name, side in sides.items()}
    return {**listed, "mean": list(preprocess.mean), "std": list(preprocess.std)}
