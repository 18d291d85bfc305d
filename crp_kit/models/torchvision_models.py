"""Models of torchvision, with preprocessing and class names from the metadata of their weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ..data.preprocess import Preprocess
from ..errors import InputError, ModelError
from ..factory_spec import suggestion
from .downloads import downloaded
from .loaded import LoadedModel
from .state_dict import is_state_file

__all__ = ["imagenet_classes", "torchvision_model"]

_AS_IT_IS = Preprocess(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3)
"""For detectors, which scale and normalise images themselves."""


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1000 classes of ILSVRC 2012, as torchvision's weights list them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def check_torchvision_name(name: str) -> None:
    """Make sure that torchvision has a model of a name."""
    from torchvision import models

    known = models.list_models()
    if name not in known:
        hint = suggestion(name, known, "torchvision.models.list_models() lists them")
        raise InputError(f"torchvision has no model named {name!r}; {hint}")


def torchvision_model(name: str, weights: str | None) -> LoadedModel:
    """Return a model of torchvision.

    A state-dict file that bears the name of published weights counts as these: their name ends in their hash.

    Raises
    ------
    InputError
        If there is no such model, or it has no such weights.
    ModelError
        If it is no model from one image to one tensor, or weights cannot be fetched.
    """
    from torchvision import models

    check_torchvision_name(name)
    builder = models.get_model_builder(name)
    family = builder.__module__.removeprefix("torchvision.models.").split(".")[0]
    if family in ("optical_flow", "video", "quantization"):
        raise ModelError(
            f"torchvision:{name} is a model for {family.replace('_', ' ')}: it does not map one image to one tensor. "
            f"Write a factory that wraps it and name it as file.py:factory"
        )
    output = "out" if family == "segmentation" else None
    if weights is None or weights == "none" or is_state_file(weights):
        published = None if weights is None else _published_as(name, Path(weights).name)
        if published is not None:
            return _described(_untrained(builder), published, output)
        resize, crop = (520, None) if output else (256, 224)
        preprocess = _AS_IT_IS if family == "detection" else Preprocess(resize=resize, crop=crop)
        return LoadedModel(_untrained(builder), preprocess, output=output)
    entry = _weights_entry(name, weights)
    return _described(downloaded(lambda: builder(weights=entry), name, weights, entry.url), entry, output)


def _described(model: nn.Module, entry: Any, output: str | None) -> LoadedModel:
    """Return a model with what the metadata of weights say."""
    classes = entry.meta.get("categories")
    return LoadedModel(model, _preprocess(entry), tuple(classes) if classes else None, output)


def _untrained(builder: Callable[..., nn.Module]) -> nn.Module:
    options: dict[str, Any] = {"weights": None}
    parameters = inspect.signature(builder).parameters
    if "weights_backbone" in parameters:
        options["weights_backbone"] = None  # which torchvision would download otherwise
    if builder.__name__ in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # whose default warns, and takes half a minute
    return builder(**options)


def _published_as(name: str, file: str) -> Any:
    """Return the published weights of a model that are downloaded under a name of a file, if there are any."""
    from torchvision import models

    entries = (entry for entry in models.get_model_weights(name) if entry.url.rpartition("/")[2] == file)
    return next(entries, None)


def _weights_entry(name: str, weights: str) -> Any:
    from torchvision import models

    entries = models.get_model_weights(name)
    known = ["DEFAULT", *entries.__members__]
    wanted = weights.rpartition(".")[2]
    if wanted not in entries.__members__:
        hint = "there are " + ", ".join(dict.fromkeys(known))
        raise InputError(
            f"torchvision:{name} has no weights {weights!r}; {hint}, none or a state-dict file (.pt, .pth)"
        )
    return entries[wanted]


def _preprocess(entry: Any) -> Preprocess:
    preset = entry.transforms()
    if not hasattr(preset, "mean"):  # a detector's
        return _AS_IT_IS
    crop = getattr(preset, "crop_size", None)
    return Preprocess(
        resize=preset.resize_size[0],
        crop=crop[0] if crop else None,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )
