"""Models by spec, such as ``torchvision:resnet18`` or ``file.py:factory``, with their weights."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..class_names import class_label
from ..conditions import OutputSelector
from ..data.preprocess import ImageBatch, Preprocess, load_images, open_image
from ..errors import InputError, ModelError
from ..factory_spec import call_factory, suggestion
from .state_dict import is_state_file, load_state
from .weights import check_weights

__all__ = ["ImageBatch", "LoadedModel", "Preprocess", "load_images", "load_model", "open_image"]

_SCHEMES = ("demo", "torchvision", "timm")
_AS_IT_IS = Preprocess(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3)
"""For detectors, which scale and normalise images themselves."""
_DEMO_VARIANTS: dict[str, Literal["tag"] | None] = {"resnet": None, "resnet-tag": "tag"}
"""The variant of the built-in images that each demo model was trained on."""
_FORMS = "demo:resnet, torchvision:NAME, timm:NAME, package.module:factory or file.py:factory"


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with its preprocessing, class names and the part of its output that counts. A factory may return one.

    Parameters
    ----------
    model : torch.nn.Module
    preprocess : Preprocess
        ImageNet's by default.
    classes : tuple of str or None
        Name of each output, where known.
    output : str, int, callable or None
        Which part of the model's output counts, as `crp_kit.CondAttribution` takes it.
    """

    model: nn.Module
    preprocess: Preprocess = field(default_factory=Preprocess)
    classes: tuple[str, ...] | None = None
    output: OutputSelector = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise InputError(f"model is a torch.nn.Module; got {type(self.model).__name__}")
        if not isinstance(self.preprocess, Preprocess):
            raise InputError(f"preprocess is a crp_kit.models.Preprocess; got {type(self.preprocess).__name__}")
        if not (self.output is None or isinstance(self.output, (str, int)) or callable(self.output)):
            raise InputError(f"output is a key, an index, an attribute or a function; got {self.output!r:.60}")
        if self.classes is not None:
            names: Any = self.classes
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise InputError(f"classes is the name of each output, a tuple of strings; got {self.classes!r:.60}")
            object.__setattr__(self, "classes", tuple(self.classes))

    def class_name(self, index: int) -> str:
        """Return ``"207 golden retriever"``, or only the number where no name is known."""
        return class_label(index, self.classes or ())

    def sample(self) -> torch.Tensor:
        """Return an input of zeros with the shape that the model takes: (1, channel, height, width), or (1, *shape)."""
        return self.preprocess.zeros()


