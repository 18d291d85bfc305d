"""Models of timm, with preprocessing and class names as timm describes them, offline."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..data.preprocess import Preprocess
from ..errors import InputError
from ..factory_spec import suggestion
from .downloads import downloaded
from .loaded import LoadedModel
from .state_dict import is_state_file

__all__ = ["timm_model"]


def check_timm_name(name: str) -> Any:
    """Make sure that timm has a model of a name, and return timm."""
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise InputError(f"timm:{name} needs timm, which is not installed: pip install timm") from error
    known = timm.list_models()
    if name.split(".", maxsplit=1)[0] not in known:
        hint = suggestion(name, known, "timm.list_models() lists them")
        raise InputError(f"timm has no model named {name!r}; {hint}")
    return timm


def timm_model(name: str, weights: str | None) -> LoadedModel:
    """Return a model of timm.

    Raises
    ------
    InputError
        If timm is not installed, or has no such model or weights.
    ModelError
        If weights cannot be fetched.
    """
    timm = check_timm_name(name)
    if weights is not None and weights not in ("DEFAULT", "none") and not is_state_file(weights):
        raise InputError(
            f"timm:{name} has no weights {weights!r}; there are DEFAULT, none or a state-dict file. timm names a "
            f"choice in the model's name, such as timm:resnet50.a1_in1k"
        )
    pretrained = weights == "DEFAULT"
    model = downloaded(lambda: timm.create_model(name, pretrained=pretrained), name, str(weights), "its file")
    return LoadedModel(model, _preprocess(timm.data.resolve_model_data_config(model)), _classes(timm, model))


def _preprocess(config: Mapping[str, Any]) -> Preprocess:
    """Return timm's preprocessing for evaluation."""
    _, height, width = config["input_size"]
    pct = config["crop_pct"]
    squash = config.get("crop_mode", "center") == "squash"
    return Preprocess(
        resize=(int(height / pct), int(width / pct)) if squash else int(min(height, width) / pct),
        crop=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
    )


def _classes(timm: Any, model: nn.Module) -> tuple[str, ...] | None:
    """Return the names of a model's classes: its own, or those of the part of ImageNet that its outputs are."""
    config = getattr(model, "pretrained_cfg", None)
    if not config:
        return None
    number = config.get("num_classes")
    if number != getattr(model, "num_classes", number):
        return None
    own = config.get("label_names")
    if own is not None:
        described = config.get("label_descriptions") or {}
        return tuple(str(described.get(name, name)) for name in own)
    subset = timm.data.infer_imagenet_subset(model)
    if subset is None:
        return None
    info = timm.data.ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))
