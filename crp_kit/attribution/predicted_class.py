"""Class scores and predicted classes of a model's output."""

from __future__ import annotations

import torch

from ..errors import ConditionError
from ..propagation.run import Run

__all__ = ["class_scores", "predicted_class", "predicted_classes"]


def class_scores(output: torch.Tensor, axis: int = 1) -> torch.Tensor:
    """Return one score for each class, (sample, class): the sum over positions, if an output has several."""
    return output.movedim(axis, 1).flatten(2).sum(2) if output.ndim > 2 else output


def predicted_classes(output: torch.Tensor, axis: int = 1) -> torch.Tensor:
    """Return the class with the highest score, (sample,), the first of equals."""
    return class_scores(output, axis).argmax(1)


def predicted_class(run: Run, *, otherwise: str) -> int:
    """Return the class that the model predicts for the first sample of a run.

    Raises
    ------
    ConditionError
        If the output is not one number for each class; `otherwise` says how to name what to explain.
    """
    output = run.recording.value(run.graph.output)
    if output.ndim != 2:
        raise ConditionError(
            f"the model's output of shape {tuple(output.shape)} is not one number for each class: {otherwise}"
        )
    return int(predicted_classes(output[:1])[0])
