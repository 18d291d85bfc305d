"""Policies that give a sample one target for each class that it has: regions, masks, boxes, the sign of one logit."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...attribution.layer_relevance import Choice
from ...data.labels import LabelMask
from ...errors import ConditionError, InputError
from ...targets import Binary, Box, Region
from ...targets.boxes import FIRST_CLASS, NO_CLASS

__all__ = ["Labels", "UnlabelledError", "binary", "boxes", "masks", "regions", "signs"]

VOID = 255
"""What masks in files of bytes have where there is no class, if the output has not so many."""
Labels = Sequence[tuple[int, ...] | None]
Choices = list[tuple[Choice, ...]]


class UnlabelledError(InputError):
    """A sample without a label, where relevance was to start from the label."""

    def __init__(self, row: int, problem: str = "it has no label", *, instead: str = "prediction") -> None:
        self.row = row
        super().__init__(f"{problem}; start from target={instead!r} instead, or leave the sample out")


def regions(output: torch.Tensor, share: float) -> Choices:
    """Return each class over its own positions, where it has the highest score at more than a share of all."""
    if output.ndim < 3:
        raise ConditionError(f"regions need an output with positions, (sample, class, …); it is {tuple(output.shape)}")
    chosen: Choices = []
    for best in output.argmax(1):
        counts = torch.bincount(best.flatten(), minlength=output.shape[1])
        least = share * best.numel()
        chosen.append(tuple(Region(cls) for cls, count in enumerate(counts.tolist()) if count and count > least))
    return chosen


def masks(output: torch.Tensor, labels: Labels) -> Choices:
    """Return each class of the masks that are labels, over its positions there that the model sees too."""
    chosen: Choices = []
    for row, (scores, label) in enumerate(zip(output, labels, strict=True)):
        if not isinstance(label, LabelMask):
            raise UnlabelledError(row, "its label is no mask, whole numbers (height, width)", instead="regions")
        mask, best = label.mask.to(scores.device), scores.argmax(0)
        if mask.shape != best.shape:
            shapes = f"its mask has shape {tuple(mask.shape)}, the output {tuple(best.shape)}"
            raise UnlabelledError(row, shapes, instead="regions")
        beyond = [cls for cls in label if cls >= len(scores) and cls != VOID]
        if beyond:
            classes = f"its mask has class {beyond[0]}, and the output {len(scores)} classes, from 0"
            remark = f"where there is none, a mask has {VOID} or a negative number"
            raise UnlabelledError(row, f"{classes}: {remark}", instead="regions")
        own = [(cls, mask == cls) for cls in label if cls < len(scores)]
        chosen.append(tuple(Region(cls, where) for cls, where in own if bool((where & (best == cls)).any())))
    return chosen


def boxes(output: torch.Tensor, score: float) -> Choices:
    """Return the best box of each class that was detected with at least a score."""
    if output.ndim != 3 or output.shape[2] <= FIRST_CLASS:
        raise ConditionError(f"boxes need the output of a detector; it is {tuple(output.shape)}: see crp_kit.detector")
    chosen: Choices = []
    for rows in output:
        seen = rows[(rows[:, FIRST_CLASS - 2] != NO_CLASS) & (rows[:, FIRST_CLASS - 1] >= score)]
        chosen.append(tuple(Box(cls) for cls in sorted(set(seen[:, FIRST_CLASS - 2].long().tolist()))))
    return chosen


def binary(output: torch.Tensor, labels: Labels) -> Choices:
    """Return the class 0 or 1 of each sample's label, for a network with one logit."""
    chosen: Choices = []
    for row, label in enumerate(labels):
        if label is None or len(label) != 1 or label[0] not in (0, 1):
            raise UnlabelledError(row, f"its label is not 0 or 1, but {None if label is None else list(label)}")
        chosen.append((Binary(label[0]),))
    return chosen


def signs(output: torch.Tensor) -> Choices:
    """Return the class 0 or 1 that each sample's logit speaks for."""
    return [(Binary(int(logit)),) for logit in (output.flatten(1)[:, 0] > 0).tolist()]
