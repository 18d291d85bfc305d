"""Forwards of one model, recorded and planned for relevance passes: the engine."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any, Literal, get_args

import torch

from ..checks import is_integer
from ..conditions import OutputSelector
from ..errors import CompositeError, ConceptAxisError, InputError, ModelError
from ..graph.elementwise import Elementwise, declarations
from ..graph.recording.inputs import Calling, Inputs, checked_calling, checked_fixed
from ..graph.recording.shadow import unwrap
from ..models.detection_output import DetectionOutput
from ..models.detectors import Detector
from ..numerics import full_float32
from ..rules.presets import Composite
from .model_cache import ModelCache
from .run import Run
from .runtime import Runtime
from .step_choice import BatchNormRule

__all__ = ["Engine", "checked_axis"]


def checked_axis(name: str, axis: Any) -> int | None:
    """Return the number of an axis behind the batch axis as a plain one.

    Raises
    ------
    ConceptAxisError
        If it is no such number.
    """
    if axis is None:
        return None
    if not is_integer(axis) or axis == 0:
        raise ConceptAxisError(
            f"{name} is the number of an axis, counted with the batch axis, which is 0: 1, 2, … or -1; got {axis!r}"
        )
    return int(axis)


def _advice(by_sample: Collection[str]) -> str:
    """Return what to do where an input was taken for one of each sample and is not."""
    return (
        f"{', '.join(by_sample)} have one entry for each of them: name the inputs that belong to all samples alike "
        f"with CondAttribution(model, fixed=({next(reversed(list(by_sample)))!r},))"
    )


def _agree(alone: torch.Tensor, beside: torch.Tensor) -> bool:
    """Return whether two outputs of one sample differ by no more than rounding."""
    if alone.shape != beside.shape:
        return False
    tolerance = math.sqrt(torch.finfo(alone.dtype).eps) * float(alone.abs().max()) if alone.numel() else 0.0
    return bool(((alone - beside).abs() <= tolerance).all() or torch.equal(alone, beside))


class Engine:
    """Records forwards of a model and runs relevance backwards through them. The model is never touched.

    Parameters
    ----------
    model : torch.nn.Module
    output : str, int or callable, optional
        Which part of the model's output is attributed.
    elementwise : module types, str, or several of them, optional
        Modules that are element-wise.
    batch_norm : str, optional
        What is done at a BatchNorm that belongs to no linear layer, see `BatchNormRule`.
    class_axis : int, optional
        The axis of the output that enumerates classes, the batch axis counted.
    feature_axis : int or "none", optional
        The axis of the first input that holds its channels or features, the batch axis counted.
    fixed : str, int, or several of them, optional
        Names or positions of inputs that belong to all samples alike.
    inputs : {"arguments", "single", "samples"}, optional
        How data becomes arguments of the forward, see `crp_kit.graph.recording.inputs.Calling`.

    Raises
    ------
    CompositeError
        If there is no such rule for BatchNorms.

    Attributes
    ----------
    runtime : Runtime
        What all forwards and passes share.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        output: OutputSelector = None,
        elementwise: Elementwise | Iterable[Elementwise] = (),
        batch_norm: BatchNormRule = "affine",
        *,
        class_axis: int | None = None,
        feature_axis: int | Literal["none"] | None = None,
        fixed: str | int | Iterable[str | int] = (),
        inputs: Calling = "arguments",
    ) -> None:
        if batch_norm not in get_args(BatchNormRule):
            raise CompositeError(f"batch_norm is one of {', '.join(get_args(BatchNormRule))}; got {batch_norm!r}")
        self.model, self.output, self.elementwise = model, output, declarations(elementwise)
        self.batch_norm, self.class_axis = batch_norm, checked_axis("class_axis", class_axis)
        self.feature_axis = feature_axis if feature_axis == "none" else checked_axis("feature_axis", feature_axis)
        self.fixed, self.inputs = checked_fixed(fixed), checked_calling(inputs)
        self._cache = ModelCache(model, output, self.elementwise, batch_norm)
        self._tried: set[Any] = set()
        self.runtime = Runtime()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle and copy what the engine was made with; what was recorded and planned is made anew."""
        return {name: getattr(self, name) for name in _MADE_WITH}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def run(self, data: Any, composite: Composite | None) -> Run:
        """Record one forward and plan the relevance pass.

        Raises
        ------
        ModelError
            If the forward fails, its output cannot be attributed, or a module that is declared element-wise is not.
        UnknownLayerError
            If there is no such module.
        """
        self._warn_of_training()
        with self.runtime.lock, torch.inference_mode(False), full_float32():
            recording, plan, rules_ran, output_with = self._cache.planned_forward(self.named(data), composite)
        for note in recording.notes:
            self.runtime.warn_once(note)
        return Run(
            recording,
            plan,
            self.runtime,
            class_axis=self.class_axis,
            feature_axis=self.feature_axis,
            detections=isinstance(self.output, DetectionOutput) or isinstance(unwrap(self.model), Detector),
            rules_ran=rules_ran,
            output_with=output_with,
        )

    def named(self, data: Any) -> Inputs:
        """Return the inputs that a user's data means."""
        return Inputs.of(data, self.fixed, self.inputs)

    def check_samples(self, inputs: Inputs, composite: Composite | None) -> None:
        """Make sure that a sample's output does not depend on the others; tried where samples are several tensors.

        Raises
        ------
        InputError
            If one sample alone gives something else than beside another.
        """
        by_sample = inputs.by_sample
        tried = tuple((name, value.shape) for name, value in by_sample.items())
        if inputs.samples < 2 or len(by_sample) < 2 or tried in self._tried:
            return
        outputs = []
        for count in (1, 2):
            try:
                run = self.run(inputs.part(slice(0, count)), composite)
            except ModelError as error:
                self.run(inputs, composite)  # what fails for all samples together is no matter of which belong to all
                raise InputError(
                    f"the forward fails for {count} of the samples; {_advice(by_sample)}: {error}"
                ) from error
            outputs.append(run.recording.value(run.graph.output))
        alone, pair = outputs
        if alone.shape[:1] == (1,) and pair.shape[:1] == (2,) and not _agree(alone[0], pair[0]):
            raise InputError(f"the output of one sample alone is not that beside another; {_advice(by_sample)}")
        self._tried.add(tried)

    def _warn_of_training(self) -> None:
        """Warn if the model is in training mode, which changes what some of its modules do."""
        model = unwrap(self.model)
        affected = sorted(
            {type(module).__name__ for module in model.modules() if module.training and _differs_in_training(module)}
        )
        if affected:
            self.runtime.warn_once(
                f"the model is in training mode; the attribution runs a copy in evaluation mode "
                f"({', '.join(affected)} differ) and leaves the model's own mode as it is"
            )


def _differs_in_training(module: torch.nn.Module) -> bool:
    return type(module).__name__.startswith(_MODES)


_MADE_WITH = ("model", "output", "elementwise", "batch_norm", "class_axis", "feature_axis", "fixed", "inputs")
"""What an engine is made with, by the names of its parameters."""
_MODES = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "BatchNorm", "SyncBatchNorm", "StochasticDepth")
"""Beginnings of the class names of modules that behave differently in training."""
