"""Targets of detection: the logit of a class at a box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ..checks import is_integer
from ..errors import ConditionError
from .base import ClassName, LocatedTarget, Names, class_scores_of, named, title_of, value_words
from .classes import check_class, check_value

__all__ = ["FIRST_CLASS", "NO_CLASS", "Box"]

FIRST_CLASS = 6
"""Columns of a detection before its logits: left, top, right, bottom, label, score."""
NO_CLASS = -1
"""Label of a row that stands for no detection."""
_SHOWN = 5


@dataclass(frozen=True)
class Box(LocatedTarget):
    """The logit of a class at one of the boxes that a detector found.

    Boxes are those that remain after suppression; relevance starts at the candidate that the box was before it.

    Parameters
    ----------
    cls : int or str
        By number, the model's own label, or by name in a study that knows names.
    rank : int, optional
        Which box of the class, by score: 0 is the best.
    iou_with : sequence of 4 numbers, optional
        Instead of `rank`: the box of the class that overlaps best with this one, (left, top, right, bottom) in pixels
        of the image.
    value : {"logit", "one"}, optional
        Start relevance: the logit itself, or 1, which does not change sign with it.

    Raises
    ------
    ConditionError
        If `rank` is no whole number from 0 on, `iou_with` no box, or both are given; later, if there is no such box.

    Notes
    -----
    The model's output has a row for each detection, (detection, 6 + class): box, label, score, logits. Torchvision's
    detectors get this form by `crp_kit.detector`, others by ``output=crp_kit.models.DetectionOutput(...)``.

    References
    ----------
    M. Dreyer et al., Revealing hidden context bias in segmentation and object detection through concept-specific
    explanations, CVPR workshops 2023.

    Examples
    --------
    >>> detections = torch.tensor([[0, 0, 9, 9, 1, 0.9, -1.0, 3.0], [4, 4, 8, 8, 1, 0.8, -2.0, 2.0]])
    >>> Box(1, rank=1).relevance(detections, class_axis=None)[:, 6:]
    tensor([[0., 0.],
            [0., 2.]])
    >>> Box(1, iou_with=(0, 0, 8, 8)).box(detections)
    (0.0, 0.0, 9.0, 9.0)
    """

    cls: ClassName
    rank: int = 0
    iou_with: Any = None
    value: Literal["logit", "one"] = "logit"

    def __post_init__(self) -> None:
        check_class(self.cls)
        check_value(self.value, ("logit", "one"))
        if not is_integer(self.rank) or self.rank < 0:
            raise ConditionError(f"rank is a whole number from 0 on, 0 for the best box; got {self.rank!r}")
        if self.iou_with is not None:
            object.__setattr__(self, "iou_with", _checked_box(self.iou_with))
            if self.rank:
                raise ConditionError(f"rank={self.rank} and iou_with both choose a box; give one of them")

    @property
    def identity(self) -> str:
        which = str(self.rank) if self.iou_with is None else ",".join(f"{side:g}" for side in self.iou_with)
        return f"box:{named(self.cls)}:{which}" + ("" if self.value == "logit" else f":{self.value}")

    def words(self, classes: Names) -> str:
        place = "" if self.iou_with is None else f" at {', '.join(f'{side:g}' for side in self.iou_with)}"
        which = "box" if place else f"box {self.rank + 1}" if self.rank else "best box"
        return f"{which} of {title_of(self.cls, classes)}{place}" + value_words(self.value, "logit")

    def relevance(self, output: torch.Tensor, *, class_axis: int | None) -> torch.Tensor:
        row, column = self._row(output), FIRST_CLASS + self.class_number
        start = torch.zeros_like(output)
        start[row, column] = output[row, column] if self.value == "logit" else 1
        return start

    def area(self, output: torch.Tensor, *, class_axis: int | None, size: torch.Size) -> torch.Tensor | None:
        left, top, right, bottom = self.box(output)
        rows, columns = (torch.arange(length) + 0.5 for length in size)
        return ((rows > top) & (rows < bottom))[:, None] & (columns > left) & (columns < right)

    def box(self, output: torch.Tensor) -> tuple[float, float, float, float]:
        """Return the box that is explained: left, top, right, bottom in pixels of the image.

        Parameters
        ----------
        output : torch.Tensor
            Of one sample, (detection, 6 + class).

        Raises
        ------
        ConditionError
            If there is no such box.
        """
        left, top, right, bottom = output[self._row(output), :4].tolist()
        return left, top, right, bottom

    def _row(self, output: torch.Tensor) -> int:
        """Return the row of the box."""
        _check_detections(output)
        _, (cls,) = class_scores_of(output[:, FIRST_CLASS:], (self.cls,), 1)
        labels, scores = output[:, FIRST_CLASS - 2], output[:, FIRST_CLASS - 1]
        own = (labels == cls).nonzero().flatten()
        own = own[scores[own].argsort(descending=True, stable=True)]
        there = _listed(scores[own].tolist())
        if self.iou_with is None:
            if self.rank >= len(own):
                raise ConditionError(f"there is no box {self.rank} of class {cls}: {there or _others(labels)}")
            return int(own[self.rank])
        overlaps = _iou(output[own, :4].double(), torch.tensor(self.iou_with, dtype=torch.float64))
        if not bool((overlaps > 0).any()):
            raise ConditionError(f"no box of class {cls} overlaps with {self.iou_with}: {there or _others(labels)}")
        return int(own[overlaps.argmax()])


def _checked_box(box: Any) -> tuple[float, ...]:
    """Return a box as four numbers."""
    try:
        sides = tuple(float(side) for side in (box.tolist() if hasattr(box, "tolist") else box))
    except (TypeError, ValueError):
        sides = ()
    if len(sides) != 4 or not np.isfinite(sides).all() or sides[0] >= sides[2] or sides[1] >= sides[3]:
        raise ConditionError(f"iou_with is a box, (left, top, right, bottom) in pixels of the image; got {box!r}")
    return sides


def _check_detections(output: torch.Tensor) -> None:
    """Raise a `ConditionError` unless an output has a row for each detection."""
    rows = output.ndim == 2 and output.shape[1] > FIRST_CLASS
    labels = output[:, FIRST_CLASS - 2] if rows else output
    if not rows or not bool(((labels == labels.round()) & (labels >= NO_CLASS)).all()):
        raise ConditionError(
            f"a box needs detections, (detection, box + label + score + classes), as crp_kit.detector and "
            f"output=crp_kit.models.DetectionOutput(...) make them; a sample's output is {tuple(output.shape)}"
        )


def _listed(scores: Sequence[float]) -> str:
    """Return how many boxes there are and their scores; nothing if there are none."""
    if not scores:
        return ""
    shown = ", ".join(f"{score:.2f}" for score in scores[:_SHOWN]) + (", …" if len(scores) > _SHOWN else "")
    return f"there {'is 1' if len(scores) == 1 else f'are {len(scores)}'}, with score {shown}"


def _others(labels: torch.Tensor) -> str:
    """Return of which classes there are boxes."""
    counts = Counter(labels[labels != NO_CLASS].long().tolist())
    if not counts:
        return "nothing was detected"
    each = [f"{cls} ({count})" for cls, count in sorted(counts.items())]
    return f"there are boxes of class {', '.join(each[:_SHOWN])}" + (", …" if len(each) > _SHOWN else "")


def _iou(boxes: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Return intersection over union of boxes (row, 4) with one box: (row,)."""
    boxes = boxes.cpu()
    inner = (torch.minimum(boxes[:, 2:], box[2:]) - torch.maximum(boxes[:, :2], box[:2])).clamp_min(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(1) + (box[2:] - box[:2]).prod()
    return inner / (areas - inner)