def load_model(spec: str, weights: str | None = None) -> LoadedModel:
    """Return the model of a spec, in evaluation mode.

    Parameters
    ----------
    spec : str
        ``demo:resnet``, or ``demo:resnet-tag``, which was trained on images with a planted fault;
        ``torchvision:NAME``, ``timm:NAME`` (timm is an extra), ``package.module:factory`` or ``file.py:factory``. A
        factory is called without arguments and returns a module or a `LoadedModel`.
    weights : str, optional
        ``DEFAULT`` (for torchvision and timm the best published ones, downloaded once), the name of one of
        torchvision's weights such as ``IMAGENET1K_V1``, a file with a state dict (``.pt``, ``.pth``, or
        ``.safetensors`` where safetensors is installed), or ``none`` for untrained. By default the demo model's own,
        what a factory sets, and none otherwise.

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
    scheme, colon, name = spec.rpartition(":")
    if not colon or not scheme or not name:
        raise InputError(f"a model is named {_FORMS}; got {spec!r}")
    if weights is not None and weights.lower() == "none":
        weights = "none"
    if scheme == "demo":
        loaded = _demo(name, weights)
    elif scheme == "torchvision":
        loaded = _torchvision(name, weights)
    elif scheme == "timm":
        loaded = _timm(name, weights)
    else:
        loaded = _from_factory(spec, weights)
    if weights is not None and is_state_file(weights):
        load_state(loaded.model, Path(weights))
    check_weights(loaded.model)
    loaded.model.eval()
    return loaded


def _demo(name: str, weights: str | None) -> LoadedModel:
    from ..data import ShapesDataset, demo_resnet
    from ..data.demo_model import _MEAN, _STD

    if name not in _DEMO_VARIANTS:
        raise InputError(f"no demo model named {name!r}; there are demo:{' and demo:'.join(_DEMO_VARIANTS)}")
    if weights is not None and weights not in ("DEFAULT", "none") and not is_state_file(weights):
        raise InputError(f"demo:{name} has no weights {weights!r}; there are DEFAULT, none or a state-dict file")
    preprocess = Preprocess(resize=64, crop=64, mean=_MEAN, std=_STD)
    model = demo_resnet(weights=weights in (None, "DEFAULT"), variant=_DEMO_VARIANTS[name])
    return LoadedModel(model, preprocess, ShapesDataset.classes)


def _torchvision(name: str, weights: str | None) -> LoadedModel:
    from torchvision import models

    known = models.list_models()
    if name not in known:
        hint = suggestion(name, known, "torchvision.models.list_models() lists them")
        raise InputError(f"torchvision has no model named {name!r}; {hint}")
    builder = models.get_model_builder(name)
    family = builder.__module__.removeprefix("torchvision.models.").split(".")[0]
    if family in ("optical_flow", "video", "quantization"):
        raise ModelError(
            f"torchvision:{name} is a model for {family.replace('_', ' ')}: it does not map one image to one tensor. "
            f"Write a factory that wraps it and name it as file.py:factory"
        )
    output = "out" if family == "segmentation" else None
    if weights is None or weights == "none" or is_state_file(weights):
        resize, crop = (520, None) if output else (256, 224)
        preprocess = _AS_IT_IS if family == "detection" else Preprocess(resize=resize, crop=crop)
        return LoadedModel(_untrained(builder), preprocess, output=output)
    entry = _weights_entry(name, weights)
    model = _fetched(lambda: builder(weights=entry), name, weights, entry.url)
    classes = entry.meta.get("categories")
    preprocess = _AS_IT_IS if family == "detection" else _torchvision_preprocess(entry)
    return LoadedModel(model, preprocess, tuple(classes) if classes else None, output)


def _untrained(builder: Callable[..., nn.Module]) -> nn.Module:
    options: dict[str, Any] = {"weights": None}
    parameters = inspect.signature(builder).parameters
    if "weights_backbone" in parameters:
        options["weights_backbone"] = None  # which torchvision would download otherwise
    if builder.__name__ in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # whose default warns, and takes half a minute
    return builder(**options)


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


def _torchvision_preprocess(entry: Any) -> Preprocess:
    preset = entry.transforms()
    crop = getattr(preset, "crop_size", None)
    return Preprocess(
        resize=preset.resize_size[0],
        crop=crop[0] if crop else None,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )


def _fetched(build: Callable[[], nn.Module], name: str, weights: str, address: str) -> nn.Module:
    """Make a model whose weights may have to be downloaded."""
    try:
        return build()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise ModelError(
            f"the weights {weights} of {name} could not be fetched ({reason}); fetch {address} by other means and give "
            f"the file as weights, or say none for an untrained model"
        ) from error


def _timm(name: str, weights: str | None) -> LoadedModel:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise InputError(f"timm:{name} needs timm, which is not installed: pip install timm") from error
    known = timm.list_models()
    if name.split(".", maxsplit=1)[0] not in known:
        hint = suggestion(name, known, "timm.list_models() lists them")
        raise InputError(f"timm has no model named {name!r}; {hint}")
    if weights is not None and weights not in ("DEFAULT", "none") and not is_state_file(weights):
        raise InputError(
            f"timm:{name} has no weights {weights!r}; there are DEFAULT, none or a state-dict file. timm names a "
            f"choice in the model's name, such as timm:resnet50.a1_in1k"
        )
    pretrained = weights == "DEFAULT"
    address = "its file"
    model = _fetched(lambda: timm.create_model(name, pretrained=pretrained), name, str(weights), address)
    config = timm.data.resolve_model_data_config(model)
    _, height, width = config["input_size"]
    preprocess = Preprocess(
        resize=int(min(height, width) / config["crop_pct"]),
        crop=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
    )
    return LoadedModel(model, preprocess)


def _from_factory(spec: str, weights: str | None) -> LoadedModel:
    if weights is not None and weights != "none" and not is_state_file(weights):
        raise InputError(f"{spec} sets its own weights; give a state-dict file or nothing as weights, not {weights!r}")
    model = call_factory(spec, forms=f"a model is named {_FORMS}", schemes=_SCHEMES)
    if isinstance(model, LoadedModel):
        return model
    if not isinstance(model, nn.Module):
        raise ModelError(f"{spec} has to return a torch.nn.Module or a LoadedModel; it returned {type(model).__name__}")
    return LoadedModel(model)
