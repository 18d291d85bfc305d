"""Options that several commands share, and the model that they mean."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..class_names import class_number
from ..errors import InputError, ModelError
from .concepts import FORMS, chosen_concepts
from .group import say

if TYPE_CHECKING:
    import torch

    from ..conditions import OutputSelector
    from ..models.load import LoadedModel
    from ..study import Study

__all__ = [
    "class_map_option",
    "class_named",
    "module_types",
    "numbers",
    "overwrite_option",
    "sample_of",
    "selector_of",
    "size_option",
    "study_of",
    "study_options",
    "study_options_without_concept",
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
_DATA = click.option(
    "--data",
    metavar="SPEC",
    help="imagefolder:DIR, torchvision:NAME:ROOT, npyfolder:DIR, demo:shapes, package.module:factory or "
    "file.py:factory.",
)
_DEVICE = click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps, …")
_COMPOSITE = click.option(
    "--composite",
    default="epsilon_plus_flat",
    show_default=True,
    help="Rules: a preset of zennit, attnlrp, or gradient.",
)
_BATCH_NORM = click.option(
    "--batch-norm",
    type=click.Choice(["affine", "pass", "epsilon", "threshold"]),
    default="affine",
    show_default=True,
    help="What is done at a BatchNorm that belongs to no convolution or linear layer, as in DenseNet.",
)
size_option = click.option(
    "--size",
    metavar="HEIGHT[xWIDTH]",
    help="Size of the input image, if not the one that the model was made for; TIME of a signal, DEPTHxHEIGHTxWIDTH of "
    "a volume.",
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
    "concepts",
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


_MAKING = (
    _MODEL,
    _WEIGHTS,
    _DATA,
    _PART,
    _COMPOSITE,
    _BIASES,
    _BATCH_NORM,
    _ELEMENTWISE,
    _CLASS_AXIS,
    _FEATURE_AXIS,
    _CONCEPT,
    _DEVICE,
)


def study_options(command: _Command) -> _Command:
    """Add the options that make a study, the same for all commands."""
    for option in reversed(_MAKING):
        command = option(command)
    return command


def study_options_without_concept(command: _Command) -> _Command:
    """Add the options that make a study to a command whose own ``--concept`` has ids as well."""
    for option in reversed([option for option in _MAKING if option is not _CONCEPT]):
        command = option(command)
    return command


class_map_option = click.option(
    "--class-map",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The model's classes, by number or name, for the folders of the data: CSV (folder,class) or JSON.",
)


def study_of(options: Mapping[str, Any], *, needs_data: bool = False, needs_weights: bool = True) -> Study:
    """Return the study that `study_options` describe.

    Raises
    ------
    InputError
        If the model would be untrained by mistake, data is needed and not named, or there is no such device.
    """
    from ..atlas import Origin
    from ..attribution.cond_attribution import CondAttribution
    from ..data.sources import load_dataset
    from ..study import Study

    model, weights, data = (options[name] for name in ("model", "weights", "data"))
    if needs_data and data is None:
        raise InputError("this command needs the dataset: say --data, such as imagefolder:DIR")
    if needs_weights and weights is None and model.startswith(("torchvision:", "timm:")):
        raise InputError(f"{model} without weights is untrained: say --weights DEFAULT, a state-dict file, or none")
    loaded = _loaded_on(options["device"], model, weights)
    types = module_types(loaded.model)
    attribution = CondAttribution(
        loaded.model,
        _part(options.get("model_output"), loaded),
        elementwise=[types.get(name, name) for name in options["elementwise"]],
        **{name: options[name] for name in ("batch_norm", "class_axis", "feature_axis", "biases")},
    )
    return Study(
        attribution,
        None if data is None else load_dataset(data, loaded.preprocess, options.get("class_map")),
        composite=options["composite"],
        preprocess=loaded.preprocess,
        concepts=chosen_concepts(options.get("concepts", ())),
        classes=loaded.classes,
        origin=Origin(" ".join(filter(None, [model, weights])), data, " ".join(sys.argv), loaded.classes),
    )


def _loaded_on(device: str, model: str, weights: str | None) -> LoadedModel:
    """Return the model that the options name, on a device."""
    import torch

    from ..models.load import load_model

    loaded = load_model(model, weights)
    try:
        where = torch.device(device)
        if where.type == "meta":
            raise InputError("device 'meta' keeps shapes and no values; give cpu, cuda, …")
        loaded.model.to(where)
    except InputError:
        raise
    except Exception as error:  # a backend that is not there fails in any way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used: {reason}") from error
    return loaded


def _part(text: str | None, loaded: LoadedModel) -> OutputSelector:
    """Return which part of a model's output counts, as ``--model-output`` or the model says."""
    if text is None:
        return selector_of(loaded)
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def selector_of(loaded: LoadedModel) -> OutputSelector:
    """Return which part of a model's output counts; a function that fails says so."""
    from ..models import DetectionOutput

    select = loaded.output
    if not callable(select) or isinstance(select, DetectionOutput):
        return select

    def selected(output: Any) -> torch.Tensor:
        try:
            return select(output)
        except Exception as error:
            raise ModelError(
                f"the function that LoadedModel has as output failed on the model's output ({type(output).__name__}): "
                f"{type(error).__name__}: {error}"
            ) from error

    return selected


def class_named(text: str, names: Sequence[str]) -> int | str:
    """Return what ``--class`` means: a class of this name, as everywhere else, and only then a number.

    Raises
    ------
    InputError
        If it is neither.
    """
    if text in names:
        if text.isdecimal() and names.index(text) != int(text):
            say(f"--class {text} is the class of this name, number {names.index(text)}")
        return text
    if text.isdecimal():
        return int(text)
    return class_number(text, names)


def sample_of(study: Study, size: str | None) -> torch.Tensor:
    """Return an image of zeros for a model, (1, channel, height, width), of its own size or another.

    Raises
    ------
    InputError
        If the size is none.
    """
    from ..data.preprocess import Preprocess

    preprocess = study.subject.preprocess
    assert isinstance(preprocess, Preprocess)
    if size is None:
        return preprocess.zeros()
    axes = preprocess.axes
    example = {1: "1000", 2: "224 or 480x640", 3: "16x224x224"}[axes]
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", size) or size.count("x") not in ({0, 1} if axes == 2 else {axes - 1}):
        raise InputError(f"--size is written like {example}; got {size!r}")
    sizes = [int(one) for one in size.split("x")]
    return preprocess.zeros(tuple(sizes * 2 if (axes, len(sizes)) == (2, 1) else sizes))


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


def module_types(model: torch.nn.Module) -> dict[str, type[torch.nn.Module]]:
    """Return the classes of a model's modules by name, base classes such as Conv2d included."""
    from torch.nn import Module

    own = {type(module).__name__: type(module) for module in model.modules()}
    bases = (base for kind in own.values() for base in kind.__mro__[1:])
    return {**{base.__name__: base for base in bases if issubclass(base, Module) and base is not Module}, **own}
