"""Measures of a model's output: the score of each sample's class, or the number behind a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

import numpy as np
import numpy.typing as npt
import torch

from ..attribution.axes import class_axis, known_class_axis
from ..attribution.layer_relevance import Choice
from ..attribution.predicted_class import class_scores, predicted_classes
from ..attribution.subject import Subject
from ..data.batches import Batch
from ..errors import InputError
from ..numerics import working
from ..propagation.run import Run
from ..targets import Target, parse_target

__all__ = ["Measure", "Output", "Start", "check_output", "check_word", "measure_of", "start_of"]

Output = Literal["logit", "probability"]
Start = Literal["prediction", "label"]
Floats = npt.NDArray[np.float64]


class Measure(Protocol):
    """What relevance of each sample starts from, and the number that it explains."""

    @property
    def starts(self) -> list[Choice]:
        """By sample: one class or target."""

    def __call__(self, outputs: torch.Tensor, output: Output) -> Floats:
        """Return the number of each sample, (sample, row), of outputs (row, sample, ...)."""


def check_word(name: str, value: object, words: Sequence[str]) -> None:
    """Raise an `InputError` unless a setting is one of some words."""
    if value not in words:
        raise InputError(f"{name} is {', '.join(map(repr, words))}; got {value!r}")


def check_output(output: object, target: Start | Target) -> None:
    """Raise an `InputError` unless it is known what is measured; a target says itself what that is."""
    check_word("output", output, ("logit",) if isinstance(target, Target) else get_args(Output))


def start_of(subject: Subject, target: str | Target) -> Start | Target:
    """Return what is measured: a word, or a target with its classes by number, also one that is given as text.

    Raises
    ------
    InputError
        If it is neither.
    """
    if isinstance(target, str) and ":" in target:
        target = parse_target(target)
    if isinstance(target, Target):
        return target.numbered(subject.class_number)
    check_word("target", target, get_args(Start))
    return cast(Start, target)


def measure_of(run: Run, batch: Batch, target: Start | Target) -> Measure:
    """Return what is measured of the samples of a batch, from their recorded forward.

    Raises
    ------
    InputError
        If a sample has no label, and labels are asked for.
    """
    if isinstance(target, Target):
        return _TargetMeasure(run, target)
    return _ClassMeasure(_classes(run, batch, target), class_axis(run))


def _classes(run: Run, batch: Batch, target: Start) -> torch.Tensor:
    output = run.recording.value(run.graph.output)
    if target == "prediction":
        return predicted_classes(output, class_axis(run))
    for number, label in zip(batch.samples, batch.labels, strict=True):
        if not label:
            raise InputError(f"sample {number} has no label: evaluate with target='prediction'")
    return torch.tensor([label[0] for label in batch.labels if label], device=output.device)


@dataclass(frozen=True, eq=False)
class _ClassMeasure:
    """Logit or probability of a class of each sample, (sample,)."""

    classes: torch.Tensor
    axis: int

    @property
    def starts(self) -> list[Choice]:
        return list(self.classes.tolist())

    def __call__(self, outputs: torch.Tensor, output: Output) -> Floats:
        values = []
        for row in outputs:
            scores = class_scores(row.double(), self.axis)
            scores = scores.softmax(1) if output == "probability" else scores
            values.append(scores.gather(1, self.classes.to(scores.device)[:, None]))
        measured: Floats = torch.cat(values, 1).cpu().numpy()
        return measured


class _TargetMeasure:
    """What a target explains, chosen at the outputs of an unchanged forward."""

    def __init__(self, run: Run, target: Target) -> None:
        self._target, axis = target, known_class_axis(run)
        self._axis = None if axis is None else axis - 1
        self._reference = working(run.recording.value(run.graph.output)).detach()

    @property
    def starts(self) -> list[Choice]:
        return [self._target] * len(self._reference)

    def __call__(self, outputs: torch.Tensor, output: Output) -> Floats:
        measured = [
            [
                float(self._target.measured(row, class_axis=self._axis, reference=reference))
                for row in outputs[:, number].to(reference)
            ]
            for number, reference in enumerate(self._reference)
        ]
        return np.array(measured, np.float64)
