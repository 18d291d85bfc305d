"""Facts of samples beside scores: the label, the prediction, the most probable classes, and how many classes count."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ...attribution.axes import class_axis, known_class_axis
from ...attribution.predicted_class import class_scores, predicted_classes
from ...data.labels import LabelIds, LabelMask
from ...errors import InputError
from ...propagation.run import Run
from ...targets import Target
from ...targets.boxes import FIRST_CLASS, NO_CLASS
from ..file.header import Floats, Integers
from ..file.sample_arrays import SAMPLE_RANKS
from ..statistics.scores import SampleFacts
from .target_policy import TargetRule

__all__ = ["class_count", "sample_facts"]


def class_count(run: Run, target: str | Target | TargetRule) -> int:
    """Return under how many classes samples can count.

    Raises
    ------
    ConceptAxisError
        If relevance is to start from classes, and their axis is not known.
    InputError
        If a network with more than one logit is to be one of two classes.
    """
    shape = run.graph.shape(run.graph.output)
    if isinstance(target, str) and target.partition(":")[0] == "binary":
        if math.prod(shape[1:]) != 1:
            raise InputError(f"target {target!r} is for networks with one logit; the output is {tuple(shape)}")
        return 2
    if run.detections:
        return int(shape[2]) - FIRST_CLASS
    axis = known_class_axis(run)
    if axis is None and isinstance(target, Target):
        return (target.class_number or 0) + 1
    return int(shape[class_axis(run) if axis is None else axis])


def sample_facts(run: Run, output: torch.Tensor, labels: Sequence[LabelIds], classes: int) -> SampleFacts:
    """Return what is known of samples.

    A label that is no class of the model is none; of a mask it is the class of the largest area. Probabilities and
    logsumexp come from the mean over positions, where an output has several: its class of the highest sum is the most
    probable one too. Probabilities of a detector are the scores of the best box of each class, over their sum where
    that is above 1.

    Parameters
    ----------
    run : Run
    output : torch.Tensor
        (sample, class, ...); as it is where the axis of the classes is not known.
    labels : sequence of tuple of int or None
    classes : int
        From `class_count`.
    """
    label = np.array([_label(ids, classes) for ids in labels], "i8")
    of_classes = known_class_axis(run) is not None and output.shape[1] == classes
    return SampleFacts(label, *(_of_classes(output) if of_classes else _of_others(run, output, classes)))


def _of_classes(output: torch.Tensor) -> tuple[Integers, Integers, Floats, Floats]:
    """Return predictions, most probable classes, their probabilities and logsumexp of outputs (sample, class, ...)."""
    scores, positions = class_scores(output), math.prod(output.shape[2:])
    logits = scores / positions
    probability = logits.softmax(1)
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, : min(SAMPLE_RANKS, scores.shape[1])]
    return (
        predicted_classes(output).cpu().numpy(),
        order.to(torch.int32).cpu().numpy(),
        probability.gather(1, order).float().cpu().numpy(),
        logits.logsumexp(1).float().cpu().numpy(),
    )


def _of_others(run: Run, output: torch.Tensor, classes: int) -> tuple[Integers, Integers, Floats, Floats]:
    """Return the same of detections and of one logit for two classes, without logsumexp; nothing without classes."""
    if run.detections:
        probability = _best_scores(output, classes)
    elif classes == 2 and output[0].numel() == 1:
        positive = output.flatten(1).sigmoid()
        probability = torch.cat([1 - positive, positive], 1)
    else:
        probability = output.new_zeros(len(output), classes)
    order = probability.sort(dim=1, descending=True, stable=True).indices[:, : min(SAMPLE_RANKS, classes)]
    best, none = probability.gather(1, order).float(), ~probability.any(1, keepdim=True)
    order = order.masked_fill(none, -1)
    return (
        order[:, 0].cpu().numpy(),
        order.to(torch.int32).cpu().numpy(),
        best.masked_fill(none, torch.nan).cpu().numpy(),
        np.full(len(order), np.nan, "f4"),
    )


def _label(ids: LabelIds, classes: int) -> int:
    """Return the first class of a label."""
    if isinstance(ids, LabelMask):
        return next((cls for cls in ids if cls < classes), -1)
    return ids[0] if ids and ids[0] < classes else -1


def _best_scores(output: torch.Tensor, classes: int) -> torch.Tensor:
    """Return the score of the best box of each class, as a share, (sample, class); 0 for none."""
    labels, scores = output[:, :, FIRST_CLASS - 2].long(), output[:, :, FIRST_CLASS - 1]
    scores = torch.where(labels == NO_CLASS, 0, scores)
    best = output.new_zeros(len(output), classes).scatter_reduce(1, labels.clamp_min(0), scores, "amax")
    return best / best.sum(1, keepdim=True).clamp_min(1)
