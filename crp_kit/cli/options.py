"""Options that several commands share, and the model that they mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import InputError, ModelError
from .group import say

if TYPE_CHECKING:
    import torch

    from ..attribution.cond_attribution import CondAttribution
    from ..conditions import OutputSelector
    from ..models.load import LoadedModel
    from ..rules.presets import Biases, Composite

__all__ = [
    "MADE_WITH",
    "attribution_of",
    "class_named",
    "class_number",
    "composite_of",
    "data_option",
    "device_option",
    "drawable",
    "loaded_on",
    "model_options",
    "module_types",
    "numbers",
    "overwrite_option",
    "rule_options",
    "sample_of",
    "selector_of",
    "size_option",
]

MADE_WITH = ("batch_norm", "elementwise", "class_axis", "feature_axis")
"""Options that an attribution is made with."""
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
    help="imagefolder:DIR, torchvision:NAME:ROOT, npyfolder:DIR, demo:shapes, package.module:factory or "
    "file.py:factory.",
)
device_option = click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps, …")
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


def _axis(text: str | None) -> int | str | None:
    """Return the axis that a text means."""
    if text is None or text == "none":
        return text
    if not re.fullmatch(r"-?\d+", text):
        raise InputError(f"--feature-axis is a number such as 1 or -1, or none; got {text!r}")
    return int(text)


def model_options(command: _Command) -> _Command:
    """Add ``--model`` and ``--weights`` to a command."""
    return _MODEL(_WEIGHTS(command))


def rule_options(command: _Command) -> _Command:
    """Add ``--composite``, ``--biases``, and what an attribution is made with, to a command."""
    return _COMPOSITE(_BIASES(_BATCH_NORM(_ELEMENTWISE(_CLASS_AXIS(_FEATURE_AXIS(command))))))


def loaded_on(device: str, model: str, weights: str | None) -> LoadedModel:
    """Return the model that the options name, on a device.

    Raises
    ------
    InputError
        If it would be untrained by mistake, or there is no such device.
    """
    import torch

    from ..models.load import load_model

    if weights is None and model.startswith(("torchvision:", "timm:")):
        raise InputError(f"{model} without weights is untrained: say --weights DEFAULT, a state-dict file, or none")
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


def selector_of(loaded: LoadedModel) -> OutputSelector:
    """Return which part of a model's output counts; a function that fails says so."""
    select = loaded.output
    if not callable(select):
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


def drawable(loaded: LoadedModel, view: torch.Tensor) -> torch.Tensor | None:
    """Return what the model sees of an image as a picture, values in [0, 1] (channel, height, width); None for others.

    Arrays of other values are stretched over [0, 1], and of other channels the mean is shown.
    """
    import torch

    from ..views.image import stretched

    if loaded.preprocess.axes != 2:
        return None
    view = view if len(view) in (1, 3) else view.mean(0, keepdim=True)
    inside = float(view.min()) >= 0 and float(view.max()) <= 1
    return view if inside else torch.from_numpy(stretched(view))


def attribution_of(loaded: LoadedModel, options: Mapping[str, Any]) -> CondAttribution:
    """Return the attribution of a model, with what `rule_options` say of it."""
    from ..attribution.cond_attribution import CondAttribution

    types = module_types(loaded.model)
    declared = [types.get(one, one) for one in options["elementwise"]]
    settings = {name: options[name] for name in MADE_WITH if name != "elementwise"}
    return CondAttribution(loaded.model, selector_of(loaded), elementwise=declared, **settings)


def composite_of(loaded: LoadedModel, name: str, device: str = "cpu", *, biases: Biases) -> Composite | None:
    """Return the composite of ``--composite`` and ``--biases``, with the range that the model's inputs have."""
    from ..rules.presets import preset

    low, high = (one.to(device) for one in (loaded.preprocess.low, loaded.preprocess.high))
    return preset(name, low=low, high=high, biases=biases)


def class_named(text: str, names: Sequence[str] | None) -> int | str:
    """Return what ``--class`` means: a class of this name, as everywhere else, and only then a number.

    Raises
    ------
    InputError
        If it is neither.
    """
    if names is not None and text in names:
        if text.isdecimal() and names.index(text) != int(text):
            say(f"--class {text} is the class of this name, number {names.index(text)}")
        return text
    if text.isdecimal():
        return int(text)
    known = f"; the first ones are {', '.join(names[:5])}" if names else ": give a number"
    raise InputError(f"no class is named {text!r}{known}")


def class_number(text: str, names: Sequence[str] | None) -> int:
    """Return the number of the class that ``--class`` means.

    Raises
    ------
    InputError
        If there is none, or more than one of this name.
    """
    cls = class_named(text, names)
    if isinstance(cls, int):
        return cls
    named = [number for number, name in enumerate(names or ()) if name == cls]
    if len(named) > 1:
        raise InputError(f"several classes are named {cls!r}: give a number, {' or '.join(map(str, named))}")
    return named[0]


def sample_of(loaded: LoadedModel, size: str | None) -> torch.Tensor:
    """Return an input for a model, of its own size or another.

    Raises
    ------
    InputError
        If the size is none.
    """
    sample = loaded.sample()
    if size is None:
        return sample
    axes = loaded.preprocess.axes
    example = {1: "1000", 2: "224 or 480x640", 3: "16x224x224"}[axes]
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", size) or size.count("x") not in ({0, 1} if axes == 2 else {axes - 1}):
        raise InputError(f"--size is written like {example}; got {size!r}")
    sizes = [int(one) for one in size.split("x")]
    return sample.new_zeros((*sample.shape[:2], *(sizes * 2 if (axes, len(sizes)) == (2, 1) else sizes)))


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
