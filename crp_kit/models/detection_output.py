"""Boxes and scores of detectors whose output has a row for each candidate, such as those of YOLO and DETR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ..checks import check_integer
from ..errors import InputError, ModelError
from .detections import described, padded, unrecorded

__all__ = ["DetectionOutput"]

_WORDS = {
    "form": ("center", "corners"),
    "scores": ("probability", "logit", "softmax"),
    "candidates": ("first", "last"),
}


@dataclass(frozen=True)
class DetectionOutput:
    """Where boxes and scores stand in a detector's output; ``CondAttribution(model, output=DetectionOutput(...))``.

    The output has a row for each candidate: four numbers of its box, if so an objectness, one score for each class.
    Each candidate counts for its best class; boxes of a class that overlap with a better one are suppressed. What
    remains are detections, (sample, detection, 6 + class), as `crp_kit.targets.Box` takes them: their scores carry
    relevance, all else is constant.

    Parameters
    ----------
    part : int, str or callable, optional
        Which part of the model's output is that tensor: an index, a key, or a function of the output.
    form : {"center", "corners"}, optional
        A box is its centre, width and height; or left, top, right, bottom; in pixels of the model's input.
    objectness : bool, optional
        A number between box and classes multiplies all scores, as in YOLOv5.
    scores : {"probability", "logit", "softmax"}, optional
        What the numbers of classes, and the objectness, are. ``"softmax"``: logits of classes that exclude each other,
        of which the last is "no object", as in DETR.
    candidates : {"first", "last"}, optional
        (sample, candidate, number), as in YOLOv5; or (sample, number, candidate), as in YOLOv8.
    min_score, max_iou : float, optional
        Lower scores do not count; a higher overlap with a better box of the class is suppressed: none with 1.
    count : int, optional
        Detections of a sample, at most.

    Raises
    ------
    InputError
        If one of them has no meaning.

    Examples
    --------
    >>> rows = torch.tensor([[10, 10, 8, 8, 0.1, 0.9], [10, 11, 8, 8, 0.1, 0.7], [30, 30, 4, 4, 0.6, 0.2]])
    >>> DetectionOutput(count=2)(rows.T[None])[0, :, :5]
    tensor([[ 6.,  6., 14., 14.,  1.],
            [28., 28., 32., 32.,  0.]])

    DETR gives boxes as fractions of the image, here of 64 pixels, and suppresses none:

    >>> def rows(output):
    ...     return torch.cat([output["pred_boxes"] * 64, output["logits"]], 2)
    >>> detr = DetectionOutput(part=rows, scores="softmax", candidates="first", max_iou=1.0, count=1)
    >>> output = {"pred_boxes": torch.tensor([[[0.5, 0.5, 0.5, 0.25]]]), "logits": torch.tensor([[[1.0, 3.0, 2.0]]])}
    >>> detr(output)[0, :, :5]
    tensor([[16., 24., 48., 40.,  1.]])
    """

    part: int | str | Callable[[Any], torch.Tensor] | None = None
    form: Literal["center", "corners"] = "center"
    objectness: bool = False
    scores: Literal["probability", "logit", "softmax"] = "probability"
    candidates: Literal["first", "last"] = "last"
    min_score: float = 0.25
    max_iou: float = 0.45
    count: int = 100

    def __post_init__(self) -> None:
        for name, choices in _WORDS.items():
            if getattr(self, name) not in choices:
                shown = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
                raise InputError(f"{name} is {shown}; got {getattr(self, name)!r}")
        if self.objectness and self.scores == "softmax":
            raise InputError("scores='softmax' has a class for no object, and objectness=True a number for it: say one")
        for name in ("min_score", "max_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is between 0 and 1; got {getattr(self, name)!r}")
        check_integer("count", self.count, low=1)

    def __call__(self, output: Any) -> torch.Tensor:
        """Return detections, (sample, detection, 6 + class), of a model's output.

        Raises
        ------
        ModelError
            If the output has no rows of candidates.
        """
        rows = output if self.part is None else self.part(output) if callable(self.part) else output[self.part]
        first = 5 if self.objectness else 4
        if not isinstance(rows, torch.Tensor) or rows.ndim != 3:
            shown = tuple(rows.shape) if isinstance(rows, torch.Tensor) else type(rows).__name__
            raise ModelError(f"detections are read from a tensor (sample, candidate, number); it is {shown}: say part=")
        rows = rows.transpose(1, 2) if self.candidates == "last" else rows
        if rows.shape[2] <= first:
            raise ModelError(f"{rows.shape[2]} numbers of a candidate are no box and classes: say candidates=")
        classes = rows[:, :, first:]
        with unrecorded():
            detected = [self._suppressed(sample.detach(), first) for sample in rows]
            about = torch.stack([described(one, self.count) for one in detected])
            chosen = torch.stack([padded(one["rows"], self.count) for one in detected])
            samples = torch.arange(len(detected), device=chosen.device)[:, None]
        return torch.cat([about, classes[samples, chosen]], 2)

    def _suppressed(self, rows: torch.Tensor, first: int) -> dict[str, torch.Tensor]:
        """Return the detections of one sample, best first, and the candidates that they were."""
        from torchvision.ops import batched_nms

        numbers = self._probabilities(rows[:, 4:])
        scores, labels = numbers[:, first - 4 :].max(1)
        scores = scores * numbers[:, 0] if self.objectness else scores
        boxes = rows[:, :4]
        if self.form == "center":
            boxes = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
        high = (scores >= self.min_score).nonzero().flatten()
        kept = high[batched_nms(boxes[high], scores[high], labels[high], self.max_iou)][: self.count]
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept], "rows": kept}

    def _probabilities(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return probabilities of the objectness and of the classes, without that of no object."""
        if self.scores == "softmax":
            return numbers.softmax(1)[:, :-1]
        return numbers.sigmoid() if self.scores == "logit" else numbers
