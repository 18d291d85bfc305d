"""Targets of segmentation: a class over the positions that have it, or over a mask."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from ..errors import ConditionError
from .base import ClassName, LocatedTarget, Names, class_scores_of, named, title_of, value_words
from .classes import check_class, check_value

__all__ = ["IN_A_MASK", "Region"]


IN_A_MASK = ", in a mask"
"""End of the title of a region that a mask narrows."""


@dataclass(frozen=True, eq=False)
class Region(LocatedTarget):
    """A class of a segmentation, over the positions where it has the highest score.

    Parameters
    ----------
    cls : int or str
        By number, or by name in a study that knows names.
    mask : torch.Tensor or array, optional
        Bool, (height, width) of the output: only the positions in it as well.
    value : {"logit", "relu", "one", "probability"}, optional
        Start relevance at a position: the output, its positive part, 1, or the softmax probability of the class.

    Raises
    ------
    ConditionError
        If `mask` is no bool array, or `value` is another word.

    Notes
    -----
    L-CRP has the same four values. It divides by the largest one of the batch and applies its mask once per sample;
    here nothing depends on other samples.

    References
    ----------
    M. Dreyer et al., Revealing hidden context bias in segmentation and object detection through concept-specific
    explanations, CVPR workshops 2023.

    Examples
    --------
    >>> output = torch.tensor([[[2.0, 0.0]], [[1.0, 3.0]]])  # (class, height, width)
    >>> Region(1).relevance(output, class_axis=0).tolist()
    [[[0.0, 0.0]], [[0.0, 3.0]]]
    """

    cls: ClassName
    mask: Any = None
    value: Literal["logit", "relu", "one", "probability"] = "logit"

    def __post_init__(self) -> None:
        check_class(self.cls)
        check_value(self.value, ("logit", "relu", "one", "probability"))
        if self.mask is not None:
            try:
                mask = torch.as_tensor(
                    np.asarray(self.mask.cpu() if isinstance(self.mask, torch.Tensor) else self.mask)
                )
            except (TypeError, ValueError) as error:
                raise ConditionError(f"mask is an array, true or false at each position; got {self.mask!r}") from error
            if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
                other = mask[(mask != 0) & (mask != 1)][0].item()
                raise ConditionError(
                    f"mask is true or false at each position, such as mask > 0; got values like {other}"
                )
            object.__setattr__(self, "mask", mask.bool())

    @property
    def identity(self) -> str:
        mask = "" if self.mask is None else f":{hashlib.sha256(self.mask.numpy().tobytes()).hexdigest()[:8]}"
        return f"region:{named(self.cls)}" + ("" if self.value == "logit" else f":{self.value}") + mask

    def words(self, classes: Names) -> str:
        mask = "" if self.mask is None else IN_A_MASK
        return f"region of {title_of(self.cls, classes)}" + value_words(self.value, "logit") + mask

    def relevance(self, output: torch.Tensor, *, class_axis: int | None) -> torch.Tensor:
        scores, (cls,) = class_scores_of(output, (self.cls,), class_axis)
        if scores.ndim < 2:
            raise ConditionError(f"a region needs an output with positions; it is {tuple(output.shape)} per sample")
        chosen = scores.argmax(0) == cls
        if self.mask is not None:
            if self.mask.shape != chosen.shape:
                shapes = tuple(self.mask.shape), tuple(chosen.shape)
                raise ConditionError(
                    f"the mask of a region has shape {shapes[0]}, the output's positions {shapes[1]}: bring it to these"
                )
            chosen = chosen & self.mask.to(chosen.device)
        if not bool(chosen.any()):
            where = " in the mask" if self.mask is not None else ""
            raise ConditionError(f"the region is empty: class {cls} has the highest score at no position{where}")
        values = {
            "logit": scores[cls],
            "relu": scores[cls].clamp_min(0),
            "one": torch.ones_like(scores[cls]),
            "probability": scores.softmax(0)[cls],
        }[self.value]
        start = torch.zeros_like(scores)
        start[cls] = torch.where(chosen, values, 0)
        return start.movedim(0, class_axis or 0)

    def area(self, output: torch.Tensor, *, class_axis: int | None, size: torch.Size) -> torch.Tensor | None:
        start = replace(self, value="one").relevance(output, class_axis=class_axis)
        positions = start.movedim(class_axis or 0, 0)[self.class_number]
        if positions.ndim != len(size):
            return None
        return torch.nn.functional.interpolate(positions[None, None].float(), tuple(size))[0, 0] > 0
