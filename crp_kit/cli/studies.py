"""Studies that options describe."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError, ModelError
from ..study.stored_options import stored_options
from .concepts import chosen_concepts
from .group import say

if TYPE_CHECKING:
    import torch

    from ..conditions import OutputSelector
    from ..models import LoadedModel
    from ..study import Study

__all__ = ["is_untrained", "module_types", "sample_of", "selector_of", "study_of"]


def study_of(options: Mapping[str, Any], *, needs_data: bool = False, needs_weights: bool = True) -> Study:
    """Return the study that `study_options` describe.

    Raises
    ------
    InputError
        If the model would be untrained by mistake, data is needed and not named, or there is no such device.
    """
    from ..atlas import Origin
    from ..attribution.cond_attribution import CondAttribution
    from ..data.sources import load_data
    from ..models.load import check_untrained
    from ..study import Study

    model, weights, data = (options[name] for name in ("model", "weights", "data"))
    if model is None:
        raise InputError("this command needs a model: say --model, such as torchvision:resnet50")
    if needs_data and data is None:
        raise InputError("this command needs the dataset: say --data, such as imagefolder:DIR")
    if needs_weights and weights is None:
        check_untrained(model)
    loaded = _described(_loaded_on(options["device"], model, weights), options)
    if needs_weights and loaded.weights == "none":
        say(f"{model} is untrained: its weights are random, since --weights is none")
    types = module_types(loaded.model)
    attribution = CondAttribution(
        loaded.model,
        _part(options.get("model_output"), loaded),
        elementwise=[types.get(name, name) for name in options["elementwise"]],
        **{name: options[name] for name in ("batch_norm", "class_axis", "feature_axis", "biases")},
    )
    return Study(
        attribution,
        None if data is None else load_data(data, loaded.preprocess, options.get("class_map")),
        composite=options["composite"],
        preprocess=loaded.preprocess,
        concepts=chosen_concepts(options.get("concept_specs", ())),
        classes=loaded.classes,
        origin=Origin(
            " ".join(filter(None, [model, weights])), data, " ".join(sys.argv), loaded.classes, stored_options(options)
        ),
    )


def _loaded_on(device: str, model: str, weights: str | None) -> LoadedModel:
    """Return the model that the options name, on a device."""
    import torch

    from ..models import load_model

    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"no device is named {device!r}; there are cpu, cuda, cuda:1, mps, xpu") from error
    if where.type == "meta":
        raise InputError("device 'meta' keeps shapes and no values; give cpu, cuda, …")
    loaded = load_model(model, weights)
    try:
        loaded.model.to(where)
    except Exception as error:  # a backend that is not there fails in any way
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(f"device {device!r} cannot be used: {reason}; --device cpu works everywhere") from error
    return loaded


def _described(loaded: LoadedModel, options: Mapping[str, Any]) -> LoadedModel:
    """Return a model with the class names and the preprocessing that options say instead of its own."""
    from ..models.adjusted import adjusted
    from ..models.class_file import read_classes

    said = {name: options[name] for name in ("size", "crop", "mean", "std", "channels") if options[name] is not None}
    if said:
        try:
            loaded = replace(loaded, preprocess=adjusted(loaded.preprocess, **said))
        except InputError as error:  # which begins with the name of the parameter
            raise InputError(f"--{error}") from error
    return loaded if options["classes"] is None else replace(loaded, classes=read_classes(options["classes"]))


def is_untrained(study: Study) -> bool:
    """Return whether the weights of the model that options named are random, since they say none."""
    return study.origin is not None and (study.origin.model or "").lower().endswith(" none")


def sample_of(study: Study) -> torch.Tensor:
    """Return an image of zeros as the model takes it, (1, channel, height, width), or a signal or volume."""
    from ..data.preprocess import Preprocess

    preprocess = study.subject.preprocess
    assert isinstance(preprocess, Preprocess)
    return preprocess.zeros()


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


def module_types(model: torch.nn.Module) -> dict[str, type[torch.nn.Module]]:
    """Return the classes of a model's modules by name, base classes such as Conv2d included."""
    from torch.nn import Module

    own = {type(module).__name__: type(module) for module in model.modules()}
    bases = (base for kind in own.values() for base in kind.__mro__[1:])
    return {**{base.__name__: base for base in bases if issubclass(base, Module) and base is not Module}, **own}
