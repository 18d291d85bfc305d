"""Image classifiers of Hugging Face, by name or from a folder: processor and class names included."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision.transforms import functional as geometry

from ..data.preprocess import Preprocess
from ..errors import InputError, ModelError
from .downloads import fetched
from .loaded import LoadedModel
from .state_dict import is_state_file

__all__ = ["hugging_face_model"]

_TOLERANCE = 0.05
"""Mean difference of two model inputs: other resampling of the same sizes differs by less, another crop by far more."""


def hugging_face_model(name: str, weights: str | None) -> LoadedModel:
    """Return an image classifier of the Hugging Face hub, or of a folder that ``save_pretrained`` has written.

    Code that comes with a model is never run.

    Raises
    ------
    InputError
        If transformers is not installed, or there are no such weights.
    ModelError
        If there is no such model, it is no image classifier, or its processor does what `Preprocess` cannot.
    """
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(f"hf:{name} needs transformers, which is not installed: pip install transformers") from error
    if weights is not None and weights not in ("DEFAULT", "none") and not is_state_file(weights):
        raise InputError(f"hf:{name} has no weights {weights!r}; there are DEFAULT, none or a state-dict file")
    auto = transformers.AutoModelForImageClassification
    try:
        if weights in (None, "DEFAULT"):
            model = _fetched(lambda: auto.from_pretrained(name), "weights", name)
        else:
            model = auto.from_config(_config(transformers, name))
    except ValueError as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"hf:{name} is no image classifier that transformers can make: {reason}") from error
    names = model.config.id2label
    classes = tuple(str(names[index]) for index in range(len(names)))
    nameless = all(label == f"LABEL_{index}" for index, label in enumerate(classes))
    return LoadedModel(model, _preprocess(transformers, name), None if nameless else classes, "logits")


def _config(transformers: Any, name: str) -> Any:
    return _fetched(lambda: transformers.AutoConfig.from_pretrained(name), "configuration", name)


def _fetched(build: Callable[[], Any], part: str, name: str) -> Any:
    advice = "fetch its folder by other means and name that as the model: hf:FOLDER"
    return fetched(build, f"the {part} of hf:{name}", advice)


def _preprocess(transformers: Any, name: str) -> Preprocess:
    """Return a processor as a `Preprocess`, compared with it on one picture."""
    if Path(name).is_dir() and not (Path(name) / "preprocessor_config.json").is_file():
        raise ModelError(
            f"{name} has no preprocessor_config.json, which says how images become model inputs: save the processor "
            f"there too, processor.save_pretrained({name!r})"
        )
    load = transformers.AutoImageProcessor.from_pretrained
    processor = _fetched(lambda: load(name), "image processor", name)
    preprocess = _described(processor)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8))
    picture = picture.resize((640, 480), Image.Resampling.BICUBIC)
    theirs, ours = processor(images=picture, return_tensors="pt")["pixel_values"], preprocess(picture)[None]
    if theirs.shape != ours.shape or float((theirs - ours).abs().mean()) > _TOLERANCE:
        raise ModelError(
            f"the processor of hf:{name} ({type(processor).__name__}) prepares images in a way that a Preprocess "
            f"cannot: write a factory that returns crp_kit.LoadedModel(model, Preprocess(...)) and name it as "
            f"file.py:factory"
        )
    return preprocess


def _described(processor: Any) -> Preprocess:
    """Return sizes, resampling and normalisation that a processor states."""
    said = processor.to_dict()
    resize, crop = _sizes(said)
    mean, std = said.get("image_mean"), said.get("image_std")
    if not said.get("do_normalize") or mean is None or std is None:
        mean, std = (0.0,) * 3, (1.0,) * 3
    # Values are multiplied by a factor, usually 1/255, before they are normalised.
    factor = 255 * said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 255.0
    return Preprocess(
        resize=resize,
        crop=crop,
        mean=tuple(value / factor for value in mean),
        std=tuple(value / factor for value in std),
        interpolation=geometry._interpolation_modes_from_int(int(said.get("resample") or 2)).value,
    )


def _sizes(said: Mapping[str, Any]) -> tuple[int | tuple[int, int] | None, int | tuple[int, int] | None]:
    """Return what is resized to, and what is cut out of the middle."""
    size, crop = (_edges(said.get(name)) for name in ("size", "crop_size"))
    if not said.get("do_center_crop"):
        crop = None
    if not said.get("do_resize", True):
        return None, crop
    pct = said.get("crop_pct")
    if isinstance(size, int) and pct and crop is None:  # of ConvNeXt
        return (int(size / pct), (size, size)) if size < 384 else ((size, size), None)
    return size, crop


def _edges(size: Any) -> int | tuple[int, int] | None:
    """Return the shorter side as a number, or height and width as a pair."""
    if not isinstance(size, Mapping):
        return size if size is None else (int(size), int(size))
    if size.get("shortest_edge"):
        return int(size["shortest_edge"])
    return (int(size["height"]), int(size["width"])) if size.get("height") else None
