"""Options that describe a model with its data, the same for all commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import click

from ..errors import InputError
from .concepts import FORMS

__all__ = [
    "atlas_study_options",
    "atlas_study_options_without_concept",
    "study_options",
    "study_options_without_concept",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Option: TypeAlias = Callable[[Any], Any]

_FACTORY = """\b
  import crp_kit as crp
  def make():
      model = MyNet()  # with its weights
      preprocess = crp.Preprocess(resize=256, crop=224)
      classes = ("cat", "dog")
      return crp.LoadedModel(model, preprocess, classes)"""
"""A file of a model of one's own, as the help shows it."""
_MODEL_HELP = (
    "demo:resnet, torchvision:NAME, timm:NAME, hf:NAME (Hugging Face, or a folder), package.module:factory or "
    f"file.py:factory. Such a file is, for example:\n\n{_FACTORY}"
)
_MODEL = click.option("--model", required=True, metavar="SPEC", help=_MODEL_HELP)
_WEIGHTS = click.option(
    "--weights",
    metavar="WEIGHTS",
    help="DEFAULT (published, downloaded once), a torchvision weights name such as IMAGENET1K_V1, a state-dict file "
    "(.pt, .pth, .safetensors), or none (untrained).",
)
_CLASSES = click.option(
    "--classes",
    metavar="FILE|imagenet",
    help="Names of the model's classes: a file with one in each line or a JSON list, or ImageNet's.",
)
_SIZE = click.option(
    "--size",
    callback=lambda _, option, text: _sizes(option.name, text, "224 or 480x640", most=3),
    metavar="HEIGHT[xWIDTH]",
    help="Size of the model's input, if not the one that it was made for: images are resized so that the shorter side "
    "has this length, and cut to a square, or are brought to height and width; TIME of a signal, DEPTHxHEIGHTxWIDTH "
    "of a volume.",
)
_CROP = click.option(
    "--crop",
    callback=lambda _, option, text: _sizes(option.name, text, "224 or 200x300", most=2),
    metavar="HEIGHT[xWIDTH]",
    help="What is cut out of the middle of an image of --size, if less than all of it.",
)
_MEAN = click.option(
    "--mean",
    callback=lambda _, option, text: _values(option.name, text),
    metavar="NUMBERS",
    help="Subtracted from values in [0, 1], a number for each channel or one for all: 0.485,0.456,0.406.",
)
_STD = click.option(
    "--std",
    callback=lambda _, option, text: _values(option.name, text),
    metavar="NUMBERS",
    help="What values are divided by after that, the same: 0.229,0.224,0.225.",
)
_CHANNELS = click.option(
    "--channels",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of the model's input, such as 1 for grey; without --mean and --std the values then stay in [0, 1].",
)
_DATA = click.option(
    "--data",
    metavar="SPEC",
    help="imagefolder:DIR, torchvision:NAME:ROOT, npyfolder:DIR, demo:shapes, package.module:factory or "
    "file.py:factory.",
)
_DEVICE = click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="DEVICE",
    help="Where it is computed: cpu, cuda, cuda:1, mps, …",
)
_COMPOSITE = click.option(
    "--composite",
    default="epsilon_plus_flat",
    show_default=True,
    metavar="NAME",
    help="Rules: a preset of zennit, attnlrp, or gradient.",
)
_BATCH_NORM = click.option(
    "--batch-norm",
    type=click.Choice(["affine", "pass", "epsilon", "threshold"]),
    default="affine",
    show_default=True,
    help="What is done at a BatchNorm that belongs to no convolution or linear layer, as in DenseNet.",
)
_ELEMENTWISE = click.option(
    "--elementwise",
    multiple=True,
    metavar="MODULE",
    help="An activation that the model spells out: a module's name or type, such as NewGELU, or a pattern. Repeatable.",
)
_CLASS_AXIS = click.option(
    "--class-axis",
    type=int,
    metavar="AXIS",
    help="The axis of the model's output that enumerates classes, counted with the batch axis: 1, 2, … or -1. Needed "
    "where it is not known, as in (batch, box, class).",
)
_PART = click.option(
    "--model-output",
    metavar="PART",
    help="Which part of the model's output counts, if that is not one tensor: a key such as logits, or an index.",
)
_BIASES = click.option(
    "--biases",
    type=click.Choice(["absorb", "distribute"]),
    default="absorb",
    show_default=True,
    help="Whether the share of relevance that a layer's bias contributes is lost to it, or handed on to the inputs.",
)
_FEATURE_AXIS = click.option(
    "--feature-axis",
    callback=lambda _, __, text: _axis(text),
    metavar="AXIS",
    help="The axis of the model's input that holds its channels, counted with the batch axis, over which a heatmap is "
    "the sum; none leaves them apart. By default what the model's first layers say.",
)
_CONCEPT = click.option(
    "--concept",
    "concept_specs",
    multiple=True,
    metavar="[LAYER=]WHAT",
    help=f"What a concept is: {FORMS}, for all layers or for one. Repeatable.  [default: channels]",
)


def _axis(text: str | None) -> int | str | None:
    """Return the axis that a text means."""
    if text is None or text == "none":
        return text
    if not re.fullmatch(r"-?\d+", text):
        raise InputError(f"--feature-axis is a number such as 1 or -1, or none; got {text!r}")
    return int(text)


def _sizes(name: str, text: str | None, example: str, *, most: int) -> tuple[int, ...] | None:
    """Return the lengths that a text means."""
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text) or text.count("x") >= most:
        raise InputError(f"--{name} is written like {example}; got {text!r}")
    return tuple(int(part) for part in text.split("x"))


def _values(name: str, text: str | None) -> tuple[float, ...] | None:
    """Return the numbers that a text means."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--{name} is written like 0.485,0.456,0.406; got {text!r}") from error


def study_options(command: _Command) -> _Command:
    """Add the options that make a study, the same for all commands."""
    return _with_options(command, _MODEL, _CONCEPT)


def study_options_without_concept(command: _Command) -> _Command:
    """Add the same options to a command whose own ``--concept`` has ids as well."""
    return _with_options(command, _MODEL)


def atlas_study_options(command: _Command) -> _Command:
    """Add the options that make a study to a command on an atlas, which knows what is not said."""
    return _with_options(command, _model_of_atlas(), _CONCEPT)


def atlas_study_options_without_concept(command: _Command) -> _Command:
    """Add the same options to a command on an atlas whose own ``--concept`` has ids as well."""
    return _with_options(command, _model_of_atlas())


def _model_of_atlas() -> _Option:
    text = f"By default what the atlas was made with, as for all of these. {_MODEL_HELP}"
    return click.option("--model", metavar="SPEC", help=text)


def _with_options(command: _Command, model: _Option, *further: _Option) -> _Command:
    described = (model, _WEIGHTS, _CLASSES, _SIZE, _CROP, _MEAN, _STD, _CHANNELS, _DATA, _PART)
    rules = (_COMPOSITE, _BIASES, _BATCH_NORM, _ELEMENTWISE, _CLASS_AXIS, _FEATURE_AXIS, *further, _DEVICE)
    for option in reversed((*described, *rules)):
        command = option(command)
    return command
