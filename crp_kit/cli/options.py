"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["model_options", "overwrite_option"]

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


def model_options(command: _Command) -> _Command:
    """Add ``--model`` and ``--weights`` to a command."""
    return _MODEL(_WEIGHTS(command))
