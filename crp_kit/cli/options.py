"""Options that several commands share, and the model that they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import InputError

if TYPE_CHECKING:
    from ..models import LoadedModel

__all__ = [
    "composite_option",
    "data_option",
    "device_option",
    "loaded_on",
    "model_options",
    "numbers",
    "overwrite_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_MODEL = click.option(
    "--model",
    required=True,
    metavar="SPEC",
    help="demo:resnet, torchvision:NAME, timm:NAME, package.module:factory or file.py:factory.",
)
_WEIGHTS = click.option(
    "--weights",
    metavar="WEIGHTS",
    help="DEFAULT (published, downloaded once), a torchvision weights name such as IMAGENET1K_V1, a state-dict file "
    "(.pt, .pth, .safetensors), or none (untrained).",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace files that exist.")
data_option = click.option(
    "--data",
    required=True,
    metavar="SPEC",
    help="imagefolder:DIR, torchvision:NAME:ROOT, demo:shapes, package.module:factory or file.py:factory.",
)
device_option = click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps, …")
composite_option = click.option(
    "--composite", default="epsilon_plus_flat", show_default=True, help="Rules: a zennit composite, or gradient."
)


def model_options(command: _Command) -> _Command:
    """Add ``--model`` and ``--weights`` to a command."""
    return _MODEL(_WEIGHTS(command))


def loaded_on(device: str, model: str, weights: str | None) -> LoadedModel:
    """Return the model that the options name, on a device.

    Raises
    ------
    InputError
        If it would be untrained by mistake, or there is no such device.
    """
    import torch

    from ..models import load_model

    if weights is None and model.startswith(("torchvision:", "timm:")):
        raise InputError(f"{model} without weights is untrained: say --weights DEFAULT, a state-dict file, or none")
    loaded = load_model(model, weights)
    try:
        loaded.model.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    return loaded


def numbers(text: str) -> list[int]:
    """Return the numbers that a text such as ``0-9,20`` means.

    Raises
    ------
    InputError
        If it is none.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(f"numbers are written like 0-9,20; got {part!r} in {text!r}")
        found += range(int(first), int(last or first) + 1)
    return found
